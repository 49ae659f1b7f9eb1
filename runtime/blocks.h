/* SPDX-License-Identifier: MIT */
/* blocks: memory for many small things that come and go in crowds, as a Lua state's do. A small block that is
 * given back is kept for the next of its size; all of it is freed at once, at the end. Not thread-safe. */
#ifndef EXED_BLOCKS_H
#define EXED_BLOCKS_H

#include <stddef.h>

#define BLOCKS_STEP 16u
#define BLOCKS_SMALL 512u /* bytes; what is larger is malloc's */

struct blocks { /* all zero is none */
	void *kept[BLOCKS_SMALL / BLOCKS_STEP];
	char *at; /* what is left of the newest slab */
	size_t left;
	void *slabs;
};

/* As realloc, of a block that has `old` bytes (ptr NULL: a new one), to n bytes, not 0. NULL when memory is
 * out, and then nothing has changed; a block never fails to become smaller. */
void *blocks_resize(struct blocks *b, void *ptr, size_t old, size_t n);
void blocks_put(struct blocks *b, void *ptr, size_t n); /* NULL is nothing */
/* Frees every small block, whether it was given back or not; larger ones must have been. */
void blocks_deinit(struct blocks *b);

#endif
