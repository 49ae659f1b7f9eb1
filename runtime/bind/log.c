/* SPDX-License-Identifier: MIT */
/* exed.log: debug, info, warn, error(area, format, ...) as string.format; one line each. */
#include "log.h"

#include <lauxlib.h>

#include "bind.h"

static int write_line(lua_State *L, enum log_level level)
{
	const char *area = luaL_checkstring(L, 1);

	if (level < log_get_level())
		return 0;
	luaL_checkstring(L, 2);
	if (lua_gettop(L) > 2) {
		lua_getglobal(L, "string");
		lua_getfield(L, -1, "format");
		lua_replace(L, -2);
		lua_insert(L, 2);
		lua_call(L, lua_gettop(L) - 2, 1);
	}
	log_write(level, area, "%s", lua_tostring(L, 2));
	return 0;
}

static int l_debug(lua_State *L)
{
	return write_line(L, LOG_DEBUG);
}

static int l_info(lua_State *L)
{
	return write_line(L, LOG_INFO);
}

static int l_warn(lua_State *L)
{
	return write_line(L, LOG_WARNING);
}

static int l_error(lua_State *L)
{
	return write_line(L, LOG_ERROR);
}

static const luaL_Reg functions[] = {
	{ "debug", l_debug },
	{ "info", l_info },
	{ "warn", l_warn },
	{ "error", l_error },
	{ NULL, NULL },
};

int luaopen_exed_log(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
