/* SPDX-License-Identifier: MIT */
/* ring: an intrusive ring, taken from in turn. A node is in at most one ring; adding twice and removing
 * what is not there do nothing. */
#ifndef EXED_RING_H
#define EXED_RING_H

#include <stdbool.h>
#include <stddef.h>

struct ring_node { struct ring_node *next, *prev; };
struct ring { struct ring_node head; };

static inline void ring_init(struct ring *r)
{
	r->head.next = r->head.prev = &r->head;
}

static inline bool ring_empty(const struct ring *r)
{
	return r->head.next == &r->head;
}

/* At the end, unless it is in a ring already. */
static inline void ring_add(struct ring *r, struct ring_node *n)
{
	if (n->next)
		return;
	n->prev = r->head.prev;
	n->next = &r->head;
	n->prev->next = n;
	r->head.prev = n;
}

static inline void ring_remove(struct ring_node *n)
{
	if (!n->next)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = NULL;
}

/* The first, which goes to the end; NULL when empty. */
static inline struct ring_node *ring_next(struct ring *r)
{
	struct ring_node *n = r->head.next;

	if (n == &r->head)
		return NULL;
	ring_remove(n);
	ring_add(r, n);
	return n;
}

#endif
