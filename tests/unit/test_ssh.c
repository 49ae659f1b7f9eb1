/* SPDX-License-Identifier: MIT */
/* Tests of runtime/ssh*.c, connections: against a real sshd, and against hosts that misbehave. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <libssh2.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ssh_fixture.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED __has_feature(address_sanitizer)
#else
#define SANITIZED 0
#endif

static struct sshd d;
static struct fixture f;

static int group_setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	return sshd_start(&d, "MaxSessions 3") ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
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

static struct ssh_settings *settings(const struct ssh_options *o)
{
	struct err err = {0};
	struct ssh_settings *s = ssh_settings_new(o, &err);

	if (!s)
		fail_msg("%s", err.message);
	return s;
}

static void expect_ok(const struct run *r)
{
	if (r->failed)
		fail_msg("%s: %s", ssh_phase_name(r->phase), r->err.message);
	if (r->result.err.code)
		fail_msg("%s", r->result.err.message);
	assert_true(r->result.exited);
	assert_int_equal(r->result.code, 0);
}

/* A run with these options must fail in this phase with words that hold `says`. */
static void expect_failed(const struct ssh_options *o, struct run *r, enum ssh_phase phase,
			  int code, const char *says)
{
	struct ssh_settings *s = settings(o);

	run_now(&f, s, r);
	assert_true(r->failed);
	if (!strstr(r->err.message, says))
		fail_msg("it says: %s", r->err.message);
	assert_int_equal(r->phase, phase);
	assert_int_equal(r->err.code, code);
	assert_int_equal(r->ready, 0);
	assert_int_equal(ssh_client_counts(f.client).connections, 0);
	run_free(r);
	ssh_settings_unref(s);
}

/* ---- logging in ---- */

static void a_command_runs(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct ssh_settings *s = settings(&o);
	struct run r = {.command = {.command = "echo hello; echo oops >&2"}};

	(void)state;
	run_now(&f, s, &r);
	expect_ok(&r);
	assert_string_equal(buf_str(&r.out), "hello\n");
	assert_string_equal(buf_str(&r.errs), "oops\n");
	assert_int_equal(r.reached, 1);
	assert_false(r.warm);
	assert_true(r.result.sent);
	run_free(&r);
	ssh_settings_unref(s);
}

static void names_and_ipv6_are_reached(void **state)
{
	static const char *const at[] = {"::1", "localhost", "127.0.0.2"};
	struct ssh_options o = sshd_options(&d);
	struct ssh_settings *s = settings(&o);

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct run r = {.address = at[i]};

		run_now(&f, s, &r);
		expect_ok(&r);
		run_free(&r);
	}
	ssh_settings_unref(s);
}

static void each_type_of_key_logs_in(void **state)
{
	const char *const keys[] = {d.rsa, d.ecdsa, d.locked};
	char passphrase[128];

	(void)state;
	snprintf(passphrase, sizeof(passphrase), "%s/passphrase", d.dir);
	for (size_t i = 0; i < 3; i++) {
		const char *const list[] = {d.other, keys[i], NULL};
		struct ssh_options o = sshd_options(&d);
		struct run r = {0};
		struct ssh_settings *s;

		o.keys = list;
		o.key_passphrase_file = passphrase;
		s = settings(&o);
		run_now(&f, s, &r);
		expect_ok(&r);
		run_free(&r);
		ssh_settings_unref(s);
	}
}

static void a_hosts_own_key_comes_first(void **state)
{
	const char *const none[] = {NULL};
	struct ssh_options o = sshd_options(&d);
	struct run r = {.host_key = d.ecdsa}, missing = {.host_key = "/nonexistent/id"};
	struct ssh_settings *s;

	(void)state;
	o.keys = none;
	s = settings(&o);
	run_now(&f, s, &r);
	expect_ok(&r);
	run_free(&r);
	ssh_settings_unref(s);
	expect_failed(&o, &missing, SSH_LOGIN, ERR_REFUSED, "/nonexistent/id: No such file");
}

