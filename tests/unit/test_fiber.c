/* SPDX-License-Identifier: MIT */
/* Tests of runtime/fiber.c and runtime/bind/fiber.c. All run four times: with Lua's collector as it is,
 * with ours, generational, and at its most aggressive. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"
#include "fiber.h"
#include "log.h"
#include "runtime.h"
#include "script.h"
#include "support.h"

enum collecting { AS_IT_IS, BY_TURNS, GENERATIONAL, AGGRESSIVE };
static enum collecting collecting;

static struct runtime rt;
static struct script *script;
static int fds;

/* ---- a wait that the test completes ---- */

struct test_wait {
	struct wait wait; /* first */
	bool raises;
};

static struct test_wait *open_wait;
static struct { int made, pushed, cancelled, freed; } waits;

static int push_test(struct wait *w, lua_State *L)
{
	waits.pushed++;
	if (((struct test_wait *)w)->raises)
		return luaL_error(L, "push raised");
	lua_pushstring(L, "result");
	lua_pushinteger(L, 42);
	return 2;
}

static void cancel_test(struct wait *w)
{
	waits.cancelled++;
	if (open_wait == (struct test_wait *)w)
		open_wait = NULL;
}

static void free_test(struct wait *w)
{
	waits.freed++;
	free(w);
}

static const struct wait_ops test_ops = { push_test, cancel_test, free_test };

/* wait([ms [, how]]): how is "done" (complete before the await), "raise" (push raises) or nothing. */
static int l_wait(lua_State *L)
{
	const char *how = luaL_optstring(L, 2, "");
	struct test_wait *w = calloc(1, sizeof(*w));

	waits.made++;
	wait_init(&w->wait, &test_ops, "test.wait", luaL_optinteger(L, 1, -1));
	w->raises = !strcmp(how, "raise");
	if (*how)
		wait_done(&w->wait);
	else
		open_wait = w;
	if (collecting == AGGRESSIVE)
		lua_gc(L, LUA_GCCOLLECT);
	return fiber_await(L, &w->wait);
}

static int l_complete(lua_State *L)
{
	struct test_wait *w = open_wait;

	(void)L;
	open_wait = NULL;
	if (w)
		wait_done(&w->wait);
	return 0;
}

static int notes;
static char note_text[512];

static int l_note(lua_State *L)
{
	notes++;
	snprintf(note_text, sizeof(note_text), "%s", luaL_tolstring(L, 1, NULL));
	return 0;
}

static int open_test(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "wait", l_wait }, { "complete", l_complete }, { "note", l_note }, { NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}

/* ---- running ---- */

static const luaL_Reg modules[] = {
	{ "exed.fiber", luaopen_exed_fiber },
	{ "exed.timer", luaopen_exed_timer },
	{ "test", open_test },
	{ NULL, NULL },
};

/* How the last one ended. */
static struct {
	int n;
	bool ok, cancelled;
	int nresults;
	char text[512], trace[1024];
} ended;

static void on_end(void *arg, const struct fiber_end *end)
{
	(void)arg;
	ended.n++;
	ended.ok = end->ok;
	ended.cancelled = end->cancelled;
	ended.nresults = end->nresults;
	snprintf(ended.trace, sizeof(ended.trace), "%s", end->trace ? end->trace : "");
	if (!end->ok)
		snprintf(ended.text, sizeof(ended.text), "%s", fiber_end_text(end));
	else if (end->nresults)
		snprintf(ended.text, sizeof(ended.text), "%s",
			 luaL_tolstring(end->L, -end->nresults, NULL));
}

static void open_script(struct script_limits limits)
{
	memset(&waits, 0, sizeof(waits));
	memset(&ended, 0, sizeof(ended));
	notes = 0;
	open_wait = NULL;
	limits.by_turns = collecting == BY_TURNS;
	script = script_new(&rt, modules, &limits, NULL);
	assert_non_null(script);
	if (collecting == GENERATIONAL)
		lua_gc(script_state(script), LUA_GCGEN, 0, 0);
	else if (collecting == AGGRESSIVE)
		lua_gc(script_state(script), LUA_GCINC, 1, 1000, 6);
	assert_int_equal(luaL_dostring(script_state(script),
				       "fiber = require 'exed.fiber'\n"
				       "timer = require 'exed.timer'\n"
				       "test = require 'test'\n"), 0);
}

