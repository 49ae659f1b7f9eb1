/* SPDX-License-Identifier: MIT */
/* program: a child process that is talked with in lines, over a socket of its own: its descriptor 3.
 * What it prints is kept only as far as people need it to see why it failed. Loop thread. */
#ifndef EXED_PROGRAM_H
#define EXED_PROGRAM_H

#include <stddef.h>

#include "err.h"
#include "loop.h"
#include "ssh.h"

struct program;

struct program_options { /* borrowed during program_start */
	const char *const *argv; /* as proc_start_argv */
	const char *const *env;  /* "NAME=value", added to the environment; or NULL */
	const char *cwd;         /* or NULL */
	const char *op_id;       /* its EXED_OP */
	size_t line_max;         /* of longer lines only so many bytes come; 0: they end it */
	/* There are lines to be taken. */
	void (*on_lines)(void *arg);
	/* It has ended; the last call. All its lines came before, and can still be taken. */
	void (*on_end)(void *arg);
	void *arg;
};

/* NULL with *err for misuse or lack of memory. A program that cannot be run ends at once. */
struct program *program_start(struct loop *loop, const struct program_options *options,
			      struct err *err);
/* Queues text (copied) for it. -ERR_LIMIT when it reads none and 1 MiB waits; -ERR_CLOSED when it
 * has ended or closed its socket. */
int program_send(struct program *p, const char *text, size_t n, struct err *err);
/* The whole lines that are there, each with its newline; 0 when there are none. Valid until
 * program_taken, which forgets the first n bytes and lets it send more. */
size_t program_lines(struct program *p, const char **text);
void program_taken(struct program *p, size_t n);
/* How it ended; NULL while it runs. One that sent a line of more than 16 MiB was killed for it, unless it had
 * a line_max. */
const struct ssh_result *program_result(const struct program *p);
/* The end of what it printed, at most 16 KiB; valid until the next turn. */
size_t program_said(const struct program *p, const char **text);
/* Kills it and all that it started, as proc_cancel; on_end follows. */
void program_kill(struct program *p);
/* Kills it if it runs, and lets go of it; no callback follows. Nothing for NULL. */
void program_free(struct program *p);

#endif
