/* SPDX-License-Identifier: MIT */
/* Tests of runtime/fence.c: what is refused, and the reader. What the text does on a host is tested in
 * ../functional/test_fence.py. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "fence.h"
#include "ssh_quote.h"

#define OP "4d3c-2b1a.0.17.1"
#define HEAD(word) "exed " OP " " word "\n"

static void add(void *arg, const char *data, size_t n)
{
	assert_true(n > 0);
	buf_add(arg, data, n);
}

/* Feeds it in pieces of at most `piece` bytes, each in memory of its own. */
static enum fence_said read_in(const char *in, size_t n, size_t piece, struct buf *out)
{
	struct fence_reader r;
	struct err err = {0};
	enum fence_said said;

	fence_reader_init(&r, OP);
	for (size_t at = 0; at < n; at += piece) {
		size_t len = n - at < piece ? n - at : piece;
		char *data = malloc(len);

		memcpy(data, in + at, len);
		assert_int_equal(fence_reader_feed(&r, data, len, add, out, &err), 0);
		free(data);
	}
	said = fence_reader_end(&r, add, out);
	fence_reader_deinit(&r);
	return said;
}

/* The same in pieces of each size, and cut in two at each byte. */
static void reads(const char *in, size_t n, enum fence_said said, const char *want, size_t want_len)
{
	struct buf out = {0};

	for (size_t piece = 1; piece <= n; piece++) {
		assert_int_equal(read_in(in, n, piece, &out), said);
		assert_int_equal(out.len, want_len);
		if (want_len)
			assert_memory_equal(out.data, want, want_len);
		buf_clear(&out);
	}
	for (size_t cut = 1; cut < n; cut++) {
		struct fence_reader r;

		fence_reader_init(&r, OP);
		assert_int_equal(fence_reader_feed(&r, in, cut, add, &out, NULL), 0);
		assert_int_equal(fence_reader_feed(&r, in + cut, n - cut, add, &out, NULL), 0);
		assert_int_equal(fence_reader_end(&r, add, &out), said);
		assert_int_equal(out.len, want_len);
		if (want_len)
			assert_memory_equal(out.data, want, want_len);
		fence_reader_deinit(&r);
		buf_clear(&out);
	}
	buf_deinit(&out);
}

#define READS(in, said, want) reads(in, sizeof(in) - 1, said, want, sizeof(want) - 1)

static void new_output_comes_through_as_it_is(void **state)
{
	(void)state;
	READS(HEAD("new"), FENCE_NEW, "");
	READS(HEAD("new") "a\0b\n\nno newline", FENCE_NEW, "a\0b\n\nno newline");
	READS(HEAD("new") HEAD("end") HEAD("old"), FENCE_NEW, HEAD("end") HEAD("old"));
}

static void noise_before_the_header_is_cut_off(void **state)
{
	(void)state;
	READS("Welcome\n" HEAD("new") "x", FENCE_NEW, "x");
	READS("no newline" HEAD("new") "x", FENCE_NEW, "x");
	READS("exed exed exed " OP HEAD("new") "x", FENCE_NEW, "x");
	READS("exed " OP " newer\n" HEAD("new") "x", FENCE_NEW, "x");
	READS("exed " OP " " HEAD("new") "x", FENCE_NEW, "x");
	READS("exed " OP "1 old\n" HEAD("new") "x", FENCE_NEW, "x");
	READS("\0\0\n" HEAD("none"), FENCE_NO_PLACE, "");
}

static void an_old_op_ends_with_its_last_line(void **state)
{
	(void)state;
	READS(HEAD("old") HEAD("end"), FENCE_ENDED, "");
	READS(HEAD("old") "out\n" HEAD("end"), FENCE_ENDED, "out\n");
	READS(HEAD("old") "no newline" HEAD("died"), FENCE_DIED, "no newline");
	READS(HEAD("old") HEAD("alive"), FENCE_ALIVE, "");
	READS(HEAD("old") "exed exed " OP " en" HEAD("end"), FENCE_ENDED, "exed exed " OP " en");
	READS(HEAD("old") HEAD("died") "\0" HEAD("end") HEAD("end"), FENCE_ENDED,
	      HEAD("died") "\0" HEAD("end"));
}

static void an_old_op_without_its_last_line_was_cut(void **state)
{
	(void)state;
	READS(HEAD("old"), FENCE_CUT, "");
	READS(HEAD("old") "out", FENCE_CUT, "out");
	READS(HEAD("old") "out\nexed " OP " en", FENCE_CUT, "out\nexed " OP " en");
	READS(HEAD("old") HEAD("end") "x", FENCE_CUT, HEAD("end") "x");
}

static void what_never_ran_is_told(void **state)
{
	(void)state;
	READS(HEAD("no"), FENCE_NEVER, "");
	READS(HEAD("none"), FENCE_NO_PLACE, "");
	READS("sh: not found\n", FENCE_NOTHING, "");
	READS("exed " OP " ne", FENCE_NOTHING, "");
	assert_int_equal(read_in("", 0, 1, NULL), FENCE_NOTHING);
}

