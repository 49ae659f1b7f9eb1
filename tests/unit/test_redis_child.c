/* SPDX-License-Identifier: MIT */
/* Tests of runtime/redis_child.c, redis_files.c and state_dir.c with a real redis-server. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "redis_child.h"
#include "state_dir.h"
#include "support.h"

#define PATIENCE_MS 15000

static struct loop *loop;
static char top[64], dir[96];

/* ---- helpers ---- */

static int make_loop(void **state)
{
	(void)state;
	if (!support_make_dir(top, sizeof(top)))
		return -1;
	signal(SIGPIPE, SIG_IGN);
	log_open("/dev/null", NULL, LOG_NONE, NULL);
	loop = loop_new(NULL);
	return loop ? 0 : -1;
}

/* Each test has a directory of its own: one that fails leaves its server behind until the end. */
static int make_dir(void **state)
{
	static int n;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/state%d", top, ++n);
	return mkdir(dir, 0700);
}

static int free_loop(void **state)
{
	char command[256];

	(void)state;
	loop_free(loop);
	log_close();
	snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -rf %s", top, top);
	return system(command);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void turn_once(void)
{
	struct timer tick;

	assert_int_equal(timer_init(&tick, loop_base(loop), nothing, NULL), 0);
	timer_set(&tick, 20);
	event_base_loop(loop_base(loop), EVLOOP_ONCE);
	timer_deinit(&tick);
}

static void wait_for(const int *flag)
{
	int64_t end = loop_now_ms() + PATIENCE_MS;

	while (!*flag && loop_now_ms() < end)
		turn_once();
	assert_true(*flag);
}

struct start {
	int done;
	struct err why; /* code 0: it runs */
};

static void on_start(void *arg, const struct err *why)
{
	struct start *s = arg;

	assert_int_equal(s->done, 0);
	s->done = 1;
	if (why)
		s->why = *why;
}

static struct redis_child *begin(struct start *s, const char *server)
{
	struct redis_child_options o = { .dir = dir, .server = server, .memory = 64 << 20,
					 .on_start = on_start, .arg = s };
	struct err err;
	struct redis_child *c = redis_child_new(loop, &o, &err);

	if (!c)
		print_message("%s\n", err.message);
	assert_non_null(c);
	memset(s, 0, sizeof(*s));
	return c;
}

static struct redis_child *begin_well(void)
{
	struct start s;
	struct redis_child *c = begin(&s, NULL);

	wait_for(&s.done);
	if (s.why.code)
		print_message("%s\n", s.why.message);
	assert_int_equal(s.why.code, 0);
	return c;
}

static void on_end(void *arg)
{
	*(int *)arg = 1;
}

static void end_well(struct redis_child *c)
{
	int done = 0;

	redis_child_stop(c, 10000, on_end, &done);
	wait_for(&done);
	assert_int_equal(redis_child_pid(c), 0);
	redis_child_free(c);
}

/* A blocking command, for what the server holds; the result as text. */
static void ask(const struct redis_child *c, char *out, size_t cap, const char *command)
{
	const struct redis_address *a = redis_child_address(c);
	redisContext *r = redisConnectUnix(a->socket);
	int64_t end = loop_now_ms() + PATIENCE_MS;
	redisReply *reply;

	while (r && r->err && loop_now_ms() < end) { /* its socket is there a moment before it listens */
		redisFree(r);
		turn_once();
		r = redisConnectUnix(a->socket);
	}
	assert_non_null(r);
	assert_int_equal(r->err, 0);
	freeReplyObject(redisCommand(r, "AUTH %s", a->password));
	reply = redisCommand(r, command);
	while (reply && reply->type == REDIS_REPLY_ERROR && !strncmp(reply->str, "LOADING", 7) &&
	       loop_now_ms() < end) {
		freeReplyObject(reply);
		turn_once();
		reply = redisCommand(r, command);
	}
	assert_non_null(reply);
	if (reply->type == REDIS_REPLY_INTEGER)
		snprintf(out, cap, "%lld", reply->integer);
	else
		snprintf(out, cap, "%s", reply->str ? reply->str : "");
	freeReplyObject(reply);
	redisFree(r);
}

static void assert_answer(const struct redis_child *c, const char *command, const char *expected)
{
	char out[256];

	ask(c, out, sizeof(out), command);
	assert_string_equal(out, expected);
}

static mode_t mode_of(const char *name)
{
	char path[200];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* The append-only file that grows. */
static void aof_path(char *out, size_t cap)
{
	char path[128];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/appendonlydir", dir);
	d = opendir(path);
	assert_non_null(d);
	*out = '\0';
	while ((e = readdir(d)))
		if (strstr(e->d_name, ".incr.aof"))
			snprintf(out, cap, "%.120s/%.100s", path, e->d_name);
	closedir(d);
	assert_true(*out);
}

static off_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -1 : st.st_size;
}

/* Whether the process has a file open whose path ends so. */
static bool has_open(pid_t pid, const char *tail)
{
	char path[300], target[300];
	struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		if (n >= (ssize_t)strlen(tail) && !strcmp(target + n - strlen(tail), tail))
			found = true;
	}
	closedir(d);
	return found;
}

