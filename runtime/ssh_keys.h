/* SPDX-License-Identifier: MIT */
/* ssh_keys: private keys of users: read, decrypted once, and used to sign. A key is immutable once
 * made and counted atomically, so that every I/O thread may sign with it at the same time. */
#ifndef EXED_SSH_KEYS_H
#define EXED_SSH_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "err.h"

struct ssh_key;

/* Reads an identity file, and the user certificate in PATH-cert.pub beside it when there is one
 * (ssh_key_cert): OpenSSH's own format (PROTOCOL.key) or PEM (PKCS#1, SEC1, PKCS#8),
 * ed25519, ECDSA and RSA. passphrase (may be NULL) opens an encrypted one. Blocking: a file of
 * at most 64 KiB, and up to some 100 ms of CPU for an encrypted key. NULL with err:
 * ERR_NOT_FOUND when there is no such file, ERR_REFUSED when it is encrypted and the passphrase
 * is missing or wrong, ERR_INVALID, ERR_SYSTEM. */
struct ssh_key *ssh_key_read(const char *path, const char *passphrase, struct err *err);
struct ssh_key *ssh_key_ref(struct ssh_key *k);
void ssh_key_unref(struct ssh_key *k);

/* The file's name without its directories, for messages. */
const char *ssh_key_name(const struct ssh_key *k);
/* The public key as SSH sends it (RFC 4253, 6.6); borrowed from the key. */
const unsigned char *ssh_key_blob(const struct ssh_key *k, size_t *len);
bool ssh_key_is_rsa(const struct ssh_key *k);
/* The key's user certificate, to be offered in place of the public key; NULL: none. Borrowed. */
const unsigned char *ssh_key_cert(const struct ssh_key *k, size_t *len);
/* Why the certificate beside the key is not used; NULL: it is, or there is none. Borrowed. */
const char *ssh_key_cert_problem(const struct ssh_key *k);

/* Appends the signature over data in the form that SSH has for `algorithm` (n bytes), without the
 * outer string that names it: for RSA "rsa-sha2-256" or "rsa-sha2-512", for others the key's own.
 * -ERR_INVALID when the key cannot sign so. Any thread. */
int ssh_key_sign(const struct ssh_key *k, const char *algorithm, size_t n, const void *data,
		 size_t len, struct buf *out);

#endif
