/* SPDX-License-Identifier: MIT */
/* loop: the loop thread's event base, timers, work deferred to the end of a turn, and signals.
 * There is one struct loop in a process, made in main; everything that runs on it is called "the
 * loop thread". Nothing on it blocks. */
#ifndef EXED_LOOP_H
#define EXED_LOOP_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* The struct that has `ptr` as its member: how a message, timer or deferred work finds its owner. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

struct loop;

/* Work for the end of this turn of the loop: run once, after the events that are ready now. The
 * struct is the caller's and may be queued again from its own run. */
struct deferred {
	struct deferred *next, **link; /* loop.c's; link is NULL while it is not queued */
	void (*run)(struct deferred *d);
};

struct loop *loop_new(struct err *err);
void loop_free(struct loop *loop);
/* Until loop_stop; returns the code given there. Turns are measured from the second on. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop, int code);
struct event_base *loop_base(struct loop *loop);

/* Queues d for the end of this turn; nothing when it is queued already. Loop thread. */
void loop_defer(struct loop *loop, struct deferred *d);
void loop_undefer(struct loop *loop, struct deferred *d); /* takes it out again, if queued */

/* Milliseconds of CLOCK_BOOTTIME: monotonic, counts time asleep. Any thread. */
int64_t loop_now_ms(void);
/* Microseconds of CLOCK_MONOTONIC: for measuring how long something takes. Any thread. */
int64_t loop_tick_us(void);
/* Microseconds of CPU that the calling thread has used. Any thread. */
int64_t loop_cpu_us(void);
/* Microseconds since the Unix epoch, wall clock: for stamps only. Any thread. */
int64_t loop_wall_us(void);
/* The longest time in ms that one turn has taken since the last call (the loop-lag gauge). */
double loop_lag_ms(struct loop *loop);

/* One slot of state for proc.c, set at its first use; `stop` is called by loop_free while the base is
 * still there. */
void loop_set_procs(struct loop *loop, void *state, void (*stop)(void *state));
void *loop_procs(struct loop *loop);

/* A timer on the loop thread, in place. */
struct timer {
	struct event *ev;
	void (*fn)(void *arg);
	void *arg;
};
int timer_init(struct timer *t, struct event_base *base, void (*fn)(void *), void *arg);
void timer_set(struct timer *t, int64_t ms); /* once, ms from now; replaces an earlier one */
void timer_stop(struct timer *t);
void timer_deinit(struct timer *t);

#endif
