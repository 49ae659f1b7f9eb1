/* SPDX-License-Identifier: MIT */
/* fanouts: the node's places, and which group's host starts next. Loop thread; permission is read by the
 * I/O threads. */
#include <stdlib.h>
#include <string.h>

#include "fanout_private.h"
#include "loop.h"
#include "pool.h"

#define END_LIMIT_MS 12000
#define END_TURNS 10
/* Hosts started in one turn: a local one costs a fork, about a millisecond of the loop. */
#define ADMIT_BATCH 32

/* ---- groups ---- */

struct group *fanouts_group(struct fanouts *fs, const struct fanout_plan *plan)
{
	const char *name = plan->group ? plan->group : "";
	struct group *g = fs->groups;

	while (g && (strcmp(g->name, name) || g->urgent != plan->urgent))
		g = g->next;
	if (!g) {
		g = calloc(1, sizeof(*g));
		if (!g || !(g->name = strdup(name))) {
			free(g);
			return NULL;
		}
		ring_init(&g->ring);
		g->urgent = plan->urgent;
		g->next = fs->groups;
		fs->groups = g;
	}
	g->window = plan->group_window;
	g->nfanouts++;
	return g;
}

void fanouts_group_put(struct fanouts *fs, struct group *g)
{
	struct group **link = &fs->groups;

	if (--g->nfanouts)
		return;
	ring_remove(&g->node);
	while (*link != g)
		link = &(*link)->next;
	*link = g->next;
	free(g->name);
	free(g);
}

/* Puts the fan-out and its group in their rings, or takes them out, as they can or cannot start a host. */
void fanouts_update(struct fanout *f)
{
	struct group *g = f->group;
	struct fanouts *fs = f->all;
	/* What was started before is settled also while the job is paused. */
	bool open = f->next < f->ntargets && (!f->cancel || f->skipped) && !f->abandoned &&
		    !f->draining && (!f->paused || fanout_wait_is_started(f, &f->targets[f->next]));

	if (open && (!f->plan.window || f->running < f->plan.window))
		ring_add(&g->ring, &f->node);
	else
		ring_remove(&f->node);
	if (!ring_empty(&g->ring) && (!g->window || g->running < g->window))
		ring_add(g->urgent ? &fs->urgent : &fs->ring, &g->node);
	else
		ring_remove(&g->node);
}

/* ---- admission ---- */

static struct group *next_group(struct fanouts *fs)
{
	unsigned reserve = fs->options.max_hosts / 10;
	struct ring_node *node = NULL;

	if (fs->running < fs->options.max_hosts)
		node = ring_next(&fs->urgent);
	if (!node && fs->running < fs->options.max_hosts - reserve)
		node = ring_next(&fs->ring);
	return node ? container_of(node, struct group, node) : NULL;
}

static void admit(struct deferred *d)
{
	struct fanouts *fs = container_of(d, struct fanouts, admit);
	struct group *g;
	int n = 0;

	while (fs->buffered < fs->options.max_buffered && (g = next_group(fs))) {
		struct fanout *f;

		if (loop_now_ms() >= atomic_load(&fs->permit)) {
			timer_set(&fs->retry, 1000);
			return;
		}
		if (n++ == ADMIT_BATCH) {
			loop_defer(fs->loop, d);
			return;
		}
		f = container_of(ring_next(&g->ring), struct fanout, node);
		if (!fanout_wait_start(f)) {
			timer_set(&fs->retry, 1000);
			return;
		}
	}
}

void fanouts_admit(struct fanouts *fs)
{
	loop_defer(fs->loop, &fs->admit);
}

static void retry_admit(void *arg)
{
	fanouts_admit(arg);
}

void fanouts_permit(struct fanouts *fs, int64_t until_ms)
{
	/* Counted before it is given: who sees the new permission sees that there was none for a while. */
	if (loop_now_ms() >= atomic_load(&fs->permit))
		atomic_fetch_add(&fs->lapses, 1);
	atomic_store(&fs->permit, until_ms);
	fanouts_admit(fs);
}

struct fanouts *fanouts_new(struct loop *loop, struct pool *pool, const struct fanouts_options *o,
			    struct err *err)
{
	struct fanouts *fs = calloc(1, sizeof(*fs));

	if (!fs || timer_init(&fs->retry, loop_base(loop), retry_admit, fs)) {
		free(fs);
		err_set(err, ERR_MEMORY, "no memory for the fan-out");
		return NULL;
	}
	fs->loop = loop;
	fs->pool = pool;
	fs->options = *o;
	fs->admit.run = admit;
	fs->permit = INT64_MAX;
	ring_init(&fs->ring);
	ring_init(&fs->urgent);
	return fs;
}

void fanouts_end_by(struct fanouts *fs, int64_t by_ms)
{
	fs->end_by_ms = by_ms;
}

bool fanouts_end_all(struct fanouts *fs)
{
	int64_t limit = fs->end_by_ms ? fs->end_by_ms : loop_now_ms() + END_LIMIT_MS;

	fs->ending = true;
	for (struct fanout *f = fs->first; f; f = f->next_fanout)
		fanout_abandon(f);
	while (fs->first && loop_now_ms() < limit) {
		timer_set(&fs->retry, 200); /* so that a turn ends */
		event_base_loop(loop_base(fs->loop), EVLOOP_ONCE);
	}
	return !fs->first;
}

bool fanouts_end_rest(struct fanouts *fs)
{
	/* What came last is thrown away in one turn, the fan-out ends in the next. */
	for (int i = 0; i < END_TURNS && fs->first; i++)
		event_base_loop(loop_base(fs->loop), EVLOOP_NONBLOCK);
	return !fs->first;
}

void fanouts_free(struct fanouts *fs)
{
	if (!fs)
		return;
	loop_undefer(fs->loop, &fs->admit);
	timer_deinit(&fs->retry);
	free(fs);
}

struct fanouts_counts fanouts_counts(const struct fanouts *fs)
{
	struct fanouts_counts counts = { fs->nfanouts, fs->running, fs->options.max_hosts, 0,
					 fs->finished };

	for (const struct fanout *f = fs->first; f; f = f->next_fanout)
		counts.waiting += f->ntargets - f->next;
	return counts;
}
