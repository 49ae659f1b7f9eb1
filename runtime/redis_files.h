/* SPDX-License-Identifier: MIT */
/* redis_files: what the private redis-server finds in its directory, and what it left there.
 * Inside of redis_child.c only. All of it blocks for as long as a few calls on small local files
 * take. */
#ifndef EXED_REDIS_FILES_H
#define EXED_REDIS_FILES_H

#include <limits.h>
#include <sys/types.h>

#include "err.h"

struct redis_files {
	char dir[PATH_MAX];
	char socket[PATH_MAX];   /* DIR/redis.sock */
	char conf[PATH_MAX];     /* DIR/redis.conf */
	char log[PATH_MAX];      /* DIR/redis.log */
	char server[PATH_MAX];   /* the program */
	char password[65];
	int lock;                /* descriptor of DIR/redis.lock, handed on to the server; -1: not open */
	off_t log_start;         /* where the log of this start begins */
	char aof[64];            /* the file that its writes go to, as it was before this start */
	off_t aof_size;
};

/* Finds the program, checks the paths, reads or makes the password, writes redis.conf. */
int redis_files_init(struct redis_files *f, const char *dir, const char *server, long long memory,
		     struct err *err);
void redis_files_deinit(struct redis_files *f);
/* Takes DIR/redis.lock, which a server of a former exed holds until it is gone. 0, -ERR_AWAY while
 * it is held, or another error. */
int redis_files_lock(struct redis_files *f, struct err *err);
/* Before a start: takes a stale socket away, bounds the log, notes where it and the data end. */
void redis_files_prepare(struct redis_files *f);
/* The last complaint in the log of this start, or "". */
void redis_files_complaint(const struct redis_files *f, char *out, size_t cap);
/* Why nothing more can be written there ("no room in DIR: No space left on device"), or "". */
void redis_files_room(const struct redis_files *f, char *out, size_t cap);
/* What the log of this start says about a file that was cut at its tail, or "". */
void redis_files_cut(const struct redis_files *f, char *out, size_t cap);

#endif
