/* SPDX-License-Identifier: MIT */
/* http_client: HTTP requests to others, by libcurl on the loop. One client per process keeps the
 * connections; a call is one request and its answer. Everything: loop thread.
 *
 * What a call does not do, so that it does exactly what its caller wrote:
 * - follow redirects: a 3xx is an answer. The request, with its secrets and its body, goes to nobody
 *   whom the caller did not name;
 * - use a proxy of the environment, unless it is asked to: who sets a variable should not get to
 *   read what a node says to others;
 * - repeat itself. A connection that was kept may be closed by the server in the moment that it is
 *   used; libcurl then sends the request again. So what may not be repeated gets a new one.
 * Certificates are checked. Names are looked up on threads of libcurl's. */
#ifndef EXED_HTTP_CLIENT_H
#define EXED_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

struct loop;
struct http_client;
struct http_client_call;

struct http_client_options {
	unsigned connections;      /* open at once; further calls wait for a place */
	unsigned host_connections; /* of these to one host */
	unsigned idle;             /* kept open when nobody uses them */
	int64_t keep_ms;           /* an idle one that is older is not used again */
	size_t max_header;         /* bytes of an answer's header lines, interim answers included */
};

/* Everything is copied. */
struct http_client_request {
	const char *method;          /* GET HEAD POST PUT PATCH DELETE OPTIONS */
	const char *url;             /* http or https */
	const char *const *headers;  /* "Name: value", ended by NULL; may be NULL */
	const char *body;            /* NULL: none */
	size_t body_len;
	const char *socket;          /* a unix socket to connect to; NULL: what the URL says */
	const char *ca;              /* PEM file of the authorities to trust; NULL: the system's */
	const char *cert, *key;      /* PEM files: our own certificate; NULL: none */
	bool proxy;                  /* proxies of the environment are used */
	bool repeatable;             /* may reach the server twice */
	bool stream;                 /* no max_body; the caller takes the body as it comes */
	size_t max_body;             /* bytes that are kept; the rest is not read */
	int64_t timeout_ms;          /* to the whole answer; of a stream: to its head */
	int64_t idle_ms;             /* of a stream, between two pieces; 0: no limit */
};

struct http_client *http_client_new(struct loop *loop, const struct http_client_options *o,
				    struct err *err);
/* Closes its connections. There must be no calls any more. NULL is fine. */
void http_client_free(struct http_client *c);

/* Starts a request. wake(arg) is called at the end, and of a stream when the head has come and whenever
 * more has; it may look at the call, and neither take from it nor end it. NULL with *err: ERR_INVALID for what is wrong with the request
 * (the message begins with the field's name), ERR_MEMORY. */
struct http_client_call *http_client_start(struct http_client *c, const struct http_client_request *r,
					   void (*wake)(void *arg), void *arg, struct err *err);
/* Ends it, if it has not, and frees it; wake is not called again. NULL is fine. */
void http_client_end(struct http_client_call *call);

/* Whether it is over; *why (borrowed) is then NULL for a whole answer, else why there is none or only a
 * part: ERR_TIMEOUT, ERR_UNREACHABLE, ERR_REFUSED (a certificate), ERR_PROTOCOL, ERR_LIMIT, ERR_MEMORY.
 * The message names method, scheme, host and port, nothing else of the request. */
bool http_client_ended(const struct http_client_call *call, const struct err **why);
/* Of a call that has ended: whether the server may have got any of the request. */
bool http_client_sent(const struct http_client_call *call);
/* The status when the whole head is there, else 0. */
int http_client_status(const struct http_client_call *call);
/* The head's fields as they came: lower-case name, NUL, value, NUL, ... Borrowed. */
const struct buf *http_client_fields(const struct http_client_call *call);
/* What of the body is there. The caller of a stream takes it out (buf_take, buf_clear) and then calls
 * http_client_took: while 256 KiB wait here, nothing is read from the server. */
struct buf *http_client_body(struct http_client_call *call);
void http_client_took(struct http_client_call *call);
bool http_client_truncated(const struct http_client_call *call); /* max_body was reached */

/* For tests and metrics: calls that have not ended. */
unsigned http_client_running(const struct http_client *c);

#endif
