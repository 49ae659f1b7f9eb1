/* SPDX-License-Identifier: MIT */
/* content: what hosts get as the stdin of a command: the bytes of one open file, with their length and
 * SHA-256 as they were when it was opened. It is read where and when it is wanted, so that sending a
 * large file to many hosts holds no copy of it. It never changes once it is made and is counted
 * atomically: any thread may read it.
 *
 * The file itself may change meanwhile: whoever sends it compares the checksum at the other end. */
#ifndef EXED_CONTENT_H
#define EXED_CONTENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"
#include "pool.h"

#define CONTENT_SHA256 64u /* hex digits */

struct content;

struct content *content_ref(struct content *c);
void content_unref(struct content *c); /* NULL is none */
uint64_t content_size(const struct content *c);        /* bytes */
const char *content_sha256(const struct content *c);   /* valid as long as c */
/* Up to n bytes from that offset on. 0: its end, or the file has become shorter; -1: it cannot be read.
 * May wait for the disk: not on the loop thread, but for what content_text made. */
ssize_t content_read(const struct content *c, uint64_t offset, void *to, size_t n);
/* A new descriptor of the file, with a place of its own at the beginning; -1 with errno. */
int content_descriptor(const struct content *c);

/* Copies n bytes, which are kept in memory. Any thread. NULL with *err. */
struct content *content_text(const void *bytes, size_t n, struct err *err);

/* Opens the file at that path and reads it for its checksum, on an I/O thread. */
struct content_open;
/* c is taken by the receiver; NULL: err says why (not there, no regular file, longer than the limit).
 * Called once, on the loop thread, unless it was dropped. */
typedef void content_opened(void *arg, struct content *c, const struct err *err);
/* path is copied; max in bytes. NULL when memory is out. Loop thread. */
struct content_open *content_open(struct io *io, const char *path, uint64_t max,
				  content_opened *opened, void *arg);
void content_open_drop(struct content_open *o); /* nobody waits for it any more. Loop thread */

#endif
