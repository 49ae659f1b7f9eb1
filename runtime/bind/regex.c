/* SPDX-License-Identifier: MIT */
/* exed.regex: regular expressions with limits.
 *   compile(text) -> regex | nil, err
 *   regex:match(text) -> boolean | nil, err (code "limit")     at the start of the text */
#include "regex.h"

#include <lauxlib.h>

#include "bind.h"
#include "fiber.h"

#define REGEX "exed.regex"

static int l_compile(lua_State *L)
{
	size_t n;
	const char *text = luaL_checklstring(L, 1, &n);
	struct regex **box = lua_newuserdatauv(L, sizeof(*box), 0);
	struct err err;

	*box = NULL;
	luaL_setmetatable(L, REGEX);
	*box = regex_new(text, n, &err);
	return *box ? 1 : fiber_push_err(L, &err, "regex.compile");
}

static int l_match(lua_State *L)
{
	struct regex **box = luaL_checkudata(L, 1, REGEX);
	size_t n;
	const char *text = luaL_checklstring(L, 2, &n);
	struct err err;
	int rc;

	luaL_argcheck(L, *box, 1, "the expression was closed");
	rc = regex_match(*box, text, n, &err);
	if (rc < 0)
		return fiber_push_err(L, &err, "regex.match");
	lua_pushboolean(L, rc);
	return 1;
}

static int l_gc(lua_State *L)
{
	struct regex **box = luaL_checkudata(L, 1, REGEX);

	regex_free(*box);
	*box = NULL;
	return 0;
}

static const luaL_Reg methods[] = {
	{ "match", l_match },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "compile", l_compile },
	{ NULL, NULL },
};

int luaopen_exed_regex(lua_State *L)
{
	bind_class(L, REGEX, methods, l_gc);
	luaL_newlib(L, functions);
	return 1;
}
