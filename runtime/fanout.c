/* SPDX-License-Identifier: MIT */
/* fanout: which host starts next, and where entries go.
 *
 * The node has places (hosts at once). Groups (jobs) that have something to start stand in a ring and
 * take places in turn; the fan-outs (slices) of a group do the same among themselves. So admission costs
 * the same however many hosts wait. A fan-out owns its targets until they start, its runs until they
 * finish, and ends when the sink has taken every entry. Loop thread. */
#include "fanout.h"

#include <stdlib.h>
#include <string.h>

#include "host_run.h"
#include "log.h"
#include "metrics.h"
#include "ring.h"

/* SKIPPED records made in one turn when a fan-out is cancelled. */
#define SKIP_BATCH 500
/* Hosts whose started bits are asked for in one call. */
#define MARK_BATCH 512
#define END_LIMIT_MS 12000
/* How often a host is asked about an op of a lost node. */
#define SETTLE_PAUSE_MS 2000
/* Hosts started in one turn: a local one costs a fork, about a millisecond of the loop. */
#define ADMIT_BATCH 32

struct group {
	struct ring_node node; /* in fanouts.ring or .urgent while it has something to start */
	struct group *next;
	char *name;
	unsigned window, running, nfanouts;
	bool urgent;
	struct ring ring; /* its fan-outs that have something to start */
};

struct fanouts {
	struct loop *loop;
	struct pool *pool;
	struct fanouts_options options;
	struct group *groups;
	struct fanout *first; /* all of them */
	struct ring ring, urgent;
	struct deferred admit;
	struct timer retry; /* looks again when permission had lapsed */
	_Atomic int64_t permit;
	_Atomic uint64_t lapses; /* how often permission was given anew after it had run out */
	unsigned running, nfanouts;
	bool ending; /* the program ends: none is started any more */
	uint64_t finished;
	size_t buffered;
};

/* Of a target whose op was started here: its host is asked until then how it ended, or what it left. */
struct started {
	int64_t settle_until_ms;
	struct host_left *left;
};

/* A target that waits to be started, or to be asked about again. There may be many: keep it small. */
struct target {
	unsigned index;
	struct ssh_host *host;
	struct started *started; /* NULL: it was not */
};

struct fanout {
	struct ring_node node; /* in its group's ring */
	struct fanout *next_fanout, **link;
	struct fanouts *all;
	struct group *group;
	struct fanout_plan plan;
	char *strings[6]; /* what the plan points to: command, cwd, group, op_id, fence_dir, forbid */
	char **env;
	void *input;
	struct verdict *verdicts;
	struct host_run_plan run_plan;
	struct target *targets;
	size_t ntargets, next; /* targets[next..] wait */
	size_t nlater;         /* targets[..nlater] are to be asked again when the timer says so */
	struct timer later;
	struct host_run *runs, **runs_last;
	unsigned running;
	struct host_run *reached, **reached_last; /* to be asked for in this turn */
	struct host_run *marking, **marking_last; /* asked for */
	struct entry *entries, **entries_last;    /* for the sink, this turn */
	size_t untaken;                           /* entries that the sink has not taken */
	struct deferred flush;
	const struct sink_ops *sink;
	void *sink_arg;
	const struct fanout_ops *ops;
	void *arg;
	char *cancel;
	bool skipped; /* by the cancel: what waits now was started before, and is settled */
	bool refused;
	bool abandoned, draining;
	int unrun_status; /* of hosts that a cancel kept from starting */
};

struct host_run_plan *fanout_run_plan(const struct host_run *run)
{
	return &run->fanout->run_plan;
}

/* ---- groups ---- */

static struct group *group_get(struct fanouts *fs, const struct fanout_plan *plan)
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

