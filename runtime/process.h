/* SPDX-License-Identifier: MIT */
/* process: what exed and exed-run do alike: raise limits, open the runtime and close
 * everything in order. Loop thread. */
#ifndef EXED_PROCESS_H
#define EXED_PROCESS_H

#include "config.h"
#include "err.h"
#include "runtime.h"
#include "script.h"

struct process_options {
	const char *program;            /* "exed" or "exed-run" */
	const char *config;             /* file, or NULL: ./exed.conf, which may be missing */
	bool test;                      /* -t: check, write nothing; logs are off */
	bool bounded;                   /* fibers have the budget of [runtime] lua_budget */
	bool quiet;                     /* warnings and errors only, to standard error: a command */
	int ready_fd;                   /* as in struct runtime; taken */
};

/* Opens the loop, the configuration with its files, the log, the I/O threads and the Lua state. What
 * is wrong with the configuration is told on standard error; err has then no message. Strings of o
 * must live as long as rt. */
int process_open(struct runtime *rt, struct script **script, const struct process_options *o,
		 struct err *err);
/* Reads the configuration and the files that it names again, and puts all of it in force, or nothing
 * when anything is wrong. Tells the log what is wrong, what is odd, and what needs a restart. accept
 * is the last that may fail: it is called right before. 0 or -ERR_x. Blocking. */
int process_reload(struct runtime *rt, int (*accept)(void *arg, const struct config *fresh),
		   void *arg);
/* Only the keys and known hosts of the configuration in force, likewise. */
int process_reload_ssh(struct runtime *rt);
/* Tells left.c what should have ended before. Ends fibers, fan-outs (what runs on hosts is killed), threads and files. NULLs are fine. */
void process_close(struct runtime *rt, struct script *script);

#endif
