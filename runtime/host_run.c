/* SPDX-License-Identifier: MIT */
/* host_run: the states of one host: connect, wait for the started bit, run, collect, report. For ssh it
 * lives on the host's I/O thread, for local commands on the loop thread; the code is the same, only the
 * way that messages go differs (to_loop, to_host). */
#include "host_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

/* A host whose parts the sink has not taken may be this far ahead; then its output waits. */
#define UNTAKEN_MAX (64 * 1024)

static void next_step(struct host_run *run);

struct host_run *host_run_ref(struct host_run *run)
{
	atomic_fetch_add(&run->refs, 1);
	return run;
}

void host_run_unref(struct host_run *run)
{
	if (atomic_fetch_sub(&run->refs, 1) != 1)
		return;
	record_deinit(&run->record);
	host_fence_deinit(&run->fence);
	ssh_host_unref(run->host);
	free(run);
}

static void to_loop(struct host_run *run, struct work *w)
{
	if (run->io)
		io_done(run->io, w);
	else
		w->done(w);
}

static void to_host(struct host_run *run, struct work *w)
{
	if (run->io)
		io_post(run->io, w);
	else
		w->run(NULL, w);
}

/* ---- the host's side: ending ---- */

static void finish_done(struct work *w)
{
	fanout_run_finished(container_of(w, struct host_run, finish));
}

/* Gives the record away; nothing happens on this side after it. */
static void finish(struct host_run *run, struct entry *last)
{
	run->over = true;
	run->last = last;
	run->finish.done = finish_done;
	to_loop(run, &run->finish);
}

static void append(struct entry **list, struct entry *e)
{
	while (*list)
		list = &(*list)->next;
	*list = e;
}

static void finish_with(struct host_run *run, const struct ssh_result *result)
{
	struct entry *list = record_flush(&run->record);
	struct entry *record = record_end(&run->record, result);

	/* Parts alone would leave the host without a record. */
	if (!record)
		record = record_plain(run->index, STATUS_FAILED, "not enough memory for its record");
	append(&list, record);
	finish(run, list);
}

/* Whether an op of a lost node may be asked about again later. */
static bool may_settle(struct host_run *run)
{
	return loop_now_ms() < fanout_run_plan(run)->plan->settle_until_ms && !run->cancelled;
}

static void settle_later(struct host_run *run)
{
	run->unsettled = true;
	finish(run, NULL);
}

/* No record is made of a host that did not answer, or where a lost op still runs. */
static bool is_unsettled(struct host_run *run, const struct ssh_result *result)
{
	if (!may_settle(run))
		return false;
	if (fanout_run_plan(run)->plan->rules.look)
		return record_survivors(&run->record, result) != 0;
	return result->err.code == ERR_UNREACHABLE;
}

static void give_back(struct host_run *run, bool sound)
{
	struct ssh_use *use = run->use;

	run->use = NULL;
	if (use)
		ssh_use_end(use, sound && fanout_run_plan(run)->plan->keep);
}

/* ---- parts ---- */

static void part_done(struct work *w)
{
	struct entry *part = container_of(w, struct entry, work);

	fanout_run_parts(part->run, part);
}

static void pause_output(struct host_run *run, bool pause)
{
	if (run->paused == pause)
		return;
	run->paused = pause;
	if (run->exec)
		ssh_exec_pause(run->exec, pause);
	else if (run->proc)
		proc_pause(run->proc, pause);
}

/* While a part is under way lines are gathered: a command that prints many short ones makes no more
 * entries than the store takes. */
static void give_parts(struct host_run *run, struct entry *part)
{
	struct entry *next;

	for (; part; part = next) {
		next = part->next;
		part->next = NULL;
		part->run = host_run_ref(run);
		part->work.done = part_done;
		run->untaken += part->len;
		to_loop(run, &part->work);
	}
	run->record.hold = run->untaken > 0;
	if (run->untaken >= UNTAKEN_MAX)
		pause_output(run, true);
}

