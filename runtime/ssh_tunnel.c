/* SPDX-License-Identifier: MIT */
/* ssh_tunnel: the end of a tunnel that its inner connection sees: asking for a lane, reading,
 * sending, giving it back. The lane's end is ssh_lane.c. Owned by the inner connection until that
 * drops it, then by the lane until it is closed there. One I/O thread. */
#include "ssh_tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ssh_lane.h"

/* There is no way to the host, which says nothing about the host itself. */
static void tunnel_fail(struct ssh_tunnel *t, const struct err *err)
{
	struct ssh_conn *c = t->conn;

	conn_fail(c, ERR_NOT_FOUND, "jump host %s: %s", ssh_host_name(c->host->jump), err->message);
}

/* ---- asking for a lane ---- */

static void on_reached(void *arg)
{
	(void)arg;
}

static void on_ready(void *arg, bool warm)
{
	struct ssh_tunnel *t = arg;

	(void)warm;
	t->more = false;
	lane_add(t);
}

static void on_failed(void *arg, enum ssh_phase phase, const struct err *err)
{
	struct ssh_tunnel *t = arg;
	struct err why;

	(void)phase;
	t->use = NULL;
	if (t->more && !t->conn->client->stopping) {
		t->more = false; /* it was to be one more lane: those that are there must do */
		if (!tunnel_ask(t, false))
			return;
		err_set(&why, ERR_MEMORY, "out of memory");
		err = &why;
	}
	tunnel_fail(t, err);
}

int tunnel_ask(struct ssh_tunnel *t, bool more)
{
	static const struct ssh_use_ops ops = {on_reached, on_ready, on_failed};
	struct ssh_conn *c = t->conn;

	t->state = TUNNEL_ASK;
	t->more = more;
	t->use = client_lane_use(c->client, c->host->jump, c->settings, c->limit_ms, more, &ops, t);
	return t->use ? 0 : -ERR_MEMORY;
}

void tunnel_start(struct ssh_conn *c)
{
	struct ssh_tunnel *t = calloc(1, sizeof(*t));

	if (!t) {
		conn_fail(c, ERR_MEMORY, "out of memory");
		return;
	}
	t->conn = c;
	c->tunnel = t;
	if (tunnel_ask(t, false))
		conn_fail(c, ERR_MEMORY, "out of memory");
}

/* ---- in place of a socket ---- */

bool tunnel_is_open(const struct ssh_tunnel *t)
{
	return t->state == TUNNEL_OPEN;
}

ssize_t tunnel_recv(struct ssh_tunnel *t, void *data, size_t n)
{
	size_t have = t->in.len - t->in_at;

	if (!have && t->ended)
		return 0;
	if (!have) {
		errno = EAGAIN;
		return -1;
	}
	if (n > have)
		n = have;
	memcpy(data, t->in.data + t->in_at, n);
	t->in_at += n;
	if (t->in_at == t->in.len) {
		buf_deinit(&t->in); /* most tunnels are quiet most of the time */
		t->in_at = 0;
	}
	if (t->full && t->lane) {
		t->full = false;
		conn_kick(t->lane);
	}
	return (ssize_t)n;
}

void tunnel_send(struct ssh_tunnel *t)
{
	if (t->lane)
		conn_kick(t->lane);
}

int tunnel_fd(const struct ssh_tunnel *t)
{
	while (t->lane && t->lane->tunnel)
		t = t->lane->tunnel;
	return t->lane ? t->lane->fd : -1;
}

/* ---- the end ---- */

void tunnel_free(struct ssh_tunnel *t)
{
	struct ssh_use *use = t->use;

	if (t->lane)
		TAILQ_REMOVE(&t->lane->tunnels, t, link);
	buf_deinit(&t->in);
	buf_deinit(&t->rest);
	buf_deinit(&t->message);
	free(t);
	if (use)
		ssh_use_end(use, true);
}

void tunnel_drop(struct ssh_conn *c)
{
	struct ssh_tunnel *t = c->tunnel;
	struct ssh_use *use;

	if (!t)
		return;
	c->tunnel = NULL;
	t->conn = NULL;
	if (t->state == TUNNEL_OPEN && !t->lane->closing) {
		t->state = TUNNEL_CLOSE;
		t->rest = c->out;
		memset(&c->out, 0, sizeof(c->out));
		conn_kick(t->lane);
	} else if (t->state == TUNNEL_OPENING && !t->lane->closing) {
		/* libssh2 has no way to take it back: nothing else opens before the answer is
		 * here, so the lane goes as soon as nobody needs it. */
		use = t->use;
		t->use = NULL;
		ssh_use_end(use, false);
	} else {
		tunnel_free(t);
	}
}

void tunnel_broken(struct ssh_tunnel *t, const struct err *why)
{
	struct ssh_use *use = t->use;

	TAILQ_REMOVE(&t->lane->tunnels, t, link);
	t->lane = NULL;
	t->use = NULL;
	t->state = TUNNEL_BROKEN;
	t->ended = true;
	if (use)
		ssh_use_end(use, false);
	if (t->conn)
		tunnel_fail(t, why);
	else
		tunnel_free(t);
}

void tunnel_say_timeout(const struct ssh_tunnel *t, int64_t limit_ms, struct err *err)
{
	const char *jump = ssh_host_name(t->conn->host->jump);
	double s = (double)limit_ms / 1000;
	struct err why;

	if (t->state == TUNNEL_ASK && t->use) {
		conn_say_timeout(t->use->conn, limit_ms, &why);
		err_set(err, ERR_NOT_FOUND, "jump host %s: %s", jump, why.message);
	} else if (t->state == TUNNEL_WAIT) {
		err_set(err, ERR_LIMIT, "jump host %s: busy connecting to others for %g s", jump,
			s);
	} else {
		err_set(err, ERR_TIMEOUT, "no answer to connecting through jump host %s within %g s",
			jump, s);
	}
}