/* It runs no more; nobody may have reaped it. */
static bool gone(pid_t pid)
{
	char path[64], text[256];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (!f)
		return true;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return strstr(text, ") Z ") != NULL;
}

/* ---- starting and ending ---- */

static void runs_behind_a_socket_that_only_we_can_use(void **state)
{
	struct redis_child *c;
	char line[512], path[128], *end;
	int fd, stray;
	ssize_t n;

	(void)state;
	snprintf(path, sizeof(path), "%s/stray", top);
	stray = open(path, O_RDWR | O_CREAT, 0600); /* handed on to every child that does not close it */
	assert_true(stray >= 0);
	c = begin_well();
	assert_int_equal(mode_of("."), 0700);
	assert_int_equal(mode_of("redis.sock"), 0600);
	assert_int_equal(mode_of("redis.conf"), 0600);
	assert_int_equal(mode_of("redis.password"), 0600);
	assert_answer(c, "CONFIG GET port", "");
	assert_answer(c, "SET k v", "OK");
	/* The password is not in its arguments. */
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)redis_child_pid(c));
	fd = open(path, O_RDONLY);
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	assert_true(n > 0);
	for (end = line; end < line + n; end++)
		*end = *end ? *end : ' ';
	line[n] = '\0';
	assert_null(strstr(line, redis_child_address(c)->password));
	assert_false(has_open(redis_child_pid(c), "/stray"));
	assert_true(has_open(redis_child_pid(c), "/redis.lock"));
	close(stray);
	assert_int_equal(getpgid(redis_child_pid(c)), redis_child_pid(c));
	end_well(c);
}

static void wants_a_password_and_keeps_it(void **state)
{
	struct redis_child *c = begin_well();
	redisContext *r = redisConnectUnix(redis_child_address(c)->socket);
	redisReply *reply = redisCommand(r, "GET k");
	char password[128];

	(void)state;
	assert_int_equal(reply->type, REDIS_REPLY_ERROR);
	freeReplyObject(reply);
	redisFree(r);
	snprintf(password, sizeof(password), "%s", redis_child_address(c)->password);
	assert_int_equal(strlen(password), 64);
	end_well(c);
	c = begin_well();
	assert_string_equal(redis_child_address(c)->password, password);
	end_well(c);
}

static void what_it_had_acknowledged_is_there_after_a_kill(void **state)
{
	struct redis_child *c = begin_well();
	pid_t first = redis_child_pid(c);
	int64_t end = loop_now_ms() + PATIENCE_MS;
	struct stat st;

	(void)state;
	assert_answer(c, "SET before kill", "OK");
	kill(first, SIGKILL);
	while ((redis_child_pid(c) == first || !redis_child_pid(c) ||
		stat(redis_child_address(c)->socket, &st)) && loop_now_ms() < end)
		turn_once();
	assert_int_not_equal(redis_child_pid(c), first);
	assert_answer(c, "GET before", "kill");
	end_well(c);
}

static void free_ends_it_too(void **state)
{
	struct redis_child *c = begin_well();
	pid_t pid = redis_child_pid(c);

	(void)state;
	assert_answer(c, "SET k freed", "OK");
	redis_child_free(c);
	assert_true(gone(pid));
	c = begin_well();
	assert_answer(c, "GET k", "freed");
	end_well(c);
}

static void may_be_stopped_before_it_runs(void **state)
{
	struct start s;
	struct redis_child *c = begin(&s, NULL);

	(void)state;
	end_well(c);
	assert_int_equal(s.done, 0);
	c = begin(&s, NULL);
	turn_once();
	redis_child_free(c);
	assert_int_equal(s.done, 0);
}

