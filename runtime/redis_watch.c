/* SPDX-License-Identifier: MIT */
/* redis_watch: the hooks of a hiredis context (hiredis/async.h, ev) over two events of libevent, which
 * live as long as the context. Loop thread. */
#include "redis_watch.h"

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdlib.h>

struct watch {
	redisAsyncContext *ac;
	struct event readable, writable;
	bool tried; /* to write, and not all went: the socket says when it takes more */
};

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;

	(void)fd;
	(void)what;
	redisAsyncHandleRead(w->ac); /* may free w */
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;

	(void)fd;
	(void)what;
	w->tried = true;
	redisAsyncHandleWrite(w->ac); /* may free w */
}

static void add_read(void *arg)
{
	struct watch *w = arg;

	if (!event_pending(&w->readable, EV_READ, NULL))
		event_add(&w->readable, NULL);
}

static void del_read(void *arg)
{
	struct watch *w = arg;

	event_del(&w->readable);
}

/* A socket nearly always takes what there is, so it is written behind what this turn has left to do, all
 * commands of the turn at once; only what did not go waits for the socket. That saves a turn of the loop
 * and two system calls. */
static void add_write(void *arg)
{
	struct watch *w = arg;

	if (event_pending(&w->writable, EV_WRITE, NULL))
		return;
	if (w->tried)
		event_add(&w->writable, NULL);
	else
		event_active(&w->writable, EV_WRITE, 0);
}

static void del_write(void *arg)
{
	struct watch *w = arg;

	w->tried = false;
	event_del(&w->writable);
}

static void clean_up(void *arg)
{
	struct watch *w = arg;

	event_del(&w->readable);
	event_del(&w->writable);
	free(w);
}

int redis_watch(redisAsyncContext *ac, struct event_base *base)
{
	struct watch *w = malloc(sizeof(*w));

	if (!w)
		return -1;
	w->ac = ac;
	w->tried = true; /* to connect */
	event_assign(&w->readable, base, ac->c.fd, EV_READ | EV_PERSIST, on_readable, w);
	event_assign(&w->writable, base, ac->c.fd, EV_WRITE | EV_PERSIST, on_writable, w);
	/* Writable is how a socket says that it is connected. */
	if (event_add(&w->readable, NULL) || event_add(&w->writable, NULL)) {
		clean_up(w);
		return -1;
	}
	ac->ev.addRead = add_read;
	ac->ev.delRead = del_read;
	ac->ev.addWrite = add_write;
	ac->ev.delWrite = del_write;
	ac->ev.cleanup = clean_up;
	ac->ev.data = w;
	return 0;
}
