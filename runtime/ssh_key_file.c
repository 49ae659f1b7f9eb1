/* SPDX-License-Identifier: MIT */
/* ssh_key_file: armour, framing, decryption and the three key types of openssh-key-v1. What is
 * secret is wiped when it is let go. Any thread. */
#include "ssh_key_file.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ssh_bcrypt.h"

#define HEAD "-----BEGIN OPENSSH PRIVATE KEY-----"
#define TAIL "-----END OPENSSH PRIVATE KEY-----"
#define MAGIC "openssh-key-v1" /* with its NUL */
/* ssh-keygen's default is 16 or 24 rounds, 0.1 s; this many still end within a minute. */
#define ROUNDS_MAX 10000u

/* A run of bytes that is taken apart from its front; `bad` once something did not fit. */
struct part {
	const unsigned char *at;
	size_t left;
	bool bad;
};

static uint32_t part_u32(struct part *p)
{
	const unsigned char *s = p->at;

	if (p->left < 4)
		p->bad = true;
	if (p->bad)
		return 0;
	p->at += 4;
	p->left -= 4;
	return (uint32_t)s[0] << 24 | (uint32_t)s[1] << 16 | (uint32_t)s[2] << 8 | s[3];
}

static struct part part_string(struct part *p)
{
	struct part inner = {NULL, part_u32(p), false};

	if (p->bad || inner.left > p->left) {
		p->bad = true;
		inner.left = 0;
		inner.bad = true;
		return inner;
	}
	inner.at = p->at;
	p->at += inner.left;
	p->left -= inner.left;
	return inner;
}

static bool part_is(const struct part *p, const char *text)
{
	return !p->bad && p->left == strlen(text) && !memcmp(p->at, text, p->left);
}

bool ssh_key_file_is(const char *text, size_t n)
{
	return n >= sizeof(HEAD) - 1 && memmem(text, n, HEAD, sizeof(HEAD) - 1);
}

/* The bytes between the armour's lines. */
static unsigned char *armour_open(const char *text, size_t n, size_t *len)
{
	const char *from = memmem(text, n, HEAD, sizeof(HEAD) - 1);
	const char *to = memmem(text, n, TAIL, sizeof(TAIL) - 1);
	EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
	unsigned char *out = malloc(n);
	int got = 0, rest = 0;
	bool ok = from && to && ctx && out;

	if (ok) {
		from += sizeof(HEAD) - 1;
		EVP_DecodeInit(ctx);
		ok = from < to && EVP_DecodeUpdate(ctx, out, &got, (const unsigned char *)from,
						   (int)(to - from)) >= 0 &&
		     EVP_DecodeFinal(ctx, out + got, &rest) == 1;
	}
	EVP_ENCODE_CTX_free(ctx);
	if (!ok) {
		free(out);
		return NULL;
	}
	*len = (size_t)(got + rest);
	return out;
}

/* ---- decryption ---- */

static const EVP_CIPHER *cipher_find(const struct part *name)
{
	if (part_is(name, "aes256-ctr"))
		return EVP_aes_256_ctr();
	if (part_is(name, "aes192-ctr"))
		return EVP_aes_192_ctr();
	if (part_is(name, "aes128-ctr"))
		return EVP_aes_128_ctr();
	if (part_is(name, "aes256-cbc"))
		return EVP_aes_256_cbc();
	return NULL;
}

static int decrypt(unsigned char *bytes, size_t n, const EVP_CIPHER *cipher,
		   const unsigned char *secret)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int key = EVP_CIPHER_get_key_length(cipher), got = 0;
	bool ok = ctx && EVP_DecryptInit_ex(ctx, cipher, NULL, secret, secret + key) == 1 &&
		  EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
		  EVP_DecryptUpdate(ctx, bytes, &got, bytes, (int)n) == 1 && (size_t)got == n;

	EVP_CIPHER_CTX_free(ctx);
	return ok ? 0 : -ERR_INVALID;
}

static int section_open(unsigned char *bytes, size_t n, const struct part *cipher_name,
			struct part *options, const char *path, const char *passphrase,
			struct err *err)
{
	const EVP_CIPHER *cipher = cipher_find(cipher_name);
	struct part salt = part_string(options);
	uint32_t rounds = part_u32(options);
	unsigned char secret[64];
	size_t need;
	int rc;

	if (!passphrase || !*passphrase)
		return err_set(err, ERR_REFUSED, "key %s is encrypted and no passphrase is set",
			       path);
	if (!cipher)
		return err_set(err, ERR_INVALID, "key %s: encrypted with %.*s, which is not read",
			       path, (int)cipher_name->left, (const char *)cipher_name->at);
	if (options->bad || !rounds || rounds > ROUNDS_MAX || n % 16)
		return err_set(err, ERR_INVALID, "key %s: damaged", path);
	need = (size_t)(EVP_CIPHER_get_key_length(cipher) + EVP_CIPHER_get_iv_length(cipher));
	if (ssh_bcrypt_pbkdf(passphrase, salt.at, salt.left, rounds, secret, need))
		return err_set(err, ERR_MEMORY, "out of memory");
	rc = decrypt(bytes, n, cipher, secret);
	OPENSSL_cleanse(secret, sizeof(secret));
	return rc ? err_set(err, ERR_INVALID, "key %s: damaged", path) : 0;
}

/* ---- the key types ---- */

static EVP_PKEY *params_read(const char *type, OSSL_PARAM_BLD *bld)
{
	OSSL_PARAM *params = bld ? OSSL_PARAM_BLD_to_param(bld) : NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;

	if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	return pkey;
}

