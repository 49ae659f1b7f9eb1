/* SPDX-License-Identifier: MIT */
/* Tests of runtime/buf.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "err.h"

#define BAD "\xef\xbf\xbd" /* U+FFFD */

static void bytes_are_added_and_dropped(void **state)
{
	struct buf b = { 0 };

	(void)state;
	assert_string_equal(buf_str(&b), "");
	buf_puts(&b, "abc");
	buf_putc(&b, '-');
	buf_add(&b, "d\0e", 3);
	buf_printf(&b, "%s%04d", "x", 42);
	assert_int_equal(b.len, 12);
	assert_memory_equal(b.data, "abc-d\0ex0042", 12);
	buf_drop(&b, 4);
	assert_memory_equal(b.data, "d\0ex0042", 8);
	assert_int_equal(b.len, 8);
	buf_drop(&b, 0);
	assert_int_equal(b.len, 8);
	buf_drop(&b, 100);
	assert_int_equal(b.len, 0);
	buf_deinit(&b);
	assert_null(b.data);
	buf_puts(&b, "again");
	assert_string_equal(buf_str(&b), "again");
	buf_deinit(&b);
}

static void it_grows_as_needed(void **state)
{
	struct buf b = { 0 };
	size_t n = 100000;

	(void)state;
	for (size_t i = 0; i < n; i++)
		buf_printf(&b, "%zu,", i);
	assert_false(b.failed);
	assert_memory_equal(b.data, "0,1,2,3,", 8);
	assert_memory_equal(b.data + b.len - 6, "99999,", 6);
	assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4 + 9000 * 5 + 90000 * 6);
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_true(b.cap > 0);
	buf_deinit(&b);
}

static void a_failure_lasts_until_it_is_cleared(void **state)
{
	struct buf b = { 0 };

	(void)state;
	buf_puts(&b, "x");
	assert_int_equal(buf_reserve(&b, SIZE_MAX - 1), -ERR_MEMORY);
	assert_true(b.failed);
	buf_puts(&b, "y");
	assert_int_equal(b.len, 1);
	assert_null(buf_str(&b));
	buf_clear(&b);
	buf_puts(&b, "z");
	assert_string_equal(buf_str(&b), "z");
	buf_deinit(&b);
}

static void bytes_are_handed_over(void **state)
{
	struct buf b = { 0 };
	size_t n = 99;
	char *data;

	(void)state;
	buf_puts(&b, "text");
	data = buf_take(&b, &n);
	assert_string_equal(data, "text");
	assert_int_equal(n, 4);
	free(data);
	assert_int_equal(b.len, 0);
	assert_null(b.data);
	data = buf_take(&b, &n);
	assert_string_equal(data, "");
	assert_int_equal(n, 0);
	free(data);
	b.failed = true;
	assert_null(buf_take(&b, &n));
	assert_false(b.failed);
}

static void json(const char *in, size_t n, const char *want, bool whole)
{
	struct buf b = { 0 };

	assert_int_equal(buf_json_text(&b, in, n), whole);
	assert_string_equal(buf_str(&b), want);
	buf_deinit(&b);
}

static void json_text_is_escaped(void **state)
{
	struct buf b = { 0 };

	(void)state;
	json("", 0, "", true);
	json("plain", 5, "plain", true);
	json("a\"b\\c/", 6, "a\\\"b\\\\c/", true);
	json("\n\r\t\b\f\0\x1f", 7, "\\n\\r\\t\\u0008\\u000c\\u0000\\u001f", true);
	json("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
	     true);
	assert_true(buf_json_string(&b, "a\"", 2));
	assert_string_equal(buf_str(&b), "\"a\\\"\"");
	buf_deinit(&b);
}

/* Unicode, 3.9, tables 3-8 to 3-10: one U+FFFD for each maximal subpart. */
static void what_is_no_utf8_is_replaced(void **state)
{
	(void)state;
	json("\xff", 1, BAD, false);
	json("a\x80z", 3, "a" BAD "z", false);
	json("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", 9, BAD BAD BAD BAD BAD BAD BAD BAD "A", false);
	json("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", 9, BAD BAD BAD BAD BAD BAD BAD BAD "A", false);
	json("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", 9, BAD BAD BAD BAD BAD "A" BAD BAD "B", false);
	json("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", 9, BAD BAD BAD BAD "A", false);
	/* Cut short at the end of the bytes. */
	json("\xf0\x9f\x98", 3, BAD, false);
	json("\xe2\x82", 2, BAD, false);
	json("\xc3", 1, BAD, false);
}

