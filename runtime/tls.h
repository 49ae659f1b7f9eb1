/* SPDX-License-Identifier: MIT */
/* tls: the server's side of TLS for http_conn: a context made from files, and a session that turns
 * bytes of the socket into bytes of the client and back. A session has no socket: whoever owns it
 * moves the bytes, so deadlines and bounds stay in one place. Loop thread. */
#ifndef EXED_TLS_H
#define EXED_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "err.h"

struct evbuffer;
struct ssl_ctx_st; /* OpenSSL's SSL_CTX, counted: tls_context_ref, tls_context_unref */

/* Reads certificate (and chain), key and, when it is not NULL, the authority whose clients alone
 * are let in. The key must not be readable by others than its owner and group. NULL with *err,
 * whose message begins with the name of the file that is wrong. Blocking: at start and reload. */
struct ssl_ctx_st *tls_context_new(const char *cert, const char *key, const char *client_ca,
				   struct err *err);
struct ssl_ctx_st *tls_context_ref(struct ssl_ctx_st *ctx); /* NULL is fine, here and below */
void tls_context_unref(struct ssl_ctx_st *ctx);
/* Days until the certificate ends; negative when it has ended. */
int tls_context_days(const struct ssl_ctx_st *ctx);

struct tls;
struct tls *tls_new(struct ssl_ctx_st *ctx); /* NULL: out of memory */
void tls_free(struct tls *t);

enum tls_state {
	TLS_OPEN,   /* handshake or data; more bytes are wanted */
	TLS_ENDED,  /* the client has said that it sends no more (close_notify) */
	TLS_PLAIN,  /* it speaks HTTP without TLS */
	TLS_BROKEN, /* no TLS, or against its rules: only what is in `out` is still to be sent */
};

/* Takes bytes from `wire`, which the socket gave, puts what the client said into `in` until that
 * holds `most` bytes, and what has to go out (handshake, alerts) into `out`. */
enum tls_state tls_receive(struct tls *t, struct evbuffer *wire, struct evbuffer *in, size_t most,
			   struct evbuffer *out);
/* Turns n bytes for the client into bytes for the socket. 0, or -ERR_PROTOCOL before the handshake
 * has ended and after a failure; -ERR_MEMORY. */
int tls_send(struct tls *t, const void *data, size_t n, struct evbuffer *out);
/* Says that no more will be sent. */
void tls_end(struct tls *t, struct evbuffer *out);
/* Whether the handshake has ended. */
bool tls_ready(const struct tls *t);
/* After TLS_BROKEN: why, for the log; static or t's. */
const char *tls_problem(const struct tls *t);
/* The name in the client's certificate: its CN, else its first DNS name, mail address or URI, with
 * what is not printable ASCII as %XX; cut to cap. False when it has shown none. */
bool tls_client_name(const struct tls *t, char *out, size_t cap);

#endif
