/* SPDX-License-Identifier: MIT */
/* redis_watch: lets a loop tell hiredis when its socket can be read and written. hiredis' own header
 * for libevent does not look whether there was memory, and sets each event up again after every read;
 * here events stay. Loop thread. */
#ifndef EXED_REDIS_WATCH_H
#define EXED_REDIS_WATCH_H

#include <event2/event.h>
#include <hiredis/async.h>

/* To be called once for a context that redisAsyncConnect made, which owns what is made here and frees
 * it with itself. Returns 0, or -1 when there is no memory for it; then ac is as it was. */
int redis_watch(redisAsyncContext *ac, struct event_base *base);

#endif