static void group_put(struct fanouts *fs, struct group *g)
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
static void update_rings(struct fanout *f)
{
	struct group *g = f->group;
	struct fanouts *fs = f->all;
	bool open = f->next < f->ntargets && (!f->cancel || f->skipped) && !f->abandoned &&
		    !f->draining;

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

/* It is not to be skipped: it may run, or have run. */
static bool is_started(const struct fanout *f, const struct target *t)
{
	return t->started || f->plan.settle_until_ms;
}

/* The run goes on with what the target knows. */
static void started_take(struct target *t, struct host_run *run)
{
	if (!t->started)
		return;
	run->settle_until_ms = t->started->settle_until_ms;
	run->left = t->started->left;
	free(t->started);
	t->started = NULL;
}

static void started_free(struct target *t)
{
	if (t->started)
		host_left_free(t->started->left);
	free(t->started);
}

static bool start_next(struct fanout *f)
{
	struct host_run *run = calloc(1, sizeof(*run));
	struct target *t = &f->targets[f->next];

	if (!run)
		return false;
	f->next++;
	run->refs = 1;
	run->fanout = f;
	run->index = t->index;
	run->host = t->host;
	run->again = is_started(f, t);
	run->settle_until_ms = f->plan.settle_until_ms;
	if (run->again)
		run->forbid = f->cancel ? f->cancel : f->plan.forbid;
	t->host = NULL;
	started_take(t, run);
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
	update_rings(f);
	host_run_start(run);
	return true;
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
		if (!start_next(f)) {
			timer_set(&fs->retry, 1000);
			return;
		}
	}
}

static void admit_soon(struct fanouts *fs)
{
	loop_defer(fs->loop, &fs->admit);
}

static void retry_admit(void *arg)
{
	admit_soon(arg);
}

