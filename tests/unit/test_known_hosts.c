/* SPDX-License-Identifier: MIT */
/* Tests of runtime/known_hosts*.c: files as OpenSSH writes and reads them. Keys are made up
 * here: a key is its type and any bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"
#include "known_hosts.h"
#include "support.h"

static char dir[64], file[96];

static int setup(void **state)
{
	(void)state;
	if (!support_make_dir(dir, sizeof(dir)))
		return -1;
	snprintf(file, sizeof(file), "%s/known_hosts", dir);
	return 0;
}

static int teardown(void **state)
{
	char extra[160];

	(void)state;
	unlink(file);
	snprintf(extra, sizeof(extra), "%s/new/known_hosts", dir);
	unlink(extra);
	snprintf(extra, sizeof(extra), "%s/new", dir);
	rmdir(extra);
	return rmdir(dir);
}

/* A key blob: its type as a string, then 32 bytes of one value. */
struct key {
	unsigned char bytes[96];
	size_t len;
	char base64[160];
};

static struct key key_make(const char *type, unsigned char fill)
{
	struct key k = {0};
	struct buf b = {0};
	size_t n = strlen(type);

	k.bytes[3] = (unsigned char)n;
	memcpy(k.bytes + 4, type, n);
	memset(k.bytes + 4 + n, fill, 32);
	k.len = 4 + n + 32;
	buf_base64(&b, k.bytes, k.len);
	snprintf(k.base64, sizeof(k.base64), "%s", buf_str(&b));
	buf_deinit(&b);
	return k;
}

static void file_write(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void file_write(const char *fmt, ...)
{
	FILE *f = fopen(file, "w");
	va_list ap;

	assert_non_null(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fclose(f);
}

static struct known_hosts *known_read(void)
{
	const char *files[] = {file, NULL};
	struct err err = {0};
	struct known_hosts *kh = known_hosts_new(files, &err);

	assert_non_null(kh);
	return kh;
}

static int check(struct known_hosts *kh, const char *host, int port, const struct key *k)
{
	return known_hosts_check(kh, host, port, k->bytes, k->len, NULL);
}

#define ED "ssh-ed25519"
#define EC "ecdsa-sha2-nistp256"

static void plain_names_match_whatever_their_case(void **state)
{
	struct key a = key_make(ED, 1), b = key_make(ED, 2);
	struct known_hosts *kh;

	(void)state;
	file_write("# a comment\n\nWeb1.example.org,10.0.0.1 ssh-ed25519 %s me@here\n", a.base64);
	kh = known_read();
	assert_int_equal(check(kh, "web1.EXAMPLE.org", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "10.0.0.1", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "10.0.0.1", 22, &b), KNOWN_HOSTS_CHANGED);
	assert_int_equal(check(kh, "10.0.0.10", 22, &a), KNOWN_HOSTS_UNKNOWN);
	assert_int_equal(check(kh, "web1.example.org.", 22, &a), KNOWN_HOSTS_UNKNOWN);
	known_hosts_free(kh);
}

static void an_entry_without_port_is_for_port_22_only(void **state)
{
	struct key a = key_make(ED, 1), b = key_make(ED, 2);
	struct known_hosts *kh;

	(void)state;
	file_write("h ssh-ed25519 %s\n[h]:2222 ssh-ed25519 %s\n[::1]:2222 ssh-ed25519 %s\n"
		   "::1 ssh-ed25519 %s\n", a.base64, b.base64, b.base64, a.base64);
	kh = known_read();
	assert_int_equal(check(kh, "h", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "h", 2222, &b), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "h", 2222, &a), KNOWN_HOSTS_CHANGED);
	assert_int_equal(check(kh, "h", 2223, &a), KNOWN_HOSTS_UNKNOWN);
	assert_int_equal(check(kh, "::1", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "::1", 2222, &b), KNOWN_HOSTS_OK);
	known_hosts_free(kh);
}

static void wildcards_and_negation_are_understood(void **state)
{
	struct key a = key_make(ED, 1);
	struct known_hosts *kh;

	(void)state;
	file_write("*.example.org,!bad.example.org,10.0.?.1 ssh-ed25519 %s\n"
		   "[*.net]:2222 ssh-ed25519 %s\n", a.base64, a.base64);
	kh = known_read();
	assert_int_equal(check(kh, "a.b.example.org", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "bad.example.org", 22, &a), KNOWN_HOSTS_UNKNOWN);
	assert_int_equal(check(kh, "example.org", 22, &a), KNOWN_HOSTS_UNKNOWN);
	assert_int_equal(check(kh, "10.0.7.1", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "10.0.77.1", 22, &a), KNOWN_HOSTS_UNKNOWN);
	assert_int_equal(check(kh, "x.net", 2222, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "x.net", 22, &a), KNOWN_HOSTS_UNKNOWN);
	known_hosts_free(kh);
}

static void a_name_may_have_several_keys(void **state)
{
	struct key a = key_make(ED, 1), b = key_make(EC, 2), c = key_make(ED, 3);
	struct known_hosts *kh;

	(void)state;
	file_write("h ssh-ed25519 %s\nh " EC " %s\nh ssh-ed25519 %s\n", a.base64, b.base64,
		   c.base64);
	kh = known_read();
	assert_int_equal(check(kh, "h", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "h", 22, &b), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "h", 22, &c), KNOWN_HOSTS_OK);
	assert_int_equal(known_hosts_types(kh, "h", 22),
			 KNOWN_HOSTS_ED25519 | KNOWN_HOSTS_ECDSA_256);
	assert_int_equal(known_hosts_types(kh, "other", 22), 0);
	known_hosts_free(kh);
}

