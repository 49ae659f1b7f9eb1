/* SPDX-License-Identifier: MIT */
/* rounds: lets those who each have a little to do, do it together. One who comes while it is quiet goes at
 * once, and with it a round begins; who comes while that lasts waits for the next one, and then all who wait
 * go, one behind the other. Loop thread. */
#ifndef EXED_ROUNDS_H
#define EXED_ROUNDS_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "ring.h"

struct rounds {
	struct timer timer;
	struct ring waiting;
	int64_t ms, began_ms;
};

struct round_turn {
	struct ring_node node;
	bool come; /* it waited, and may go */
	struct loop *loop;
	struct deferred *then;
};

/* Rounds of ms milliseconds. -ERR_MEMORY */
int rounds_init(struct rounds *r, struct event_base *base, int64_t ms);
void rounds_deinit(struct rounds *r); /* who still waits may go; nobody asks any more */
/* What is to be run on the loop when a turn has come. Both are borrowed. */
void round_turn_init(struct round_turn *t, struct loop *loop, struct deferred *then);
void round_turn_deinit(struct round_turn *t);
/* Whether t may go now. If not, what it has is run when it may, to ask again. */
bool rounds_go(struct rounds *r, struct round_turn *t);

#endif
