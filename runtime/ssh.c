/* SPDX-License-Identifier: MIT */
/* ssh: the client of an I/O thread: its connections by host, the uses of them, who waits for a
 * place and which idle connection goes first. What the world is told (reached, ready, failed) is
 * told from here, never from inside ssh_use_start. One I/O thread. */
#include "ssh.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "ssh_conn.h"

/* ---- uses ---- */

static void on_limit(evutil_socket_t fd, short what, void *arg);

static void login_over(struct ssh_conn *c)
{
	struct ssh_client *client = c->client;

	ssh_pace_done(&client->pace, &c->login, loop_tick_us(), !TAILQ_EMPTY(&client->waiting));
}

static void use_arm(struct ssh_use *u)
{
	if (u->limit_ms > 0)
		ssh_arm(&u->timer, u->limit_ms);
}

/* Takes a use off its connection. */
static void use_free(struct ssh_use *u)
{
	struct ssh_client *client = u->conn->client;

	TAILQ_REMOVE(&u->conn->uses, u, link);
	if (u->late)
		TAILQ_REMOVE(&client->late, u, late_link);
	if (!u->ready)
		event_del(&u->timer);
	if (client->telling == u)
		client->telling = NULL;
	client->uses--;
	free(u);
}

/* It will not get its connection. The callback may do anything but end this use. */
static void use_fail(struct ssh_use *u, const struct err *err)
{
	const struct ssh_use_ops *ops = u->ops;
	enum ssh_phase phase = u->conn->phase;
	void *arg = u->arg;
	struct err copy = *err;

	use_free(u);
	ops->failed(arg, phase, &copy);
}

static void on_limit(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_use *u = arg;
	struct ssh_conn *c = u->conn;
	struct err err;

	(void)fd;
	(void)what;
	conn_say_timeout(c, u->limit_ms, &err);
	/* A host that has said nothing tells nothing of how long others take. */
	if (c->login.under_way && c->guard.greeted)
		login_over(c);
	c->busy++;
	use_fail(u, &err);
	c->busy--;
	if (TAILQ_EMPTY(&c->uses))
		conn_close(c);
}

/* Tells a use what it has not been told yet. False when it ended itself meanwhile. */
static bool use_tell(struct ssh_client *client, struct ssh_use *u, bool ready)
{
	struct ssh_use *outer = client->telling;
	bool alive;

	client->telling = u;
	if (!u->reached) {
		u->reached = true;
		u->ops->reached(u->arg);
	}
	if (client->telling && ready && !u->ready) {
		u->ready = true;
		event_del(&u->timer);
		u->ops->ready(u->arg, u->warm);
	}
	alive = client->telling != NULL;
	client->telling = outer;
	return alive;
}

/* ---- the connection's news ---- */

static void places_give(struct ssh_client *client);

/* The first use that is waiting for its connection, or has not been told `reached`. */
static struct ssh_use *use_waiting(const struct ssh_conn *c, bool reached)
{
	struct ssh_use *u;

	TAILQ_FOREACH(u, &c->uses, link)
		if (reached ? !u->reached : !u->ready && !u->late)
			return u;
	return NULL;
}

/* Callbacks may add and end uses, so after each the search begins anew. */
static void tell_uses(struct ssh_conn *c, bool ready)
{
	struct ssh_use *u;

	while (!c->closing && (u = use_waiting(c, !ready)))
		use_tell(c->client, u, ready);
}

void client_conn_reached(struct ssh_conn *c)
{
	tell_uses(c, false);
}

void client_conn_ready(struct ssh_conn *c)
{
	c->client->counts.connecting--;
	metric_add(METRIC_CONNS_CONNECTING, -1);
	metric_add(METRIC_CONNS_BUSY, 1);
	metric_add(METRIC_CONNS_READY, 1);
	login_over(c);
	places_give(c->client);
	tell_uses(c, true);
	if (!c->closing && !c->idle && TAILQ_EMPTY(&c->uses))
		conn_close(c); /* whoever wanted it left while it was told */
}

void client_conn_failed(struct ssh_conn *c)
{
	struct ssh_use *u, *next;

	for (u = TAILQ_FIRST(&c->uses); u; u = next) {
		next = TAILQ_NEXT(u, link);
		if (u->ready)
			continue;
		use_fail(u, &c->err);
		next = TAILQ_FIRST(&c->uses); /* the callback may have ended others */
	}
}

/* ---- memory ---- */

static void trim_arm(struct ssh_client *client)
{
	if (!TAILQ_EMPTY(&client->thick) && !event_pending(&client->trim, EV_TIMEOUT, NULL))
		ssh_arm(&client->trim, SSH_TRIM_MS);
}

