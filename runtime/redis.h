/* SPDX-License-Identifier: MIT */
/* redis: the client of the job store: one pipelined connection for commands, one for SUBSCRIBE,
 * both made again with back-off for as long as the client lives. All of it: loop thread.
 *
 * What is known of a command that got no reply is told by the error's code:
 *   ERR_AWAY         certainly not done: there was no connection, or redis could not serve it now
 *                    (it loads its data, is a read-only replica, is busy, or lost our functions);
 *   ERR_LIMIT        certainly not done: too much waits already;
 *   ERR_UNREACHABLE  unknown: the connection broke between sending and the reply;
 *   ERR_TIMEOUT      unknown: no reply within the limit; a later one is dropped;
 *   ERR_CLOSED       unknown: redis_free came first.
 * An error that redis itself replied with is a reply (REDIS_REPLY_ERROR), not an err: the command
 * was refused and did nothing.
 *
 * The process must ignore SIGPIPE. */
#ifndef EXED_REDIS_H
#define EXED_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"
#include "loop.h"

struct redis;
struct rounds;
struct redis_sub;
struct redisReply; /* <hiredis/hiredis.h> */

/* Where a server is. All strings owned; all zero is nothing. */
struct redis_address {
	char *socket;   /* path of a unix socket, or NULL: */
	char *host;     /* name or address, and */
	int port;
	int db;
	char *user;     /* NULL: the default user */
	char *password; /* NULL: no AUTH */
	char text[128]; /* for messages; has no secret */
};

/* Reads redis://[[user]:password@]host[:port][/db] or unix://[[user]:password@]/path[?db=N]; user
 * and password percent-encoded (RFC 3986, 2.1). -ERR_INVALID says what is wrong; rediss:// is
 * refused unless TLS is built in. On failure *a is all zero. Any thread. */
int redis_address_parse(struct redis_address *a, const char *url, struct err *err);
void redis_address_deinit(struct redis_address *a);

struct redis_options { /* everything is copied */
	const struct redis_address *address;
	/* Text of the function library, with a line "local REVISION = N"; loaded when the server has none
	 * or an older one. NULL: no functions are needed. */
	const char *library;
	const char *resolver;  /* name servers, as dns_new takes them; NULL: resolv.conf's */
	bool allow_eviction;   /* take a server that may throw keys away */
	int64_t connect_ms;    /* from the start of a try until it can be used; 0: 5,000 */
	int64_t command_ms;    /* limit of a command that names none; also: silence for this long while
				  commands wait ends the connection. 0: 10,000 */
	size_t max_bytes;      /* of commands without a reply; 0: 64 MiB */
	unsigned max_commands; /* without a reply; 0: 100,000 */
	/* The connection can be used (up, why NULL), or cannot and why: ERR_REFUSED when the server is
	 * there but will not do until somebody changes it, else ERR_UNREACHABLE, ERR_TIMEOUT, ERR_AWAY.
	 * Called on each change of state or of reason; may call redis_free. May be NULL. */
	void (*on_state)(void *arg, bool up, const struct err *why);
	void *arg;
};

/* What the server said of itself when the connection came up. */
struct redis_info {
	char version[24];
	bool durable;          /* every acknowledged write is on its disk */
	char durability[128];  /* "full", or "degraded: " and why */
	long long used_memory; /* bytes, then */
	unsigned long connects; /* how often it was connected to */
};

/* Starts to connect; on_state comes later, never from inside. NULL with *err. */
struct redis *redis_new(struct loop *loop, const struct redis_options *options, struct err *err);
/* Ends it: every callback that is still owed is called with ERR_CLOSED before this returns;
 * subscriptions end silently (their structs are freed). May be called from any callback. */
void redis_free(struct redis *r);
/* For who may outlive redis_free: between ref and unref a closed client may still be called. It
 * refuses every request (ERR_AWAY). */
struct redis *redis_ref(struct redis *r);
void redis_unref(struct redis *r);
/* Whether redis_free came. */
bool redis_is_closed(const struct redis *r);
bool redis_is_up(const struct redis *r);
const struct redis_info *redis_get_info(const struct redis *r);
/* Why it is not up; message "" while it is, or before the first try ended. Borrowed. */
const struct err *redis_get_error(const struct redis *r);

/* The reply is borrowed for the call; exactly one of reply and err is not NULL. May call anything
 * here. */
typedef void redis_cb(void *arg, const struct redisReply *reply, const struct err *err);

/* Keeps a callback's whole reply (not a part of it) for after the callback. Freed with redis_reply_free. */
struct redisReply *redis_reply_take(const struct redisReply *reply);
void redis_reply_free(struct redisReply *reply); /* NULL is nothing */

/* Sends a command; the arguments are copied; lens NULL: they are C strings. cb is called exactly
 * once and later, when 0 is returned; never when -ERR_x (AWAY, LIMIT, MEMORY, all: not done) is.
 * cb NULL: the reply does not matter. timeout_ms <= 0: options.command_ms. Commands of one
 * connection are done in the order of the calls. */
int redis_call(struct redis *r, int argc, const char *const *argv, const size_t *lens, redis_cb *cb,
	       void *arg, int64_t timeout_ms, struct err *err);
/* The same for one command that is already in the protocol's form (RESP array of bulk strings). resp stays
 * the caller's; that of redis_scratch needs no other. */
int redis_raw(struct redis *r, struct buf *resp, redis_cb *cb, void *arg, int64_t timeout_ms,
	      struct err *err);
/* An empty buffer of the client's, to make a command for redis_raw in; until the next call of any function. */
struct buf *redis_scratch(struct redis *r);
/* For commands that may wait for others of their kind: those of one round cost the server one write of its
 * file. Until redis_free. */
enum redis_kind { REDIS_ASKING, REDIS_TELLING };
struct rounds *redis_rounds(struct redis *r, enum redis_kind kind);
/* Commands and bytes that wait for a reply. */
unsigned redis_pending(const struct redis *r, size_t *bytes);

struct redis_sub_ops {
	/* A message on the channel; borrowed. */
	void (*message)(void *arg, const char *data, size_t len);
	/* The subscription stands, at first and after each reconnect: messages may have been missed
	 * before, so look now. */
	void (*subscribed)(void *arg);
};
/* Subscribes; the second connection is made at the first use and kept. Channel is copied; ops are
 * borrowed for as long as it lives. NULL with *err when memory is out. Both callbacks may
 * unsubscribe and may free the client. */
struct redis_sub *redis_subscribe(struct redis *r, const char *channel,
				  const struct redis_sub_ops *ops, void *arg, struct err *err);
void redis_unsubscribe(struct redis_sub *sub); /* no callback after it */

#endif
