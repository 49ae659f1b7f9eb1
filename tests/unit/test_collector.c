/* SPDX-License-Identifier: MIT */
/* Tests of runtime/collector.c: a Lua state whose garbage goes at the ends of turns. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <event2/event.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>

#include "collector.h"
#include "loop.h"

#define MIB (1 << 20)
/* Enough of them end any cycle of so small a state. */
#define TURNS 5000

static struct loop *loop;
static lua_State *L;
static struct collector c;
static size_t memory, peak;

static void *count(void *ud, void *block, size_t old, size_t new)
{
	(void)ud;
	memory += new - (block ? old : 0);
	if (memory > peak)
		peak = memory;
	if (new)
		return realloc(block, new);
	free(block);
	return NULL;
}

static int open_state(void **state)
{
	(void)state;
	memory = 0;
	loop = loop_new(NULL);
	L = lua_newstate(count, NULL);
	assert_non_null(loop);
	assert_non_null(L);
	luaL_openlibs(L);
	return 0;
}

static int close_state(void **state)
{
	(void)state;
	collector_stop(&c);
	lua_close(L);
	loop_free(loop);
	return 0;
}

static void run(const char *code)
{
	if (luaL_dostring(L, code))
		fail_msg("%s", lua_tostring(L, -1));
}

static void turn(void)
{
	event_base_loop(loop_base(loop), EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

/* What a weak table holds is there until a cycle has gone over it. */
static bool is_there(void)
{
	bool there;

	lua_getglobal(L, "weak");
	there = lua_rawgeti(L, -1, 1) != LUA_TNIL;
	lua_pop(L, 2);
	return there;
}

static void make_weak(void)
{
	run("weak = setmetatable({ {} }, { __mode = 'v' })");
}

/* Tables that stay, so that a cycle takes some slices. */
static void make_many(void)
{
	run("many = {} for i = 1, 200000 do many[i] = { i } end");
}

static void garbage_goes_at_the_end_of_a_turn(void **state)
{
	(void)state;
	collector_start(&c, L, loop, &memory);
	make_weak();
	run("for i = 1, 20000 do local t = { i } end"); /* over 1 MiB: Lua's own collector would have gone round */
	assert_true(is_there());
	collector_look(&c);
	assert_true(is_there());
	for (int i = 0; i < TURNS && is_there(); i++)
		turn();
	assert_false(is_there());
}

static void without_garbage_nothing_is_done(void **state)
{
	(void)state;
	collector_start(&c, L, loop, &memory);
	make_weak();
	for (int i = 0; i < TURNS; i++) {
		collector_look(&c);
		turn();
	}
	assert_true(is_there());
}

static void a_cycle_takes_turns(void **state)
{
	int turns = 0;

	(void)state;
	make_many();
	collector_start(&c, L, loop, &memory);
	make_weak();
	make_many();
	make_many();
	collector_look(&c);
	for (; turns < TURNS && is_there(); turns++)
		turn();
	assert_in_range(turns, 3, TURNS - 1);
}

static void memory_stays_in_proportion(void **state)
{
	size_t first;

	(void)state;
	make_many();
	collector_start(&c, L, loop, &memory);
	first = peak = memory;
	for (int i = 0; i < 2000; i++) {
		run("for i = 1, 1000 do local t = { i } end");
		collector_look(&c);
		turn();
	}
	assert_true(peak > first * 3 / 2);
	assert_true(peak < first * 4);
}

/* 2 to 3 MB a turn of small objects is about twice what a millisecond frees. */
static void turns_that_leave_more_than_a_slice_frees_get_longer_ones(void **state)
{
	size_t first;

	(void)state;
	make_many();
	collector_start(&c, L, loop, &memory);
	first = peak = memory;
	for (int i = 0; i < 200; i++) {
		run("for i = 1, 8000 do many[i % 100 + 1] = { i, {}, { a = 1 } } end");
		collector_look(&c);
		turn();
	}
	assert_true(peak < first * 6);
}

/* As many fibers in one turn, or one that computes for long, would leave it. */
static void a_turn_that_leaves_much_is_helped(void **state)
{
	(void)state;
	collector_start(&c, L, loop, &memory);
	turn();
	peak = memory;
	for (int i = 0; i < 1000; i++) {
		run("local s = ('x'):rep(100000 + math.random(1000))");
		collector_look(&c);
	}
	assert_true(peak < 24 * MIB);
	turn();
	assert_false(lua_gc(L, LUA_GCISRUNNING));
}

static void who_holds_it_waits_for_a_cycle(void **state)
{
	int turns = 0;

	(void)state;
	collector_start(&c, L, loop, &memory);
	make_many();
	collector_look(&c);
	turn();
	assert_false(collector_hold(&c));
	for (; turns < TURNS && !collector_hold(&c); turns++)
		turn();
	assert_in_range(turns, 1, TURNS - 1);

	make_weak();
	for (int i = 0; i < 100; i++) {
		run("for i = 1, 20000 do local t = { i } end");
		collector_look(&c);
		turn();
	}
	assert_true(is_there());

	collector_release(&c);
	collector_look(&c);
	for (int i = 0; i < TURNS && is_there(); i++)
		turn();
	assert_false(is_there());
}

static void a_cycle_that_was_to_begin_is_held(void **state)
{
	(void)state;
	collector_start(&c, L, loop, &memory);
	make_weak();
	run("for i = 1, 20000 do local t = { i } end");
	collector_look(&c);
	assert_true(collector_hold(&c));
	for (int i = 0; i < TURNS; i++)
		turn();
	assert_true(is_there());
}

static void without_a_loop_lua_collects(void **state)
{
	(void)state;
	collector_start(&c, L, NULL, &memory);
	collector_look(&c);
	make_weak();
	assert_true(collector_hold(&c));
	run("for i = 1, 100000 do local t = { i } end");
	assert_true(is_there());
	collector_release(&c);
	run("for i = 1, 100000 do local t = { i } end");
	assert_false(is_there());
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_state, close_state)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(garbage_goes_at_the_end_of_a_turn),
		TEST(without_garbage_nothing_is_done),
		TEST(a_cycle_takes_turns),
		TEST(memory_stays_in_proportion),
		TEST(turns_that_leave_more_than_a_slice_frees_get_longer_ones),
		TEST(a_turn_that_leaves_much_is_helped),
		TEST(who_holds_it_waits_for_a_cycle),
		TEST(a_cycle_that_was_to_begin_is_held),
		TEST(without_a_loop_lua_collects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
