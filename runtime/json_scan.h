/* SPDX-License-Identifier: MIT */
/* json_scan: looks over JSON text without building anything of it, so that what would cost too much
 * is refused before it does, and so that a message can name the field in which something is wrong.
 * Any bytes may be given. Pure functions; any thread. */
#ifndef EXED_JSON_SCAN_H
#define EXED_JSON_SCAN_H

#include <stddef.h>

#include "err.h"

#define JSON_DEPTH 64 /* arrays and objects inside each other */

/* 0, or -ERR_INVALID: a byte order mark, more than JSON_DEPTH levels, or more than max_values
 * values (0: any number). */
int json_scan_check(const char *text, size_t n, size_t max_values, struct err *err);

/* Writes to out which value the byte at offset `at` belongs to, "" for the outermost one:
 * "targets[2].name", array items from 0, cut with "..." to cap bytes. Names are as they were sent
 * between their quotes, so out may hold any bytes but control ones, which become '?'. */
void json_scan_place(const char *text, size_t n, size_t at, char *out, size_t cap);

/* Returns -ERR_INVALID with "WHAT at line L column C (byte B)" and, where there is one,
 * ", in 'PLACE'". */
int json_scan_refuse(struct err *err, const char *text, size_t n, size_t at, const char *what);

#endif
