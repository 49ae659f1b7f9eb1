/* SPDX-License-Identifier: MIT */
/* ssh_lane: a connection to a jump host and the tunnels through it: whose turn it is to be opened,
 * what the jump host's refusal means, and the bytes of the open ones. One I/O thread. */
#include "ssh_lane.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "loop.h"
#include "ssh_exec.h"

/* A jump host that has no room for one more channel is asked again after this long. */
#define RETRY_MS 200

/* Why a channel is not opened (RFC 4254, 5.1). */
enum { PROHIBITED = 1, CONNECT_FAILED = 2, SHORTAGE = 4 };

static void on_more(evutil_socket_t fd, short what, void *arg);
static void on_retry(evutil_socket_t fd, short what, void *arg);

void lane_init(struct ssh_conn *lane)
{
	TAILQ_INIT(&lane->tunnels);
	evtimer_assign(&lane->more, lane->client->base, on_more, lane);
	evtimer_assign(&lane->again_soon, lane->client->base, on_retry, lane);
}

/* ---- who waits ---- */

static struct ssh_tunnel *first_waiting(const struct ssh_conn *lane)
{
	struct ssh_tunnel *t;

	TAILQ_FOREACH(t, &lane->tunnels, link)
		if (t->state == TUNNEL_WAIT)
			return t;
	return NULL;
}

static void more_arm(struct ssh_conn *lane, int64_t ms)
{
	if (!event_pending(&lane->more, EV_TIMEOUT, NULL))
		ssh_arm(&lane->more, ms);
}

void lane_add(struct ssh_tunnel *t)
{
	struct ssh_conn *lane = t->use->conn, *other = NULL;

	t->lane = lane;
	t->state = TUNNEL_WAIT;
	TAILQ_INSERT_TAIL(&lane->tunnels, t, link);
	t->since_ms = loop_now_ms();
	more_arm(lane, LANE_MORE_MS);
	/* Any that is free may take it. */
	while ((other = client_lane_next(lane, other)))
		if (!other->opening_tunnel)
			conn_kick(other);
}

/* The next to be opened here: an own one, else one that waits at another lane. */
static struct ssh_tunnel *pick(struct ssh_conn *lane)
{
	struct ssh_tunnel *t = first_waiting(lane);
	struct ssh_conn *other = NULL;

	while (!t && (other = client_lane_next(lane, other)))
		t = other == lane ? NULL : first_waiting(other);
	if (!t || t->lane == lane)
		return t;
	other = t->lane;
	TAILQ_REMOVE(&other->tunnels, t, link);
	t->lane = lane;
	TAILQ_INSERT_TAIL(&lane->tunnels, t, link);
	client_use_move(t->use, lane);
	return t;
}

/* They have waited for long: the first of them gets a new lane, which then takes others, too. */
static void on_more(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_conn *lane = arg, *other = NULL;
	struct ssh_tunnel *t = first_waiting(lane);
	unsigned all = 0, lost = 0;
	struct ssh_use *use;
	int64_t waited;

	(void)fd;
	(void)what;
	if (!t || lane->closing)
		return;
	waited = loop_now_ms() - t->since_ms;
	more_arm(lane, waited < LANE_MORE_MS ? LANE_MORE_MS - waited : LANE_MORE_MS);
	if (waited < LANE_MORE_MS)
		return;
	while ((other = client_lane_next(lane, other))) {
		if (other->phase != SSH_READY)
			return; /* one more is being made already */
		all++;
		lost += other->opening_tunnel && !other->opening_tunnel->conn;
	}
	if (all - lost >= LANES || all >= LANES_MAX)
		return;
	log_debug("ssh", "%s: one more connection, to reach others through it",
		  ssh_host_name(lane->host));
	TAILQ_REMOVE(&lane->tunnels, t, link);
	t->lane = NULL;
	use = t->use;
	if (tunnel_ask(t, true)) {
		t->use = use;
		lane_add(t);
		return;
	}
	ssh_use_end(use, true);
}

/* ---- opening ---- */

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_conn *lane = arg;

	(void)fd;
	(void)what;
	lane->held = false;
	conn_kick(lane);
}

