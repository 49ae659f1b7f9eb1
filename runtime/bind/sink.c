/* SPDX-License-Identifier: MIT */
/* exed.sink: where a slice's records go when they go to the store.
 *   new(conn, { jid, k, epoch, effect, job_output, marks, unnumbered, name, open }) -> sink
 *     for fanout.start. open: for a plan that is. name: of a task's step, which its records then bear. */
#include "sink.h"

#include <lauxlib.h>

#include "bind.h"
#include "redis_conn.h"
#include "script.h"

#define SINK "exed.sink"

static int64_t field(lua_State *L, const char *name)
{
	int64_t v;

	lua_getfield(L, 2, name);
	v = luaL_checkinteger(L, -1);
	lua_pop(L, 1);
	return v;
}

static bool flag(lua_State *L, const char *name)
{
	bool v;

	lua_getfield(L, 2, name);
	v = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return v;
}

static int l_new(lua_State *L)
{
	struct redis *redis = bind_check_redis(L, 1);
	struct sink_slice slice = { 0 };
	struct sink **ud;

	luaL_checktype(L, 2, LUA_TTABLE);
	slice.k = field(L, "k");
	slice.epoch = field(L, "epoch");
	slice.effect = field(L, "effect");
	slice.job_output = field(L, "job_output");
	slice.marks = flag(L, "marks");
	slice.unnumbered = flag(L, "unnumbered");
	slice.open = flag(L, "open");
	lua_getfield(L, 2, "jid");
	slice.jid = luaL_checkstring(L, -1);
	lua_getfield(L, 2, "name");
	slice.name = luaL_optstring(L, -1, NULL);
	/* The connection must outlive the sink. */
	ud = lua_newuserdatauv(L, sizeof(*ud), 1);
	*ud = NULL;
	luaL_setmetatable(L, SINK);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	*ud = sink_new(script_loop(script_of(L)), redis, &slice);
	return *ud ? 1 : luaL_error(L, "not enough memory");
}

static int l_gc(lua_State *L)
{
	struct sink **ud = luaL_checkudata(L, 1, SINK);

	if (*ud)
		sink_unref(*ud);
	*ud = NULL;
	return 0;
}

struct sink *bind_sink_opt(lua_State *L, int arg)
{
	struct sink *s;

	if (lua_isnoneornil(L, arg))
		return NULL;
	s = *(struct sink **)luaL_checkudata(L, arg, SINK);
	luaL_argcheck(L, s, arg, "the sink is closed");
	return s;
}

static const luaL_Reg methods[] = { { NULL, NULL } };
static const luaL_Reg functions[] = { { "new", l_new }, { NULL, NULL } };

int luaopen_exed_sink(lua_State *L)
{
	bind_class(L, SINK, methods, l_gc);
	luaL_newlib(L, functions);
	return 1;
}
