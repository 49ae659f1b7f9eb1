/* SPDX-License-Identifier: MIT */
/* fanout: one plan on many hosts, and where entries go. A fan-out owns its targets until they start
 * (fanout_wait.c), its runs until they finish, and ends when the sink has taken every entry. Which
 * fan-out's host starts next is decided in fanouts.c. Loop thread. */
#include "fanout.h"

#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "fanout_private.h"
#include "log.h"
#include "metrics.h"

/* Hosts whose started bits are asked for in one call. */
#define MARK_BATCH 512

struct host_run_plan *fanout_run_plan(const struct host_run *run)
{
	return &run->fanout->run_plan;
}

/* ---- the sink ---- */

void fanout_flush_soon(struct fanout *f)
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

void fanout_queue(struct fanout *f, struct entry *list)
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
	fanout_flush_soon(f);
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
	struct fanout_mark marks[MARK_BATCH];
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
			marks[n++] = (struct fanout_mark){ run->index, run->effect };
		}
		f->sink->mark(f->sink_arg, marks, n, again);
	}
}

/* An op that was started once has not been skipped, whoever stops asking about it. */
struct entry *fanout_unrun_record(const struct fanout *f, unsigned index, const char *reason)
{
	if (f->plan.settle_until_ms)
		return record_unknown(index, reason);
	return record_plain(index, f->unrun_status, reason);
}

static void end_fanout(struct fanout *f)
{
	struct fanouts *fs = f->all;

	loop_undefer(fs->loop, &f->flush);
	ring_remove(&f->node);
	timer_deinit(&f->later);
	fanouts_group_put(fs, f->group);
	ssh_settings_unref(f->run_plan.ssh);
	for (size_t i = 0; i < sizeof(f->strings) / sizeof(*f->strings); i++)
		free(f->strings[i]);
	for (char **e = f->env; e && *e; e++)
		free(*e);
	fanout_wait_free(f);
	free(f->env);
	free(f->input);
	content_unref(f->plan.content);
	free(f->verdicts);
	mask_free(f->mask);
	free(f->targets);
	free(f->cancel);
	fs->nfanouts--;
	*f->link = f->next_fanout;
	if (f->next_fanout)
		f->next_fanout->link = f->link;
	if (f->ops)
		f->ops->end(f->arg, f->ntargets - f->next);
	free(f);
	fanouts_admit(fs);
}

static void flush(struct deferred *d)
{
	struct fanout *f = container_of(d, struct fanout, flush);
	struct entry *list;

	flush_marks(f);
	if (f->cancel && !f->abandoned && !f->draining)
		fanout_wait_skip(f);
	list = f->entries;
	f->entries = NULL;
	f->entries_last = &f->entries;
	if (list && f->abandoned)
		fanout_taken(f, list);
	else if (list)
		f->sink->append(f->sink_arg, list);
	else if (!f->running && !f->untaken && !f->marking && !f->nlater &&
		 ((f->next == f->ntargets && !f->open) || f->abandoned || f->draining))
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
		else if (f->abandoned || !f->ops || !f->ops->taken || !f->ops->taken(f->arg, list))
			entry_free(list);
		list = next;
	}
	fanout_flush_soon(f);
	if (full)
		fanouts_admit(fs);
}

/* ---- what a run tells ---- */

void fanout_run_reached(struct host_run *run)
{
	struct fanout *f = run->fanout;

	run->next_marking = NULL;
	*f->reached_last = run;
	f->reached_last = &run->next_marking;
	fanout_flush_soon(f);
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
	fanout_flush_soon(f); /* it may have been all that the end waited for */
}

void fanout_run_parts(struct host_run *run, struct entry *part)
{
	part->effect = run->effect;
	fanout_queue(run->fanout, part);
}

/* Where the record could not be made, for want of memory, the spare one takes its place. Parts alone would
 * leave the host without one. */
