/* SPDX-License-Identifier: MIT */
/* Tests of runtime/err.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "err.h"

static void a_failure_is_code_and_message(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(err_set(&e, ERR_REFUSED, "%s said %d", "host", 7), -ERR_REFUSED);
	assert_int_equal(e.code, ERR_REFUSED);
	assert_string_equal(e.message, "host said 7");
}

static void nobody_need_listen(void **state)
{
	(void)state;
	errno = ENOENT;
	assert_int_equal(err_set(NULL, ERR_LIMIT, "x"), -ERR_LIMIT);
	assert_int_equal(err_errno(NULL, "x"), -ERR_SYSTEM);
}

static void long_messages_are_cut_and_ended(void **state)
{
	char text[600];
	struct err e;

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&e, ERR_INVALID, "%s", text);
	assert_int_equal(strlen(e.message), sizeof(e.message) - 1);
	errno = EACCES;
	err_errno(&e, "%s", text);
	assert_int_equal(strlen(e.message), sizeof(e.message) - 1);
}

static void errno_is_told(void **state)
{
	struct err e;

	(void)state;
	errno = ENOENT;
	assert_int_equal(err_errno(&e, "cannot open %s", "f"), -ERR_SYSTEM);
	assert_int_equal(e.code, ERR_SYSTEM);
	assert_string_equal(e.message, "cannot open f: No such file or directory");
}

static void every_code_has_its_own_name(void **state)
{
	(void)state;
	for (int a = ERR_OK; a <= ERR_AWAY; a++) {
		assert_non_null(err_name(a));
		assert_string_not_equal(err_name(a), "unknown");
		assert_string_equal(err_name(a), err_name(-a));
		for (int b = ERR_OK; b < a; b++)
			assert_string_not_equal(err_name(a), err_name(b));
	}
	assert_string_equal(err_name(ERR_TIMEOUT), "timeout");
	assert_string_equal(err_name(ERR_NOT_FOUND), "not_found");
	assert_string_equal(err_name(ERR_AWAY + 1), "unknown");
	assert_string_equal(err_name(100000), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failure_is_code_and_message),
		cmocka_unit_test(nobody_need_listen),
		cmocka_unit_test(long_messages_are_cut_and_ended),
		cmocka_unit_test(errno_is_told),
		cmocka_unit_test(every_code_has_its_own_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
