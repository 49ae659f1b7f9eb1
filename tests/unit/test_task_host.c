/* SPDX-License-Identifier: MIT */
/* Tests of runtime/task_host.c with a script in place of the process: what it sent comes before its end is told,
 * however it ends. tests/lua/task_process_test.lua has the real one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"
#include "task_host.h"

#define LONG 100000 /* more than is read at one go, and less than the socket holds */

static struct {
	struct loop *loop;
	struct task_host *host;
	int frames, ended;
	size_t longest;
} t;

static void on_frame(void *arg, const char *text, size_t n)
{
	(void)arg;
	(void)text;
	assert_int_equal(t.ended, 0);
	t.frames++;
	if (n > t.longest)
		t.longest = n;
}

static void on_end(void *arg)
{
	(void)arg;
	t.ended++;
}

/* Starts the script with its socket as standard output. */
static void start(const char *script)
{
	struct task_host_options o = { .memory = 1 << 20, .on_frame = on_frame, .on_end = on_end };
	char path[] = "/tmp/exed-task-XXXXXX";
	int fd = mkstemp(path), program;
	struct err err = { 0 };

	assert_true(fd >= 0);
	assert_true(dprintf(fd, "#!/bin/sh\nexec 1>&0\n%s\n", script) > 0);
	fchmod(fd, 0700);
	close(fd);
	program = open(path, O_PATH | O_CLOEXEC);
	t.host = task_host_start(t.loop, program, &o, &err);
	close(program);
	if (!t.host)
		fail_msg("%s", err.message);
	unlink(path);
}

/* It has ended, and nothing of that has been looked at here. */
static void let_it_end(void)
{
	siginfo_t info;

	assert_int_equal(waitid(P_PID, (id_t)task_host_pid(t.host), &info, WEXITED | WNOWAIT), 0);
}

static int setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	memset(&t, 0, sizeof(t));
	t.loop = loop_new(NULL);
	return !t.loop;
}

static int teardown(void **state)
{
	(void)state;
	task_host_free(t.host);
	loop_free(t.loop);
	return 0;
}

#define SEND_LONG "printf '\\000\\001\\206\\240'; head -c 100000 /dev/zero; printf '\\000\\000\\000\\003end'"

static void all_frames_come_before_the_end(void **state)
{
	(void)state;
	start(SEND_LONG);
	let_it_end();
	assert_true(support_turn_to(t.loop, &t.ended, 1));
	assert_int_equal(t.frames, 2);
	assert_int_equal(t.longest, LONG);
	assert_int_equal(task_host_end(t.host)->code, 0);
}

static void frames_come_also_from_one_that_takes_no_more(void **state)
{
	struct err err;

	(void)state;
	start(SEND_LONG);
	let_it_end();
	assert_int_equal(task_host_send(t.host, "too late", 8, &err), 0);
	assert_true(support_turn_to(t.loop, &t.ended, 1));
	assert_int_equal(t.frames, 2);
	assert_int_equal(t.longest, LONG);
	assert_int_equal(task_host_send(t.host, "much too late", 13, &err), -ERR_CLOSED);
}

static void frames_come_also_behind_what_it_has_not_read(void **state)
{
	struct err err;

	(void)state;
	start("sleep 0.2; " SEND_LONG);
	assert_int_equal(task_host_send(t.host, "not read", 8, &err), 0);
	support_turn(t.loop, 50);
	let_it_end();
	assert_int_equal(task_host_send(t.host, "too late", 8, &err), 0);
	assert_true(support_turn_to(t.loop, &t.ended, 1));
	assert_int_equal(t.frames, 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(all_frames_come_before_the_end),
		T(frames_come_also_from_one_that_takes_no_more),
		T(frames_come_also_behind_what_it_has_not_read),
	};

	return cmocka_run_group_tests_name("task_host", tests, NULL, NULL);
}
