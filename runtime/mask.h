/* SPDX-License-Identifier: MIT */
/* mask: puts *** in place of texts that nobody may see (secrets) while bytes stream through. The texts
 * are fixed when it is made; after that any number of threads may use it, each with streams of its own. */
#ifndef EXED_MASK_H
#define EXED_MASK_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

struct mask;
struct mask_text { const char *data; size_t len; };

/* Copies the texts; empty ones hide nothing. NULL when memory is out. */
struct mask *mask_new(const struct mask_text *texts, size_t n);
/* Wipes what it holds. NULL is allowed. */
void mask_free(struct mask *m);

/* Appends n bytes of a stream to out, masked. The end of them stays in `held`, the stream's own, as long
 * as it may be the beginning of a text; with `end` no more comes, and nothing stays. Memory that is out
 * shows as out->failed. */
void mask_stream(const struct mask *m, struct buf *held, const char *data, size_t n, bool end,
		 struct buf *out);

#endif
