/* SPDX-License-Identifier: MIT */
/* http_uri: the text forms of a request target and of a Host header (RFC 3986, RFC 9112 3.2).
 * Pure functions, any thread. */
#ifndef EXED_HTTP_URI_H
#define EXED_HTTP_URI_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "err.h"

/* Decodes %XX once, from the n bytes at s into out, which holds n bytes or more (out may be s).
 * With `form`, a '+' becomes a blank. Returns the length, or -1 for a '%' without two hex digits.
 * */
ssize_t http_uri_decode(const char *s, size_t n, bool form, char *out);

/* True when the n bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool http_uri_utf8(const char *s, size_t n);

/* Decodes a path that begins with '/' into out (n bytes of room; not terminated) and writes its
 * length to *len. -ERR_INVALID, saying why, for a bad %XX, a control byte (NUL too), bytes that are
 * not UTF-8, and for what others may read as another path: a ".." between two slashes, before or
 * after decoding, %2F, and a backslash in either form. */
int http_uri_path(const char *s, size_t n, char *out, size_t *len, struct err *err);

/* One key and value of a query, decoded; not terminated, valid during the call only. What it
 * returns when not 0 ends the parse and is returned from it. */
typedef int http_uri_pair_fn(void *arg, const char *key, size_t key_len, const char *value,
			     size_t value_len);

/* Splits a query at '&', in order, and calls fn (may be NULL: only check) for each pair; a piece
 * without '=' has an empty value, an empty piece is none. Percent-decoded once, '+' is a blank. A
 * NUL is allowed here: who uses the value names the field. -ERR_INVALID names the parameter whose
 * encoding is wrong; -ERR_MEMORY. */
int http_uri_query(const char *s, size_t n, http_uri_pair_fn *fn, void *arg, struct err *err);

/* True for name, name:port, address:port, [v6] and [v6]:port, as a Host header may say. */
bool http_uri_host_ok(const char *host);
/* Length of the host part, that is without ":port"; host must be one that http_uri_host_ok took. */
size_t http_uri_host_len(const char *host);
/* True when both name the same host and port; letters of either case, no port means default_port.
 * */
bool http_uri_host_same(const char *a, const char *b, unsigned default_port);

#endif
