/* SPDX-License-Identifier: MIT */
/* Tests of runtime/ssh_exec.c and ssh_kill.c: commands on a real sshd: their bytes, their ends,
 * and what is left of them after a time limit or a cancel. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "ssh_conn.h"
#include "ssh_fixture.h"
#include "support.h"

static struct sshd d;
static struct fixture f;
static struct ssh_settings *s;

static int group_setup(void **state)
{
	struct ssh_options o;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (!sshd_start(&d, "MaxSessions 10"))
		return -1;
	o = sshd_options(&d);
	s = ssh_settings_new(&o, NULL);
	return s ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	ssh_settings_unref(s);
	sshd_stop(&d);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	fixture_open(&f);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fixture_close(&f);
	return 0;
}

static void run(struct run *r)
{
	run_now(&f, s, r);
	if (r->failed)
		fail_msg("%s: %s", ssh_phase_name(r->phase), r->err.message);
}

static void expect_code(const struct run *r, int code)
{
	if (r->result.err.code)
		fail_msg("%s", r->result.err.message);
	assert_true(r->result.sent);
	assert_true(r->result.exited);
	assert_int_equal(r->result.code, code);
	assert_string_equal(r->result.signal, "");
	assert_false(r->result.timed_out || r->result.cancelled || r->result.output_open);
}

/* ---- bytes and ends ---- */

static void exit_codes_come_back(void **state)
{
	static const int codes[] = {0, 1, 2, 126, 255};

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		char command[16];
		struct run r = {.keep = true, .command = {.command = command}};

		snprintf(command, sizeof(command), "exit %d", codes[i]);
		run(&r);
		expect_code(&r, codes[i]);
		run_free(&r);
	}
}

static void a_signal_comes_back_by_its_name(void **state)
{
	struct run r = {.command = {.command = "kill -KILL $$"}};

	(void)state;
	run(&r);
	assert_false(r.result.exited);
	assert_string_equal(r.result.signal, "KILL");
	assert_int_equal(r.result.err.code, 0);
	run_free(&r);
}

/* Every byte value, both ways, more of them than any window holds. */
static void input_and_output_are_exact(void **state)
{
	size_t n = 3 * 1024 * 1024 + 7;
	char *bytes = malloc(n);
	struct run r = {.command = {.command = "tee /dev/stderr", .input = bytes, .input_len = n}};

	(void)state;
	for (size_t i = 0; i < n; i++)
		bytes[i] = (char)(i * 7 + i / 251);
	run(&r);
	expect_code(&r, 0);
	assert_int_equal(r.out.len, n);
	assert_memory_equal(r.out.data, bytes, n);
	assert_int_equal(r.errs.len, n);
	assert_memory_equal(r.errs.data, bytes, n);
	run_free(&r);
	free(bytes);
}

static void without_input_stdin_is_at_its_end(void **state)
{
	struct run r = {.command = {.command = "cat; echo done"}};
	struct run unread = {.command = {.command = "exit 4", .input = "not read", .input_len = 8}};

	(void)state;
	run(&r);
	expect_code(&r, 0);
	assert_string_equal(buf_str(&r.out), "done\n");
	run_free(&r);
	run(&unread);
	expect_code(&unread, 4);
	run_free(&unread);
}

static void the_script_form_takes_input_environment_and_directory(void **state)
{
	static const char *const env[] = {"A=x y'z\nq\\ $HOME", NULL};
	struct run r = {.command = {
		.command = "pwd\nprintf '%s|' \"$A\" \"$EXED_OP\" !\ncat",
		.env = env, .cwd = "/usr", .input = "one\ntwo", .input_len = 7,
		.op_id = "j.3.2.1",
	}};
	struct run bad = {.command = {.command = "echo never", .cwd = "/nonexistent"}};
	struct run wrong = {.command = {.env = (const char *const[]){"1=2", NULL}}};

	(void)state;
	run(&r);
	expect_code(&r, 0);
	assert_string_equal(buf_str(&r.out), "/usr\nx y'z\nq\\ $HOME|j.3.2.1|!|one\ntwo");
	run_free(&r);
	run(&bad);
	expect_code(&bad, 126);
	assert_int_equal(bad.out.len, 0);
	assert_non_null(strstr(buf_str(&bad.errs), "/nonexistent"));
	run_free(&bad);
	run(&wrong);
	assert_int_equal(wrong.result.err.code, ERR_INVALID);
	assert_false(wrong.result.sent);
	run_free(&wrong);
}

