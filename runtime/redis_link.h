/* SPDX-License-Identifier: MIT */
/* redis_link: one connection of the client: look-up, connect, AUTH, the checks of the server, and
 * the way back after it breaks. Inside of redis.c and redis_sub.c only. Loop thread. */
#ifndef EXED_REDIS_LINK_H
#define EXED_REDIS_LINK_H

#include <hiredis/async.h>

#include "redis.h"

struct dns;
struct evdns_getaddrinfo_request;

/* What both connections of a client need; owned by struct redis. */
struct redis_setup {
	struct redis_address address;
	char *library; /* or NULL */
	char *resolver; /* or NULL */
	int revision;  /* of library */
	bool allow_eviction;
	int64_t connect_ms, command_ms;
};

struct redis_link {
	struct event_base *base;
	const struct redis_setup *setup;
	struct redis_info *info; /* where the checks' results go; NULL: AUTH only */
	redisAsyncContext *ac;   /* NULL: not connected and not connecting */
	bool up;
	unsigned failures;       /* in a row */
	struct timer limit, retry;
	struct dns *dns;
	struct evdns_getaddrinfo_request *lookup;
	bool looked_up;          /* `found` is the answer: an address, or "" and why_not */
	char found[64], why_not[96];
	/* Either may end the link. down is called before commands in flight get their NULL replies,
	 * and for each try that failed. */
	void (*on_up)(void *arg);
	void (*on_down)(void *arg, const struct err *why);
	void *arg;
};

int redis_link_init(struct redis_link *l, struct event_base *base, struct err *err);
void redis_link_start(struct redis_link *l); /* first try at the end of this turn */
void redis_link_deinit(struct redis_link *l); /* no callback from it */
/* Breaks the connection (or the try) for this reason and plans the next try. l may be gone after.
 * */
void redis_link_fail(struct redis_link *l, const struct err *why);
/* hiredis gave a NULL reply on ac: the connection is lost. l may be gone after. */
void redis_link_lost(redisAsyncContext *ac);

/* redis_check.c: sends what must be known before the connection may be used, then calls
 * redis_link_ready or redis_link_fail. */
void redis_check_start(struct redis_link *l);
void redis_link_ready(struct redis_link *l);

/* Copies an error reply's text as err: its code is ERR_AWAY when redis cannot serve now but will.
 * */
int redis_reply_err(const struct redisReply *reply, struct err *err);

#endif
