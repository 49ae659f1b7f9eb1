/* SPDX-License-Identifier: MIT */
/* exed.config: the settings, as they were loaded; read-only.
 *   config.SECTION.KEY    text, number or boolean; nil when it is unset and has no default
 *     times are seconds, sizes bytes; 0 is "none"
 *     lists are lists of texts
 *     config.api.listen is the listeners in force: { { address, port, dialects = {...} }, ... }
 *     config.ssh.command_timeout is { execute = seconds, facter = ..., ... }
 * A section or key that does not exist raises; so does an assignment. */
#include <lauxlib.h>
#include <string.h>

#include "bind.h"
#include "config.h"
#include "runtime.h"
#include "script.h"

static int l_readonly(lua_State *L)
{
	return luaL_error(L, "the configuration is read-only");
}

static int l_len(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)lua_rawlen(L, lua_upvalueindex(1)));
	return 1;
}

static int l_next(lua_State *L)
{
	lua_settop(L, 2);
	return lua_next(L, 1) ? 2 : (lua_pushnil(L), 1);
}

static int l_pairs(lua_State *L)
{
	lua_pushcfunction(L, l_next);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushnil(L);
	return 3;
}

/* Upvalues: the values, the names of settings that are unset, what the table is called. */
static int l_index(lua_State *L)
{
	lua_settop(L, 2);
	lua_pushvalue(L, 2);
	lua_rawget(L, lua_upvalueindex(1));
	if (!lua_isnil(L, -1))
		return 1;
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL)
		return luaL_error(L, "there is no %s '%s'", lua_tostring(L, lua_upvalueindex(3)),
				  luaL_tolstring(L, 2, NULL));
	lua_pushnil(L);
	return 1;
}

static void set_with(lua_State *L, const char *name, lua_CFunction fn, int data)
{
	lua_pushvalue(L, data);
	lua_pushcclosure(L, fn, 1);
	lua_setfield(L, -2, name);
}

/* Replaces the table on top by a read-only view of it; what it has not is nil. */
static void freeze(lua_State *L)
{
	int data = lua_gettop(L);

	lua_newtable(L);
	lua_createtable(L, 0, 5);
	lua_pushvalue(L, data);
	lua_setfield(L, -2, "__index");
	set_with(L, "__newindex", l_readonly, data);
	set_with(L, "__len", l_len, data);
	set_with(L, "__pairs", l_pairs, data);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_replace(L, data);
}

/* The same for the values and unset names on top; what is in neither raises. */
static void freeze_strictly(lua_State *L, const char *what)
{
	int data = lua_gettop(L) - 1;

	lua_newtable(L);
	lua_createtable(L, 0, 4);
	lua_pushvalue(L, data);
	lua_pushvalue(L, data + 1);
	lua_pushstring(L, what);
	lua_pushcclosure(L, l_index, 3);
	lua_setfield(L, -2, "__index");
	set_with(L, "__newindex", l_readonly, data);
	set_with(L, "__pairs", l_pairs, data);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_replace(L, data);
	lua_pop(L, 1);
}

static void push_texts(lua_State *L, const char *const *items)
{
	lua_newtable(L);
	for (lua_Integer i = 0; items[i]; i++) {
		lua_pushstring(L, items[i]);
		lua_rawseti(L, -2, i + 1);
	}
	freeze(L);
}

static void push_seconds(lua_State *L, int64_t ms)
{
	if (ms % 1000)
		lua_pushnumber(L, (lua_Number)ms / 1000);
	else
		lua_pushinteger(L, ms / 1000);
}

static void push_listeners(lua_State *L, const struct config *c)
{
	size_t n;
	const struct config_listener *l = config_listeners(c, &n);

	lua_createtable(L, (int)n, 0);
	for (size_t i = 0; i < n; i++) {
		lua_createtable(L, 0, 3);
		lua_pushstring(L, l[i].address);
		lua_setfield(L, -2, "address");
		lua_pushinteger(L, l[i].port);
		lua_setfield(L, -2, "port");
		push_texts(L, l[i].dialects);
		lua_setfield(L, -2, "dialects");
		freeze(L);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	freeze(L);
}

static void push_limits(lua_State *L, const struct config_item *item)
{
	lua_createtable(L, 0, (int)item->count);
	for (size_t i = 0; i < item->count; i++) {
		push_seconds(L, item->numbers[i]);
		lua_setfield(L, -2, item->items[i]);
	}
	freeze(L);
}

struct pushing {
	lua_State *L;
	const struct config *c;
};

static void push_value(const struct pushing *p, const struct config_item *item)
{
	switch (item->kind) {
	case CONFIG_BOOLEAN: lua_pushboolean(p->L, item->number != 0); return;
	case CONFIG_DURATION: push_seconds(p->L, item->number); return;
	case CONFIG_INTEGER:
	case CONFIG_SIZE: lua_pushinteger(p->L, item->number); return;
	case CONFIG_LIST: push_texts(p->L, item->items); return;
	case CONFIG_LISTEN: push_listeners(p->L, p->c); return;
	case CONFIG_LIMITS: push_limits(p->L, item); return;
	default: lua_pushstring(p->L, item->text); /* nil when NULL */
	}
}

/* Stack: all sections, and their unset names, each a table of tables by section. */
static void add_item(void *arg, const struct config_item *item)
{
	struct pushing *p = arg;
	lua_State *L = p->L;

	luaL_getsubtable(L, -2, item->section);
	luaL_getsubtable(L, -2, item->section);
	push_value(p, item);
	if (lua_isnil(L, -1)) {
		lua_pushboolean(L, 1);
		lua_setfield(L, -3, item->key);
		lua_pop(L, 1);
	} else {
		lua_setfield(L, -3, item->key);
	}
	lua_pop(L, 2);
}

static void push_config(lua_State *L, const struct config *c)
{
	struct pushing p = { L, c };
	int data = lua_gettop(L) + 1;

	luaL_checkstack(L, 16, "configuration");
	lua_newtable(L);
	lua_newtable(L);
	config_each(c, add_item, &p);
	lua_pushnil(L);
	while (lua_next(L, data)) {
		lua_pushvalue(L, -2);
		lua_rawget(L, data + 1);
		if (lua_isnil(L, -1)) {
			lua_pop(L, 1);
			lua_newtable(L);
		}
		freeze_strictly(L, "setting");
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, data); /* an existing field: allowed while lua_next goes on */
	}
	lua_pop(L, 1);
	lua_newtable(L);
	freeze_strictly(L, "section");
}

int luaopen_exed_config(lua_State *L)
{
	push_config(L, script_runtime(script_of(L))->config);
	return 1;
}