void client_conn_thick(struct ssh_conn *c)
{
	c->thick = true;
	c->born_ms = loop_now_ms();
	TAILQ_INSERT_TAIL(&c->client->thick, c, thick_link);
	trim_arm(c->client);
}

static void thick_leave(struct ssh_conn *c)
{
	if (c->thick)
		TAILQ_REMOVE(&c->client->thick, c, thick_link);
	c->thick = false;
}

/* Each connection once, when it is old enough; the short-lived ones never get here. */
static void on_trim(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_client *client = arg;
	int64_t now = loop_now_ms();
	struct ssh_conn *c;

	(void)fd;
	(void)what;
	while ((c = TAILQ_FIRST(&client->thick)) && now - c->born_ms >= SSH_TRIM_MS) {
		thick_leave(c);
		conn_io_trim(c);
	}
	trim_arm(client);
}

/* ---- places ---- */

static struct ssh_conns *bucket_of(struct ssh_client *client, const struct ssh_host *h)
{
	/* The low bits have chosen the thread already. */
	return &client->buckets[(h->hash >> 8) % SSH_BUCKETS];
}

static unsigned places(const struct ssh_client *client, const struct ssh_settings *s)
{
	unsigned n = s->max_connections / client->threads;

	return n ? n : 1;
}

static void idle_leave(struct ssh_conn *c)
{
	TAILQ_REMOVE(&c->client->idle, c, idle_link);
	c->idle = false;
	c->client->counts.idle--;
	metric_add(METRIC_CONNS_IDLE, -1);
	metric_add(METRIC_CONNS_BUSY, 1);
	event_del(&c->timer);
}

static void wait_leave(struct ssh_conn *c)
{
	TAILQ_REMOVE(&c->client->waiting, c, idle_link);
	c->waiting = false;
	metric_add(METRIC_CONNS_WAITING, -1);
}

static void place_take(struct ssh_conn *c)
{
	struct ssh_use *u;

	c->counted = true;
	c->client->counts.connections++;
	c->client->counts.connecting++;
	metric_add(METRIC_CONNS_CONNECTING, 1);
	c->step_us = loop_tick_us();
	ssh_pace_begin(&c->client->pace, &c->login, c->step_us);
	TAILQ_FOREACH(u, &c->uses, link)
		use_arm(u);
	conn_kick(c);
}

static bool is_full(const struct ssh_client *client, const struct ssh_settings *s)
{
	return client->counts.connections >= places(client, s);
}

/* Gives free places to those who wait, in their order. */
static void places_give(struct ssh_client *client)
{
	struct ssh_conn *c;
	int64_t wait_us;

	while (!client->stopping && (c = TAILQ_FIRST(&client->waiting)) &&
	       !is_full(client, c->settings)) {
		if (!ssh_pace_may_begin(&client->pace, loop_tick_us(), &wait_us)) {
			if (!event_pending(&client->still, EV_TIMEOUT, NULL))
				ssh_arm(&client->still, wait_us / 1000 + 1);
			return;
		}
		wait_leave(c);
		place_take(c);
	}
}

static void on_still(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	places_give(arg);
}

void client_conn_gone(struct ssh_conn *c)
{
	struct ssh_client *client = c->client;

	TAILQ_REMOVE(bucket_of(client, c->host), c, bucket_link);
	thick_leave(c);
	if (c->idle)
		idle_leave(c);
	if (c->waiting)
		wait_leave(c);
	if (c->kicked)
		TAILQ_REMOVE(&client->kicked, c, kick_link);
	c->kicked = false;
	if (!c->counted)
		return;
	c->counted = false;
	ssh_pace_drop(&client->pace, &c->login);
	client->counts.connections--;
	if (c->phase != SSH_READY)
		client->counts.connecting--;
	metric_add(c->phase == SSH_READY ? METRIC_CONNS_BUSY : METRIC_CONNS_CONNECTING, -1);
	places_give(client);
}

/* ---- deferred work ---- */

void client_soon(struct ssh_client *client)
{
	if (client->soon_set)
		return;
	client->soon_set = true;
	event_active(&client->soon, EV_TIMEOUT, 0);
}

void conn_kick(struct ssh_conn *c)
{
	if (c->busy) {
		c->again = true;
		return;
	}
	if (c->kicked || c->gone)
		return;
	c->kicked = true;
	TAILQ_INSERT_TAIL(&c->client->kicked, c, kick_link);
	client_soon(c->client);
}