static void a_refused_login_says_which_keys_were_tried(void **state)
{
	const char *const list[] = {d.other, NULL}, *const none[] = {NULL};
	struct ssh_options o = sshd_options(&d);
	struct run r = {0}, keyless = {0};
	char want[160];

	(void)state;
	o.keys = list;
	snprintf(want, sizeof(want), "login refused for user %s: tried id_other", d.user);
	expect_failed(&o, &r, SSH_LOGIN, ERR_REFUSED, want);
	o.keys = none;
	expect_failed(&o, &keyless, SSH_LOGIN, ERR_REFUSED, "there is no key and no agent");
}

static void a_named_key_that_is_missing_stops_the_settings(void **state)
{
	const char *const list[] = {"/nonexistent/id_x", NULL};
	struct ssh_options o = sshd_options(&d);
	struct err err = {0};

	(void)state;
	o.keys = list;
	assert_null(ssh_settings_new(&o, &err));
	assert_non_null(strstr(err.message, "/nonexistent/id_x"));
}

/* Starts an ssh-agent with a key in it; its socket is path. */
static pid_t agent_start(const char *path, const char *key)
{
	char command[512];
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 1);
		execlp("ssh-agent", "ssh-agent", "-D", "-a", path, NULL);
		_exit(127);
	}
	for (int i = 0; i < 500 && access(path, F_OK); i++)
		usleep(10000);
	snprintf(command, sizeof(command), "SSH_AUTH_SOCK=%s ssh-add -q %s", path, key);
	assert_int_equal(system(command), 0);
	return pid;
}

static void keys_of_an_agent_log_in(void **state)
{
	const char *const none[] = {NULL}, *const other[] = {d.other, NULL};
	const char *const keys[] = {d.key, d.rsa, d.ecdsa};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct ssh_options o = sshd_options(&d);
		struct run r[4] = {0};
		struct ssh_settings *s;
		char path[128];
		pid_t pid;

		snprintf(path, sizeof(path), "%s/agent%zu", d.dir, i);
		pid = agent_start(path, keys[i]);
		o.keys = i ? none : other;
		o.agent = path;
		s = settings(&o);
		for (int k = 0; k < 4; k++) {
			r[k].fresh = true; /* four logins ask the agent at once */
			run_start(&f, s, &r[k]);
		}
		for (int k = 0; k < 4; k++) {
			fixture_turn(&f, &r[k].over, 1);
			expect_ok(&r[k]);
			run_free(&r[k]);
		}
		ssh_settings_unref(s);
		kill(pid, SIGTERM);
		waitpid(pid, NULL, 0);
	}
}

/* A key that the agent has as well, or that is listed twice, is not tried twice: hosts count the tries. */
static void a_key_is_tried_once(void **state)
{
	const char *const list[] = {d.other, d.other, d.locked, NULL};
	struct ssh_options o = sshd_options(&d);
	char path[128], passphrase[128];
	struct run r = {0};
	struct ssh_settings *s;
	pid_t pid;

	(void)state;
	snprintf(path, sizeof(path), "%s/agent_other", d.dir);
	snprintf(passphrase, sizeof(passphrase), "%s/passphrase", d.dir);
	pid = agent_start(path, d.other);
	o.keys = list;
	o.key_passphrase_file = passphrase;
	o.user = "somebody-else";
	o.agent = path;
	expect_failed(&o, &r, SSH_LOGIN, ERR_REFUSED,
		      "tried id_other, id_locked");
	assert_null(strstr(r.err.message, "agent:"));
	o.user = d.user;
	s = settings(&o);
	memset(&r, 0, sizeof(r));
	run_now(&f, s, &r);
	expect_ok(&r);
	run_free(&r);
	ssh_settings_unref(s);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
}