static struct fiber *start(const char *source)
{
	lua_State *L = script_state(script);
	struct err err;
	struct fiber *f;

	if (luaL_loadbuffer(L, source, strlen(source), "=chunk"))
		fail_msg("%s", lua_tostring(L, -1));
	f = fiber_start(script, L, 0, "test", on_end, NULL, &err);
	assert_non_null(f);
	return f;
}

static void close_script(void)
{
	script_free(script);
	script = NULL;
	assert_int_equal(waits.freed, waits.made);
}

static void finish(void)
{
	assert_true(support_turn_to(rt.loop, &ended.n, 1));
}

/* Runs a fiber to its end in a state of its own. */
static void run(const char *source)
{
	open_script((struct script_limits){ 0 });
	start(source);
	finish();
	close_script();
}

static void run_well(const char *source)
{
	run(source);
	if (!ended.ok)
		fail_msg("%s\n%s", ended.text, ended.trace);
}

static void expect_text(const char *part)
{
	if (!strstr(ended.text, part))
		fail_msg("no \"%s\" in: %s", part, ended.text);
}

static int setup(void **state)
{
	(void)state;
	fds = support_count_fds();
	rt.loop = loop_new(NULL);
	rt.share = ".";
	log_open("/dev/null", NULL, LOG_ERROR, NULL);
	return rt.loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	if (script)
		script_free(script);
	script = NULL;
	loop_free(rt.loop);
	log_close();
	return support_count_fds() != fds;
}

/* ---- waits ---- */

static void a_wait_gives_what_its_push_pushed(void **state)
{
	(void)state;
	run_well("fiber.spawn('other', function() test.complete() end)\n"
		 "local a, b = test.wait()\n"
		 "assert(a == 'result' and b == 42)\n"
		 "assert(select('#', test.wait(-1, 'done')) == 2)\n"
		 "assert(select('#', test.wait(1000, 'done')) == 2)\n");
	assert_int_equal(waits.pushed, 3);
	assert_int_equal(waits.cancelled, 0);
}

static void a_wait_over_its_limit_gives_nil_and_an_error_of_code_timeout(void **state)
{
	(void)state;
	run_well("local ok, err = test.wait(20)\n"
		 "assert(ok == nil and err.code == 'timeout', err.code)\n"
		 "assert(err.operation == 'test.wait')\n"
		 "assert(err.message:find('0.020', 1, true), err.message)\n"
		 "ok, err = test.wait(0)\n"
		 "assert(ok == nil and err.code == 'timeout')\n");
	assert_int_equal(waits.cancelled, 2);
	assert_int_equal(waits.pushed, 0);
}

static void a_push_that_raises_is_an_error_like_any_other(void **state)
{
	(void)state;
	run_well("for _ = 1, 3 do\n"
		 "  local ok, err = pcall(test.wait, -1, 'raise')\n"
		 "  assert(not ok and err:find 'push raised')\n"
		 "end\n"
		 "timer.sleep(0)\n"
		 "pcall(test.wait, -1, 'raise')\n");
	assert_int_equal(waits.made, 4);
}

static void waits_work_through_pcall_metamethods_iterators_and_close(void **state)
{
	(void)state;
	run_well("local s = setmetatable({}, { __index = function() timer.sleep(0.001) return 7 end,\n"
		 "  __close = function() timer.sleep(0.001) test.note 'closed' end })\n"
		 "do local x <close> = s; assert(x.y == 7) end\n"
		 "for v in function() return (test.wait(-1, 'done')) end do assert(v == 'result') break end\n"
		 "assert(pcall(function() timer.sleep(0.001) end))\n"
		 "assert(xpcall(function() timer.sleep(0.001) end, print))\n");
	assert_int_equal(notes, 1);
}