static void part_taken(struct io *io, struct work *w)
{
	struct entry *part = container_of(w, struct entry, work);
	struct host_run *run = part->run;

	(void)io;
	run->untaken -= part->len;
	if (!run->over && !run->untaken)
		give_parts(run, record_lines(&run->record));
	if (!run->over && run->untaken < UNTAKEN_MAX / 2)
		pause_output(run, false);
	entry_free(part);
	host_run_unref(run);
}

void host_run_part_taken(struct entry *part)
{
	struct host_run *run = part->run;

	if (run->ended) {
		entry_free(part);
		host_run_unref(run);
		return;
	}
	part->work.run = part_taken;
	to_host(run, &part->work);
}

static void collect(struct host_run *run, enum ssh_stream stream, const char *data, size_t n)
{
	uint64_t cap = atomic_load(&fanout_run_plan(run)->output_cap);

	give_parts(run, record_output(&run->record, stream, data, n, cap));
}

/* False: no command runs yet. */
static bool stop(struct host_run *run)
{
	if (run->exec)
		ssh_exec_cancel(run->exec);
	else if (run->proc)
		proc_cancel(run->proc);
	else
		return false;
	return true;
}

static void on_fenced(void *arg, const char *data, size_t n)
{
	collect(arg, SSH_STDOUT, data, n);
}

static void on_output(void *arg, enum ssh_stream stream, const char *data, size_t n)
{
	struct host_run *run = arg;

	if (!run->fence.on || stream != SSH_STDOUT)
		collect(run, stream, data, n);
	else if (host_fence_read(&run->fence, data, n, on_fenced, run) || run->kill_joined)
		stop(run);
}

/* ---- the host's side: running ---- */

/* Nothing ran; what the host said to it belongs to the reason. */
static void finish_unrun(struct host_run *run, const char *why)
{
	const struct buf *said = &run->record.err.held;
	const char *line = said->len ? memchr(said->data, '\n', said->len) : NULL;
	int n = (int)(line ? (size_t)(line - said->data) : said->len);
	char text[512];

	snprintf(text, sizeof(text), "%s%s%.*s", why, n ? ": " : "", n, n ? said->data : "");
	finish(run, record_plain(run->index, STATUS_FAILED, text));
}

static void end_fenced(struct host_run *run, struct ssh_result result)
{
	bool settles = fanout_run_plan(run)->plan->settle_until_ms != 0;
	struct err why;

	if (host_fence_end(&run->fence, &result, settles, on_fenced, run, &why))
		finish_with(run, &result);
	else
		finish_unrun(run, why.message);
}

static void connect_host(struct host_run *run, bool fresh);
static void run_command(struct host_run *run);

/* The host has said whether the op that is not to run ever started. */
static void end_forbidding(struct host_run *run, const struct ssh_result *result)
{
	enum fence_said said = host_fence_forbidden(&run->fence, result);

	run->forbidding = false;
	if (said == FENCE_ALIVE || said == FENCE_ENDED || said == FENCE_DIED) {
		run->forbidden = true;
		run->kill_joined = said == FENCE_ALIVE;
		run_command(run);
		return;
	}
	give_back(run, !result->err.code);
	if (said == FENCE_NEW || said == FENCE_NEVER)
		finish(run, record_plain(run->index, STATUS_SKIPPED,
					 fanout_run_plan(run)->plan->forbid));
	else if (may_settle(run))
		settle_later(run);
	else
		finish(run, record_unknown(run->index, "the host does not say whether it started"));
}

