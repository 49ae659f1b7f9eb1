/* SPDX-License-Identifier: MIT */
/* http_conn: the inside of http, shared by http.c (the server), http_listen.c (accepting),
 * http_conn.c (the life of a connection) and http_reply.c (answers); nobody else includes it. Loop
 * thread.
 *
 * A connection is in one state and under at most one clock:
 *
 *   READ ──whole request──> BUSY ──http_start──> STREAM
 *    ^                        │ http_respond        │ http_end
 *    └── all sent, kept ─── FLUSH <─────────────────┘
 *                             └── not kept ──> LINGER ──> DEAD (freed at the end of the turn)
 */
#ifndef EXED_HTTP_CONN_H
#define EXED_HTTP_CONN_H

#include <event2/bufferevent.h>
#include <event2/buffer.h>
#include <sys/queue.h>
#include <sys/uio.h>
#include <time.h>

#include "http.h"
#include "http_peers.h"
#include "tls.h"

enum http_conn_state {
	CONN_READ,   /* reads a request, or waits for one */
	CONN_BUSY,   /* the user has it, nothing is answered yet */
	CONN_STREAM, /* between http_start and http_end */
	CONN_FLUSH,  /* answered; waits until the client has taken it */
	CONN_LINGER, /* our side is shut; reads on, so that the client sees the answer */
	CONN_DEAD,
};

/* Each has one length, so its list is in the order of ends and only its head is looked at. */
enum http_clock { CLOCK_IDLE, CLOCK_HEADER, CLOCK_BODY, CLOCK_STALL, CLOCK_LINGER, CLOCK_KINDS,
		  CLOCK_NONE = CLOCK_KINDS };

TAILQ_HEAD(http_conn_list, http_conn);

struct http_conn {
	struct http_request req; /* first: a request is its connection */
	struct http_server *server;
	TAILQ_ENTRY(http_conn) all, timed;
	struct bufferevent *bev;
	struct evbuffer *in; /* what the client said: the bufferevent's input, or with TLS its own */
	struct tls *tls;     /* NULL: none */
	struct event *closed; /* tells that the client left while reading pauses; made when needed */
	struct http_peer *peer;
	struct http_parse parse;
	struct deferred again; /* goes on with what was left, or drops it */
	const char *drop;      /* why `again` drops it; NULL: it does not */

	enum http_conn_state state;
	enum http_clock clock;
	int64_t due;
	bool ended;     /* TLS: we have said that no more comes */
	bool advancing; /* inside http_conn_advance */
	bool handed;    /* the user has the request */
	bool in_body;
	bool eof;       /* the client sends no more */
	bool paused;    /* the socket is not read */

	bool keep;      /* another request may follow */
	bool chunked;
	bool upgraded;  /* no HTTP any more */
	bool bodiless;  /* HEAD, 204, 304 */
	bool full;      /* http_write has said wait */
	int status;
	uint64_t sent;  /* bytes of the answer's body, for the log */
	int64_t began_ms;

	uint64_t given, taken_mark; /* bytes put into the output; taken when the clock began */
	uint64_t received, received_mark; /* the same of a body */
	size_t body_counted; /* part of the server's body_held */
	char peer_name[64], certificate[128];
};

struct http_listener {
	struct http_listener *next;
	struct http_server *server;
	struct event *ev;
	int fd;
	unsigned port;
	char *tag;
	char *path; /* of a unix socket that this listener made; NULL otherwise */
};

struct http_server {
	struct loop *loop;
	struct http_options options; /* its server is owned */
	struct ssl_ctx_st *tls;      /* of new connections; NULL: none */
	http_request_fn *on_request, *on_head; /* on_head: NULL for none */
	void *arg;
	struct http_listener *listeners;
	struct http_conn_list conns, dying, clocks[CLOCK_KINDS];
	int64_t clock_ms[CLOCK_KINDS];
	struct timer tick; /* for the clock that ends first */
	int64_t tick_due;  /* 0: not set */
	struct timer retry; /* accepting again after a pause */
	bool paused, draining;
	int fd_limit; /* a connection with this number or a higher one is one too many */
	struct http_peers peers;
	struct deferred reap;
	struct http_counts counts;
	uint64_t next_id;
	size_t body_held;
	struct buf scratch; /* an answer's head, while it is made */
	time_t date_at;
	char date[40];
};

/* http.c */
void http_server_clock(struct http_conn *c, enum http_clock clock); /* from now; CLOCK_NONE: off */
const char *http_server_date(struct http_server *s);
/* Closes a connection that nobody would miss, to make room for a new one. False: there is none. */
bool http_server_evict(struct http_server *s);

/* http_listen.c */
void http_listen_pause(struct http_server *s);
void http_listen_resume(struct http_server *s);
void http_listen_close(struct http_listener *l); /* stops listening; the struct stays */
void http_listen_free(struct http_listener *l);

/* http_conn.c */
/* Takes fd and peer. False: out of memory, both given back. */
bool http_conn_new(struct http_listener *l, int fd, const struct sockaddr *addr,
		   struct http_peer *peer);
void http_conn_advance(struct http_conn *c);  /* goes on with the bytes that have come */
void http_conn_close(struct http_conn *c, const char *why); /* now; on_gone when the user has it */
void http_conn_reset(struct http_conn *c);    /* its close will be a reset */
void http_conn_free(struct http_conn *c);     /* a closed one */
void http_conn_expired(struct http_conn *c);  /* its clock has run out */
void http_conn_answered(struct http_conn *c); /* the answer is whole: logs, and what comes after */
void http_conn_resume(struct http_conn *c);   /* reads again, what has come first */
void http_conn_drop_later(struct http_conn *c, const char *why);

/* http_wire.c */
#define HTTP_READ_HIGH 65536 /* bytes that wait for their turn; then the socket is not read */
/* Begins; false: out of memory, fd stays the caller's. */
bool http_wire_open(struct http_conn *c, int fd, bool tls);
void http_wire_close(struct http_conn *c); /* fd too */
size_t http_wire_pending(const struct http_conn *c); /* bytes in c->in; of a closed one 0 */
size_t http_wire_waiting(const struct http_conn *c); /* with those that are not decrypted yet */
void http_wire_drop(struct http_conn *c); /* what has come is not wanted */
enum tls_state http_wire_decrypt(struct http_conn *c); /* as far as c->in has room */
bool http_wire_end(struct http_conn *c); /* the last words of TLS; true: they are to be sent */
void http_wire_watch(struct http_conn *c); /* the clock of what waits to be sent */
size_t http_conn_unsent(const struct http_conn *c);
void http_conn_give(struct http_conn *c, struct iovec *iov, int n); /* sends or queues */

/* http_reply.c: an answer of our own, after which the connection closes. */
void http_reply_refuse(struct http_conn *c, int status, const char *message);

#endif