static void waiting_where_nothing_can_wait_raises_and_frees_the_wait(void **state)
{
	(void)state;
	run_well("local co = coroutine.create(function() test.wait() end)\n"
		 "local ok, err = coroutine.resume(co)\n"
		 "assert(not ok and err:find 'only a fiber', err)\n"
		 "ok, err = pcall(coroutine.wrap(function() return test.wait(-1, 'done') end))\n"
		 "assert(not ok and err:find 'only a fiber', err)\n"
		 "ok, err = pcall(table.sort, { 1, 2 }, function() test.wait() end)\n"
		 "assert(not ok and err:find 'cannot wait inside', err)\n"
		 "ok, err = pcall(string.gsub, 'a', 'a', function() test.wait(5) end)\n"
		 "assert(not ok and err:find 'cannot wait inside', err)\n"
		 "timer.sleep(0.03)\n");
	assert_int_equal(waits.freed, 4);
	assert_int_equal(waits.cancelled, 3);
	open_script((struct script_limits){ 0 });
	assert_int_not_equal(luaL_dostring(script_state(script), "test.wait()"), 0);
	lua_settop(script_state(script), 0);
	close_script();
}

static void a_fiber_that_yields_or_is_resumed_by_hand_gets_an_error(void **state)
{
	(void)state;
	run("coroutine.yield(1)");
	assert_false(ended.ok);
	expect_text("chunk:1: coroutine.yield outside of a coroutine");
	run_well("local gen = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b * 2 end)\n"
		 "assert(gen(1) == 2)\n"
		 "timer.sleep(0)\n"
		 "assert(gen(4) == 8)\n"
		 "assert(select(2, coroutine.resume(coroutine.create(function(...) return ... end), 5)) == 5)\n"
		 "assert(not pcall(coroutine.create, 1))\n");
	/* Who resumes another fiber harms that one only, and nothing crashes. */
	open_script((struct script_limits){ 0 });
	start("local co\n"
	      "local h = fiber.spawn('victim', function() co = coroutine.running() timer.sleep(0.02) end)\n"
	      "timer.sleep(0.001)\n"
	      "coroutine.resume(co, 1)\n"
	      "coroutine.close(co)\n"
	      "timer.sleep(0.05)\n"
	      "assert(not h:running())\n");
	finish();
	assert_true(ended.ok);
	close_script();
}

/* ---- cancel ---- */

static void cancel_raises_in_the_wait_and_runs_close_variables(void **state)
{
	struct fiber *f;

	(void)state;
	open_script((struct script_limits){ 0 });
	f = start("local guard <close> = setmetatable({}, { __close = function(_, err)\n"
		  "  test.note(err)\n"
		  "  local ok, again = pcall(timer.sleep, 0.01)\n"
		  "  assert(not ok and again:find 'cancelled: enough')\n"
		  "end })\n"
		  "test.wait(5000)\n"
		  "test.note 'not reached'\n");
	support_turn(rt.loop, 20);
	assert_int_equal(fiber_counts(script).waits, 1);
	fiber_cancel(f, "enough");
	fiber_cancel(f, "twice");
	finish();
	assert_false(ended.ok);
	assert_true(ended.cancelled);
	expect_text("cancelled: enough");
	assert_int_equal(notes, 1);
	assert_non_null(strstr(note_text, "cancelled: enough"));
	assert_int_equal(waits.cancelled, 1);
	assert_int_equal(fiber_counts(script).fibers, 0);
	close_script();
}

static void pcall_swallows_a_cancel_only_until_the_next_wait(void **state)
{
	(void)state;
	run("local h = fiber.spawn('stubborn', function()\n"
	    "  for i = 1, 5 do\n"
	    "    local ok, err = pcall(timer.sleep, 10)\n"
	    "    assert(not ok and err:find('cancelled: stop', 1, true), err)\n"
	    "  end\n"
	    "  test.note 'five'\n"
	    "end)\n"
	    "timer.sleep(0.005)\n"
	    "h:cancel 'stop'\n"
	    "timer.sleep(0.01)\n"
	    "assert(not h:running())\n");
	assert_true(ended.ok);
	assert_int_equal(notes, 1);
}

