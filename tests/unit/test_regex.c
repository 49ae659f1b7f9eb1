/* SPDX-License-Identifier: MIT */
/* Tests of runtime/regex.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "regex.h"

static int try(const char *text, const char *s)
{
	struct err err = {0};
	struct regex *r = regex_new(text, strlen(text), &err);
	int rc;

	if (!r)
		fail_msg("%s: %s", text, err.message);
	rc = regex_match(r, s, strlen(s), &err);
	regex_free(r);
	return rc;
}

static void names_match_from_their_start(void **state)
{
	(void)state;
	assert_int_equal(try("(web|db)\\d+", "web01"), 1);
	assert_int_equal(try("(web|db)\\d+", "db7.example.com"), 1);
	assert_int_equal(try("(web|db)\\d+$", "db7.example.com"), 0);
	assert_int_equal(try("eb", "web"), 0);
	assert_int_equal(try(".*eb", "web"), 1);
	assert_int_equal(try("(?i)WEB(?!02)", "web01"), 1);
	assert_int_equal(try("", "x"), 1);
}

static void wrong_ones_are_refused_with_the_place(void **state)
{
	static const char *const wrong[] = {"(", "a(b", "[a", "*", "a{2}{3}(", "(?<n", "\\C", "(*UTF)a",
					    "(?P<a>x)(?P<a>y)"};
	char many[200], longer[REGEX_MAX + 2];
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_null(regex_new(wrong[i], strlen(wrong[i]), &err));
		assert_int_equal(err.code, ERR_INVALID);
		assert_non_null(strstr(err.message, "(at byte "));
	}
	memset(many, '(', 60);
	memset(many + 60, ')', 60);
	assert_null(regex_new(many, 120, &err));
	memset(longer, 'a', sizeof(longer));
	assert_null(regex_new(longer, REGEX_MAX + 1, &err));
	assert_int_equal(err.code, ERR_LIMIT);
}

/* Python, and PCRE2 without limits, take exponential time for these. */
static void costly_ones_are_stopped(void **state)
{
	static const char *const costly[] = {"(a+)+$", "(a|a)*[bc]", "((a*)*)*[bc]", "(.*a){12}[bc]",
					     "(*LIMIT_MATCH=4000000000)(a+)+$"};
	char name[64];

	(void)state;
	memset(name, 'a', 50);
	strcpy(name + 50, "!");
	for (size_t i = 0; i < sizeof(costly) / sizeof(*costly); i++)
		assert_int_equal(try(costly[i], name), -ERR_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_match_from_their_start),
		cmocka_unit_test(wrong_ones_are_refused_with_the_place),
		cmocka_unit_test(costly_ones_are_stopped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
