/* SPDX-License-Identifier: MIT */
/* setup: a configuration with the files that it names, opened: keys, known hosts, tokens,
 * certificates, logs. Made whole or not at all, at start and at a reload; then put in force in one
 * step. Loop thread; blocking. */
#ifndef EXED_SETUP_H
#define EXED_SETUP_H

#include <stdbool.h>

#include "config.h"

struct runtime;

enum setup_kind {
	SETUP_NODE,   /* a node of exed: all of it */
	SETUP_TEST,   /* the same, and nothing is written: logs stay closed */
	SETUP_SCRIPT, /* exed-run: keys and known hosts; its log is standard error */
};

struct setup {
	struct config *config; /* owned */
	struct ssh_settings *ssh;
	struct tokens *tokens;  /* NULL: none are asked for */
	struct ssl_ctx_st *tls; /* NULL: no TLS */
	int error_fd, access_fd; /* -1: none, or not open yet */
};

/* Takes config. Tells report all that is wrong (one line each, with the setting that names the
 * file), and warn what is odd. 0 or -ERR_INVALID; setup_close is due in any case. */
int setup_open(struct setup *s, struct config *config, enum setup_kind kind,
	       unsigned max_connections, config_report_fn *report, config_report_fn *warn,
	       void *arg);
/* Puts it in force: the logs, and rt's pointers. What was in force before is freed, s is empty. */
void setup_use(struct setup *s, struct runtime *rt);
/* Reads the keys and known hosts of the configuration in force again, and puts them in force. */
int setup_renew_ssh(struct runtime *rt, config_report_fn *report, config_report_fn *warn,
		    void *arg);
void setup_close(struct setup *s);

#endif
