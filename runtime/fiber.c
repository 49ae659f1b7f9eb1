/* SPDX-License-Identifier: MIT */
/* fiber: runs Lua coroutines and brings them back when what they wait for is done.
 *
 * A fiber is owned by its script's list and freed when it ends. Its coroutine's body is a protected
 * call inside the coroutine, so that an error unwinds there: `<close>` variables run, and may wait,
 * like any other code. A wait is owned by its fiber from fiber_await on. Loop thread. */
#include "fiber.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "budget.h"
#include "collector.h"
#include "dues.h"
#include "log.h"
#include "metrics.h"
#include "script.h"

/* What a fiber may still run when the program ends and it had no budget. */
#define END_BUDGET 1000000

/* Coroutines of fibers that have ended, kept for those that come: making one costs more than what many a
 * fiber does in it. Their stacks shrink with the next collections. */
#define KEPT_THREADS 512

/* A fiber is cancelled also when there is no memory to say why. */
static char no_reason[] = "memory is out";

enum wait_state { WAIT_INIT, WAIT_PENDING, WAIT_DONE, WAIT_TIMED_OUT };

struct fiber {
	struct fiber *next, **link;
	struct fibers *fibers;
	lua_State *L;
	int ref; /* of the coroutine in the registry */
	int nargs;
	bool failed;
	char *trace;
	char *cancel; /* reason; NULL when it is not cancelled */
	struct wait *wait;
	struct due limit;
	bool overdue;
	struct deferred start;
	fiber_end_fn *on_end;
	void *arg;
	char name[];
};

struct fibers {
	struct script *script;
	struct fiber *first;
	struct fiber *current;
	unsigned count, waits, max;
	int kept[KEPT_THREADS]; /* references in the registry */
	int nkept;
	struct dues limits;
};

/* ---- Lua's own yield ---- */

/* coroutine.yield: a fiber that yields by itself would never be brought back. */
static int l_yield(lua_State *L)
{
	if (fiber_current(L))
		return luaL_error(L, "coroutine.yield outside of a coroutine: a fiber waits by itself");
	return lua_yield(L, lua_gettop(L));
}

static int change_yield(lua_State *L)
{
	lua_getglobal(L, LUA_COLIBNAME);
	lua_pushcfunction(L, l_yield);
	lua_setfield(L, -2, "yield");
	return 0;
}

/* ---- one fiber ---- */

static int keep_trace(lua_State *L)
{
	struct fiber *f = script_fibers(script_of(L))->current;

	/* The first error is the cause; one from a `<close>` that follows is not. Where a fiber was when it was
	 * cancelled nobody asks, and many are at once when many clients leave. */
	if (f && !f->trace && !f->cancel) {
		const char *text;

		luaL_traceback(L, L, NULL, 1);
		text = lua_tostring(L, -1);
		f->trace = text ? strdup(text) : NULL;
		lua_pop(L, 1);
	}
	return 1;
}

static int body_end(lua_State *L, int status, lua_KContext ctx)
{
	((struct fiber *)ctx)->failed = status != LUA_OK && status != LUA_YIELD;
	return lua_gettop(L) - 1;
}

static int body(lua_State *L)
{
	lua_KContext ctx = (lua_KContext)script_fibers(script_of(L))->current;
	int nargs = lua_gettop(L) - 1;

	lua_pushcfunction(L, keep_trace);
	lua_insert(L, 1);
	return body_end(L, lua_pcallk(L, nargs, LUA_MULTRET, 1, ctx, body_end), ctx);
}

static void free_wait(struct fiber *f)
{
	struct wait *w = f->wait;

	if (!w)
		return;
	f->wait = NULL;
	f->fibers->waits--;
	metric_add(METRIC_WAITS, -1);
	timer_deinit(&w->timer);
	loop_undefer(script_loop(f->fibers->script), &w->wake);
	w->ops->free(w);
}

/* ---- limits ---- */

static void give_up_wait(struct fiber *f)
{
	struct wait *w = f->wait;

	if (!w)
		return;
	if (w->state == WAIT_PENDING)
		w->ops->cancel(w);
	w->state = WAIT_DONE;
	timer_stop(&w->timer);
	loop_defer(script_loop(f->fibers->script), &w->wake);
}

static void limit_passed(struct due *d)
{
	struct fiber *f = container_of(d, struct fiber, limit);

	f->overdue = true;
	give_up_wait(f);
}

void fiber_limit(struct fiber *f, int64_t ms)
{
	f->overdue = false;
	if (ms < 0)
		dues_end(&f->fibers->limits, &f->limit);
	else
		dues_set(&f->fibers->limits, &f->limit, ms);
}

