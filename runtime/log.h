/* SPDX-License-Identifier: MIT */
/* log: one line per event: time, level, area, message and key=value pairs. Any thread.
 * A line never holds a secret: who calls passes none. Control bytes and bytes that are not ASCII
 * printable are escaped as \xNN (newline as \n, tab as \t), so that a log cannot be forged by what a
 * host or client sends. */
#ifndef EXED_LOG_H
#define EXED_LOG_H

#include <stdbool.h>

#include "err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_NONE };

/* Opens (or reopens) the logs; NULL path is stderr for errors, and no access log for access. "-" is
 * standard output. */
int log_open(const char *error_path, const char *access_path, enum log_level level,
	     struct err *err);
/* The same in two steps, so that several files are put in force together: log_file opens one,
 * log_use takes both (access_fd -1: no access log), log_discard closes one that is not wanted. */
int log_file(const char *path, int *fd, struct err *err);
void log_use(int error_fd, int access_fd);
void log_discard(int fd);
void log_set_level(enum log_level level);
void log_close(void);
enum log_level log_get_level(void);
/* LOG_x for "debug", "info", "warning", "error"; -1 when it is none of them. */
int log_level_parse(const char *name);

/* 2026-01-31T12:00:00.123Z info area message. At most 4 KiB a line; longer is cut. A line that cannot be
 * written (a full disk) is lost; the first one that can be is preceded by how many were. */
void log_write(enum log_level level, const char *area, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Whether there is an access log, so that a line need not be made for nothing. */
bool log_access_on(void);
/* One line for the access log: 2026-01-31T12:00:00.123Z info access message. Loop thread. */
void log_access(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A value of key=value: as it is when it has only letters, digits and harmless marks, else quoted and
 * escaped. Cut to cap (always terminated). Returns out. */
const char *log_value(char *out, unsigned long cap, const char *text);
/* Appends n bytes escaped as above into out of size cap (always terminated); for values in fmt. */
const char *log_quote(char *out, unsigned long cap, const void *data, unsigned long n);

#define log_debug(area, ...) log_write(LOG_DEBUG, area, __VA_ARGS__)
#define log_info(area, ...) log_write(LOG_INFO, area, __VA_ARGS__)
#define log_warn(area, ...) log_write(LOG_WARNING, area, __VA_ARGS__)
#define log_error(area, ...) log_write(LOG_ERROR, area, __VA_ARGS__)

#endif
