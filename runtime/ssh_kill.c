/* SPDX-License-Identifier: MIT */
/* ssh_kill: the end of a command whose time is over or that was cancelled. A small script runs
 * on the host over a channel of its own (of this connection, or of a new one when the host
 * refuses another channel): it finds what belongs to the command, stops it, looks again, kills
 * it, and looks whether it is gone. Closing the channel alone would leave all of it alive. One
 * I/O thread. */
#include <stdlib.h>
#include <string.h>

#include "kill_text.h"
#include "loop.h"
#include "ssh_exec.h"

/* A host has this long to kill and to look; then nothing is known. */
#define KILL_MS 10000
/* After it, what the command still says has this long. */
#define AFTER_MS 1000
#define ANSWER_MAX 4096u

struct ssh_kill {
	struct ssh_exec *x;      /* NULL: dropped */
	struct ssh_use *own;     /* a connection of its own */
	struct ssh_exec *runner; /* runs the script */
	bool moved;              /* to a connection of its own */
	struct ssh_command cmd;
	struct buf input, answer;
	struct event timer;
};

static void kill_run(struct ssh_kill *k, struct ssh_use *u);

static void kill_free(struct ssh_kill *k)
{
	event_del(&k->timer);
	buf_deinit(&k->input);
	buf_deinit(&k->answer);
	free(k);
}

/* The command's own end follows at once, or within AFTER_MS. Without an answer nobody knows. */
static void kill_over(struct ssh_kill *k, const struct kill_answer *a)
{
	struct ssh_exec *x = k->x;

	event_del(&k->timer);
	if (!x || x->kill_over)
		return;
	x->kill_over = true;
	x->conn->alone = false;
	x->r.killed = a && a->left >= 0;
	x->r.survivors = x->r.killed ? a->left : -1;
	x->r.possible = x->r.killed ? a->possible : -1;
	x->r.killed_by = x->r.killed ? KILLED_BY : KILL_UNVERIFIED;
	ssh_exec_pause(x, false);
	x->lingering = true;
	ssh_arm(&x->linger, AFTER_MS);
	conn_kick(x->conn);
}

/* ---- the script's channel ---- */

static void on_output(void *arg, enum ssh_stream stream, const char *data, size_t n)
{
	struct ssh_kill *k = arg;

	if (stream == SSH_STDOUT && k->answer.len + n <= ANSWER_MAX)
		buf_add(&k->answer, data, n);
}

static void on_reached(void *arg)
{
	(void)arg;
}

static void on_ready(void *arg, bool warm)
{
	struct ssh_kill *k = arg;

	(void)warm;
	kill_run(k, k->own);
}

static void on_failed(void *arg, enum ssh_phase phase, const struct err *err)
{
	struct ssh_kill *k = arg;

	(void)phase;
	(void)err;
	k->own = NULL;
	kill_over(k, NULL);
}

static void kill_move(struct ssh_kill *k)
{
	static const struct ssh_use_ops ops = {on_reached, on_ready, on_failed};
	struct ssh_conn *c = k->x->conn;

	k->moved = true;
	k->own = ssh_use_start(c->client, c->host, c->settings, KILL_MS, true, &ops, k);
	if (!k->own)
		kill_over(k, NULL);
}

static void on_end(void *arg, const struct ssh_result *r)
{
	struct ssh_kill *k = arg;
	struct kill_answer answer;

	k->runner = NULL;
	if (k->own) {
		ssh_use_end(k->own, false);
		k->own = NULL;
	}
	if (!k->x) {
		kill_free(k);
		return;
	}
	if (r->err.code == ERR_REFUSED && !k->moved) {
		kill_move(k);
		return;
	}
	answer = kill_text_read(&k->answer);
	kill_over(k, &answer);
}

static void kill_run(struct ssh_kill *k, struct ssh_use *u)
{
	static const struct ssh_exec_ops ops = {.output = on_output, .end = on_end};

	k->runner = exec_new(u, &k->cmd, true, &ops, k);
	if (!k->runner)
		kill_over(k, NULL);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	kill_over(arg, NULL);
}

/* ---- the command's side ---- */