static void an_agent_that_is_not_there_is_named(void **state)
{
	const char *const list[] = {d.other, NULL};
	struct ssh_options o = sshd_options(&d);
	struct run r = {0};

	(void)state;
	o.keys = list;
	o.agent = "/nonexistent/agent";
	expect_failed(&o, &r, SSH_LOGIN, ERR_REFUSED,
		      "tried id_other; ssh-agent /nonexistent/agent");
}

/* ---- host keys ---- */

static void an_unknown_host_is_refused_before_any_login(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct run r = {0};
	char want[160], user[80];

	(void)state;
	o.known_hosts = "/nonexistent/known_hosts";
	o.user = "nobody-knows-me";
	snprintf(want, sizeof(want), "no entry for [127.0.0.1]:%d in /nonexistent/known_hosts",
		 d.port);
	expect_failed(&o, &r, SSH_HOST_KEY, ERR_REFUSED, want);
	assert_int_equal(r.reached, 0);
	snprintf(user, sizeof(user), "userauth-request for user %s", o.user);
	assert_false(sshd_logged(&d, user));
}

static void a_changed_key_names_the_line(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct run r = {0};
	char path[128], want[200], command[512];

	(void)state;
	snprintf(path, sizeof(path), "%s/changed", d.dir);
	snprintf(command, sizeof(command),
		 "echo '# one' > %s; echo \"[127.0.0.1]:%d $(cut -d' ' -f1,2 %s.pub)\" >> %s", path,
		 d.port, d.other, path);
	assert_int_equal(system(command), 0);
	o.known_hosts = path;
	snprintf(want, sizeof(want), "host key changed: %s:2 has another ed25519 key", path);
	expect_failed(&o, &r, SSH_HOST_KEY, ERR_REFUSED, want);
}

static void the_known_type_of_key_is_asked_for(void **state)
{
	static const char *const types[] = {"ed25519", "ecdsa"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct ssh_options o = sshd_options(&d);
		struct run r = {0};
		struct ssh_settings *s;
		char path[128], command[512];

		snprintf(path, sizeof(path), "%s/only_%s", d.dir, types[i]);
		snprintf(command, sizeof(command),
			 "echo \"[127.0.0.1]:%d $(cut -d' ' -f1,2 %s/host_%s.pub)\" > %s", d.port,
			 d.dir, types[i], path);
		assert_int_equal(system(command), 0);
		o.known_hosts = path;
		s = settings(&o);
		run_now(&f, s, &r);
		expect_ok(&r);
		run_free(&r);
		ssh_settings_unref(s);
	}
}

static void accept_new_adds_a_line_once_and_off_asks_nothing(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct run r[3] = {0}, again = {0}, off = {0};
	struct ssh_settings *s;
	char path[128], command[256];

	(void)state;
	snprintf(path, sizeof(path), "%s/fresh_known_hosts", d.dir);
	o.known_hosts = path;
	o.checking = SSH_CHECK_ACCEPT_NEW;
	s = settings(&o);
	for (int i = 0; i < 3; i++) {
		r[i].fresh = true;
		run_start(&f, s, &r[i]);
	}
	for (int i = 0; i < 3; i++) {
		fixture_turn(&f, &r[i].over, 1);
		expect_ok(&r[i]);
		run_free(&r[i]);
	}
	ssh_settings_unref(s);
	snprintf(command, sizeof(command), "test $(wc -l < %s) = 1", path);
	assert_int_equal(system(command), 0);
	o.checking = SSH_CHECK_STRICT;
	s = settings(&o);
	run_now(&f, s, &again);
	expect_ok(&again);
	run_free(&again);
	ssh_settings_unref(s);
	o.checking = SSH_CHECK_OFF;
	o.known_hosts = "/nonexistent/known_hosts";
	s = settings(&o);
	run_now(&f, s, &off);
	expect_ok(&off);
	run_free(&off);
	ssh_settings_unref(s);
}

/* ---- hosts that misbehave ---- */

struct bad_host {
	int fd, port;
	const char *says;
	size_t times;
	bool close;
	pthread_t thread;
};

