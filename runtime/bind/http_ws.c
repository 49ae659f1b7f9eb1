/* SPDX-License-Identifier: MIT */
/* A request of exed.http.server as a WebSocket; times in seconds:
 *   req:upgrade{ ping =, silence =, max_message = } -> true | nil, err    err "invalid": answer 400
 *   req:message(text, last, seconds) -> true | nil, err    a piece, or the last one, of a message;
 *                                                          waits while the client is behind
 *   req:close(code, reason)                                behind what was written; ends the request
 * When the client closes it, breaks the protocol or falls silent, the fiber is cancelled as when a
 * client leaves. The WebSocket belongs to the request's box. Loop thread. */
#include <lauxlib.h>

#include "bind.h"
#include "bind/http_request.h"
#include "fiber.h"
#include "log.h"
#include "script.h"

static void on_data(struct http_request *req, const void *data, size_t len)
{
	struct request_box *box = req->arg;

	if (box->ws)
		ws_data(box->ws, data, len);
}

/* 1000, 1001 and none (1005) are how clients usually leave. */
static void on_over(void *arg, int code, const char *why)
{
	struct request_box *box = arg;

	if (box->req && code != 1000 && code != 1001 && code != 1005)
		log_info("http", "%s WebSocket: ended with %d, %s", box->req->peer, code, why);
	bind_http_left(box);
}

static void read_options(lua_State *L, int arg, struct ws_options *o)
{
	ws_options_init(o);
	if (lua_isnoneornil(L, arg))
		return;
	luaL_checktype(L, arg, LUA_TTABLE);
	lua_getfield(L, arg, "ping");
	o->ping_ms = bind_check_ms(L, -1, o->ping_ms);
	lua_getfield(L, arg, "silence");
	o->silence_ms = bind_check_ms(L, -1, o->silence_ms);
	lua_getfield(L, arg, "max_message");
	o->max_message = (size_t)luaL_optinteger(L, -1, (lua_Integer)o->max_message);
	lua_pop(L, 3);
}

int bind_http_ws_upgrade(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	struct ws_options options;
	struct err err;

	lua_settop(L, 2);
	read_options(L, 2, &options);
	if (!box->req)
		return bind_http_not_open(L, box, "upgrade");
	if (!box->fiber)
		return luaL_error(L, "upgrade: the body has not been read");
	if (box->started)
		return luaL_error(L, "upgrade: this answer has begun already");
	box->ws = ws_accept(script_loop(box->script), box->req, &options, on_over, box, &err);
	if (!box->ws)
		return fiber_push_err(L, &err, "upgrade");
	box->req->on_data = on_data;
	box->started = true;
	lua_pushboolean(L, true);
	return 1;
}

int bind_http_ws_message(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	size_t len;
	const char *data = luaL_checklstring(L, 2, &len);
	bool last = lua_toboolean(L, 3);
	int64_t ms = bind_check_ms(L, 4, -1); /* the server drops a client that takes nothing */

	if (!box->req)
		return bind_http_not_open(L, box, "message");
	if (!box->ws)
		return luaL_error(L, "message: upgrade comes first");
	if (box->writer)
		return luaL_error(L, "message: another fiber waits to write this answer");
	return bind_http_written(L, box, ws_write(box->ws, data, len, last), "message", ms);
}

int bind_http_ws_close(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	lua_Integer code = luaL_checkinteger(L, 2);
	const char *reason = luaL_optstring(L, 3, "");

	luaL_argcheck(L, code >= 1000 && code <= 4999, 2, "a close code from 1000 to 4999");
	if (!box->req)
		return 0;
	if (!box->ws)
		return luaL_error(L, "close: upgrade comes first");
	ws_close(box->ws, (int)code, reason);
	box->req = NULL;
	return 0;
}
