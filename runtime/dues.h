/* SPDX-License-Identifier: MIT */
/* dues: time limits of many things on one timer. Nearly all of them end before they pass, so that setting and
 * ending one costs no timer. Loop thread. */
#ifndef EXED_DUES_H
#define EXED_DUES_H

#include <stdint.h>
#include <sys/queue.h>

#include "loop.h"

/* The limit of one thing; embedded in it, all zero at first. */
struct due {
	int64_t at_ms; /* loop_now_ms; 0: it has none */
	TAILQ_ENTRY(due) link;
};

TAILQ_HEAD(dues_list, due);

struct dues {
	struct dues_list list; /* what is due first comes first */
	struct timer timer;
	bool set; /* the timer */
	void (*passed)(struct due *d);
};

/* passed is called from the loop, once for a limit that has passed: it has ended then. -ERR_MEMORY. */
int dues_init(struct dues *ds, struct event_base *base, void (*passed)(struct due *d));
void dues_deinit(struct dues *ds); /* limits that have not ended are forgotten */

/* It passes in so many ms, whatever it was before. */
void dues_set(struct dues *ds, struct due *d, int64_t ms);
void dues_end(struct dues *ds, struct due *d); /* one that is not set is nothing */

#endif
