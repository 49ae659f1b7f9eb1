/* SPDX-License-Identifier: MIT */
/* mask: what is hidden is hidden wherever the bytes are cut, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "mask.h"

static struct mask *make(const char *const *words)
{
	struct mask_text texts[8];
	size_t n = 0;

	for (; words[n]; n++)
		texts[n] = (struct mask_text){ words[n], strlen(words[n]) };
	return mask_new(texts, n);
}

/* `in` in pieces of `step` bytes. */
static void check(const char *const *words, const char *in, size_t step, const char *want)
{
	struct mask *m = make(words);
	struct buf held = { 0 }, out = { 0 };
	size_t n = strlen(in);

	assert_non_null(m);
	for (size_t at = 0; at < n; at += step)
		mask_stream(m, &held, in + at, n - at < step ? n - at : step, false, &out);
	mask_stream(m, &held, "", 0, true, &out);
	assert_string_equal(buf_str(&out), want);
	assert_int_equal(held.len, 0);
	buf_deinit(&held);
	buf_deinit(&out);
	mask_free(m);
}

static void each_cut(const char *const *words, const char *in, const char *want)
{
	for (size_t step = 1; step <= strlen(in) + 1; step++)
		check(words, in, step, want);
}

static void test_a_text_is_hidden_wherever_it_is_cut(void **state)
{
	(void)state;
	each_cut((const char *const[]){ "hunter2", NULL }, "a hunter2 b hunter2hunter2", "a *** b ******");
}

static void test_a_beginning_alone_is_shown(void **state)
{
	(void)state;
	each_cut((const char *const[]){ "hunter2", NULL }, "hunter hunhunter2 hunter", "hunter hun*** hunter");
}

static void test_the_longest_text_wins(void **state)
{
	(void)state;
	each_cut((const char *const[]){ "abc", "abcdef", NULL }, "abcde abcdef", "***de ***");
}

/* More might have come of the longer one; it has not. */
static void test_a_text_at_the_end_is_hidden_though_a_longer_one_begins_with_it(void **state)
{
	const char *const words[] = { "abc", "abcdef", "abcdefghi", NULL };

	(void)state;
	each_cut(words, "x abc", "x ***");
	each_cut(words, "abcde", "***de");
	each_cut(words, "abcdefgh", "***gh");
	each_cut(words, "abcab", "***ab");
}

static void test_texts_that_repeat_themselves(void **state)
{
	(void)state;
	each_cut((const char *const[]){ "aab", NULL }, "aaab aab", "a*** ***");
}

static void test_an_empty_text_hides_nothing(void **state)
{
	(void)state;
	each_cut((const char *const[]){ "", "x", NULL }, "axb", "a***b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_text_is_hidden_wherever_it_is_cut),
		cmocka_unit_test(test_a_beginning_alone_is_shown),
		cmocka_unit_test(test_the_longest_text_wins),
		cmocka_unit_test(test_a_text_at_the_end_is_hidden_though_a_longer_one_begins_with_it),
		cmocka_unit_test(test_texts_that_repeat_themselves),
		cmocka_unit_test(test_an_empty_text_hides_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
