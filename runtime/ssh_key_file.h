/* SPDX-License-Identifier: MIT */
/* ssh_key_file: OpenSSH's format for private keys, "openssh-key-v1" (PROTOCOL.key of OpenSSH),
 * which ssh-keygen writes by default and OpenSSL cannot read. Pure functions over bytes; any
 * thread. */
#ifndef EXED_SSH_KEY_FILE_H
#define EXED_SSH_KEY_FILE_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

#include "err.h"

/* Whether the text of a file is in this format. */
bool ssh_key_file_is(const char *text, size_t n);
/* The key in it, for EVP_PKEY_free. path is for messages only. passphrase may be NULL. NULL with
 * err: ERR_REFUSED when it is encrypted and the passphrase is missing or wrong, ERR_INVALID,
 * ERR_MEMORY. */
EVP_PKEY *ssh_key_file_read(const char *text, size_t n, const char *path, const char *passphrase,
			    struct err *err);

#endif