static void on_end(void *arg, const struct ssh_result *result)
{
	struct host_run *run = arg;
	bool sound = !result->err.code && !result->killed_by;

	run->exec = NULL;
	run->proc = NULL;
	/* A kept connection may have died unnoticed; what never started may be tried on a new one. */
	if (!result->sent && run->warm && !run->retried && !run->cancelled &&
	    result->err.code == ERR_UNREACHABLE) {
		give_back(run, false);
		run->retried = true;
		run->ready = false;
		connect_host(run, true);
		return;
	}
	if (run->forbidding && result->sent) {
		end_forbidding(run, result);
		return;
	}
	give_back(run, sound);
	if (!result->sent && result->err.code == ERR_CANCELLED && !run->cancelled) {
		run->lapsed = true;
		finish(run, NULL);
		return;
	}
	if (is_unsettled(run, result))
		settle_later(run);
	else if (run->fence.on && result->sent)
		end_fenced(run, *result);
	else
		finish_with(run, result);
}

static bool may_start(void *arg)
{
	struct host_run *run = arg;
	const struct host_run_plan *hp = fanout_run_plan(run);

	/* Permission that lapsed and came back is not that under which the bit was set: meanwhile the
	 * slice may have become another node's, and only asking for the bit again tells. */
	return !run->cancelled && loop_now_ms() < atomic_load(hp->permit) &&
	       run->lapses == atomic_load(hp->lapses);
}

static void on_killing(void *arg)
{
	((struct host_run *)arg)->phase = RUN_KILLING;
}

static const struct ssh_exec_ops exec_ops = { on_output, on_end, may_start, on_killing };

static void fail(struct host_run *run, int code, const char *why)
{
	struct ssh_result result = { .survivors = -1 };

	err_set(&result.err, code, "%s", why);
	finish_with(run, &result);
}

static void run_command(struct host_run *run)
{
	struct host_run_plan *hp = fanout_run_plan(run);
	const struct fanout_plan *plan = hp->plan;
	const bool looks = plan->rules.look;
	struct err err = { 0 };

	snprintf(run->look, sizeof(run->look), "EXED_LOOK=%s", run->op_id);
	run->look_env[0] = run->look;
	run->command = (struct ssh_command){
		.command = plan->command,
		/* What looks for an op must not be found as one. */
		.op_id = looks || !plan->op_id ? NULL : run->op_id,
		.input = plan->input,
		.input_len = plan->input_len,
		.env = looks ? run->look_env : plan->env,
		.cwd = plan->cwd,
		.become = run->io ? ssh_host_become(run->host) : NULL,
		.limit_ms = plan->limit_ms,
	};
	if (plan->fence && !looks) {
		run->forbidding = plan->forbid && !run->forbidden;
		if (run->forbidding)
			run->command.op_id = NULL;
		if (host_fence_begin(&run->fence, plan, run->host, run->op_id, run->forbidding,
				     &err)) {
			give_back(run, true);
			finish_unrun(run, err.message);
			return;
		}
		run->command.command = run->fence.text.data;
	}
	run->phase = RUN_COMMAND;
	record_start(&run->record);
	if (run->io) {
		run->exec = ssh_exec_start(run->use, &run->command, &exec_ops, run);
		if (!run->exec) {
			give_back(run, false);
			fail(run, ERR_MEMORY, "not enough memory to run the command");
		}
		return;
	}
	run->proc = proc_start(hp->loop, &run->command, &exec_ops, run, &err);
	if (!run->proc)
		fail(run, err.code, err.message);
}

/* Goes on as far as it can: a connection and the started bit are both needed. */
static void next_step(struct host_run *run)
{
	const struct fanout_plan *plan = fanout_run_plan(run)->plan;

	if (run->over || !run->ready || !run->marked)
		return;
	if (plan->command) {
		run_command(run);
		return;
	}
	give_back(run, true);
	finish(run, record_plain(run->index, STATUS_OK, NULL));
}

static void reached_done(struct work *w)
{
	fanout_run_reached(container_of(w, struct host_run, hop));
}

static void on_reached(void *arg)
{
	struct host_run *run = arg;

	run->phase = SSH_LOGIN;
	if (run->marked || run->retried)
		return;
	if (!fanout_run_plan(run)->marks) {
		run->marked = true;
		return;
	}
	host_run_ref(run);
	run->hop.done = reached_done;
	to_loop(run, &run->hop);
}

