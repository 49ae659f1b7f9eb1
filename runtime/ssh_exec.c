/* SPDX-License-Identifier: MIT */
/* ssh_exec: commands. A channel is opened when its turn comes (ssh_channel.c), the exec request
 * and the first input go out together, output is handed on as it comes. It ends when the host
 * has closed the channel or has both ended the output and given an exit status; a time limit or
 * a cancel goes to ssh_kill.c first. One I/O thread. */
#include "ssh_exec.h"

#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "log.h"
#include "loop.h"
#include "ssh_quote.h"

/* How long the output may stay open after the exit status: PROTOCOL.md, 4. */
#define LINGER_MS 2000
/* After a kill, what is still on its way has this long. */
#define KILLED_MS 1000

/* ---- starting ---- */

struct ssh_exec *exec_new(struct ssh_use *u, const struct ssh_command *cmd, bool reserved,
			  const struct ssh_exec_ops *ops, void *arg)
{
	struct ssh_exec *x = calloc(1, sizeof(*x));
	struct ssh_conn *c = u->conn;
	int rc;

	if (!x)
		return NULL;
	x->conn = c;
	x->use = u;
	x->cmd = cmd;
	x->ops = ops;
	x->arg = arg;
	x->reserved = reserved;
	exec_timers_init(x);
	if (reserved || ssh_host_raw(c->host)) {
		buf_puts(&x->line, cmd->command);
		rc = x->line.failed ? -ERR_MEMORY : 0;
		if (x->line.len >= SSH_QUOTE_MAX)
			err_set(&x->broken, ERR_LIMIT, "command longer than %u bytes",
				SSH_QUOTE_MAX);
	} else {
		rc = ssh_quote_command(&x->line, &x->head, cmd->command, cmd->op_id, cmd->env,
				       cmd->cwd, &x->broken);
	}
	if (!rc && cmd->become && !ssh_host_raw(c->host))
		rc = ssh_quote_become(&x->line, &x->head, cmd->become, &x->broken);
	if (rc == -ERR_MEMORY) {
		exec_free(x);
		return NULL;
	}
	/* A reserved one goes first: it is there to end the others. */
	if (reserved)
		TAILQ_INSERT_HEAD(&c->execs, x, link);
	else
		TAILQ_INSERT_TAIL(&c->execs, x, link);
	u->execs++;
	if (!event_pending(&c->alive, EV_TIMEOUT, NULL) && !c->closing)
		ssh_arm(&c->alive, c->client->alive_ms);
	conn_kick(c);
	return x;
}

struct ssh_exec *ssh_exec_start(struct ssh_use *u, const struct ssh_command *cmd,
				const struct ssh_exec_ops *ops, void *arg)
{
	return exec_new(u, cmd, false, ops, arg);
}

void exec_free(struct ssh_exec *x)
{
	event_del(&x->limit);
	event_del(&x->linger);
	event_del(&x->cancel);
	buf_deinit(&x->line);
	buf_deinit(&x->head);
	free(x);
}

void exec_end(struct ssh_exec *x)
{
	struct ssh_conn *c = x->conn;
	LIBSSH2_CHANNEL *ch = x->ch;

	if (x->kill)
		kill_drop(x->kill);
	TAILQ_REMOVE(&c->execs, x, link);
	if (c->opening == x) {
		c->opening = NULL;
		c->opening_orphan = true;
	}
	if (c->requesting == x) {
		c->requesting = NULL;
		c->stuck = true;
	}
	x->use->execs--;
	if (TAILQ_EMPTY(&c->execs))
		event_del(&c->alive);
	x->ops->end(x->arg, &x->r);
	channel_close(c, ch);
	exec_free(x);
}

void exec_break(struct ssh_exec *x, int code, const char *why)
{
	if (!x->r.err.code)
		err_set(&x->r.err, code, "%s", why);
	exec_end(x);
}

void conn_exec_fail(struct ssh_conn *c)
{
	struct ssh_exec *x;

	while ((x = TAILQ_FIRST(&c->execs)))
		exec_break(x, c->err.code, c->err.message);
}

/* ---- running ---- */

/* Reads the next of a file into the thread's buffer. The same bytes again when it is asked again: what
 * libssh2 could not take it wants to be given once more. 0: its end. What a file that became shorter lacks
 * the host misses too: it has the checksum. */
static size_t content_next(struct ssh_exec *x, uint64_t offset, const char **from)
{
	struct ssh_client *client = x->conn->client;
	ssize_t n;

	if (!client->send_buf && !(client->send_buf = malloc(SSH_SEND_SIZE)))
		return 0;
	n = content_read(x->cmd->content, offset, client->send_buf, SSH_SEND_SIZE);
	*from = client->send_buf;
	return n > 0 ? (size_t)n : 0;
}

