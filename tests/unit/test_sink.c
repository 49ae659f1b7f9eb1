/* SPDX-License-Identifier: MIT */
/* Tests of runtime/sink.c: a fan-out of local commands whose records go to a real private redis-server
 * with the functions of the store, which is killed in the middle. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "redis.h"
#include "redis_child.h"
#include "sink.h"
#include "support.h"

#define HOSTS 300

static struct loop *loop;
static struct pool *pool;
static struct fanouts *fanouts;
static struct redis_child *server;
static struct redis *redis;
static char dir[64], *library, incarnation[24], jid[40];
static int fds, jobs;

/* ---- the store ---- */

static int up_count;

static void on_state(void *arg, bool up, const struct err *why)
{
	(void)arg;
	(void)why;
	up_count += up;
}

static redisReply *answer;
static int answered;

static void on_answer(void *arg, const struct redisReply *reply, const struct err *err)
{
	(void)arg;
	(void)err;
	answer = reply ? redis_reply_take(reply) : NULL;
	answered = 1;
}

/* FCALL of exed_1_NAME with arguments in one text, split at blanks (- is an empty one); again until redis
 * takes it. */
static redisReply *store(const char *name, const char *text)
{
	int64_t end = loop_now_ms() + 10000;
	char function[64], *copy = strdup(text);
	const char *argv[64] = { "FCALL", function, "0" };
	int argc = 3;

	snprintf(function, sizeof(function), "exed_1_%s", name);
	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
		argv[argc++] = strcmp(word, "-") ? word : "";
	answer = NULL;
	while (!answer && loop_now_ms() < end) {
		answered = 0;
		if (redis_call(redis, argc, argv, NULL, on_answer, NULL, 0, NULL))
			support_turn(loop, 20);
		else
			assert_true(support_turn_to(loop, &answered, 1));
	}
	free(copy);
	assert_non_null(answer);
	if (answer->type == REDIS_REPLY_ERROR)
		fail_msg("%s: %s", name, answer->str);
	return answer;
}

/* Makes a job of HOSTS targets in one slice and takes it: its epoch is 1. */
static void make_job(void)
{
	char args[512];

	snprintf(jid, sizeof(jid), "00000000-0000-4000-8000-%012d", ++jobs);
	snprintf(args, sizeof(args),
		 "%s 1000000 n1 %s 1 %d none 1 0 - - 1000 0 0 1 0 %d 1 [\"names\"] 0", jid,
		 incarnation, HOSTS, HOSTS);
	redis_reply_free(store("create", args));
	snprintf(args, sizeof(args), "n1 %s 100", incarnation); /* one may have been handed back */
	redis_reply_free(store("take", args));
}

struct results {
	unsigned char records[HOSTS];
	size_t bytes[HOSTS]; /* of parts */
	int status[HOSTS];
	int nrecords;
};

static long long value_of(const redisReply *r)
{
	return r->type == REDIS_REPLY_INTEGER ? r->integer : strtoll(r->str, NULL, 10);
}

static void note_row(struct results *res, const redisReply *row)
{
	long long index = value_of(row->element[1]);

	assert_in_range(index, 0, HOSTS - 1);
	if (!strcmp(row->element[2]->str, "record")) {
		res->records[index]++;
		res->status[index] = (int)value_of(row->element[4]);
		res->nrecords++;
	} else {
		const char *entry = row->element[5]->str;
		const char *body = strchr(entry, '\n');
		unsigned long long offset;
		int stream;

		assert_int_equal(sscanf(entry, "%d %llu\n", &stream, &offset), 2);
		assert_int_equal(offset, res->bytes[index]);
		res->bytes[index] += row->element[5]->len - (size_t)(body + 1 - entry);
	}
}

static void read_results(struct results *res)
{
	long long after = 0;

	memset(res, 0, sizeof(*res));
	for (;;) {
		char args[128];
		redisReply *page;
		size_t n;

		snprintf(args, sizeof(args), "%s %lld 100 4000000", jid, after);
		page = store("page", args);
		n = page->elements;
		for (size_t i = 2; i < n; i++) {
			long long id = value_of(page->element[i]->element[0]);

			assert_int_equal(id, after + 1); /* dense */
			after = id;
			note_row(res, page->element[i]);
		}
		redis_reply_free(page);
		if (n <= 2)
			return;
	}
}

/* ---- a run ---- */

struct run {
	struct sink *sink;
	struct fanout *fanout;
	int ended;
	size_t unstarted;
};

static void on_end(void *arg, size_t unstarted)
{
	struct run *r = arg;

	r->ended = 1;
	r->unstarted = unstarted;
}

