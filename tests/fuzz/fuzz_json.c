/* SPDX-License-Identifier: MIT */
/* libFuzzer target for json_read: any bytes are read or refused with a place, without harm, and what
 * json_scan_check lets through is within the bounds that it is for. The first byte of the input says
 * how many values may be in the rest. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "does not hold: %s\n", #x);                                \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static size_t values_of(const json_t *v, int depth)
{
	size_t n = 1;
	const char *key;
	json_t *item;
	size_t i;

	CHECK(depth <= JSON_DEPTH);
	json_array_foreach(v, i, item)
		n += values_of(item, depth + 1);
	json_object_foreach((json_t *)v, key, item) {
		CHECK(buf_is_utf8(key, strlen(key)));
		n += values_of(item, depth + 1);
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
	const char *text = (const char *)input + 1;
	struct err err = { 0 };
	char place[16];
	json_t *v;

	if (n < 1)
		return 0;
	n--;
	for (size_t at = 0; at <= n && at < 64; at++) {
		json_scan_place(text, n, at, place, sizeof(place));
		CHECK(strlen(place) < sizeof(place));
	}
	v = json_read_bounded(text, n, input[0], &err);
	CHECK(v || err.code == ERR_INVALID);
	CHECK(v || *err.message);
	if (v && input[0])
		CHECK(values_of(v, 0) <= input[0]);
	json_decref(v);
	return 0;
}
