/* SPDX-License-Identifier: MIT */
/* host_own: values become variables of the shell, each one word, whatever bytes they have and wherever the
 * command names them; with no shell to quote for, only what needs no quotes is put in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host_own.h"

static void expect(const char *const *values, const char *own, const char *command, bool raw,
		   const char *want)
{
	struct host_own from = { .values = (char **)values, .command = (char *)own, .limit_ms = -1 };
	struct host_own *o = host_own_copy(&from);
	struct buf out = { 0 };
	struct err err;

	assert_non_null(o);
	assert_int_equal(host_own_command(o, command, raw, &out, &err), 0);
	assert_string_equal(buf_str(&out), want);
	buf_deinit(&out);
	host_own_free(o);
}

static void values_are_quoted_variables(void **state)
{
	const char *const two[] = { "web01", "it's $(reboot)\n;`x`", NULL };

	(void)state;
	expect(two, NULL, "echo \"$x_h1\" \"$x_h2\"", false,
	       "x_h1=web01;x_h2='it'\\''s $(reboot)\n;`x`';echo \"$x_h1\" \"$x_h2\"");
	expect(NULL, NULL, "echo", false, "echo");
	expect(two, "true", "echo", false, "x_h1=web01;x_h2='it'\\''s $(reboot)\n;`x`';true");
}

/* What a real shell makes of it, also between quotes and in a here-document. */
static void a_shell_runs_nothing_of_a_value(void **state)
{
	static const char *const commands[] = {
		"printf %s \"$x_h1\"", "printf %s \"a\"\"$x_h1\"\"b\"", "cat <<END\n\"$x_h1\"\nEND",
		"printf %s '\"$x_h1\"'", "printf %s \"$(printf %s \"$x_h1\")\"",
	};
	const char *const values[] = { "$(echo RAN >&2)`echo RAN`';echo RAN;'\"\\", NULL };
	struct host_own from = { .values = (char **)values, .limit_ms = -1 };

	(void)state;
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		struct buf out = { 0 };
		char said[512] = "";
		struct err err;
		FILE *sh;

		assert_int_equal(host_own_command(&from, commands[i], false, &out, &err), 0);
		buf_puts(&out, "\n");
		assert_null(strstr(buf_str(&out), "x_h2"));
		assert_int_equal(setenv("EXED_TEST_TEXT", buf_str(&out), 1), 0);
		sh = popen("sh -c \"$EXED_TEST_TEXT\" 2>&1 | grep -cx RAN", "r");
		assert_non_null(sh);
		assert_non_null(fgets(said, sizeof(said), sh));
		pclose(sh);
		assert_string_equal(said, "0\n");
		buf_deinit(&out);
	}
}

static void raw_takes_plain_values_only(void **state)
{
	const char *const plain[] = { "eth0/1", "7", NULL }, *const bad[] = { "a b", NULL };
	struct host_own from = { .values = (char **)bad, .limit_ms = -1 };
	struct buf out = { 0 };
	struct err err;

	(void)state;
	expect(plain, NULL, "show \"$x_h1\" \"$x_h2\" \"$x_h1\"", true, "show eth0/1 7 eth0/1");
	assert_int_equal(host_own_command(&from, "show \"$x_h1\"", true, &out, &err), -ERR_INVALID);
	assert_non_null(strstr(err.message, "exed_shell = raw"));
	buf_deinit(&out);
}

static void a_copy_has_everything(void **state)
{
	char *env[] = { "A=1", "B=2", NULL };
	struct host_own from = { .env = env, .cwd = "/tmp", .input = "a\0b", .input_len = 3, .limit_ms = 5 };
	struct host_own *o = host_own_copy(&from);

	(void)state;
	assert_non_null(o);
	assert_string_equal(o->env[1], "B=2");
	assert_null(o->env[2]);
	assert_string_equal(o->cwd, "/tmp");
	assert_memory_equal(o->input, "a\0b", 3);
	assert_int_equal(o->input_len, 3);
	assert_int_equal(o->limit_ms, 5);
	assert_null(o->values);
	assert_null(o->command);
	host_own_free(o);
	host_own_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_quoted_variables),
		cmocka_unit_test(a_shell_runs_nothing_of_a_value),
		cmocka_unit_test(raw_takes_plain_values_only),
		cmocka_unit_test(a_copy_has_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
