/* SPDX-License-Identifier: MIT */
/* fanout_wait: the targets of a fan-out that wait: to be started, to be asked about again in a while, or to
 * be skipped. Those that were started are kept apart in what is known of them, and are never begun anew.
 * Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "fanout_private.h"
#include "loop.h"

/* SKIPPED records made in one turn when a fan-out is cancelled. */
#define SKIP_BATCH 500
/* How often a host is asked about an op of which it is not known how it ended. */
#define SETTLE_PAUSE_MS 2000

bool fanout_wait_is_started(const struct fanout *f, const struct target *t)
{
	return t->started || f->plan.settle_until_ms;
}

/* The run goes on with what the target has and knows. */
static void more_take(struct target *t, struct host_run *run)
{
	struct target_more *more = t->more;

	if (!more)
		return;
	run->own = more->own;
	if (t->started) {
		run->settle_until_ms = more->settle_until_ms;
		run->left = more->left;
	}
	free(more);
	t->more = NULL;
}

static void more_free(struct target *t)
{
	if (t->more) {
		host_own_free(t->more->own);
		host_left_free(t->more->left);
	}
	free(t->more);
	t->more = NULL;
}

void fanout_wait_set(struct target *to, const struct fanout_target *from)
{
	to->index = from->index;
	to->effect = from->effect;
	to->host = from->host ? ssh_host_ref(from->host) : NULL;
}

/* Room for one target more. Places of those that have started are used again, but for one for each that
 * runs: it may have to come back. */
static bool make_room(struct fanout *f)
{
	size_t keep = f->nlater + f->running, more = f->room * 2;
	struct target *targets;

	if (f->ntargets < f->room)
		return true;
	if (f->next > keep + f->room / 2) {
		memmove(&f->targets[keep], &f->targets[f->next],
			(f->ntargets - f->next) * sizeof(*f->targets));
		f->ntargets -= f->next - keep;
		f->next = keep;
		return true;
	}
	targets = realloc(f->targets, more * sizeof(*targets));
	if (!targets)
		return false;
	f->targets = targets;
	f->room = more;
	return true;
}

int fanout_add(struct fanout *f, const struct fanout_target *target, struct err *err)
{
	if (!f->open || f->cancel || f->abandoned || f->draining)
		return err_set(err, ERR_CLOSED, "the fan-out takes no more targets");
	if (!make_room(f))
		return err_set(err, ERR_MEMORY, "no memory for a target more");
	f->targets[f->ntargets] = (struct target){ 0 };
	fanout_wait_set(&f->targets[f->ntargets++], target);
	fanouts_update(f);
	fanouts_admit(f->all);
	return 0;
}

void fanout_close(struct fanout *f)
{
	f->open = false;
	fanout_flush_soon(f);
}

bool fanout_wait_start(struct fanout *f)
{
	struct host_run *run = calloc(1, sizeof(*run));
	struct target *t = &f->targets[f->next];

	if (!run)
		return false;
	run->spare = record_plain(t->index, STATUS_FAILED, "not enough memory for its record");
	if (!run->spare) {
		free(run);
		return false;
	}
	f->next++;
	run->refs = 1;
	run->fanout = f;
	run->index = t->index;
	run->effect = t->effect;
	run->host = t->host;
	run->again = fanout_wait_is_started(f, t);
	run->settle_until_ms = f->plan.settle_until_ms;
	if (run->again)
		run->forbid = f->cancel ? f->cancel : f->plan.forbid;
	t->host = NULL;
	more_take(t, run);
	if (f->plan.transport == FANOUT_SSH)
		run->io = pool_io(f->all->pool, ssh_host_hash(run->host));
	run->since_ms = loop_now_ms();
	run->lapses = atomic_load(&f->all->lapses);
	run->link = f->runs_last;
	*f->runs_last = run;
	f->runs_last = &run->next;
	f->running++;
	f->group->running++;
	f->all->running++;
	fanouts_update(f);
	host_run_start(run);
	return true;
}

/* Something of it may run on the host, or have run: it is never begun anew. */
static bool run_is_started(const struct host_run *run)
{
	return run->again || run->unsettled || run->left || run->settle_until_ms;
}

/* The run's target, to wait once more. False: there is no memory for what it knows. */
static bool target_again(struct target *t, struct host_run *run)
{
	struct target_more *more = NULL;
	bool started = run_is_started(run);

	if (started || run->own) {
		more = calloc(1, sizeof(*more));
		if (!more)
			return false;
		*more = (struct target_more){ run->own, run->settle_until_ms, run->left };
		run->own = NULL;
		run->left = NULL;
	}
	*t = (struct target){ run->index, run->effect, started,
			      run->host ? ssh_host_ref(run->host) : NULL, more };
	return true;
}

void fanout_wait_over(void *arg)
{
	struct fanout *f = arg;

	f->next -= f->nlater;
	memmove(&f->targets[f->next], f->targets, f->nlater * sizeof(*f->targets));
	f->nlater = 0;
	fanouts_update(f);
	fanout_flush_soon(f);
	fanouts_admit(f->all);
}

void fanout_wait_again(struct host_run *run)
{
	struct fanout *f = run->fanout;
	/* Places below `next` are free, since those targets had started. */
	struct target *free_place = &f->targets[run->lapsed ? f->next - 1 : f->nlater];

	if (run->lapsed && f->skipped && !run_is_started(run)) {
		run->last = fanout_unrun_record(f, run->index, f->cancel);
		return;
	}
	if (!target_again(free_place, run)) {
		run->last = record_unknown(run->index, "not enough memory to ask the host again");
		return;
	}
	if (run->lapsed) {
		f->next--;
		return;
	}
	f->nlater++;
	if (f->draining || f->abandoned)
		fanout_wait_over(f);
	else if (!event_pending(f->later.ev, EV_TIMEOUT, NULL))
		timer_set(&f->later, SETTLE_PAUSE_MS);
}

void fanout_wait_skip(struct fanout *f)
{
	size_t n = 0;

	/* While the store is slow or away, a long cancel waits for it too. */
	if (f->skipped || f->untaken >= 4 * SKIP_BATCH)
		return;
	for (; f->next < f->ntargets && n < SKIP_BATCH; n++) {
		struct target *t = &f->targets[f->next];
		struct entry *e;

		if (fanout_wait_is_started(f, t) && !f->refused) {
			f->targets[f->nlater++] = *t;
			f->next++;
			continue;
		}
		e = fanout_unrun_record(f, t->index, f->cancel);
		if (!e)
			break;
		e->effect = t->effect;
		ssh_host_unref(t->host);
		more_free(t);
		t->host = NULL;
		f->next++;
		fanout_queue(f, e);
	}
	if (f->next < f->ntargets)
		return;
	f->skipped = true;
	fanout_wait_over(f);
}

void fanout_wait_free(struct fanout *f)
{
	for (size_t i = f->next; i < f->ntargets; i++) {
		ssh_host_unref(f->targets[i].host);
		more_free(&f->targets[i]);
	}
}