/* What stdin gets next: the script's line, then the user's input, then the file. */
static size_t input_next(struct ssh_exec *x, const char **from)
{
	uint64_t done;

	if (x->written < x->head.len) {
		*from = x->head.data + x->written;
		return x->head.len - (size_t)x->written;
	}
	done = x->written - x->head.len;
	if (done < x->cmd->input_len) {
		*from = (const char *)x->cmd->input + done;
		return x->cmd->input_len - (size_t)done;
	}
	return x->cmd->content ? content_next(x, done - x->cmd->input_len, from) : 0;
}

/* Whether the host takes no more of a file for now: it is not read for nothing. What tells that there is
 * room again comes with the output, unless that is not read. */
static bool content_waits(const struct ssh_exec *x)
{
	return x->cmd->content && !x->paused && x->written >= x->head.len + x->cmd->input_len &&
	       !libssh2_channel_window_write(x->ch);
}

static void input_over(struct ssh_exec *x)
{
	x->input_done = true;
	if (x->ops->input_over)
		x->ops->input_over(x->arg);
}

/* Whether the script's line may go out. A host takes it when its shell is there, a round trip after the
 * request; without the whole line that shell does nothing. */
static bool line_allowed(struct ssh_exec *x)
{
	if (x->written >= x->head.len || !x->ops->may_start || x->ops->may_start(x->arg))
		return true;
	x->withheld = x->input_done = true;
	return false;
}

/* How much of a file has gone. What is still on its way to the host, its window at most, is counted. */
static void input_count(struct ssh_exec *x)
{
	uint64_t before = x->head.len + x->cmd->input_len;

	if (x->cmd->sent && x->written > before)
		atomic_store_explicit(x->cmd->sent, x->written - before, memory_order_relaxed);
}

/* Sends what the host's window takes, then the end of file. */
static void input_write(struct ssh_exec *x)
{
	struct ssh_conn *c = x->conn;
	const char *from = NULL;
	size_t n;

	while (c->out.len < SSH_OUT_MAX) {
		ssize_t sent;

		if (content_waits(x) || !line_allowed(x))
			return;
		n = input_next(x, &from);
		if (!n) {
			input_over(x);
			libssh2_channel_send_eof(x->ch);
			return;
		}
		sent = libssh2_channel_write(x->ch, from, n);
		if (sent > 0) {
			guard_useful(c);
			x->written += (uint64_t)sent;
			input_count(x);
		}
		if (sent < 0 && sent != LIBSSH2_ERROR_EAGAIN)
			input_over(x); /* the command does not read it any more */
		if (sent <= 0)
			return;
	}
	c->out_full = true;
}

/* True when it went on. A request that fails ends x. */
static bool request_step(struct ssh_exec *x)
{
	struct ssh_conn *c = x->conn;
	int rc;

	if (c->requesting && c->requesting != x)
		return false;
	if (!x->r.sent) {
		if (c->eof)
			return false; /* it would not go out */
		if (x->broken.code) {
			exec_break(x, x->broken.code, x->broken.message);
			return true;
		}
		if (x->ops->may_start && !x->ops->may_start(x->arg)) {
			exec_break(x, ERR_CANCELLED, "not started");
			return true;
		}
		x->r.sent = true;
		x->sent_ms = loop_now_ms();
		c->requesting = x;
		if (x->cmd->limit_ms > 0)
			ssh_arm(&x->limit, x->cmd->limit_ms);
	}
	CONN_CALL(c, rc, libssh2_channel_process_startup(x->ch, "exec", 4, x->line.data,
							 (unsigned)x->line.len));
	if (!x->input_started) {
		/* The request is on its way: input and its end can go in the same segment. */
		x->input_started = true;
		input_write(x);
	}
	if (rc == LIBSSH2_ERROR_EAGAIN || conn_is_over(c, rc))
		return false;
	c->requesting = NULL;
	guard_useful(c);
	if (rc == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED) {
		x->r.sent = false; /* the host says that it did not start it */
		exec_break(x, ERR_REFUSED, "the host refused to run a command");
	} else if (rc) {
		conn_fail_ssh(c, rc);
	} else {
		x->state = EXEC_RUN;
		buf_deinit(&x->line);
	}
	return true;
}

