/* SPDX-License-Identifier: MIT */
/* ssh_cert: reading user certificates. Pure functions; any thread. */
#include "ssh_cert.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

#define USER_CERT 1u

struct bytes {
	const unsigned char *s;
	size_t n;
};

struct cert {
	struct bytes key;    /* the public key's own fields, without its type */
	uint32_t kind;       /* USER_CERT, or 2 for a host's */
	uint64_t from, until; /* seconds of the epoch; until is the first that is too late */
};

static bool take(struct bytes *b, size_t n, struct bytes *out)
{
	if (n > b->n)
		return false;
	*out = (struct bytes){b->s, n};
	b->s += n;
	b->n -= n;
	return true;
}

static bool take_number(struct bytes *b, size_t n, uint64_t *out)
{
	struct bytes raw;

	if (!take(b, n, &raw))
		return false;
	*out = 0;
	for (size_t i = 0; i < n; i++)
		*out = *out << 8 | raw.s[i];
	return true;
}

static bool take_string(struct bytes *b, struct bytes *out)
{
	uint64_t n;

	return take_number(b, 4, &n) && take(b, n, out);
}

static bool is_text(const struct bytes *b, const char *text)
{
	return b->n == strlen(text) && !memcmp(b->s, text, b->n);
}

/* How many fields the key of a type has in its certificate; 0: no type that we know. */
static int fields_of(const struct bytes *type)
{
	if (is_text(type, "ssh-ed25519" SSH_CERT_SUFFIX))
		return 1;
	if (is_text(type, "ssh-rsa" SSH_CERT_SUFFIX) ||
	    is_text(type, "ecdsa-sha2-nistp256" SSH_CERT_SUFFIX) ||
	    is_text(type, "ecdsa-sha2-nistp384" SSH_CERT_SUFFIX) ||
	    is_text(type, "ecdsa-sha2-nistp521" SSH_CERT_SUFFIX))
		return 2;
	return 0;
}

static bool read_cert(struct bytes b, struct cert *c)
{
	struct bytes type, skipped, field;
	uint64_t serial, kind;
	int fields;

	if (!take_string(&b, &type) || !(fields = fields_of(&type)) || !take_string(&b, &skipped))
		return false;
	c->key.s = b.s;
	for (int i = 0; i < fields; i++)
		if (!take_string(&b, &field))
			return false;
	c->key.n = (size_t)(b.s - c->key.s);
	if (!take_number(&b, 8, &serial) || !take_number(&b, 4, &kind) ||
	    !take_string(&b, &skipped) || !take_string(&b, &skipped) ||
	    !take_number(&b, 8, &c->from) || !take_number(&b, 8, &c->until))
		return false;
	c->kind = (uint32_t)kind;
	return true;
}

bool ssh_cert_is(const unsigned char *blob, size_t n)
{
	struct bytes b = {blob, n}, type;

	return take_string(&b, &type) && fields_of(&type);
}

const char *ssh_cert_lapse(const unsigned char *blob, size_t n, time_t now)
{
	struct cert c;

	if (!read_cert((struct bytes){blob, n}, &c))
		return NULL;
	if ((uint64_t)now < c.from)
		return "not valid yet";
	return (uint64_t)now >= c.until ? "expired" : NULL;
}

/* The second word of a line, from base64. */
static int decode(const char *text, size_t n, struct buf *blob, struct err *err)
{
	static const char blanks[] = " \t\r\n";
	size_t at = 0, size, pad = 0;
	int got;

	while (at < n && !strchr(blanks, text[at]))
		at++;
	while (at < n && (text[at] == ' ' || text[at] == '\t'))
		at++;
	text += at;
	n -= at;
	for (size = 0; size < n && !strchr(blanks, text[size]);)
		size++;
	while (pad < 2 && pad < size && text[size - 1 - pad] == '=')
		pad++;
	if (buf_reserve(blob, size))
		return err_set(err, ERR_MEMORY, "out of memory");
	got = size ? EVP_DecodeBlock((unsigned char *)blob->data, (const unsigned char *)text,
				     (int)size) : -1;
	if (got < (int)pad)
		return err_set(err, ERR_INVALID, "it is not a certificate as ssh-keygen writes it");
	blob->len = (size_t)got - pad;
	return 0;
}

int ssh_cert_parse(const char *text, size_t n, const unsigned char *key, size_t key_len,
		   struct buf *blob, struct err *err)
{
	struct bytes own = {key, key_len}, type;
	struct cert c;
	int rc = decode(text, n, blob, err);

	if (rc)
		return rc;
	if (!read_cert((struct bytes){(unsigned char *)blob->data, blob->len}, &c))
		return err_set(err, ERR_INVALID, "it is not a certificate of a known type");
	if (c.kind != USER_CERT)
		return err_set(err, ERR_INVALID, "it is a host's certificate, not a user's");
	if (!take_string(&own, &type) || own.n != c.key.n || memcmp(own.s, c.key.s, own.n))
		return err_set(err, ERR_INVALID, "it was made for another key");
	return 0;
}
