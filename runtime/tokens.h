/* SPDX-License-Identifier: MIT */
/* tokens: the bearer tokens that let a client in, read from a file. Immutable once read. */
#ifndef EXED_TOKENS_H
#define EXED_TOKENS_H

#include <stddef.h>

#include "err.h"

struct tokens;

/* Reads path: one token a line, as `TOKEN` or `NAME: TOKEN`; empty lines and those that begin with
 * # do not count. A token has the form of RFC 6750 (letters, digits, -._~+/ and = at its end). The
 * file must belong to root or to who exed runs as, and others than owner and group must have no
 * right to it. NULL with *err, whose message begins with the path (and line) and holds no token.
 * Blocking: at start and reload. */
struct tokens *tokens_read(const char *path, struct err *err);
void tokens_free(struct tokens *t);

/* The name of the token of n bytes (of one without a name: "token-" and the first 8 digits of its
 * SHA-256), or NULL when there is none like it. How long it takes depends on neither: digests are
 * compared, each whole, and with all. Borrowed from t. */
const char *tokens_find(const struct tokens *t, const char *token, size_t n);

#endif
