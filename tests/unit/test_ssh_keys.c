/* SPDX-License-Identifier: MIT */
/* Tests of runtime/ssh_keys.c and ssh_key_file.c: key files as ssh-keygen and openssl write
 * them. What is signed is checked by OpenSSL with the public key that ssh-keygen wrote. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ssh_keys.h"
#include "support.h"

static char dir[64];

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (system(command))
		fail_msg("failed: %s", command);
}

static int setup(void **state)
{
	(void)state;
	return support_make_dir(dir, sizeof(dir)) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	run("rm -r %s", dir);
	return 0;
}

/* The key of dir/name must be the one whose public half ssh-keygen wrote next to it. */
static struct ssh_key *key_expect(const char *name, const char *passphrase)
{
	char path[128], line[2048] = "", *base64;
	const unsigned char *blob;
	struct buf b = {0};
	struct err err = {0};
	struct ssh_key *k;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	k = ssh_key_read(path, passphrase, &err);
	if (!k)
		fail_msg("%s", err.message);
	assert_string_equal(ssh_key_name(k), name);
	strcat(path, ".pub");
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	strtok(line, " ");
	base64 = strtok(NULL, " \n");
	blob = ssh_key_blob(k, &len);
	buf_base64(&b, blob, len);
	assert_string_equal(buf_str(&b), base64);
	buf_deinit(&b);
	return k;
}

static void each_format_and_type_is_read(void **state)
{
	static const char *const types[] = {"ed25519", "ecdsa -b 256", "ecdsa -b 384",
					    "ecdsa -b 521", "rsa -b 2048"};
	static const char *const formats[] = {"RFC4716", "PEM", "PKCS8"};

	(void)state;
	for (size_t t = 0; t < sizeof(types) / sizeof(*types); t++) {
		for (size_t f = 0; f < sizeof(formats) / sizeof(*formats); f++) {
			char name[32];

			snprintf(name, sizeof(name), "k%zu%zu", t, f);
			run("ssh-keygen -q -t %s -m %s -N '' -f %s/%s", types[t], formats[f], dir,
			    name);
			ssh_key_unref(key_expect(name, NULL));
		}
	}
}

static void an_encrypted_key_needs_its_passphrase(void **state)
{
	static const char *const formats[] = {"RFC4716", "PEM", "PKCS8"};
	static const char *const types[] = {"ed25519", "rsa -b 2048"};
	struct err err;

	(void)state;
	for (size_t t = 0; t < 2; t++) {
		for (size_t f = 0; f < 3; f++) {
			char name[32], path[128];

			snprintf(name, sizeof(name), "e%zu%zu", t, f);
			snprintf(path, sizeof(path), "%s/%s", dir, name);
			run("ssh-keygen -q -t %s -m %s -N 'a secret' -f %s", types[t], formats[f],
			    path);
			ssh_key_unref(key_expect(name, "a secret"));
			assert_null(ssh_key_read(path, "wrong", &err));
			assert_int_equal(err.code, ERR_REFUSED);
			assert_non_null(strstr(err.message, "the passphrase does not open it"));
			assert_null(strstr(err.message, "wrong"));
			assert_null(ssh_key_read(path, NULL, &err));
			assert_int_equal(err.code, ERR_REFUSED);
			assert_non_null(strstr(err.message, "no passphrase is set"));
		}
	}
}

static void other_ciphers_are_read_too(void **state)
{
	(void)state;
	run("ssh-keygen -q -t ed25519 -N x -Z aes256-cbc -a 1 -f %s/cbc", dir);
	ssh_key_unref(key_expect("cbc", "x"));
	run("ssh-keygen -q -t ed25519 -N x -Z aes128-ctr -a 1 -f %s/ctr", dir);
	ssh_key_unref(key_expect("ctr", "x"));
}

static void what_is_no_key_is_refused(void **state)
{
	struct err err;
	char path[128];

	(void)state;
	assert_null(ssh_key_read("/nonexistent/id", NULL, &err));
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_null(ssh_key_read(dir, NULL, &err));
	assert_int_equal(err.code, ERR_INVALID);
	snprintf(path, sizeof(path), "%s/text", dir);
	run("echo hello > %s", path);
	assert_null(ssh_key_read(path, NULL, &err));
	assert_int_equal(err.code, ERR_INVALID);
	run("ssh-keygen -q -t ed25519 -N '' -f %s/ed", dir);
	snprintf(path, sizeof(path), "%s/ed.pub", dir);
	assert_null(ssh_key_read(path, NULL, &err));
	assert_int_equal(err.code, ERR_INVALID);
}

