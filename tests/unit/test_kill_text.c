/* SPDX-License-Identifier: MIT */
/* Tests of runtime/kill_text.c: the script is run by real shells beside processes that do not want to be
 * found. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kill_text.h"
#include "loop.h"
#include "support.h"

#define LATE_MS 10000 /* a busy machine may start the script so much later */

static const char *const shells[][3] = {
	{ "dash", NULL }, { "bash", "--posix", NULL }, { "busybox", "sh", NULL },
};

/* Starts `command` as sshd would: in a session of its own, with its output in a pipe. */
static pid_t start(const char *op, const char *command, int *out)
{
	char mark[128];
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (!pid) {
		setsid();
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		close(ends[0]);
		close(ends[1]);
		snprintf(mark, sizeof(mark), "EXED_OP=%s", op);
		putenv(mark);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(ends[1]);
	*out = ends[0];
	return pid;
}

static struct kill_answer run_text(const char *const shell[], const struct kill_text *k)
{
	struct buf text = { 0 }, said = { 0 };
	struct kill_answer answer;
	int in[2], out[2];
	char data[512];
	ssize_t n;
	pid_t pid;

	kill_text_put(&text, k);
	assert_non_null(buf_str(&text));
	assert_ptr_equal(strchr(text.data, '\n'), text.data + text.len - 1);
	assert_true(pipe(in) == 0 && pipe(out) == 0);
	pid = fork();
	if (!pid) {
		const char *argv[6] = { 0 };
		int at = 0;

		setsid();
		while (shell[at]) {
			argv[at] = shell[at];
			at++;
		}
		argv[at++] = "-c";
		argv[at] = "IFS= read -r s && eval \"$s\"";
		dup2(in[0], 0);
		dup2(out[1], 1);
		for (int i = 0; i < 2; i++) {
			close(in[i]);
			close(out[i]);
		}
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	assert_int_equal(write(in[1], text.data, text.len), text.len);
	close(in[1]);
	while ((n = read(out[0], data, sizeof(data))) > 0)
		buf_add(&said, data, (size_t)n);
	close(out[0]);
	waitpid(pid, NULL, 0);
	answer = kill_text_read(&said);
	buf_deinit(&text);
	buf_deinit(&said);
	return answer;
}

/* A line of the command's: a pid. */
static pid_t read_pid(int fd)
{
	char line[32];
	size_t n = 0;

	while (n + 1 < sizeof(line) && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	assert_true(n > 0);
	return (pid_t)atol(line);
}

static bool lives(pid_t pid)
{
	char path[32], text[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	return text[0] && !strstr(text, ") Z ");
}

/* The command prints the pid of what it leaves behind. */
static void expect(const char *command, bool found, bool possible)
{
	for (size_t i = 0; i < sizeof(shells) / sizeof(*shells); i++) {
		char op[64];
		struct kill_text k = { .op_id = op, .look = true };
		struct kill_answer a;
		int64_t start_ms = loop_now_ms();
		pid_t pid, left;
		int out;

		snprintf(op, sizeof(op), "kill-text-%d.%zu.0.1", (int)getpid(), i);
		pid = start(op, command, &out);
		left = read_pid(out);
		k.age_ms = loop_now_ms() - start_ms + LATE_MS;
		a = run_text(shells[i], &k);
		assert_true(!found || a.left > 0);
		assert_true(possible ? a.possible > 0 : a.possible >= 0);
		assert_true(lives(left));
		k.look = false;
		k.age_ms = loop_now_ms() - start_ms + LATE_MS;
		a = run_text(shells[i], &k);
		assert_int_equal(a.left, 0);
		assert_true(possible ? a.possible > 0 : a.possible >= 0);
		assert_int_equal(lives(left), !found);
		kill(left, SIGKILL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(out);
	}
}

static void what_carries_the_op_id_is_found_and_killed(void **state)
{
	(void)state;
	expect("echo $$; exec sleep 1000", true, false);
	expect("setsid sleep 1000 & echo $!; exit", true, false);
}

static void what_descends_from_it_is_found_without_an_environment(void **state)
{
	(void)state;
	expect("env -i sleep 1000 & echo $!; wait", true, false);
	expect("env -i setsid sleep 1000 & echo $!; wait", true, false);
}

static void an_orphan_without_an_environment_is_found_by_the_output_that_it_holds(void **state)
{
	(void)state;
	/* The shell still runs, so the output is known. */
	expect("(env -i setsid sh -c 'echo $$; exec sleep 1000' &); sleep .2; sleep 1000", true, false);
}

static void one_that_closed_it_too_may_be_its(void **state)
{
	(void)state;
	expect("(env -i setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1' &); sleep .2; exec sleep 1",
	       false, true);
}

static void an_orphan_that_holds_a_file_of_the_fence_is_found(void **state)
{
	char op[64], command[512], dir[64];

	(void)state;
	assert_true(support_make_dir(dir, sizeof(dir)));
	for (size_t i = 0; i < sizeof(shells) / sizeof(*shells); i++) {
		struct kill_text k = { .op_id = op, .age_ms = -1 };
		struct kill_answer a;
		pid_t pid, left;
		int out;

		snprintf(op, sizeof(op), "kill-text-%d.%zu.1.1", (int)getpid(), i);
		snprintf(command, sizeof(command),
			 "mkdir %s/%s; (env -i setsid sh -c 'echo $$; exec sleep 1000 >%s/%s/o 2>&1' &); "
			 "sleep .2", dir, op, dir, op);
		pid = start(op, command, &out);
		left = read_pid(out);
		waitpid(pid, NULL, 0);
		a = run_text(shells[i], &k);
		assert_int_equal(a.left, 0);
		assert_int_equal(a.possible, -1);
		assert_false(lives(left));
		close(out);
		snprintf(command, sizeof(command), "rm -r %s/%s", dir, op);
		assert_int_equal(system(command), 0);
	}
	rmdir(dir);
}

static void nothing_of_another_op_is_touched(void **state)
{
	struct kill_text k = { .op_id = "kill-text-nobody.0.0.1", .age_ms = 1000, .alone = true };
	int out;
	pid_t pid = start("kill-text-other.0.0.1", "echo $$; sleep 1000 & sleep 1000", &out);
	pid_t left = read_pid(out);

	(void)state;
	for (size_t i = 0; i < sizeof(shells) / sizeof(*shells); i++) {
		assert_int_equal(run_text(shells[i], &k).left, 0);
		assert_true(lives(left));
	}
	k.op_id = "kill-text-other.0.0.1";
	assert_int_equal(run_text(shells[0], &k).left, 0);
	assert_false(lives(left));
	waitpid(pid, NULL, 0);
	close(out);
}

static void an_answer_is_read_past_what_a_profile_says(void **state)
{
	static const struct { const char *said; int left, possible; } cases[] = {
		{ "exed-kill 7 0 2\n", 0, 2 },	 { "Welcome\nexed-kill 7 1 -1\n", 1, -1 },
		{ "exed-kill 7 3\n", 3, -1 },	 { "", -1, -1 },
		{ "exed-kill \n", -1, -1 },	 { "exed-kill x 0 0\n", -1, -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf said = { 0 };
		struct kill_answer a;

		buf_puts(&said, cases[i].said);
		a = kill_text_read(&said);
		assert_int_equal(a.left, cases[i].left);
		assert_int_equal(a.possible, cases[i].possible);
		buf_deinit(&said);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_carries_the_op_id_is_found_and_killed),
		cmocka_unit_test(what_descends_from_it_is_found_without_an_environment),
		cmocka_unit_test(an_orphan_without_an_environment_is_found_by_the_output_that_it_holds),
		cmocka_unit_test(one_that_closed_it_too_may_be_its),
		cmocka_unit_test(an_orphan_that_holds_a_file_of_the_fence_is_found),
		cmocka_unit_test(nothing_of_another_op_is_touched),
		cmocka_unit_test(an_answer_is_read_past_what_a_profile_says),
	};

	return cmocka_run_group_tests_name("kill_text", tests, NULL, NULL);
}
