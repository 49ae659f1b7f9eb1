/* SPDX-License-Identifier: MIT */
/* err: how a failure is told. Functions return 0 or -ERR_x and fill the caller's struct err. */
#ifndef EXED_ERR_H
#define EXED_ERR_H

#include <stdarg.h>

enum err_code {
	ERR_OK = 0,
	ERR_INVALID,     /* misuse or bad input: the message names the field and what would be right */
	ERR_NOT_FOUND,
	ERR_TIMEOUT,     /* a time limit passed */
	ERR_CANCELLED,   /* somebody ended the wait */
	ERR_UNREACHABLE, /* no connection, or it broke */
	ERR_REFUSED,     /* the other side, or a check of ours, said no */
	ERR_CLOSED,      /* used after its end */
	ERR_LIMIT,       /* a bound was reached */
	ERR_MEMORY,
	ERR_SYSTEM,      /* a system call failed: the message has its strerror */
	ERR_PROTOCOL,    /* the other side broke its protocol */
	ERR_AWAY,        /* the job store cannot be asked now */
};

struct err {
	int code;          /* one of enum err_code */
	char message[256]; /* for people: one line, no trailing newline, cut when longer */
};

/* Fills *e (which may be NULL) and returns -code, so that `return err_set(e, ERR_X, ...)` works. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_vset(struct err *e, int code, const char *fmt, va_list ap);

/* As err_set with ERR_SYSTEM; ": strerror(errno)" is added to the message. */
int err_errno(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The word for a code in Lua's err.code and in logs: "timeout", "refused", ... Static. */
const char *err_name(int code);

#endif