/* Whatever the bytes are, a strict reader takes the text, and well-formed bytes come back. */
static void any_bytes_make_a_json_string(void **state)
{
	unsigned char bytes[24];
	unsigned seed = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct buf b = { 0 };
		size_t n = (size_t)(round % 24);
		bool whole;
		json_t *v;

		for (size_t i = 0; i < n; i++) {
			seed = seed * 1103515245 + 12345;
			/* Every other byte is one that begins or goes on with a sequence. */
			bytes[i] = (unsigned char)(seed >> 16 | (seed >> 30 & 1) << 7);
		}
		whole = buf_json_string(&b, bytes, n);
		v = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		assert_non_null(v);
		if (whole) {
			assert_int_equal(json_string_length(v), n);
			assert_memory_equal(json_string_value(v), bytes, n);
		}
		json_decref(v);
		buf_deinit(&b);
	}
}

static void check_escape(const char *bytes, size_t n, const char *want)
{
	struct buf b = { 0 };

	buf_escape(&b, bytes, n);
	assert_string_equal(buf_str(&b) ? buf_str(&b) : "", want);
	buf_deinit(&b);
}

static void a_terminal_gets_no_control_characters(void **state)
{
	(void)state;
	check_escape("plain\ttext\n", 11, "plain\ttext\n");
	check_escape("\x1b[31mred\x07", 9, "\\x1b[31mred\\x07");
	check_escape("a\0b\x7f", 4, "a\\x00b\\x7f");
	check_escape("line\r\nbar\rfoo", 13, "line\nbar\\x0dfoo");
	check_escape("end\r", 4, "end\\x0d");
	check_escape("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 11, "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	check_escape("\xc2\x9b" "31m", 5, "\\u{9b}31m");                 /* CSI as one character */
	check_escape("a\xe2\x80\xae" "b", 5, "a\\u{202e}b");             /* right to left override */
	check_escape("\xff\xc3", 2, "\\xff\\xc3");
	check_escape("\xc0\x9b", 2, "\\xc0\\x9b");                      /* overlong */
	check_escape("", 0, "");
}

/* Whatever comes in: printable ASCII, newline, tab and whole UTF-8 come out. */
static void any_bytes_are_escaped_to_text(void **state)
{
	unsigned char bytes[64];

	(void)state;
	srand(11);
	for (int round = 0; round < 20000; round++) {
		struct buf b = { 0 };

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (unsigned char)rand();
		buf_escape(&b, bytes, sizeof(bytes));
		assert_true(buf_is_utf8(b.data, b.len));
		for (size_t i = 0; i < b.len; i++) {
			unsigned char c = (unsigned char)b.data[i];

			assert_true(c >= 0x20 || c == '\n' || c == '\t');
			assert_true(c != 0x7f);
			assert_false(c == 0xc2 && (unsigned char)b.data[i + 1] < 0xa0);
		}
		buf_deinit(&b);
	}
}

/* RFC 4648, 10. */
static void base64_is_that_of_the_rfc(void **state)
{
	static const char *const want[] = { "",		"Zg==",	    "Zm8=",    "Zm9v",
					    "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
	static const unsigned char high[] = { 0xfb, 0xff, 0xfe };
	struct buf b = { 0 };

	(void)state;
	for (size_t n = 0; n < 7; n++) {
		buf_base64(&b, "foobar", n);
		assert_string_equal(buf_str(&b), want[n]);
		buf_clear(&b);
	}
	buf_base64(&b, high, 3);
	assert_string_equal(buf_str(&b), "+//+");
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_added_and_dropped),
		cmocka_unit_test(it_grows_as_needed),
		cmocka_unit_test(a_failure_lasts_until_it_is_cleared),
		cmocka_unit_test(bytes_are_handed_over),
		cmocka_unit_test(json_text_is_escaped),
		cmocka_unit_test(what_is_no_utf8_is_replaced),
		cmocka_unit_test(any_bytes_make_a_json_string),
		cmocka_unit_test(a_terminal_gets_no_control_characters),
		cmocka_unit_test(any_bytes_are_escaped_to_text),
		cmocka_unit_test(base64_is_that_of_the_rfc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
