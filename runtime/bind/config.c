/* SPDX-License-Identifier: MIT */
/* exed.config: the settings in force; read-only. After a reload the same tables give the new values;
 * a list that was taken before stays as it was.
 *   config.SECTION.KEY    text, number or boolean; nil when it is unset and has no default
 *     times are seconds, sizes bytes; 0 is "none"
 *     lists are lists of texts
 *     config.api.listen is the listeners in force: { { address, port, dialects = {...} }, ... }
 *     config.ssh.command_timeout is { execute = seconds, facter = ..., ... }
 *   config.where(SECTION, KEY) -> text      where it comes from, to begin a message with
 * A section or key that does not exist raises, but for an executor's section; so does an assignment. */
#include <lauxlib.h>
#include <string.h>

#include "bind.h"
#include "config.h"
#include "runtime.h"
#include "script.h"

/* In the registry: section -> { key -> value }, section -> { key -> true } of what is unset, and
 * section -> the table that Lua sees. */
#define VALUES "exed.config.values"
#define UNSET "exed.config.unset"
#define SECTIONS "exed.config.sections"

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

/* Upvalue: the section's name. */
static int l_section_pairs(lua_State *L)
{
	lua_getfield(L, LUA_REGISTRYINDEX, VALUES);
	lua_pushvalue(L, lua_upvalueindex(1));
	if (lua_rawget(L, -2) == LUA_TNIL) /* a reload has taken its last setting away */
		lua_newtable(L);
	lua_pushcfunction(L, l_next);
	lua_insert(L, -2);
	lua_pushnil(L);
	return 3;
}

/* Pushes what that part of the settings has for the section (the upvalue) and the name at 2; false: nothing, and
 * what is pushed is of no use. */
static bool push_loaded(lua_State *L, const char *part)
{
	lua_getfield(L, LUA_REGISTRYINDEX, part);
	lua_pushvalue(L, lua_upvalueindex(1));
	if (lua_rawget(L, -2) != LUA_TTABLE)
		return false;
	lua_pushvalue(L, 2);
	return lua_rawget(L, -2) != LUA_TNIL;
}

static int l_setting(lua_State *L)
{
	lua_settop(L, 2);
	if (push_loaded(L, VALUES))
		return 1;
	if (push_loaded(L, UNSET)) {
		lua_pushnil(L); /* its name is known, and it is unset */
		return 1;
	}
	return luaL_error(L, "there is no setting '%s'", luaL_tolstring(L, 2, NULL));
}

static int l_where(lua_State *L)
{
	const char *section = luaL_checkstring(L, 1), *key = luaL_checkstring(L, 2);
	char where[512];

	lua_pushstring(L, config_where(script_runtime(script_of(L))->config, section, key, where,
				       sizeof(where)));
	return 1;
}

/* Whether the name at arg is of an executor's section, which need not be there. */
static bool is_executors(lua_State *L, int arg)
{
	static const char prefix[] = "executor ";

	return lua_type(L, arg) == LUA_TSTRING &&
	       !strncmp(lua_tostring(L, arg), prefix, sizeof(prefix) - 1);
}

static int l_section(lua_State *L)
{
	lua_settop(L, 2);
	if (lua_type(L, 2) == LUA_TSTRING && !strcmp(lua_tostring(L, 2), "where")) {
		lua_pushcfunction(L, l_where);
		return 1;
	}
	lua_pushvalue(L, 2);
	lua_rawget(L, lua_upvalueindex(1));
	if (!lua_isnil(L, -1) || is_executors(L, 2))
		return 1;
	return luaL_error(L, "there is no section '%s'", luaL_tolstring(L, 2, NULL));
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

/* Pushes a read-only table whose fields and pairs come from functions, which have the value on top as
 * their upvalue; takes that value. */
static void push_view(lua_State *L, lua_CFunction index, lua_CFunction pairs)
{
	int upvalue = lua_gettop(L);

	lua_newtable(L);
	lua_createtable(L, 0, 4);
	set_with(L, "__index", index, upvalue);
	set_with(L, "__newindex", l_readonly, upvalue);
	set_with(L, "__pairs", pairs, upvalue);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_replace(L, upvalue);
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

/* Puts the values of c in force, all at once: what may fail is done before. */
static void put_values(lua_State *L, const struct config *c)
{
	struct pushing p = { L, c };
	int values = lua_gettop(L) + 1;

	luaL_checkstack(L, 16, "configuration");
	lua_newtable(L);
	lua_newtable(L);
	config_each(c, add_item, &p);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, SECTIONS);
	for (lua_pushnil(L); lua_next(L, values); lua_pop(L, 1)) {
		lua_pushvalue(L, -2);
		if (lua_rawget(L, values + 2) == LUA_TNIL) {
			lua_pushvalue(L, -3);
			lua_pushvalue(L, -4);
			push_view(L, l_setting, l_section_pairs);
			lua_rawset(L, values + 2);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	lua_setfield(L, LUA_REGISTRYINDEX, UNSET);
	lua_setfield(L, LUA_REGISTRYINDEX, VALUES);
}

static int l_put_values(lua_State *L)
{
	put_values(L, lua_touserdata(L, 1));
	return 0;
}

int bind_config_renew(void *state, const struct config *c)
{
	lua_State *L = state;
	int status;

	lua_pushcfunction(L, l_put_values);
	lua_pushlightuserdata(L, (void *)c);
	status = lua_pcall(L, 1, 0, 0);
	if (status != LUA_OK)
		lua_pop(L, 1);
	return status == LUA_OK ? 0 : -ERR_MEMORY;
}

int luaopen_exed_config(lua_State *L)
{
	put_values(L, script_runtime(script_of(L))->config);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, SECTIONS);
	push_view(L, l_section, l_pairs);
	return 1;
}
