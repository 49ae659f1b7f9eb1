/* SPDX-License-Identifier: MIT */
/* known_hosts_entry: one line of a known_hosts file, as known_hosts.c sees it. Not thread-safe. */
#ifndef EXED_KNOWN_HOSTS_ENTRY_H
#define EXED_KNOWN_HOSTS_ENTRY_H

#define OPENSSL_SUPPRESS_DEPRECATED /* SHA1_Update: the only way to keep a half-done HMAC */
#include <openssl/sha.h>
#include <stdbool.h>
#include <stddef.h>

enum known_mark { KNOWN_PLAIN, KNOWN_REVOKED };

struct known_entry {
	enum known_mark mark;
	int file, line;
	char *names;          /* lower case, comma separated; NULL for a hashed one */
	SHA_CTX inner, outer; /* hashed: HMAC-SHA1 with the salt already in it */
	unsigned char digest[SHA_DIGEST_LENGTH];
	bool spent;           /* hashed: has matched its one name */
	unsigned char *key;   /* the blob */
	size_t key_len;
};

/* Takes a line apart, in place. 0 with *out NULL when it says nothing that can be used (as OpenSSH
 * passes over it): a comment, @cert-authority, a damaged key. -ERR_MEMORY. */
int known_entry_read(char *line, struct known_entry **out);
void known_entry_free(struct known_entry *e);

/* Whether it is about name (lower case). A hashed one: */
bool known_entry_hashed(const struct known_entry *e, const char *name, size_t len);
/* One with patterns: a pattern matches, and no negated one. */
bool known_entry_matches(const struct known_entry *e, const char *name);
/* Whether its key is of this type ("ssh-ed25519"). */
bool known_entry_is(const struct known_entry *e, const char *type);
void known_lower(char *s);

#endif