static void on_soon(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_client *client = arg;
	struct ssh_conn *c, *last = TAILQ_LAST(&client->kicked, ssh_conns);
	struct ssh_use *u;

	(void)fd;
	(void)what;
	while ((u = TAILQ_FIRST(&client->late))) {
		TAILQ_REMOVE(&client->late, u, late_link);
		u->late = false;
		u->conn->busy++;
		c = u->conn;
		use_tell(client, u, true);
		c->busy--;
		if (c->again)
			conn_kick(c);
		conn_settle(c);
	}
	/* Those that are kicked meanwhile come after the next look at I/O. */
	while (last && (c = TAILQ_FIRST(&client->kicked))) {
		bool done = c == last;

		TAILQ_REMOVE(&client->kicked, c, kick_link);
		c->kicked = false;
		conn_turn(c);
		if (done)
			break;
	}
	/* Made active from here it would run again at once, before timers and other connections. */
	client->soon_set = !TAILQ_EMPTY(&client->kicked) || !TAILQ_EMPTY(&client->late);
	if (client->soon_set)
		ssh_arm(&client->soon, 0);
}

/* ---- what others call ---- */

static struct ssh_conn *conn_find(struct ssh_client *client, const struct ssh_host *h,
				  const struct ssh_settings *s, bool lane)
{
	struct ssh_conn *c;

	TAILQ_FOREACH(c, bucket_of(client, h), bucket_link)
		if (!c->closing && !c->hung_up && !c->stuck && c->lane == lane &&
		    (c->keep || !lane) && c->settings == s && ssh_host_same(c->host, h))
			return c;
	return NULL;
}

static struct ssh_conn *conn_make(struct ssh_client *client, struct ssh_host *h,
				  struct ssh_settings *s, int64_t limit_ms, bool lane)
{
	struct ssh_conn *c = conn_new(client, h, s), *old;

	if (!c)
		return NULL;
	c->limit_ms = limit_ms;
	c->lane = lane;
	/* In front: a connection made anew is found before the old one that was not trusted. */
	TAILQ_INSERT_HEAD(bucket_of(client, h), c, bucket_link);
	c->waiting = true;
	TAILQ_INSERT_TAIL(&client->waiting, c, idle_link);
	metric_add(METRIC_CONNS_WAITING, 1);
	old = TAILQ_FIRST(&client->idle);
	if (old && is_full(client, s))
		conn_close(old);
	return c;
}

static struct ssh_use *use_start(struct ssh_client *client, struct ssh_host *h,
				 struct ssh_settings *s, int64_t limit_ms, bool fresh, bool lane,
				 const struct ssh_use_ops *ops, void *arg)
{
	struct ssh_use *u = calloc(1, sizeof(*u));
	struct ssh_conn *c;

	if (!u)
		return NULL;
	if (limit_ms <= 0)
		limit_ms = s->connect_timeout_ms;
	c = fresh ? NULL : conn_find(client, h, s, lane);
	if (!c)
		c = conn_make(client, h, s, limit_ms, lane);
	if (!c) {
		free(u);
		return NULL;
	}
	u->conn = c;
	u->ops = ops;
	u->arg = arg;
	u->limit_ms = limit_ms;
	evtimer_assign(&u->timer, client->base, on_limit, u);
	TAILQ_INSERT_TAIL(&c->uses, u, link);
	client->uses++;
	if (c->idle)
		idle_leave(c);
	if (c->phase == SSH_READY) {
		u->warm = u->late = true;
		metric_add(METRIC_CONNS_REUSED, 1);
		TAILQ_INSERT_TAIL(&client->late, u, late_link);
		client_soon(client);
	} else if (c->counted) {
		use_arm(u);
	} else if (lane) {
		wait_leave(c);
		place_take(c);
	}
	places_give(client);
	return u;
}

struct ssh_use *ssh_use_start(struct ssh_client *client, struct ssh_host *h,
			      struct ssh_settings *s, int64_t limit_ms, bool fresh,
			      const struct ssh_use_ops *ops, void *arg)
{
	return use_start(client, h, s, limit_ms, fresh, false, ops, arg);
}

/* Its last use has ended: kept for a while, or closed. */
static void conn_unused(struct ssh_conn *c)
{
	struct ssh_client *client = c->client;

	if (c->closing) {
		conn_settle(c);
		if (client->ended && !client->uses)
			free(client);
	} else if (c->phase != SSH_READY || !c->keep || c->settings->keep_ms <= 0 ||
		   c->hung_up || c->eof || c->stuck || client->stopping ||
		   (!TAILQ_EMPTY(&client->waiting) && is_full(client, c->settings))) {
		conn_close(c);
	} else {
		c->idle = true;
		TAILQ_INSERT_TAIL(&client->idle, c, idle_link);
		client->counts.idle++;
		metric_add(METRIC_CONNS_BUSY, -1);
		metric_add(METRIC_CONNS_IDLE, 1);
		conn_idle(c);
	}
}

