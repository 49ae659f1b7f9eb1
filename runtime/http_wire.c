/* SPDX-License-Identifier: MIT */
/* http_wire: the bytes of a connection between its socket and http_conn. The bufferevent moves them;
 * with TLS they pass through a struct tls on their way, so that clocks, bounds and half-closes are the
 * same with and without. Loop thread. */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "http_conn.h"

#define TLS_PIECE 16384 /* what one TLS record holds */

/* What has come into the output since it held `before` bytes counts as given. */
static void count_given(struct http_conn *c, size_t before)
{
	c->given += http_conn_unsent(c) - before;
}

/* ---- in ---- */

size_t http_wire_pending(const struct http_conn *c)
{
	return c->in ? evbuffer_get_length(c->in) : 0; /* a closed one has none */
}

/* The same with what is not decrypted yet, because that much waits already. */
size_t http_wire_waiting(const struct http_conn *c)
{
	return http_wire_pending(c) + (c->tls ? evbuffer_get_length(bufferevent_get_input(c->bev)) : 0);
}

size_t http_conn_unsent(const struct http_conn *c)
{
	return evbuffer_get_length(bufferevent_get_output(c->bev));
}

void http_wire_drop(struct http_conn *c)
{
	struct evbuffer *raw = bufferevent_get_input(c->bev);

	evbuffer_drain(c->in, http_wire_pending(c));
	evbuffer_drain(raw, evbuffer_get_length(raw));
}

enum tls_state http_wire_decrypt(struct http_conn *c)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);
	size_t before = evbuffer_get_length(out);
	enum tls_state state = tls_receive(c->tls, bufferevent_get_input(c->bev), c->in,
					   HTTP_READ_HIGH, out);

	count_given(c, before);
	if (state != TLS_OPEN) /* what comes behind the end is nothing, and must not look like work */
		evbuffer_drain(bufferevent_get_input(c->bev), SIZE_MAX);
	return state;
}

/* ---- out ---- */

void http_wire_watch(struct http_conn *c)
{
	if (http_conn_unsent(c) && c->clock != CLOCK_STALL) {
		c->taken_mark = c->given - http_conn_unsent(c);
		http_server_clock(c, CLOCK_STALL);
	}
}

/* Sends what the socket takes now; moves *iov and *n on. With an error nothing is sent: the
 * bufferevent meets it again and tells. */
static void send_now(struct http_conn *c, struct iovec **iov, int *n)
{
	struct msghdr m = { .msg_iov = *iov, .msg_iovlen = (size_t)*n };
	ssize_t sent = sendmsg(bufferevent_getfd(c->bev), &m, MSG_NOSIGNAL | MSG_DONTWAIT);

	while (*n && sent >= (ssize_t)(*iov)->iov_len) {
		sent -= (ssize_t)(*iov)->iov_len;
		++*iov;
		--*n;
	}
	if (*n && sent > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + sent;
		(*iov)->iov_len -= (size_t)sent;
	}
}

static void give_plain(struct http_conn *c, struct iovec *iov, int n)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);

	if (!evbuffer_get_length(out))
		send_now(c, &iov, &n);
	for (; n > 0; iov++, n--) {
		if (evbuffer_add(out, iov->iov_base, iov->iov_len))
			http_conn_drop_later(c, "out of memory");
		c->given += iov->iov_len;
	}
}

static void give_piece(struct http_conn *c, const char *piece, size_t n)
{
	if (n && tls_send(c->tls, piece, n, bufferevent_get_output(c->bev)))
		http_conn_drop_later(c, "TLS failed");
}

/* Put together into whole TLS records: a head and a small body become one. */
static void give_tls(struct http_conn *c, const struct iovec *iov, int n)
{
	size_t before = http_conn_unsent(c), used = 0;
	char piece[TLS_PIECE];

	for (; n > 0; iov++, n--) {
		const char *data = iov->iov_base;

		for (size_t at = 0, part; at < iov->iov_len; at += part) {
			part = iov->iov_len - at;
			if (part > sizeof(piece) - used)
				part = sizeof(piece) - used;
			memcpy(piece + used, data + at, part);
			used += part;
			if (used == sizeof(piece)) {
				give_piece(c, piece, used);
				used = 0;
			}
		}
	}
	give_piece(c, piece, used);
	count_given(c, before);
}

void http_conn_give(struct http_conn *c, struct iovec *iov, int n)
{
	if (c->tls)
		give_tls(c, iov, n);
	else
		give_plain(c, iov, n);
	http_wire_watch(c);
}

/* The last words of TLS: without them the client cannot tell the end from a cut. */
bool http_wire_end(struct http_conn *c)
{
	size_t before = http_conn_unsent(c);

	c->ended = true;
	tls_end(c->tls, bufferevent_get_output(c->bev));
	count_given(c, before);
	http_wire_watch(c);
	return http_conn_unsent(c) > 0;
}

/* ---- the ends ---- */

bool http_wire_open(struct http_conn *c, int fd, bool tls)
{
	c->bev = bufferevent_socket_new(loop_base(c->server->loop), fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c->bev)
		return false;
	c->in = bufferevent_get_input(c->bev);
	if (!tls)
		return true;
	c->tls = tls_new(c->server->tls);
	c->in = c->tls ? evbuffer_new() : NULL;
	if (c->in)
		return true;
	tls_free(c->tls);
	bufferevent_setfd(c->bev, -1); /* the caller closes it */
	bufferevent_free(c->bev);
	return false;
}

void http_wire_close(struct http_conn *c)
{
	if (c->tls)
		evbuffer_free(c->in);
	c->in = NULL;
	tls_free(c->tls);
	c->tls = NULL;
	bufferevent_free(c->bev);
}