static void what_is_no_last_line_is_not_held_back(void **state)
{
	struct buf out = {0};
	struct fence_reader r;

	(void)state;
	fence_reader_init(&r, OP);
	fence_reader_feed(&r, HEAD("old") "line\n", sizeof(HEAD("old") "line\n") - 1, add, &out, NULL);
	assert_int_equal(out.len, 5);
	fence_reader_feed(&r, "exed other\n", 11, add, &out, NULL);
	assert_int_equal(out.len, 16);
	fence_reader_deinit(&r);
	buf_deinit(&out);
}

static void too_much_noise_is_an_error(void **state)
{
	char noise[1000];
	struct fence_reader r;
	struct err err = {0};
	size_t fed = 0;
	int rc = 0;

	(void)state;
	memset(noise, 'e', sizeof(noise));
	fence_reader_init(&r, OP);
	while (!rc && fed < 10 * FENCE_NOISE_MAX) {
		rc = fence_reader_feed(&r, noise, sizeof(noise), add, NULL, &err);
		fed += sizeof(noise);
		assert_true(r.held.len < 100);
	}
	assert_int_equal(rc, -ERR_LIMIT);
	assert_true(fed > FENCE_NOISE_MAX && fed < FENCE_NOISE_MAX + 3 * sizeof(noise));
	assert_int_equal(fence_reader_end(&r, add, NULL), FENCE_NOTHING);
	fence_reader_deinit(&r);
}

static int wrap(const char *op_id, const char *dir)
{
	const struct fence_command c = {.op_id = op_id, .dir = dir, .command = "true"};
	struct buf b = {0};
	struct err err = {0};
	int rc = fence_wrap(&b, &c, &err);

	assert_int_equal(err.code, -rc);
	buf_deinit(&b);
	rc = fence_forbid(&b, op_id, dir, NULL, &err);
	assert_int_equal(err.code, -rc);
	buf_deinit(&b);
	return rc;
}

static void op_ids_and_directories_are_checked(void **state)
{
	static const char *const bad_ids[] = {"", ".", "..", ".a", "-a", "a/b", "a b", "a;b", "a'b", "a\nb",
					      "\xc3\xa9", "a*"};
	static const char *const bad_dirs[] = {"x", "./x", "~user/x", "$HOMEx", "$OTHER/x", " /x"};
	static const char *const good_dirs[] = {NULL, "", "/x", "~", "~/x", "$HOME", "$HOME/it's"};
	char id[FENCE_OP_ID_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(bad_ids) / sizeof(*bad_ids); i++)
		assert_int_equal(wrap(bad_ids[i], NULL), -ERR_INVALID);
	for (size_t i = 0; i < sizeof(bad_dirs) / sizeof(*bad_dirs); i++)
		assert_int_equal(wrap(OP, bad_dirs[i]), -ERR_INVALID);
	for (size_t i = 0; i < sizeof(good_dirs) / sizeof(*good_dirs); i++)
		assert_int_equal(wrap(OP, good_dirs[i]), 0);
	memset(id, 'a', sizeof(id));
	id[FENCE_OP_ID_MAX + 1] = '\0';
	assert_int_equal(wrap(id, NULL), -ERR_INVALID);
	id[FENCE_OP_ID_MAX] = '\0';
	assert_int_equal(wrap(id, NULL), 0);
}

static void the_command_is_one_word_of_the_text(void **state)
{
	const struct fence_command c = {.op_id = OP, .command = "echo 'a'\nb"};
	struct buf b = {0}, line = {0}, head = {0};

	(void)state;
	assert_int_equal(fence_wrap(&b, &c, NULL), 0);
	assert_non_null(strstr(buf_str(&b), "x_c='echo '\"'\"'a'\"'\"'\nb';"));
	assert_int_equal(ssh_quote_command(&line, &head, buf_str(&b), OP, NULL, NULL, NULL), 0);
	assert_ptr_equal(strchr(buf_str(&head), '\n'), head.data + head.len - 1);
	buf_deinit(&b);
	buf_deinit(&line);
	buf_deinit(&head);
}

static void every_failure_says_why(void **state)
{
	(void)state;
	for (enum fence_said said = FENCE_NOTHING; said <= FENCE_NO_PLACE; said++)
		assert_true(!fence_said_why(said) == (said == FENCE_NEW || said == FENCE_ENDED));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(new_output_comes_through_as_it_is),
		cmocka_unit_test(noise_before_the_header_is_cut_off),
		cmocka_unit_test(an_old_op_ends_with_its_last_line),
		cmocka_unit_test(an_old_op_without_its_last_line_was_cut),
		cmocka_unit_test(what_never_ran_is_told),
		cmocka_unit_test(what_is_no_last_line_is_not_held_back),
		cmocka_unit_test(too_much_noise_is_an_error),
		cmocka_unit_test(op_ids_and_directories_are_checked),
		cmocka_unit_test(the_command_is_one_word_of_the_text),
		cmocka_unit_test(every_failure_says_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