static int raise_overdue(lua_State *L)
{
	const struct err err = { ERR_TIMEOUT, "the time limit has passed" };

	fiber_push_err(L, &err, "fiber.limit");
	return lua_error(L);
}

/* ---- the end of one ---- */

static void unlink_fiber(struct fiber *f)
{
	*f->link = f->next;
	if (f->next)
		f->next->link = f->link;
	f->fibers->count--;
	metric_add(METRIC_FIBERS, -1);
}

static int error_text(lua_State *L)
{
	if (lua_istable(L, 1) && lua_getfield(L, 1, "message") == LUA_TSTRING)
		return 1;
	luaL_tolstring(L, 1, NULL);
	return 1;
}

const char *fiber_end_text(const struct fiber_end *end)
{
	const char *text = NULL;

	/* Protected: __tostring may raise, and memory may be out. */
	if (lua_checkstack(end->L, LUA_MINSTACK)) {
		lua_pushcfunction(end->L, error_text);
		lua_pushvalue(end->L, -2);
		lua_pcall(end->L, 1, 1, 0);
		text = lua_type(end->L, -1) == LUA_TSTRING ? lua_tostring(end->L, -1) : NULL;
	}
	return text ? text : "an error that cannot be shown";
}

static void report(struct fiber *f, const struct fiber_end *end)
{
	if (f->on_end) {
		f->on_end(f->arg, end);
	} else if (!end->ok && !end->cancelled) {
		log_error("fiber", "%s: %s\n%s", f->name, fiber_end_text(end),
			  end->trace ? end->trace : "");
	}
}

static void end_fiber(struct fiber *f, int status, int nresults)
{
	lua_State *main = script_state(f->fibers->script);
	struct fiber_end end = {
		.ok = status == LUA_OK && !f->failed,
		.cancelled = f->cancel != NULL,
		.L = f->L,
		.nresults = nresults,
		.trace = f->trace,
	};

	free_wait(f);
	dues_end(&f->fibers->limits, &f->limit);
	unlink_fiber(f);
	report(f, &end);
	if (end.ok && f->fibers->nkept < KEPT_THREADS) {
		lua_settop(f->L, 0);
		f->fibers->kept[f->fibers->nkept++] = f->ref;
	} else {
		/* Only an error outside body's protection (memory) leaves anything to close. */
		lua_resetthread(f->L);
		luaL_unref(main, LUA_REGISTRYINDEX, f->ref);
	}
	if (f->cancel != no_reason)
		free(f->cancel);
	free(f->trace);
	free(f);
}

static void resume(struct fiber *f, int nargs)
{
	struct fibers *fs = f->fibers;
	struct fiber *outer = fs->current;
	int nresults = 0, status;

	fs->current = f;
	budget_begin(script_budget(fs->script), f->L);
	status = lua_resume(f->L, script_state(fs->script), nargs, &nresults);
	fs->current = outer;
	budget_end(script_budget(fs->script), outer ? outer->L : NULL);
	if (status != LUA_YIELD)
		end_fiber(f, status, nresults);
	/* The buffers of Lua's own library do not collect before they give up: without this what a
	 * fiber left behind would make others fail. */
	if (script_was_refused(fs->script))
		lua_gc(script_state(fs->script), LUA_GCCOLLECT);
	collector_look(script_collector(fs->script));
}

static void run_start(struct deferred *d)
{
	struct fiber *f = container_of(d, struct fiber, start);

	resume(f, f->nargs);
}

