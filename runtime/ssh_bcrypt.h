/* SPDX-License-Identifier: MIT */
/* ssh_bcrypt: bcrypt_pbkdf, the key derivation of OpenSSH's encrypted key files, which no Debian
 * library offers. Pure; any thread. */
#ifndef EXED_SSH_BCRYPT_H
#define EXED_SSH_BCRYPT_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* Fills key (key_len at most 255 x 32 bytes) from a passphrase, a salt and a number of rounds
 * (at least 1), about 5 ms each. 0 or -ERR_MEMORY. */
int ssh_bcrypt_pbkdf(const char *pass, const void *salt, size_t salt_len, unsigned rounds,
		     uint8_t *key, size_t key_len);

#endif
