/* SPDX-License-Identifier: MIT */
/* libFuzzer target for ssh_key_file: any bytes between the lines of a key file are a key or are
 * refused, without harm. The input is what the file has in base64, so that its parts are within
 * reach. Without a passphrase: its rounds take time and nothing else. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "ssh_key_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
	struct buf text = { 0 };
	struct err err = { 0 };
	EVP_PKEY *key;

	buf_puts(&text, "-----BEGIN OPENSSH " "PRIVATE KEY-----\n");
	buf_base64(&text, input, n);
	buf_puts(&text, "\n-----END OPENSSH " "PRIVATE KEY-----\n");
	if (!text.failed) {
		key = ssh_key_file_read(text.data, text.len, "key", NULL, &err);
		if (!key && !*err.message)
			abort();
		EVP_PKEY_free(key);
	}
	buf_deinit(&text);
	return 0;
}
