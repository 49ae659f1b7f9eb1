/* SPDX-License-Identifier: MIT */
/* http: the HTTP/1.1 server. It listens, reads requests (http_parse), hands each whole one to its
 * user, and carries the answer, whole or as a stream. What a client can cost is bounded here: time
 * for a head, rate of a body, idle time, connections in all and per peer, unsent bytes. Requests
 * that are not HTTP are answered here. All of it: loop thread. */
#ifndef EXED_HTTP_H
#define EXED_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "http_parse.h"
#include "loop.h"

struct http_server;
struct ssl_ctx_st;

struct http_options {
	struct http_limits limits;
	int64_t header_ms;         /* from a head's first byte (or the accept) to its end: 10 s */
	int64_t body_ms;           /* the body's rate is judged each time this has passed: 10 s */
	size_t body_rate;          /* bytes a second that a body must bring at least: 1 KiB */
	int64_t idle_ms;           /* between two requests of a connection: 75 s */
	int64_t stall_ms;          /* how often a client that is behind is judged: 60 s */
	size_t send_rate;          /* bytes a second that it must have taken then, at least: 1 KiB */
	unsigned peer_connections; /* of one address (IPv6: one /64), loopback excepted: 64 */
	bool limit_loopback;       /* loopback has that limit too: false */
	unsigned max_connections;  /* in all; 0: what descriptors allow, at most 10,000 */
	unsigned reserve;          /* descriptors left to the rest of the process: 32, or an eighth */
	size_t body_memory;        /* bytes of all bodies held at once: 256 MiB; more is 503 */
	size_t high_water;         /* unsent bytes from which http_write says wait: 256 KiB */
	size_t max_unsent;         /* unsent bytes of a stream that end it: 8 MiB */
	const char *server;        /* the Server header; NULL: none. Copied */
};
void http_options_init(struct http_options *o); /* the defaults above */

/* One request that the user has. It lives from on_request until it is answered (http_respond,
 * http_end or http_cut) or until its on_gone has returned; after that it must not be touched. */
struct http_request {
	/* Borrowed, for as long as the request lives. */
	const char *method, *target, *path, *query, *host;
	const char *peer; /* "127.0.0.1:4711", "[::1]:4711" or "unix" */
	const char *tag;  /* of the listener */
	const char *certificate; /* the name in the client's certificate; NULL: it has shown none */
	const char *body;
	size_t body_len;
	uint64_t id;      /* grows; never the same in one process */
	bool loopback;    /* came over a unix socket or from this machine */

	/* The user's, for the access log; empty at first. */
	char who[80], jid[40];

	/* The user's, all NULL at first. */
	void *arg;
	/* The client has left before the answer's end, or was dropped; why is for the log. */
	void (*on_gone)(struct http_request *req, const char *why);
	/* There is room again after http_write said there was not. */
	void (*on_drain)(struct http_request *req);
	/* After http_upgrade: bytes from the client, borrowed. It may end the request. */
	void (*on_data)(struct http_request *req, const void *data, size_t len);
};

typedef void http_request_fn(struct http_request *req, void *arg);

/* A field of an answer; borrowed during the call only. Connection (but "close"), Content-Length,
 * Transfer-Encoding, Date and Server are http's own: giving one is -ERR_INVALID. */
struct http_pair {
	const char *name, *value;
};

/* The server holds `loop`. on_request is called once per request, one at a time per connection. */
struct http_server *http_server_new(struct loop *loop, const struct http_options *options,
				    http_request_fn *on_request, void *arg, struct err *err);
/* Connections that come from now on over TCP speak TLS with that context (counted); NULL: no TLS. */
void http_server_set_tls(struct http_server *s, struct ssl_ctx_st *ctx);
/* on_head is called, with on_request's arg, when the head of a request is good and its body is not all
 * there. It may answer at once, by http_respond: the body is then not wanted, and the connection ends.
 * Otherwise the request comes to on_request as ever. */
void http_server_on_head(struct http_server *s, http_request_fn *on_head);
/* The options for what begins from now on: connections, requests, clocks. The Server header, reserve
 * and limit_loopback stay as they are. */
void http_server_set_options(struct http_server *s, const struct http_options *options);
/* Listens on "127.0.0.1:16808", "[::1]:80", "localhost:0" or "unix:/path" (a socket with mode 0600;
 * one that nobody listens on any more is replaced). Any other name is looked up, which blocks: at
 * start; its first address counts. tag (copied, may be NULL) is handed back in requests. */
int http_server_listen(struct http_server *s, const char *address, const char *tag,
		       struct err *err);
/* The port of the first TCP listener; 0 when there is none. */
unsigned http_server_port(const struct http_server *s);
/* No new connections, idle ones are closed, and each answer is the last of its connection. */
void http_server_stop_accepting(struct http_server *s);
/* Drops what is left (on_gone is called for each open request). Not from inside on_request. */
void http_server_free(struct http_server *s);

struct http_counts {
	unsigned connections, open; /* connections; requests that the user has */
	uint64_t accepted, requests;
	uint64_t refused;           /* connections closed at a limit: per peer, or to make room */
	uint64_t bad;               /* requests that were answered here */
};
struct http_counts http_server_counts(const struct http_server *s);

/* Value of the first field of that name (letters of either case), or NULL. Borrowed. */
const char *http_request_header(const struct http_request *req, const char *name);
/* Field i, from 0, as it came: name in lower case. NULL at the end. */
const char *http_request_field(const struct http_request *req, unsigned i, const char **value);

/* Answers at once. body is copied as far as it cannot be sent now. Content-Type is application/json
 * when headers do not say otherwise and there is a body; 204, 304 and answers to HEAD carry none.
 * Ends the request, unless it returns an error: -ERR_INVALID (a header or status that cannot be
 * sent; nothing was) or -ERR_CLOSED (begun already). */
int http_respond(struct http_request *req, int status, const struct http_pair *headers,
		 size_t nheaders, const void *body, size_t len, struct err *err);
/* The same with the body {"message": "..."}. */
int http_respond_message(struct http_request *req, int status, const char *message,
			 struct err *err);

/* Answers 101 with these fields and makes the connection a pipe: what the client sends comes to
 * on_data, http_write sends bytes as they are, http_end lets the client have them all and closes.
 * -ERR_INVALID also for a client of HTTP/1.0. */
int http_upgrade(struct http_request *req, const struct http_pair *headers, size_t nheaders,
		 struct err *err);
/* Begins an answer of unknown length: chunked, or to the connection's end for HTTP/1.0. */
int http_start(struct http_request *req, int status, const struct http_pair *headers,
	       size_t nheaders, struct err *err);
/* Sends or queues a piece (copied). 1: go on. 0: queued, but stop until on_drain. -ERR_CLOSED: not
 * begun. -ERR_LIMIT: the client is too slow for max_unsent; on_gone follows. */
int http_write(struct http_request *req, const void *data, size_t len);
/* Bytes of the answer that the client's machine has not taken yet. */
size_t http_unsent(const struct http_request *req);
void http_end(struct http_request *req); /* the stream is whole; ends the request */
/* Ends the request so that the client sees that something is missing. Without http_start: just
 * closes. */
void http_cut(struct http_request *req);

/* "Created" for 201; "Unknown" for a status without a name. Static. */
const char *http_reason(int status);

#endif