static void a_raw_host_gets_the_bytes_as_given(void **state)
{
	struct run r = {.raw = true, .command = {.command = "echo \"op:$EXED_OP:\""}};

	(void)state;
	run(&r);
	expect_code(&r, 0);
	assert_string_equal(buf_str(&r.out), "op::\n");
	run_free(&r);
}

static void a_child_that_keeps_the_output_open_is_not_waited_for(void **state)
{
	struct run r = {.command = {.command = "echo $$; sleep 20 & exit 5"}};
	int64_t from = loop_now_ms();

	(void)state;
	run(&r);
	assert_true(r.result.exited);
	assert_int_equal(r.result.code, 5);
	assert_true(r.result.output_open);
	assert_in_range(loop_now_ms() - from, 2000, 15000); /* the child lives for 20 s */
	kill(-run_pid(&r, 0), SIGKILL);
	run_free(&r);
}

static void pause_once(struct run *r)
{
	if (r->pieces == 1)
		ssh_exec_pause(r->exec, true);
}

static void a_paused_command_sends_no_more_than_a_window(void **state)
{
	struct run r = {.command = {.command = "head -c 8000000 /dev/zero"},
			.on_output = pause_once};
	size_t had;

	(void)state;
	run_start(&f, s, &r);
	fixture_turn(&f, &r.pieces, 1);
	had = r.out.len;
	assert_in_range(had, 1, 128 * 1024);
	fixture_turn_ms(&f, 200);
	assert_int_equal(r.out.len, had);
	ssh_exec_pause(r.exec, false);
	fixture_turn(&f, &r.over, 1);
	expect_code(&r, 0);
	assert_int_equal(r.out.len, 8000000);
	run_free(&r);
}

static void what_may_not_start_is_not_sent(void **state)
{
	struct run r = {.refuse_start = true, .command = {.command = "echo never"}};

	(void)state;
	run(&r);
	assert_int_equal(r.result.err.code, ERR_CANCELLED);
	assert_false(r.result.sent);
	assert_int_equal(r.out.len, 0);
	run_free(&r);
}

/* The request is on its way, and the line with the command is not: the host's shell waits for it. First it
 * is refused in the same turn, then when the host has said that it takes input. */
static void what_may_not_start_any_more_gets_no_line(void **state)
{
	char file[96], command[128];

	(void)state;
	snprintf(file, sizeof(file), "%s/started", d.dir);
	snprintf(command, sizeof(command), "touch %s", file);
	for (unsigned starts = 1; starts <= 2; starts++) {
		struct run r = {.starts = starts, .keep = true,
				.command = {.command = command, .cwd = "/"}};
		struct run after = {.command = {.command = "true"}};

		run(&r);
		assert_int_equal(r.result.err.code, ERR_CANCELLED);
		assert_false(r.result.sent);
		run(&after);
		expect_code(&after, 0);
		assert_int_equal(access(file, F_OK), -1);
		run_free(&r);
		run_free(&after);
	}
}

/* The process that serves a connection is the parent of its commands. */
static void a_broken_connection_says_so(void **state)
{
	struct run r = {.command = {.command = "echo $PPID $$; sleep 20"}};

	(void)state;
	run_start(&f, s, &r);
	run_wait_line(&r);
	kill(run_pid(&r, 0), SIGKILL);
	kill(-run_pid(&r, 1), SIGKILL);
	fixture_turn(&f, &r.over, 1);
	assert_int_equal(r.result.err.code, ERR_UNREACHABLE);
	assert_non_null(strstr(r.result.err.message, "connection lost while running"));
	assert_true(r.result.sent);
	run_free(&r);
}

