/* SPDX-License-Identifier: MIT */
/* task_host: the node's end of a task's process (task_child.h): starts it, carries frames, ends it. Loop
 * thread. */
#ifndef EXED_TASK_HOST_H
#define EXED_TASK_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "err.h"
#include "loop.h"

struct task_host;

struct task_host_options {
	size_t memory;     /* bytes of its Lua state */
	unsigned long cpu; /* seconds of the processor; 0: no limit */
	/* A frame came; `text` is borrowed for the call. */
	void (*on_frame)(void *arg, const char *text, size_t n);
	/* It has ended; the last call. All its frames came before. */
	void (*on_end)(void *arg);
	void *arg;
};

/* How it ended: an exit code (TASK_EXIT_x) or, when that is -1, a signal. */
struct task_host_end {
	int code, signal;
	double cpu;    /* seconds */
	size_t memory; /* bytes at most, of the whole process */
};

/* Opens this program's file, so that tasks run the same version when it is replaced; once, at start. The
 * descriptor is for program_fd below. Returns it, or -ERR_x. */
int task_host_open_program(struct err *err);

/* Starts a process. Returns NULL with *err when it cannot be started. */
struct task_host *task_host_start(struct loop *loop, int program_fd,
				  const struct task_host_options *options, struct err *err);
/* Queues a frame (copied). -ERR_LIMIT when the process takes none and 64 MiB wait; -ERR_CLOSED when it
 * ended. */
int task_host_send(struct task_host *t, const char *text, size_t n, struct err *err);
/* Stops or goes on reading frames: for a reader that has enough. */
void task_host_pause(struct task_host *t, bool pause);
/* Asks where it is: a frame { stuck = "file:line" } if it can tell. */
void task_host_probe(struct task_host *t);
void task_host_kill(struct task_host *t); /* SIGKILL; on_end follows */
const struct task_host_end *task_host_end(const struct task_host *t); /* NULL while it runs */
pid_t task_host_pid(const struct task_host *t);
/* Kills it if it runs, and frees t; no callback follows. */
void task_host_free(struct task_host *t);

#endif
