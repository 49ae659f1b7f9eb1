/* SPDX-License-Identifier: MIT */
/* blocks: lists of kept blocks by size, cut from slabs. A collector frees in crowds, which malloc answers by
 * joining neighbours that the next allocations take apart again: that was a third of what a request cost.
 * Under the address sanitizer all is malloc's, so that a use after free is seen. */
#include "blocks.h"

#include <stdlib.h>
#include <string.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define PLAIN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define PLAIN 1
#endif
#ifndef PLAIN
#define PLAIN 0
#endif

#define SLAB (32 * 1024)

struct slab {
	struct slab *next;
	max_align_t data[];
};

static size_t class_of(size_t n)
{
	return (n - 1) / BLOCKS_STEP;
}

static int is_small(size_t n)
{
	return !PLAIN && n && n <= BLOCKS_SMALL;
}

/* The rest of the last slab, which is smaller than the largest block, is left. */
static void *cut(struct blocks *b, size_t n)
{
	char *block;

	if (b->left < n) {
		struct slab *slab = malloc(sizeof(*slab) + SLAB);

		if (!slab)
			return NULL;
		slab->next = b->slabs;
		b->slabs = slab;
		b->at = (char *)slab->data;
		b->left = SLAB;
	}
	block = b->at;
	b->at += n;
	b->left -= n;
	return block;
}

static void *get(struct blocks *b, size_t n)
{
	void **kept;

	if (!is_small(n))
		return malloc(n);
	kept = b->kept[class_of(n)];
	if (!kept)
		return cut(b, (class_of(n) + 1) * BLOCKS_STEP);
	b->kept[class_of(n)] = *kept;
	/* The collector has been over all memory since that was freed: it is far away, and needed soon. */
	__builtin_prefetch(*kept, 1);
	return kept;
}

void blocks_put(struct blocks *b, void *ptr, size_t n)
{
	if (!ptr || !is_small(n)) {
		free(ptr);
		return;
	}
	*(void **)ptr = b->kept[class_of(n)];
	b->kept[class_of(n)] = ptr;
}

void *blocks_resize(struct blocks *b, void *ptr, size_t old, size_t n)
{
	void *block;

	if (!ptr)
		return get(b, n);
	if (!is_small(old) && !is_small(n)) {
		block = realloc(ptr, n);
		return block || n > old ? block : ptr;
	}
	if (is_small(old) && is_small(n) && class_of(old) == class_of(n))
		return ptr;
	block = get(b, n);
	if (!block)
		return n > old ? NULL : ptr; /* kept with the smaller ones from then on */
	memcpy(block, ptr, old < n ? old : n);
	blocks_put(b, ptr, old);
	return block;
}

void blocks_deinit(struct blocks *b)
{
	struct slab *slab = b->slabs;

	while (slab) {
		struct slab *next = slab->next;

		free(slab);
		slab = next;
	}
	*b = (struct blocks){ 0 };
}
