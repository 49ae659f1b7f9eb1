/* SPDX-License-Identifier: MIT */
/* mask: a search for several texts at once, naive on purpose: there are few, and what begins none of
 * them, nearly every byte, is passed by a table. Owns copies of the texts. Any thread, once made. */
#include "mask.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN "***"

struct mask {
	size_t n;
	bool first[256];          /* bytes with which a text begins */
	struct mask_text texts[]; /* longest first, so that none hides a longer one */
};

static int by_length(const void *a, const void *b)
{
	const struct mask_text *x = a, *y = b;

	return (x->len < y->len) - (x->len > y->len);
}

struct mask *mask_new(const struct mask_text *texts, size_t n)
{
	struct mask *m = calloc(1, sizeof(*m) + n * sizeof(*m->texts));

	for (size_t i = 0; m && i < n; i++) {
		char *copy;

		if (!texts[i].len)
			continue;
		copy = malloc(texts[i].len);
		if (!copy) {
			mask_free(m);
			return NULL;
		}
		memcpy(copy, texts[i].data, texts[i].len);
		m->texts[m->n++] = (struct mask_text){ copy, texts[i].len };
		m->first[(unsigned char)*copy] = true;
	}
	if (m)
		qsort(m->texts, m->n, sizeof(*m->texts), by_length);
	return m;
}

void mask_free(struct mask *m)
{
	for (size_t i = 0; m && i < m->n; i++) {
		OPENSSL_cleanse((char *)m->texts[i].data, m->texts[i].len);
		free((char *)m->texts[i].data);
	}
	free(m);
}

/* The length of the text that begins at data, 0 for none; *more: too few bytes are there to tell whether it is a
 * longer one. */
static size_t match(const struct mask *m, const char *data, size_t n, bool *more)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct mask_text *t = &m->texts[i];

		if (memcmp(data, t->data, t->len < n ? t->len : n))
			continue;
		if (t->len <= n)
			return t->len;
		*more = true;
	}
	return 0;
}

void mask_stream(const struct mask *m, struct buf *held, const char *data, size_t n, bool end,
		 struct buf *out)
{
	size_t at = 0, shown = 0;
	bool more = false;

	buf_add(held, data, n);
	while (at < held->len) {
		size_t len = 0;

		if (m->first[(unsigned char)held->data[at]])
			len = match(m, held->data + at, held->len - at, &more);
		if (more && !end)
			break;
		more = false;
		if (!len) {
			at++;
			continue;
		}
		buf_add(out, held->data + shown, at - shown);
		buf_puts(out, SHOWN);
		at += len;
		shown = at;
	}
	if (at > shown)
		buf_add(out, held->data + shown, at - shown);
	buf_drop(held, at);
	out->failed = out->failed || held->failed;
}
