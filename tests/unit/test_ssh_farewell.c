/* SPDX-License-Identifier: MIT */
/* Tests of the end of a connection: a host that says what became of a command and leaves at once. What it
 * said whole counts, and nothing else does. The host is the simulator, tests/support/fleet. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop.h"
#include "ssh_conn.h"
#include "ssh_fixture.h"
#include "support.h"

#define FLEET "build/support/fleet"
#define TEXT_BYTES (1500 * 21) /* of output, in one go */
#define LOST "the host ended the connection while running"

/* Each host's behaviour is its address: 127.1.0.1 and so on. */
enum { FAREWELL = 1, FAREWELL_LONG, TOGETHER, LEAVES };
#define LONG_TIMES 20 /* 630 KB, more than five windows */

static struct sshd d; /* only its fields: what sshd_options takes */
static struct fixture f;
static struct ssh_settings *s;

static void rule(char *out, size_t cap, int host, const char *behaviour, int n)
{
	snprintf(out, cap, "127.1.0.%d=%s:%d", host, behaviour, n);
}

static void fleet_exec(int out)
{
	char rules[LEAVES + 16][64], *argv[64];
	int n = 0, r = 0;

	rule(rules[r++], 64, FAREWELL, "farewell", 1);
	rule(rules[r++], 64, FAREWELL_LONG, "farewell", LONG_TIMES);
	rule(rules[r++], 64, TOGETHER, "together", 3);
	for (int parts = 0; parts < 16; parts++)
		rule(rules[r++], 64, LEAVES + parts, "leaves", parts);
	argv[n++] = FLEET;
	argv[n++] = "-dir";
	argv[n++] = d.dir;
	argv[n++] = "-known-hosts";
	argv[n++] = d.known_hosts;
	for (int i = 0; i < r; i++) {
		argv[n++] = "-rule";
		argv[n++] = rules[i];
	}
	argv[n] = NULL;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(out, STDOUT_FILENO);
	execv(FLEET, argv);
	_exit(127);
}

static int group_setup(void **state)
{
	struct ssh_options o;
	int out[2];
	FILE *line;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (!support_make_dir(d.dir, sizeof(d.dir)) || pipe(out))
		return -1;
	snprintf(d.known_hosts, sizeof(d.known_hosts), "%s/known_hosts", d.dir);
	snprintf(d.key, sizeof(d.key), "%s/client_ecdsa", d.dir);
	strcpy(d.user, "root");
	d.pid = fork();
	if (!d.pid)
		fleet_exec(out[1]);
	close(out[1]);
	line = fdopen(out[0], "r");
	if (!line || fscanf(line, "ready port=%d", &d.port) != 1)
		return -1;
	fclose(line);
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

static void start(struct run *r, char *address, int host)
{
	sprintf(address, "127.1.0.%d", host);
	r->address = address;
	r->command.command = "anything";
	run_start(&f, s, r);
}

static void expect_whole(const struct run *r, size_t bytes)
{
	if (r->failed)
		fail_msg("%s: %s", ssh_phase_name(r->phase), r->err.message);
	if (r->result.err.code)
		fail_msg("%s", r->result.err.message);
	assert_true(r->result.exited);
	assert_int_equal(r->result.code, 0);
	assert_int_equal(r->out.len, bytes);
	assert_int_equal(r->errs.len, 6);
}

static void expect_lost(const struct run *r, const char *why)
{
	assert_false(r->failed);
	assert_true(r->result.sent);
	assert_string_equal(r->result.err.message, why);
}

static void check_whole(int host, size_t bytes)
{
	struct run r = {0};
	char address[24];

	start(&r, address, host);
	fixture_turn(&f, &r.over, 1);
	expect_whole(&r, bytes);
	run_free(&r);
}

static void a_result_before_a_farewell_is_whole(void **state)
{
	(void)state;
	check_whole(FAREWELL, TEXT_BYTES);
}

static void so_is_one_of_many_windows(void **state)
{
	(void)state;
	check_whole(FAREWELL_LONG, (size_t)LONG_TIMES * TEXT_BYTES);
}

/* Which parts of a command's end make a result, when nothing more can come. */
static void a_result_is_told_only_when_the_host_has_told_it(void **state)
{
	enum { END = 1, STATUS = 2, SIGNAL = 4, CLOSE = 8 };

	(void)state;
	for (int parts = 0; parts < 16; parts++) {
		struct run r = {0};
		char address[24];
		bool ended = parts & (END | CLOSE);

		start(&r, address, LEAVES + parts);
		fixture_turn(&f, &r.over, 1);
		assert_int_equal(r.out.len, TEXT_BYTES);
		if (ended && parts & STATUS) {
			assert_int_equal(r.result.err.code, 0);
			assert_true(r.result.exited);
			assert_int_equal(r.result.code, 7);
		} else if (parts & CLOSE && parts & SIGNAL) {
			assert_int_equal(r.result.err.code, 0);
			assert_false(r.result.exited);
			assert_string_equal(r.result.signal, "TERM");
		} else if (parts & CLOSE) {
			expect_lost(&r, "the host closed the channel without an exit status");
		} else {
			expect_lost(&r, LOST);
			assert_false(r.result.exited);
			assert_string_equal(r.result.signal, "");
		}
		run_free(&r);
	}
}

/* Three commands on one connection: the host ends the second and third, and leaves. */
static void commands_beside_it_have_theirs(void **state)
{
	struct run runs[3];
	char address[24];

	(void)state;
	memset(runs, 0, sizeof(runs));
	for (int i = 0; i < 3; i++)
		start(&runs[i], address, TOGETHER);
	for (int i = 0; i < 3; i++)
		fixture_turn(&f, &runs[i].over, 1);
	expect_lost(&runs[0], LOST);
	assert_int_equal(runs[0].out.len, 0);
	for (int i = 1; i < 3; i++)
		expect_whole(&runs[i], TEXT_BYTES);
	for (int i = 0; i < 3; i++)
		run_free(&runs[i]);
}

/* Nobody lets it go on: what is here when nothing more comes is handed on all the same. */
static void pause_it(struct run *r)
{
	ssh_exec_pause(r->exec, true);
}

static void output_that_is_paused_is_not_lost(void **state)
{
	struct run r = {.on_output = pause_it};
	char address[24];

	(void)state;
	start(&r, address, FAREWELL);
	fixture_turn(&f, &r.over, 1);
	expect_whole(&r, TEXT_BYTES);
	run_free(&r);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_result_before_a_farewell_is_whole),
		TEST(so_is_one_of_many_windows),
		TEST(a_result_is_told_only_when_the_host_has_told_it),
		TEST(commands_beside_it_have_theirs),
		TEST(output_that_is_paused_is_not_lost),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
