/* SPDX-License-Identifier: MIT */
/* budget: counts instructions by a hook, once a ticker has seen that something computes for long; and the
 * functions of Lua's libraries that could get around the hook. Loop thread; the ticker's signal comes there, too. */
#include "budget.h"

#include <lauxlib.h>
#include <lualib.h>

#include "collector.h"
#include "err.h"
#include "script.h"

/* Lua looks at a hook before each instruction, which makes all of them twice as slow: so there is none until
 * a fiber has computed for one or two such periods without a wait. They are not counted. */
#define LOOK_MS 10
/* How often the budget is looked at from then on, in instructions. */
#define HOOK_STEP 100000
/* The same in a coroutine that a fiber made, which counts on its own: small, and the first step is paid
 * when it is made, or many short coroutines would run for nothing. */
#define COROUTINE_STEP 1000

static int hook_step(const struct budget *b)
{
	return b->limit < HOOK_STEP ? (int)b->limit : HOOK_STEP;
}

static void count_hook(lua_State *L, lua_Debug *ar)
{
	struct script *s = script_of(L);
	struct budget *b = script_budget(s);

	(void)ar;
	b->used += (unsigned long)lua_gethookcount(L);
	collector_look(script_collector(s));
	if (b->used < b->limit)
		return;
	/* From now on at every instruction, so that pcall cannot swallow it, nor a coroutine whose maker
	 * goes on. */
	lua_sethook(L, count_hook, LUA_MASKCOUNT, 1);
	if (b->running)
		lua_sethook(b->running, count_hook, LUA_MASKCOUNT, 1);
	luaL_where(L, 0); /* in a hook, 0 is the function that was interrupted */
	lua_pushfstring(L, "ran %I instructions without waiting", (lua_Integer)b->limit);
	lua_concat(L, 2);
	lua_error(L);
}

/* In a signal handler; lua_sethook may be called there. */
static void look(void *arg)
{
	struct budget *b = arg;
	lua_State *L = b->running;

	if (L && b->looks++ && !lua_gethook(L))
		lua_sethook(L, count_hook, LUA_MASKCOUNT, hook_step(b));
}

/* The thread sanitizer holds signals back until a system call, which a loop may never do. */
static void start_looking(struct budget *b)
{
#ifdef __SANITIZE_THREAD__
	(void)b;
	(void)look;
#else
	/* Without it instructions are counted from the first. */
	(void)ticker_start(&b->ticker, LOOK_MS, look, b);
#endif
}

void budget_begin(struct budget *b, lua_State *fiber)
{
	b->used = 0;
	b->looks = 0;
	b->running = fiber;
	if (b->limit && !b->ticker.on)
		lua_sethook(fiber, count_hook, LUA_MASKCOUNT, hook_step(b));
	else if (lua_gethook(fiber))
		lua_sethook(fiber, NULL, 0, 0);
}

void budget_end(struct budget *b, lua_State *outer)
{
	b->running = outer;
}

void budget_need(struct budget *b, unsigned long limit)
{
	if (!b->limit)
		b->limit = limit;
}

/* What counts on, or not, when the budget was another's for a while. */
static void count_again(struct budget *b, lua_State *L, bool counted)
{
	if (counted && b->limit)
		lua_sethook(L, count_hook, LUA_MASKCOUNT, hook_step(b));
	else
		lua_sethook(L, NULL, 0, 0);
}

int budget_call(lua_State *L, unsigned long limit, int nargs)
{
	struct budget *b = script_budget(script_of(L));
	unsigned long outer = b->limit, used = b->used;
	lua_State *fiber = b->running;
	bool counted = lua_gethook(L) != NULL, fiber_counted = fiber && lua_gethook(fiber);
	int status;

	b->limit = limit;
	b->used = 0;
	lua_sethook(L, count_hook, LUA_MASKCOUNT, hook_step(b));
	status = lua_pcall(L, nargs, LUA_MULTRET, 0);
	b->used += used;
	b->limit = outer;
	count_again(b, L, counted);
	if (fiber && fiber != L)
		count_again(b, fiber, fiber_counted);
	return status;
}

/* ---- what Lua's libraries have ---- */

/* coroutine.create and coroutine.wrap: the library's own (the upvalue), then the budget. */
static int l_make_coroutine(lua_State *L)
{
	struct budget *b = script_budget(script_of(L));
	int step = b->used < b->limit ? COROUTINE_STEP : 1;

	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	if (!b->limit)
		return 1;
	b->used += (unsigned long)step;
	if (lua_isthread(L, -1))
		lua_pushvalue(L, -1);
	else
		lua_getupvalue(L, -1, 1); /* what wrap made has its coroutine there */
	lua_sethook(lua_tothread(L, -1), count_hook, LUA_MASKCOUNT, step);
	lua_pop(L, 1);
	return 1;
}

/* No hook runs while a hook raises, so nothing could stop a handler of the budget's own error. */
static int guarded_handler(lua_State *L)
{
	const struct budget *b = script_budget(script_of(L));

	if (b->limit && b->used >= b->limit)
		return 1;
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	return 1;
}

static int all_results(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	return lua_gettop(L);
}

/* xpcall: the library's own (the upvalue), with a handler that is guarded. */
static int l_xpcall(lua_State *L)
{
	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, guarded_handler, 1);
	lua_replace(L, 2);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, all_results);
	return lua_gettop(L);
}

static int change_library(lua_State *L)
{
	static const char *const makers[] = { "create", "wrap" };

	lua_getglobal(L, "xpcall");
	lua_pushcclosure(L, l_xpcall, 1);
	lua_setglobal(L, "xpcall");
	lua_getglobal(L, LUA_COLIBNAME);
	for (size_t i = 0; i < sizeof(makers) / sizeof(*makers); i++) {
		lua_getfield(L, -1, makers[i]);
		lua_pushcclosure(L, l_make_coroutine, 1);
		lua_setfield(L, -2, makers[i]);
	}
	return 0;
}

/* ---- life ---- */

int budget_start(struct budget *b, lua_State *L, unsigned long limit)
{
	*b = (struct budget){ .limit = limit };
	lua_pushcfunction(L, change_library);
	if (lua_pcall(L, 0, 0, 0) != LUA_OK) {
		lua_pop(L, 1);
		return -ERR_MEMORY;
	}
	if (limit)
		start_looking(b);
	return 0;
}

void budget_stop(struct budget *b)
{
	ticker_stop(&b->ticker);
}
