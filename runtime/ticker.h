/* SPDX-License-Identifier: MIT */
/* ticker: tells a thread that it has computed for a while. Costs nothing while the thread sleeps, and a signal
 * for each period of its CPU time else. */
#ifndef EXED_TICKER_H
#define EXED_TICKER_H

#include <stdbool.h>
#include <time.h>

struct ticker {
	void (*tick)(void *arg);
	void *arg;
	timer_t timer;
	bool on;
};

/* From now on tick(arg) is called on this thread whenever it has used so many milliseconds of CPU: by the
 * handler of SIGVTALRM, so it may do only what is safe there. System calls are restarted. The struct stays
 * in place until ticker_stop. False when the system has no such timer. */
bool ticker_start(struct ticker *t, int ms, void (*tick)(void *arg), void *arg);
void ticker_stop(struct ticker *t); /* one that is not on, or all zero, is nothing */

#endif
