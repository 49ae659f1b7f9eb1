/* SPDX-License-Identifier: MIT */
/* exed.http.server: the HTTP server for the core's own Lua. Times in seconds.
 *   server.new{ max_body =, ... } -> srv        names: `numbers` below, and server (the header)
 *     tls = true: TCP listeners speak TLS with the runtime's certificate, when there is one
 *   srv:configure{ ... }                        the same options, for what begins from now on
 *   srv:listen("127.0.0.1:16808", tag) -> true | nil, err
 *   srv:serve(function(req) ... end, judge)     each request runs it in a fiber of its own
 *     judge(req), if given, is called before the body of a request is read, when that is still to
 *     come: it may respond, which refuses the body, and must not wait
 *   srv:port() -> integer    srv:counts() -> table    srv:stop() no new connections    srv:close()
 * A request is in http_request.c.
 *
 * The userdata is held by the registry while it serves. Loop thread. */
#include <lauxlib.h>
#include <string.h>

#include "bind.h"
#include "bind/http_request.h"
#include "fiber.h"
#include "runtime.h"
#include "script.h"

#define SERVER "exed.http.server"

enum number_kind { SIZE, COUNT, SECONDS };

/* How each option of server.new is read. */
static const struct {
	const char *name;
	enum number_kind kind;
	size_t offset;
} numbers[] = {
	{ "max_target", SIZE, offsetof(struct http_options, limits.max_target) },
	{ "max_header", SIZE, offsetof(struct http_options, limits.max_header) },
	{ "max_lines", COUNT, offsetof(struct http_options, limits.max_lines) },
	{ "max_body", SIZE, offsetof(struct http_options, limits.max_body) },
	{ "header_timeout", SECONDS, offsetof(struct http_options, header_ms) },
	{ "body_rate", SIZE, offsetof(struct http_options, body_rate) },
	{ "idle_timeout", SECONDS, offsetof(struct http_options, idle_ms) },
	{ "stall_timeout", SECONDS, offsetof(struct http_options, stall_ms) },
	{ "send_rate", SIZE, offsetof(struct http_options, send_rate) },
	{ "peer_connections", COUNT, offsetof(struct http_options, peer_connections) },
	{ "max_connections", COUNT, offsetof(struct http_options, max_connections) },
	{ "body_memory", SIZE, offsetof(struct http_options, body_memory) },
	{ "high_water", SIZE, offsetof(struct http_options, high_water) },
	{ "max_unsent", SIZE, offsetof(struct http_options, max_unsent) },
};

static void read_number(lua_State *L, size_t i, struct http_options *o)
{
	void *field = (char *)o + numbers[i].offset;
	lua_Number n = lua_tonumber(L, -1);

	if (!lua_isnumber(L, -1) || !(n > 0) || n > 1e12)
		luaL_error(L, "option %s: a positive number is expected", numbers[i].name);
	if (numbers[i].kind == SIZE)
		*(size_t *)field = (size_t)n;
	else if (numbers[i].kind == COUNT)
		*(unsigned *)field = n > 1e6 ? 1000000 : (unsigned)n;
	else
		*(int64_t *)field = (int64_t)(n * 1000);
}

static void read_option(lua_State *L, struct http_options *o)
{
	const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";

	if (!strcmp(name, "server") && lua_type(L, -1) == LUA_TSTRING) {
		o->server = lua_tostring(L, -1);
		return;
	}
	if (!strcmp(name, "tls") && lua_isboolean(L, -1))
		return;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!strcmp(name, numbers[i].name)) {
			read_number(L, i, o);
			return;
		}
	luaL_error(L, "option %s is not known, or not of that type", name);
}

static struct bind_http *check_server(lua_State *L)
{
	struct bind_http *box = luaL_checkudata(L, 1, SERVER);

	if (!box->server)
		luaL_error(L, "this server is closed");
	return box;
}

/* The options at arg, which may be nil. Their strings are borrowed from it. */
static void read_options(lua_State *L, int arg, struct http_options *o)
{
	http_options_init(o);
	if (lua_isnoneornil(L, arg))
		return;
	luaL_checktype(L, arg, LUA_TTABLE);
	for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1))
		read_option(L, o);
}

