/* SPDX-License-Identifier: MIT */
/* ssh_keys: reading identity files and signing, with OpenSSL. The format that OpenSSL does not
 * know, "BEGIN OPENSSH PRIVATE KEY", is taken apart in ssh_key_file.c. Any thread. */
#include "ssh_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ssh_cert.h"
#include "ssh_key_file.h"

#define FILE_MAX 65536

struct ssh_key {
	atomic_uint refs;
	char *name;
	EVP_PKEY *pkey;
	int id; /* EVP_PKEY_ED25519, EVP_PKEY_EC or EVP_PKEY_RSA */
	const EVP_MD *md; /* EC: the hash of its curve (RFC 5656, 6.2.1) */
	struct buf blob;
	struct buf cert; /* empty: none */
	struct err cert_err;
};

/* ---- the public key ---- */

static void add_string(struct buf *b, const void *data, size_t n)
{
	const unsigned char len[4] = {(unsigned char)(n >> 24), (unsigned char)(n >> 16),
				      (unsigned char)(n >> 8), (unsigned char)n};

	buf_add(b, len, sizeof(len));
	buf_add(b, data, n);
}

/* mpint (RFC 4251, 5): big-endian, a zero in front when the first bit would be set. */
static void add_mpint(struct buf *b, const BIGNUM *n)
{
	unsigned char bytes[2049] = {0};
	int len = BN_num_bytes(n);

	if (len > (int)sizeof(bytes) - 1) {
		b->failed = true;
		return;
	}
	BN_bn2bin(n, bytes + 1);
	if (len && bytes[1] & 0x80)
		add_string(b, bytes, (size_t)len + 1);
	else
		add_string(b, bytes + 1, (size_t)len);
}

static int blob_rsa(struct ssh_key *k)
{
	BIGNUM *e = NULL, *n = NULL;
	int ok = EVP_PKEY_get_bn_param(k->pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1 &&
		 EVP_PKEY_get_bn_param(k->pkey, OSSL_PKEY_PARAM_RSA_N, &n) == 1;

	if (ok) {
		add_string(&k->blob, "ssh-rsa", 7);
		add_mpint(&k->blob, e);
		add_mpint(&k->blob, n);
	}
	BN_free(e);
	BN_free(n);
	return ok ? 0 : -ERR_INVALID;
}

static int blob_ec(struct ssh_key *k)
{
	static const struct {
		const char *group, *curve;
		const EVP_MD *(*md)(void);
	} curves[] = {
		{"prime256v1", "nistp256", EVP_sha256},
		{"secp384r1", "nistp384", EVP_sha384},
		{"secp521r1", "nistp521", EVP_sha512},
	};
	char group[64], type[64] = "ecdsa-sha2-";
	unsigned char point[133];
	size_t n = 0;

	/* A key that was read from PEM may keep its point compressed; SSH wants all of it. */
	EVP_PKEY_set_utf8_string_param(k->pkey, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
				       OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED);
	if (EVP_PKEY_get_group_name(k->pkey, group, sizeof(group), NULL) != 1 ||
	    EVP_PKEY_get_octet_string_param(k->pkey, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point,
					    sizeof(point), &n) != 1)
		return -ERR_INVALID;
	for (size_t i = 0; i < sizeof(curves) / sizeof(*curves); i++) {
		if (strcmp(group, curves[i].group))
			continue;
		strcat(type, curves[i].curve);
		add_string(&k->blob, type, strlen(type));
		add_string(&k->blob, curves[i].curve, strlen(curves[i].curve));
		add_string(&k->blob, point, n);
		k->md = curves[i].md();
		return 0;
	}
	return -ERR_INVALID;
}

static int blob_make(struct ssh_key *k)
{
	unsigned char raw[32];
	size_t n = sizeof(raw);
	int rc = -ERR_INVALID;

	k->id = EVP_PKEY_get_base_id(k->pkey);
	if (k->id == EVP_PKEY_RSA) {
		rc = blob_rsa(k);
	} else if (k->id == EVP_PKEY_EC) {
		rc = blob_ec(k);
	} else if (k->id == EVP_PKEY_ED25519 &&
		   EVP_PKEY_get_raw_public_key(k->pkey, raw, &n) == 1) {
		add_string(&k->blob, "ssh-ed25519", 11);
		add_string(&k->blob, raw, n);
		rc = 0;
	}
	return k->blob.failed ? -ERR_MEMORY : rc;
}

/* ---- reading ---- */

struct asked {
	const char *passphrase;
	bool wanted;
};

/* OpenSSL asks here for the passphrase of a PEM file; without this it would ask the terminal. */
static int pem_passphrase(char *out, int cap, int rwflag, void *arg)
{
	struct asked *asked = arg;
	size_t n = asked->passphrase ? strlen(asked->passphrase) : 0;

	(void)rwflag;
	asked->wanted = true;
	if (!n || n > (size_t)cap)
		return -1;
	memcpy(out, asked->passphrase, n);
	return (int)n;
}

static EVP_PKEY *pem_read(const struct buf *text, const char *path, const char *passphrase,
			  struct err *err)
{
	struct asked asked = {passphrase, false};
	BIO *bio = BIO_new_mem_buf(text->data, (int)text->len);
	EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, pem_passphrase, &asked) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	if (pkey)
		return pkey;
	if (asked.wanted && !passphrase)
		err_set(err, ERR_REFUSED, "key %s is encrypted and no passphrase is set", path);
	else if (asked.wanted)
		err_set(err, ERR_REFUSED, "key %s: the passphrase does not open it", path);
	else
		err_set(err, ERR_INVALID, "key %s: not a private key that can be used", path);
	return NULL;
}

