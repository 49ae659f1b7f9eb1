/* SPDX-License-Identifier: MIT */
/* ssh_agent: a queue of questions over one unix socket. The agent answers in order, so the
 * answer that comes belongs to the oldest question. A question that nobody waits for any more
 * stays in the queue until its answer has passed. One I/O thread. */
#include "ssh_agent.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "buf.h"
#include "loop.h"

#define REQUEST_IDENTITIES 11
#define IDENTITIES_ANSWER 12
#define SIGN_REQUEST 13
#define SIGN_RESPONSE 14

#define MESSAGE_MAX (256u * 1024u) /* OpenSSH's agent takes and sends no more */
#define KEYS_MAX 256u
#define LIST_MS 5000 /* how long a list of keys is used again */

struct ssh_agent_ask {
	TAILQ_ENTRY(ssh_agent_ask) link;
	bool sign, dropped, sent;
	struct buf message;
	void (*keys)(void *arg, const struct ssh_agent_key *keys, size_t n, const struct err *err);
	void (*done)(void *arg, const unsigned char *sig, size_t n, const struct err *err);
	void *arg;
};

struct ssh_agent {
	struct event_base *base;
	char *path;
	struct timeval limit;
	struct bufferevent *bev; /* NULL: not connected */
	TAILQ_HEAD(, ssh_agent_ask) asks; /* oldest first; the sent ones come first */
	struct event *soon; /* answers from the kept list; tells failures */
	struct ssh_agent_key *list;
	size_t n;
	int64_t listed_ms; /* 0: no list */
	struct err broken; /* why every question that waits fails; code 0: they do not */
};

static uint32_t u32_at(const unsigned char *s)
{
	return (uint32_t)s[0] << 24 | (uint32_t)s[1] << 16 | (uint32_t)s[2] << 8 | s[3];
}

static void add_u32(struct buf *b, uint32_t n)
{
	const unsigned char bytes[4] = {(unsigned char)(n >> 24), (unsigned char)(n >> 16),
					(unsigned char)(n >> 8), (unsigned char)n};

	buf_add(b, bytes, sizeof(bytes));
}

static void list_free(struct ssh_agent *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free(a->list[i].blob);
		free(a->list[i].comment);
	}
	free(a->list);
	a->list = NULL;
	a->n = 0;
	a->listed_ms = 0;
}

static void ask_free(struct ssh_agent_ask *ask)
{
	buf_deinit(&ask->message);
	free(ask);
}

/* Takes a question out of the queue and gives its answer. */
static void ask_answer(struct ssh_agent *a, struct ssh_agent_ask *ask, const unsigned char *sig,
		       size_t n, const struct err *err)
{
	TAILQ_REMOVE(&a->asks, ask, link);
	if (ask->dropped)
		;
	else if (ask->sign)
		ask->done(ask->arg, sig, n, err);
	else
		ask->keys(ask->arg, a->list, a->n, err);
	ask_free(ask);
}

static void agent_break(struct ssh_agent *a, const char *why)
{
	if (a->bev)
		bufferevent_free(a->bev);
	a->bev = NULL;
	list_free(a);
	err_set(&a->broken, ERR_UNREACHABLE, "ssh-agent %s: %s", a->path, why);
	event_active(a->soon, EV_TIMEOUT, 0);
}

/* ---- answers ---- */

/* One key of the list: blob and comment. Returns how many bytes it took, 0 when it does not fit. */
static size_t key_read(struct ssh_agent_key *k, const unsigned char *s, size_t n)
{
	size_t blob, comment;

	if (n < 4 || (blob = u32_at(s)) > n - 4 || n - 4 - blob < 4)
		return 0;
	comment = u32_at(s + 4 + blob);
	if (comment > n - 8 - blob)
		return 0;
	k->len = blob;
	k->blob = malloc(blob ? blob : 1);
	k->comment = calloc(1, comment + 1);
	if (k->blob)
		memcpy(k->blob, s + 4, blob);
	if (k->comment)
		memcpy(k->comment, s + 8 + blob, comment);
	return 8 + blob + comment;
}

