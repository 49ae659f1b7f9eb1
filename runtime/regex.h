/* SPDX-License-Identifier: MIT */
/* regex: regular expressions of people, over PCRE2: the syntax is that of Python's re (and so of
 * Ansible's patterns) in all that matters for names. An expression may be written to take for ever
 * ((a+)+b): each match has a limit of steps, depth and memory, and then says so. One thread. */
#ifndef EXED_REGEX_H
#define EXED_REGEX_H

#include <stddef.h>

#include "err.h"

struct regex;

/* The longest expression, in bytes. */
#define REGEX_MAX 1000u

/* Compiles text. NULL with err: ERR_INVALID and where it is wrong, ERR_LIMIT, ERR_MEMORY. */
struct regex *regex_new(const char *text, size_t n, struct err *err);
void regex_free(struct regex *r);

/* Whether it matches at the start of s, as Python's match does: 1 or 0. -ERR_LIMIT with err when
 * that takes too much work (some 50 us). */
int regex_match(struct regex *r, const char *s, size_t n, struct err *err);

#endif
