/* SPDX-License-Identifier: MIT */
/* process: what exed and exed-run do alike: raise limits, open the runtime and close
 * everything in order. Loop thread. */
#ifndef EXED_PROCESS_H
#define EXED_PROCESS_H

#include "err.h"
#include "runtime.h"
#include "script.h"

struct process_options {
	const char *program;            /* "exed" or "exed-run" */
	const char *config;             /* file, or NULL: ./exed.conf, which may be missing */
	bool bounded;                   /* fibers have the budget of [runtime] lua_budget */
	bool quiet;                     /* warnings and errors only, to standard error: a command */
	int ready_fd;                   /* as in struct runtime; taken */
};

/* Opens the loop, the configuration, the log, the I/O threads, the SSH settings and the Lua state. */
int process_open(struct runtime *rt, struct script **script, const struct process_options *o,
		 struct err *err);
/* Ends fibers, fan-outs (what runs on hosts is killed), threads and files. NULLs are fine. */
void process_close(struct runtime *rt, struct script *script);

#endif
