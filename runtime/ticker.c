/* SPDX-License-Identifier: MIT */
/* ticker: a timer on the thread's CPU clock, whose signal goes to that thread and carries the ticker. The
 * handler is installed once for all and never taken away. Any thread. */
#include "ticker.h"

#include <signal.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id /* older headers have no name for it */
#define sigev_notify_thread_id _sigev_un._tid
#endif

static void on_signal(int number, siginfo_t *info, void *context)
{
	struct ticker *t = info->si_value.sival_ptr;

	(void)number;
	(void)context;
	/* Somebody else may send the signal, too. */
	if (info->si_code == SI_TIMER && t)
		t->tick(t->arg);
}

bool ticker_start(struct ticker *t, int ms, void (*tick)(void *arg), void *arg)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGVTALRM };
	struct itimerspec every = { .it_value = { ms / 1000, ms % 1000 * 1000000 } };

	every.it_interval = every.it_value;
	event.sigev_value.sival_ptr = t;
	event.sigev_notify_thread_id = gettid();
	t->tick = tick;
	t->arg = arg;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGVTALRM, &action, NULL) ||
	    timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &t->timer))
		return false;
	t->on = !timer_settime(t->timer, 0, &every, NULL);
	if (!t->on)
		timer_delete(t->timer);
	return t->on;
}

void ticker_stop(struct ticker *t)
{
	if (t->on)
		timer_delete(t->timer);
	t->on = false;
}