/* A host that answers nothing any more, though its machine still does. */
static void a_host_that_falls_silent_is_given_up(void **state)
{
	struct run quiet = {.command = {.command = "sleep 4; echo fine"}};
	struct run r = {.command = {.command = "echo $PPID $$; sleep 20"}};
	pid_t pid;

	(void)state;
	f.client->alive_ms = 700;
	run(&quiet); /* silent for longer than all tries, but it answers when it is asked */
	expect_code(&quiet, 0);
	run_free(&quiet);
	run_start(&f, s, &r);
	run_wait_line(&r);
	f.client->alive_ms = 100;
	pid = run_pid(&r, 0);
	kill(pid, SIGSTOP);
	fixture_turn(&f, &r.over, 1);
	kill(pid, SIGKILL);
	kill(-run_pid(&r, 1), SIGKILL);
	assert_int_equal(r.result.err.code, ERR_UNREACHABLE);
	assert_non_null(strstr(r.result.err.message, "connection lost while running: silent"));
	assert_true(r.result.sent);
	run_free(&r);
}

static void many_commands_on_one_host_at_once(void **state)
{
	struct run *r = calloc(60, sizeof(*r));

	(void)state;
	for (int i = 0; i < 60; i++) {
		r[i].command.command = i % 3 ? "true" : "cat; cat /proc/self/status >&2";
		r[i].command.input = i % 2 ? "x" : NULL;
		r[i].command.input_len = i % 2;
		run_start(&f, s, &r[i]);
	}
	for (int i = 0; i < 60; i++) {
		fixture_turn(&f, &r[i].over, 1);
		expect_code(&r[i], 0);
		run_free(&r[i]);
	}
	free(r);
}

/* ---- kills ---- */

/* Processes that have this as a word of their command line. */
static int processes_with(const char *word)
{
	char command[256];
	int n = -1;
	FILE *p;

	/* The brackets keep grep from finding its own command line. */
	snprintf(command, sizeof(command),
		 "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -cx '[%c]%s'",
		 *word, word + 1);
	p = popen(command, "r");
	assert_non_null(p);
	assert_int_equal(fscanf(p, "%d", &n), 1);
	pclose(p);
	return n;
}

static void expect_killed(const struct run *r)
{
	if (r->result.err.code)
		fail_msg("%s", r->result.err.message);
	assert_true(r->result.killed);
	assert_int_equal(r->result.survivors, 0);
	assert_string_equal(r->result.killed_by, "session, tree, op id, output");
}

/* Each is a way to get away; all of them must be found. The number makes them findable for the
 * test, and for no other that runs at the same time. */
#define NASTY                                                                                      \
	"sleep 91.%1$d & (trap '' TERM HUP; sleep 91.%1$d) & (sleep 91.%1$d &)\n"                  \
	"setsid sleep 91.%1$d & (setsid sh -c 'sleep 91.%1$d & sleep 91.%1$d' &)\n"                \
	"env -i /bin/sleep 91.%1$d & (env -i /bin/sleep 91.%1$d &)\n"                              \
	"env -i setsid /bin/sleep 91.%1$d & (nohup sleep 91.%1$d >/dev/null 2>&1 &)\n"             \
	"sh -c 'while :; do sleep 91.%1$d & sleep 0.05; done' &\n"                                 \
	"bash -c 'exec -a \"x) R 1 1 (\" sleep 91.%1$d' 2>/dev/null &\n"                           \
	"echo up\nsleep 91.%1$d\n"

struct nasty {
	char command[1024], word[32];
};

static void nasty_make(struct nasty *n)
{
	snprintf(n->command, sizeof(n->command), NASTY, getpid());
	snprintf(n->word, sizeof(n->word), "91.%d", getpid());
}

