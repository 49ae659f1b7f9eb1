/* SPDX-License-Identifier: MIT */
/* libFuzzer target for http_parse: any bytes, cut anywhere, are judged alike and without harm. The
 * first byte of the input says how long the pieces are; the rest is what a client sends. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_parse.h"

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "does not hold: %s\n", #x);                                \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static const struct http_limits limits = { 256, 512, 8, 1024 };

/* Feeds one request in pieces; returns the last event and how much of the input it took. */
static enum http_event feed(struct http_parse *p, const char *data, size_t n, size_t piece,
			    size_t *taken)
{
	enum http_event ev = HTTP_MORE;
	bool head = false;

	*taken = 0;
	for (;;) {
		size_t used = 0, give = n - *taken < piece ? n - *taken : piece;

		ev = http_parse_feed(p, data + *taken, give, &used);
		CHECK(used <= give);
		*taken += used;
		if (ev == HTTP_HEAD) {
			CHECK(!head);
			head = true;
			continue;
		}
		CHECK(ev != HTTP_MORE || used == give);
		if (ev != HTTP_MORE || *taken == n)
			break;
	}
	CHECK(ev != HTTP_DONE || head);
	return ev;
}

static void check_good(const struct http_parse *p)
{
	const char *path = http_parse_path(p);

	CHECK(*http_parse_method(p));
	CHECK(path[0] == '/' || !strcmp(path, "*"));
	CHECK(!strstr(path, "/../"));
	CHECK(strlen(http_parse_target(p)) <= limits.max_target);
	CHECK(p->nfields <= limits.max_lines);
	CHECK(p->body.len <= limits.max_body);
	CHECK(p->http10 || *http_parse_host(p));
}

static void check_same(const struct http_parse *a, const struct http_parse *b)
{
	CHECK(a->status == b->status && !strcmp(a->message, b->message));
	CHECK(!strcmp(http_parse_method(a), http_parse_method(b)));
	CHECK(!strcmp(http_parse_path(a), http_parse_path(b)));
	CHECK(!strcmp(http_parse_query(a), http_parse_query(b)));
	CHECK(a->nfields == b->nfields && a->keep_alive == b->keep_alive);
	for (unsigned i = 0; i < a->nfields; i++) {
		const char *va, *vb;

		CHECK(!strcmp(http_parse_field(a, i, &va), http_parse_field(b, i, &vb)));
		CHECK(!strcmp(va, vb));
	}
	CHECK(a->body.len == b->body.len);
	CHECK(!a->body.len || !memcmp(a->body.data, b->body.data, a->body.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
	const char *data = (const char *)input + 1;
	struct http_parse whole, cut;
	size_t piece, used = 0, used_cut = 0;
	enum http_event ev;

	if (n < 1)
		return 0;
	n--;
	piece = input[0] % 16 + 1;
	http_parse_init(&whole, &limits);
	http_parse_init(&cut, &limits);
	for (int requests = 0; requests < 8; requests++) {
		ev = feed(&whole, data, n, n ? n : 1, &used);
		CHECK(feed(&cut, data, n, piece, &used_cut) == ev);
		check_same(&whole, &cut);
		if (ev != HTTP_DONE)
			break;
		CHECK(used == used_cut);
		check_good(&whole);
		http_parse_reset(&whole);
		http_parse_reset(&cut);
		data += used;
		n -= used;
	}
	http_parse_deinit(&whole);
	http_parse_deinit(&cut);
	return 0;
}
