/* SPDX-License-Identifier: MIT */
/* exed.http.client: requests to other servers; lua/exed/http.lua is what others require.
 *   request(spec) -> { status, headers, body, truncated } | nil, err
 *   open(spec) -> stream | nil, err        when the head is there
 *   stream:status() -> integer             stream:headers() -> table
 *   stream:read(seconds) -> text | nil at the end | nil, err
 *   stream:close()
 * spec: method, url, headers (list of "Name: value"), body, socket, ca, cert, key, proxy, repeatable,
 * max_body, timeout, idle (seconds). headers: name in lower case -> text, several joined. err has also
 * `sent`: whether the server may have got any of the request. A wrong type in spec raises; what else is
 * wrong has the code "invalid", and the message begins with the field.
 *
 * A stream's userdata owns its call; a call without a stream belongs to the wait. Loop thread. */
#include "http_client.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "config.h"
#include "fiber.h"
#include "runtime.h"
#include "script.h"

#define STREAM "exed.http.stream"
#define MAX_HEADER (64 << 10)
#define MAX_BODY (1 << 20)
#define TIMEOUT_MS 30000
#define MAX_LINES 100

/* ---- the request ---- */

static struct http_client *client_of(lua_State *L, struct err *err)
{
	struct runtime *rt = script_runtime(script_of(L));

	if (!rt->http_client) {
		struct http_client_options o = {
			.connections = (unsigned)config_int(rt->config, "runtime", "http_connections"),
			.host_connections =
				(unsigned)config_int(rt->config, "runtime", "http_host_connections"),
			.idle = (unsigned)config_int(rt->config, "runtime", "http_idle"),
			.keep_ms = config_ms(rt->config, "runtime", "http_keep"),
			.max_header = MAX_HEADER,
		};

		rt->http_client = http_client_new(rt->loop, &o, err);
	}
	return rt->http_client;
}

/* Text of the table at 1, borrowed from it; NULL when it has none. */
static const char *text_field(lua_State *L, const char *name, size_t *n)
{
	const char *text = NULL;

	if (lua_getfield(L, 1, name) == LUA_TSTRING)
		text = lua_tolstring(L, -1, n);
	else if (!lua_isnil(L, -1))
		luaL_error(L, "%s: text is expected", name);
	lua_pop(L, 1);
	/* Elsewhere a NUL would end it silently. */
	if (text && strcmp(name, "body") && strlen(text) != *n)
		luaL_error(L, "%s: it has a NUL in it", name);
	return text;
}

static int64_t ms_field(lua_State *L, const char *name, int64_t otherwise)
{
	lua_Number seconds;

	if (lua_getfield(L, 1, name) != LUA_TNIL) {
		seconds = lua_tonumber(L, -1);
		if (!lua_isnumber(L, -1) || !(seconds >= 0 && seconds < 1e6))
			luaL_error(L, "%s: seconds, from 0 to 1000000", name);
		otherwise = (int64_t)(seconds * 1000);
	}
	lua_pop(L, 1);
	return otherwise;
}

static bool flag_field(lua_State *L, const char *name)
{
	bool is = (lua_getfield(L, 1, name), lua_toboolean(L, -1));

	lua_pop(L, 1);
	return is;
}

/* Leaves the array that `headers` points to on the stack; its texts belong to the table at 1. */
static const char *const *headers_field(lua_State *L)
{
	const char **lines;
	size_t n, len;

	if (lua_getfield(L, 1, "headers") == LUA_TNIL)
		return NULL;
	if (!lua_istable(L, -1))
		luaL_error(L, "headers: a list is expected");
	n = lua_rawlen(L, -1);
	if (n > MAX_LINES)
		luaL_error(L, "headers: more than %d", MAX_LINES);
	lines = lua_newuserdatauv(L, (n + 1) * sizeof(*lines), 0);
	lines[n] = NULL;
	for (size_t i = 0; i < n; i++) {
		if (lua_rawgeti(L, -2, (lua_Integer)i + 1) != LUA_TSTRING)
			luaL_error(L, "headers: item %d is no text", (int)i + 1);
		lines[i] = lua_tolstring(L, -1, &len);
		if (strlen(lines[i]) != len)
			luaL_error(L, "headers: item %d has a NUL in it", (int)i + 1);
		lua_pop(L, 1);
	}
	return lines;
}

static size_t max_field(lua_State *L)
{
	lua_Number n = MAX_BODY;

	if (lua_getfield(L, 1, "max_body") != LUA_TNIL) {
		n = lua_tonumber(L, -1);
		if (!lua_isnumber(L, -1) || !(n >= 0 && n <= 1 << 30))
			luaL_error(L, "max_body: bytes, at most 1 GiB");
	}
	lua_pop(L, 1);
	return (size_t)n;
}

