/* SPDX-License-Identifier: MIT */
/* Tests of each_case.c: a case that leaves something fails, and what it has left is named. The cases that do are run
 * by a fork, so that nothing of them is left here. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bind/bind.h"
#include "fiber.h"
#include "loop.h"
#include "runtime.h"
#include "script.h"
#include "support.h"

static const luaL_Reg modules[] = {
	{ "exed.timer", luaopen_exed_timer },
	{ NULL, NULL },
};

/* ---- cases that leave something ---- */

static void leaves_nothing(void **state)
{
	int fd = open("/dev/null", O_RDONLY);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
}

static void leaves_a_descriptor(void **state)
{
	(void)state;
	assert_true(open("/dev/null", O_RDONLY) >= 0);
}

static void leaves_a_child(void **state)
{
	(void)state;
	if (fork() == 0)
		_exit(0);
}

static struct script *open_script(struct runtime *rt)
{
	const struct script_limits none = { 0 };
	struct script *s;

	rt->loop = loop_new(NULL);
	rt->share = ".";
	s = script_new(rt, modules, &none, NULL);
	assert_non_null(s);
	return s;
}

static void start_fiber(struct script *s)
{
	lua_State *L = script_state(s);

	assert_int_equal(luaL_loadstring(L, "require('exed.timer').sleep(100)"), 0);
	assert_non_null(fiber_start(s, L, 0, "sleeper", NULL, NULL, NULL));
}

static void leaves_a_fiber(void **state)
{
	static struct runtime rt;

	(void)state;
	start_fiber(open_script(&rt));
}

static void leaves_a_wait(void **state)
{
	static struct runtime rt;

	(void)state;
	start_fiber(open_script(&rt));
	support_turn(rt.loop, 20);
}

static void ends_a_fiber_by_force(void **state)
{
	struct runtime rt = { 0 };
	struct script *s = open_script(&rt);

	(void)state;
	start_fiber(s);
	script_free(s);
	loop_free(rt.loop);
}

static void leaves_a_timer(void **state)
{
	static struct timer t;
	struct loop *loop = loop_new(NULL);

	(void)state;
	timer_init(&t, loop_base(loop), NULL, NULL);
	timer_set(&t, 100000);
	loop_free(loop);
}

/* ---- what is said of them ---- */

struct said { int failed; char text[8192], left[8192]; };

static void read_all(int fd, char *out, size_t cap)
{
	size_t have = 0;
	ssize_t n;

	while (have + 1 < cap && (n = read(fd, out + have, cap - 1 - have)) > 0)
		have += (size_t)n;
	out[have] = '\0';
	close(fd);
}

static void read_left(const char *path, char *out, size_t cap)
{
	int fd = open(path, O_RDONLY);

	*out = '\0';
	if (fd < 0)
		return;
	read_all(fd, out, cap);
	unlink(path);
}

/* Runs one case in a fork: how many failed, what was printed, and what the runtime told. */
static void run_case(const char *name, CMUnitTestFunction fn, struct said *said)
{
	const struct CMUnitTest tests[] = { { name, fn, NULL, NULL, NULL } };
	char path[] = "/tmp/each-case.XXXXXX";
	int out[2], status = -1, file = mkstemp(path);
	pid_t pid;

	assert_true(file >= 0);
	close(file);
	assert_int_equal(pipe(out), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		close(out[0]);
		close(out[1]);
		setenv("EXED_TEST_LEFT", path, 1);
		status = cmocka_run_group_tests_name("inner", tests, NULL, NULL);
		fflush(NULL);
		_exit(status);
	}
	close(out[1]);
	read_all(out[0], said->text, sizeof(said->text));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	said->failed = WEXITSTATUS(status);
	read_left(path, said->left, sizeof(said->left));
}

static void expect(const char *name, CMUnitTestFunction fn, int failed, const char *text, const char *left)
{
	struct said said;

	run_case(name, fn, &said);
	if (said.failed != failed || !strstr(said.text, text) || !strstr(said.left, left))
		fail_msg("%s: %d failed\n%s\n%s", name, said.failed, said.text, said.left);
	if (!*left)
		assert_string_equal(said.left, "");
}

static void what_a_case_leaves_fails_it(void **state)
{
	(void)state;
	expect("nothing", leaves_nothing, 0, "ok 1 - nothing", "");
	expect("descriptor", leaves_a_descriptor, 1, "open: /dev/null", "");
	expect("child", leaves_a_child, 1, "left: a child", "");
	expect("fiber", leaves_a_fiber, 1, "left: exed_fibers was 0 before and is 1", "");
	expect("wait", leaves_a_wait, 1, "left: exed_waits was 0 before and is 1", "");
}

static void what_is_ended_by_force_is_told(void **state)
{
	(void)state;
	expect("by force", ends_a_fiber_by_force, 0, "ok 1 - by force", "fiber left: \"sleeper\" (");
	expect("timer", leaves_a_timer, 0, "ok 1 - timer", "event left on the loop: timer\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_case_leaves_fails_it),
		cmocka_unit_test(what_is_ended_by_force_is_told),
	};

	return cmocka_run_group_tests_name("each_case", tests, NULL, NULL);
}
