/* SPDX-License-Identifier: MIT */
/* libFuzzer target for known_hosts_entry: any line is taken apart or passed over, and then asked for
 * a name, without harm. The input up to its first newline is the name. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "known_hosts_entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
	const uint8_t *lf = n ? memchr(input, '\n', n) : NULL;
	size_t len = lf ? (size_t)(lf - input) : 0;
	char *name, *line;
	struct known_entry *e = NULL;

	if (!lf)
		return 0;
	name = strndup((const char *)input, len);
	line = strndup((const char *)lf + 1, n - len - 1);
	if (name && line && !known_entry_read(line, &e) && e) {
		known_lower(name);
		known_entry_is(e, "ssh-ed25519");
		if (e->names)
			known_entry_matches(e, name);
		else
			known_entry_hashed(e, name, strlen(name));
	}
	known_entry_free(e);
	free(name);
	free(line);
	return 0;
}