static void *bad_host_main(void *arg)
{
	struct bad_host *b = arg;
	int fd = accept(b->fd, NULL, NULL);
	char byte;

	for (size_t i = 0; fd >= 0 && i < b->times; i++)
		if (send(fd, b->says, strlen(b->says), MSG_NOSIGNAL) < 0)
			break;
	if (b->close)
		shutdown(fd, SHUT_WR);
	while (recv(fd, &byte, 1, 0) > 0) /* until the client has gone */
		;
	close(fd);
	return NULL;
}

static void bad_host_start(struct bad_host *b)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	b->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(b->fd, (struct sockaddr *)&at, len), 0);
	assert_int_equal(getsockname(b->fd, (struct sockaddr *)&at, &len), 0);
	b->port = ntohs(at.sin_port);
	assert_int_equal(listen(b->fd, 1), 0);
	assert_int_equal(pthread_create(&b->thread, NULL, bad_host_main, b), 0);
}

static void expect_bad(struct bad_host *b, int64_t limit_ms, int code, const char *says)
{
	struct ssh_options o = sshd_options(&d);
	struct run r = {.limit_ms = limit_ms};

	bad_host_start(b);
	r.port = b->port;
	expect_failed(&o, &r, SSH_HANDSHAKE, code, says);
	pthread_join(b->thread, NULL);
	close(b->fd);
}

static void hosts_that_misbehave_are_named_for_it(void **state)
{
	struct bad_host silent = {0}, closes = {.close = true};
	struct bad_host web = {.says = "HTTP/1.1 400 Bad Request\r\n\r\n", .times = 1,
			       .close = true};
	struct bad_host stops = {.says = "SSH-2.0-x\r\n", .times = 1};
	struct bad_host floods = {.says = "all work and no play\r\n", .times = 1000000};
	struct bad_host line = {.says = "aaaaaaaaaaaaaaaaaaaaaaaa", .times = 1000000};

	(void)state;
	expect_bad(&silent, 300, ERR_TIMEOUT, "silent before its banner for 0.3 s");
	expect_bad(&closes, 5000, ERR_REFUSED, "closed the connection before its banner");
	expect_bad(&web, 5000, ERR_PROTOCOL,
		   "no SSH server: it sent \"HTTP/1.1 400 Bad Request\"");
	expect_bad(&stops, 1500, ERR_TIMEOUT, "timed out in handshake after 1.5 s");
	expect_bad(&floods, 5000, ERR_PROTOCOL, "sent too much before its banner");
	expect_bad(&line, 5000, ERR_PROTOCOL, "sent too much before its banner");
}

static void no_common_algorithm_is_named(void **state)
{
	struct ssh_options o;
	struct run r = {0};
	struct sshd old;

	(void)state;
	assert_true(sshd_start(&old, "Ciphers aes256-cbc,3des-cbc"));
	o = sshd_options(&old);
	expect_failed(&o, &r, SSH_HANDSHAKE, ERR_REFUSED,
		      "no common algorithm: for cipher the host has only aes256-cbc,3des-cbc");
	sshd_stop(&old);
}

/* Hardened hosts, which offer one way only. */
static void hosts_with_one_algorithm_are_reached(void **state)
{
	static const char *const offers[] = {
		"Ciphers chacha20-poly1305@openssh.com", "Ciphers aes256-gcm@openssh.com",
		"Ciphers aes256-ctr\nMACs hmac-sha2-512-etm@openssh.com",
		"KexAlgorithms diffie-hellman-group16-sha512",
		"KexAlgorithms ecdh-sha2-nistp521",
	};

	(void)state;
	if (libssh2_version(0x010b01) == NULL)
		skip(); /* older ones have less */
	for (size_t i = 0; i < sizeof(offers) / sizeof(*offers); i++) {
		struct run r = {.command = {.command = "head -c 100000 /dev/zero"}};
		struct ssh_settings *s;
		struct ssh_options o;
		struct sshd host;

		assert_true(sshd_start(&host, offers[i]));
		o = sshd_options(&host);
		s = settings(&o);
		run_now(&f, s, &r);
		expect_ok(&r);
		assert_int_equal(r.out.len, 100000);
		run_free(&r);
		ssh_settings_unref(s);
		sshd_stop(&host);
	}
}