void kill_drop(struct ssh_kill *k)
{
	k->x->conn->alone = false;
	k->x->kill = NULL;
	k->x = NULL;
	event_del(&k->timer);
	if (k->runner) {
		struct ssh_conn *own = k->own ? k->runner->conn : NULL;

		/* on_end does the rest. A connection of the script's own must outlive exec_end. */
		if (own)
			own->busy++;
		exec_end(k->runner);
		if (own) {
			own->busy--;
			conn_settle(own);
		}
		return;
	}
	if (k->own)
		ssh_use_end(k->own, false);
	kill_free(k);
}

/* Whether x is all that runs on its connection. No other command may start there then until the kill is
 * over: what has no op id yet would be taken for x's. */
static bool is_alone(const struct ssh_exec *x)
{
	const struct ssh_conn *c = x->conn;

	return TAILQ_FIRST(&c->execs) == x && !TAILQ_NEXT(x, link) && !c->closing_chans &&
	       !c->opening && !c->opening_orphan && !c->let_go;
}

static int kill_start(struct ssh_exec *x)
{
	struct ssh_kill *k = calloc(1, sizeof(*k));
	const struct ssh_become *become = x->cmd->become;
	struct kill_text text = {
		.op_id = x->cmd->op_id,
		.as_other = become && strcmp(become->user, "root") != 0,
		.alone = is_alone(x),
		.age_ms = loop_now_ms() - x->sent_ms,
	};

	if (!k)
		return -ERR_MEMORY;
	k->x = x;
	x->kill = k;
	x->conn->alone = text.alone;
	if (x->ops->killing)
		x->ops->killing(x->arg);
	evtimer_assign(&k->timer, x->conn->client->base, on_timer, k);
	ssh_arm(&k->timer, KILL_MS);
	kill_text_put(&k->input, &text);
	/* With a mark of its own, so that no other kill takes it for a process without one. */
	k->cmd.command = "exec env EXED_OP=- sh -c 'IFS= read -r s && eval \"$s\"'";
	k->cmd.become = become;
	k->cmd.input = k->input.data;
	k->cmd.input_len = k->input.len;
	if (k->input.failed)
		kill_over(k, NULL);
	else if (x->conn->requesting)
		kill_move(k); /* a request that was not answered holds up the next one */
	else
		kill_run(k, x->use);
	return 0;
}

/* Ends it as far as that can be done; the result follows. */
static void exec_stop(struct ssh_exec *x)
{
	if (x->kill || x->kill_over)
		return;
	event_del(&x->limit);
	event_del(&x->linger); /* it must not end x before the kill has its answer */
	if (!x->r.sent || x->reserved) {
		/* Nothing runs yet, or it is the killer itself. */
		err_set(&x->r.err, ERR_CANCELLED, "cancelled before it started");
		exec_end(x);
		return;
	}
	if (!x->cmd->op_id || ssh_host_raw(x->conn->host)) {
		x->r.survivors = -1;
		x->r.killed_by = "closed, not verified";
		x->conn->let_go = true;
		exec_end(x);
	} else if (kill_start(x)) {
		x->r.survivors = -1;
		x->r.killed_by = KILL_UNVERIFIED;
		exec_end(x);
	}
}

static void on_limit(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_exec *x = arg;
	struct ssh_conn *c = x->conn;

	(void)fd;
	(void)what;
	if (x->exit_seen)
		return; /* it has ended in time; its children's output has a limit of its own */
	x->r.timed_out = true;
	c->busy++;
	exec_stop(x);
	c->busy--;
	conn_kick(c);
	conn_settle(c);
}

static void on_linger(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_exec *x = arg;
	struct ssh_conn *c = x->conn;

	(void)fd;
	(void)what;
	c->busy++;
	exec_linger(x);
	c->busy--;
	conn_kick(c);
	conn_settle(c);
}

/* Deferred, because the result must not come from inside the call. */
static void on_cancel(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_exec *x = arg;
	struct ssh_conn *c = x->conn;

	(void)fd;
	(void)what;
	c->busy++;
	exec_stop(x);
	c->busy--;
	conn_kick(c);
	conn_settle(c);
}

void ssh_exec_cancel(struct ssh_exec *x)
{
	if (x->r.cancelled)
		return;
	x->r.cancelled = true;
	event_active(&x->cancel, EV_TIMEOUT, 0);
}

void exec_timers_init(struct ssh_exec *x)
{
	struct event_base *base = x->conn->client->base;

	evtimer_assign(&x->limit, base, on_limit, x);
	evtimer_assign(&x->linger, base, on_linger, x);
	evtimer_assign(&x->cancel, base, on_cancel, x);
}
