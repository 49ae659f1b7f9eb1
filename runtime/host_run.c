/* SPDX-License-Identifier: MIT */
/* host_run: the states of one host: connect, wait for the started bit, run, collect, report. For ssh it
 * lives on the host's I/O thread, for local commands on the loop thread; the code is the same, only the
 * way that messages go differs (to_loop, to_host). */
#include "host_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

/* A host has so long to say what an op left. */
#define ASK_MS 60000
/* And so long to tidy up after a command that was killed. */
#define TIDY_MS 10000
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
	host_left_free(run->left);
	host_own_free(run->own);
	buf_deinit(&run->tidy);
	buf_deinit(&run->text);
	entry_free(run->spare);
	ssh_host_unref(run->host);
	free(run);
}

void host_run_to_loop(struct host_run *run, struct work *w)
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

void host_run_give_back(struct host_run *run, bool sound)
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
		host_run_to_loop(run, &part->work);
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

void host_run_fenced(void *arg, const char *data, size_t n)
{
	collect(arg, SSH_STDOUT, data, n);
}

static void on_output(void *arg, enum ssh_stream stream, const char *data, size_t n)
{
	struct host_run *run = arg;

	if (run->tidying)
		return;
	if (run->left) {
		if (stream == SSH_STDOUT)
			host_left_read(run->left, data, n);
		return;
	}
	if (!run->fence.on || stream != SSH_STDOUT)
		collect(run, stream, data, n);
	else if (host_fence_read(&run->fence, data, n, host_run_fenced, run) || run->kill_joined)
		stop(run);
}

/* ---- the host's side: running ---- */

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

static void on_input_over(void *arg)
{
	struct host_run *run = arg;
	int sending = RUN_SENDING;

	atomic_compare_exchange_strong(&run->phase, &sending, RUN_COMMAND);
}

static const struct ssh_exec_ops exec_ops = { on_output, host_end_command, may_start, on_killing,
					      on_input_over };

static void fail(struct host_run *run, int code, const char *why)
{
	struct ssh_result result = { .survivors = -1 };

	err_set(&result.err, code, "%s", why);
	host_end_with(run, &result);
}

/* What the host has of its own takes the place of the plan's. */
static int make_own(struct host_run *run, struct err *err)
{
	const struct host_own *own = run->own;
	struct ssh_command *cmd = &run->command;
	bool raw = run->io && ssh_host_raw(run->host);

	buf_clear(&run->text);
	if (host_own_command(own, cmd->command, raw, &run->text, err))
		return -err->code;
	cmd->command = buf_str(&run->text);
	if (own->input) {
		cmd->input = own->input;
		cmd->input_len = own->input_len;
	}
	if (own->env)
		cmd->env = (const char *const *)own->env;
	if (own->cwd)
		cmd->cwd = own->cwd;
	if (own->limit_ms >= 0)
		cmd->limit_ms = own->limit_ms;
	return 0;
}

static bool cannot_make(struct host_run *run, const struct err *err)
{
	host_run_give_back(run, true);
	host_end_unrun(run, err->message);
	return false;
}

/* The command, and what is wrapped around it. False: it cannot be made; the run is over. */
static bool make_command(struct host_run *run)
{
	const struct fanout_plan *plan = fanout_run_plan(run)->plan;
	struct err err = { 0 };

	run->command = (struct ssh_command){
		.command = plan->command,
		.op_id = plan->op_id ? run->op_id : NULL,
		.input = plan->input,
		.input_len = plan->input_len,
		.content = plan->content,
		.sent = plan->content ? &run->sent : NULL,
		.env = plan->env,
		.cwd = plan->cwd,
		.become = run->io ? ssh_host_become(run->host) : NULL,
		.limit_ms = plan->limit_ms,
	};
	if (run->own && make_own(run, &err))
		return cannot_make(run, &err);
	if (!plan->fence)
		return true;
	run->forbidding = run->forbid && run->settle_until_ms && !run->forbidden;
	if (run->forbidding)
		run->command.op_id = NULL;
	if (host_fence_begin(&run->fence, plan, &run->command, run->host, run->op_id, run->forbidding,
			     &err))
		return cannot_make(run, &err);
	run->command.command = run->fence.text.data;
	return true;
}

/* What looks for an op must not be found as one. */
static bool make_question(struct host_run *run)
{
	static const char *const env[] = { "EXED_OP=-", NULL };
	const struct ssh_become *become = run->io ? ssh_host_become(run->host) : NULL;
	bool as_other = become && strcmp(become->user, "root") != 0;

	run->command = (struct ssh_command){
		.command = host_left_text(run->left, run->op_id, as_other),
		.env = env,
		.become = become,
		.limit_ms = ASK_MS,
	};
	if (run->command.command)
		return true;
	host_run_give_back(run, true);
	host_end_left(run, NULL);
	return false;
}