static void a_fiber_may_cancel_itself_and_one_that_did_not_start(void **state)
{
	(void)state;
	run("local h\n"
	    "h = fiber.spawn('self', function() h:cancel 'me' timer.sleep(1) test.note 'bad' end)\n"
	    "local early = fiber.spawn('early', function() timer.sleep(1) test.note 'bad' end)\n"
	    "early:cancel()\n"
	    "timer.sleep(0.02)\n"
	    "assert(not h:running() and not early:running())\n"
	    "h:cancel 'nothing happens'\n");
	assert_true(ended.ok);
	assert_int_equal(notes, 0);
}

static void cancel_in_the_turn_in_which_the_wait_is_done_or_late_wins(void **state)
{
	struct fiber *f;

	(void)state;
	open_script((struct script_limits){ 0 });
	f = start("test.wait()");
	support_turn(rt.loop, 10);
	wait_done(&open_wait->wait);
	fiber_cancel(f, "now");
	finish();
	assert_true(ended.cancelled && !ended.ok);
	assert_int_equal(waits.cancelled, 0);
	assert_int_equal(waits.pushed, 0);
	close_script();
}

/* ---- ends ---- */

static void results_and_errors_reach_on_end(void **state)
{
	(void)state;
	run("return 'a', nil, 3");
	assert_true(ended.ok);
	assert_int_equal(ended.nresults, 3);
	assert_string_equal(ended.text, "a");
	run("timer.sleep(0) return");
	assert_true(ended.ok);
	assert_int_equal(ended.nresults, 0);
	run("timer.sleep(0)\nlocal t = nil\nreturn t.x");
	assert_false(ended.ok);
	assert_int_equal(ended.nresults, 1);
	expect_text("chunk:3: attempt to index a nil value");
	assert_non_null(strstr(ended.trace, "stack traceback"));
	assert_non_null(strstr(ended.trace, "chunk:3"));
}

static void every_error_value_can_be_shown(void **state)
{
	(void)state;
	run("error({ code = 'x', message = 'the message' })");
	assert_string_equal(ended.text, "the message");
	run("error(nil)");
	expect_text("nil");
	run("error(setmetatable({}, { __tostring = function() error 'again' end }))");
	assert_false(ended.ok);
	assert_true(ended.text[0] != '\0');
	run("error(setmetatable({}, { __tostring = function() return 'shown' end }))");
	assert_string_equal(ended.text, "shown");
	run("local function f() return f() + 1 end return f()");
	expect_text("stack overflow");
}

static void a_fiber_that_dies_logs_its_trace_and_nothing_else_notices(void **state)
{
	char path[] = "/tmp/exed-fiber-XXXXXX", text[4096];
	int fd = mkstemp(path);
	ssize_t n;

	(void)state;
	assert_true(fd >= 0);
	log_open(path, NULL, LOG_ERROR, NULL);
	run_well("fiber.spawn('dying fiber', function() local x <close> = nil; error 'its reason' end)\n"
		 "fiber.spawn('odd', function() error(setmetatable({}, { __tostring = error })) end)\n"
		 "timer.sleep(0.02)\n"
		 "assert(fiber.count() == 1)\n");
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	unlink(path);
	log_close();
	assert_true(n > 0);
	text[n] = '\0';
	assert_non_null(strstr(text, "dying fiber"));
	assert_non_null(strstr(text, "its reason"));
	assert_non_null(strstr(text, "stack traceback"));
	assert_non_null(strstr(text, "odd"));
}

static void an_error_in_a_vital_fiber_stops_the_loop_a_cancel_does_not(void **state)
{
	(void)state;
	open_script((struct script_limits){ 0 });
	start("fiber.vital('well', function() end)\n"
	      "local f = fiber.vital('cancelled', function() timer.sleep(10) end)\n"
	      "timer.sleep(0.001)\n"
	      "f:cancel()\n"
	      "timer.sleep(0.001)\n"
	      "assert(not f:running())\n"
	      "assert(fiber.count() == 1)\n"
	      "fiber.vital('ill', function() error 'its reason' end)\n"
	      "timer.sleep(10)\n");
	assert_int_equal(loop_run(rt.loop), 1);
	script_end_fibers(script);
	close_script();
	assert_int_equal(ended.n, 1);
	expect_text("cancelled");
}