static uint32_t number(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Type, our channel, reason, and a text: RFC 4254, 5.1. */
void lane_packet(struct ssh_conn *lane, const unsigned char *p, size_t n)
{
	size_t len = number(p + 9), i;

	lane->refusal = number(p + 5);
	if (len > n - 13)
		len = n - 13;
	for (i = 0; i < len && i + 1 < sizeof(lane->refusal_text); i++)
		lane->refusal_text[i] = p[13 + i] >= 0x20 && p[13 + i] < 0x7f ? (char)p[13 + i] : '?';
	lane->refusal_text[i] = '\0';
}

static void put_string(struct buf *b, const char *s)
{
	size_t n = strlen(s);

	buf_putc(b, (char)(n >> 24));
	buf_putc(b, (char)(n >> 16));
	buf_putc(b, (char)(n >> 8));
	buf_putc(b, (char)n);
	buf_puts(b, s);
}

static void put_number(struct buf *b, unsigned v)
{
	buf_putc(b, (char)(v >> 24));
	buf_putc(b, (char)(v >> 16));
	buf_putc(b, (char)(v >> 8));
	buf_putc(b, (char)v);
}

/* Where to, and from where as far as we know: RFC 4254, 7.2. */
static bool message_fill(struct ssh_tunnel *t)
{
	buf_clear(&t->message);
	put_string(&t->message, ssh_host_address(t->conn->host));
	put_number(&t->message, (unsigned)conn_port(t->conn));
	put_string(&t->message, "127.0.0.1");
	put_number(&t->message, 0);
	return !t->message.failed;
}

static void refused(struct ssh_conn *lane, struct ssh_tunnel *t)
{
	const char *jump = ssh_host_name(lane->host), *why = lane->refusal_text;
	struct ssh_conn *c = t->conn;
	const char *address;
	int port;

	if (!c) {
		tunnel_free(t);
		return;
	}
	if (lane->refusal == SHORTAGE) {
		t->state = TUNNEL_WAIT;
		lane->held = true;
		ssh_arm(&lane->again_soon, RETRY_MS);
		return;
	}
	t->state = TUNNEL_BROKEN;
	address = ssh_host_address(c->host);
	port = conn_port(c);
	if (lane->refusal == CONNECT_FAILED)
		conn_fail(c, ERR_UNREACHABLE, "jump host %s: cannot connect to %s port %d: %s", jump,
			  address, port, *why ? why : "connect failed");
	else
		conn_fail(c, ERR_REFUSED, "jump host %s: refuses to connect to %s port %d: %s", jump,
			  address, port,
			  *why ? why : lane->refusal == PROHIBITED ? "prohibited" : "open failed");
}

static void opened(struct ssh_conn *lane, struct ssh_tunnel *t, LIBSSH2_CHANNEL *ch)
{
	buf_deinit(&t->message);
	t->ch = ch;
	t->state = t->conn ? TUNNEL_OPEN : TUNNEL_CLOSE;
	if (t->conn)
		conn_kick(t->conn);
	else
		lane->again = true;
}

/* True when something moved. */
static bool open_step(struct ssh_conn *lane)
{
	struct ssh_tunnel *t = lane->opening_tunnel;
	LIBSSH2_CHANNEL *ch;
	int rc;

	if (!t) {
		t = lane->held ? NULL : pick(lane);
		if (!t)
			return false;
		if (!message_fill(t)) {
			conn_fail(t->conn, ERR_MEMORY, "out of memory");
			return true;
		}
		t->state = TUNNEL_OPENING;
		lane->opening_tunnel = t;
		lane->refusal = 0;
		*lane->refusal_text = '\0';
	}
	/* Not libssh2_channel_direct_tcpip_ex: its window is 2 MiB. */
	CONN_CALL(lane, rc, ((ch = libssh2_channel_open_ex(
		lane->session, "direct-tcpip", 12, SSH_WINDOW, LIBSSH2_CHANNEL_PACKET_DEFAULT,
		t->message.data, (unsigned)t->message.len)) ?
		0 : libssh2_session_last_errno(lane->session)));
	if (rc == LIBSSH2_ERROR_EAGAIN || conn_is_over(lane, rc))
		return false;
	lane->opening_tunnel = NULL;
	guard_useful(lane);
	if (rc == LIBSSH2_ERROR_CHANNEL_FAILURE)
		refused(lane, t);
	else if (rc)
		conn_fail_ssh(lane, rc);
	else
		opened(lane, t, ch);
	return true;
}

/* ---- bytes ---- */

/* True when something came. */
static bool tunnel_read(struct ssh_conn *lane, struct ssh_tunnel *t)
{
	char *data = lane->client->read_buf;
	bool any = false;
	ssize_t n;

	if (t->ended)
		return false;
	for (;;) {
		t->full = t->in.len - t->in_at >= TUNNEL_IN_MAX;
		if (t->full)
			break;
		n = libssh2_channel_read(t->ch, data, SSH_READ_SIZE);
		if (n == LIBSSH2_ERROR_EAGAIN || conn_is_over(lane, (int)n))
			break;
		any = true;
		guard_useful(lane);
		if (n > 0)
			buf_add(&t->in, data, (size_t)n);
		if (n > 0 && !t->in.failed)
			continue;
		t->ended = true;
		if (n < 0)
			conn_fail_ssh(lane, (int)n); /* t may be gone now */
		break;
	}
	return any;
}

/* True when something went out. */
static bool tunnel_write(struct ssh_conn *lane, struct ssh_tunnel *t)
{
	struct buf *out = t->conn ? &t->conn->out : &t->rest;
	bool any = false;
	ssize_t n;

	while (out->len && lane->out.len < SSH_OUT_MAX) {
		n = libssh2_channel_write(t->ch, out->data, out->len);
		if (n == LIBSSH2_ERROR_EAGAIN || !n)
			break;
		any = true;
		guard_useful(lane);
		/* When nobody takes it any more that is found by reading. */
		if (n < 0)
			n = (ssize_t)out->len;
		if (t->conn)
			conn_io_sent(t->conn, (size_t)n);
		else
			buf_drop(out, (size_t)n);
	}
	if (out->len && lane->out.len >= SSH_OUT_MAX)
		lane->out_full = true;
	return any;
}

/* What has come, or that it ended, is for the inner connection. */
static void tell(struct ssh_tunnel *t)
{
	struct ssh_conn *c = t->conn;

	if (t->ended)
		c->hung_up = true;
	if (!c->idle || c->closing_chans)
		conn_kick(c);
	else if (t->ended)
		conn_close(c);
}

/* True when something moved. t may be gone after. */
static bool tunnel_step(struct ssh_conn *lane, struct ssh_tunnel *t)
{
	LIBSSH2_CHANNEL *ch = t->ch;
	bool got, sent;

	if (t->state == TUNNEL_CLOSE) {
		tunnel_write(lane, t);
		t->ch = NULL;
		tunnel_free(t);
		channel_close(lane, ch);
		return true;
	}
	if (t->state != TUNNEL_OPEN)
		return false;
	got = tunnel_read(lane, t);
	if (lane->closing)
		return true;
	sent = tunnel_write(lane, t);
	if (got)
		tell(t);
	else if (sent && (t->conn->out_full || t->conn->guard.choked))
		conn_kick(t->conn);
	return got || sent;
}

void lane_step(struct ssh_conn *lane)
{
	struct ssh_tunnel *t, *next;
	bool moved;

	do {
		moved = false;
		if (lane->closing_chans)
			channels_reap(lane);
		if (open_step(lane))
			moved = true;
		for (t = TAILQ_FIRST(&lane->tunnels); t && !lane->closing; t = next) {
			next = TAILQ_NEXT(t, link);
			if (tunnel_step(lane, t))
				moved = true;
		}
	} while (moved && !lane->closing);
}

void lane_fail(struct ssh_conn *lane)
{
	struct ssh_tunnel *t;

	lane->opening_tunnel = NULL;
	while ((t = TAILQ_FIRST(&lane->tunnels)))
		tunnel_broken(t, &lane->err);
}

void lane_stop(struct ssh_conn *lane)
{
	event_del(&lane->more);
	event_del(&lane->again_soon);
	lane_fail(lane); /* at most one whose opening nobody waits for any more */
}
