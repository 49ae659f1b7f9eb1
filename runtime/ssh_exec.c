/* SPDX-License-Identifier: MIT */
/* ssh_exec: commands on the channels of a connection. A channel is opened when its turn comes, the exec
 * request and the first input go out together, output is handed on as it comes. It ends when the host
 * has closed the channel or has both ended the output and given an exit status; a time limit or a
 * cancel goes to ssh_kill.c first. One I/O thread. */
#include "ssh_exec.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "ssh_quote.h"

/* How long the output may stay open after the exit status: PROTOCOL.md, 4. */
#define LINGER_MS 2000
/* After a kill, what is still on its way has this long. */
#define KILLED_MS 1000
/* A host that refuses the only channel is asked again after this long, so many times. */
#define RETRY_MS 200
#define RETRIES 25

struct ssh_chan { /* a channel that waits for the host to close it as well */
	struct ssh_chan *next;
	LIBSSH2_CHANNEL *ch;
};

static void on_alive(evutil_socket_t fd, short what, void *arg);
static void on_retry(evutil_socket_t fd, short what, void *arg);

static void arm(struct event *ev, int64_t ms)
{
	const struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	evtimer_add(ev, &tv);
}

/* ---- channels of a connection ---- */

void conn_exec_init(struct ssh_conn *c)
{
	evtimer_assign(&c->alive, c->client->base, on_alive, c);
	evtimer_assign(&c->retry, c->client->base, on_retry, c);
	c->keep = true;
}

void conn_exec_stop(struct ssh_conn *c)
{
	event_del(&c->alive);
	event_del(&c->retry);
	c->client->counts.sessions -= c->channels;
	c->channels = 0;
	c->opening = NULL;
	while (c->closing_chans) { /* the session frees what is in them */
		struct ssh_chan *chan = c->closing_chans;

		c->closing_chans = chan->next;
		free(chan);
	}
}

static void channel_count(struct ssh_conn *c, int by)
{
	c->channels += (unsigned)by;
	c->client->counts.sessions += (unsigned)by;
}

/* Closes a channel; the host's answer is awaited in the background. */
static void channel_close(struct ssh_conn *c, LIBSSH2_CHANNEL *ch)
{
	struct ssh_chan *chan;

	if (!ch || c->closing)
		return;
	if (libssh2_channel_free(ch) != LIBSSH2_ERROR_EAGAIN) {
		channel_count(c, -1);
		c->again = true;
		return;
	}
	chan = malloc(sizeof(*chan));
	if (!chan) {
		conn_fail(c, ERR_MEMORY, "out of memory");
		return;
	}
	chan->ch = ch;
	chan->next = c->closing_chans;
	c->closing_chans = chan;
}

static void channels_reap(struct ssh_conn *c)
{
	struct ssh_chan **at = &c->closing_chans;

	while (*at) {
		struct ssh_chan *chan = *at;

		if (libssh2_channel_free(chan->ch) == LIBSSH2_ERROR_EAGAIN) {
			at = &chan->next;
			continue;
		}
		*at = chan->next;
		free(chan);
		channel_count(c, -1);
		c->again = true;
	}
}

void conn_exec_packet(struct ssh_conn *c, const unsigned char *p, size_t n)
{
	static const char status[] = "\0\0\0\x0b" "exit-status";
	uint32_t id = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
	struct ssh_exec *x;

	if (p[0] == 91) {
		c->opened_id = id;
		return;
	}
	if (n < 5 + sizeof(status) - 1 + 5 || memcmp(p + 5, status, sizeof(status) - 1))
		return;
	TAILQ_FOREACH(x, &c->execs, link)
		if (x->state >= EXEC_REQUEST && x->id == id)
			x->exit_seen = true;
}

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
	} else {
		rc = ssh_quote_command(&x->line, &x->head, cmd->command, cmd->op_id, cmd->env,
				       cmd->cwd, &x->broken);
	}
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
		arm(&c->alive, c->client->alive_ms);
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

static void exec_break(struct ssh_exec *x, int code, const char *why)
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

/* ---- opening ---- */

/* The host says no to one more channel. It has its reasons (MaxSessions); with others open it is a
 * matter of waiting for one of them to end. */
static void open_refused(struct ssh_conn *c, struct ssh_exec *x, const char *why)
{
	channel_count(c, -1);
	c->limit = c->channels ? c->channels : 1;
	log_debug("ssh", "%s: %s; at most %u channels from now on", ssh_host_name(c->host), why,
		  c->limit);
	if (!x)
		return;
	x->state = EXEC_WAIT;
	if (x->reserved || (!c->channels && ++x->refused > RETRIES)) {
		exec_break(x, ERR_REFUSED, why);
		return;
	}
	if (!c->channels) {
		c->held = true;
		arm(&c->retry, RETRY_MS);
	}
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_conn *c = arg;

	(void)fd;
	(void)what;
	c->held = false;
	conn_kick(c);
}

/* Whose turn it is: a reserved one at once, others while there is room. */
static struct ssh_exec *open_pick(struct ssh_conn *c)
{
	unsigned reserved = 0;
	struct ssh_exec *x;

	TAILQ_FOREACH(x, &c->execs, link)
		reserved += x->reserved && x->state != EXEC_WAIT;
	TAILQ_FOREACH(x, &c->execs, link) {
		if (x->state != EXEC_WAIT)
			continue;
		if (x->reserved || (!c->held && c->channels - reserved < c->limit))
			return x;
		break;
	}
	return NULL;
}

