/* SPDX-License-Identifier: MIT */
/* seal: what was sealed is opened with the same key and context only, and unchanged only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "seal.h"

static const unsigned char KEY[SEAL_KEY] = "0123456789abcdef0123456789abcde";
static const unsigned char OTHER[SEAL_KEY] = "0123456789abcdef0123456789abcdf";

static struct buf seal_text(const char *text)
{
	struct buf b = { 0 };
	struct err err;

	assert_int_equal(seal_close(&b, KEY, "job", text, strlen(text), &err), 0);
	assert_int_equal(b.len, strlen(text) + 28);
	return b;
}

static int open_with(const struct buf *b, const unsigned char *key, const char *context, struct buf *out)
{
	struct err err;

	return seal_open(out, key, context, b->data, b->len, &err);
}

static void test_what_is_sealed_is_opened(void **state)
{
	const char *const texts[] = { "", "x", "hunter2 and more", "\xff\x01 bytes" };
	(void)state;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct buf b = seal_text(texts[i]), out = { 0 };

		assert_int_equal(open_with(&b, KEY, "job", &out), 0);
		assert_string_equal(buf_str(&out), texts[i]);
		buf_deinit(&b);
		buf_deinit(&out);
	}
}

static void test_the_text_is_not_in_it_and_no_two_are_alike(void **state)
{
	struct buf one = seal_text("hunter2 hunter2"), two = seal_text("hunter2 hunter2");
	(void)state;

	assert_null(memmem(one.data, one.len, "hunter2", 7));
	assert_memory_not_equal(one.data, two.data, one.len);
	buf_deinit(&one);
	buf_deinit(&two);
}

static void test_another_key_context_or_byte_is_refused(void **state)
{
	struct buf b = seal_text("hunter2"), out = { 0 };
	(void)state;

	assert_true(open_with(&b, OTHER, "job", &out) < 0);
	assert_true(open_with(&b, KEY, "jib", &out) < 0);
	for (size_t i = 0; i < b.len; i++) {
		b.data[i] ^= 1;
		assert_true(open_with(&b, KEY, "job", &out) < 0);
		b.data[i] ^= 1;
	}
	for (size_t n = b.len; n-- > 0;) {
		b.len = n;
		assert_true(open_with(&b, KEY, "job", &out) < 0);
	}
	assert_int_equal(out.len, 0);
	buf_deinit(&b);
	buf_deinit(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_sealed_is_opened),
		cmocka_unit_test(test_the_text_is_not_in_it_and_no_two_are_alike),
		cmocka_unit_test(test_another_key_context_or_byte_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