static void arguments_reach_the_fiber_however_many(void **state)
{
	(void)state;
	run_well("local got\n"
		 "local list = {}\n"
		 "for i = 1, 5000 do list[i] = i end\n"
		 "fiber.spawn('many', function(...) got = { ... } end, table.unpack(list))\n"
		 "timer.sleep(0.01)\n"
		 "assert(#got == 5000 and got[1] == 1 and got[5000] == 5000)\n");
}

/* Its stack is refused after the rest of it was given: that must not raise in a coroutine that does not run. */
static void a_fiber_whose_arguments_find_no_memory_is_refused(void **state)
{
	(void)state;
	open_script((struct script_limits){ .memory = 16 << 20 });
	start("local list, given = {}, {}\n"
	      "for i = 1, 50000 do list[i] = i end\n"
	      "local function nap() timer.sleep(60) end\n"
	      "local h, err\n"
	      "repeat\n"
	      "  given[#given + 1] = h\n"
	      "  h, err = fiber.spawn('many', nap, table.unpack(list))\n"
	      "until not h\n"
	      "assert(#given > 2 and err.code == 'memory', err.code)\n"
	      "for _, handle in ipairs(given) do handle:cancel() end\n");
	finish();
	if (!ended.ok)
		fail_msg("%s", ended.text);
	close_script();
}

static void a_fiber_over_the_limit_is_refused(void **state)
{
	(void)state;
	open_script((struct script_limits){ .fibers = 3 });
	start("local function nap() timer.sleep(0.01) end\n"
	      "assert(fiber.spawn('a', nap) and fiber.spawn('b', nap))\n"
	      "local h, err = fiber.spawn('c', nap)\n"
	      "assert(h == nil and err.code == 'limit', err.code)\n"
	      "timer.sleep(0.05)\n"
	      "assert(fiber.spawn('d', nap))\n"
	      "timer.sleep(0.05)\n");
	finish();
	assert_true(ended.ok);
	close_script();
}

static void ten_thousand_fibers_wait_at_once_and_all_end(void **state)
{
	int n = collecting == AGGRESSIVE ? 300 : 10000;
	char source[512];

	(void)state;
	snprintf(source, sizeof(source),
		 "local ended = 0\n"
		 "local go = fiber.event()\n"
		 "for i = 1, %d do\n"
		 "  assert(fiber.spawn('f', function() go:wait() timer.sleep(0.001 * (i %% 7)) ended = ended + 1 end))\n"
		 "end\n"
		 "timer.sleep(0.01)\n"
		 "assert(select(2, fiber.count()) == %d)\n"
		 "go:notify()\n"
		 "while ended < %d do timer.sleep(0.005) end\n"
		 "assert(fiber.count() == 1)\n", n, n, n);
	run_well(source);
}

static void events_wake_all_that_wait_and_know_time_limits(void **state)
{
	(void)state;
	run_well("local e, woken = fiber.event(), 0\n"
		 "for _ = 1, 3 do fiber.spawn('w', function() assert(e:wait(5) == true) woken = woken + 1 end) end\n"
		 "local ok, err = e:wait(0.01)\n"
		 "assert(ok == nil and err.code == 'timeout')\n"
		 "e:notify() e:notify()\n"
		 "timer.sleep(0.01)\n"
		 "assert(woken == 3)\n"
		 "local ok2, err2 = e:wait(0)\n" /* a notify is not kept */
		 "assert(ok2 == nil and err2.code == 'timeout')\n");
}

static void a_closed_handle_raises(void **state)
{
	(void)state;
	run_well("local kept\n"
		 "do local h <close> = fiber.spawn('x', function() end) kept = h end\n"
		 "assert(not pcall(kept.cancel, kept))\n"
		 "assert(not pcall(kept.running, kept))\n"
		 "timer.sleep(0)\n");
}

/* ---- the end of the state ---- */