static void a_time_limit_kills_all_of_it(void **state)
{
	struct nasty n;
	struct run r = {.command = {.command = n.command, .limit_ms = 2000}};

	(void)state;
	nasty_make(&n);
	run(&r);
	expect_killed(&r);
	assert_true(r.result.timed_out);
	assert_false(r.result.cancelled);
	assert_string_equal(buf_str(&r.out), "up\n");
	assert_int_equal(processes_with(n.word), 0);
	run_free(&r);
}

static void expect_kill_on(const char *config)
{
	struct nasty n;
	struct run r = {.command = {.command = n.command, .limit_ms = 2000}};
	struct ssh_settings *own;
	struct ssh_options o;
	struct sshd host;

	nasty_make(&n);
	assert_true(sshd_start(&host, config));
	o = sshd_options(&host);
	own = ssh_settings_new(&o, NULL);
	run_now(&f, own, &r);
	expect_killed(&r);
	assert_int_equal(processes_with(n.word), 0);
	run_free(&r);
	ssh_settings_unref(own);
	sshd_stop(&host);
}

static void a_kill_works_under_any_login_shell(void **state)
{
	static const char *const shells[] = {"fish", "tcsh", "bash", "dash"};
	char text[128];
	int ran = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(shells) / sizeof(*shells); i++) {
		snprintf(text, sizeof(text), "command -v %s >/dev/null", shells[i]);
		if (system(text))
			continue;
		/* Also a leader of the session that is not the command. */
		snprintf(text, sizeof(text),
			 "ForceCommand %s -c \"$SSH_ORIGINAL_COMMAND\"; exit $?", shells[i]);
		expect_kill_on(text);
		ran++;
	}
	assert_true(ran >= 1);
}

static void a_kill_needs_no_more_than_busybox(void **state)
{
	char dir[64], text[256];

	(void)state;
	if (system("command -v busybox >/dev/null"))
		skip();
	assert_true(support_make_dir(dir, sizeof(dir)));
	snprintf(text, sizeof(text), "cd %s && for p in sh grep tr sleep env; do "
		 "ln -s $(command -v busybox) $p; done", dir);
	assert_int_equal(system(text), 0);
	snprintf(text, sizeof(text),
		 "SetEnv SHLVL=3 HOME=%s PATH=%s:/usr/bin:/bin\nForceCommand exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
		 dir, dir);
	expect_kill_on(text);
	snprintf(text, sizeof(text), "rm -r %s", dir);
	assert_int_equal(system(text), 0);
}

static void cancel_at_output(struct run *r)
{
	if (r->exec)
		ssh_exec_cancel(r->exec);
}

static void a_cancel_kills_all_of_it(void **state)
{
	struct nasty n;
	struct run r = {.command = {.command = n.command}, .on_output = cancel_at_output};

	(void)state;
	nasty_make(&n);
	run(&r);
	expect_killed(&r);
	assert_true(r.result.cancelled);
	assert_false(r.result.timed_out);
	assert_int_equal(processes_with(n.word), 0);
	run_free(&r);
}

/* Another command of the same host goes on, also one whose op id only begins alike. */
static void others_are_left_alone(void **state)
{
	char op[2][32];
	struct run a = {.command = {.command = "echo up; sleep 20", .op_id = op[0],
				    .limit_ms = 600}};
	struct run b = {.command = {.command = "echo up; sleep 4; echo lived",
				    .op_id = op[1]}};

	(void)state;
	snprintf(op[0], sizeof(op[0]), "j%d.0.1.1", getpid());
	snprintf(op[1], sizeof(op[1]), "j%d.0.1.11", getpid());
	run_start(&f, s, &b);
	run_wait_line(&b);
	run_start(&f, s, &a);
	fixture_turn(&f, &a.over, 1);
	expect_killed(&a);
	fixture_turn(&f, &b.over, 1);
	expect_code(&b, 0);
	assert_string_equal(buf_str(&b.out), "up\nlived\n");
	run_free(&a);
	run_free(&b);
}

