/* SPDX-License-Identifier: MIT */
/* Tests of runtime/ssh_cert.c, with certificates as ssh-keygen makes them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ssh_cert.h"
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
	if (!support_make_dir(dir, sizeof(dir)))
		return -1;
	run("ssh-keygen -q -t ed25519 -N '' -f %s/ca", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	run("rm -r %s", dir);
	return 0;
}

/* The key dir/name, made with its certificate (further arguments in more). */
static struct ssh_key *certified(const char *name, const char *type, const char *more)
{
	struct err err = {0};
	struct ssh_key *k;
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	run("ssh-keygen -q -t %s -N '' -f %s", type, path);
	run("ssh-keygen -q -s %s/ca -I id -n me %s %s.pub 2>/dev/null", dir, more, path);
	k = ssh_key_read(path, NULL, &err);
	if (!k)
		fail_msg("%s", err.message);
	return k;
}

static void each_type_is_read(void **state)
{
	static const char *const types[] = {"ed25519", "ecdsa -b 256", "ecdsa -b 384",
					    "ecdsa -b 521", "rsa -b 2048"};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		char name[16];
		struct ssh_key *k;
		const unsigned char *cert, *blob;
		size_t n, len;

		snprintf(name, sizeof(name), "k%zu", i);
		k = certified(name, types[i], "");
		cert = ssh_key_cert(k, &n);
		blob = ssh_key_blob(k, &len);
		assert_null(ssh_key_cert_problem(k));
		assert_non_null(cert);
		assert_true(ssh_cert_is(cert, n));
		assert_false(ssh_cert_is(blob, len));
		assert_null(ssh_cert_lapse(cert, n, time(NULL)));
		ssh_key_unref(k);
	}
}

static void the_time_is_looked_at(void **state)
{
	struct ssh_key *k = certified("timed", "ed25519", "-V 20200101000000Z:20200102000000Z");
	const unsigned char *cert;
	size_t n;

	(void)state;
	cert = ssh_key_cert(k, &n);
	assert_non_null(cert);
	assert_string_equal(ssh_cert_lapse(cert, n, 1577836799), "not valid yet");
	assert_null(ssh_cert_lapse(cert, n, 1577836800));
	assert_null(ssh_cert_lapse(cert, n, 1577923199));
	assert_string_equal(ssh_cert_lapse(cert, n, 1577923200), "expired");
	ssh_key_unref(k);
}

static void a_hosts_certificate_is_refused(void **state)
{
	struct ssh_key *k = certified("host", "ed25519", "-h");
	size_t n;

	(void)state;
	assert_null(ssh_key_cert(k, &n));
	assert_non_null(strstr(ssh_key_cert_problem(k), "a host's certificate"));
	ssh_key_unref(k);
}

/* Cut anywhere, and with any byte changed: never more is read than there is. */
static void a_damaged_one_does_no_harm(void **state)
{
	struct ssh_key *k = certified("damaged", "ed25519", "");
	const unsigned char *cert, *blob;
	struct buf text = {0};
	unsigned char *copy;
	size_t n, len;

	(void)state;
	cert = ssh_key_cert(k, &n);
	blob = ssh_key_blob(k, &len);
	assert_non_null(cert);
	copy = malloc(n);
	assert_non_null(copy);
	for (size_t i = 0; i < n; i++) {
		unsigned char *cut = malloc(i + 1); /* so that a sanitizer sees its end */

		memcpy(cut, cert, i);
		ssh_cert_lapse(cut, i, 0);
		ssh_cert_is(cut, i);
		free(cut);
		memcpy(copy, cert, n);
		copy[i] ^= 0xff;
		ssh_cert_lapse(copy, n, 0);
	}
	buf_puts(&text, "type ");
	buf_base64(&text, cert, n);
	for (size_t i = 0; i < text.len; i++) {
		struct buf out = {0};
		struct err err;

		if (!ssh_cert_parse(text.data, i, blob, len, &out, &err))
			assert_true(out.len <= n);
		buf_deinit(&out);
	}
	free(copy);
	buf_deinit(&text);
	ssh_key_unref(k);
}

static void what_is_no_certificate_is_refused(void **state)
{
	static const char *const texts[] = {"", "x", "ssh-ed25519", "t AAAA", "t ====", "t A===",
					    "t not/base64!", "t AAAAC3NzaC1lZDI1NTE5"};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct buf out = {0};
		struct err err = {0};

		assert_int_equal(ssh_cert_parse(texts[i], strlen(texts[i]),
						(const unsigned char *)"", 0, &out, &err),
				 -ERR_INVALID);
		assert_non_null(strstr(err.message, "not a certificate"));
		buf_deinit(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_type_is_read),
		cmocka_unit_test(the_time_is_looked_at),
		cmocka_unit_test(a_hosts_certificate_is_refused),
		cmocka_unit_test(a_damaged_one_does_no_harm),
		cmocka_unit_test(what_is_no_certificate_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
