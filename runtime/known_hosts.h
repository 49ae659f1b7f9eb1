/* SPDX-License-Identifier: MIT */
/* known_hosts: our own reading of OpenSSH's known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE
 * FORMAT). Parsed once into an index; what the file says about a name is worked out once per name
 * and kept. Any thread may ask; only known_hosts_add changes it, under its own lock. */
#ifndef EXED_KNOWN_HOSTS_H
#define EXED_KNOWN_HOSTS_H

#include <stddef.h>

#include "err.h"

struct known_hosts;

enum known_hosts_verdict {
	KNOWN_HOSTS_OK,      /* this key is known for this name */
	KNOWN_HOSTS_UNKNOWN, /* no entry for the name */
	KNOWN_HOSTS_CHANGED, /* the name is known, with other keys */
	KNOWN_HOSTS_REVOKED, /* the key is marked @revoked; wins over everything */
};

/* The key types of a name, for the order of host key algorithms; a set of bits. */
enum known_hosts_type {
	KNOWN_HOSTS_ED25519 = 1,
	KNOWN_HOSTS_ECDSA_256 = 2,
	KNOWN_HOSTS_ECDSA_384 = 4,
	KNOWN_HOSTS_ECDSA_521 = 8,
	KNOWN_HOSTS_RSA = 16,
	KNOWN_HOSTS_OTHER = 32,
};

/* Reads the files of a NULL-terminated list in their order; one that does not exist is empty.
 * Copies the names. NULL with err when a file cannot be read. Lines that cannot be understood
 * are left out. */
struct known_hosts *known_hosts_new(const char *const *files, struct err *err);
void known_hosts_free(struct known_hosts *kh); /* no other thread may use it any more */

/* What the files say about a key (the blob of RFC 4253, 6.6) that host offers on port. host is the
 * name or address that is connected to, as given; case does not matter. An entry without a port is
 * for port 22 only. why (may be NULL) gets a message for people unless the verdict is OK. */
enum known_hosts_verdict known_hosts_check(struct known_hosts *kh, const char *host, int port,
					   const void *key, size_t len, struct err *why);

/* The types of the keys known for host, as bits of enum known_hosts_type. */
unsigned known_hosts_types(struct known_hosts *kh, const char *host, int port);

/* Checks again and, when the name is still unknown, appends a line to the first file (one write)
 * and knows the key from then on: two connections at once add it once. The verdict as of check;
 * or KNOWN_HOSTS_UNKNOWN with why when the file cannot be written. */
enum known_hosts_verdict known_hosts_add(struct known_hosts *kh, const char *host, int port,
					 const void *key, size_t len, struct err *why);

/* The short name of a key blob's type: "ed25519", "ecdsa", "rsa", or the type itself cut to
 * size. */
const char *known_hosts_type_name(const void *key, size_t len, char *out, size_t cap);

#endif