/* What raises when memory is out, for a protected call: fibers are started from callbacks too. */
static int make_thread(lua_State *L)
{
	struct fiber *f = lua_touserdata(L, 1);

	f->L = lua_newthread(L);
	/* Raised here: in a coroutine that does not run it would end the process. */
	if (!lua_checkstack(f->L, (int)lua_tointeger(L, 2) + LUA_MINSTACK))
		return luaL_error(L, "not enough memory");
	f->ref = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

/* Gives f a coroutine with room for nargs: one that is kept, else a new one. */
static bool take_thread(struct fibers *fs, lua_State *L, struct fiber *f, int nargs)
{
	if (fs->nkept && lua_checkstack(L, 1)) {
		f->ref = fs->kept[fs->nkept - 1];
		lua_rawgeti(L, LUA_REGISTRYINDEX, f->ref);
		f->L = lua_tothread(L, -1);
		lua_pop(L, 1);
		if (lua_checkstack(f->L, nargs + LUA_MINSTACK)) {
			fs->nkept--;
			return true;
		}
	}
	lua_pushcfunction(L, make_thread);
	lua_pushlightuserdata(L, f);
	lua_pushinteger(L, nargs);
	if (lua_pcall(L, 2, 0, 0) == LUA_OK)
		return true;
	lua_pop(L, 1);
	return false;
}

struct fiber *fiber_start(struct script *script, lua_State *L, int nargs, const char *name,
			  fiber_end_fn *on_end, void *arg, struct err *err)
{
	struct fibers *fs = script_fibers(script);
	size_t name_size = strlen(name) + 1;
	struct fiber *f = calloc(1, sizeof(*f) + name_size);

	if (!f) {
		err_set(err, ERR_MEMORY, "no memory for a fiber");
		goto fail;
	}
	memcpy(f->name, name, name_size);
	if (fs->max && fs->count >= fs->max) {
		err_set(err, ERR_LIMIT, "%u fibers run already", fs->count);
		goto fail;
	}
	if (!take_thread(fs, L, f, nargs)) {
		err_set(err, ERR_MEMORY, "no memory for a fiber");
		goto fail;
	}
	f->fibers = fs;
	f->on_end = on_end;
	f->arg = arg;
	f->nargs = nargs + 1;
	f->start.run = run_start;
	lua_pushcfunction(f->L, body);
	lua_xmove(L, f->L, nargs + 1);
	f->next = fs->first;
	f->link = &fs->first;
	if (f->next)
		f->next->link = &f->next;
	fs->first = f;
	fs->count++;
	metric_add(METRIC_FIBERS, 1);
	loop_defer(script_loop(script), &f->start);
	return f;
fail:
	free(f);
	lua_pop(L, nargs + 1);
	return NULL;
}

void fiber_cancel(struct fiber *f, const char *reason)
{
	if (f->cancel)
		return;
	f->cancel = strdup(reason);
	if (!f->cancel)
		f->cancel = no_reason;
	give_up_wait(f);
}

struct fiber *fiber_current(lua_State *L)
{
	struct fiber *f = script_fibers(script_of(L))->current;

	return f && f->L == L ? f : NULL;
}

const char *fiber_name(const struct fiber *f)
{
	return f->name;
}

/* ---- waits ---- */

static void wake(struct deferred *d)
{
	struct wait *w = container_of(d, struct wait, wake);

	resume(w->fiber, 0);
}

static void timed_out(void *arg)
{
	struct wait *w = arg;

	w->ops->cancel(w);
	w->state = WAIT_TIMED_OUT;
	loop_defer(script_loop(w->fiber->fibers->script), &w->wake);
}

void wait_init(struct wait *w, const struct wait_ops *ops, const char *operation,
	       int64_t timeout_ms)
{
	memset(w, 0, sizeof(*w));
	w->ops = ops;
	w->operation = operation;
	w->timeout_ms = timeout_ms;
	w->wake.run = wake;
}

void wait_done(struct wait *w)
{
	bool awaited = w->state == WAIT_PENDING;

	w->state = WAIT_DONE;
	if (!awaited)
		return;
	timer_stop(&w->timer);
	loop_defer(script_loop(w->fiber->fibers->script), &w->wake);
}

static int awaited(lua_State *L, int status, lua_KContext ctx)
{
	struct fiber *f = (struct fiber *)ctx;
	struct wait *w = f->wait;
	int n;

	(void)status;
	if (script_fibers(script_of(L))->current != f)
		return luaL_error(L, "coroutine.resume of a fiber");
	if (f->cancel) {
		free_wait(f);
		return luaL_error(L, "cancelled: %s", f->cancel);
	}
	if (f->overdue) {
		free_wait(f);
		return raise_overdue(L);
	}
	if (w->state == WAIT_TIMED_OUT) {
		struct err err;

		err_set(&err, ERR_TIMEOUT, "%s: no answer within %d.%03d s", w->operation,
			(int)(w->timeout_ms / 1000), (int)(w->timeout_ms % 1000));
		n = fiber_push_err(L, &err, w->operation);
	} else {
		/* If it raises, the wait is freed with the fiber's next wait or its end. */
		n = w->ops->push(w, L);
	}
	free_wait(f);
	return n;
}

/* A wait that never was: its completer is told to stop. Freed before the message is made, which may
 * raise itself. */
static void drop_wait(struct wait *w)
{
	if (w->state != WAIT_DONE)
		w->ops->cancel(w);
	w->ops->free(w);
}

static int refuse(lua_State *L, struct wait *w, const char *fmt, const char *why)
{
	drop_wait(w);
	return luaL_error(L, fmt, why);
}

int fiber_await(lua_State *L, struct wait *w)
{
	struct fiber *f = fiber_current(L);
	struct loop *loop;

	if (!f)
		return refuse(L, w, "this waits, and only a %s can wait here", "fiber");
	if (f->cancel)
		return refuse(L, w, "cancelled: %s", f->cancel);
	if (f->overdue) {
		drop_wait(w);
		return raise_overdue(L);
	}
	if (!lua_isyieldable(L))
		return refuse(L, w, "cannot wait inside a function that C calls (%s)", "sort, gsub");
	loop = script_loop(f->fibers->script);
	free_wait(f); /* one whose push raised */
	if (w->timeout_ms >= 0 && timer_init(&w->timer, loop_base(loop), timed_out, w))
		return refuse(L, w, "not enough %s", "memory");
	w->fiber = f;
	f->wait = w;
	f->fibers->waits++;
	metric_add(METRIC_WAITS, 1);
	if (w->state == WAIT_DONE) {
		loop_defer(loop, &w->wake);
	} else {
		w->state = WAIT_PENDING;
		if (w->timeout_ms >= 0)
			timer_set(&w->timer, w->timeout_ms);
	}
	return lua_yieldk(L, 0, (lua_KContext)f, awaited);
}

int fiber_push_err(lua_State *L, const struct err *err, const char *operation)
{
	lua_pushnil(L);
	lua_createtable(L, 0, 3);
	lua_pushstring(L, err_name(err->code));
	lua_setfield(L, -2, "code");
	lua_pushstring(L, err->message);
	lua_setfield(L, -2, "message");
	lua_pushstring(L, operation);
	lua_setfield(L, -2, "operation");
	return 2;
}

/* ---- the state's fibers ---- */

struct fibers *fiber_state_new(struct script *script, unsigned max)
{
	struct fibers *fs = calloc(1, sizeof(*fs));
	lua_State *L = script_state(script);

	lua_pushcfunction(L, change_yield);
	if (!fs || lua_pcall(L, 0, 0, 0) != LUA_OK) {
		free(fs);
		return NULL;
	}
	fs->script = script;
	fs->max = max;
	if (dues_init(&fs->limits, loop_base(script_loop(script)), limit_passed)) {
		free(fs);
		return NULL;
	}
	return fs;
}

void fiber_end_all(struct fibers *fs)
{
	/* One that catches every error and goes on would hold up the end for ever. */
	budget_need(script_budget(fs->script), END_BUDGET);
	while (fs->first) {
		struct fiber *f = fs->first;

		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): whoever ended left the list */
		fiber_cancel(f, "the program ends");
		loop_undefer(script_loop(fs->script), &f->start);
		if (f->wait) {
			resume(f, 0);
		} else { /* it never ran */
			lua_settop(f->L, 0);
			lua_pushnil(f->L);
			end_fiber(f, LUA_YIELD, 0);
		}
	}
}

