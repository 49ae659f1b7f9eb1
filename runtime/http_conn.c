/* SPDX-License-Identifier: MIT */
/* http_conn: the life of one connection, from accept to close; http_wire moves its bytes. A closed connection is freed at the end of the
 * turn: callbacks further up the stack may still look at its state. Owned by its server; loop
 * thread. */
#include "http_conn.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "tls.h"

#define TURNS 32        /* requests of one connection in one turn, so that others get theirs */

static void resume_reading(struct http_conn *c)
{
	if (c->paused && bufferevent_enable(c->bev, EV_READ))
		http_conn_drop_later(c, "out of memory");
	c->paused = false;
}

void http_conn_resume(struct http_conn *c)
{
	resume_reading(c);
	if (http_wire_waiting(c))
		loop_defer(c->server->loop, &c->again);
}

/* ---- the end ---- */

static void write_log(struct http_conn *c)
{
	char path[512], who[160], text[400];
	int64_t ms = loop_now_ms() - c->began_ms;

	if (!log_access_on())
		return;
	/* A query may hold a command line, and that a password. */
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(c->req.target, "?"), c->req.target);
	log_access("peer=%s who=%s method=%s path=%s status=%d bytes=%llu seconds=%lld.%03d%s%s",
		   c->req.peer, *c->req.who ? log_value(who, sizeof(who), c->req.who) : "-",
		   c->req.method, log_value(path, sizeof(path), text), c->status,
		   (unsigned long long)c->sent, (long long)(ms / 1000), (int)(ms % 1000),
		   *c->req.jid ? " jid=" : "", c->req.jid);
}

/* The body's memory is counted over all connections. */
static void count_body(struct http_conn *c, size_t held)
{
	c->server->body_held += held - c->body_counted;
	c->body_counted = held;
}

static void gone(struct http_conn *c, const char *why)
{
	c->handed = false;
	c->server->counts.open--;
	c->status = 499;
	write_log(c);
	if (c->req.on_gone)
		c->req.on_gone(&c->req, why);
}

void http_conn_close(struct http_conn *c, const char *why)
{
	struct http_server *s = c->server;

	if (c->state == CONN_DEAD)
		return;
	c->state = CONN_DEAD;
	if (c->handed)
		gone(c, why);
	http_server_clock(c, CLOCK_NONE);
	loop_undefer(s->loop, &c->again);
	count_body(c, 0);
	if (c->closed)
		event_free(c->closed);
	http_wire_close(c);
	if (c->peer)
		http_peers_give(&s->peers, c->peer);
	s->counts.connections--;
	TAILQ_REMOVE(&s->conns, c, all);
	TAILQ_INSERT_TAIL(&s->dying, c, all);
	loop_defer(s->loop, &s->reap);
	if (!s->draining)
		http_listen_resume(s);
}