static const struct fanout_ops ops = { on_end, NULL };

static void start(struct run *r, const char *command, int64_t epoch, unsigned window)
{
	static const struct verdict verdicts[] = { { 0, STATUS_OK } };
	struct fanout_plan plan = {
		.transport = FANOUT_LOCAL,
		.command = command,
		.group = "job",
		.window = window,
		.rules = { .verdicts = verdicts, .nverdicts = 1, .otherwise = STATUS_FAILED,
			   .output_cap = 1 << 20 },
	};
	struct sink_slice slice = { .jid = jid, .epoch = epoch, .job_output = 100 << 20,
				    .marks = true };
	struct fanout_target targets[HOSTS] = { 0 };

	for (unsigned i = 0; i < HOSTS; i++)
		targets[i].index = i;
	*r = (struct run){ 0 };
	r->sink = sink_new(loop, redis, &slice);
	assert_non_null(r->sink);
	r->fanout = fanout_start(fanouts, &plan, NULL, targets, HOSTS, sink_fanout_ops(r->sink),
				 r->sink, &ops, r, NULL);
	assert_non_null(r->fanout);
	sink_attach(r->sink, r->fanout);
}

static void finish(struct run *r)
{
	assert_true(support_turn_to(loop, &r->ended, 1));
}

static bool some_finished(void *arg)
{
	return fanouts_counts(fanouts).finished >= *(uint64_t *)arg;
}

static void wait_for_finished(uint64_t more)
{
	uint64_t n = fanouts_counts(fanouts).finished + more;

	assert_true(support_turn_until(loop, 20000, some_finished, &n));
}

static void kill_server(void)
{
	pid_t pid = redis_child_pid(server);

	if (pid > 0)
		kill(pid, SIGKILL);
}

/* ---- tests ---- */

static void every_record_arrives_once(void **state)
{
	struct results res;
	struct err err;
	struct run r;

	(void)state;
	make_job();
	start(&r, "echo hello", 1, 32);
	finish(&r);
	assert_int_equal(sink_result(r.sink, &err), 0);
	sink_unref(r.sink);
	read_results(&res);
	assert_int_equal(res.nrecords, HOSTS);
	for (int i = 0; i < HOSTS; i++) {
		assert_int_equal(res.records[i], 1);
		assert_int_equal(res.status[i], STATUS_OK);
	}
}

static void records_arrive_once_though_redis_is_killed_again_and_again(void **state)
{
	struct results res;
	struct err err;
	struct run r;

	(void)state;
	make_job();
	/* Parts too: 100,000 bytes from each. */
	start(&r, "head -c 100000 /dev/zero | tr '\\0' x", 1, 8);
	for (int i = 0; i < 4; i++) {
		wait_for_finished(30);
		kill_server();
	}
	finish(&r);
	assert_int_equal(sink_result(r.sink, &err), 0);
	sink_unref(r.sink);
	read_results(&res);
	assert_int_equal(res.nrecords, HOSTS);
	for (int i = 0; i < HOSTS; i++) {
		assert_int_equal(res.records[i], 1);
		assert_int_equal(res.bytes[i], 100000);
		assert_int_equal(res.status[i], STATUS_OK);
	}
}

static void nothing_starts_while_redis_is_away(void **state)
{
	char path[128], command[256];
	struct results res;
	struct run r;

	(void)state;
	make_job();
	snprintf(path, sizeof(path), "%s/ran", dir);
	snprintf(command, sizeof(command), "echo x >> %s", path);
	kill_server();
	start(&r, command, 1, 16);
	support_turn(loop, 5);
	assert_int_not_equal(access(path, F_OK), 0);
	finish(&r);
	sink_unref(r.sink);
	read_results(&res);
	assert_int_equal(res.nrecords, HOSTS);
}

static void a_slice_of_another_owner_is_given_up_without_a_trace(void **state)
{
	struct results res;
	struct err err;
	struct run r;

	(void)state;
	make_job();
	start(&r, "true", 7, 16);
	finish(&r);
	assert_int_equal(sink_result(r.sink, &err), -ERR_REFUSED);
	assert_non_null(strstr(err.message, "STALE"));
	sink_unref(r.sink);
	read_results(&res);
	assert_int_equal(res.nrecords, 0);
}