/* Hands on what has come. Returns whether there was any; sets *ended at the end of the stream. */
static bool output_read(struct ssh_exec *x, enum ssh_stream stream, bool *ended)
{
	struct ssh_conn *c = x->conn;
	char *data = c->client->read_buf;
	bool any = false;
	ssize_t n;

	/* At the end of the connection what is here goes on, paused or not: less than a window. */
	while ((!x->paused || c->eof) && !*ended && !c->closing) {
		n = libssh2_channel_read_ex(x->ch, stream == SSH_STDERR ? SSH_EXTENDED_DATA_STDERR
									 : 0,
					    data, SSH_READ_SIZE);
		if (n == LIBSSH2_ERROR_EAGAIN || conn_is_over(c, (int)n))
			break;
		if (n < 0) {
			conn_fail_ssh(c, (int)n);
			return true;
		}
		any = true;
		guard_useful(c);
		if (n == 0)
			*ended = true; /* also when the host closed without an end of file */
		else
			x->ops->output(x->arg, stream, data, (size_t)n);
	}
	return any;
}

static void result_fill(struct ssh_exec *x)
{
	char *signal = NULL;
	size_t n = 0;

	x->r.code = libssh2_channel_get_exit_status(x->ch);
	x->r.exited = x->exit_seen || x->r.code;
	if (x->r.exited)
		return;
	libssh2_channel_get_exit_signal(x->ch, &signal, &n, NULL, NULL, NULL, NULL);
	if (!signal)
		return;
	for (size_t i = 0; i < n && i + 1 < sizeof(x->r.signal); i++)
		x->r.signal[i] = signal[i] > ' ' && signal[i] < 0x7f ? signal[i] : '?';
	libssh2_free(x->conn->session, signal);
}

/* The channel has told everything: closed by the host, or output ended and exit status here. */
static bool channel_over(const struct ssh_exec *x)
{
	int rc;

	if (!x->out_ended || !x->err_ended)
		return false;
	if (x->exit_seen)
		return true;
	rc = libssh2_channel_wait_closed(x->ch);
	return rc != LIBSSH2_ERROR_EAGAIN && !conn_is_over(x->conn, rc);
}

/* True when something moved. x may be gone after. */
static bool run_step(struct ssh_exec *x)
{
	struct ssh_conn *c = x->conn;
	bool moved, waited;

	if (!x->input_done)
		input_write(x);
	if (x->withheld && !x->kill) {
		x->r.sent = false; /* its shell finds the end of its input in place of a line */
		exec_break(x, ERR_CANCELLED, "not started");
		return true;
	}
	waited = !x->input_done && content_waits(x);
	moved = output_read(x, SSH_STDOUT, &x->out_ended);
	if (!c->closing)
		moved |= output_read(x, SSH_STDERR, &x->err_ended);
	if (c->closing)
		return true; /* x is gone */
	if (waited && !content_waits(x))
		moved = true; /* the host has made room */
	if (x->kill && !x->kill_over)
		return moved; /* its verdict is part of the result */
	if (channel_over(x)) {
		result_fill(x);
		if (!x->r.exited && !*x->r.signal && !x->r.timed_out && !x->r.cancelled)
			err_set(&x->r.err, ERR_PROTOCOL,
				"the host closed the channel without an exit status");
		exec_end(x);
		return true;
	}
	if (x->exit_seen && !x->lingering && !x->paused) {
		x->lingering = true;
		ssh_arm(&x->linger, x->kill ? KILLED_MS : LINGER_MS);
	}
	return moved;
}

/* The output is still open, or after a kill the channel has not ended. */
void exec_linger(struct ssh_exec *x)
{
	result_fill(x);
	x->r.output_open = x->exit_seen;
	exec_end(x);
}

static bool exec_step(struct ssh_exec *x)
{
	if (x->conn->stuck && !x->r.sent && x->state != EXEC_OPENING) {
		exec_break(x, x->reserved ? ERR_REFUSED : ERR_UNREACHABLE,
			   "the host answers no requests on this connection any more");
		return true;
	}
	if (x->state == EXEC_REQUEST)
		return request_step(x);
	return x->state == EXEC_RUN && run_step(x);
}

void conn_exec_step(struct ssh_conn *c)
{
	bool moved;

	do {
		struct ssh_exec *x, *next;

		moved = false;
		if (c->closing_chans)
			channels_reap(c);
		if (channel_open_step(c))
			moved = true;
		for (x = TAILQ_FIRST(&c->execs); x && !c->closing; x = next) {
			next = TAILQ_NEXT(x, link);
			if (exec_step(x))
				moved = true;
		}
	} while (moved && !c->closing);
}

void ssh_exec_pause(struct ssh_exec *x, bool pause)
{
	if (x->paused == pause)
		return;
	x->paused = pause;
	if (!pause)
		conn_kick(x->conn);
}
