/* SPDX-License-Identifier: MIT */
/* loop: a thin owner of the event base. A turn is: events that are ready, then deferred work, so that
 * what completes in one turn is handled once at its end. Loop thread. */
#include "loop.h"

#include <stdlib.h>
#include <time.h>

#include "left.h"
#include "metrics.h"

#define LAG_PERIOD_MS 100

struct loop {
	struct event_base *base;
	struct event *turn; /* runs the deferred queue */
	struct deferred *first, **last;
	bool running; /* inside run_deferred */
	struct timer lag_timer;
	int64_t lag_due_us;
	double worst_ms;
	int code;
	void *procs;
	void (*stop_procs)(void *state);
};

static int64_t clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t loop_now_ms(void)
{
	return clock_us(CLOCK_BOOTTIME) / 1000;
}

int64_t loop_tick_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

int64_t loop_cpu_us(void)
{
	return clock_us(CLOCK_THREAD_CPUTIME_ID);
}

int64_t loop_wall_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

static void unlink_deferred(struct deferred *d)
{
	*d->link = d->next;
	if (d->next)
		d->next->link = d->link;
	d->next = NULL;
	d->link = NULL;
}

/* Only what is queued at the start: what that queues in turn comes after the next look at I/O. */
static void run_deferred(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;
	struct deferred *batch = loop->first;
	const struct timeval now = { 0, 0 };

	(void)fd;
	(void)what;
	loop->first = NULL;
	loop->last = &loop->first;
	if (batch)
		batch->link = &batch;
	loop->running = true;
	while (batch) {
		struct deferred *d = batch;

		unlink_deferred(d);
		d->run(d);
	}
	loop->running = false;
	/* The next turn; this one, when libevent has no memory for a timer. */
	if (loop->first && event_add(loop->turn, &now))
		event_active(loop->turn, EV_TIMEOUT, 0);
}

void loop_defer(struct loop *loop, struct deferred *d)
{
	if (d->link)
		return;
	if (!loop->first && !loop->running)
		event_active(loop->turn, EV_TIMEOUT, 0);
	d->next = NULL;
	d->link = loop->last;
	*loop->last = d;
	loop->last = &d->next;
}

void loop_undefer(struct loop *loop, struct deferred *d)
{
	if (!d->link)
		return;
	if (loop->last == &d->next)
		loop->last = d->link;
	unlink_deferred(d);
}

/* Lag is how late a regular timer comes: all that a turn does stands in its way. */
static void measure_lag(void *arg)
{
	struct loop *loop = arg;
	int64_t now = clock_us(CLOCK_MONOTONIC);
	double late = (double)(now - loop->lag_due_us) / 1000;

	metric_observe(METRIC_TIME_LOOP_LAG, now - loop->lag_due_us);
	if (late > loop->worst_ms)
		loop->worst_ms = late;
	loop->lag_due_us = now + LAG_PERIOD_MS * 1000;
	timer_set(&loop->lag_timer, LAG_PERIOD_MS);
}

double loop_lag_ms(struct loop *loop)
{
	double worst = loop->worst_ms;

	loop->worst_ms = 0;
	return worst;
}

struct loop *loop_new(struct err *err)
{
	struct event_config *config = event_config_new();
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop || !config)
		goto fail;
	loop->last = &loop->first;
	/* One thread uses it; the queue's eventfd is how others reach it. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	/* A limit that is set late in a long turn counts from then, not from the turn's start. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
	loop->base = event_base_new_with_config(config);
	if (!loop->base)
		goto fail;
	loop->turn = event_new(loop->base, -1, 0, run_deferred, loop);
	if (!loop->turn || timer_init(&loop->lag_timer, loop->base, measure_lag, loop))
		goto fail;
	event_config_free(config);
	return loop;
fail:
	if (config)
		event_config_free(config);
	loop_free(loop);
	err_set(err, ERR_MEMORY, "cannot make the event loop");
	return NULL;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->procs)
		loop->stop_procs(loop->procs);
	timer_deinit(&loop->lag_timer);
	if (loop->turn)
		event_free(loop->turn);
	if (loop->first)
		left_tell("deferred work left on the loop");
	if (loop->base) {
		left_events(loop->base, "the loop");
		event_base_free(loop->base);
	}
	free(loop);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

void loop_set_procs(struct loop *loop, void *state, void (*stop)(void *state))
{
	loop->procs = state;
	loop->stop_procs = stop;
}

void *loop_procs(struct loop *loop)
{
	return loop->procs;
}

int loop_run(struct loop *loop)
{
	int64_t cpu, now;
	int rc;

	/* The first turn loads the program: nobody waits for anything yet. */
	rc = event_base_loop(loop->base, EVLOOP_ONCE);
	cpu = loop_cpu_us();
	loop->lag_due_us = clock_us(CLOCK_MONOTONIC) + LAG_PERIOD_MS * 1000;
	timer_set(&loop->lag_timer, LAG_PERIOD_MS);
	while (!rc && !event_base_got_break(loop->base)) {
		rc = event_base_loop(loop->base, EVLOOP_ONCE);
		/* Unlike lag, the thread's own time says the same on a busy machine. */
		now = loop_cpu_us();
		metric_observe(METRIC_TIME_LOOP_TURN, now - cpu);
		cpu = now;
	}
	timer_stop(&loop->lag_timer);
	return loop->code;
}

void loop_stop(struct loop *loop, int code)
{
	loop->code = code;
	event_base_loopbreak(loop->base);
}

static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
	struct timer *t = arg;

	(void)fd;
	(void)what;
	t->fn(t->arg);
}

int timer_init(struct timer *t, struct event_base *base, void (*fn)(void *), void *arg)
{
	t->fn = fn;
	t->arg = arg;
	t->ev = event_new(base, -1, 0, timer_fired, t);
	return t->ev ? 0 : -ERR_MEMORY;
}

void timer_set(struct timer *t, int64_t ms)
{
	struct timeval tv = { ms > 0 ? ms / 1000 : 0, ms > 0 ? ms % 1000 * 1000 : 0 };

	/* Without memory for it: early is better than never. */
	if (event_add(t->ev, &tv))
		event_active(t->ev, EV_TIMEOUT, 0);
}

void timer_stop(struct timer *t)
{
	if (t->ev)
		event_del(t->ev);
}

void timer_deinit(struct timer *t)
{
	if (t->ev)
		event_free(t->ev);
	t->ev = NULL;
}