static void cancel_now(struct run *r)
{
	run_command(r);
	ssh_exec_cancel(r->exec);
	assert_int_equal(r->over, 0);
}

static void a_cancel_before_the_start_sends_nothing(void **state)
{
	struct run r = {.on_ready = cancel_now, .command = {.command = "echo never"}};

	(void)state;
	run(&r);
	assert_true(r.result.cancelled);
	assert_false(r.result.sent);
	assert_false(r.result.killed);
	assert_int_equal(r.out.len, 0);
	run_free(&r);
}

static void a_raw_command_is_closed_and_not_verified(void **state)
{
	struct run r = {.raw = true,
			.command = {.command = "echo $$; exec sleep 30", .limit_ms = 1500}};

	(void)state;
	run(&r);
	assert_true(r.result.timed_out);
	assert_false(r.result.killed);
	assert_int_equal(r.result.survivors, -1);
	assert_string_equal(r.result.killed_by, "closed, not verified");
	kill(-run_pid(&r, 0), SIGKILL);
	run_free(&r);
}

/* All channels are taken: the killer has one of its own, or makes a connection. */
static void a_kill_works_when_all_channels_are_taken(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct ssh_settings *wide;
	struct run r[10] = {0};
	char op[10][32];

	(void)state;
	o.max_sessions = 10; /* as many as the host allows */
	wide = ssh_settings_new(&o, NULL);
	for (int i = 0; i < 10; i++) {
		snprintf(op[i], sizeof(op[i]), "j%d.0.%d.1", getpid(), i);
		r[i].command.command = "echo up; sleep 60";
		r[i].command.op_id = op[i];
		run_start(&f, wide, &r[i]);
	}
	for (int i = 0; i < 10; i++)
		run_wait_line(&r[i]);
	assert_int_equal(ssh_client_counts(f.client).sessions, 10);
	for (int i = 0; i < 10; i++)
		ssh_exec_cancel(r[i].exec);
	for (int i = 0; i < 10; i++) {
		fixture_turn(&f, &r[i].over, 1);
		expect_killed(&r[i]);
		run_free(&r[i]);
	}
	ssh_settings_unref(wide);
}

static void a_connection_is_sound_after_a_kill(void **state)
{
	struct run r = {.keep = true, .command = {.command = "sleep 20", .limit_ms = 200}};
	struct run next = {.command = {.command = "echo fine"}};

	(void)state;
	run(&r);
	expect_killed(&r);
	run_free(&r);
	run(&next);
	expect_code(&next, 0);
	assert_true(next.warm);
	assert_string_equal(buf_str(&next.out), "fine\n");
	run_free(&next);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(exit_codes_come_back),
		T(a_signal_comes_back_by_its_name),
		T(input_and_output_are_exact),
		T(without_input_stdin_is_at_its_end),
		T(the_script_form_takes_input_environment_and_directory),
		T(a_raw_host_gets_the_bytes_as_given),
		T(a_child_that_keeps_the_output_open_is_not_waited_for),
		T(a_paused_command_sends_no_more_than_a_window),
		T(what_may_not_start_is_not_sent),
		T(what_may_not_start_any_more_gets_no_line),
		T(a_broken_connection_says_so),
		T(a_host_that_falls_silent_is_given_up),
		T(many_commands_on_one_host_at_once),
		T(a_time_limit_kills_all_of_it),
		T(a_kill_works_under_any_login_shell),
		T(a_kill_needs_no_more_than_busybox),
		T(a_cancel_kills_all_of_it),
		T(others_are_left_alone),
		T(a_cancel_before_the_start_sends_nothing),
		T(a_raw_command_is_closed_and_not_verified),
		T(a_kill_works_when_all_channels_are_taken),
		T(a_connection_is_sound_after_a_kill),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