static void a_state_that_ends_with_waiting_fibers_runs_their_close_and_leaves_nothing(void **state)
{
	(void)state;
	open_script((struct script_limits){ 0 });
	for (int i = 0; i < 5; i++)
		start("local x <close> = setmetatable({}, { __close = function() test.note 'closed'\n"
		      "  timer.sleep(1) end })\n"
		      "test.wait(60000)");
	start("fiber.event():wait()");
	start("fiber.event():wait(9)");
	start("while true do timer.sleep(100) end");
	support_turn(rt.loop, 20);
	start("test.note 'never starts'");
	start("return 1");
	assert_int_equal(fiber_counts(script).fibers, 10);
	script_end_fibers(script);
	assert_int_equal(fiber_counts(script).fibers, 0);
	assert_int_equal(fiber_counts(script).waits, 0);
	close_script();
	assert_int_equal(ended.n, 10);
	assert_true(ended.cancelled);
	assert_int_equal(notes, 5);
}

static void one_that_catches_everything_does_not_hold_up_the_end(void **state)
{
	(void)state;
	open_script((struct script_limits){ 0 });
	start("while true do pcall(timer.sleep, 1) end");
	support_turn(rt.loop, 10);
	script_end_fibers(script);
	close_script();
	assert_int_equal(ended.n, 1);
}

/* ---- the budget ---- */

static void run_bounded(const char *source)
{
	open_script((struct script_limits){ .budget = 300000 });
	start(source);
	finish();
	close_script();
}

static void a_fiber_over_its_budget_is_stopped_with_its_line(void **state)
{
	(void)state;
	run_bounded("local n = 0\n"
		    "local function spin()\n"
		    "  while true do n = n + 1 end\n"
		    "end\n"
		    "spin()\n");
	assert_false(ended.ok);
	expect_text("chunk:3: ran 300000 instructions without waiting");
	assert_non_null(strstr(ended.trace, "chunk:5"));
	run_bounded("while true do end");
	expect_text("chunk:1: ran");
}

static void the_budget_cannot_be_swallowed(void **state)
{
	static const char *const sources[] = {
		"while true do pcall(function() while true do end end) end",
		"local function again() pcall(again) while true do end end again()",
		"while true do xpcall(function() while true do end end, function() while true do end end) end",
		"while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
		"while true do pcall(coroutine.wrap(function() while true do end end)) end",
		"while true do coroutine.wrap(function() for _ = 1, 200 do end end)() end",
		"local function nest() pcall(coroutine.wrap(nest)) while true do end end nest()",
		"local x <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(sources) / sizeof(*sources); i++) {
		int64_t start_ms = loop_now_ms();

		run_bounded(sources[i]);
		if (ended.ok || !strstr(ended.text, "instructions without waiting"))
			fail_msg("%s: %s", sources[i], ended.text);
		assert_true(loop_now_ms() - start_ms < 10000);
	}
}

static void each_wait_gives_a_new_budget_and_others_keep_theirs(void **state)
{
	(void)state;
	run_bounded("fiber.spawn('bad', function() while true do end end)\n"
		    "for _ = 1, 10 do\n"
		    "  for _ = 1, 150000 do end\n"
		    "  timer.sleep(0)\n"
		    "end\n"
		    "local gen = coroutine.wrap(function() while true do coroutine.yield(1) end end)\n"
		    "for _ = 1, 5000 do gen() end\n");
	if (!ended.ok)
		fail_msg("%s", ended.text);
}

/* ---- memory ---- */

/* Less for the collector that never rests. */
#define MEMORY ((size_t)(collecting == AGGRESSIVE ? 512 : 2048) << 10)

static void a_fiber_that_eats_memory_ends_and_the_others_go_on(void **state)
{
	(void)state;
	open_script((struct script_limits){ .memory = MEMORY });
	start("local survived = false\n"
	      "fiber.spawn('other', function() timer.sleep(0.05) survived = #string.rep('x', 50000) end)\n"
	      "local h = fiber.spawn('eater', function()\n"
	      "  local t = {}\n"
	      "  while true do t[#t + 1] = ('x'):rep(1000) .. #t end\n"
	      "end)\n"
	      "timer.sleep(0.2)\n"
	      "assert(not h:running())\n"
	      "assert(survived == 50000)\n");
	finish();
	if (!ended.ok)
		fail_msg("%s", ended.text);
	lua_gc(script_state(script), LUA_GCCOLLECT);
	assert_true(script_memory(script) < MEMORY / 2);
	close_script();
}

