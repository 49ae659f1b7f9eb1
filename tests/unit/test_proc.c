/* SPDX-License-Identifier: MIT */
/* Tests of runtime/proc*.c: real children of this process. Each case ends with none left. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buf.h"
#include "proc.h"

#define GUARD_MS 30000 /* a case that takes longer hangs */

static struct loop *loop;

/* What one child did. */
struct seen {
	struct proc *proc;
	struct buf out, errs;
	struct ssh_result result;
	int ends;
	size_t pause_at; /* pauses once so much came; 0: never */
	int cancel_at;	 /* cancels at the first output */
	bool refuse;
};

static unsigned running;

static void on_output(void *arg, enum ssh_stream stream, const char *data, size_t n)
{
	struct seen *s = arg;

	assert_true(stream == SSH_STDOUT || stream == SSH_STDERR);
	assert_true(n > 0);
	assert_int_equal(s->ends, 0);
	buf_add(stream == SSH_STDOUT ? &s->out : &s->errs, data, n);
	if (s->pause_at && s->out.len >= s->pause_at)
		proc_pause(s->proc, true);
	if (s->cancel_at) {
		s->cancel_at = 0;
		proc_cancel(s->proc);
	}
}

static void on_end(void *arg, const struct ssh_result *r)
{
	struct seen *s = arg;

	s->result = *r;
	s->ends++;
	s->proc = NULL;
	if (!--running)
		loop_stop(loop, 0);
}

static bool may_start(void *arg)
{
	return !((struct seen *)arg)->refuse;
}

static const struct ssh_exec_ops ops = { on_output, on_end, may_start, NULL, NULL };

static void hangs(void *arg)
{
	(void)arg;
	loop_stop(loop, 1);
}

/* Runs the loop until all that was started has ended. */
static void wait_all(void)
{
	struct timer guard;

	assert_int_equal(timer_init(&guard, loop_base(loop), hangs, NULL), 0);
	timer_set(&guard, GUARD_MS);
	if (running)
		assert_int_equal(loop_run(loop), 0);
	timer_deinit(&guard);
	assert_int_equal(running, 0);
}

static void start(struct seen *s, const char *const *argv, bool clean,
		  const struct ssh_command *cmd)
{
	struct err err = { 0 };

	if (argv)
		s->proc = proc_start_argv(loop, argv, clean, cmd, &ops, s, &err);
	else
		s->proc = proc_start(loop, cmd, &ops, s, &err);
	if (!s->proc)
		fail_msg("%s", err.message);
	assert_int_equal(s->ends, 0);
	running++;
}

static void run(struct seen *s, const struct ssh_command *cmd)
{
	start(s, NULL, false, cmd);
	wait_all();
	assert_int_equal(s->ends, 1);
}

static void run_text(struct seen *s, const char *text)
{
	run(s, &(struct ssh_command){ .command = text });
}

static void clear(struct seen *s)
{
	buf_deinit(&s->out);
	buf_deinit(&s->errs);
	memset(s, 0, sizeof(*s));
}

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static unsigned fds_before;

static int open_loop(void **state)
{
	struct err err;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	fds_before = count_fds();
	loop = loop_new(&err);
	return loop ? 0 : -1;
}

