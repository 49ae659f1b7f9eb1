/* SPDX-License-Identifier: MIT */
/* ssh_channel: the channels of a connection: whose turn it is to get one, what a host's refusal
 * means, closing them in the background, and noticing a host that has fallen silent. One I/O
 * thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "ssh_exec.h"

/* A host that refuses the only channel is asked again after this long, so many times. */
#define RETRY_MS 200
#define RETRIES 25

struct ssh_chan { /* a channel that waits for the host to close it as well */
	struct ssh_chan *next;
	LIBSSH2_CHANNEL *ch;
};

static void on_alive(evutil_socket_t fd, short what, void *arg);
static void on_retry(evutil_socket_t fd, short what, void *arg);
static void on_open_limit(evutil_socket_t fd, short what, void *arg);

void conn_exec_init(struct ssh_conn *c)
{
	evtimer_assign(&c->alive, c->client->base, on_alive, c);
	evtimer_assign(&c->retry, c->client->base, on_retry, c);
	evtimer_assign(&c->open_limit, c->client->base, on_open_limit, c);
	c->keep = true;
}

void conn_exec_stop(struct ssh_conn *c)
{
	event_del(&c->alive);
	event_del(&c->retry);
	event_del(&c->open_limit);
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
	if (c->lane)
		return; /* its channels are no sessions */
	c->channels += (unsigned)by;
	c->client->counts.sessions += (unsigned)by;
}

/* Closes a channel; the host's answer is awaited in the background. */
void channel_close(struct ssh_conn *c, LIBSSH2_CHANNEL *ch)
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

void channels_reap(struct ssh_conn *c)
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
		ssh_arm(&c->retry, RETRY_MS);
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

/* The host does not say whether it opens a channel: the others that run go on, but no more can be
 * opened. */
static void on_open_limit(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_conn *c = arg;
	struct ssh_exec *x = c->opening;
	char why[80];

	(void)fd;
	(void)what;
	if (!x)
		return;
	c->stuck = true;
	snprintf(why, sizeof(why), "the host opened no channel within %g s",
		 (double)c->settings->connect_timeout_ms / 1000);
	c->busy++;
	exec_break(x, x->reserved ? ERR_REFUSED : ERR_TIMEOUT, why);
	c->busy--;
	conn_kick(c);
	conn_settle(c);
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
		if (x->reserved || (!c->held && !c->alone && c->channels - reserved < c->limit))
			return x;
		break;
	}
	return NULL;
}

/* True when something moved. */
bool channel_open_step(struct ssh_conn *c)
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
		ssh_arm(&c->open_limit, c->settings->connect_timeout_ms);
	}
	c->opened_id = UINT32_MAX;
	CONN_CALL(c, rc, ((ch = libssh2_channel_open_ex(c->session, "session", 7, SSH_WINDOW,
							LIBSSH2_CHANNEL_PACKET_DEFAULT, NULL, 0)) ?
			  0 : libssh2_session_last_errno(c->session)));
	if (rc == LIBSSH2_ERROR_EAGAIN || conn_is_over(c, rc))
		return false;
	x = c->opening;
	c->opening = NULL;
	c->opening_orphan = false;
	event_del(&c->open_limit);
	guard_useful(c);
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
	ssh_arm(&c->alive, c->client->alive_ms);
}