/* A process that starts the server, tells its pid and waits to be killed. */
static pid_t start_owner(pid_t *server)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		struct redis_child_options o = { .dir = dir, .on_start = on_start };
		struct start s = { 0 };
		struct redis_child *c;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		loop = loop_new(NULL);
		o.arg = &s;
		c = redis_child_new(loop, &o, NULL);
		while (c && !s.done)
			event_base_loop(loop_base(loop), EVLOOP_ONCE);
		*server = c ? redis_child_pid(c) : 0;
		if (write(fds[1], server, sizeof(*server)) != sizeof(*server))
			_exit(1);
		pause();
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], server, sizeof(*server)), sizeof(*server));
	close(fds[0]);
	assert_true(*server > 0);
	return pid;
}

static void a_new_one_starts_after_the_old_owner_was_killed(void **state)
{
	pid_t server, owner = start_owner(&server);
	struct redis_child *c;

	(void)state;
	kill(owner, SIGKILL);
	waitpid(owner, NULL, 0);
	c = begin_well(); /* at once: it waits for the old server to be gone */
	assert_true(gone(server));
	assert_int_not_equal(redis_child_pid(c), server);
	end_well(c);
}

static void waits_for_an_old_server_and_never_runs_beside_it(void **state)
{
	char path[128];
	struct start s;
	struct redis_child *c;
	int fd;

	(void)state;
	/* A server holds this lock for as long as it lives; here we are that server. */
	snprintf(path, sizeof(path), "%s/redis.lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	c = begin(&s, NULL);
	for (int i = 0; i < 20; i++)
		turn_once();
	assert_int_equal(s.done, 0);
	assert_int_equal(redis_child_pid(c), 0);
	close(fd);
	wait_for(&s.done);
	assert_int_equal(s.why.code, 0);
	end_well(c);
}

/* ---- what cannot work ---- */

static void says_what_is_missing(void **state)
{
	struct redis_child_options o = { .dir = dir, .server = "no-such-server-here" };
	char deep[200];
	struct err err;

	(void)state;
	assert_null(redis_child_new(loop, &o, &err));
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_non_null(strstr(err.message, "no-such-server-here"));
	o.server = "/nonexistent/redis-server";
	assert_null(redis_child_new(loop, &o, &err));
	assert_int_equal(err.code, ERR_NOT_FOUND);
	snprintf(deep, sizeof(deep), "%s/%0*d", top, 100, 7);
	assert_int_equal(mkdir(deep, 0700), 0);
	o.server = NULL;
	o.dir = deep;
	assert_null(redis_child_new(loop, &o, &err));
	assert_int_equal(err.code, ERR_INVALID);
	assert_non_null(strstr(err.message, "107"));
}

static void a_server_that_ends_at_once_is_told_with_its_words(void **state)
{
	char script[128];
	struct start s;
	struct redis_child *c;
	FILE *f;

	(void)state;
	snprintf(script, sizeof(script), "%s/server.sh", top);
	f = fopen(script, "w");
	fputs("#!/bin/sh\necho 'no room in the boat' >&2\nexit 3\n", f);
	fclose(f);
	chmod(script, 0700);
	c = begin(&s, script);
	wait_for(&s.done);
	assert_int_equal(s.why.code, ERR_REFUSED);
	assert_non_null(strstr(s.why.message, "exit code 3"));
	assert_non_null(strstr(s.why.message, "no room in the boat"));
	redis_child_free(c);
}

/* ---- damage ---- */

static void a_file_cut_at_its_tail_is_said_and_the_rest_is_there(void **state)
{
	static const off_t cuts[] = { 1, 7, 40, 200 };
	struct redis_child *c = begin_well();
	char path[300], command[64];

	(void)state;
	assert_string_equal(redis_child_notice(c), "");
	assert_answer(c, "FLUSHALL", "OK");
	for (int i = 0; i < 50; i++) {
		snprintf(command, sizeof(command), "SET key:%02d value", i);
		assert_answer(c, command, "OK");
	}
	end_well(c);
	for (size_t i = 0; i < sizeof(cuts) / sizeof(*cuts); i++) {
		aof_path(path, sizeof(path));
		assert_int_equal(truncate(path, size_of(path) - cuts[i]), 0);
		c = begin_well();
		assert_non_null(strstr(redis_child_notice(c), "cut at its tail"));
		assert_non_null(strstr(redis_child_notice(c), "bytes were no whole write"));
		assert_answer(c, "GET key:30", "value");
		end_well(c);
	}
	c = begin_well();
	assert_string_equal(redis_child_notice(c), ""); /* of this start only */
	end_well(c);
}

static void a_file_broken_in_the_middle_is_refused_and_left_alone(void **state)
{
	struct redis_child *c = begin_well();
	struct start s;
	char path[300], number[12];
	off_t size;
	int fd;

	(void)state;
	for (int i = 1; i <= 20; i++) {
		snprintf(number, sizeof(number), "%d", i);
		assert_answer(c, "INCR n", number);
	}
	end_well(c);
	aof_path(path, sizeof(path));
	size = size_of(path);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "XXXXXXXXXX", 10, size / 2), 10);
	close(fd);
	c = begin(&s, NULL);
	wait_for(&s.done);
	assert_int_equal(s.why.code, ERR_REFUSED);
	assert_non_null(strstr(s.why.message, "exit code 1"));
	assert_non_null(strstr(s.why.message, "append only file"));
	assert_int_equal(size_of(path), size);
	redis_child_free(c);
}