static void a_mismatch_names_file_and_line(void **state)
{
	struct key a = key_make(ED, 1), b = key_make(EC, 2), c = key_make(ED, 3);
	struct known_hosts *kh;
	struct err why = {0};
	char want[160];

	(void)state;
	file_write("x ssh-ed25519 %s\nh " EC " %s\nh ssh-ed25519 %s\n", a.base64, b.base64,
		   a.base64);
	kh = known_read();
	known_hosts_check(kh, "h", 22, c.bytes, c.len, &why);
	snprintf(want, sizeof(want), "host key changed: %s:3 has another ed25519 key for h", file);
	assert_string_equal(why.message, want);
	known_hosts_check(kh, "x", 22, b.bytes, b.len, &why);
	snprintf(want, sizeof(want),
		 "host key changed: the host shows ecdsa, %s:1 has ed25519 for x", file);
	assert_string_equal(why.message, want);
	known_hosts_check(kh, "y", 2222, b.bytes, b.len, &why);
	snprintf(want, sizeof(want), "host key unknown: no entry for [y]:2222 in %s", file);
	assert_string_equal(why.message, want);
	known_hosts_free(kh);
}

static void revoked_wins_over_a_plain_line(void **state)
{
	struct key a = key_make(ED, 1), b = key_make(ED, 2);
	struct known_hosts *kh;

	(void)state;
	file_write("h ssh-ed25519 %s\n@revoked * ssh-ed25519 %s\n@revoked g ssh-ed25519 %s\n",
		   a.base64, a.base64, b.base64);
	kh = known_read();
	assert_int_equal(check(kh, "h", 22, &a), KNOWN_HOSTS_REVOKED);
	assert_int_equal(check(kh, "new", 22, &a), KNOWN_HOSTS_REVOKED);
	assert_int_equal(check(kh, "g", 22, &b), KNOWN_HOSTS_REVOKED);
	/* A revoked key says nothing about the host's other keys. */
	assert_int_equal(check(kh, "g", 22, &a), KNOWN_HOSTS_REVOKED);
	assert_int_equal(known_hosts_types(kh, "g", 22), 0);
	known_hosts_free(kh);
}

