/* SPDX-License-Identifier: MIT */
/* ssh_quote: text for a shell on a host. All remote quoting of exed is here and nowhere else.
 *
 * An exec request is read by the user's login shell, which may be sh, bash, dash, fish, tcsh or
 * busybox. What all of them read alike is small: printable ASCII without backslash and `!` between
 * single quotes. Everything else goes to a POSIX sh as one line on its standard input. Pure
 * functions; any thread. */
#ifndef EXED_SSH_QUOTE_H
#define EXED_SSH_QUOTE_H

#include <stdbool.h>

#include "buf.h"
#include "err.h"
#include "ssh.h"

/* The longest exec request that is sent: libssh2 and some servers take no more than 32 KiB. */
#define SSH_QUOTE_MAX 30000u

/* Whether ssh_quote_login can quote s. */
bool ssh_quote_login_safe(const char *s);
/* Appends s as one word that every login shell reads alike; only when ssh_quote_login_safe. */
void ssh_quote_login(struct buf *b, const char *s);
/* Appends s as one word for a POSIX sh, without a newline in it: newlines become "$x_nl", which
 * the script sets first (SSH_QUOTE_NEWLINE). Any bytes but NUL. */
void ssh_quote_sh(struct buf *b, const char *s);
/* Appends s as one word for a POSIX sh, bare where that means the same. Any bytes but NUL. */
void ssh_quote_word(struct buf *b, const char *s);
/* Sets n to a newline, without a fork: the third character of IFS, as POSIX has it. */
#define SSH_QUOTE_NEWLINE "x_nl=${IFS#??};x_nl=${x_nl%\"${x_nl#?}\"};"

/* Writes the exec request for `command` into line and what goes to its stdin before the user's
 * input into head (empty when nothing does). op_id, env and cwd may be NULL. -ERR_INVALID: an
 * env entry is no NAME=value; -ERR_LIMIT: too long; -ERR_MEMORY. */
int ssh_quote_command(struct buf *line, struct buf *head, const char *command, const char *op_id,
		      const char *const *env, const char *cwd, struct err *err);

/* Turns an exec request that begins with "exec " into one that sudo runs as become->user; a password
 * goes to stdin, before head, and never into line. All of line's bytes must be ssh_quote_login_safe.
 * -ERR_INVALID: a user or password that cannot be given; -ERR_MEMORY. */
int ssh_quote_become(struct buf *line, struct buf *head, const struct ssh_become *become,
		     struct err *err);

#endif
