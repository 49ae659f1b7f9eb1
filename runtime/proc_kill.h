/* SPDX-License-Identifier: MIT */
/* proc_kill: kills what a child of ours started, all of it, and looks whether it is gone.
 *
 * It reads /proc, which takes milliseconds on a busy machine and may hang on a sick process, so
 * it has a thread of its own: jobs go in, and come back done through an eventfd. Private to
 * proc.c. */
#ifndef EXED_PROC_KILL_H
#define EXED_PROC_KILL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* What is killed: `pid`, a session leader whose exit status nobody has taken yet (so that its
 * number cannot be another's), its process group, its session, all their descendants, every
 * process that has EXED_OP=op_id in its environment, and every orphan that holds its output open. */
struct proc_kill {
	struct proc_kill *next; /* used by the queues */
	void *owner;            /* the caller's; not looked at */
	pid_t pid;
	char op_id[128];        /* empty: none */
	unsigned long output[2]; /* inode numbers of its stdout and stderr pipes; 0: none */
	unsigned long long start; /* used by the killer */
	int survivors;          /* answer: what still lives; -1 when it could not be looked */
	int possible;           /* answer: living orphans of our user and cgroup, younger than it and
				 * without an op id, which may be its */
};

/* Kills the n of `list` (linked by next): stops all, looks again until nothing is new, kills
 * them, looks until they are gone or `limit_ms` has passed. Blocking. Any thread. */
void proc_kill_now(struct proc_kill *list, int64_t limit_ms);

struct proc_killer; /* the thread */

/* Starts it. *fd becomes readable when jobs are done; it belongs to the killer. */
struct proc_killer *proc_killer_new(int *fd, struct err *err);
/* Lets the job under way end, joins the thread, and returns the jobs that were not fetched. */
struct proc_kill *proc_killer_free(struct proc_killer *k);
/* Hands over a job of the caller's; it comes back by proc_killer_fetch, exactly once. */
void proc_killer_post(struct proc_killer *k, struct proc_kill *job);
/* The jobs that are done, linked; NULL when there are none. */
struct proc_kill *proc_killer_fetch(struct proc_killer *k);

#endif