void fiber_state_free(struct fibers *fs)
{
	dues_deinit(&fs->limits);
	free(fs);
}

bool fiber_is_cancelled(const struct fiber *f)
{
	return f->cancel != NULL;
}

/* Where the fiber's own function begins and where the innermost one that it called stands. One that has not
 * run yet has only the function, under its arguments. */
static void find_places(const struct fiber *f, lua_Debug *begin, lua_Debug *now)
{
	lua_Debug ar;

	*begin = *now = (lua_Debug){ .currentline = -1 };
	for (int level = 0; lua_getstack(f->L, level, &ar); level++) {
		if (!lua_getinfo(f->L, "Sl", &ar) || ar.currentline < 0)
			continue;
		if (now->currentline < 0)
			*now = ar;
		*begin = ar;
	}
	if (now->currentline < 0 && lua_gettop(f->L) >= f->nargs && lua_checkstack(f->L, 1)) {
		lua_pushvalue(f->L, -f->nargs);
		lua_getinfo(f->L, ">S", begin);
	}
}

static void describe(const struct fiber *f, char *out, size_t cap)
{
	lua_Debug begin, now;
	char where[100] = "";

	find_places(f, &begin, &now);
	if (now.currentline >= 0)
		snprintf(where, sizeof(where), ", now at %s:%d", now.short_src, now.currentline);
	snprintf(out, cap, "\"%s\" (%s:%d)%s, %s%s", f->name, begin.short_src, begin.linedefined, where,
		 f->wait ? "waits in " : "not waiting", f->wait ? f->wait->operation : "");
}

void fiber_each(struct script *script, void (*fn)(void *arg, const struct fiber *f, const char *text),
		void *arg)
{
	char text[400];

	for (const struct fiber *f = script_fibers(script)->first; f; f = f->next) {
		describe(f, text, sizeof(text));
		fn(arg, f, text);
	}
}

struct fiber_counts fiber_counts(const struct script *script)
{
	const struct fibers *fs = script_fibers((struct script *)script);

	return (struct fiber_counts){ .fibers = fs->count, .waits = fs->waits };
}