/* Cut and flipped at every place: refused or read, but nothing worse. */
static void a_damaged_file_does_no_harm(void **state)
{
	char text[2048], path[128];
	size_t n;
	FILE *f;

	(void)state;
	run("ssh-keygen -q -t ecdsa -N '' -f %s/whole", dir);
	snprintf(path, sizeof(path), "%s/whole", dir);
	f = fopen(path, "r");
	n = fread(text, 1, sizeof(text), f);
	fclose(f);
	snprintf(path, sizeof(path), "%s/damaged", dir);
	for (size_t i = 0; i < n; i += 3) {
		char was = text[i];
		struct err err = {0};
		struct ssh_key *k;

		text[i] = i % 2 ? 'A' : '\n';
		f = fopen(path, "w");
		fwrite(text, 1, i % 5 ? n : i, f);
		fclose(f);
		text[i] = was;
		k = ssh_key_read(path, "x", &err);
		assert_true(k || err.code);
		ssh_key_unref(k);
	}
}

/* ---- signing ---- */

static EVP_PKEY *public_half(const char *name)
{
	char path[128];
	EVP_PKEY *pkey;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	pkey = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	assert_non_null(pkey);
	return pkey;
}

static bool verifies(EVP_PKEY *pkey, const EVP_MD *md, const void *sig, size_t n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = EVP_DigestVerifyInit(ctx, NULL, md, NULL, pkey) == 1 &&
		  EVP_DigestVerify(ctx, sig, n, (const unsigned char *)"hello", 5) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

static void rsa_signs_with_sha2_only(void **state)
{
	struct buf sig = {0};
	EVP_PKEY *public;
	struct ssh_key *k;

	(void)state;
	run("ssh-keygen -q -t rsa -b 2048 -m PKCS8 -N '' -f %s/rsa", dir);
	k = key_expect("rsa", NULL);
	public = public_half("rsa");
	assert_true(ssh_key_is_rsa(k));
	assert_int_equal(ssh_key_sign(k, "rsa-sha2-512", 12, "hello", 5, &sig), 0);
	assert_true(verifies(public, EVP_sha512(), sig.data, sig.len));
	buf_clear(&sig);
	assert_int_equal(ssh_key_sign(k, "rsa-sha2-256", 12, "hello", 5, &sig), 0);
	assert_true(verifies(public, EVP_sha256(), sig.data, sig.len));
	assert_int_equal(ssh_key_sign(k, "ssh-rsa", 7, "hello", 5, &sig), -ERR_INVALID);
	buf_deinit(&sig);
	EVP_PKEY_free(public);
	ssh_key_unref(k);
}

struct signer {
	struct ssh_key *key;
	EVP_PKEY *public;
	int good;
};

static void *sign_many(void *arg)
{
	struct signer *s = arg;

	for (int i = 0; i < 100; i++) {
		struct buf sig = {0};

		if (!ssh_key_sign(s->key, "ssh-ed25519", 11, "hello", 5, &sig) &&
		    verifies(s->public, NULL, sig.data, sig.len))
			s->good++;
		buf_deinit(&sig);
	}
	return NULL;
}

static void threads_sign_with_one_key(void **state)
{
	struct signer s[2];
	pthread_t threads[2];
	struct ssh_key *k;

	(void)state;
	run("ssh-keygen -q -t ed25519 -N '' -f %s/shared", dir);
	k = key_expect("shared", NULL);
	for (int i = 0; i < 2; i++) {
		size_t len;
		const unsigned char *blob = ssh_key_blob(k, &len);

		s[i].key = ssh_key_ref(k);
		s[i].good = 0;
		s[i].public = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, blob + len - 32,
							  32);
		assert_int_equal(pthread_create(&threads[i], NULL, sign_many, &s[i]), 0);
	}
	ssh_key_unref(k);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(s[i].good, 100);
		EVP_PKEY_free(s[i].public);
		ssh_key_unref(s[i].key);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_format_and_type_is_read),
		cmocka_unit_test(an_encrypted_key_needs_its_passphrase),
		cmocka_unit_test(other_ciphers_are_read_too),
		cmocka_unit_test(what_is_no_key_is_refused),
		cmocka_unit_test(a_damaged_file_does_no_harm),
		cmocka_unit_test(rsa_signs_with_sha2_only),
		cmocka_unit_test(threads_sign_with_one_key),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
