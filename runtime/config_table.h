/* SPDX-License-Identifier: MIT */
/* config_table: what the five sources of config share: config.c, config_forms.c, config_read.c,
 * config_value.c and config_table.c. */
#ifndef EXED_CONFIG_TABLE_H
#define EXED_CONFIG_TABLE_H

#include "config.h"

enum setting_flags {
	SETTING_NONE = 1,     /* 0 and "none" are allowed whatever the least is */
	SETTING_CORES = 2,    /* 0 stands for the number of cores */
	SETTING_SECRET = 4,   /* the value may hold a password */
	SETTING_ABSOLUTE = 8, /* items are absolute paths */
	SETTING_PATHS = 16,   /* items are paths: ~/ is replaced */
	SETTING_SERVERS = 32, /* items are addresses, with or without a port */
	SETTING_DASH = 64,    /* "-" is a value: standard output */
	SETTING_RESTART = 128, /* a reload leaves it as it is */
};

struct setting {
	const char *section, *key;
	enum config_kind kind;
	const char *otherwise;   /* the default as it stands in a file; NULL: unset */
	int64_t least, most;     /* of numbers, in ms or bytes; both 0: not negative, no bound */
	const char *const *of;   /* choices, ended by NULL */
	unsigned flags;
	const char *unit;
	const char *reason;
};

extern const struct setting config_table[];
extern const size_t config_table_size;

struct config_value {
	char *text;
	int64_t number;
	char **items; /* ended by NULL */
	size_t count;
	int64_t *numbers; /* of CONFIG_LIMITS */
	int *lines;       /* of items that came by several lines; NULL: none did */
	int line;         /* where it was set; 0: nowhere in the file */
	bool given, env;  /* by file or environment; by the environment */
};

/* A setting of a section that belongs to another dialect, or to an executor, kept as text. */
struct foreign {
	struct foreign *next;
	char *section, *key, *text;
};

struct listener_text;

struct config {
	char *path;
	config_report_fn *report; /* while it is loaded */
	void *report_arg;
	int problems;
	struct err first; /* of the problems */
	struct config_value *values; /* as config_table */
	struct foreign *foreign, **foreign_last;
	char **warnings; /* ended by NULL */
	size_t warning_count;
	struct config_listener *listeners;
	struct listener_text *listener_texts; /* what the listeners point into */
	size_t listener_count;
};

/* config_read.c. What is wrong with the settings is told by config_problem, and reading goes on; an
 * error is returned for what ends it: ERR_NOT_FOUND, ERR_SYSTEM, ERR_MEMORY. */
int config_read_file(struct config *c, const char *path, struct err *err);
int config_read_environment(struct config *c, struct err *err);
/* Tells of one problem, and remembers that there was one. */
void config_problem(struct config *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Adds a line to the warnings. 0 or -ERR_MEMORY. */
int config_warn(struct config *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* config.c: the listeners from the values, anew. 0 or -ERR_MEMORY. */
int config_make_listeners(struct config *c);
/* config.c: as config_where, for one of the listeners. */
void config_where_listener(const struct config *c, size_t i, char *out, size_t cap);

/* config_forms.c: tells of what no single value's kind shows. */
void config_check_forms(struct config *c);

/* Reads text (not NULL; "" is unset) into v, whose former contents are freed, but for what may be
 * given several times: that is added to. 0, -ERR_MEMORY, or -ERR_INVALID: config_value_want then
 * says what would be right. */
int config_value_parse(const struct setting *s, const char *text, bool add,
		       struct config_value *v);
void config_value_want(const struct setting *s, char *out, size_t cap);
void config_value_deinit(struct config_value *v);
/* The address and port of "ADDRESS:PORT ..." ("unix:/path" and 0 of "unix:/path ..."); the rest in
 * *rest. 0 or -ERR_INVALID. */
int config_value_address(const char *text, char *address, size_t cap, int *port,
			 const char **rest);

#endif
