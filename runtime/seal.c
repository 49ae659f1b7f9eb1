/* SPDX-License-Identifier: MIT */
/* seal: OpenSSL's AES-256-GCM, with a random nonce for each text. Any thread. */
#include "seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#define NONCE 12
#define TAG 16

static bool seal(EVP_CIPHER_CTX *c, const unsigned char *key, const char *context, const void *data,
		 int n, unsigned char *to)
{
	int done;

	return RAND_bytes(to, NONCE) == 1 &&
	       EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, to) == 1 &&
	       EVP_EncryptUpdate(c, NULL, &done, (const void *)context, (int)strlen(context)) == 1 &&
	       EVP_EncryptUpdate(c, to + NONCE, &done, data, n) == 1 &&
	       EVP_EncryptFinal_ex(c, to + NONCE + done, &done) == 1 &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, to + NONCE + n) == 1;
}

static bool unseal(EVP_CIPHER_CTX *c, const unsigned char *key, const char *context,
		   const unsigned char *from, int n, unsigned char *to)
{
	int done;

	return EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, from) == 1 &&
	       EVP_DecryptUpdate(c, NULL, &done, (const void *)context, (int)strlen(context)) == 1 &&
	       EVP_DecryptUpdate(c, to, &done, from + NONCE, n) == 1 &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, (void *)(from + NONCE + n)) == 1 &&
	       EVP_DecryptFinal_ex(c, to + done, &done) == 1;
}

/* What is wrong with the room and the size, or a context to work in. */
static EVP_CIPHER_CTX *begin(struct buf *out, size_t n, size_t room, struct err *err)
{
	EVP_CIPHER_CTX *c;

	if (n > 1 << 30) {
		err_set(err, ERR_INVALID, "a text of %zu bytes is too long to be sealed", n);
		return NULL;
	}
	c = buf_reserve(out, room + 1) ? NULL : EVP_CIPHER_CTX_new();
	if (!c)
		err_set(err, ERR_MEMORY, "not enough memory for a sealed text");
	return c;
}

int seal_close(struct buf *out, const unsigned char key[SEAL_KEY], const char *context, const void *data,
	       size_t n, struct err *err)
{
	EVP_CIPHER_CTX *c = begin(out, n, NONCE + n + TAG, err);
	int rc = 0;

	if (!c)
		return -err->code;
	if (seal(c, key, context, data, (int)n, (unsigned char *)out->data + out->len))
		out->len += NONCE + n + TAG;
	else
		rc = err_set(err, ERR_INVALID, "the text could not be sealed");
	EVP_CIPHER_CTX_free(c);
	return rc;
}

int seal_open(struct buf *out, const unsigned char key[SEAL_KEY], const char *context, const void *data,
	      size_t n, struct err *err)
{
	EVP_CIPHER_CTX *c;
	size_t inside = n - NONCE - TAG;
	int rc = 0;

	if (n < NONCE + TAG)
		return err_set(err, ERR_INVALID, "a sealed text of %zu bytes is too short", n);
	c = begin(out, n, inside, err);
	if (!c)
		return -err->code;
	if (unseal(c, key, context, data, (int)inside, (unsigned char *)out->data + out->len)) {
		out->len += inside;
	} else {
		OPENSSL_cleanse(out->data + out->len, inside);
		rc = err_set(err, ERR_INVALID, "another key sealed it, or it was changed");
	}
	EVP_CIPHER_CTX_free(c);
	return rc;
}