void host_run_command(struct host_run *run)
{
	struct err err = { 0 };

	if (!(run->left ? make_question(run) : make_command(run)))
		return;
	run->phase = run->io && !run->left && run->command.content ? RUN_SENDING : RUN_COMMAND;
	run->sent = 0;
	if (!run->left)
		record_start(&run->record);
	if (run->io)
		run->exec = ssh_exec_start(run->use, &run->command, &exec_ops, run);
	else
		run->proc = proc_start(fanout_run_plan(run)->loop, &run->command, &exec_ops, run,
				       &err);
	if (run->exec || run->proc)
		return;
	host_run_give_back(run, false);
	if (run->left)
		host_end_left(run, NULL);
	else if (run->io)
		fail(run, ERR_MEMORY, "not enough memory to run the command");
	else
		fail(run, err.code, err.message);
}

bool host_run_tidy(struct host_run *run)
{
	static const char *const env[] = { "EXED_OP=-", NULL };
	static const struct ssh_exec_ops ops = { on_output, host_end_command, NULL, NULL, NULL };
	struct err err = { 0 };

	buf_clear(&run->tidy);
	buf_printf(&run->tidy, "x_o=%s;%s", run->op_id, fanout_run_plan(run)->plan->tidy);
	run->command = (struct ssh_command){
		.command = buf_str(&run->tidy),
		.env = env,
		.become = run->io ? ssh_host_become(run->host) : NULL,
		.limit_ms = TIDY_MS,
	};
	if (!run->command.command)
		return false;
	if (run->io)
		run->exec = ssh_exec_start(run->use, &run->command, &ops, run);
	else
		run->proc = proc_start(fanout_run_plan(run)->loop, &run->command, &ops, run, &err);
	return run->exec || run->proc;
}

/* Goes on as far as it can: a connection and the started bit are both needed. */
static void next_step(struct host_run *run)
{
	const struct fanout_plan *plan = fanout_run_plan(run)->plan;

	if (run->over || !run->ready || !run->marked)
		return;
	if (run->left || plan->command) {
		host_run_command(run);
		return;
	}
	host_run_give_back(run, true);
	host_end(run, record_plain(run->index, STATUS_OK, NULL));
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
	host_run_to_loop(run, &run->hop);
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

	run->use = NULL;
	host_end_unreached(run, phase, err);
}

static const struct ssh_use_ops use_ops = { on_reached, on_ready, on_failed };

void host_run_connect(struct host_run *run, bool fresh)
{
	struct host_run_plan *hp = fanout_run_plan(run);
	struct ssh_client *client = ssh_client_of(run->io);

	run->phase = SSH_CONNECT;
	if (client)
		run->use = ssh_use_start(client, run->host, hp->ssh, hp->plan->connect_limit_ms,
					 fresh, &use_ops, run);
	if (run->use)
		return;
	if (run->left)
		host_end_left(run, NULL);
	else
		host_end(run, record_plain(run->index, STATUS_UNREACHABLE,
					 "not enough memory to connect"));
}

static void run_started(struct io *io, struct work *w)
{
	struct host_run *run = container_of(w, struct host_run, hop);
	const struct fanout_plan *plan = fanout_run_plan(run)->plan;

	record_init(&run->record, &plan->rules, run->index);
	if (plan->op_id && run->effect)
		snprintf(run->op_id, sizeof(run->op_id), "%s.%u.%u.%u", plan->op_id, run->effect,
			 run->index, plan->try);
	else if (plan->op_id)
		snprintf(run->op_id, sizeof(run->op_id), "%s.%u.%u", plan->op_id, run->index,
			 plan->try);
	if (plan->rules.look)
		host_end_look(run);
	run->marked = run->left != NULL;
	if (run->over)
		return;
	if (io) {
		host_run_connect(run, false);
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
		host_run_give_back(run, true);
		host_end(run, NULL);
	} else if (!run->over) {
		run->marked = true;
		next_step(run);
	}
	host_run_unref(run);
}

/* An op that was started before is not skipped: its host is asked, now or later, and by what is asked from
 * now on it is kept from running. Only a command that is joined there is stopped at once. */
static bool goes_on(const struct host_run *run)
{
	if (run->leave || !run->settle_until_ms)
		return run->left && !run->leave;
	return run->left || run->forbidding || !(run->exec || run->proc);
}

static void run_cancelled(struct io *io, struct work *w)
{
	struct host_run *run = container_of(w, struct host_run, cancel);

	(void)io;
	if (!run->over && !run->cancelled && goes_on(run)) {
		run->forbid = run->cancel_reason;
	} else if (!run->over && !run->cancelled) {
		run->cancelled = true;
		run->let_go = run->leave;
		/* Without its op id a command is only let go: the fence lets it run to its end. */
		if (run->leave && run->fence.on)
			run->command.op_id = NULL;
		if (!stop(run)) {
			host_run_give_back(run, run->ready);
			host_end(run, fanout_unrun_record(run->fanout, run->index, run->cancel_reason));
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

	if (phase == RUN_SENDING)
		return "sending";
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