static void a_slice_that_is_lost_on_the_way_ends_what_runs(void **state)
{
	struct results res;
	char args[64];
	struct err err;
	struct run r;
	int before;

	(void)state;
	make_job();
	start(&r, "sleep 0.02", 1, 8);
	wait_for_finished(40);
	snprintf(args, sizeof(args), "%s 0 1", jid);
	redis_reply_free(store("hand_back", args)); /* the epoch is 2 now */
	read_results(&res);
	before = res.nrecords;
	finish(&r);
	assert_int_equal(sink_result(r.sink, &err), -ERR_REFUSED);
	sink_unref(r.sink);
	assert_true(r.unstarted > 0);
	read_results(&res);
	assert_int_equal(res.nrecords, before);
}

static void a_job_that_was_stopped_is_cancelled_and_the_rest_skipped(void **state)
{
	struct results res;
	char args[128];
	struct err err;
	int skipped = 0;
	struct run r;

	(void)state;
	make_job();
	start(&r, "sleep 0.02", 1, 8);
	wait_for_finished(40);
	snprintf(args, sizeof(args), "%s 2000000 enough n1 %s", jid, incarnation);
	redis_reply_free(store("cancel", args));
	finish(&r);
	assert_int_equal(sink_result(r.sink, &err), 0);
	sink_unref(r.sink);
	read_results(&res);
	assert_int_equal(res.nrecords, HOSTS);
	for (int i = 0; i < HOSTS; i++) {
		assert_int_equal(res.records[i], 1);
		skipped += res.status[i] == STATUS_SKIPPED;
	}
	assert_in_range(skipped, HOSTS / 2, HOSTS - 40);
}

static void a_sink_that_is_let_go_early_lives_until_its_calls_are_answered(void **state)
{
	struct results res;
	struct run r;

	(void)state;
	make_job();
	start(&r, "true", 1, 16);
	wait_for_finished(HOSTS);
	finish(&r);
	sink_unref(r.sink);
	support_turn(loop, 400);
	read_results(&res);
	assert_int_equal(res.nrecords, HOSTS);
}

/* ---- start and end ---- */

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 1 << 18);

	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 18) - 1, f) > 0);
	fclose(f);
	return text;
}

static void on_started(void *arg, const struct err *why)
{
	*(int *)arg = why ? -1 : 1;
	if (why)
		print_message("%s\n", why->message);
}

static int open_all(void **state)
{
	struct redis_child_options o = { .dir = dir, .on_start = on_started };
	struct fanouts_options fo = { 64, 64 << 20 };
	struct redis_options ro = { .on_state = on_state };
	redisReply *reply;
	struct err err;
	int started = 0;

	(void)state;
	fds = support_count_fds();
	signal(SIGPIPE, SIG_IGN);
	log_open("/dev/null", NULL, LOG_ERROR, NULL);
	if (!support_make_dir(dir, sizeof(dir)))
		return -1;
	library = read_file("lua/store/functions.lua");
	loop = loop_new(&err);
	pool = pool_new(loop, 1, &err);
	fanouts = fanouts_new(loop, pool, &fo, &err);
	o.arg = &started;
	server = redis_child_new(loop, &o, &err);
	if (!server || !support_turn_to(loop, &started, 1))
		return -1;
	ro.address = redis_child_address(server);
	ro.library = library;
	redis = redis_new(loop, &ro, &err);
	if (!redis || !support_turn_to(loop, &up_count, 1))
		return -1;
	reply = store("register", "n1 test");
	snprintf(incarnation, sizeof(incarnation), "%lld", value_of(reply));
	redis_reply_free(reply);
	return 0;
}

static void set_flag(void *arg)
{
	*(int *)arg = 1;
}

static int close_all(void **state)
{
	char command[96];
	int stopped = 0;

	(void)state;
	fanouts_end_all(fanouts);
	redis_free(redis);
	redis_child_stop(server, 10000, set_flag, &stopped);
	if (!support_turn_to(loop, &stopped, 1))
		return -1;
	redis_child_free(server);
	pool_free(pool);
	fanouts_free(fanouts);
	loop_free(loop);
	free(library);
	log_close();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) || support_has_children() || support_count_fds() != fds;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record_arrives_once),
		cmocka_unit_test(records_arrive_once_though_redis_is_killed_again_and_again),
		cmocka_unit_test(nothing_starts_while_redis_is_away),
		cmocka_unit_test(a_slice_of_another_owner_is_given_up_without_a_trace),
		cmocka_unit_test(a_slice_that_is_lost_on_the_way_ends_what_runs),
		cmocka_unit_test(a_job_that_was_stopped_is_cancelled_and_the_rest_skipped),
		cmocka_unit_test(a_sink_that_is_let_go_early_lives_until_its_calls_are_answered),
	};

	return cmocka_run_group_tests_name("sink", tests, open_all, close_all);
}