/* True when something moved. */
static bool open_step(struct ssh_conn *c)
{
	LIBSSH2_CHANNEL *ch;
	struct ssh_exec *x;
	char *why;
	int rc;

	if (!c->opening && !c->opening_orphan) {
		c->opening = c->stuck ? NULL : open_pick(c);
		if (!c->opening)
			return false;
		c->opening->state = EXEC_OPENING;
		channel_count(c, 1);
	}
	c->opened_id = UINT32_MAX;
	CONN_CALL(c, rc, ((ch = libssh2_channel_open_ex(c->session, "session", 7, SSH_WINDOW,
							LIBSSH2_CHANNEL_PACKET_DEFAULT, NULL, 0)) ?
			  0 : libssh2_session_last_errno(c->session)));
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	x = c->opening;
	c->opening = NULL;
	c->opening_orphan = false;
	if (rc == LIBSSH2_ERROR_CHANNEL_FAILURE) {
		libssh2_session_last_error(c->session, &why, NULL, 0);
		open_refused(c, x, why);
	} else if (rc) {
		conn_fail_ssh(c, rc);
	} else if (!x) {
		channel_close(c, ch);
	} else {
		x->ch = ch;
		x->id = c->opened_id;
		x->state = EXEC_REQUEST;
	}
	return true;
}

/* ---- running ---- */

/* What stdin gets next: the script's line, then the user's input. */
static size_t input_next(const struct ssh_exec *x, const char **from)
{
	size_t done;

	if (x->written < x->head.len) {
		*from = x->head.data + x->written;
		return x->head.len - x->written;
	}
	done = x->written - x->head.len;
	if (done >= x->cmd->input_len)
		return 0;
	*from = (const char *)x->cmd->input + done;
	return x->cmd->input_len - done;
}

/* Sends what the host's window takes, then the end of file. */
static void input_write(struct ssh_exec *x)
{
	struct ssh_conn *c = x->conn;
	const char *from = NULL;
	size_t n;

	while (c->out.len < SSH_OUT_MAX) {
		ssize_t sent;

		n = input_next(x, &from);
		if (!n) {
			x->input_done = true;
			libssh2_channel_send_eof(x->ch);
			return;
		}
		sent = libssh2_channel_write(x->ch, from, n);
		if (sent > 0)
			x->written += (size_t)sent;
		else if (sent != LIBSSH2_ERROR_EAGAIN && sent)
			x->input_done = true; /* the command does not read it any more */
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
		if (x->broken.code) {
			exec_break(x, x->broken.code, x->broken.message);
			return true;
		}
		if (x->ops->may_start && !x->ops->may_start(x->arg)) {
			exec_break(x, ERR_CANCELLED, "not started");
			return true;
		}
		x->r.sent = true;
		c->requesting = x;
		if (x->cmd->limit_ms > 0)
			arm(&x->limit, x->cmd->limit_ms);
	}
	CONN_CALL(c, rc, libssh2_channel_process_startup(x->ch, "exec", 4, x->line.data,
							 (unsigned)x->line.len));
	if (!x->input_started) {
		/* The request is on its way: input and its end can go in the same segment. */
		x->input_started = true;
		input_write(x);
	}
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	c->requesting = NULL;
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

	while (!x->paused && !*ended && !c->closing) {
		n = libssh2_channel_read_ex(x->ch, stream == SSH_STDERR ? SSH_EXTENDED_DATA_STDERR
									 : 0,
					    data, SSH_READ_SIZE);
		if (n == LIBSSH2_ERROR_EAGAIN)
			break;
		if (n < 0) {
			conn_fail_ssh(c, (int)n);
			return true;
		}
		any = true;
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
	if (!x->out_ended || !x->err_ended)
		return false;
	if (x->exit_seen)
		return true;
	return libssh2_channel_wait_closed(x->ch) != LIBSSH2_ERROR_EAGAIN;
}

/* True when something moved. x may be gone after. */
static bool run_step(struct ssh_exec *x)
{
	struct ssh_conn *c = x->conn;
	bool moved;

	if (!x->input_done)
		input_write(x);
	moved = output_read(x, SSH_STDOUT, &x->out_ended);
	if (!c->closing)
		moved |= output_read(x, SSH_STDERR, &x->err_ended);
	if (c->closing)
		return true; /* x is gone */
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
		arm(&x->linger, x->kill ? KILLED_MS : LINGER_MS);
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
		if (open_step(c))
			moved = true;
		for (x = TAILQ_FIRST(&c->execs); x && !c->closing; x = next) {
			next = TAILQ_NEXT(x, link);
			if (exec_step(x))
				moved = true;
		}
	} while (moved && !c->closing);
}

/* ---- a connection that says nothing ---- */

static void on_alive(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_conn *c = arg;
	struct ssh_exec *x;
	int seconds;

	(void)fd;
	(void)what;
	TAILQ_FOREACH(x, &c->execs, link)
		if (x->paused)
			c->heard = true; /* what it says is not read */
	c->quiet = c->heard ? 0 : c->quiet + 1;
	c->heard = false;
	if (c->quiet >= SSH_ALIVE_TRIES) {
		conn_fail(c, ERR_UNREACHABLE, "connection lost while running: silent for %d s",
			  SSH_ALIVE_TRIES * c->client->alive_ms / 1000);
		return;
	}
	if (c->quiet) {
		libssh2_keepalive_config(c->session, 1, 1);
		libssh2_keepalive_send(c->session, &seconds);
		conn_kick(c);
	}
	arm(&c->alive, c->client->alive_ms);
}

void ssh_exec_pause(struct ssh_exec *x, bool pause)
{
	if (x->paused == pause)
		return;
	x->paused = pause;
	if (!pause)
		conn_kick(x->conn);
}
