/* SPDX-License-Identifier: MIT */
/* Tests of runtime/content.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content.h"
#include "support.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC_SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static struct loop *loop;
static struct pool *pool;
static char dir[64];
static int fds;

struct opened { int done; struct content *content; struct err err; };

static int setup(void **state)
{
	(void)state;
	if (!support_make_dir(dir, sizeof(dir)))
		return -1;
	fds = support_count_fds();
	loop = loop_new(NULL);
	pool = loop ? pool_new(loop, 1, NULL) : NULL;
	return pool ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	pool_free(pool);
	loop_free(loop);
	rmdir(dir);
	return support_count_fds() != fds;
}

static void on_opened(void *arg, struct content *c, const struct err *err)
{
	struct opened *o = arg;

	o->content = c;
	o->err = *err;
	o->done++;
}

static struct opened open_now(const char *path, uint64_t max)
{
	struct opened o = { 0 };

	assert_non_null(content_open(pool_io(pool, 0), path, max, on_opened, &o));
	assert_true(support_turn_to(loop, &o.done, 1));
	return o;
}

static char *put_file(char *path, size_t cap, const char *name, const void *bytes, size_t n)
{
	FILE *f;

	snprintf(path, cap, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
	return path;
}

static void text_is_read_at_any_offset(void **state)
{
	struct content *c = content_text("abc", 3, NULL);
	char to[8] = "";

	(void)state;
	assert_non_null(c);
	assert_int_equal(content_size(c), 3);
	assert_string_equal(content_sha256(c), ABC_SHA256);
	assert_int_equal(content_read(c, 1, to, sizeof(to)), 2);
	assert_memory_equal(to, "bc", 2);
	assert_int_equal(content_read(c, 3, to, sizeof(to)), 0);
	assert_int_equal(content_read(c, UINT64_MAX, to, sizeof(to)), 0);
	content_unref(content_ref(c));
	content_unref(c);
	c = content_text("", 0, NULL);
	assert_string_equal(content_sha256(c), EMPTY_SHA256);
	assert_int_equal(content_read(c, 0, to, sizeof(to)), 0);
	content_unref(c);
}

static void a_descriptor_has_a_place_of_its_own(void **state)
{
	struct content *c = content_text("abc", 3, NULL);
	char to[4];
	int one = content_descriptor(c), two = content_descriptor(c);

	(void)state;
	assert_int_equal(read(one, to, 3), 3);
	assert_int_equal(read(two, to, 3), 3);
	assert_int_equal(write(one, "x", 1), -1);
	close(one);
	close(two);
	content_unref(c);
}

static void a_file_is_hashed_in_turns(void **state)
{
	static char large[(5u << 20) / 2];
	char path[128], to[4];
	struct opened o;

	(void)state;
	memset(large, 'x', sizeof(large));
	o = open_now(put_file(path, sizeof(path), "large", large, sizeof(large)), sizeof(large));
	assert_non_null(o.content);
	assert_int_equal(content_size(o.content), sizeof(large));
	unlink(path);
	assert_int_equal(content_read(o.content, sizeof(large) - 2, to, 4), 2);
	content_unref(o.content);
	o = open_now(put_file(path, sizeof(path), "abc", "abc", 3), 3);
	assert_string_equal(content_sha256(o.content), ABC_SHA256);
	/* What came after it was opened is not sent, and what is gone is not there. */
	put_file(path, sizeof(path), "abc", "abcdef", 6);
	assert_int_equal(content_read(o.content, 0, to, 4), 3);
	assert_int_equal(truncate(path, 1), 0);
	assert_int_equal(content_read(o.content, 0, to, 4), 1);
	content_unref(o.content);
	unlink(path);
}

static void what_cannot_be_sent_is_named(void **state)
{
	char path[128];
	struct opened o;

	(void)state;
	o = open_now("/nonexistent/x", 10);
	assert_null(o.content);
	assert_int_equal(o.err.code, ERR_NOT_FOUND);
	o = open_now(dir, 10);
	assert_int_equal(o.err.code, ERR_INVALID);
	o = open_now(put_file(path, sizeof(path), "four", "four", 4), 3);
	assert_int_equal(o.err.code, ERR_LIMIT);
	assert_non_null(strstr(o.err.message, "has 4 bytes, and at most 3"));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	o = open_now(path, 10); /* and nobody writes into it */
	assert_int_equal(o.err.code, ERR_INVALID);
	unlink(path);
}

static void nobody_hears_of_one_that_was_dropped(void **state)
{
	static char large[3u << 20];
	struct opened o = { 0 };
	struct content_open *open;
	char path[128];

	(void)state;
	put_file(path, sizeof(path), "large", large, sizeof(large));
	open = content_open(pool_io(pool, 0), path, sizeof(large), on_opened, &o);
	content_open_drop(open);
	support_turn(loop, 200);
	assert_int_equal(o.done, 0);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_read_at_any_offset),
		cmocka_unit_test(a_descriptor_has_a_place_of_its_own),
		cmocka_unit_test(a_file_is_hashed_in_turns),
		cmocka_unit_test(what_cannot_be_sent_is_named),
		cmocka_unit_test(nobody_hears_of_one_that_was_dropped),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
