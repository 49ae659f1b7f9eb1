/* SPDX-License-Identifier: MIT */
/* config: the settings, from exed.conf and the environment. Loaded once at start (and anew at
 * reload), then never changed: any thread may read. config_table.c has every setting with its
 * kind, default, unit and reason.
 *
 * exed.conf is INI: [section], key = value, values quoted or not, comments by # or ; at the start
 * of a line or after a blank. An environment variable EXED_SECTION_KEY wins over the file. */
#ifndef EXED_CONFIG_H
#define EXED_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct buf;
struct config;

/* Is told each thing that is wrong, as a line without its end. */
typedef void config_report_fn(void *arg, const char *line);

/* Reads path; NULL is ./exed.conf, which may be missing. Returns the settings, owned by the
 * caller, or NULL with *err: ERR_INVALID with "file:line: what, and what would be right",
 * ERR_NOT_FOUND when a named file is missing, ERR_SYSTEM, ERR_MEMORY. All that is wrong with the
 * settings goes to report (which may be NULL), the first of it also to *err. A message never holds
 * a secret. Blocking: at start and reload only; not in two threads at once. */
struct config *config_read(const char *path, config_report_fn *report, void *arg,
			   struct err *err);
struct config *config_load(const char *path, struct err *err); /* with no report */
void config_free(struct config *c);

/* For a reload: gives to `fresh` the values of `old` of those settings that only a restart can
 * change, and calls fn for each of them that differs. -ERR_MEMORY or 0. */
int config_keep(struct config *fresh, const struct config *old, config_report_fn *fn, void *arg);

/* The file that was read; NULL when there was none. Borrowed from c, as all below. */
const char *config_path(const struct config *c);
/* What is to be logged once the log is open: lines, ended by NULL. They hold no secret. */
const char *const *config_warnings(const struct config *c);

/* What a node that serves HTTP needs beside: a listener that is not loopback needs tls_client_ca,
 * token_file or open. 0 or -ERR_INVALID. */
int config_check(const struct config *c, struct err *err);

/* Where a setting comes from, to begin a message with: "exed.conf:12: [api] token_file",
 * "environment variable EXED_API_TOKEN_FILE" or "[api] token_file" (its default). Returns out. */
const char *config_where(const struct config *c, const char *section, const char *key, char *out,
			 size_t cap);

/* ---- values. A name or kind that is not in the table aborts the program ---- */

/* Text of a string, path or choice; NULL when it is unset and has no default. "~/" of a path is
 * replaced by $HOME. */
const char *config_str(const struct config *c, const char *section, const char *key);
/* A whole number. Where 0 stands for the number of cores, that number. */
int64_t config_int(const struct config *c, const char *section, const char *key);
bool config_bool(const struct config *c, const char *section, const char *key);
/* A duration in milliseconds; 0 is "none" where that is allowed. */
int64_t config_ms(const struct config *c, const char *section, const char *key);
/* A size in bytes. */
int64_t config_bytes(const struct config *c, const char *section, const char *key);
/* The texts of a list, ended by NULL; their number in *n, which may be NULL. */
const char *const *config_list(const struct config *c, const char *section, const char *key,
			       size_t *n);
/* [ssh] command_timeout of "execute", "facter", "service" or "deploy", in ms; 0 is none. */
int64_t config_command_ms(const struct config *c, const char *operation);
/* Whether the file or the environment set it. */
bool config_given(const struct config *c, const char *section, const char *key);

struct config_listener {
	const char *address; /* IPv4, IPv6 without brackets, a name, or "unix:/path" */
	int port;            /* 0: one that is free; or none, for a unix socket */
	const char *const *dialects; /* ended by NULL; never empty */
};
/* [api] listen, or listen_addr:listen_port when there is none; at least one. */
const struct config_listener *config_listeners(const struct config *c, size_t *n);
/* True for 127.0.0.0/8 (mapped into IPv6 also), ::1, the name localhost and unix sockets. */
bool config_is_loopback(const char *address);

/* ---- all of them ---- */

enum config_kind {
	CONFIG_STRING,
	CONFIG_PATH,
	CONFIG_INTEGER,
	CONFIG_BOOLEAN,
	CONFIG_DURATION, /* ms */
	CONFIG_SIZE,     /* bytes */
	CONFIG_CHOICE,
	CONFIG_LIST,     /* texts */
	CONFIG_LISTEN,   /* "ADDRESS:PORT dialect,dialect" or "unix:/path ...", as often as wanted */
	CONFIG_LIMITS,   /* a duration per operation */
};

struct config_item {
	const char *section, *key;
	enum config_kind kind;
	const char *text;         /* as config_str; NULL when unset */
	int64_t number;           /* as config_int, config_ms, ...; booleans 0 and 1 */
	const char *const *items; /* as config_list; of CONFIG_LIMITS the operations */
	const int64_t *numbers;   /* of CONFIG_LIMITS: ms per item */
	size_t count;
	bool secret;              /* not to be logged */
};
/* Calls fn for every setting, in the order of the table, then for what the file has in sections of
 * other dialects ([roller], [pansible], [mesos]) and of executors ([executor NAME]), which are kept as
 * texts. */
void config_each(const struct config *c, void (*fn)(void *arg, const struct config_item *item),
		 void *arg);

/* Appends conf/exed.conf: every setting, its unit, reason and default, as comments. */
void config_print(struct buf *b);

#endif