static void a_certificate_authority_is_no_host_key(void **state)
{
	struct key a = key_make(ED, 1);
	struct known_hosts *kh;

	(void)state;
	file_write("@cert-authority * ssh-ed25519 %s\n@unknown-mark h ssh-ed25519 %s\n", a.base64,
		   a.base64);
	kh = known_read();
	assert_int_equal(check(kh, "h", 22, &a), KNOWN_HOSTS_UNKNOWN);
	known_hosts_free(kh);
}

static void damaged_lines_are_passed_over(void **state)
{
	struct key a = key_make(ED, 1), b = key_make(EC, 2);
	struct known_hosts *kh;

	(void)state;
	file_write("h\nh ssh-ed25519\nh ssh-ed25519 !!!!\nh ssh-ed25519 AAAA\n"
		   "h ssh-ed25519 %s\n|1|short|x ssh-ed25519 %s\n|1|\n|1|| ssh-ed25519 %s\n"
		   "h ssh-ed25519 %s", b.base64, a.base64, a.base64, a.base64);
	kh = known_read();
	/* Its line had another type. */
	assert_int_equal(check(kh, "h", 22, &b), KNOWN_HOSTS_CHANGED);
	assert_int_equal(check(kh, "h", 22, &a), KNOWN_HOSTS_OK); /* no newline at the end */
	known_hosts_free(kh);
}

static void a_missing_file_is_empty_an_unreadable_one_an_error(void **state)
{
	const char *files[] = {"/nonexistent/known_hosts", NULL}, *bad[] = {dir, NULL};
	struct key a = key_make(ED, 1);
	struct err err = {0};
	struct known_hosts *kh = known_hosts_new(files, &err);

	(void)state;
	assert_non_null(kh);
	assert_int_equal(check(kh, "h", 22, &a), KNOWN_HOSTS_UNKNOWN);
	known_hosts_free(kh);
	assert_null(known_hosts_new(bad, &err));
	assert_int_equal(err.code, ERR_SYSTEM);
}

/* What `ssh-keygen -H` makes of "h" and "[h]:2222", with the bytes 0 to 19 as the salt. */
static void hashed_names_are_found(void **state)
{
	struct key a = key_make(ED, 1), b = key_make(ED, 2);
	struct known_hosts *kh;

	(void)state;
	file_write("|1|AAECAwQFBgcICQoLDA0ODxAREhM=|P52femGmyhHsNXzeKdYpm86Fs/c= ssh-ed25519 %s\n"
		   "|1|AAECAwQFBgcICQoLDA0ODxAREhM=|Avm5UpIGgve3xVXVINJ50c+pB5g= ssh-ed25519 %s\n",
		   a.base64, b.base64);
	kh = known_read();
	assert_int_equal(check(kh, "H", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "h", 22, &a), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "h", 22, &b), KNOWN_HOSTS_CHANGED);
	assert_int_equal(check(kh, "h", 2222, &b), KNOWN_HOSTS_OK);
	assert_int_equal(check(kh, "g", 22, &a), KNOWN_HOSTS_UNKNOWN);
	known_hosts_free(kh);
}

static void a_new_key_is_added_once_on_a_line_of_its_own(void **state)
{
	struct key a = key_make(ED, 1), b = key_make(ED, 2);
	char line[512] = "", want[512];
	struct known_hosts *kh;
	FILE *f;

	(void)state;
	file_write("x ssh-ed25519 %s", b.base64); /* no newline at its end */
	kh = known_read();
	assert_int_equal(known_hosts_add(kh, "H", 2222, a.bytes, a.len, NULL), KNOWN_HOSTS_OK);
	assert_int_equal(known_hosts_add(kh, "h", 2222, a.bytes, a.len, NULL), KNOWN_HOSTS_OK);
	assert_int_equal(known_hosts_add(kh, "h", 2222, b.bytes, b.len, NULL), KNOWN_HOSTS_CHANGED);
	assert_int_equal(check(kh, "h", 2222, &a), KNOWN_HOSTS_OK);
	known_hosts_free(kh);
	f = fopen(file, "r");
	assert_int_not_equal(fread(line, 1, sizeof(line) - 1, f), 0);
	fclose(f);
	snprintf(want, sizeof(want), "x ssh-ed25519 %s\n[h]:2222 ssh-ed25519 %s\n", b.base64,
		 a.base64);
	assert_string_equal(line, want);
	kh = known_read();
	assert_int_equal(check(kh, "h", 2222, &a), KNOWN_HOSTS_OK);
	known_hosts_free(kh);
}

