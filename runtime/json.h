/* SPDX-License-Identifier: MIT */
/* json: JSON text (RFC 8259) to Lua values and back, strictly, and to jansson's values for C. On
 * the thread of the Lua state; json_read on any.
 *
 * Lua has one table where JSON has two: a decoded array has the metatable that json_push_array_mt
 * pushes, so [] stays []. null is one userdata (json_push_null). Integers are 64 bits and stay
 * integers. */
#ifndef EXED_JSON_H
#define EXED_JSON_H

#include <jansson.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "err.h"
#include "json_scan.h"

/* Reads a whole text of any JSON value. Refused: duplicate names, more than JSON_DEPTH levels,
 * ill-formed UTF-8, lone surrogates, NUL in names (in strings it is allowed), NaN, Infinity, hex,
 * a BOM, integers beyond 64 bits, numbers beyond a double. Returns a new reference (json_decref),
 * or NULL with *err: ERR_INVALID with what and "line L column C (byte B), in 'FIELD'", or
 * ERR_MEMORY. */
json_t *json_read(const char *text, size_t n, struct err *err);
/* Before the first json_read, and before there are threads: without it memory that is refused may be told
 * as ERR_INVALID, since jansson itself does not always tell them apart. */
void json_watch_memory(void);
/* The same, but text of more than max_values values (0: any number) is refused before any of it is
 * built: a value of three bytes may take 200. */
json_t *json_read_bounded(const char *text, size_t n, size_t max_values, struct err *err);

/* The same two, and push the value onto L. On failure push nothing. */
int json_decode(lua_State *L, const char *text, size_t n, struct err *err);
int json_decode_bounded(lua_State *L, const char *text, size_t n, size_t max_values,
			struct err *err);
/* Pushes v (borrowed). May raise for memory or depth, so call it where nothing is lost then. */
void json_push(lua_State *L, const json_t *v);

/* Appends the value at idx to b as JSON without blanks, names in byte order. Tables: with the
 * array mark, or with 1..n and nothing else: an array; empty: {}; names all strings: an object.
 * Bytes that are not UTF-8 become U+FFFD. Integers as such, floats so that they read back the
 * same (1.0 stays 1.0). A json.raw goes in as it is. -ERR_INVALID with the place (".a[2]") for
 * NaN, infinities, functions, other userdata, mixed tables, more than JSON_DEPTH levels (so
 * cycles too); -ERR_MEMORY. After an error b holds a part. Metamethods are not called. */
int json_encode(lua_State *L, int idx, struct buf *b, struct err *err);

void json_push_null(lua_State *L);
bool json_null_at(lua_State *L, int idx);
void json_push_array_mt(lua_State *L);
/* Pushes a value that json_encode puts in verbatim: text must be one JSON value. */
void json_push_raw(lua_State *L, const char *text, size_t n);

#endif