void fanouts_permit(struct fanouts *fs, int64_t until_ms)
{
	/* Counted before it is given: who sees the new permission sees that there was none for a while. */
	if (loop_now_ms() >= atomic_load(&fs->permit))
		atomic_fetch_add(&fs->lapses, 1);
	atomic_store(&fs->permit, until_ms);
	admit_soon(fs);
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

void fanouts_end_all(struct fanouts *fs)
{
	int64_t limit = loop_now_ms() + END_LIMIT_MS;

	fs->ending = true;
	for (struct fanout *f = fs->first; f; f = f->next_fanout)
		fanout_abandon(f);
	while (fs->first && loop_now_ms() < limit) {
		timer_set(&fs->retry, 200); /* so that a turn ends */
		event_base_loop(loop_base(fs->loop), EVLOOP_ONCE);
	}
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

/* ---- the sink ---- */

static void flush_soon(struct fanout *f)
{
	loop_defer(f->all->loop, &f->flush);
}

static enum metric metric_of(int status)
{
	switch (status) {
	case STATUS_OK: return METRIC_RECORDS_OK;
	case STATUS_CHANGED: return METRIC_RECORDS_CHANGED;
	case STATUS_SKIPPED: return METRIC_RECORDS_SKIPPED;
	case STATUS_UNREACHABLE: return METRIC_RECORDS_UNREACHABLE;
	default: return METRIC_RECORDS_FAILED;
	}
}

static void queue_entries(struct fanout *f, struct entry *list)
{
	for (struct entry *e = list; e; e = e->next) {
		f->untaken++;
		f->all->buffered += e->len;
		metric_add(METRIC_SINK_ENTRIES, 1);
		metric_add(METRIC_SINK_BYTES, (int64_t)e->len);
		if (e->kind == ENTRY_RECORD)
			metric_add(metric_of(e->status), 1);
		*f->entries_last = e;
		f->entries_last = &e->next;
	}
	flush_soon(f);
}

/* They will not run here, so their bits must not be set. */
static void refuse_reached(struct fanout *f)
{
	while (f->reached) {
		struct host_run *run = f->reached;

		f->reached = run->next_marking;
		host_run_mark(run, false);
	}
	f->reached_last = &f->reached;
}

/* Asks for all that were reached in this turn, in calls of a bounded size and of one kind. */
static void flush_marks(struct fanout *f)
{
	unsigned indexes[MARK_BATCH];
	struct host_run *run = f->reached;

	if (f->abandoned)
		refuse_reached(f);
	if (!f->reached)
		return;
	*f->marking_last = f->reached;
	f->marking_last = f->reached_last;
	f->reached = NULL;
	f->reached_last = &f->reached;
	while (run) {
		bool again = run->again;
		size_t n = 0;

		for (; run && n < MARK_BATCH && run->again == again; run = run->next_marking) {
			run->lapses = atomic_load(&f->all->lapses);
			indexes[n++] = run->index;
		}
		f->sink->mark(f->sink_arg, indexes, n, again);
	}
}

/* An op that was started once has not been skipped, whoever stops asking about it. */
struct entry *fanout_unrun_record(const struct fanout *f, unsigned index, const char *reason)
{
	if (f->plan.settle_until_ms)
		return record_unknown(index, reason);
	return record_plain(index, f->unrun_status, reason);
}

static void ask_again(void *arg);

static void skip_waiting(struct fanout *f)
{
	size_t n = 0;

	for (; f->next < f->ntargets && n < SKIP_BATCH; n++) {
		struct target *t = &f->targets[f->next];
		struct entry *e;

		if (is_started(f, t) && !f->refused) {
			f->targets[f->nlater++] = *t;
			f->next++;
			continue;
		}
		e = fanout_unrun_record(f, t->index, f->cancel);
		if (!e)
			break;
		ssh_host_unref(t->host);
		t->host = NULL;
		f->next++;
		queue_entries(f, e);
	}
	if (f->next < f->ntargets)
		return;
	f->skipped = true;
	ask_again(f);
}

static void end_fanout(struct fanout *f)
{
	struct fanouts *fs = f->all;

	loop_undefer(fs->loop, &f->flush);
	ring_remove(&f->node);
	timer_deinit(&f->later);
	group_put(fs, f->group);
	ssh_settings_unref(f->run_plan.ssh);
	for (size_t i = 0; i < sizeof(f->strings) / sizeof(*f->strings); i++)
		free(f->strings[i]);
	for (char **e = f->env; e && *e; e++)
		free(*e);
	for (size_t i = f->next; i < f->ntargets; i++) {
		ssh_host_unref(f->targets[i].host);
		started_free(&f->targets[i]);
	}
	free(f->env);
	free(f->input);
	free(f->verdicts);
	free(f->targets);
	free(f->cancel);
	fs->nfanouts--;
	*f->link = f->next_fanout;
	if (f->next_fanout)
		f->next_fanout->link = f->link;
	if (f->ops)
		f->ops->end(f->arg, f->ntargets - f->next);
	free(f);
	admit_soon(fs);
}

static void flush(struct deferred *d)
{
	struct fanout *f = container_of(d, struct fanout, flush);
	struct entry *list;

	flush_marks(f);
	/* While the store is slow or away, a long cancel waits for it too. */
	if (f->cancel && !f->skipped && !f->abandoned && !f->draining && f->untaken < 4 * SKIP_BATCH)
		skip_waiting(f);
	list = f->entries;
	f->entries = NULL;
	f->entries_last = &f->entries;
	if (list && f->abandoned)
		fanout_taken(f, list);
	else if (list)
		f->sink->append(f->sink_arg, list);
	else if (!f->running && !f->untaken && !f->marking && !f->nlater &&
		 (f->next == f->ntargets || f->abandoned || f->draining))
		end_fanout(f);
}

void fanout_taken(struct fanout *f, struct entry *list)
{
	struct fanouts *fs = f->all;
	bool full = fs->buffered >= fs->options.max_buffered;

	while (list) {
		struct entry *next = list->next;

		f->untaken--;
		fs->buffered -= list->len;
		metric_add(METRIC_SINK_ENTRIES, -1);
		metric_add(METRIC_SINK_BYTES, -(int64_t)list->len);
		if (list->kind == ENTRY_PART)
			host_run_part_taken(list);
		else
			entry_free(list);
		list = next;
	}
	flush_soon(f);
	if (full)
		admit_soon(fs);
}

/* ---- what a run tells ---- */

void fanout_run_reached(struct host_run *run)
{
	struct fanout *f = run->fanout;

	run->next_marking = NULL;
	*f->reached_last = run;
	f->reached_last = &run->next_marking;
	flush_soon(f);
}

void fanout_marked(struct fanout *f, size_t n, bool ok)
{
	while (n-- && f->marking) {
		struct host_run *run = f->marking;

		f->marking = run->next_marking;
		if (!f->marking)
			f->marking_last = &f->marking;
		host_run_mark(run, ok);
	}
	flush_soon(f); /* it may have been all that the end waited for */
}

void fanout_run_parts(struct host_run *run, struct entry *part)
{
	queue_entries(run->fanout, part);
}

/* The record could not be made for want of memory; a short one may still be had. */
static struct entry *last_resort(const struct host_run *run)
{
	return record_plain(run->index, STATUS_FAILED, "not enough memory for its record");
}

/* Something of it may run on the host, or have run: it is never begun anew. */
static bool run_is_started(const struct host_run *run)
{
	return run->again || run->unsettled || run->left || run->settle_until_ms;
}

/* The run's target, to wait once more. False: there is no memory for what it knows. */
static bool target_again(struct target *t, struct host_run *run)
{
	struct started *started = NULL;

	if (run_is_started(run)) {
		started = calloc(1, sizeof(*started));
		if (!started)
			return false;
		*started = (struct started){ run->settle_until_ms, run->left };
		run->left = NULL;
	}
	*t = (struct target){ run->index, run->host ? ssh_host_ref(run->host) : NULL, started };
	return true;
}

static void ask_again(void *arg)
{
	struct fanout *f = arg;

	f->next -= f->nlater;
	memmove(&f->targets[f->next], f->targets, f->nlater * sizeof(*f->targets));
	f->nlater = 0;
	update_rings(f);
	flush_soon(f);
	admit_soon(f->all);
}

/* They wait in places that are free, since each of them had started. */
static void wait_for_later(struct fanout *f, struct host_run *run)
{
	if (!target_again(&f->targets[f->nlater], run)) {
		run->last = record_unknown(run->index, "not enough memory to ask the host again");
		return;
	}
	f->nlater++;
	if (f->draining || f->abandoned)
		ask_again(f);
	else if (!event_pending(f->later.ev, EV_TIMEOUT, NULL))
		timer_set(&f->later, SETTLE_PAUSE_MS);
}

/* Its place among the targets that wait is free: it has started, so `next` is past it. */
static void put_back(struct fanout *f, struct host_run *run)
{
	if (target_again(&f->targets[f->next - 1], run))
		f->next--;
	else
		run->last = record_unknown(run->index, "not enough memory to ask the host again");
}

void fanout_run_finished(struct host_run *run)
{
	struct fanout *f = run->fanout;

	run->ended = true;
	*run->link = run->next;
	if (run->next)
		run->next->link = run->link;
	else
		f->runs_last = run->link;
	f->running--;
	f->group->running--;
	f->all->running--;
	f->all->finished++;
	if (run->lapsed && f->skipped && !run_is_started(run))
		run->last = fanout_unrun_record(f, run->index, f->cancel);
	else if (run->lapsed)
		put_back(f, run);
	else if (run->unsettled)
		wait_for_later(f, run);
	else if (!run->last && !run->refused)
		run->last = last_resort(run);
	for (struct entry *e = run->last; e; e = e->next)
		e->run = e->kind == ENTRY_PART ? host_run_ref(run) : NULL;
	queue_entries(f, run->last);
	update_rings(f);
	admit_soon(f->all);
	host_run_unref(run);
}

/* ---- start and end ---- */

static char *copy_text(char **slot, const char *text, bool *ok)
{
	*slot = text ? strdup(text) : NULL;
	if (text && !*slot)
		*ok = false;
	return *slot;
}

static bool copy_env(struct fanout *f, const char *const *env)
{
	size_t n = 0;

	while (env && env[n])
		n++;
	if (!n) {
		f->plan.env = NULL;
		return true;
	}
	f->env = calloc(n + 1, sizeof(*f->env));
	for (size_t i = 0; f->env && i < n; i++)
		if (!(f->env[i] = strdup(env[i])))
			return false;
	f->plan.env = (const char *const *)f->env;
	return f->env != NULL;
}

static bool copy_block(void **to, const void *from, size_t n)
{
	*to = n ? malloc(n) : NULL;
	if (n && *to)
		memcpy(*to, from, n);
	return !n || *to;
}

static bool copy_plan(struct fanout *f, const struct fanout_plan *plan)
{
	bool ok = true;

	f->plan = *plan;
	f->plan.command = copy_text(&f->strings[0], plan->command, &ok);
	f->plan.cwd = copy_text(&f->strings[1], plan->cwd, &ok);
	f->plan.group = copy_text(&f->strings[2], plan->group, &ok);
	f->plan.op_id = copy_text(&f->strings[3], plan->op_id, &ok);
	f->plan.fence_dir = copy_text(&f->strings[4], plan->fence_dir, &ok);
	f->plan.forbid = copy_text(&f->strings[5], plan->forbid, &ok);
	ok = copy_env(f, plan->env) && ok;
	ok = copy_block(&f->input, plan->input, plan->input_len) && ok;
	ok = copy_block((void **)&f->verdicts, plan->rules.verdicts,
			plan->rules.nverdicts * sizeof(struct verdict)) && ok;
	f->plan.input = f->input;
	f->plan.rules.verdicts = f->verdicts;
	f->plan.rules.command = plan->command != NULL;
	return ok;
}

struct fanout *fanout_start(struct fanouts *fs, const struct fanout_plan *plan,
			    const struct ssh_settings *ssh, const struct fanout_target *targets,
			    size_t ntargets, const struct sink_ops *sink, void *sink_arg,
			    const struct fanout_ops *ops, void *arg, struct err *err)
{
	struct fanout *f;

	if (fs->ending) {
		err_set(err, ERR_CLOSED, "the program ends");
		return NULL;
	}
	f = calloc(1, sizeof(*f));
	if (!f || timer_init(&f->later, loop_base(fs->loop), ask_again, f) || !copy_plan(f, plan) ||
	    !(f->targets = calloc(ntargets + 1, sizeof(*f->targets))) ||
	    !(f->group = group_get(fs, plan)))
		goto fail;
	f->all = fs;
	f->ntargets = ntargets;
	for (size_t i = 0; i < ntargets; i++) {
		f->targets[i].index = targets[i].index;
		if (targets[i].host)
			f->targets[i].host = ssh_host_ref(targets[i].host);
	}
	f->runs_last = &f->runs;
	f->reached_last = &f->reached;
	f->marking_last = &f->marking;
	f->entries_last = &f->entries;
	f->flush.run = flush;
	f->unrun_status = STATUS_SKIPPED;
	f->sink = sink;
	f->sink_arg = sink_arg;
	f->ops = ops;
	f->arg = arg;
	f->run_plan.plan = &f->plan;
	f->run_plan.ssh = ssh ? ssh_settings_ref((struct ssh_settings *)ssh) : NULL;
	f->run_plan.marks = sink->mark != NULL;
	f->run_plan.loop = fs->loop;
	f->run_plan.permit = &fs->permit;
	f->run_plan.lapses = &fs->lapses;
	f->run_plan.output_cap = plan->rules.output_cap;
	fs->nfanouts++;
	f->next_fanout = fs->first;
	f->link = &fs->first;
	if (fs->first)
		fs->first->link = &f->next_fanout;
	fs->first = f;
	update_rings(f);
	flush_soon(f);
	admit_soon(fs);
	return f;
fail:
	err_set(err, ERR_MEMORY, "no memory for a fan-out to %zu hosts", ntargets);
	if (f) {
		for (size_t i = 0; i < sizeof(f->strings) / sizeof(*f->strings); i++)
			free(f->strings[i]);
		for (char **e = f->env; e && *e; e++)
			free(*e);
		free(f->env);
		free(f->input);
		free(f->verdicts);
		free(f->targets);
		timer_deinit(&f->later);
	}
	free(f);
	return NULL;
}

void fanout_cut_output(struct fanout *f, uint64_t bytes)
{
	if (bytes < f->run_plan.output_cap)
		atomic_store(&f->run_plan.output_cap, bytes);
}

void fanout_cancel(struct fanout *f, const char *reason)
{
	if (f->cancel || f->abandoned)
		return;
	f->cancel = strdup(reason);
	if (!f->cancel)
		return;
	ask_again(f);
	for (struct host_run *run = f->runs, *next; run; run = next) {
		next = run->next;
		host_run_cancel(run, f->cancel, false);
	}
	flush_soon(f);
}

void fanout_refuse(struct fanout *f, const char *reason)
{
	f->refused = true;
	f->unrun_status = STATUS_UNREACHABLE;
	fanout_cancel(f, reason);
}

void fanout_drain(struct fanout *f)
{
	f->draining = true;
	ask_again(f);
}

void fanout_abandon(struct fanout *f)
{
	f->abandoned = true;
	ask_again(f);
	for (struct host_run *run = f->runs, *next; run; run = next) {
		next = run->next;
		host_run_cancel(run, "another node owns it", true);
	}
	flush_soon(f);
}

size_t fanout_waiting(const struct fanout *f)
{
	return f->ntargets - f->next;
}

size_t fanout_list_running(const struct fanout *f, struct fanout_running *out, size_t max)
{
	size_t n = 0;

	for (const struct host_run *run = f->runs; run && n < max; run = run->next) {
		out[n].index = run->index;
		out[n].phase = host_run_phase(run);
		out[n].since_ms = run->since_ms;
		n++;
	}
	return n;
}
