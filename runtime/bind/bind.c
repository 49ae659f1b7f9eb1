/* SPDX-License-Identifier: MIT */
/* bind: the table of Lua modules, and what several of them need. */
#include "bind.h"

#include <math.h>

#include "buf.h"

const luaL_Reg bind_modules[] = {
	{ "exed.access", luaopen_exed_access },
	{ "exed.config", luaopen_exed_config },
	{ "exed.content", luaopen_exed_content },
	{ "exed.fanout", luaopen_exed_fanout },
	{ "exed.fiber", luaopen_exed_fiber },
	{ "exed.http.client", luaopen_exed_http_client },
	{ "exed.http.server", luaopen_exed_http_server },
	{ "exed.json", luaopen_exed_json },
	{ "cjson", luaopen_exed_json },
	{ "exed.log", luaopen_exed_log },
	{ "exed.metrics", luaopen_exed_metrics },
	{ "exed.proc", luaopen_exed_proc },
	{ "exed.program", luaopen_exed_program },
	{ "exed.redis", luaopen_exed_redis },
	{ "exed.redis_child", luaopen_exed_redis_child },
	{ "exed.regex", luaopen_exed_regex },
	{ "exed.signal", luaopen_exed_signal },
	{ "exed.sink", luaopen_exed_sink },
	{ "exed.state", luaopen_exed_state },
	{ "exed.stdio", luaopen_exed_stdio },
	{ "exed.sys", luaopen_exed_sys },
	{ "exed.task_host", luaopen_exed_task_host },
	{ "exed.text", luaopen_exed_text },
	{ "exed.timer", luaopen_exed_timer },
	{ NULL, NULL },
};

void bind_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
	luaL_newmetatable(L, name);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	if (gc) {
		lua_pushcfunction(L, gc);
		lua_setfield(L, -2, "__gc");
		lua_pushcfunction(L, gc);
		lua_setfield(L, -2, "__close");
	}
	lua_pop(L, 1);
}

/* Copies the bytes at 1 into a Lua string; may raise for memory. */
static int push_bytes(lua_State *L)
{
	const struct buf *b = lua_touserdata(L, 1);

	lua_pushlstring(L, b->data ? b->data : "", b->len);
	return 1;
}

void bind_push_buf(lua_State *L, struct buf *b)
{
	int status = LUA_ERRMEM;

	if (!b->failed) {
		lua_pushcfunction(L, push_bytes);
		lua_pushlightuserdata(L, b);
		status = lua_pcall(L, 1, 1, 0);
	} else {
		lua_pushliteral(L, "not enough memory");
	}
	buf_deinit(b);
	if (status != LUA_OK)
		lua_error(L);
}

int64_t bind_check_ms(lua_State *L, int arg, int64_t otherwise)
{
	lua_Number seconds;

	if (lua_isnoneornil(L, arg))
		return otherwise;
	seconds = luaL_checknumber(L, arg);
	luaL_argcheck(L, seconds >= 0 && seconds < 1e9, arg, "seconds, not negative");
	return (int64_t)ceil(seconds * 1000);
}