/* Starts what the table at 1 says. Raises for a wrong type; NULL with *err else. */
static struct http_client_call *start(lua_State *L, bool stream, void (*wake)(void *), void *arg,
				      struct err *err)
{
	struct http_client_request r = { .stream = stream };
	struct http_client *client;
	size_t n;

	r.method = text_field(L, "method", &n);
	r.url = text_field(L, "url", &n);
	if (!r.method || !r.url)
		luaL_error(L, "method and url are needed");
	r.body = text_field(L, "body", &r.body_len);
	r.socket = text_field(L, "socket", &n);
	r.ca = text_field(L, "ca", &n);
	r.cert = text_field(L, "cert", &n);
	r.key = text_field(L, "key", &n);
	r.proxy = flag_field(L, "proxy");
	r.repeatable = flag_field(L, "repeatable");
	r.max_body = max_field(L);
	r.timeout_ms = ms_field(L, "timeout", TIMEOUT_MS);
	r.idle_ms = ms_field(L, "idle", 0);
	r.headers = headers_field(L);
	client = client_of(L, err);
	return client ? http_client_start(client, &r, wake, arg, err) : NULL;
}

/* ---- the answer ---- */

static void push_headers(lua_State *L, const struct buf *fields)
{
	const char *at = fields->data, *end = at + fields->len;

	lua_newtable(L);
	while (fields->len && at < end) {
		const char *name = at, *value = name + strlen(name) + 1;

		at = value + strlen(value) + 1;
		if (lua_getfield(L, -1, name) == LUA_TNIL)
			lua_pushstring(L, value);
		else
			lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), value);
		lua_setfield(L, -3, name);
		lua_pop(L, 1);
	}
}

static int push_why(lua_State *L, const struct http_client_call *call, const struct err *why,
		    const char *operation)
{
	fiber_push_err(L, why, operation);
	lua_pushboolean(L, http_client_sent(call));
	lua_setfield(L, -2, "sent");
	return 2;
}

struct request_wait {
	struct wait wait; /* first */
	struct http_client_call *call;
};

static int request_push(struct wait *wait, lua_State *L)
{
	struct http_client_call *call = ((struct request_wait *)wait)->call;
	const struct buf *body = http_client_body(call);
	const struct err *why;

	http_client_ended(call, &why);
	if (why)
		return push_why(L, call, why, wait->operation);
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, http_client_status(call));
	lua_setfield(L, -2, "status");
	push_headers(L, http_client_fields(call));
	lua_setfield(L, -2, "headers");
	lua_pushlstring(L, body->len ? body->data : "", body->len);
	lua_setfield(L, -2, "body");
	lua_pushboolean(L, http_client_truncated(call));
	lua_setfield(L, -2, "truncated");
	return 1;
}

static void request_cancel(struct wait *wait)
{
	struct request_wait *w = (struct request_wait *)wait;

	http_client_end(w->call);
	w->call = NULL;
}

static void request_free(struct wait *wait)
{
	request_cancel(wait);
	free(wait);
}

static const struct wait_ops request_ops = { request_push, request_cancel, request_free };

static void request_woken(void *arg)
{
	struct request_wait *w = arg;

	wait_done(&w->wait);
}

/* A place for the call whose start may raise. */
static int close_place(lua_State *L)
{
	struct request_wait **place = lua_touserdata(L, 1);

	free(*place);
	*place = NULL;
	return 0;
}

static int l_request(lua_State *L)
{
	struct request_wait **place, *w;
	struct err err;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	place = lua_newuserdatauv(L, sizeof(*place), 0);
	*place = NULL;
	luaL_setmetatable(L, STREAM ".place");
	w = *place = calloc(1, sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &request_ops, "http.request", -1);
	w->call = start(L, false, request_woken, w, &err);
	if (!w->call)
		return fiber_push_err(L, &err, "http.request");
	*place = NULL;
	return fiber_await(L, &w->wait);
}

/* ---- streams ---- */

struct stream_wait;

struct stream_box {
	struct http_client_call *call; /* NULL: closed */
	struct stream_wait *reader;
};

struct stream_wait {
	struct wait wait; /* first */
	struct stream_box *box; /* NULL once complete */
	int (*push)(lua_State *L, struct stream_box *box); /* the box is at `index` */
	int index;
	bool opening; /* nobody has the stream yet */
};

static void stream_woken(void *arg)
{
	struct stream_box *box = arg;
	struct stream_wait *w = box->reader;

	if (!w)
		return;
	box->reader = NULL;
	w->box = NULL;
	wait_done(&w->wait);
}

