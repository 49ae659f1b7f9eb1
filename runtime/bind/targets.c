/* SPDX-License-Identifier: MIT */
/* targets: a host's userdata has one reference to it. What is read of Lua's lists is owned by a userdata until a
 * fan-out takes it, so that an error in the middle leaves nothing behind. */
#include "targets.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "fields.h"

#define TARGETS "exed.fanout.targets"

/* ---- hosts ---- */

int bind_host(lua_State *L)
{
	struct ssh_host_spec spec = { 0 };
	struct ssh_host **box;

	luaL_checktype(L, 1, LUA_TTABLE);
	spec.name = bind_field_text(L, 1, "name");
	luaL_argcheck(L, spec.name, 1, "field name is missing");
	spec.address = bind_field_text(L, 1, "address");
	spec.user = bind_field_text(L, 1, "user");
	spec.key = bind_field_text(L, 1, "key");
	spec.password = bind_field_text(L, 1, "password");
	spec.port = (int)bind_field_integer(L, 1, "port", 0);
	spec.raw = bind_field_flag(L, 1, "raw");
	spec.fence_dir = bind_field_text(L, 1, "fence_dir");
	spec.become = bind_field_text(L, 1, "become");
	spec.become_password = bind_field_text(L, 1, "become_password");
	if (lua_getfield(L, 1, "jump") != LUA_TNIL) {
		spec.jump = *(struct ssh_host **)luaL_checkudata(L, -1, BIND_HOST);
		luaL_argcheck(L, spec.jump, 1, "field jump: the host is closed");
	}
	box = lua_newuserdatauv(L, sizeof(*box), 0);
	*box = NULL;
	luaL_setmetatable(L, BIND_HOST);
	*box = ssh_host_new(&spec);
	return *box ? 1 : luaL_error(L, "not enough memory");
}

static int l_host_gc(lua_State *L)
{
	struct ssh_host **box = luaL_checkudata(L, 1, BIND_HOST);

	ssh_host_unref(*box);
	*box = NULL;
	return 0;
}

/* ---- what a target has of its own ---- */

struct list {
	size_t n;
	struct fanout_target items[];
};

static const char *text_at(lua_State *L, int i, const char *what)
{
	size_t n;
	const char *text = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &n) : NULL;

	if (!text || strlen(text) != n)
		luaL_error(L, "own: %s: a text without NUL is wanted", what);
	return text;
}

/* The texts of the list in that field of the table on top; NULL: it is not there. One value is pushed, which
 * holds them while the table lives. */
static char **texts_of(lua_State *L, const char *name)
{
	char **texts;
	size_t n;

	if (lua_getfield(L, -1, name) == LUA_TNIL)
		return NULL;
	luaL_checktype(L, -1, LUA_TTABLE);
	n = lua_rawlen(L, -1);
	texts = lua_newuserdatauv(L, (n + 1) * sizeof(*texts), 0);
	for (size_t i = 0; i < n; i++) {
		lua_rawgeti(L, -2, (lua_Integer)i + 1);
		texts[i] = (char *)text_at(L, -1, name);
		lua_pop(L, 1);
	}
	texts[n] = NULL;
	lua_remove(L, -2);
	return texts;
}

static char *text_of(lua_State *L, int t, const char *name)
{
	const char *text = NULL;

	if (lua_getfield(L, t, name) != LUA_TNIL)
		text = text_at(L, -1, name); /* held by the table */
	lua_pop(L, 1);
	return (char *)text;
}

/* What the table on top says. */
static struct host_own *read_own(lua_State *L)
{
	struct host_own own = { .limit_ms = -1 }, *copy;
	int t = lua_gettop(L);

	own.values = texts_of(L, "values");
	lua_pushvalue(L, t);
	own.env = texts_of(L, "env");
	own.command = text_of(L, t, "command");
	own.cwd = text_of(L, t, "cwd");
	if (lua_getfield(L, t, "stdin") == LUA_TSTRING)
		own.input = (void *)lua_tolstring(L, -1, &own.input_len);
	if (lua_getfield(L, t, "timeout") != LUA_TNIL) {
		if (!(lua_isnumber(L, -1) && fabs(lua_tonumber(L, -1)) < 1e9))
			luaL_error(L, "own: timeout: a number of seconds is wanted, below 1e9");
		own.limit_ms = (int64_t)(lua_tonumber(L, -1) * 1000);
	}
	copy = host_own_copy(&own);
	lua_settop(L, t);
	if (!copy)
		luaL_error(L, "not enough memory");
	return copy;
}

struct fanout_target *bind_targets(lua_State *L, int hosts, int indexes, int own, size_t *n)
{
	struct list *list;

	luaL_checktype(L, hosts, LUA_TTABLE);
	*n = lua_rawlen(L, hosts);
	list = lua_newuserdatauv(L, sizeof(*list) + *n * sizeof(*list->items), 0);
	memset(list, 0, sizeof(*list) + *n * sizeof(*list->items));
	list->n = *n;
	luaL_setmetatable(L, TARGETS);
	for (size_t i = 0; i < *n; i++) {
		lua_Integer at = (lua_Integer)i + 1;

		lua_rawgeti(L, hosts, at);
		list->items[i].host = *(struct ssh_host **)luaL_checkudata(L, -1, BIND_HOST);
		if (!list->items[i].host)
			luaL_error(L, "host %I is closed", at);
		lua_pop(L, 1);
		list->items[i].index = (unsigned)i;
		if (lua_istable(L, indexes)) {
			lua_rawgeti(L, indexes, at);
			list->items[i].index = (unsigned)luaL_checkinteger(L, -1);
			lua_pop(L, 1);
		}
		if (lua_istable(L, own)) {
			if (lua_rawgeti(L, own, at) == LUA_TTABLE)
				list->items[i].own = read_own(L);
			lua_pop(L, 1);
		}
	}
	return list->items;
}

void bind_targets_taken(struct fanout_target *targets, size_t n)
{
	for (size_t i = 0; i < n; i++)
		targets[i].own = NULL;
}

static int l_targets_gc(lua_State *L)
{
	struct list *list = luaL_checkudata(L, 1, TARGETS);

	for (size_t i = 0; i < list->n; i++)
		host_own_free(list->items[i].own);
	list->n = 0;
	return 0;
}

int bind_targets_open(lua_State *L)
{
	static const luaL_Reg none[] = { { NULL, NULL } };

	bind_class(L, BIND_HOST, none, l_host_gc);
	bind_class(L, TARGETS, none, l_targets_gc);
	return 0;
}