static void memory_that_is_out_is_said_and_a_new_fiber_is_refused_not_fatal(void **state)
{
	lua_State *L;
	struct err err = { 0 };
	int started = 0;

	(void)state;
	open_script((struct script_limits){ .memory = MEMORY });
	L = script_state(script);
	/* Held for good, in ever smaller pieces until nothing more goes. */
	start("kept = {}\n"
	      "for _, size in ipairs { 100000, 1000, 10 } do\n"
	      "  while pcall(function() kept[#kept + 1] = ('y'):rep(size) .. #kept end) do end\n"
	      "end\n"
	      "for _ = 1, 1000000 do kept = { kept } end\n");
	finish();
	assert_false(ended.ok);
	assert_string_equal(ended.text, "not enough memory");
	lua_getglobal(L, "test");
	lua_getfield(L, -1, "complete");
	for (; started < 100000; started++) {
		lua_pushvalue(L, -1);
		if (!fiber_start(script, L, 0, "more", on_end, NULL, &err))
			break;
	}
	assert_int_equal(err.code, ERR_MEMORY);
	support_turn(rt.loop, 50);
	assert_int_equal(fiber_counts(script).fibers, 0);
	assert_int_equal(ended.n, 1 + started);
	lua_settop(L, 0);
	lua_pushnil(L);
	lua_setglobal(L, "kept");
	lua_gc(L, LUA_GCCOLLECT);
	assert_true(script_memory(script) < MEMORY / 2);
	close_script();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const char *const names[] = { "fiber", "fiber_by_turns", "fiber_generational", "fiber_aggressive" };
	const struct CMUnitTest tests[] = {
		TEST(a_wait_gives_what_its_push_pushed),
		TEST(a_wait_over_its_limit_gives_nil_and_an_error_of_code_timeout),
		TEST(a_push_that_raises_is_an_error_like_any_other),
		TEST(waits_work_through_pcall_metamethods_iterators_and_close),
		TEST(waiting_where_nothing_can_wait_raises_and_frees_the_wait),
		TEST(a_fiber_that_yields_or_is_resumed_by_hand_gets_an_error),
		TEST(cancel_raises_in_the_wait_and_runs_close_variables),
		TEST(pcall_swallows_a_cancel_only_until_the_next_wait),
		TEST(a_fiber_may_cancel_itself_and_one_that_did_not_start),
		TEST(cancel_in_the_turn_in_which_the_wait_is_done_or_late_wins),
		TEST(results_and_errors_reach_on_end),
		TEST(every_error_value_can_be_shown),
		TEST(a_fiber_that_dies_logs_its_trace_and_nothing_else_notices),
		TEST(an_error_in_a_vital_fiber_stops_the_loop_a_cancel_does_not),
		TEST(arguments_reach_the_fiber_however_many),
		TEST(a_fiber_whose_arguments_find_no_memory_is_refused),
		TEST(a_fiber_over_the_limit_is_refused),
		TEST(ten_thousand_fibers_wait_at_once_and_all_end),
		TEST(events_wake_all_that_wait_and_know_time_limits),
		TEST(a_closed_handle_raises),
		TEST(a_state_that_ends_with_waiting_fibers_runs_their_close_and_leaves_nothing),
		TEST(one_that_catches_everything_does_not_hold_up_the_end),
		TEST(a_fiber_over_its_budget_is_stopped_with_its_line),
		TEST(the_budget_cannot_be_swallowed),
		TEST(each_wait_gives_a_new_budget_and_others_keep_theirs),
		TEST(a_fiber_that_eats_memory_ends_and_the_others_go_on),
		TEST(memory_that_is_out_is_said_and_a_new_fiber_is_refused_not_fatal),
	};
	int failed = 0;

	for (collecting = AS_IT_IS; collecting <= AGGRESSIVE; collecting++)
		failed += cmocka_run_group_tests_name(names[collecting], tests, NULL, NULL);
	return failed;
}
