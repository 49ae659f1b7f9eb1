/* SPDX-License-Identifier: MIT */
/* host_own: what one host of a fan-out has of its own: values that its command names, and fields that stand
 * in place of the plan's. It never changes once it is made; one owner at a time, on any thread. */
#ifndef EXED_HOST_OWN_H
#define EXED_HOST_OWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "err.h"

/* How the value of that number, from 1 on, is named in a command: "$x_h1". */
#define HOST_OWN_PLACE "\"$x_h%zu\""

struct host_own { /* NULL, and limit_ms < 0: as the plan says */
	char **values; /* ended by NULL; or NULL: none */
	char *command;
	void *input;
	size_t input_len;
	char **env; /* "NAME=value", ended by NULL */
	char *cwd;
	int64_t limit_ms;
};

/* A copy of all that it points to. NULL when memory is out. */
struct host_own *host_own_copy(const struct host_own *from);
void host_own_free(struct host_own *own); /* NULL is none */

/* Appends the command of this host to out: its values, each quoted as one word, as variables of the shell,
 * and then its own command, or `command`. raw: there may be no shell, so that values go where they are
 * named, and only those that need no quotes can. -ERR_INVALID: such a value; -ERR_MEMORY. */
int host_own_command(const struct host_own *own, const char *command, bool raw, struct buf *out,
		     struct err *err);

#endif
