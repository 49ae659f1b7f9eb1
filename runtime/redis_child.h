/* SPDX-License-Identifier: MIT */
/* redis_child: the private redis-server: a child of this process on a unix socket in the state
 * directory, started again when it dies, ended with us. Loop thread, which must be the thread that
 * lives as long as the process: the kernel ends the child when the thread that forked it ends. */
#ifndef EXED_REDIS_CHILD_H
#define EXED_REDIS_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "err.h"
#include "loop.h"
#include "redis.h"

struct redis_child;

struct redis_child_options { /* everything is copied */
	const char *dir;    /* state directory, whose lock (state_dir.h) the caller holds */
	const char *server; /* program: name to look for in PATH, or path; NULL: redis-server */
	long long memory;   /* its maxmemory in bytes; 0: none */
	/* Once: it answers (why NULL), or it could not be started: said with its own words where there
	 * are any. Not called when it is stopped before. May call any function here. */
	void (*on_start)(void *arg, const struct err *why);
	void *arg;
};

/* Writes what the server needs into dir (redis.conf, redis.password: 0600) and starts it; on_start
 * comes later. NULL with *err when it cannot even be tried: no such program, a path too long for a
 * socket, a file that cannot be written. */
struct redis_child *redis_child_new(struct loop *loop, const struct redis_child_options *options,
				    struct err *err);
/* Where it listens; for redis_new. Borrowed. */
const struct redis_address *redis_child_address(const struct redis_child *child);
/* Its process, or 0 when none runs now. */
pid_t redis_child_pid(const struct redis_child *child);
/* "" or what the last start said about its file being cut at the tail. Borrowed. */
const char *redis_child_notice(const struct redis_child *child);
/* "" or why the last server ended, until the next one has run for a while. Borrowed. */
const char *redis_child_trouble(const struct redis_child *child);
/* Ends it: SIGTERM, and SIGKILL after limit_ms. What it has answered is on its disk either way. on_end comes
 * later. */
void redis_child_stop(struct redis_child *child, int64_t limit_ms, void (*on_end)(void *arg), void *arg);
/* Frees it; a server that still runs is ended with SIGKILL (what it had acknowledged is on its
 * disk). */
void redis_child_free(struct redis_child *child);

#endif
