/* SPDX-License-Identifier: MIT */
/* config_table: what the four sources of config share: config.c, config_read.c, config_value.c and
 * config_table.c. */
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
	int line;         /* where it was set; 0: nowhere in the file */
	bool given;
};

/* A setting of a section that belongs to another dialect, kept as text. */
struct foreign {
	struct foreign *next;
	char *section, *key, *text;
};

struct listener_text;

struct config {
	char *path;
	struct config_value *values; /* as config_table */
	struct foreign *foreign, **foreign_last;
	char **warnings; /* ended by NULL */
	size_t warning_count;
	struct config_listener *listeners;
	struct listener_text *listener_texts; /* what the listeners point into */
	size_t listener_count;
};

/* config_read.c. Each 0 or the error of config_load. */
int config_read_file(struct config *c, const char *path, struct err *err);
int config_read_environment(struct config *c, struct err *err);
/* Adds a line to the warnings. 0 or -ERR_MEMORY. */
int config_warn(struct config *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Reads text (not NULL; "" is unset) into v, whose former contents are freed, but for what may be
 * given several times: that is added to. 0, -ERR_MEMORY, or -ERR_INVALID: config_value_want then
 * says what would be right. */
int config_value_parse(const struct setting *s, const char *text, bool add,
		       struct config_value *v);
void config_value_want(const struct setting *s, char *out, size_t cap);
void config_value_deinit(struct config_value *v);
/* The address and port of "ADDRESS:PORT ..."; the rest in *rest. 0 or -ERR_INVALID. */
int config_value_address(const char *text, char *address, size_t cap, int *port,
			 const char **rest);

#endif
