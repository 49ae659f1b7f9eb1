/* SPDX-License-Identifier: MIT */
/* proc_spawn: starts one child. Private to proc.c. */
#ifndef EXED_PROC_SPAWN_H
#define EXED_PROC_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "err.h"

struct content;

struct proc_spawn {
	const char *const *argv;
	const char *const *env; /* "NAME=value", added to the environment; or NULL */
	const char *op_id;      /* EXED_OP; or NULL */
	const char *cwd;        /* or NULL */
	bool clean;             /* nothing but env and EXED_OP */
	bool input;             /* stdin is a pipe, else /dev/null or: */
	const struct content *content; /* stdin is a file; or NULL */
	int channel;            /* its descriptor 3, borrowed; 0: none */
};

/* Starts it in a session of its own. Writes its pid, and our non-blocking ends of its pipes to fds:
 * stdin (-1 without input), stdout, stderr. The caller closes them and waits for the pid.
 * -ERR_NOT_FOUND, -ERR_REFUSED (may not be run), -ERR_SYSTEM, -ERR_MEMORY; then there is no child.
 * Waits for the exec, about a millisecond. */
int proc_spawn(const struct proc_spawn *s, pid_t *pid, int fds[3], struct err *err);

#endif