static int file_load(const char *path, struct buf *text, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	ssize_t n;

	if (fd < 0) {
		err_errno(err, "key %s", path);
		if (errno == ENOENT && err)
			err->code = ERR_NOT_FOUND;
		return errno == ENOENT ? -ERR_NOT_FOUND : -ERR_SYSTEM;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
		close(fd);
		return err_set(err, ERR_INVALID, "key %s: not a file of at most %d bytes", path,
			       FILE_MAX);
	}
	while (!buf_reserve(text, 4096) && text->len <= FILE_MAX &&
	       (n = read(fd, text->data + text->len, 4096)) > 0)
		text->len += (size_t)n;
	close(fd);
	if (text->failed)
		return err_set(err, ERR_MEMORY, "out of memory");
	return 0;
}

/* The certificate beside the key. One that cannot be used leaves the key as it is: that may do. */
static int cert_load(struct ssh_key *k, const char *path, struct err *err)
{
	struct buf name = {0}, text = {0};
	struct err why = {0};
	int rc;

	buf_printf(&name, "%s-cert.pub", path);
	if (!buf_str(&name)) {
		rc = -ERR_MEMORY;
		goto out;
	}
	rc = file_load(name.data, &text, &why);
	if (!rc)
		rc = ssh_cert_parse(text.data, text.len, (const unsigned char *)k->blob.data,
				    k->blob.len, &k->cert, &why);
	if (rc)
		buf_clear(&k->cert);
	if (rc && rc != -ERR_NOT_FOUND && rc != -ERR_MEMORY)
		err_set(&k->cert_err, why.code, "%s-cert.pub: %s", k->name, why.message);
out:
	buf_deinit(&name);
	buf_deinit(&text);
	return rc == -ERR_MEMORY ? err_set(err, ERR_MEMORY, "out of memory") : 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

struct ssh_key *ssh_key_read(const char *path, const char *passphrase, struct err *err)
{
	struct ssh_key *k = calloc(1, sizeof(*k));
	struct buf text = {0};
	int rc = 0;

	if (!k || !(k->name = strdup(base_name(path)))) {
		err_set(err, ERR_MEMORY, "out of memory");
		goto fail;
	}
	atomic_init(&k->refs, 1);
	if (file_load(path, &text, err))
		goto fail;
	if (ssh_key_file_is(text.data, text.len))
		k->pkey = ssh_key_file_read(text.data, text.len, path, passphrase, err);
	else
		k->pkey = pem_read(&text, path, passphrase, err);
	if (!k->pkey)
		goto fail;
	rc = blob_make(k);
	if (rc) {
		err_set(err, -rc, rc == -ERR_MEMORY ? "out of memory" :
			"key %s: neither ed25519, ECDSA on a NIST curve, nor RSA", path);
		goto fail;
	}
	if (cert_load(k, path, err))
		goto fail;
	goto out;
fail:
	ssh_key_unref(k);
	k = NULL;
out:
	if (text.data)
		OPENSSL_cleanse(text.data, text.cap);
	buf_deinit(&text);
	return k;
}

struct ssh_key *ssh_key_ref(struct ssh_key *k)
{
	atomic_fetch_add(&k->refs, 1);
	return k;
}

void ssh_key_unref(struct ssh_key *k)
{
	if (!k || atomic_fetch_sub(&k->refs, 1) > 1)
		return;
	EVP_PKEY_free(k->pkey);
	buf_deinit(&k->blob);
	buf_deinit(&k->cert);
	free(k->name);
	free(k);
}

const char *ssh_key_name(const struct ssh_key *k)
{
	return k->name;
}

const unsigned char *ssh_key_blob(const struct ssh_key *k, size_t *len)
{
	*len = k->blob.len;
	return (const unsigned char *)k->blob.data;
}

bool ssh_key_is_rsa(const struct ssh_key *k)
{
	return k->id == EVP_PKEY_RSA;
}

const unsigned char *ssh_key_cert(const struct ssh_key *k, size_t *len)
{
	*len = k->cert.len;
	return k->cert.len ? (const unsigned char *)k->cert.data : NULL;
}

const char *ssh_key_cert_problem(const struct ssh_key *k)
{
	return k->cert_err.code ? k->cert_err.message : NULL;
}

/* ---- signing ---- */

/* OpenSSL gives ECDSA signatures as DER; SSH wants two mpints (RFC 5656, 3.1.2). */
static int sign_ecdsa(const unsigned char *der, size_t n, struct buf *out)
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);

	if (!sig)
		return -ERR_INVALID;
	add_mpint(out, ECDSA_SIG_get0_r(sig));
	add_mpint(out, ECDSA_SIG_get0_s(sig));
	ECDSA_SIG_free(sig);
	return 0;
}

