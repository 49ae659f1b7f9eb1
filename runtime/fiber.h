/* SPDX-License-Identifier: MIT */
/* fiber: Lua coroutines on the loop thread, and what they wait for. Nothing but fiber.c calls
 * lua_resume or lua_yieldk. All of it: loop thread. */
#ifndef EXED_FIBER_H
#define EXED_FIBER_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "loop.h"

struct script; /* script.h: one Lua state with its loop, limits and modules */
struct fiber;

/* One thing that a fiber waits for; embedded at the start of a larger struct. Made by a binding with
 * wait_init, handed over by fiber_await. Life: wait_init -> fiber_await -> exactly one of: wait_done
 * by the one who completes it, its time limit, cancel of the fiber. Then push (unless cancelled),
 * then free. After wait_done the completer must not touch it. */
struct wait {
	const struct wait_ops *ops;
	struct fiber *fiber;     /* NULL until awaited */
	int64_t timeout_ms;      /* < 0: none (only where something else bounds it) */
	const char *operation;   /* for messages: "redis.call"; static text */
	/* used by fiber.c */
	struct deferred wake;
	struct timer timer;
	int state;
};

struct wait_ops {
	/* Pushes the results onto L and returns how many. */
	int (*push)(struct wait *w, lua_State *L);
	/* The limit passed or the fiber is ended: stop working on it; wait_done must not be called
	 * after this returns. */
	void (*cancel)(struct wait *w);
	/* Frees the struct. Called exactly once, after push or cancel. */
	void (*free)(struct wait *w);
};

void wait_init(struct wait *w, const struct wait_ops *ops, const char *operation,
	       int64_t timeout_ms);
/* It is complete: the fiber goes on at the end of this turn of the loop. May be called before
 * fiber_await too. Ends the completer's right to touch w. */
void wait_done(struct wait *w);

/* `return fiber_await(L, w)` from a C function: yields until w is done and returns what push pushed.
 * At its limit the results are nil and an err table with code "timeout"; when the fiber is cancelled
 * an error is raised, again at each later wait (`<close>` variables run; a cleanup in them that waits
 * gets the error too). Raises when not in a fiber (w is cancelled and freed then). */
int fiber_await(lua_State *L, struct wait *w);

/* Pushes nil and the err table {code, message, operation} and returns 2. */
int fiber_push_err(lua_State *L, const struct err *err, const char *operation);

/* How a fiber ended. On success the results are on top of L (nresults of them), else the error
 * value is on top and trace is its traceback. L is the fiber's; valid during the call only. */
struct fiber_end {
	bool ok;
	bool cancelled;
	lua_State *L;
	int nresults;
	const char *trace; /* NULL when there is none, e.g. memory was out */
};
/* The error as text: an err table's message, a string, or what tostring makes of it. Never raises;
 * borrowed from end->L. Only when ok is false. */
const char *fiber_end_text(const struct fiber_end *end);
typedef void fiber_end_fn(void *arg, const struct fiber_end *end);

/* Starts a fiber with the function and nargs arguments on top of L (popped). It first runs at the end
 * of this turn. `name` (copied) is used in logs. on_end may be NULL: an error is then logged with its
 * traceback. Returns NULL with *err when memory or the limit on fibers does not allow it. */
struct fiber *fiber_start(struct script *script, lua_State *L, int nargs, const char *name,
			  fiber_end_fn *on_end, void *arg, struct err *err);
/* Ends it: its wait is cancelled and raises `reason` (copied). on_end runs later, from the loop. */
void fiber_cancel(struct fiber *f, const char *reason);
/* Limits what it does from now on to so many ms: then what it waits for is given up, and that wait and
 * each later one raise an err table with code "timeout". ms < 0 ends the limit, also one that has
 * passed. */
void fiber_limit(struct fiber *f, int64_t ms);
struct fiber *fiber_current(lua_State *L); /* NULL on the main thread of the state */
const char *fiber_name(const struct fiber *f);
bool fiber_is_cancelled(const struct fiber *f);
/* Calls fn for each fiber, what began last first, with a line of text: its name, where its function stands, where
 * it is in it, and what it waits for. fn ends none of them. */
void fiber_each(struct script *script, void (*fn)(void *arg, const struct fiber *f, const char *text),
		void *arg);

/* The state's start and end (script.c). fiber_end_all cancels every fiber and runs each to its end. */
struct fibers;
struct fibers *fiber_state_new(struct script *script, unsigned max);
void fiber_end_all(struct fibers *fs);
void fiber_state_free(struct fibers *fs);

/* Counts for tests and metrics. */
struct fiber_counts { unsigned fibers, waits; };
struct fiber_counts fiber_counts(const struct script *script);

#endif