static void on_ready(void *arg, bool warm)
{
	struct host_run *run = arg;

	run->phase = SSH_READY;
	run->ready = true;
	run->warm = warm;
	next_step(run);
}

static void on_failed(void *arg, enum ssh_phase phase, const struct err *err)
{
	struct host_run *run = arg;

	(void)phase;
	run->use = NULL;
	if (may_settle(run)) {
		settle_later(run);
	} else if (fanout_run_plan(run)->plan->settle_until_ms) {
		char why[320];

		snprintf(why, sizeof(why), "node lost while running, and the host cannot be asked: %s",
			 err->message);
		finish(run, record_unknown(run->index, why));
	} else {
		finish(run, record_plain(run->index, STATUS_UNREACHABLE, err->message));
	}
}

static const struct ssh_use_ops use_ops = { on_reached, on_ready, on_failed };

static void connect_host(struct host_run *run, bool fresh)
{
	struct host_run_plan *hp = fanout_run_plan(run);
	struct ssh_client *client = ssh_client_of(run->io);

	run->phase = SSH_CONNECT;
	if (client)
		run->use = ssh_use_start(client, run->host, hp->ssh, hp->plan->connect_limit_ms,
					 fresh, &use_ops, run);
	if (!run->use)
		finish(run, record_plain(run->index, STATUS_UNREACHABLE,
					 "not enough memory to connect"));
}

static void run_started(struct io *io, struct work *w)
{
	struct host_run *run = container_of(w, struct host_run, hop);
	const struct fanout_plan *plan = fanout_run_plan(run)->plan;

	record_init(&run->record, &plan->rules, run->index);
	if (plan->op_id)
		snprintf(run->op_id, sizeof(run->op_id), "%s.%u.%u", plan->op_id, run->index,
			 plan->try);
	if (io) {
		connect_host(run, false);
		return;
	}
	run->ready = true;
	on_reached(run);
	next_step(run);
}

static void run_marked(struct io *io, struct work *w)
{
	struct host_run *run = container_of(w, struct host_run, hop);

	(void)io;
	if (!run->over && run->refused) {
		give_back(run, true);
		finish(run, NULL);
	} else if (!run->over) {
		run->marked = true;
		next_step(run);
	}
	host_run_unref(run);
}

static void run_cancelled(struct io *io, struct work *w)
{
	struct host_run *run = container_of(w, struct host_run, cancel);

	(void)io;
	if (!run->over && !run->cancelled) {
		run->cancelled = true;
		/* Without its op id a command is only let go: the fence lets it run to its end. */
		if (run->leave && run->fence.on)
			run->command.op_id = NULL;
		if (!stop(run)) {
			give_back(run, run->ready);
			finish(run, fanout_unrun_record(run->fanout, run->index, run->cancel_reason));
		}
	}
	host_run_unref(run);
}

/* ---- the loop's side ---- */

void host_run_start(struct host_run *run)
{
	run->hop.run = run_started;
	to_host(run, &run->hop);
}

void host_run_mark(struct host_run *run, bool ok)
{
	run->refused = !ok;
	run->hop.run = run_marked;
	to_host(run, &run->hop);
}

const char *host_run_phase(const struct host_run *run)
{
	int phase = run->phase;

	if (phase >= RUN_COMMAND)
		return phase == RUN_KILLING ? "killing" : "running";
	/* A connection is there, and the store has not said yet that it may start. */
	return phase == SSH_READY ? "starting" : ssh_phase_name((enum ssh_phase)phase);
}

void host_run_cancel(struct host_run *run, const char *reason, bool leave)
{
	if (run->ended || run->cancel_sent)
		return;
	run->cancel_sent = true;
	run->leave = leave;
	run->cancel_reason = reason;
	host_run_ref(run);
	run->cancel.run = run_cancelled;
	to_host(run, &run->cancel);
}