static int list_read(struct ssh_agent *a, const unsigned char *s, size_t n)
{
	uint32_t count = n >= 5 ? u32_at(s + 1) : 0;

	list_free(a);
	if (n < 5 || count > KEYS_MAX)
		return -ERR_PROTOCOL;
	a->list = calloc(count + 1, sizeof(*a->list));
	if (!a->list)
		return -ERR_MEMORY;
	s += 5;
	n -= 5;
	for (; a->n < count; a->n++) {
		size_t took = key_read(&a->list[a->n], s, n);

		if (!took)
			return -ERR_PROTOCOL;
		if (!a->list[a->n].blob || !a->list[a->n].comment) {
			a->n++;
			return -ERR_MEMORY;
		}
		s += took;
		n -= took;
	}
	a->listed_ms = loop_now_ms();
	return 0;
}

static void message_read(struct ssh_agent *a, const unsigned char *s, size_t n)
{
	struct ssh_agent_ask *ask = TAILQ_FIRST(&a->asks);
	struct err err = {0};

	if (!ask || !ask->sent) {
		agent_break(a, "answered without being asked");
		return;
	}
	if (ask->sign) {
		uint32_t len = n >= 5 ? u32_at(s + 1) : 0;

		if (s[0] == SIGN_RESPONSE && n >= 5 && len <= n - 5) {
			ask_answer(a, ask, s + 5, len, &err);
			return;
		}
		err_set(&err, ERR_REFUSED, "ssh-agent would not sign");
		ask_answer(a, ask, NULL, 0, &err);
		return;
	}
	if (s[0] != IDENTITIES_ANSWER || list_read(a, s, n)) {
		list_free(a);
		err_set(&err, ERR_PROTOCOL, "ssh-agent %s: gave no list of keys", a->path);
	}
	ask_answer(a, ask, NULL, 0, &err);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct ssh_agent *a = arg;
	struct evbuffer *in = bufferevent_get_input(bev);

	while (a->bev == bev) {
		unsigned char *s = evbuffer_pullup(in, 4);
		size_t n = s ? u32_at(s) : 0;

		if (!s)
			return;
		if (!n || n > MESSAGE_MAX) {
			agent_break(a, "sent what is no agent message");
			return;
		}
		if (evbuffer_get_length(in) < 4 + n)
			return;
		s = evbuffer_pullup(in, (ev_ssize_t)(4 + n));
		if (!s) {
			agent_break(a, "out of memory");
			return;
		}
		message_read(a, s + 4, n);
		if (a->bev == bev)
			evbuffer_drain(in, 4 + n);
	}
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct ssh_agent *a = arg;

	(void)bev;
	if (what & BEV_EVENT_CONNECTED)
		return;
	if (what & BEV_EVENT_TIMEOUT) {
		/* Only a question that waits makes silence a fault. */
		if (TAILQ_EMPTY(&a->asks))
			bufferevent_enable(a->bev, EV_READ);
		else
			agent_break(a, "does not answer");
		return;
	}
	agent_break(a, what & BEV_EVENT_EOF ? "has gone" :
		    evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
}

/* ---- questions ---- */

static int agent_connect(struct ssh_agent *a)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	if (strlen(a->path) >= sizeof(at.sun_path))
		return -ERR_INVALID;
	strcpy(at.sun_path, a->path);
	a->bev = bufferevent_socket_new(a->base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (!a->bev)
		return -ERR_MEMORY;
	bufferevent_setcb(a->bev, on_read, NULL, on_event, a);
	bufferevent_set_timeouts(a->bev, &a->limit, &a->limit);
	bufferevent_enable(a->bev, EV_READ | EV_WRITE);
	if (bufferevent_socket_connect(a->bev, (struct sockaddr *)&at, sizeof(at)))
		return -ERR_SYSTEM;
	return 0;
}

/* Deferred work: sends what is new, and answers what needs no agent. */
static void on_soon(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_agent *a = arg;
	struct ssh_agent_ask *ask, *next;
	struct err none = {0};

	(void)fd;
	(void)what;
	if (a->broken.code) {
		struct err err = a->broken;

		a->broken.code = 0;
		/* Sent or not: what comes from here on starts with a new connection. */
		for (ask = TAILQ_FIRST(&a->asks); ask; ask = next) {
			next = TAILQ_NEXT(ask, link);
			ask_answer(a, ask, NULL, 0, &err);
		}
		return;
	}
	if (a->listed_ms && loop_now_ms() - a->listed_ms > LIST_MS)
		list_free(a);
	for (ask = TAILQ_FIRST(&a->asks); ask; ask = next) {
		next = TAILQ_NEXT(ask, link);
		if (ask->sent)
			continue;
		if (!ask->sign && a->listed_ms) {
			ask_answer(a, ask, NULL, 0, &none);
			continue;
		}
		if (!a->bev && agent_connect(a)) {
			agent_break(a, "cannot be reached");
			return;
		}
		if (a->broken.code)
			return; /* the connect failed at once */
		/* The limit runs on while nothing is asked. */
		if (ask == TAILQ_FIRST(&a->asks))
			bufferevent_enable(a->bev, EV_READ);
		bufferevent_write(a->bev, ask->message.data, ask->message.len);
		ask->sent = true;
	}
}

static struct ssh_agent_ask *ask_add(struct ssh_agent *a, struct ssh_agent_ask *ask)
{
	if (ask->message.failed) {
		ask_free(ask);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&a->asks, ask, link);
	event_active(a->soon, EV_TIMEOUT, 0);
	return ask;
}

struct ssh_agent_ask *ssh_agent_list(struct ssh_agent *a,
				     void (*keys)(void *arg, const struct ssh_agent_key *keys,
						  size_t n, const struct err *err),
				     void *arg)
{
	struct ssh_agent_ask *ask = calloc(1, sizeof(*ask));

	if (!ask)
		return NULL;
	ask->keys = keys;
	ask->arg = arg;
	add_u32(&ask->message, 1);
	buf_putc(&ask->message, REQUEST_IDENTITIES);
	return ask_add(a, ask);
}

struct ssh_agent_ask *ssh_agent_sign(struct ssh_agent *a, const unsigned char *blob,
				     size_t blob_len, const void *data, size_t len, unsigned flags,
				     void (*done)(void *arg, const unsigned char *sig, size_t n,
						  const struct err *err),
				     void *arg)
{
	struct ssh_agent_ask *ask = calloc(1, sizeof(*ask));

	if (!ask)
		return NULL;
	ask->sign = true;
	ask->done = done;
	ask->arg = arg;
	add_u32(&ask->message, (uint32_t)(1 + 4 + blob_len + 4 + len + 4));
	buf_putc(&ask->message, SIGN_REQUEST);
	add_u32(&ask->message, (uint32_t)blob_len);
	buf_add(&ask->message, blob, blob_len);
	add_u32(&ask->message, (uint32_t)len);
	buf_add(&ask->message, data, len);
	add_u32(&ask->message, flags);
	return ask_add(a, ask);
}

void ssh_agent_drop(struct ssh_agent_ask *ask)
{
	ask->dropped = true;
}

struct ssh_agent *ssh_agent_new(struct event_base *base, const char *path, int limit_ms)
{
	struct ssh_agent *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->base = base;
	a->limit = (struct timeval){limit_ms / 1000, limit_ms % 1000 * 1000};
	TAILQ_INIT(&a->asks);
	a->path = strdup(path);
	a->soon = event_new(base, -1, 0, on_soon, a);
	if (a->path && a->soon)
		return a;
	ssh_agent_free(a);
	return NULL;
}

void ssh_agent_free(struct ssh_agent *a)
{
	struct ssh_agent_ask *ask;

	if (!a)
		return;
	while ((ask = TAILQ_FIRST(&a->asks))) {
		TAILQ_REMOVE(&a->asks, ask, link);
		ask_free(ask);
	}
	if (a->bev)
		bufferevent_free(a->bev);
	if (a->soon)
		event_free(a->soon);
	list_free(a);
	free(a->path);
	free(a);
}

const char *ssh_agent_path(const struct ssh_agent *a)
{
	return a->path;
}
