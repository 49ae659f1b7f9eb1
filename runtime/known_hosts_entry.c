/* SPDX-License-Identifier: MIT */
/* known_hosts_entry: parser of a line (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT) and the two ways in
 * which a line can be about a name. Pure but for memory; one owner at a time. */
#include "known_hosts_entry.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

static int base64_read(const char *text, size_t n, unsigned char **out, size_t *len)
{
	size_t pad = 0;
	int got;

	while (pad < n && pad < 2 && text[n - 1 - pad] == '=')
		pad++;
	if (!n || n % 4 || n > 1u << 20)
		return -ERR_INVALID;
	*out = malloc(n / 4 * 3);
	if (!*out)
		return -ERR_MEMORY;
	got = EVP_DecodeBlock(*out, (const unsigned char *)text, (int)n);
	if (got != (int)(n / 4 * 3)) {
		free(*out);
		*out = NULL;
		return -ERR_INVALID;
	}
	*len = (size_t)got - pad;
	return 0;
}

/* The next word of *at, ended by a blank; NULL at the end of the line. Cuts the line up. */
static char *word_next(char **at)
{
	char *s = *at + strspn(*at, " \t");
	size_t n = strcspn(s, " \t\r\n");

	if (!n)
		return NULL;
	*at = s + n + (s[n] != '\0');
	s[n] = '\0';
	return s;
}

/* |1|salt|digest, both base64 of 20 bytes: digest = HMAC-SHA1(salt, name). */
static int hashed_read(struct known_entry *e, const char *text)
{
	const char *salt = text + 3, *bar = strchr(salt, '|');
	unsigned char *bytes = NULL, pad[SHA_CBLOCK];
	size_t n, i;

	if (!bar || base64_read(salt, (size_t)(bar - salt), &bytes, &n))
		return -ERR_INVALID;
	if (n != SHA_DIGEST_LENGTH) {
		free(bytes);
		return -ERR_INVALID;
	}
	for (i = 0; i < sizeof(pad); i++)
		pad[i] = (i < n ? bytes[i] : 0) ^ 0x36;
	SHA1_Init(&e->inner);
	SHA1_Update(&e->inner, pad, sizeof(pad));
	for (i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36 ^ 0x5c;
	SHA1_Init(&e->outer);
	SHA1_Update(&e->outer, pad, sizeof(pad));
	free(bytes);
	if (base64_read(bar + 1, strlen(bar + 1), &bytes, &n))
		return -ERR_INVALID;
	if (n == SHA_DIGEST_LENGTH)
		memcpy(e->digest, bytes, n);
	free(bytes);
	return n == SHA_DIGEST_LENGTH ? 0 : -ERR_INVALID;
}

void known_lower(char *s)
{
	for (; *s; s++)
		*s = (char)tolower((unsigned char)*s);
}

/* The key's own first string must be the type that stands before it. */
bool known_entry_is(const struct known_entry *e, const char *type)
{
	size_t n = strlen(type);
	uint32_t len;

	if (e->key_len < 4 + n)
		return false;
	len = (uint32_t)e->key[0] << 24 | (uint32_t)e->key[1] << 16 | (uint32_t)e->key[2] << 8 |
	      e->key[3];
	return len == n && !memcmp(e->key + 4, type, n);
}

void known_entry_free(struct known_entry *e)
{
	if (!e)
		return;
	free(e->names);
	free(e->key);
	free(e);
}

int known_entry_read(char *line, struct known_entry **out)
{
	char *names, *type, *key, *at = line;
	enum known_mark mark = KNOWN_PLAIN;
	struct known_entry *e;
	int rc;

	*out = NULL;
	names = word_next(&at);
	if (!names || *names == '#')
		return 0;
	if (*names == '@') {
		if (strcmp(names, "@revoked"))
			return 0; /* @cert-authority: its key speaks for no host by itself */
		mark = KNOWN_REVOKED;
		names = word_next(&at);
	}
	type = names ? word_next(&at) : NULL;
	key = type ? word_next(&at) : NULL;
	if (!key)
		return 0;
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ERR_MEMORY;
	e->mark = mark;
	rc = base64_read(key, strlen(key), &e->key, &e->key_len);
	if (!rc && !known_entry_is(e, type))
		rc = -ERR_INVALID;
	if (!rc && !strncmp(names, "|1|", 3)) {
		rc = hashed_read(e, names);
	} else if (!rc) {
		known_lower(names);
		e->names = strdup(names);
		rc = e->names ? 0 : -ERR_MEMORY;
	}
	if (!rc) {
		*out = e;
		return 0;
	}
	known_entry_free(e);
	return rc == -ERR_MEMORY ? rc : 0;
}

/* * and ?; the last * is the only one that needs a second try. */
static bool glob_match(const char *pattern, const char *s)
{
	const char *star = NULL, *from = NULL;

	while (*s) {
		if (*pattern == '*') {
			star = ++pattern;
			from = s;
		} else if (*pattern == '?' || *pattern == *s) {
			pattern++;
			s++;
		} else if (star) {
			pattern = star;
			s = ++from;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

bool known_entry_matches(const struct known_entry *e, const char *name)
{
	const char *list = e->names;
	char one[1025]; /* longer than a host name may be */
	bool hit = false;

	while (*list) {
		size_t n = strcspn(list, ",");
		bool not = *list == '!';

		if (n - not < sizeof(one)) {
			memcpy(one, list + not, n - not);
			one[n - not] = '\0';
			if (glob_match(one, name)) {
				if (not)
					return false;
				hit = true;
			}
		}
		list += n + (list[n] != '\0');
	}
	return hit;
}

bool known_entry_hashed(const struct known_entry *e, const char *name, size_t len)
{
	unsigned char digest[SHA_DIGEST_LENGTH];
	SHA_CTX ctx = e->inner;

	SHA1_Update(&ctx, name, len);
	SHA1_Final(digest, &ctx);
	ctx = e->outer;
	SHA1_Update(&ctx, digest, sizeof(digest));
	SHA1_Final(digest, &ctx);
	return !memcmp(digest, e->digest, sizeof(digest));
}
