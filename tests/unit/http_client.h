/* SPDX-License-Identifier: MIT */
/* http_client: a plain client for the tests of the HTTP server, in the same thread: while it waits
 * it lets the server's loop turn. Every wait ends within CLIENT_LIMIT_MS and fails the test then.
 * */
#ifndef EXED_TEST_HTTP_CLIENT_H
#define EXED_TEST_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "loop.h"

#define CLIENT_LIMIT_MS 10000

struct answer {
	int status;      /* 0: the connection ended before an answer */
	struct buf head; /* with its empty line */
	struct buf body; /* as it came: chunks are left as they are */
	bool closed;     /* the server closed behind it */
	bool cut;        /* by a reset, or in the middle */
};

void client_loop(struct loop *loop); /* the loop that turns from now on */
void client_turn(void);              /* what is ready now, deferred work too */
/* Turns until *flag is true (or *count reaches n). */
void client_until(const bool *flag);
void client_until_count(const int *count, int n);
void client_pass(int ms);            /* turns for that long */

int client_dial(unsigned port); /* 127.0.0.1 */
void client_send(int fd, const void *bytes, size_t n);
void client_puts(int fd, const char *text);
/* Reads exactly one answer; head: it answers a HEAD request and has no body. */
void client_read(int fd, struct answer *a, bool head);
/* Waits for the server to close; returns the number of bytes that came before. */
size_t client_read_end(int fd, bool *reset);
void client_answer_free(struct answer *a);
/* The value of a field in the head (name as it is sent), in a static buffer; NULL: it has none. */
const char *client_field(struct answer *a, const char *name);

#endif