static bool word_is(const char *word, size_t n, const char *is)
{
	return n == strlen(is) && !memcmp(word, is, n);
}

int ssh_key_sign(const struct ssh_key *k, const char *algorithm, size_t n, const void *data,
		 size_t len, struct buf *out)
{
	const EVP_MD *md = k->md;
	unsigned char sig[2048];
	size_t sig_len = sizeof(sig);
	EVP_MD_CTX *ctx;
	int rc = 0;

	if (k->id == EVP_PKEY_RSA) {
		if (word_is(algorithm, n, "rsa-sha2-512"))
			md = EVP_sha512();
		else if (word_is(algorithm, n, "rsa-sha2-256"))
			md = EVP_sha256();
		else
			return -ERR_INVALID; /* ssh-rsa means SHA-1 */
	}
	ctx = EVP_MD_CTX_new();
	if (!ctx)
		return -ERR_MEMORY;
	if (EVP_DigestSignInit(ctx, NULL, md, NULL, k->pkey) != 1 ||
	    EVP_DigestSign(ctx, sig, &sig_len, data, len) != 1) {
		ERR_clear_error();
		rc = -ERR_INVALID;
	} else if (k->id == EVP_PKEY_EC) {
		rc = sign_ecdsa(sig, sig_len, out);
	} else {
		buf_add(out, sig, sig_len);
	}
	EVP_MD_CTX_free(ctx);
	return out->failed ? -ERR_MEMORY : rc;
}
