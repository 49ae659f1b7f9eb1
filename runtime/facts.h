/* SPDX-License-Identifier: MIT */
/* facts: reads what lua/exed/ops/facts.sh printed on a host and makes typed JSON of it. A pure function; any
 * thread. What a host prints is not trusted: only the names below come through, each with its type, text as
 * UTF-8; anything else is an error that names the line. */
#ifndef EXED_FACTS_H
#define EXED_FACTS_H

#include <stddef.h>

#include "buf.h"
#include "err.h"

/* The most that is read of a host, in bytes. The script stops at 200 mounts, 200 interfaces and 600 addresses:
 * with long paths about 90 KB. */
#define FACTS_MAX (128 * 1024)

/* Appends one JSON object to `json`. Lines before `exed-facts 1` (what a profile prints) and after `end` do
 * not count. -ERR_INVALID: it is not what the script says; *json is as it was then. -ERR_MEMORY. */
int facts_parse(const char *text, size_t n, struct buf *json, struct err *err);

#endif
