/* SPDX-License-Identifier: MIT */
/* record_fields: a JSON object that a command or a program gave, as further fields of a host's record. What a
 * host says is not trusted: nothing of it takes the place of a field of exed's own. Pure functions; any
 * thread. */
#ifndef EXED_RECORD_FIELDS_H
#define EXED_RECORD_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "err.h"

/* The longest text that is read, in bytes, and the most values in it. */
#define RECORD_FIELDS_MAX (256 * 1024)
#define RECORD_FIELDS_VALUES 20000

/* The names that records and what tasks see of them have themselves, ended by NULL. */
extern const char *const record_own_names[];

/* Appends `,"name":value` to out for each field of the object in text. -ERR_INVALID with what is wrong: no
 * JSON, no object, or a field with one of exed's own names; out is then as it was. -ERR_MEMORY. */
int record_fields(struct buf *out, const char *text, size_t n, struct err *err);

#endif
