/* SPDX-License-Identifier: MIT */
/* runtime: what one process has, made by main.c or run.c and reached by the bindings. Loop thread. */
#ifndef EXED_RUNTIME_H
#define EXED_RUNTIME_H

#include <stdbool.h>

struct config;
struct loop;
struct fanouts;
struct http_client;
struct notify;
struct pool;
struct ssh_settings;
struct ssl_ctx_st;
struct tokens;

struct runtime {
	struct loop *loop;
	struct config *config;
	struct pool *pool;            /* I/O threads */
	struct fanouts *fanouts;
	struct http_client *http_client; /* NULL until the first request */
	struct ssh_settings *ssh;     /* replaced on reload, as config; users hold references */
	struct tokens *tokens;        /* that let clients in; NULL: none are asked for. Replaced too */
	struct ssl_ctx_st *tls;       /* of the listeners; NULL: no TLS. Replaced too */
	unsigned max_connections;     /* to hosts: what descriptors allow of [ssh] max_connections */
	struct notify *notify;        /* the service manager; NULL: there is none */
	const char *share;            /* directory with lua/, executors/, tasks/ */
	const char *config_file;      /* as it was named; NULL: ./exed.conf, if there is one */
	const char *program;          /* "exed" or "exed-run" */
	bool signals_taken;           /* exed.signal hands SIGINT and SIGTERM to whoever waits for them */
	int program_fd;               /* this program's file, for tasks (task_host.h) */
	int ready_fd;                 /* told with one byte that the node serves; 0: nobody waits */
};

#endif
