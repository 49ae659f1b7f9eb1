/* SPDX-License-Identifier: MIT */
/* proc_private: what proc.c and proc_stop.c share. Loop thread. */
#ifndef EXED_PROC_PRIVATE_H
#define EXED_PROC_PRIVATE_H

#include "proc.h"
#include "proc_kill.h"

#define PROC_OPEN_MS 2000 /* how long output may stay open after the exit */

struct proc_pipe {
	int fd; /* -1: closed */
	struct event *ev;
};

struct proc {
	struct proc *next, **link;
	struct procs *procs;
	const struct ssh_exec_ops *ops;
	void *arg;
	struct ssh_result result;
	const char *op_id;
	pid_t pid;
	int pidfd; /* -1: SIGCHLD is watched */
	struct event *exit_ev;
	struct proc_pipe in, out, errs;
	const char *input;
	size_t input_left;
	int64_t limit_ms;
	struct timer limit;   /* of the command, then of the kill */
	struct timer settle;  /* after the exit, for the output */
	struct deferred end;  /* of what never started */
	struct proc_kill *kill; /* under way; the killer's */
	bool gone;            /* the exit was seen */
	bool paused, killed;
};

struct procs {
	struct loop *loop;
	struct proc *first;
	unsigned count;
	struct proc_killer *killer; /* made at the first kill */
	struct event *killer_ev;
	bool stopping;
};

/* ---- proc.c ---- */

/* Takes the exit status, so that no zombie stays. False when there is none yet. */
bool proc_reap(pid_t pid);
/* Notes how it ended, if it has; the status is not taken. */
bool proc_look(struct proc *p);
bool proc_is_open(const struct proc *p);
/* Hands over all that is in its pipes. */
void proc_drain(struct proc *p);
/* Ends it when nothing more is to come; else waits for the output, but not for ever: a child of
 * it may hold the pipe. Call it last. */
void proc_try_finish(struct proc *p);
/* Calls end and lets go of p: nothing may touch it after. */
void proc_finish(struct proc *p);
void proc_unlink(struct proc *p);
void proc_free(struct proc *p);

/* ---- proc_stop.c ---- */

void proc_limit_over(void *arg); /* timer: a struct proc */
void proc_stop(void *state);     /* a struct procs: ends all and frees it */

#endif