/* A host that wants new keys every few KB: they are changed in the middle of the output. */
static void output_goes_on_through_new_keys(void **state)
{
	struct run r = {.command = {.command = "head -c 3000000 /dev/zero"}};
	struct ssh_settings *s;
	struct ssh_options o;
	struct sshd host;

	(void)state;
	assert_true(sshd_start(&host, "RekeyLimit 200K"));
	o = sshd_options(&host);
	s = settings(&o);
	run_now(&f, s, &r);
	expect_ok(&r);
	assert_int_equal(r.out.len, 3000000);
	run_free(&r);
	ssh_settings_unref(s);
	sshd_stop(&host);
}

/* Some hundred key exchanges on one connection. The sanitizers look for lost memory themselves. */
static void new_keys_over_a_nist_curve_lose_no_memory(void **state)
{
#ifdef LIBSSH2_NIST_CHEAP
	struct run r = {.command = {.command = "head -c 7000000 /dev/zero"}};
	struct ssh_settings *s;
	struct ssh_options o;
	struct sshd host;
	size_t before;

	(void)state;
	assert_true(sshd_start(&host, "KexAlgorithms ecdh-sha2-nistp256\nRekeyLimit 16K"));
	o = sshd_options(&host);
	s = settings(&o);
	buf_reserve(&r.out, 8000000);
	before = mallinfo2().uordblks;
	run_now(&f, s, &r);
	expect_ok(&r);
	assert_int_equal(r.out.len, 7000000);
	if (!SANITIZED && mallinfo2().uordblks > before + 300000)
		fail_msg("%zu bytes are lost", mallinfo2().uordblks - before);
	run_free(&r);
	ssh_settings_unref(s);
	sshd_stop(&host);
#else
	(void)state;
	skip(); /* a libssh2 that is not patched: curve25519 comes first */
#endif
}

static void a_closed_port_is_a_refused_connection(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct run r = {.port = 1}, name = {.address = "no-such-host.invalid"};
	struct ssh_settings *s = settings(&o);

	(void)state;
	expect_failed(&o, &r, SSH_CONNECT, ERR_UNREACHABLE, "connection refused (127.0.0.1:1)");
	name.limit_ms = 3000; /* there may be no name server */
	name.port = 22;
	run_now(&f, s, &name);
	assert_true(name.failed);
	assert_int_equal(name.phase, SSH_RESOLVE);
	assert_non_null(strstr(name.err.message, "no address for no-such-host.invalid"));
	run_free(&name);
	ssh_settings_unref(s);
}

/* ---- keeping and sharing ---- */

static void a_kept_connection_is_used_again(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct ssh_settings *s = settings(&o);
	struct run r[4] = {{.keep = true}, {.keep = true}, {.keep = true, .fresh = true}, {0}};

	(void)state;
	for (int i = 0; i < 4; i++) {
		run_now(&f, s, &r[i]);
		expect_ok(&r[i]);
		assert_int_equal(r[i].warm, i == 1 || i == 3);
		run_free(&r[i]);
		assert_int_equal(ssh_client_counts(f.client).idle, i < 2 ? 1 : i == 2 ? 2 : 1);
	}
	ssh_settings_unref(s);
}

static void an_idle_connection_goes_after_keep(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct run r = {.keep = true};
	struct ssh_settings *s;

	(void)state;
	o.keep_ms = 200;
	s = settings(&o);
	run_now(&f, s, &r);
	expect_ok(&r);
	assert_int_equal(ssh_client_counts(f.client).idle, 1);
	fixture_turn_ms(&f, 500);
	assert_int_equal(ssh_client_counts(f.client).connections, 0);
	run_free(&r);
	ssh_settings_unref(s);
}