static void complete(struct host_run *run)
{
	struct entry **e = &run->last;

	while (*e && (*e)->kind != ENTRY_RECORD)
		e = &(*e)->next;
	if (*e)
		return;
	*e = run->spare;
	run->spare = NULL;
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
	f->sent += run->sent;
	f->group->running--;
	f->all->running--;
	f->all->finished++;
	if (run->lapsed || run->unsettled)
		fanout_wait_again(run);
	else if (!run->refused)
		complete(run);
	for (struct entry *e = run->last; e; e = e->next) {
		e->effect = run->effect;
		e->run = e->kind == ENTRY_PART ? host_run_ref(run) : NULL;
	}
	fanout_queue(f, run->last);
	fanouts_update(f);
	fanouts_admit(f->all);
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
	f->plan.before = copy_text(&f->strings[6], plan->before, &ok);
	f->plan.tidy = copy_text(&f->strings[7], plan->tidy, &ok);
	f->plan.content = plan->content ? content_ref(plan->content) : NULL;
	ok = copy_env(f, plan->env) && ok;
	ok = copy_block(&f->input, plan->input, plan->input_len) && ok;
	ok = copy_block((void **)&f->verdicts, plan->rules.verdicts,
			plan->rules.nverdicts * sizeof(struct verdict)) && ok;
	f->plan.input = f->input;
	f->plan.rules.verdicts = f->verdicts;
	f->plan.rules.command = plan->command != NULL;
	f->mask = plan->nhidden ? mask_new(plan->hidden, plan->nhidden) : NULL;
	f->plan.rules.mask = f->mask;
	f->plan.hidden = NULL;
	return ok && (f->mask || !plan->nhidden);
}

static void free_own(const struct fanout_target *targets, size_t n)
{
	for (size_t i = 0; i < n; i++)
		host_own_free(targets[i].own);
}

/* False: no memory, and nothing is taken. */
static bool take_own(struct fanout *f, const struct fanout_target *targets, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!targets[i].own)
			continue;
		f->targets[i].more = calloc(1, sizeof(struct target_more));
		if (!f->targets[i].more)
			return false;
	}
	for (size_t i = 0; i < n; i++)
		if (targets[i].own)
			f->targets[i].more->own = targets[i].own;
	return true;
}

struct fanout *fanout_start(struct fanouts *fs, const struct fanout_plan *plan,
			    const struct ssh_settings *ssh, const struct fanout_target *targets,
			    size_t ntargets, const struct sink_ops *sink, void *sink_arg,
			    const struct fanout_ops *ops, void *arg, struct err *err)
{
	struct fanout *f;

	if (fs->ending) {
		err_set(err, ERR_CLOSED, "the program ends");
		free_own(targets, ntargets);
		return NULL;
	}
	f = calloc(1, sizeof(*f));
	if (!f || timer_init(&f->later, loop_base(fs->loop), fanout_wait_over, f) || !copy_plan(f, plan) ||
	    !(f->targets = calloc(ntargets + 1, sizeof(*f->targets))) ||
	    !take_own(f, targets, ntargets) || !(f->group = fanouts_group(fs, plan)))
		goto fail;
	f->all = fs;
	f->ntargets = ntargets;
	f->room = ntargets + 1;
	f->open = plan->open;
	for (size_t i = 0; i < ntargets; i++)
		fanout_wait_set(&f->targets[i], &targets[i]);
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
	fanouts_update(f);
	fanout_flush_soon(f);
	fanouts_admit(fs);
	return f;
fail:
	err_set(err, ERR_MEMORY, "no memory for a fan-out to %zu hosts", ntargets);
	free_own(targets, ntargets);
	if (f) {
		for (size_t i = 0; f->targets && i < ntargets; i++)
			free(f->targets[i].more);
		for (size_t i = 0; i < sizeof(f->strings) / sizeof(*f->strings); i++)
			free(f->strings[i]);
		for (char **e = f->env; e && *e; e++)
			free(*e);
		free(f->env);
		free(f->input);
		content_unref(f->plan.content);
		free(f->verdicts);
		mask_free(f->mask);
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
	fanout_wait_over(f);
	for (struct host_run *run = f->runs, *next; run; run = next) {
		next = run->next;
		host_run_cancel(run, f->cancel, false);
	}
	fanout_flush_soon(f);
}

void fanout_refuse(struct fanout *f, int status, const char *reason)
{
	f->refused = true;
	f->unrun_status = status;
	fanout_cancel(f, reason);
}

void fanout_pause(struct fanout *f, bool pause)
{
	f->paused = pause;
	fanouts_update(f);
	fanouts_admit(f->all);
}

void fanout_drain(struct fanout *f)
{
	f->draining = true;
	fanout_wait_over(f);
}

void fanout_abandon(struct fanout *f)
{
	f->abandoned = true;
	fanout_wait_over(f);
	for (struct host_run *run = f->runs, *next; run; run = next) {
		next = run->next;
		host_run_cancel(run, "another node owns it", true);
	}
	fanout_flush_soon(f);
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
		out[n].sent = out[n].size = 0;
		if (run->phase == RUN_SENDING) {
			out[n].sent = run->sent;
			out[n].size = content_size(f->plan.content);
		}
		n++;
	}
	return n;
}

uint64_t fanout_sent(const struct fanout *f)
{
	uint64_t sent = f->sent;

	for (const struct host_run *run = f->runs; run; run = run->next)
		sent += run->sent;
	return sent;
}
