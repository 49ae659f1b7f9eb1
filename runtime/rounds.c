/* SPDX-License-Identifier: MIT */
/* rounds: one timer for all who wait, set by the first of them. Its owner frees it behind them. Loop thread. */
#include "rounds.h"

static void let_go(struct rounds *r)
{
	struct ring_node *node;

	while ((node = ring_next(&r->waiting))) {
		struct round_turn *t = container_of(node, struct round_turn, node);

		ring_remove(node);
		t->come = true;
		loop_defer(t->loop, t->then);
	}
}

static void on_round(void *arg)
{
	struct rounds *r = arg;

	r->began_ms = loop_now_ms();
	let_go(r);
}

int rounds_init(struct rounds *r, struct event_base *base, int64_t ms)
{
	*r = (struct rounds){ .ms = ms };
	ring_init(&r->waiting);
	return timer_init(&r->timer, base, on_round, r);
}

void rounds_deinit(struct rounds *r)
{
	let_go(r);
	timer_deinit(&r->timer);
}

void round_turn_init(struct round_turn *t, struct loop *loop, struct deferred *then)
{
	*t = (struct round_turn){ .loop = loop, .then = then };
}

void round_turn_deinit(struct round_turn *t)
{
	ring_remove(&t->node);
}

bool rounds_go(struct rounds *r, struct round_turn *t)
{
	int64_t left = r->began_ms + r->ms - loop_now_ms();
	bool quiet = ring_empty(&r->waiting) && left <= 0;

	if (t->come || quiet) {
		if (quiet)
			r->began_ms = loop_now_ms();
		t->come = false;
		return true;
	}
	if (ring_empty(&r->waiting))
		timer_set(&r->timer, left);
	ring_add(&r->waiting, &t->node);
	return false;
}