static void adding_makes_the_file_and_its_directory(void **state)
{
	char path[160];
	const char *files[] = {path, NULL}, *never[] = {"/proc/nope/known_hosts", NULL};
	struct key a = key_make(ED, 1);
	struct err why = {0};
	struct stat st;
	struct known_hosts *kh;

	(void)state;
	snprintf(path, sizeof(path), "%s/new/known_hosts", dir);
	kh = known_hosts_new(files, NULL);
	assert_int_equal(known_hosts_add(kh, "h", 22, a.bytes, a.len, &why), KNOWN_HOSTS_OK);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	known_hosts_free(kh);
	kh = known_hosts_new(never, NULL);
	assert_int_equal(known_hosts_add(kh, "h", 22, a.bytes, a.len, &why), KNOWN_HOSTS_UNKNOWN);
	assert_non_null(strstr(why.message, "cannot be added"));
	known_hosts_free(kh);
}

struct adder {
	struct known_hosts *kh;
	struct key key;
};

static void *add_many(void *arg)
{
	struct adder *a = arg;
	char name[16];

	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "h%d", i);
		known_hosts_add(a->kh, name, 22, a->key.bytes, a->key.len, NULL);
	}
	return NULL;
}

static void two_threads_add_a_key_once(void **state)
{
	struct adder a = {NULL, key_make(ED, 1)};
	pthread_t threads[2];
	int lines = 0;
	FILE *f;

	(void)state;
	file_write("%s", "");
	a.kh = known_read();
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_many, &a), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	known_hosts_free(a.kh);
	f = fopen(file, "r");
	for (int c; (c = fgetc(f)) != EOF;)
		lines += c == '\n';
	fclose(f);
	assert_int_equal(lines, 50);
}

/* 5,000 hashed lines: what is kept costs next to nothing the second time. */
static void many_hashed_lines_stay_cheap(void **state)
{
	struct key a = key_make(ED, 1);
	struct known_hosts *kh;
	struct timespec from, to;
	FILE *f = fopen(file, "w");
	double ms;

	(void)state;
	for (int i = 0; i < 5000; i++)
		fprintf(f, "|1|AAECAwQFBgcICQoLDA0ODxA%c%c%cM=|"
			"AAECAwQFBgcICQoLDA0ODxAREhM= %s %s\n",
			'A' + i % 26, 'A' + i / 26 % 26, 'A' + i / 676, ED, a.base64);
	fclose(f);
	kh = known_read();
	assert_int_equal(check(kh, "h", 22, &a), KNOWN_HOSTS_UNKNOWN);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	for (int i = 0; i < 1000; i++)
		check(kh, "h", 22, &a);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
	assert_true(ms < 500); /* 1,000 walks over the list would take seconds */
	known_hosts_free(kh);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(plain_names_match_whatever_their_case),
		T(an_entry_without_port_is_for_port_22_only),
		T(wildcards_and_negation_are_understood),
		T(a_name_may_have_several_keys),
		T(a_mismatch_names_file_and_line),
		T(revoked_wins_over_a_plain_line),
		T(a_certificate_authority_is_no_host_key),
		T(damaged_lines_are_passed_over),
		T(a_missing_file_is_empty_an_unreadable_one_an_error),
		T(hashed_names_are_found),
		T(a_new_key_is_added_once_on_a_line_of_its_own),
		T(adding_makes_the_file_and_its_directory),
		T(two_threads_add_a_key_once),
		T(many_hashed_lines_stay_cheap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
