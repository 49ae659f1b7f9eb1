/* SPDX-License-Identifier: MIT */
/* seal: encrypts texts that are kept where others can read them, and tells when one was changed
 * (AES-256-GCM, NIST SP 800-38D). The sealed form: 12 bytes of nonce, the text's bytes, 16 of tag. Pure
 * functions; any thread. */
#ifndef EXED_SEAL_H
#define EXED_SEAL_H

#include <stddef.h>

#include "buf.h"
#include "err.h"

#define SEAL_KEY 32 /* bytes */

/* Appends the sealed form of n bytes to out. context: what it belongs to; it is opened with the same only.
 * A key may seal 2^32 texts. -ERR_MEMORY, -ERR_INVALID when the library refuses. */
int seal_close(struct buf *out, const unsigned char key[SEAL_KEY], const char *context, const void *data,
	       size_t n, struct err *err);
/* The text again. -ERR_INVALID: another key or context, or it was changed. */
int seal_open(struct buf *out, const unsigned char key[SEAL_KEY], const char *context, const void *data,
	      size_t n, struct err *err);

#endif