static int stream_push(struct wait *wait, lua_State *L)
{
	struct stream_wait *w = (struct stream_wait *)wait;

	return w->push(L, lua_touserdata(L, w->index));
}

static void stream_cancel(struct wait *wait)
{
	struct stream_wait *w = (struct stream_wait *)wait;
	struct stream_box *box = w->box;

	if (!box)
		return;
	w->box = NULL;
	box->reader = NULL;
	if (!w->opening)
		return;
	http_client_end(box->call);
	box->call = NULL;
}

static void stream_free(struct wait *wait)
{
	stream_cancel(wait);
	free(wait);
}

static const struct wait_ops stream_ops = { stream_push, stream_cancel, stream_free };

static int push_opened(lua_State *L, struct stream_box *box);

/* Waits until the box, a userdata at `index`, is woken. */
static int await_stream(lua_State *L, struct stream_box *box, int index, int64_t ms,
			int (*push)(lua_State *L, struct stream_box *box))
{
	struct stream_wait *w;

	if (box->reader)
		return luaL_error(L, "another fiber waits for this stream already");
	w = calloc(1, sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &stream_ops, "http.read", ms);
	w->box = box;
	w->push = push;
	w->index = index;
	w->opening = push == push_opened;
	box->reader = w;
	return fiber_await(L, &w->wait);
}

static void end_stream(struct stream_box *box)
{
	struct http_client_call *call = box->call;

	box->call = NULL;
	http_client_end(call);
	stream_woken(box);
}

static int push_closed(lua_State *L)
{
	const struct err err = { ERR_CLOSED, "the stream was closed" };

	return fiber_push_err(L, &err, "http.read");
}

static int push_opened(lua_State *L, struct stream_box *box)
{
	const struct err *why;
	int n;

	if (!box->call)
		return push_closed(L);
	http_client_ended(box->call, &why);
	if (!why || http_client_status(box->call)) {
		lua_pushvalue(L, 2);
		return 1;
	}
	n = push_why(L, box->call, why, "http.open");
	end_stream(box);
	return n;
}

static int l_open(lua_State *L)
{
	struct stream_box *box;
	struct err err;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	box = lua_newuserdatauv(L, sizeof(*box), 0);
	memset(box, 0, sizeof(*box));
	luaL_setmetatable(L, STREAM);
	box->call = start(L, true, stream_woken, box, &err);
	if (!box->call)
		return fiber_push_err(L, &err, "http.open");
	lua_settop(L, 2);
	return await_stream(L, box, 2, -1, push_opened);
}

/* What there is; 0 when there is nothing yet. */
static int push_piece(lua_State *L, struct stream_box *box)
{
	const struct err *why;
	struct buf *body;

	if (!box->call)
		return push_closed(L);
	body = http_client_body(box->call);
	if (body->len) {
		lua_pushlstring(L, body->data, body->len);
		buf_clear(body);
		http_client_took(box->call);
		return 1;
	}
	if (!http_client_ended(box->call, &why))
		return 0;
	if (why)
		return push_why(L, box->call, why, "http.read");
	lua_pushnil(L);
	return 1;
}

static int l_read(lua_State *L)
{
	struct stream_box *box = luaL_checkudata(L, 1, STREAM);
	int64_t ms = bind_check_ms(L, 2, -1);
	int n = push_piece(L, box);

	return n ? n : await_stream(L, box, 1, ms, push_piece);
}

static struct http_client_call *check_open(lua_State *L)
{
	struct stream_box *box = luaL_checkudata(L, 1, STREAM);

	luaL_argcheck(L, box->call, 1, "the stream is closed");
	return box->call;
}

static int l_status(lua_State *L)
{
	lua_pushinteger(L, http_client_status(check_open(L)));
	return 1;
}

static int l_headers(lua_State *L)
{
	push_headers(L, http_client_fields(check_open(L)));
	return 1;
}

static int l_close(lua_State *L)
{
	end_stream(luaL_checkudata(L, 1, STREAM));
	return 0;
}

static const luaL_Reg methods[] = {
	{ "close", l_close },	{ "headers", l_headers }, { "read", l_read },
	{ "status", l_status }, { NULL, NULL },
};

static const luaL_Reg no_methods[] = { { NULL, NULL } };

static const luaL_Reg functions[] = {
	{ "open", l_open },
	{ "request", l_request },
	{ NULL, NULL },
};

int luaopen_exed_http_client(lua_State *L)
{
	bind_class(L, STREAM, methods, l_close);
	bind_class(L, STREAM ".place", no_methods, close_place);
	luaL_newlib(L, functions);
	return 1;
}