void ssh_use_end(struct ssh_use *u, bool keep)
{
	struct ssh_conn *c = u->conn;

	if (!keep)
		c->keep = false;
	use_free(u);
	if (TAILQ_EMPTY(&c->uses))
		conn_unused(c);
}

struct ssh_use *client_lane_use(struct ssh_client *client, struct ssh_host *h,
				struct ssh_settings *s, int64_t limit_ms, bool more,
				const struct ssh_use_ops *ops, void *arg)
{
	return use_start(client, h, s, limit_ms, more, true, ops, arg);
}

struct ssh_conn *client_lane_next(struct ssh_conn *lane, struct ssh_conn *last)
{
	struct ssh_conn *c = last ? TAILQ_NEXT(last, bucket_link) :
				    TAILQ_FIRST(bucket_of(lane->client, lane->host));

	while (c && (c->closing || !c->lane || c->settings != lane->settings ||
		     !ssh_host_same(c->host, lane->host)))
		c = TAILQ_NEXT(c, bucket_link);
	return c;
}

void client_use_move(struct ssh_use *u, struct ssh_conn *to)
{
	struct ssh_conn *from = u->conn;

	TAILQ_REMOVE(&from->uses, u, link);
	if (to->idle)
		idle_leave(to);
	TAILQ_INSERT_TAIL(&to->uses, u, link);
	u->conn = to;
	if (TAILQ_EMPTY(&from->uses))
		conn_unused(from);
}

struct ssh_client_counts ssh_client_counts(const struct ssh_client *c)
{
	return c->counts;
}

struct evdns_base *client_dns(struct ssh_client *client, const struct ssh_settings *s)
{
	if (!client->dns)
		client->dns = dns_new(client->base, s->resolver);
	if (!client->dns || dns_set_servers(client->dns, s->resolver))
		return NULL;
	return dns_base(client->dns);
}

struct ssh_agent *client_agent(struct ssh_client *client, const char *path)
{
	if (client->agent && strcmp(ssh_agent_path(client->agent), path)) {
		ssh_agent_free(client->agent);
		client->agent = NULL;
	}
	if (!client->agent)
		client->agent = ssh_agent_new(client->base, path, SSH_AGENT_MS);
	return client->agent;
}

/* ---- life ---- */

struct ssh_client *ssh_client_new(struct event_base *base, unsigned threads)
{
	struct ssh_client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;
	client->read_buf = malloc(SSH_READ_SIZE);
	if (!client->read_buf) {
		free(client);
		return NULL;
	}
	client->base = base;
	client->threads = threads ? threads : 1;
	client->alive_ms = SSH_ALIVE_MS;
	for (size_t i = 0; i < SSH_BUCKETS; i++)
		TAILQ_INIT(&client->buckets[i]);
	TAILQ_INIT(&client->idle);
	TAILQ_INIT(&client->waiting);
	ssh_pace_init(&client->pace);
	TAILQ_INIT(&client->kicked);
	TAILQ_INIT(&client->late);
	TAILQ_INIT(&client->thick);
	evtimer_assign(&client->trim, base, on_trim, client);
	client_io_init(client);
	evtimer_assign(&client->still, base, on_still, client);
	event_assign(&client->soon, base, -1, 0, on_soon, client);
	return client;
}

void ssh_client_free(struct ssh_client *client)
{
	client->stopping = true;
	for (size_t i = 0; i < SSH_BUCKETS; i++) {
		struct ssh_conn *c;

		while ((c = TAILQ_FIRST(&client->buckets[i])))
			conn_fail(c, ERR_CANCELLED, "exed is stopping");
	}
	event_del(&client->soon);
	event_del(&client->trim);
	event_del(&client->pay);
	event_del(&client->still);
	if (client->dns) {
		/* Its answers come from the loop, and connections wait for them. */
		dns_free(client->dns, true);
		event_base_loop(client->base, EVLOOP_NONBLOCK);
	}
	ssh_agent_free(client->agent);
	buf_deinit(&client->out);
	free(client->read_buf);
	free(client->send_buf);
	client->ended = true;
	if (!client->uses)
		free(client); /* else with the last use that was told `ready` */
}

static void client_stop(void *state)
{
	ssh_client_free(state);
}

struct ssh_client *ssh_client_of(struct io *io)
{
	struct ssh_client *client = io_ssh(io);

	if (client)
		return client;
	client = ssh_client_new(io_base(io), (unsigned)io_count(io));
	if (client)
		io_set_ssh(io, client, client_stop);
	return client;
}