static EVP_PKEY *ed25519_read(struct part *p)
{
	struct part public = part_string(p);
	struct part secret = part_string(p);

	if (p->bad || public.left != 32 || secret.left != 64)
		return NULL;
	return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret.at, 32);
}

static EVP_PKEY *ecdsa_read(struct part *p)
{
	static const struct {
		const char *curve, *group;
	} curves[] = {
		{"nistp256", "P-256"},
		{"nistp384", "P-384"},
		{"nistp521", "P-521"},
	};
	struct part curve = part_string(p);
	struct part point = part_string(p);
	struct part secret = part_string(p);
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BIGNUM *d = p->bad ? NULL : BN_bin2bn(secret.at, (int)secret.left, BN_secure_new());
	EVP_PKEY *pkey = NULL;

	for (size_t i = 0; d && bld && i < sizeof(curves) / sizeof(*curves); i++) {
		if (!part_is(&curve, curves[i].curve))
			continue;
		if (OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME,
						    curves[i].group, 0) &&
		    OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point.at,
						     point.left) &&
		    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PRIV_KEY, d))
			pkey = params_read("EC", bld);
	}
	OSSL_PARAM_BLD_free(bld);
	BN_clear_free(d);
	return pkey;
}

/* The file has n e d q^-1 p q; OpenSSL wants d mod (p-1) and d mod (q-1) as well. */
static EVP_PKEY *rsa_read(struct part *p)
{
	static const char *const names[] = {
		OSSL_PKEY_PARAM_RSA_N, OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_D,
		OSSL_PKEY_PARAM_RSA_COEFFICIENT1, OSSL_PKEY_PARAM_RSA_FACTOR1,
		OSSL_PKEY_PARAM_RSA_FACTOR2, OSSL_PKEY_PARAM_RSA_EXPONENT1,
		OSSL_PKEY_PARAM_RSA_EXPONENT2,
	};
	enum { D = 2, P = 4, Q = 5, DP = 6, DQ = 7, N = 8 };
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BN_CTX *ctx = BN_CTX_new();
	BIGNUM *n[N] = {0}, *less = BN_secure_new();
	EVP_PKEY *pkey = NULL;
	bool ok = bld && ctx && less;

	for (int i = 0; i < DP; i++) {
		struct part number = part_string(p);

		n[i] = p->bad ? NULL : BN_bin2bn(number.at, (int)number.left, BN_secure_new());
		ok = ok && n[i];
	}
	for (int i = DP; i < N; i++) {
		n[i] = BN_secure_new();
		ok = ok && n[i] && BN_copy(less, n[i == DP ? P : Q]) && BN_sub_word(less, 1) &&
		     BN_mod(n[i], n[D], less, ctx);
	}
	for (int i = 0; ok && i < N; i++)
		ok = OSSL_PARAM_BLD_push_BN(bld, names[i], n[i]);
	if (ok)
		pkey = params_read("RSA", bld);
	for (int i = 0; i < N; i++)
		BN_clear_free(n[i]);
	BN_clear_free(less);
	BN_CTX_free(ctx);
	OSSL_PARAM_BLD_free(bld);
	return pkey;
}

/* The private section: two equal check words, then the key. Unequal ones mean a wrong
 * passphrase. */
static EVP_PKEY *section_read(struct part *p, bool encrypted, const char *path, struct err *err)
{
	uint32_t check = part_u32(p);
	EVP_PKEY *pkey = NULL;
	struct part type;

	if (check != part_u32(p)) {
		if (encrypted)
			err_set(err, ERR_REFUSED, "key %s: the passphrase does not open it", path);
		else
			err_set(err, ERR_INVALID, "key %s: damaged", path);
		return NULL;
	}
	type = part_string(p);
	if (part_is(&type, "ssh-ed25519"))
		pkey = ed25519_read(p);
	else if (!type.bad && type.left > 11 && !memcmp(type.at, "ecdsa-sha2-", 11))
		pkey = ecdsa_read(p);
	else if (part_is(&type, "ssh-rsa"))
		pkey = rsa_read(p);
	if (!pkey)
		err_set(err, ERR_INVALID, "key %s: damaged, or of a type that is not used here",
			path);
	ERR_clear_error();
	return pkey;
}

EVP_PKEY *ssh_key_file_read(const char *text, size_t n, const char *path, const char *passphrase,
			    struct err *err)
{
	size_t len = 0;
	unsigned char *bytes = armour_open(text, n, &len), *own;
	struct part p = {bytes, len, false}, cipher, options, section;
	EVP_PKEY *pkey = NULL;
	bool encrypted;

	if (!bytes || len < sizeof(MAGIC) || memcmp(bytes, MAGIC, sizeof(MAGIC))) {
		err_set(err, ERR_INVALID, "key %s: damaged", path);
		goto out;
	}
	p.at += sizeof(MAGIC);
	p.left -= sizeof(MAGIC);
	cipher = part_string(&p);
	part_string(&p); /* the name of the key derivation: bcrypt, the only one there is */
	options = part_string(&p);
	if (part_u32(&p) != 1)
		p.bad = true;
	part_string(&p); /* the public key; the private section has it too */
	section = part_string(&p);
	if (p.bad) {
		err_set(err, ERR_INVALID, "key %s: damaged", path);
		goto out;
	}
	encrypted = !part_is(&cipher, "none");
	own = bytes + (section.at - bytes);
	if (encrypted && section_open(own, section.left, &cipher, &options, path, passphrase, err))
		goto out;
	pkey = section_read(&section, encrypted, path, err);
out:
	if (bytes)
		OPENSSL_cleanse(bytes, len);
	free(bytes);
	return pkey;
}
