/* SPDX-License-Identifier: MIT */
/* plan: the plan that exed.fanout's start is given, from Lua to C. Its arrays are userdata on the stack. Loop
 * thread. */
#include "plan.h"

#include <lauxlib.h>
#include <string.h>

#include "bind.h"
#include "fields.h"

static void read_verdict(lua_State *L, int t, struct record_rules *rules)
{
	struct verdict *v;
	size_t n = 0;

	rules->otherwise = STATUS_FAILED;
	if (lua_getfield(L, t, "verdict") != LUA_TTABLE)
		luaL_error(L, "field verdict: a table of exit code to status is wanted");
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
		n++;
	v = lua_newuserdatauv(L, (n + 1) * sizeof(*v), 0); /* anchored until the caller returns */
	lua_insert(L, -2);
	n = 0;
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
		int status = (int)luaL_checkinteger(L, -1);

		if (lua_isinteger(L, -2))
			v[n++] = (struct verdict){ (int)lua_tointeger(L, -2), status };
		else
			rules->otherwise = status;
	}
	lua_pop(L, 1);
	rules->verdicts = v;
	rules->nverdicts = n;
}

static const char *const *read_env(lua_State *L, int t)
{
	const char **env;
	size_t n;

	if (lua_getfield(L, t, "env") == LUA_TNIL)
		return NULL;
	luaL_checktype(L, -1, LUA_TTABLE);
	n = lua_rawlen(L, -1);
	env = lua_newuserdatauv(L, (n + 1) * sizeof(*env), 0);
	lua_insert(L, -2);
	for (size_t i = 0; i < n; i++) {
		if (lua_rawgeti(L, -1, (lua_Integer)i + 1) != LUA_TSTRING)
			luaL_error(L, "field env: a list of NAME=value is wanted");
		env[i] = bind_field_whole(L, "env"); /* held by the list */
		lua_pop(L, 1);
	}
	env[n] = NULL;
	return env;
}

static void read_hidden(lua_State *L, int t, struct fanout_plan *plan)
{
	struct mask_text *hidden;
	size_t n;

	if (lua_getfield(L, t, "hidden") == LUA_TNIL)
		return;
	luaL_checktype(L, -1, LUA_TTABLE);
	n = lua_rawlen(L, -1);
	hidden = lua_newuserdatauv(L, (n + 1) * sizeof(*hidden), 0);
	lua_insert(L, -2);
	for (size_t i = 0; i < n; i++) {
		if (lua_rawgeti(L, -1, (lua_Integer)i + 1) != LUA_TSTRING)
			luaL_error(L, "field hidden: a list of texts is wanted");
		hidden[i].data = lua_tolstring(L, -1, &hidden[i].len); /* held by the list */
		lua_pop(L, 1);
	}
	plan->hidden = hidden;
	plan->nhidden = n;
}

void bind_plan_read(lua_State *L, int t, struct fanout_plan *plan)
{
	const char *transport;

	luaL_checkstack(L, 32, NULL);
	memset(plan, 0, sizeof(*plan));
	transport = bind_field_text(L, t, "transport");
	if (transport && !strcmp(transport, "local"))
		plan->transport = FANOUT_LOCAL;
	else if (transport && strcmp(transport, "ssh"))
		luaL_error(L, "field transport: \"ssh\" or \"local\" is wanted, not \"%s\"", transport);
	plan->command = bind_field_text(L, t, "command");
	plan->cwd = bind_field_text(L, t, "cwd");
	plan->group = bind_field_text(L, t, "group");
	plan->op_id = bind_field_text(L, t, "op");
	if (lua_getfield(L, t, "stdin") == LUA_TSTRING)
		plan->input = lua_tolstring(L, -1, &plan->input_len);
	lua_getfield(L, t, "content");
	plan->content = bind_content_opt(L, -1);
	plan->before = bind_field_text(L, t, "before");
	plan->tidy = bind_field_text(L, t, "tidy");
	plan->env = read_env(L, t);
	plan->limit_ms = bind_field_ms(L, t, "timeout", 0);
	plan->connect_limit_ms = bind_field_ms(L, t, "connect_timeout", 10000);
	plan->settle_until_ms = bind_field_ms(L, t, "settle_until", 0);
	plan->settle_ms = bind_field_ms(L, t, "settle", 0);
	plan->window = (unsigned)bind_field_integer(L, t, "window", 0);
	plan->group_window = (unsigned)bind_field_integer(L, t, "group_window", 0);
	plan->try = (unsigned)bind_field_integer(L, t, "try", 1);
	plan->urgent = bind_field_flag(L, t, "urgent");
	plan->keep = bind_field_flag(L, t, "keep");
	plan->open = bind_field_flag(L, t, "open");
	plan->fence = bind_field_flag(L, t, "fence");
	plan->forbid = bind_field_text(L, t, "forbid");
	plan->quiet = bind_field_flag(L, t, "quiet");
	plan->sync = bind_field_flag(L, t, "sync");
	plan->fence_dir = bind_field_text(L, t, "fence_dir");
	plan->fence_ttl_s = bind_field_ms(L, t, "fence_ttl", 0) / 1000;
	plan->rules.lines = bind_field_flag(L, t, "lines");
	plan->rules.look = bind_field_flag(L, t, "look");
	plan->rules.quiet_record = bind_field_flag(L, t, "quiet_record");
	plan->rules.tell_code = bind_field_flag(L, t, "tell_code");
	plan->rules.facts = bind_field_flag(L, t, "facts");
	plan->rules.json = bind_field_flag(L, t, "json");
	plan->rules.output_cap = (uint64_t)bind_field_integer(L, t, "output_cap", 1 << 20);
	read_hidden(L, t, plan);
	read_verdict(L, t, &plan->rules);
}