void http_conn_reset(struct http_conn *c)
{
	const struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(bufferevent_getfd(c->bev), SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

void http_conn_free(struct http_conn *c)
{
	http_parse_deinit(&c->parse);
	free(c);
}

void http_conn_drop_later(struct http_conn *c, const char *why)
{
	c->drop = why;
	loop_defer(c->server->loop, &c->again);
}

static void again(struct deferred *d)
{
	struct http_conn *c = (struct http_conn *)((char *)d - offsetof(struct http_conn, again));

	if (c->drop)
		http_conn_close(c, c->drop);
	else
		http_conn_advance(c);
}

/* Closing at once would reset the connection when the client has sent more than was read, and the
 * answer would be lost on its way. */
static void linger(struct http_conn *c)
{
	if (c->eof || shutdown(bufferevent_getfd(c->bev), SHUT_WR)) {
		http_conn_close(c, "done");
		return;
	}
	c->state = CONN_LINGER;
	http_server_clock(c, CLOCK_LINGER);
	http_wire_drop(c);
	resume_reading(c);
}

/* ---- out ---- */

static void next_request(struct http_conn *c)
{
	c->state = CONN_READ;
	count_body(c, 0);
	http_parse_reset(&c->parse);
	c->req.arg = NULL;
	c->req.on_gone = NULL;
	c->req.on_drain = NULL;
	c->req.on_data = NULL;
	*c->req.who = *c->req.jid = '\0';
	c->in_body = c->full = false;
	http_server_clock(c, CLOCK_IDLE);
	resume_reading(c);
	if (!c->advancing && (http_wire_waiting(c) || c->eof))
		loop_defer(c->server->loop, &c->again);
}

static void flushed(struct http_conn *c)
{
	if (c->keep && !c->server->draining)
		next_request(c);
	else if (!c->tls || c->ended || !http_wire_end(c)) /* else on_write comes back here */
		linger(c);
}

void http_conn_answered(struct http_conn *c)
{
	if (c->handed) {
		c->handed = false;
		c->server->counts.open--;
	}
	write_log(c);
	c->state = CONN_FLUSH;
	bufferevent_setwatermark(c->bev, EV_WRITE, 0, 0);
	if (!http_conn_unsent(c))
		flushed(c);
}

/* The output is at its low mark: nothing, or a quarter of high_water after http_write said wait. */
static void on_write(struct bufferevent *bev, void *arg)
{
	struct http_conn *c = arg;

	(void)bev;
	if (c->state == CONN_FLUSH && !http_conn_unsent(c)) {
		flushed(c);
		return;
	}
	if (c->state == CONN_READ && c->clock == CLOCK_STALL && !http_conn_unsent(c))
		http_server_clock(c, CLOCK_BODY); /* that was the 100 Continue */
	if (c->state != CONN_STREAM)
		return;
	if (c->full) {
		c->full = false;
		bufferevent_setwatermark(c->bev, EV_WRITE, 0, 0);
		if (c->req.on_drain)
			c->req.on_drain(&c->req);
	}
	if (c->state == CONN_STREAM && !http_conn_unsent(c))
		http_server_clock(c, CLOCK_NONE);
}

/* ---- in ---- */

/* Fills req from what was parsed, or from as much of it as there is. */
static void fill_request(struct http_conn *c)
{
	struct http_request *req = &c->req;

	req->method = http_parse_method(&c->parse);
	req->target = http_parse_target(&c->parse);
	req->path = http_parse_path(&c->parse);
	req->query = http_parse_query(&c->parse);
	req->host = http_parse_host(&c->parse);
	req->body = c->parse.body.len ? c->parse.body.data : "";
	req->body_len = c->parse.body.len;
	req->id = ++c->server->next_id;
	if (c->tls && !req->certificate &&
	    tls_client_name(c->tls, c->certificate, sizeof(c->certificate)))
		req->certificate = c->certificate;
	c->bodiless = !strcmp(req->method, "HEAD");
	c->chunked = c->upgraded = false;
	c->status = 0;
	c->sent = 0;
}

static void refuse(struct http_conn *c, int status, const char *message)
{
	fill_request(c);
	c->server->counts.bad++;
	if (!*c->req.method)
		c->req.method = c->req.target = "-";
	http_server_clock(c, CLOCK_NONE);
	http_reply_refuse(c, status, message);
}

static void hand_over(struct http_conn *c)
{
	struct http_server *s = c->server;

	fill_request(c);
	c->keep = c->parse.keep_alive;
	c->state = CONN_BUSY;
	c->handed = true;
	s->counts.open++;
	s->counts.requests++;
	http_server_clock(c, CLOCK_NONE);
	if (!strcmp(c->req.path, "*")) {
		const struct http_pair allow = {
			"Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
		};

		http_respond(&c->req, 204, &allow, 1, NULL, 0, NULL);
		return;
	}
	s->on_request(&c->req, s->arg);
}

/* Asks the user whether the rest of a body is worth waiting for. False: it has answered. */
static bool body_wanted(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (!s->on_head || (!c->parse.chunked && c->parse.length <= http_wire_pending(c)))
		return true;
	fill_request(c);
	c->keep = false;
	c->state = CONN_BUSY;
	http_server_clock(c, CLOCK_NONE);
	s->on_head(&c->req, s->arg);
	if (c->state == CONN_BUSY) {
		c->state = CONN_READ;
		return true;
	}
	s->counts.requests++;
	return false;
}

/* The head is good; the body may come. */
static void head_read(struct http_conn *c)
{
	static char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct iovec iov = { go_on, sizeof(go_on) - 1 };

	if (!body_wanted(c))
		return;
	c->in_body = true;
	c->received = c->received_mark = 0;
	if (c->parse.expect_continue && !http_wire_pending(c))
		http_conn_give(c, &iov, 1);
}

/* The bytes that have come are used up. */
static void wait_for_more(struct http_conn *c)
{
	if (c->in_body && c->clock != CLOCK_BODY && c->clock != CLOCK_STALL)
		http_server_clock(c, CLOCK_BODY);
	else if (c->clock == CLOCK_IDLE && !http_parse_idle(&c->parse))
		http_server_clock(c, CLOCK_HEADER);
}

/* ---- TLS ---- */

/* The client does not speak it, or against its rules: what there is to say to that goes out. */
static void give_up_tls(struct http_conn *c, const char *why)
{
	log_debug("http", "TLS with %s failed: %s", c->peer_name, why);
	if (c->handed) {
		http_conn_close(c, "TLS failed");
		return;
	}
	c->server->counts.bad++;
	c->keep = false;
	c->ended = true;
	c->state = CONN_FLUSH;
	http_server_clock(c, CLOCK_NONE);
	http_wire_watch(c);
	if (!http_conn_unsent(c))
		flushed(c);
}

static void refuse_plain(struct http_conn *c)
{
	static const char body[] = "{\"message\": \"this port speaks TLS: use https\"}";

	evbuffer_add_printf(bufferevent_get_output(c->bev),
			    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
			    "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
			    sizeof(body) - 1, body);
	c->given += http_conn_unsent(c);
	give_up_tls(c, "it speaks plain HTTP");
}

static void decrypt(struct http_conn *c)
{
	enum tls_state state;

	if (!c->tls || c->state == CONN_LINGER || c->state == CONN_DEAD || c->ended)
		return;
	state = http_wire_decrypt(c);
	if (state == TLS_PLAIN)
		refuse_plain(c);
	else if (state == TLS_BROKEN)
		give_up_tls(c, tls_problem(c->tls));
	else if (state == TLS_ENDED)
		c->eof = true;
}

/* ---- requests ---- */

/* Feeds the next run of bytes. True: there may be more to do. */
static bool feed(struct http_conn *c)
{
	struct evbuffer *in = c->in;
	struct evbuffer_iovec run = { "", 0 };
	enum http_event ev;
	size_t used;

	if (http_parse_idle(&c->parse))
		c->began_ms = loop_now_ms();
	if (evbuffer_peek(in, -1, NULL, &run, 1) < 1)
		run.iov_len = 0;
	ev = http_parse_feed(&c->parse, run.iov_base, run.iov_len, &used);
	evbuffer_drain(in, used);
	c->received += used;
	count_body(c, c->parse.body.len);
	if (ev != HTTP_BAD && c->server->body_held > c->server->options.body_memory) {
		refuse(c, 503, "too many large requests at once");
		return false;
	}
	switch (ev) {
	case HTTP_HEAD:
		head_read(c);
		return true;
	case HTTP_DONE:
		hand_over(c);
		return http_wire_waiting(c) > 0;
	case HTTP_BAD:
		refuse(c, c->parse.status, c->parse.message);
		return false;
	default:
		wait_for_more(c);
		return http_wire_waiting(c) > 0;
	}
}

static void on_closed(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;

	(void)fd;
	(void)what;
	if (c->state == CONN_BUSY || c->state == CONN_STREAM)
		http_conn_close(c, "the client left");
}

/* So much waits that reading pauses; the end of the connection must then be told in another way.
 * A watermark will not do: while that much stays in the buffer, libevent calls on_read for ever, and it
 * crashes when it has no memory for one. */
static void pause_reading(struct http_conn *c)
{
	struct event_base *base = loop_base(c->server->loop);

	if (c->paused)
		return;
	c->paused = true;
	bufferevent_disable(c->bev, EV_READ);
	if (!c->closed)
		c->closed = event_new(base, bufferevent_getfd(c->bev), EV_CLOSED, on_closed, c);
	if (c->closed && !event_pending(c->closed, EV_CLOSED, NULL))
		event_add(c->closed, NULL);
}

/* Gives an upgraded connection's bytes to the user, who may end it at any of them. */
static void feed_user(struct http_conn *c)
{
	char data[8192];
	int n = 0;

	while (c->state == CONN_STREAM && http_wire_waiting(c) > 0 && n >= 0) {
		n = evbuffer_remove(c->in, data, sizeof(data));
		if (n > 0 && c->req.on_data)
			c->req.on_data(&c->req, data, (size_t)n);
		decrypt(c);
	}
}

void http_conn_advance(struct http_conn *c)
{
	bool more;
	int turns = 0;

	if (c->advancing)
		return;
	c->advancing = true;
	decrypt(c);
	more = c->state == CONN_READ;
	while (more && c->state == CONN_READ && turns < TURNS) {
		uint64_t before = c->server->next_id;

		more = feed(c);
		turns += c->server->next_id != before;
		if (more)
			decrypt(c);
	}
	if (c->upgraded)
		feed_user(c);
	c->advancing = false;
	if (c->state == CONN_LINGER)
		http_wire_drop(c);
	else if (c->state != CONN_DEAD && http_wire_waiting(c) >= HTTP_READ_HIGH)
		pause_reading(c);
	else if (c->state == CONN_READ)
		resume_reading(c);
	if (c->state == CONN_READ && more)
		loop_defer(c->server->loop, &c->again);
	else if (c->state == CONN_READ && c->eof)
		http_conn_close(c, "the client left");
}

/* The client sends no more. An answer that is on its way is still sent. */
static void read_ended(struct http_conn *c)
{
	if (c->state == CONN_FLUSH)
		return;
	if (c->state == CONN_READ && http_wire_waiting(c))
		http_conn_advance(c);
	else
		http_conn_close(c, "the client left");
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct http_conn *c = arg;
	bool ended = c->eof;

	(void)bev;
	http_conn_advance(c);
	/* TLS ends before its connection does. */
	if (c->eof && !ended && (c->state == CONN_BUSY || c->state == CONN_STREAM))
		read_ended(c);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct http_conn *c = arg;

	(void)bev;
	if (what & BEV_EVENT_ERROR) {
		http_conn_close(c, "the connection broke");
	} else if (what & BEV_EVENT_EOF) {
		c->eof = true;
		read_ended(c);
	}
}

/* ---- clocks ---- */

/* A clock over bytes: true when enough have moved since its mark; it then runs again. */
static bool moves(struct http_conn *c, uint64_t *mark, uint64_t now, uint64_t enough)
{
	if (now - *mark < enough)
		return false;
	*mark = now;
	http_server_clock(c, c->clock);
	return true;
}

static void drop_slow(struct http_conn *c)
{
	char target[512] = "";

	log_info("http", "%s %s %s: dropped, it took %llu bytes in %lld ms and %zu wait",
		 c->req.peer, c->req.method,
		 log_quote(target, sizeof(target), c->req.target, strlen(c->req.target)),
		 (unsigned long long)(c->given - http_conn_unsent(c) - c->taken_mark),
		 (long long)c->server->options.stall_ms, http_conn_unsent(c));
	/* Else the kernel would go on with the megabytes that it holds. */
	http_conn_reset(c);
	http_conn_close(c, "the client takes too little");
}

void http_conn_expired(struct http_conn *c)
{
	struct http_options *o = &c->server->options;
	uint64_t least = (uint64_t)o->body_rate * (uint64_t)o->body_ms / 1000;

	switch (c->clock) {
	case CLOCK_HEADER:
		if (http_parse_idle(&c->parse))
			http_conn_close(c, "no request came");
		else
			refuse(c, 408, "the request's header took too long");
		break;
	case CLOCK_BODY:
		if (!moves(c, &c->received_mark, c->received, least ? least : 1))
			refuse(c, 408, "the request's body came too slowly");
		break;
	case CLOCK_STALL:
		least = (uint64_t)o->send_rate * (uint64_t)o->stall_ms / 1000;
		if (!moves(c, &c->taken_mark, c->given - http_conn_unsent(c), least ? least : 1))
			drop_slow(c);
		break;
	default:
		http_conn_close(c, "idle for too long");
	}
}

/* ---- the beginning ---- */

static void name_peer(struct http_conn *c, const struct sockaddr *addr)
{
	char text[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;

	if (addr->sa_family == AF_INET) {
		inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
		snprintf(c->peer_name, sizeof(c->peer_name), "%s:%u", text, ntohs(in->sin_port));
	} else if (addr->sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
		snprintf(c->peer_name, sizeof(c->peer_name), "[%s]:%u", text,
			 ntohs(in6->sin6_port));
	} else {
		snprintf(c->peer_name, sizeof(c->peer_name), "unix");
	}
	c->req.peer = c->peer_name;
	c->req.loopback = http_peers_loopback(addr);
}

bool http_conn_new(struct http_listener *l, int fd, const struct sockaddr *addr,
		   struct http_peer *peer)
{
	struct http_server *s = l->server;
	struct http_conn *c = calloc(1, sizeof(*c));

	bool tls = s->tls && addr->sa_family != AF_UNIX;

	if (c)
		c->server = s;
	if (!c || !http_wire_open(c, fd, tls)) {
		free(c);
		close(fd);
		if (peer)
			http_peers_give(&s->peers, peer);
		return false;
	}
	c->peer = peer;
	c->clock = CLOCK_NONE;
	c->again.run = again;
	c->req.tag = l->tag;
	name_peer(c, addr);
	http_parse_init(&c->parse, &s->options.limits);
	s->counts.connections++;
	TAILQ_INSERT_TAIL(&s->conns, c, all);
	bufferevent_setcb(c->bev, on_read, on_write, on_event, c);
	http_server_clock(c, CLOCK_HEADER);
	if (!bufferevent_enable(c->bev, EV_READ | EV_WRITE))
		return true;
	http_conn_close(c, "out of memory");
	return false;
}

/* ---- what the user asks about a request ---- */

const char *http_request_field(const struct http_request *req, unsigned i, const char **value)
{
	const struct http_conn *c = (const struct http_conn *)req;

	return i < c->parse.nfields ? http_parse_field(&c->parse, i, value) : NULL;
}

const char *http_request_header(const struct http_request *req, const char *name)
{
	const char *value;

	for (unsigned i = 0;; i++) {
		const char *found = http_request_field(req, i, &value);

		if (!found)
			return NULL;
		if (!strcasecmp(found, name))
			return value;
	}
}