static void set_tls(lua_State *L, int arg, struct bind_http *box)
{
	bool tls = lua_istable(L, arg) && lua_getfield(L, arg, "tls") == LUA_TBOOLEAN &&
		   lua_toboolean(L, -1);

	http_server_set_tls(box->server, tls ? script_runtime(box->script)->tls : NULL);
}

static int l_configure(lua_State *L)
{
	struct bind_http *box = check_server(L);
	struct http_options o;

	read_options(L, 2, &o);
	http_server_set_options(box->server, &o);
	set_tls(L, 2, box);
	return 0;
}

static int l_new(lua_State *L)
{
	struct http_options o;
	struct bind_http *box;
	struct err err;

	read_options(L, 1, &o);
	box = lua_newuserdatauv(L, sizeof(*box), 0);
	memset(box, 0, sizeof(*box));
	box->fn = box->judge = box->self = LUA_NOREF;
	box->script = script_of(L);
	luaL_setmetatable(L, SERVER);
	box->server = http_server_new(script_loop(box->script), &o, bind_http_request, box, &err);
	if (!box->server)
		return luaL_error(L, "%s", err.message);
	lua_insert(L, 1);
	set_tls(L, 2, box);
	lua_settop(L, 1);
	return 1;
}

static int l_listen(lua_State *L)
{
	struct bind_http *box = check_server(L);
	const char *address = luaL_checkstring(L, 2);
	struct err err;

	if (http_server_listen(box->server, address, luaL_optstring(L, 3, NULL), &err))
		return fiber_push_err(L, &err, "listen");
	lua_pushboolean(L, true);
	return 1;
}

static int l_serve(lua_State *L)
{
	struct bind_http *box = check_server(L);

	luaL_checktype(L, 2, LUA_TFUNCTION);
	luaL_argcheck(L, box->fn == LUA_NOREF, 1, "it serves already");
	if (!lua_isnoneornil(L, 3)) {
		luaL_checktype(L, 3, LUA_TFUNCTION);
		lua_pushvalue(L, 3);
		box->judge = luaL_ref(L, LUA_REGISTRYINDEX);
		http_server_on_head(box->server, bind_http_head);
	}
	lua_settop(L, 2);
	box->fn = luaL_ref(L, LUA_REGISTRYINDEX);
	box->self = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

static int l_port(lua_State *L)
{
	lua_pushinteger(L, http_server_port(check_server(L)->server));
	return 1;
}

static int l_counts(lua_State *L)
{
	struct http_counts c = http_server_counts(check_server(L)->server);
	const struct {
		const char *name;
		uint64_t n;
	} fields[] = {
		{ "connections", c.connections }, { "open", c.open },
		{ "accepted", c.accepted },       { "requests", c.requests },
		{ "refused", c.refused },         { "bad", c.bad },
	};

	lua_createtable(L, 0, 6);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		lua_pushinteger(L, (lua_Integer)fields[i].n);
		lua_setfield(L, -2, fields[i].name);
	}
	return 1;
}

static int l_stop(lua_State *L)
{
	http_server_stop_accepting(check_server(L)->server);
	return 0;
}

static int l_close(lua_State *L)
{
	struct bind_http *box = luaL_checkudata(L, 1, SERVER);
	struct http_server *server = box->server;

	box->server = NULL;
	http_server_free(server);
	buf_deinit(&box->pairs);
	luaL_unref(L, LUA_REGISTRYINDEX, box->fn);
	luaL_unref(L, LUA_REGISTRYINDEX, box->judge);
	luaL_unref(L, LUA_REGISTRYINDEX, box->self);
	box->fn = box->judge = box->self = LUA_NOREF;
	return 0;
}

static const luaL_Reg server_methods[] = {
	{ "close", l_close },   { "configure", l_configure }, { "counts", l_counts },
	{ "listen", l_listen }, { "port", l_port },	      { "serve", l_serve },
	{ "stop", l_stop },	{ NULL, NULL },
};

int luaopen_exed_http_server(lua_State *L)
{
	bind_class(L, SERVER, server_methods, l_close);
	bind_http_request_class(L);
	lua_newtable(L);
	lua_pushcfunction(L, l_new);
	lua_setfield(L, -2, "new");
	return 1;
}