static void its_log_is_bounded(void **state)
{
	struct redis_child *c;
	char path[128];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/redis.log", dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 11 << 20), 0);
	close(fd);
	c = begin_well();
	assert_in_range(size_of(path), 1, 100000);
	end_well(c);
}

/* ---- the directory ---- */

static void a_directory_has_one_owner_who_is_named(void **state)
{
	char path[128], pid[32];
	struct err err;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/deep/er", top);
	fd = state_dir_open(path, &err);
	assert_true(fd >= 0);
	assert_int_equal(state_dir_open(path, &err), -ERR_REFUSED);
	snprintf(pid, sizeof(pid), "pid %d", (int)getpid());
	assert_non_null(strstr(err.message, pid));
	assert_non_null(strstr(err.message, path));
	close(fd);
	fd = state_dir_open(path, &err);
	assert_true(fd >= 0);
	close(fd);
}

static void a_directory_that_others_may_read_is_closed_to_them(void **state)
{
	char path[128];
	struct stat st;
	struct err err;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/open", top);
	assert_int_equal(mkdir(path, 0755), 0);
	fd = state_dir_open(path, &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

static void a_directory_that_is_none_is_refused(void **state)
{
	char path[128];
	struct err err;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", top);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_true(state_dir_open(path, &err) < 0);
	assert_non_null(strstr(err.message, path));
	snprintf(path, sizeof(path), "%s/file/below", top);
	assert_true(state_dir_open(path, &err) < 0);
	assert_true(state_dir_open("/proc/exed", &err) < 0);
	if (geteuid() == 0) {
		snprintf(path, sizeof(path), "%s/others", top);
		assert_int_equal(mkdir(path, 0700), 0);
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_int_equal(state_dir_open(path, &err), -ERR_REFUSED);
		assert_non_null(strstr(err.message, "65534"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(runs_behind_a_socket_that_only_we_can_use, make_dir),
		cmocka_unit_test_setup(wants_a_password_and_keeps_it, make_dir),
		cmocka_unit_test_setup(what_it_had_acknowledged_is_there_after_a_kill, make_dir),
		cmocka_unit_test_setup(free_ends_it_too, make_dir),
		cmocka_unit_test_setup(may_be_stopped_before_it_runs, make_dir),
		cmocka_unit_test_setup(a_new_one_starts_after_the_old_owner_was_killed, make_dir),
		cmocka_unit_test_setup(waits_for_an_old_server_and_never_runs_beside_it, make_dir),
		cmocka_unit_test_setup(says_what_is_missing, make_dir),
		cmocka_unit_test_setup(a_server_that_ends_at_once_is_told_with_its_words, make_dir),
		cmocka_unit_test_setup(a_file_cut_at_its_tail_is_said_and_the_rest_is_there, make_dir),
		cmocka_unit_test_setup(a_file_broken_in_the_middle_is_refused_and_left_alone, make_dir),
		cmocka_unit_test_setup(its_log_is_bounded, make_dir),
		cmocka_unit_test_setup(a_directory_has_one_owner_who_is_named, make_dir),
		cmocka_unit_test_setup(a_directory_that_others_may_read_is_closed_to_them, make_dir),
		cmocka_unit_test_setup(a_directory_that_is_none_is_refused, make_dir),
	};

	return cmocka_run_group_tests(tests, make_loop, free_loop);
}
