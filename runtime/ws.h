/* SPDX-License-Identifier: MIT */
/* ws: the server's side of a WebSocket (RFC 6455) on a request of http.c. It speaks to clients that
 * listen: messages go out, in as many pieces as is convenient; what comes in is answered where the
 * protocol asks for it (ping, close), bounded, and otherwise left aside. All of it: loop thread. */
#ifndef EXED_WS_H
#define EXED_WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "http.h"
#include "loop.h"

struct ws;

struct ws_options {
	int64_t ping_ms;    /* between two pings */
	int64_t silence_ms; /* a client that sends nothing for so long, pongs neither, is dropped; not while it has
			     * something to take */
	size_t max_message; /* bytes of a message of the client; more is close code 1009 */
};
void ws_options_init(struct ws_options *o); /* 15 s, 60 s, 4 KiB */

/* The WebSocket is over without our wish: the client closed it or broke the protocol (code is that of
 * the close frame, why its words), or fell silent (1006). The request has ended; http's on_gone is not
 * called. */
typedef void ws_over_fn(void *arg, int code, const char *why);

/* Answers the upgrade with 101. From then on the request's on_data belongs to ws_data, and http_write
 * and http_end to ws.
 * -ERR_INVALID in *err, and nothing sent, when the request does not ask for it as it should. */
struct ws *ws_accept(struct loop *loop, struct http_request *req, const struct ws_options *o,
		     ws_over_fn *over, void *arg, struct err *err);
/* To be called with what the request's on_data gets. */
void ws_data(struct ws *ws, const void *data, size_t len);
/* Sends a piece of a text message (UTF-8 over all its pieces), the last one or one before it. Returns
 * what http_write does; -ERR_CLOSED when it is over. */
int ws_write(struct ws *ws, const void *data, size_t len, bool last);
/* Sends a close frame behind what was written and ends the request. The reason is cut to what a frame
 * holds. */
void ws_close(struct ws *ws, int code, const char *reason);
/* The request has ended in another way: it is not touched any more. */
void ws_detach(struct ws *ws);
void ws_free(struct ws *ws); /* NULL is nothing; one that is not over is detached */

#endif
