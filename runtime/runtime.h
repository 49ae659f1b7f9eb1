/* SPDX-License-Identifier: MIT */
/* runtime: what one process has, made by main.c or run.c and reached by the bindings. Loop thread. */
#ifndef EXED_RUNTIME_H
#define EXED_RUNTIME_H

#include <stdbool.h>

struct config;
struct loop;
struct fanouts;
struct http_client;
struct pool;
struct ssh_settings;

struct runtime {
	struct loop *loop;
	struct config *config;
	struct pool *pool;            /* I/O threads */
	struct fanouts *fanouts;
	struct ssh_settings *ssh;     /* replaced on reload; users hold references */
	struct http_client *http_client; /* NULL until the first request */
	const char *share;            /* directory with lua/, executors/, tasks/ */
	const char *program;          /* "exed" or "exed-run" */
	bool signals_taken;           /* exed.signal hands SIGINT and SIGTERM to whoever waits for them */
	int program_fd;               /* this program's file, for tasks (task_host.h) */
	int ready_fd;                 /* told with one byte that the node serves; 0: nobody waits */
};

#endif
