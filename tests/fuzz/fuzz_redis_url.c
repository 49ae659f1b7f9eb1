/* SPDX-License-Identifier: MIT */
/* libFuzzer target for redis_url: any text is read, or refused with a message. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "redis.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
	char *url = strndup((const char *)input, n);
	struct redis_address a = { 0 };
	struct err err = { 0 };

	if (url && redis_address_parse(&a, url, &err) && !*err.message)
		abort();
	redis_address_deinit(&a);
	free(url);
	return 0;
}
