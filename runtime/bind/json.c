/* SPDX-License-Identifier: MIT */
/* exed.json:
 *   decode(text [, max]) -> value | nil, err    strict; [] keeps its mark, so that it is written
 *                                        as []. Text of more than max values is refused unread
 *   encode(value) -> text                raises for what has no form; names in byte order
 *   null                                 what null is read as; true in a condition
 *   array(t) -> t                        marks t: it is written as an array, also when it is empty
 *   is_array(t) -> boolean               whether t has the mark
 *   raw(text) -> value                   finished JSON, put in as it is
 * cjson, for plugins that know it: encode, decode, null. There decode raises, as cjson's does. */
#include "json.h"

#include <lauxlib.h>
#include <string.h>

#include "bind.h"
#include "fiber.h"

#define PLAIN_MAX 64

static int l_decode(lua_State *L)
{
	size_t n;
	const char *text = luaL_checklstring(L, 1, &n);
	lua_Integer max = luaL_optinteger(L, 2, 0);
	struct err err;

	luaL_argcheck(L, max >= 0, 2, "a number of values is expected");
	if (json_decode_bounded(L, text, n, (size_t)max, &err))
		return fiber_push_err(L, &err, "json.decode");
	return 1;
}

static int l_decode_or_raise(lua_State *L)
{
	size_t n;
	const char *text = luaL_checklstring(L, 1, &n);
	struct err err;

	if (json_decode(L, text, n, &err))
		return luaL_error(L, "%s", err.message);
	return 1;
}

/* Nearly every text that is encoded alone is a name, a word or an id. */
static bool is_plain(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] < 0x20 || text[i] > 0x7e || text[i] == '"' || text[i] == '\\')
			return false;
	return true;
}

static bool encode_plain(lua_State *L)
{
	char quoted[PLAIN_MAX + 2];
	size_t n;
	const char *text;

	if (lua_type(L, 1) != LUA_TSTRING)
		return false;
	text = lua_tolstring(L, 1, &n);
	if (n > PLAIN_MAX || !is_plain(text, n))
		return false;
	quoted[0] = quoted[n + 1] = '"';
	memcpy(quoted + 1, text, n);
	lua_pushlstring(L, quoted, n + 2);
	return true;
}

static int l_encode(lua_State *L)
{
	struct buf b = { 0 };
	struct err err;

	luaL_checkany(L, 1);
	if (encode_plain(L))
		return 1;
	if (json_encode(L, 1, &b, &err)) {
		buf_deinit(&b);
		return luaL_error(L, "%s", err.message);
	}
	bind_push_buf(L, &b);
	return 1;
}

static int l_array(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	json_push_array_mt(L);
	if (lua_getmetatable(L, 1)) {
		luaL_argcheck(L, lua_rawequal(L, -1, -2), 1, "it has a metatable already");
		lua_pop(L, 1);
	}
	lua_setmetatable(L, 1);
	return 1;
}

static int l_is_array(lua_State *L)
{
	luaL_checkany(L, 1);
	json_push_array_mt(L);
	lua_pushboolean(L, lua_type(L, 1) == LUA_TTABLE && lua_getmetatable(L, 1) &&
				   lua_rawequal(L, -1, -2));
	return 1;
}

static int l_raw(lua_State *L)
{
	size_t n;
	const char *text = luaL_checklstring(L, 1, &n);

	json_push_raw(L, text, n);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "decode", l_decode },	    { "encode", l_encode }, { "array", l_array },
	{ "is_array", l_is_array }, { "raw", l_raw },	    { NULL, NULL },
};

int luaopen_exed_json(lua_State *L)
{
	const char *name = lua_tostring(L, 1);

	json_watch_memory();
	luaL_newlib(L, functions);
	if (name && !strcmp(name, "cjson")) {
		lua_pushcfunction(L, l_decode_or_raise);
		lua_setfield(L, -2, "decode");
	}
	json_push_null(L);
	lua_setfield(L, -2, "null");
	return 1;
}