/* No child, no descriptor is left. */
static int close_loop(void **state)
{
	(void)state;
	assert_int_equal(proc_count(loop), 0);
	loop_free(loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

/* ---- running ---- */

static void output_and_exit_code_come_back(void **state)
{
	struct seen s = { 0 };

	(void)state;
	run_text(&s, "printf out; printf err >&2; exit 7");
	assert_string_equal(buf_str(&s.out), "out");
	assert_string_equal(buf_str(&s.errs), "err");
	assert_true(s.result.sent && s.result.exited);
	assert_int_equal(s.result.code, 7);
	assert_int_equal(s.result.err.code, 0);
	assert_false(s.result.killed || s.result.timed_out || s.result.cancelled);
	assert_false(s.result.output_open);
	clear(&s);
}

static void a_signal_is_named(void **state)
{
	struct seen s = { 0 };

	(void)state;
	run_text(&s, "kill -USR1 $$");
	assert_false(s.result.exited);
	assert_string_equal(s.result.signal, "USR1");
	clear(&s);
}

static void words_are_not_read_by_a_shell(void **state)
{
	static const char *const argv[] = { "printf", "%s|", "$HOME", "a b", "", "*", NULL };
	struct seen s = { 0 };

	(void)state;
	start(&s, argv, false, &(struct ssh_command){ 0 });
	wait_all();
	assert_string_equal(buf_str(&s.out), "$HOME|a b||*|");
	clear(&s);
}

static void bytes_are_exact(void **state)
{
	struct seen s = { 0 };
	size_t n = 3000000;
	char *data = malloc(n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		data[i] = (char)(i * 7 + i / 251);
	run(&s, &(struct ssh_command){ .command = "cat", .input = data, .input_len = n });
	assert_int_equal(s.out.len, n);
	assert_memory_equal(s.out.data, data, n);
	assert_int_equal(s.result.code, 0);
	clear(&s);
	free(data);
}

static void input_that_nobody_reads_does_no_harm(void **state)
{
	struct seen s = { 0 };
	size_t n = 1000000;
	char *data = calloc(1, n);

	(void)state;
	run(&s,
	    &(struct ssh_command){ .command = "exec <&-; exit 3", .input = data, .input_len = n });
	assert_int_equal(s.result.code, 3);
	clear(&s);
	free(data);
}

static void stdin_is_empty_without_input(void **state)
{
	struct seen s = { 0 };

	(void)state;
	run_text(&s, "cat; readlink /proc/self/fd/0");
	assert_string_equal(buf_str(&s.out), "/dev/null\n");
	clear(&s);
}

static void environment_and_directory_are_set(void **state)
{
	static const char *const env[] = { "A=1", "PATH=/bin:/usr/bin", "EXED_LOOK=x", NULL };
	static const char want[] = "1 /bin:/usr/bin x yes j.0.1.1\n/usr\n";
	struct seen s = { 0 };

	(void)state;
	setenv("EXED_RUNNER_REDIS_URL", "redis://:secret@h", 1);
	setenv("KEPT", "yes", 1);
	run(&s,
	    &(struct ssh_command){ .command = "echo $A $PATH $EXED_LOOK $KEPT $EXED_OP; pwd; env",
				   .env = env,
				   .op_id = "j.0.1.1",
				   .cwd = "/usr" });
	assert_int_equal(strncmp(buf_str(&s.out), want, strlen(want)), 0);
	assert_null(strstr(s.out.data, "secret"));
	unsetenv("EXED_RUNNER_REDIS_URL");
	unsetenv("KEPT");
	clear(&s);
}

static void a_clean_environment_has_nothing_else(void **state)
{
	static const char *const argv[] = { "env", NULL };
	static const char *const env[] = { "A=1", NULL };
	struct seen s = { 0 };

	(void)state;
	start(&s, argv, true, &(struct ssh_command){ .env = env, .op_id = "x" });
	wait_all();
	assert_string_equal(buf_str(&s.out), "EXED_OP=x\nA=1\n");
	clear(&s);
}

/* Three descriptors and no other, a session of its own, no signal blocked or ignored. */
static void a_child_starts_fresh(void **state)
{
	int leak = open("/dev/null", O_RDONLY); /* not close-on-exec */
	struct seen s = { 0 };
	sigset_t set, old;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	/* Of the ignored ones only 1 to 31 count: 32 and 33 are the C library's own. */
	run_text(&s,
		 "ls /proc/$$/fd; while read -r name value; do case $name in "
		 "SigBlk:) echo $((0x$value));; SigIgn:) echo $((0x$value & 0x7fffffff));; esac; "
		 "done </proc/$$/status; "
		 "read -r p c st pp g sid rest </proc/$$/stat; echo $((g - $$)) $((sid - $$))");
	assert_string_equal(buf_str(&s.out), "0\n1\n2\n0\n0\n0 0\n");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(leak);
	clear(&s);
}

static void what_cannot_run_is_told(void **state)
{
	static const char *const missing[] = { "/nowhere/at/all", NULL };
	static const char *const unknown[] = { "exed-no-such-program", NULL };
	static const char *const plain[] = { "/etc/passwd", NULL };
	static const char *const empty[] = { NULL };
	struct seen s = { 0 };
	struct err err;

	(void)state;
	start(&s, missing, false, &(struct ssh_command){ 0 });
	wait_all();
	assert_false(s.result.sent);
	assert_int_equal(s.result.err.code, ERR_NOT_FOUND);
	assert_string_equal(s.result.err.message,
			    "cannot run /nowhere/at/all: No such file or directory");
	clear(&s);
	start(&s, unknown, false, &(struct ssh_command){ 0 });
	wait_all();
	assert_int_equal(s.result.err.code, ERR_NOT_FOUND);
	clear(&s);
	start(&s, plain, false, &(struct ssh_command){ 0 });
	wait_all();
	assert_int_equal(s.result.err.code, ERR_REFUSED);
	clear(&s);
	run(&s, &(struct ssh_command){ .command = "true", .cwd = "/nowhere" });
	assert_int_equal(s.result.err.code, ERR_NOT_FOUND);
	assert_string_equal(s.result.err.message, "there is no directory /nowhere");
	clear(&s);
	assert_null(
		proc_start_argv(loop, empty, false, &(struct ssh_command){ 0 }, &ops, &s, &err));
	assert_int_equal(err.code, ERR_INVALID);
	assert_null(proc_start(loop, &(struct ssh_command){ 0 }, &ops, &s, &err));
	assert_int_equal(err.code, ERR_INVALID);
}

static void a_refused_start_runs_nothing(void **state)
{
	struct seen s = { .refuse = true };

	(void)state;
	run_text(&s, "echo never");
	assert_false(s.result.sent);
	assert_int_equal(s.result.err.code, ERR_CANCELLED);
	assert_int_equal(s.out.len, 0);
	clear(&s);
	/* Cancelled before its end came: still one end. */
	s.refuse = true;
	start(&s, NULL, false, &(struct ssh_command){ .command = "echo never" });
	proc_cancel(s.proc);
	wait_all();
	assert_int_equal(s.ends, 1);
	assert_true(s.result.cancelled);
	clear(&s);
}

static void many_run_at_once(void **state)
{
	struct seen s[100];
	char text[100][40];

	(void)state;
	memset(s, 0, sizeof(s));
	for (int i = 0; i < 100; i++) {
		snprintf(text[i], sizeof(text[i]), "echo %d; exit %d", i, i);
		start(&s[i], NULL, false, &(struct ssh_command){ .command = text[i] });
	}
	wait_all();
	for (int i = 0; i < 100; i++) {
		assert_int_equal(s[i].result.code, i);
		assert_int_equal(atoi(buf_str(&s[i].out)), i);
		clear(&s[i]);
	}
}

/* ---- pausing ---- */

static struct seen *paused_one;
static size_t paused_len;

static void go_on(void *arg)
{
	(void)arg;
	/* Nothing came while it was paused, and it did not end. */
	assert_int_equal(paused_one->ends, 0);
	paused_len = paused_one->out.len;
	paused_one->pause_at = 0;
	proc_pause(paused_one->proc, false);
}

static void a_pause_holds_output_and_end_back(void **state)
{
	struct seen s = { .pause_at = 1 };
	struct timer t;

	(void)state;
	paused_one = &s;
	timer_init(&t, loop_base(loop), go_on, NULL);
	timer_set(&t, 300);
	run_text(&s, "head -c 1000000 /dev/zero");
	assert_true(paused_len > 0 && paused_len <= 65536);
	assert_int_equal(s.out.len, 1000000);
	assert_int_equal(s.result.code, 0);
	timer_deinit(&t);
	clear(&s);
}

static void a_paused_child_that_has_ended_waits(void **state)
{
	struct seen s = { 0 };
	struct timer t;

	(void)state;
	paused_one = &s;
	timer_init(&t, loop_base(loop), go_on, NULL);
	timer_set(&t, 2500); /* longer than output may stay open */
	start(&s, NULL, false, &(struct ssh_command){ .command = "echo all of it" });
	proc_pause(s.proc, true);
	wait_all();
	assert_int_equal(paused_len, 0);
	assert_string_equal(buf_str(&s.out), "all of it\n");
	assert_false(s.result.output_open);
	timer_deinit(&t);
	clear(&s);
}

static void a_limit_ends_a_paused_child(void **state)
{
	struct seen s = { .pause_at = 1 };

	(void)state;
	run(&s, &(struct ssh_command){ .command = "yes", .limit_ms = 200 });
	assert_true(s.result.timed_out);
	assert_int_equal(s.result.survivors, 0);
	assert_false(s.result.output_open);
	clear(&s);
}

/* ---- the end of the output ---- */

static void a_child_that_keeps_the_output_open_is_told(void **state)
{
	struct seen s = { 0 };
	int64_t from = loop_now_ms();
	long pid;

	(void)state;
	run_text(&s, "sleep 20 & echo $!");
	assert_true(loop_now_ms() - from >= 1900); /* the loop's timers are a little coarse */
	assert_true(loop_now_ms() - from < 10000);
	assert_true(s.result.exited && s.result.output_open);
	assert_int_equal(s.result.code, 0);
	pid = atol(buf_str(&s.out));
	assert_true(pid > 1);
	assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
	clear(&s);
}

static void an_early_end_of_output_is_no_exit(void **state)
{
	struct seen s = { 0 };
	int64_t from = loop_now_ms();

	(void)state;
	run_text(&s, "echo x; exec >&- 2>&-; sleep 0.3; exit 4");
	assert_true(loop_now_ms() - from >= 290);
	assert_int_equal(s.result.code, 4);
	clear(&s);
}

/* ---- killing ---- */

static bool alive(long pid)
{
	char path[64], state = 'X';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 'X';
	fclose(f);
	return state != 'Z' && state != 'X';
}

/* Every pid that it wrote is dead. */
static unsigned count_alive(struct seen *s, unsigned *listed)
{
	unsigned n = 0;

	*listed = 0;
	for (char *p = (char *)(uintptr_t)buf_str(&s->out), *end;; p = end) {
		long pid = strtol(p, &end, 10);

		if (end == p)
			return n;
		(*listed)++;
		if (alive(pid)) {
			n++;
			kill((pid_t)pid, SIGKILL);
		}
	}
}

static void check_killed(struct seen *s, unsigned want_pids)
{
	unsigned listed;

	assert_true(s->result.killed);
	assert_int_equal(s->result.survivors, 0);
	assert_string_equal(s->result.killed_by, "session, tree, op id, output");
	assert_string_equal(s->result.signal, "KILL");
	assert_false(s->result.output_open);
	assert_int_equal(count_alive(s, &listed), 0);
	assert_int_equal(listed, want_pids);
}

static void a_limit_kills_and_looks(void **state)
{
	struct seen s = { 0 };
	int64_t from = loop_now_ms();

	(void)state;
	run(&s, &(struct ssh_command){ .command = "trap '' TERM; echo $$; sleep 50",
				       .limit_ms = 200,
				       .op_id = "limit.0.0.1" });
	assert_true(loop_now_ms() - from < 3000);
	assert_true(s.result.timed_out);
	assert_false(s.result.cancelled);
	assert_int_equal(s.result.err.code, ERR_TIMEOUT);
	assert_string_equal(s.result.err.message, "over its time limit of 0.2 s");
	check_killed(&s, 1);
	clear(&s);
}

/* Background, session of its own, double fork, ignored signals, stopped, and a child that forks. */
static void nothing_escapes_a_kill(void **state)
{
	static const char text[] =
		"sleep 50 & echo $!;"
		"setsid sh -c 'echo $$; exec sleep 50' &"
		"setsid sh -c '(setsid sh -c \"echo \\$\\$; exec sleep 50\" &) ; exit 0' &"
		"sh -c 'trap \"\" TERM HUP INT; echo $$; while :; do sleep 0.1; done' &"
		"sh -c 'echo $$; kill -STOP $$; sleep 50' &"
		"sh -c 'echo $$; while :; do sh -c \"sleep 0.01\"; done' &"
		"echo $$; wait";
	struct seen s = { 0 };

	(void)state;
	run(&s, &(struct ssh_command){ .command = text, .limit_ms = 700, .op_id = "escape.0.0.1" });
	check_killed(&s, 7);
	clear(&s);
}

static void one_that_left_the_session_and_its_parent_is_found_by_its_op(void **state)
{
	struct seen s = { 0 };

	(void)state;
	/* The parent of the sleeper is gone before the kill, so only the mark tells. */
	run(&s, &(struct ssh_command){
			.command = "(setsid sh -c 'echo $$; exec sleep 50' >&1 2>/dev/null &); "
				   "sleep 0.3; echo $$; exec sleep 50",
			.limit_ms = 800,
			.op_id = "mark.0.0.1" });
	check_killed(&s, 2);
	clear(&s);
}

static void other_ops_are_left_alone(void **state)
{
	struct seen a = { 0 }, b = { 0 };

	(void)state;
	start(&a, NULL, false,
	      &(struct ssh_command){ .command = "sleep 50", .limit_ms = 200, .op_id = "a.0.0.1" });
	start(&b, NULL, false,
	      &(struct ssh_command){ .command = "sleep 1; echo done", .op_id = "a.0.0.10" });
	wait_all();
	assert_true(a.result.timed_out);
	assert_int_equal(b.result.code, 0);
	assert_false(b.result.killed);
	assert_string_equal(buf_str(&b.out), "done\n");
	clear(&a);
	clear(&b);
}

static void many_limits_at_once_are_kept(void **state)
{
	struct seen s[60];
	char op[60][24];
	int64_t from = loop_now_ms();

	(void)state;
	memset(s, 0, sizeof(s));
	for (int i = 0; i < 60; i++) {
		snprintf(op[i], sizeof(op[i]), "many.0.%d.1", i);
		start(&s[i], NULL, false,
		      &(struct ssh_command){ .command = "echo $$; sleep 50 & echo $!; wait",
					     .limit_ms = 500,
					     .op_id = op[i] });
	}
	wait_all();
	assert_true(loop_now_ms() - from < 10000);
	for (int i = 0; i < 60; i++) {
		assert_true(s[i].result.timed_out);
		check_killed(&s[i], 2);
		clear(&s[i]);
	}
}

static void a_cancel_kills(void **state)
{
	struct seen s = { .cancel_at = 1 };

	(void)state;
	run(&s, &(struct ssh_command){ .command = "sleep 50 & printf \"$! $$\"; wait",
				       .op_id = "cancel.0.0.1" });
	assert_true(s.result.cancelled);
	assert_false(s.result.timed_out);
	assert_int_equal(s.result.err.code, ERR_CANCELLED);
	check_killed(&s, 2);
	clear(&s);
}

static void cancel_now(void *arg)
{
	struct seen *s = arg;

	proc_cancel(s->proc);
	proc_cancel(s->proc); /* again is nothing */
}

static void a_cancel_after_the_exit_kills_what_it_left(void **state)
{
	struct seen s = { 0 };
	struct timer t;
	unsigned listed;

	(void)state;
	timer_init(&t, loop_base(loop), cancel_now, &s);
	timer_set(&t, 500);
	run(&s, &(struct ssh_command){ .command = "sleep 50 & echo $!; exit 5",
				       .op_id = "after.0.0.1" });
	assert_true(s.result.cancelled && s.result.exited && s.result.killed);
	assert_int_equal(s.result.code, 5);
	assert_int_equal(s.result.survivors, 0);
	assert_int_equal(count_alive(&s, &listed), 0);
	assert_int_equal(listed, 1);
	timer_deinit(&t);
	clear(&s);
}

static void without_an_op_session_and_tree_are_killed(void **state)
{
	struct seen s = { 0 };
	unsigned listed;

	(void)state;
	run(&s, &(struct ssh_command){
			.command = "setsid sh -c 'echo $$; exec sleep 50' & echo $$; wait",
			.limit_ms = 500 });
	assert_string_equal(s.result.killed_by, "session, tree, output");
	assert_int_equal(s.result.survivors, 0);
	assert_int_equal(count_alive(&s, &listed), 0);
	assert_int_equal(listed, 2);
	clear(&s);
}

static void count_turns(void *arg)
{
	unsigned *n = ((void **)arg)[0];

	++*n;
	timer_set(((void **)arg)[1], 1);
}

/* While a kill looks around, the loop goes on. */
static void a_kill_does_not_block_the_loop(void **state)
{
	struct seen s = { 0 };
	struct timer t;
	unsigned turns = 0;
	void *arg[2] = { &turns, &t };

	(void)state;
	timer_init(&t, loop_base(loop), count_turns, arg);
	timer_set(&t, 1);
	loop_lag_ms(loop);
	run(&s,
	    &(struct ssh_command){ .command = "sleep 50", .limit_ms = 300, .op_id = "lag.0.0.1" });
	assert_true(s.result.timed_out);
	assert_true(turns > 50);
	timer_deinit(&t);
	clear(&s);
}

/* ---- the end of the program ---- */

static void stopping_ends_all_that_runs(void **state)
{
	struct seen s[3];
	unsigned listed, all = 0;

	(void)state;
	memset(s, 0, sizeof(s));
	for (int i = 0; i < 3; i++)
		start(&s[i], NULL, false,
		      &(struct ssh_command){ .command = "trap '' TERM; sleep 50 & echo $! $$; wait",
					     .op_id = "stop.0.0.1" });
	/* One more, of which only the deferred end is left. */
	{
		struct seen never = { .refuse = true };
		struct timer t;

		timer_init(&t, loop_base(loop), hangs, NULL);
		timer_set(&t, 400);
		loop_run(loop);
		timer_deinit(&t);
		start(&never, NULL, false, &(struct ssh_command){ .command = "true" });
		proc_stop_all(loop);
		assert_int_equal(never.ends, 1);
	}
	assert_int_equal(running, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(s[i].ends, 1);
		assert_true(s[i].result.cancelled && s[i].result.killed);
		assert_int_equal(s[i].result.survivors, 0);
		assert_int_equal(count_alive(&s[i], &listed), 0);
		all += listed;
		clear(&s[i]);
	}
	assert_int_equal(all, 6);
	assert_int_equal(proc_count(loop), 0);
	/* And it works again after. */
	run_text(&s[0], "echo back");
	assert_string_equal(buf_str(&s[0].out), "back\n");
	clear(&s[0]);
}

static void the_end_of_the_loop_ends_children_too(void **state)
{
	struct seen s = { .cancel_at = 1 };
	struct loop *own, *saved = loop;
	struct timer t;
	struct err err;

	(void)state;
	own = loop = loop_new(&err);
	start(&s, NULL, false, &(struct ssh_command){ .command = "echo $$; sleep 50" });
	timer_init(&t, loop_base(own), hangs, NULL);
	s.cancel_at = 0;
	timer_set(&t, 200);
	loop_run(own);
	proc_cancel(s.proc); /* the killer's thread is at it, or not yet */
	timer_deinit(&t);
	loop_free(own);
	loop = saved;
	assert_int_equal(s.ends, 1);
	assert_true(s.result.cancelled);
	assert_int_equal(s.result.survivors, 0);
	assert_false(alive(atol(buf_str(&s.out))));
	clear(&s);
}

/* ---- a kernel without pidfd ---- */

static int forbid_pidfd(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(*code), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/* The last one: the filter stays. */
static void without_pidfd_it_works_too(void **state)
{
	struct seen s = { 0 };

	(void)state;
	if (forbid_pidfd())
		skip();
	assert_int_equal(syscall(SYS_pidfd_open, getpid(), 0), -1);
	output_and_exit_code_come_back(state);
	a_signal_is_named(state);
	many_run_at_once(state);
	run_text(&s, "exit 0");
	assert_true(s.result.exited);
	clear(&s);
	a_limit_kills_and_looks(state);
	nothing_escapes_a_kill(state);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, open_loop, close_loop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(output_and_exit_code_come_back),
		CASE(a_signal_is_named),
		CASE(words_are_not_read_by_a_shell),
		CASE(bytes_are_exact),
		CASE(input_that_nobody_reads_does_no_harm),
		CASE(stdin_is_empty_without_input),
		CASE(environment_and_directory_are_set),
		CASE(a_clean_environment_has_nothing_else),
		CASE(a_child_starts_fresh),
		CASE(what_cannot_run_is_told),
		CASE(a_refused_start_runs_nothing),
		CASE(many_run_at_once),
		CASE(a_pause_holds_output_and_end_back),
		CASE(a_paused_child_that_has_ended_waits),
		CASE(a_limit_ends_a_paused_child),
		CASE(a_child_that_keeps_the_output_open_is_told),
		CASE(an_early_end_of_output_is_no_exit),
		CASE(a_limit_kills_and_looks),
		CASE(nothing_escapes_a_kill),
		CASE(one_that_left_the_session_and_its_parent_is_found_by_its_op),
		CASE(other_ops_are_left_alone),
		CASE(many_limits_at_once_are_kept),
		CASE(a_cancel_kills),
		CASE(a_cancel_after_the_exit_kills_what_it_left),
		CASE(without_an_op_session_and_tree_are_killed),
		CASE(a_kill_does_not_block_the_loop),
		CASE(stopping_ends_all_that_runs),
		CASE(the_end_of_the_loop_ends_children_too),
		CASE(without_pidfd_it_works_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
