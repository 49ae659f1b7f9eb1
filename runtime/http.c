/* SPDX-License-Identifier: MIT */
/* http: the server as a whole: its options, its clocks, who is put out when room is short, its end.
 * A server owns its listeners and connections. Loop thread. */
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "http_conn.h"
#include "tls.h"

#define MAX_CONNECTIONS 10000 /* when descriptors allow more */
#define LINGER_MS 2000        /* what a client gets to read its last answer */
#define TICK_MIN_MS 20        /* clocks that end close together are looked at together */
/* Who is put out first when room is short: the slow to ask, then the idle. The young ones are left
 * alone: a client that means it sends its request right behind its handshake. */
#define EVICT_OLD_MS 1000
#define EVICT_YOUNG_MS 25

static rlim_t descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return 1024;
	return limit.rlim_cur;
}

void http_options_init(struct http_options *o)
{
	rlim_t eighth = descriptors() / 8; /* where there are few, somebody must be let in all the same */

	memset(o, 0, sizeof(*o));
	http_limits_init(&o->limits);
	o->header_ms = 10000;
	o->body_ms = 10000;
	o->body_rate = 1024;
	o->idle_ms = 75000;
	o->stall_ms = 60000;
	o->send_rate = 1024;
	o->peer_connections = 64;
	o->reserve = eighth < 32 ? (unsigned)eighth : 32;
	o->body_memory = 256 << 20;
	o->high_water = 256 << 10;
	o->max_unsent = 8 << 20;
}

/* ---- clocks ---- */

static void set_tick(struct http_server *s, int64_t now, int64_t due)
{
	if (s->tick_due && s->tick_due <= due)
		return;
	s->tick_due = due;
	timer_set(&s->tick, due - now > TICK_MIN_MS ? due - now : TICK_MIN_MS);
}

void http_server_clock(struct http_conn *c, enum http_clock clock)
{
	struct http_server *s = c->server;
	struct http_conn *before;
	int64_t now;

	if (c->clock != CLOCK_NONE)
		TAILQ_REMOVE(&s->clocks[c->clock], c, timed);
	c->clock = clock;
	if (clock == CLOCK_NONE)
		return;
	now = loop_now_ms();
	c->due = now + s->clock_ms[clock];
	/* In the order of ends; only after a clock was made shorter is it not the last. */
	before = TAILQ_LAST(&s->clocks[clock], http_conn_list);
	while (before && before->due > c->due)
		before = TAILQ_PREV(before, http_conn_list, timed);
	if (before)
		TAILQ_INSERT_AFTER(&s->clocks[clock], before, c, timed);
	else
		TAILQ_INSERT_HEAD(&s->clocks[clock], c, timed);
	set_tick(s, now, c->due);
}

static void tick(void *arg)
{
	struct http_server *s = arg;
	int64_t now = loop_now_ms(), next = 0;

	s->tick_due = 0;
	for (int i = 0; i < CLOCK_KINDS; i++) {
		struct http_conn *c;

		while ((c = TAILQ_FIRST(&s->clocks[i])) && c->due <= now)
			http_conn_expired(c);
		if (c && (!next || c->due < next))
			next = c->due;
	}
	if (next)
		set_tick(s, now, next);
}

/* ---- room ---- */

/* The one that has been under that clock longest, if that is at least age ms. */
static struct http_conn *oldest(struct http_server *s, enum http_clock clock, int64_t age)
{
	struct http_conn *c = TAILQ_FIRST(&s->clocks[clock]);

	return c && loop_now_ms() - (c->due - s->clock_ms[clock]) >= age ? c : NULL;
}

bool http_server_evict(struct http_server *s)
{
	static const struct {
		enum http_clock clock;
		int64_t age;
	} order[] = {
		{ CLOCK_LINGER, EVICT_YOUNG_MS }, { CLOCK_HEADER, EVICT_OLD_MS },
		{ CLOCK_IDLE, EVICT_OLD_MS },     { CLOCK_HEADER, EVICT_YOUNG_MS },
		{ CLOCK_IDLE, EVICT_YOUNG_MS },
	};

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		struct http_conn *c = oldest(s, order[i].clock, order[i].age);

		if (c) {
			s->counts.refused++;
			http_conn_close(c, "room was needed");
			return true;
		}
	}
	return false;
}

/* ---- life ---- */

static void reap(struct deferred *d)
{
	struct http_server *s =
		(struct http_server *)((char *)d - offsetof(struct http_server, reap));
	struct http_conn *c;

	while ((c = TAILQ_FIRST(&s->dying))) {
		TAILQ_REMOVE(&s->dying, c, all);
		http_conn_free(c);
	}
}

static void retry(void *arg)
{
	http_listen_resume(arg);
}