/* The process that serves a connection is the parent of its commands. */
static void an_idle_connection_that_the_host_ends_is_dropped(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct ssh_settings *s = settings(&o);
	struct run r = {.keep = true, .command = {.command = "echo $PPID"}};

	(void)state;
	run_now(&f, s, &r);
	expect_ok(&r);
	kill(run_pid(&r, 0), SIGKILL);
	for (int i = 0; i < 100 && ssh_client_counts(f.client).idle; i++)
		fixture_turn_ms(&f, 50);
	assert_int_equal(ssh_client_counts(f.client).connections, 0);
	run_free(&r);
	ssh_settings_unref(s);
}

static void uses_of_one_host_share_a_connection(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct run r[12] = {0};
	struct ssh_settings *s;

	(void)state;
	o.max_sessions = 2;
	s = settings(&o);
	for (int i = 0; i < 12; i++) {
		r[i].command.command = "echo x; sleep 0.02";
		run_start(&f, s, &r[i]);
	}
	assert_int_equal(ssh_client_counts(f.client).connections, 1);
	for (int i = 0; i < 12; i++) {
		fixture_turn(&f, &r[i].over, 1);
		expect_ok(&r[i]);
		assert_in_range(r[i].most_sessions, 1, 2);
		run_free(&r[i]);
	}
	assert_int_equal(ssh_client_counts(f.client).connections, 0);
	ssh_settings_unref(s);
}

/* sshd allows 3 here; to be refused a channel only means to wait. */
static void a_refused_channel_is_waited_for(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct ssh_settings *s = settings(&o);
	struct run r[10] = {0};

	(void)state;
	for (int i = 0; i < 10; i++) {
		r[i].command.command = "echo x; sleep 0.02";
		run_start(&f, s, &r[i]);
	}
	for (int i = 0; i < 10; i++) {
		fixture_turn(&f, &r[i].over, 1);
		expect_ok(&r[i]);
		run_free(&r[i]);
	}
	ssh_settings_unref(s);
}

static void places_are_given_in_turn_and_idle_ones_make_room(void **state)
{
	static const char *const at[] = {"127.0.0.1", "127.0.0.2", "::1"};
	struct ssh_options o = sshd_options(&d);
	struct run r[3] = {0};
	struct ssh_settings *s;

	(void)state;
	o.max_connections = 1;
	s = settings(&o);
	for (int i = 0; i < 3; i++) {
		r[i].address = at[i];
		r[i].keep = true;
		run_start(&f, s, &r[i]);
		assert_int_equal(ssh_client_counts(f.client).connections, 1);
	}
	for (int i = 0; i < 3; i++) {
		fixture_turn(&f, &r[i].over, 1);
		expect_ok(&r[i]);
		assert_in_range(ssh_client_counts(f.client).connections, 0, 1);
		if (i < 2)
			assert_int_equal(r[i + 1].over, 0);
		run_free(&r[i]);
	}
	ssh_settings_unref(s);
}

static void a_use_may_end_at_any_time(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct ssh_settings *s = settings(&o);

	(void)state;
	for (int ms = 0; ms < 60; ms += 4) {
		struct run r = {.fresh = true, .on_ready = (void (*)(struct run *))run_command};

		run_start(&f, s, &r);
		if (ms)
			fixture_turn_ms(&f, ms);
		if (r.exec)
			fixture_turn(&f, &r.over, 1);
		else if (r.use)
			ssh_use_end(r.use, true);
		run_free(&r);
	}
	fixture_turn_ms(&f, 20);
	assert_int_equal(ssh_client_counts(f.client).connecting, 0);
	ssh_settings_unref(s);
}

/* Two threads, as a pool has them: settings, keys, known hosts and an agent are used by both. */
struct worker {
	struct ssh_settings *settings;
	pthread_t thread;
	struct run runs[12];
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct fixture own;

