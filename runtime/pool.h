/* SPDX-License-Identifier: MIT */
/* pool: the I/O threads. Each has its own event_base and owns what is made on it. Between a thread
 * and the loop stand two queues, each drained in batches behind one eventfd: work in, done out.
 * Nothing else is shared. */
#ifndef EXED_POOL_H
#define EXED_POOL_H

#include <event2/event.h>

#include "err.h"
#include "loop.h"

struct pool;
struct io; /* one I/O thread */

/* A message between the loop thread and an I/O thread; embedded in a larger struct, whose memory
 * goes with it: from post to run it belongs to the thread, from io_done to done to the loop. The
 * same struct may travel many times, but is in at most one queue at a time. */
struct work {
	struct work *next;
	void (*run)(struct io *io, struct work *w); /* on the I/O thread */
	void (*done)(struct work *w);               /* on the loop thread */
};

/* Starts n threads (1 to 64). Loop thread. */
struct pool *pool_new(struct loop *loop, int n, struct err *err);
/* Stops and joins the threads; each runs its on_stop hooks first, and what they hand to io_done is
 * done before this returns. What is posted then is never run. Loop thread. */
void pool_stop(struct pool *pool);
void pool_free(struct pool *pool); /* stops it, unless that was done; NULL is none */
int pool_size(const struct pool *pool);
struct io *pool_io(struct pool *pool, unsigned i); /* i modulo the number of threads */

/* Both give away at the end of the caller's turn, in the order of the calls. */
void io_post(struct io *io, struct work *w); /* loop thread: w->run on the I/O thread */
void io_done(struct io *io, struct work *w); /* I/O thread: w->done on the loop thread */
struct event_base *io_base(struct io *io);   /* for use on that thread only */
struct loop *io_loop(struct io *io);
int io_count(const struct io *io);           /* how many I/O threads its pool has */

/* One slot of state per thread for the SSH client (ssh.c): set on the thread; `stop` runs on it
 * before it ends. */
void io_set_ssh(struct io *io, void *state, void (*stop)(void *state));
void *io_ssh(struct io *io);

#endif