/* Connections get at most half of the descriptors: SSH and the rest need theirs. */
static void set_room(struct http_server *s)
{
	rlim_t fds = descriptors();

	s->fd_limit = fds > s->options.reserve ? (int)(fds - s->options.reserve) : 0;
	if (!s->options.max_connections)
		s->options.max_connections =
			fds / 2 < MAX_CONNECTIONS ? (unsigned)(fds / 2) : MAX_CONNECTIONS;
}

static void set_clock_lengths(struct http_server *s)
{
	s->clock_ms[CLOCK_IDLE] = s->options.idle_ms;
	s->clock_ms[CLOCK_HEADER] = s->options.header_ms;
	s->clock_ms[CLOCK_BODY] = s->options.body_ms;
	s->clock_ms[CLOCK_STALL] = s->options.stall_ms;
	s->clock_ms[CLOCK_LINGER] = LINGER_MS;
	for (int i = 0; i < CLOCK_KINDS; i++)
		if (s->clock_ms[i] < 1)
			s->clock_ms[i] = 1;
}

static void set_lists(struct http_server *s)
{
	for (int i = 0; i < CLOCK_KINDS; i++)
		TAILQ_INIT(&s->clocks[i]);
	TAILQ_INIT(&s->conns);
	TAILQ_INIT(&s->dying);
}

struct http_server *http_server_new(struct loop *loop, const struct http_options *options,
				    http_request_fn *on_request, void *arg, struct err *err)
{
	struct http_server *s = calloc(1, sizeof(*s));

	if (!s)
		goto fail;
	s->loop = loop;
	s->options = *options;
	s->options.server = options->server ? strdup(options->server) : NULL;
	s->on_request = on_request;
	s->arg = arg;
	s->reap.run = reap;
	set_clock_lengths(s);
	set_lists(s);
	set_room(s);
	if ((options->server && !s->options.server) ||
	    timer_init(&s->tick, loop_base(loop), tick, s) ||
	    timer_init(&s->retry, loop_base(loop), retry, s))
		goto fail;
	if (getrandom(&s->peers.seed, sizeof(s->peers.seed), GRND_NONBLOCK) < 0)
		s->peers.seed = (uint64_t)loop_wall_us();
	return s;
fail:
	http_server_free(s);
	err_set(err, ERR_MEMORY, "out of memory for the HTTP server");
	return NULL;
}

void http_server_set_tls(struct http_server *s, struct ssl_ctx_st *ctx)
{
	tls_context_ref(ctx);
	tls_context_unref(s->tls);
	s->tls = ctx;
}

void http_server_on_head(struct http_server *s, http_request_fn *on_head)
{
	s->on_head = on_head;
}

void http_server_set_options(struct http_server *s, const struct http_options *options)
{
	struct http_options o = *options;

	o.server = s->options.server;
	o.reserve = s->options.reserve;
	o.limit_loopback = s->options.limit_loopback;
	s->options = o;
	set_clock_lengths(s);
	set_room(s);
	http_listen_resume(s);
}

void http_server_stop_accepting(struct http_server *s)
{
	struct http_conn *c;

	s->draining = true;
	for (struct http_listener *l = s->listeners; l; l = l->next)
		http_listen_close(l);
	while ((c = TAILQ_FIRST(&s->clocks[CLOCK_IDLE])))
		http_conn_close(c, "the server stops");
}

void http_server_free(struct http_server *s)
{
	struct http_conn *c;
	struct http_listener *l;

	if (!s)
		return;
	s->draining = true;
	while ((c = TAILQ_FIRST(&s->conns)))
		http_conn_close(c, "the server stops");
	loop_undefer(s->loop, &s->reap);
	reap(&s->reap);
	while ((l = s->listeners)) {
		s->listeners = l->next;
		http_listen_free(l);
	}
	timer_deinit(&s->tick);
	timer_deinit(&s->retry);
	buf_deinit(&s->scratch);
	tls_context_unref(s->tls);
	free((char *)s->options.server);
	free(s);
}

struct http_counts http_server_counts(const struct http_server *s)
{
	return s->counts;
}

unsigned http_server_port(const struct http_server *s)
{
	unsigned port = 0;

	/* The list is in reverse order of listening. */
	for (const struct http_listener *l = s->listeners; l; l = l->next)
		if (l->port)
			port = l->port;
	return port;
}

const char *http_server_date(struct http_server *s)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t now = time(NULL);
	struct tm tm;

	if (now != s->date_at && gmtime_r(&now, &tm)) {
		s->date_at = now;
		snprintf(s->date, sizeof(s->date), "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
			 days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon,
			 (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min, tm.tm_sec);
	}
	return s->date;
}
