/* SPDX-License-Identifier: MIT */
/* fields: reads a table's fields by name, and raises with the name of one that is wrong. Loop thread. */
#include "fields.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

const char *bind_field_whole(lua_State *L, const char *name)
{
	size_t n = 0;
	const char *text = lua_tolstring(L, -1, &n);

	if (text && strlen(text) != n)
		luaL_error(L, "field %s: it has a NUL byte", name);
	return text;
}

const char *bind_field_text(lua_State *L, int t, const char *name)
{
	int type = lua_getfield(L, t, name);

	if (type != LUA_TNIL && type != LUA_TSTRING)
		luaL_error(L, "field %s: a string is wanted, not a %s", name, lua_typename(L, type));
	return bind_field_whole(L, name);
}

int64_t bind_field_integer(lua_State *L, int t, const char *name, int64_t otherwise)
{
	int ok = 1;
	lua_Integer v = otherwise;

	if (lua_getfield(L, t, name) != LUA_TNIL)
		v = lua_tointegerx(L, -1, &ok);
	if (!ok)
		luaL_error(L, "field %s: an integer is wanted", name);
	lua_pop(L, 1);
	return v;
}

bool bind_field_flag(lua_State *L, int t, const char *name)
{
	bool v;

	lua_getfield(L, t, name);
	v = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return v;
}

int64_t bind_field_ms(lua_State *L, int t, const char *name, int64_t otherwise)
{
	int64_t ms = otherwise;

	if (lua_getfield(L, t, name) != LUA_TNIL) {
		if (!(lua_isnumber(L, -1) && fabs(lua_tonumber(L, -1)) < 1e9))
			luaL_error(L, "field %s: a number of seconds is wanted, below 1e9", name);
		ms = (int64_t)(lua_tonumber(L, -1) * 1000);
	}
	lua_pop(L, 1);
	return ms;
}
