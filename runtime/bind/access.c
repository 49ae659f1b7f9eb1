/* SPDX-License-Identifier: MIT */
/* exed.access: who may come in, by the bearer tokens in force (tokens.c).
 *   asks() -> boolean             whether a token is asked for
 *   name(token) -> text | nil     whose token it is */
#include <lauxlib.h>

#include "bind.h"
#include "runtime.h"
#include "script.h"
#include "tokens.h"

static int l_asks(lua_State *L)
{
	lua_pushboolean(L, script_runtime(script_of(L))->tokens != NULL);
	return 1;
}

static int l_name(lua_State *L)
{
	const struct tokens *tokens = script_runtime(script_of(L))->tokens;
	size_t n;
	const char *token = luaL_checklstring(L, 1, &n);

	lua_pushstring(L, tokens ? tokens_find(tokens, token, n) : NULL);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "asks", l_asks },
	{ "name", l_name },
	{ NULL, NULL },
};

int luaopen_exed_access(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