	fixture_open(&own);
	for (int i = 0; i < 12; i++) {
		w->runs[i].fresh = i % 3 == 0;
		w->runs[i].keep = i % 2;
		w->runs[i].address = i % 2 ? "127.0.0.1" : "::1";
		w->runs[i].host_key = i % 4 == 3 ? d.ecdsa : NULL;
		run_start(&own, w->settings, &w->runs[i]);
	}
	for (int i = 0; i < 12; i++)
		fixture_turn(&own, &w->runs[i].over, 1);
	fixture_close(&own);
	return NULL;
}

static void threads_share_settings(void **state)
{
	const char *const other[] = {d.other, NULL};
	struct ssh_options o = sshd_options(&d);
	struct worker w[2] = {0};
	char agent[128], known[128];
	pid_t pid;

	(void)state;
	snprintf(agent, sizeof(agent), "%s/shared_agent", d.dir);
	snprintf(known, sizeof(known), "%s/shared_known_hosts", d.dir);
	pid = agent_start(agent, d.key);
	o.keys = other;
	o.agent = agent;
	o.known_hosts = known;
	o.checking = SSH_CHECK_ACCEPT_NEW;
	w[0].settings = settings(&o);
	w[1].settings = ssh_settings_ref(w[0].settings);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&w[i].thread, NULL, worker_main, &w[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(w[i].thread, NULL);
		for (int k = 0; k < 12; k++) {
			expect_ok(&w[i].runs[k]);
			run_free(&w[i].runs[k]);
		}
		ssh_settings_unref(w[i].settings);
	}
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
}

static void hold(struct run *r)
{
	(void)r;
}

static void the_end_of_the_client_ends_everything(void **state)
{
	struct ssh_options o = sshd_options(&d);
	struct ssh_settings *s = settings(&o);
	struct run held = {.on_ready = hold};
	struct run runs = {.command = {.command = "echo $$; sleep 30"}};
	struct run connects = {.address = "127.0.0.2"};
	struct fixture own;

	(void)state;
	fixture_open(&own);
	run_start(&own, s, &runs);
	run_wait_line(&runs);
	run_start(&own, s, &held); /* gets its connection and does nothing with it */
	fixture_turn(&own, &held.ready, 1);
	run_start(&own, s, &connects);
	fixture_close(&own);
	kill(-run_pid(&runs, 0), SIGKILL);
	assert_int_equal(runs.over, 1);
	assert_int_equal(runs.result.err.code, ERR_CANCELLED);
	assert_int_equal(connects.over, 1);
	assert_true(connects.failed);
	assert_int_equal(held.over, 0);
	ssh_use_end(held.use, true);
	run_free(&runs);
	run_free(&held);
	run_free(&connects);
	ssh_settings_unref(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(a_command_runs),
		T(names_and_ipv6_are_reached),
		T(each_type_of_key_logs_in),
		T(a_hosts_own_key_comes_first),
		T(a_refused_login_says_which_keys_were_tried),
		T(a_named_key_that_is_missing_stops_the_settings),
		T(keys_of_an_agent_log_in),
		T(a_key_is_tried_once),
		T(an_agent_that_is_not_there_is_named),
		T(an_unknown_host_is_refused_before_any_login),
		T(a_changed_key_names_the_line),
		T(the_known_type_of_key_is_asked_for),
		T(accept_new_adds_a_line_once_and_off_asks_nothing),
		T(hosts_that_misbehave_are_named_for_it),
		T(no_common_algorithm_is_named),
		T(hosts_with_one_algorithm_are_reached),
		T(output_goes_on_through_new_keys),
		T(new_keys_over_a_nist_curve_lose_no_memory),
		T(a_closed_port_is_a_refused_connection),
		T(a_kept_connection_is_used_again),
		T(an_idle_connection_goes_after_keep),
		T(an_idle_connection_that_the_host_ends_is_dropped),
		T(uses_of_one_host_share_a_connection),
		T(a_refused_channel_is_waited_for),
		T(places_are_given_in_turn_and_idle_ones_make_room),
		T(a_use_may_end_at_any_time),
		T(threads_share_settings),
		T(the_end_of_the_client_ends_everything),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
