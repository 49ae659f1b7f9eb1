/* SPDX-License-Identifier: MIT */
/* Tests of runtime/fanout.c and runtime/host_run.c, with commands on this machine and with a simulated
 * SSH (fake_ssh.h) on the I/O threads, and with a sink of our own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_ssh.h"
#include "fanout.h"
#include "log.h"
#include "support.h"

#define MAX_TARGETS 20000
/* Of target 0 of an open fan-out; target i has the effect that is i more. */
#define FIRST_EFFECT 1000

/* ---- a sink ---- */

struct sink_of_ours {
	struct deferred answer;
	struct fanout *fanout;
	bool holds_records, holds_marks, refuses; /* how it answers */
	struct entry *held, **held_last;
	unsigned asked[MAX_TARGETS];
	size_t nasked, nanswered;
	unsigned char records[MAX_TARGETS], parts[MAX_TARGETS];
	int status[MAX_TARGETS];
	int nrecords, ended, taken;
	size_t bytes, unstarted;
	char text[4096]; /* of the last record */
	int order[MAX_TARGETS], norder;
	unsigned worst_running;
};

static struct loop *loop;
static struct pool *pool;
static struct fanouts *fanouts;
static int fds;

static void answer(struct deferred *d)
{
	struct sink_of_ours *s = (struct sink_of_ours *)d;

	if (!s->holds_marks && s->nanswered < s->nasked) {
		size_t n = s->nasked - s->nanswered;

		s->nanswered = s->nasked;
		fanout_marked(s->fanout, n, !s->refuses);
	}
	if (!s->holds_records && s->held) {
		struct entry *list = s->held;

		s->held = NULL;
		s->held_last = &s->held;
		fanout_taken(s->fanout, list);
	}
}

static void on_mark(void *arg, const struct fanout_mark *marks, size_t n, bool again)
{
	struct sink_of_ours *s = arg;

	(void)again;
	for (size_t i = 0; i < n; i++) {
		assert_true(!marks[i].effect || marks[i].effect == FIRST_EFFECT + marks[i].index);
		s->asked[s->nasked++] = marks[i].index;
	}
	loop_defer(loop, &s->answer);
}

static void read_record(struct sink_of_ours *s, const struct entry *e)
{
	json_t *json = json_loadb(e->data, e->len, JSON_ALLOW_NUL, NULL);

	assert_non_null(json);
	json_decref(json);
	s->records[e->index]++;
	s->status[e->index] = e->status;
	s->order[s->norder++] = (int)e->index;
	s->nrecords++;
	snprintf(s->text, sizeof(s->text), "%.*s", (int)e->len, e->data);
}

static void on_append(void *arg, struct entry *list)
{
	struct sink_of_ours *s = arg;

	*s->held_last = list;
	for (struct entry *e = list; e; e = e->next) {
		s->bytes += e->len;
		if (e->kind == ENTRY_RECORD)
			read_record(s, e);
		else
			s->parts[e->index]++;
		s->held_last = &e->next;
	}
	loop_defer(loop, &s->answer);
}

static void on_ended(void *arg, size_t unstarted)
{
	struct sink_of_ours *s = arg;

	assert_null(s->held);
	s->ended++;
	s->unstarted = unstarted;
	s->fanout = NULL;
}

static const struct sink_ops sink_with_marks = { on_mark, on_append };
static const struct sink_ops sink_without_marks = { NULL, on_append };
static const struct fanout_ops end_ops = { on_ended, NULL };

static bool on_taken(void *arg, struct entry *record)
{
	struct sink_of_ours *s = arg;

	assert_int_equal(record->effect, FIRST_EFFECT + record->index);
	s->taken++;
	if (record->index % 2)
		return false; /* the fan-out frees it */
	entry_free(record);
	return true;
}

static const struct fanout_ops open_ops = { on_ended, on_taken };

/* ---- helpers ---- */

static const struct verdict verdicts[] = { { 0, STATUS_OK } };

static struct fanout_plan local_plan(const char *command)
{
	return (struct fanout_plan){
		.transport = FANOUT_LOCAL,
		.command = command,
		.group = "job",
		.connect_limit_ms = 1000,
		.rules = { .verdicts = verdicts, .nverdicts = 1, .otherwise = STATUS_FAILED,
			   .output_cap = 1 << 20 },
	};
}

static struct fanout_plan ssh_plan(const char *command)
{
	struct fanout_plan plan = local_plan(command);

	plan.transport = FANOUT_SSH;
	return plan;
}

static struct sink_of_ours *new_sink(void)
{
	struct sink_of_ours *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->answer.run = answer;
	s->held_last = &s->held;
	return s;
}

static void free_sink(struct sink_of_ours *s)
{
	loop_undefer(loop, &s->answer);
	free(s);
}

/* What all targets of the next fan-out have of their own; one value is each one's number. */
static const struct host_own *own;

static struct host_own *own_of(size_t i)
{
	char number[16], *values[] = { number, NULL };
	struct host_own mine;

	if (!own)
		return NULL;
	mine = *own;
	snprintf(number, sizeof(number), "it's %zu", i);
	mine.values = values;
	return host_own_copy(&mine);
}

static void start(struct sink_of_ours *s, const struct fanout_plan *plan, size_t n, bool marks)
{
	struct fanout_target *targets = calloc(n + 1, sizeof(*targets));
	struct err err;

	for (size_t i = 0; i < n; i++) {
		char name[32];

		snprintf(name, sizeof(name), "host%zu", i);
		targets[i].index = (unsigned)i;
		targets[i].own = own_of(i);
		if (plan->transport == FANOUT_SSH)
			targets[i].host = ssh_host_new(&(struct ssh_host_spec){ .name = name });
	}
	s->fanout = fanout_start(fanouts, plan, NULL, targets, n,
				 marks ? &sink_with_marks : &sink_without_marks, s, &end_ops, s,
				 &err);
	assert_non_null(s->fanout);
	for (size_t i = 0; i < n; i++)
		ssh_host_unref(targets[i].host);
	free(targets);
}

static bool has_ended(void *arg)
{
	struct sink_of_ours *s = arg;
	unsigned running = fanouts_counts(fanouts).running;

	if (running > s->worst_running)
		s->worst_running = running;
	return s->ended;
}

static void finish(struct sink_of_ours *s)
{
	assert_true(support_turn_until(loop, 30000, has_ended, s));
	assert_int_equal(s->ended, 1);
}

static void expect_one_record_each(const struct sink_of_ours *s, size_t n, int status)
{
	assert_int_equal(s->nrecords, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(s->records[i], 1);
		if (status >= 0)
			assert_int_equal(s->status[i], status);
	}
}

static int count_status(const struct sink_of_ours *s, size_t n, int status)
{
	int found = 0;

	for (size_t i = 0; i < n; i++)
		found += s->records[i] && s->status[i] == status;
	return found;
}

static bool records_arrived(void *arg)
{
	return ((struct sink_of_ours *)arg)->nrecords > 0;
}

static unsigned wanted_running;

static bool as_many_run(void *arg)
{
	(void)arg;
	return fanouts_counts(fanouts).running >= wanted_running;
}

static void wait_for_running(unsigned n)
{
	wanted_running = n;
	assert_true(support_turn_until(loop, 10000, as_many_run, NULL));
}

static int open_with(unsigned max_hosts, size_t max_buffered)
{
	struct fanouts_options o = { max_hosts, max_buffered };

	fds = support_count_fds();
	log_open("/dev/null", NULL, LOG_ERROR, NULL);
	fake_ssh_reset();
	loop = loop_new(NULL);
	pool = pool_new(loop, 3, NULL);
	fanouts = fanouts_new(loop, pool, &o, NULL);
	return fanouts ? 0 : -1;
}

static int setup(void **state)
{
	(void)state;
	return open_with(64, 1 << 20);
}

static int setup_20_places(void **state)
{
	(void)state;
	return open_with(20, 1 << 20);
}

static int setup_small_buffer(void **state)
{
	(void)state;
	return open_with(64, 1000);
}

static int setup_large(void **state)
{
	(void)state;
	return open_with(2000, 64 << 20);
}

static int teardown(void **state)
{
	(void)state;
	fanouts_end_all(fanouts);
	if (fanouts_counts(fanouts).fanouts || fanouts_counts(fanouts).running)
		return -1;
	pool_free(pool);
	fanouts_free(fanouts);
	loop_free(loop);
	log_close();
	if (fake_ssh_left())
		return -1;
	return support_has_children() || support_count_fds() != fds;
}

/* ---- open fan-outs ---- */

/* Succeeds when its op id has the effect of its target. */
#define CHECK_EFFECT "x=${EXED_OP#j.}; e=${x%%.*}; x=${x#*.}; [ $e = $((1000 + ${x%%.*})) ]"

static void start_open(struct sink_of_ours *s, const char *command, unsigned window)
{
	struct fanout_plan plan = local_plan(command);
	struct err err;

	plan.open = true;
	plan.op_id = "j";
	plan.try = 1;
	plan.window = window;
	s->fanout = fanout_start(fanouts, &plan, NULL, NULL, 0, &sink_with_marks, s, &open_ops, s, &err);
	assert_non_null(s->fanout);
}

static int add(struct sink_of_ours *s, unsigned index)
{
	struct fanout_target target = { .index = index, .effect = FIRST_EFFECT + index };
	struct err err;

	return fanout_add(s->fanout, &target, &err);
}

static int wanted_taken;

static bool as_many_were_taken(void *arg)
{
	return ((struct sink_of_ours *)arg)->taken >= wanted_taken;
}

static void targets_are_added_to_an_open_fan_out_which_ends_when_it_is_closed(void **state)
{
	struct sink_of_ours *s = new_sink();

	(void)state;
	start_open(s, CHECK_EFFECT, 3);
	for (unsigned i = 0; i < 60; i++) {
		assert_int_equal(add(s, i), 0);
		/* Some wait for their turn, and at times none is left. */
		wanted_taken = (int)i - (i % 20 ? 7 : 0);
		assert_true(support_turn_until(loop, 10000, as_many_were_taken, s));
		assert_int_equal(s->ended, 0);
	}
	fanout_close(s->fanout);
	assert_int_equal(add(s, 60), -ERR_CLOSED);
	finish(s);
	expect_one_record_each(s, 60, STATUS_OK);
	assert_int_equal(s->taken, 60);
	assert_int_equal(s->unstarted, 0);
	free_sink(s);
}

static void a_cancelled_open_fan_out_takes_no_more_and_gives_each_its_record(void **state)
{
	struct sink_of_ours *s = new_sink();

	(void)state;
	start_open(s, "sleep 100", 2);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(add(s, i), 0);
	wait_for_running(2);
	fanout_cancel(s->fanout, "stop");
	assert_int_equal(add(s, 10), -ERR_CLOSED);
	fanout_close(s->fanout);
	finish(s);
	expect_one_record_each(s, 10, -1);
	assert_int_equal(s->taken, 10);
	assert_true(count_status(s, 10, STATUS_SKIPPED) >= 8);
	assert_int_equal(count_status(s, 10, STATUS_OK), 0);
	free_sink(s);
}

static void an_abandoned_open_fan_out_ends_and_tells_of_no_record(void **state)
{
	struct sink_of_ours *s = new_sink();

	(void)state;
	start_open(s, "sleep 100", 2);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(add(s, i), 0);
	wait_for_running(2);
	fanout_abandon(s->fanout);
	assert_int_equal(add(s, 4), -ERR_CLOSED);
	finish(s);
	assert_int_equal(s->taken, 0);
	free_sink(s);
}

/* ---- one record each ---- */

static void each_target_gets_exactly_one_record(void **state)
{
	struct fanout_plan plan = local_plan("[ \"$EXED_OP\" = j.0.7.2 ] && exit 3; echo hello");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.op_id = "j.0";
	plan.try = 2;
	start(s, &plan, 40, false);
	finish(s);
	expect_one_record_each(s, 40, -1);
	assert_int_equal(count_status(s, 40, STATUS_OK), 39);
	assert_int_equal(s->status[7], STATUS_FAILED);
	assert_int_equal(s->unstarted, 0);
	free_sink(s);
}

static void no_target_at_all_ends_at_once(void **state)
{
	struct fanout_plan plan = local_plan("true");
	struct sink_of_ours *s = new_sink();

	(void)state;
	start(s, &plan, 0, true);
	finish(s);
	assert_int_equal(s->nrecords, 0);
	free_sink(s);
}

static void input_environment_and_directory_reach_the_command(void **state)
{
	static const char *const env[] = { "A=x y", NULL };
	struct fanout_plan plan = local_plan("cat; echo \"$A\"; pwd");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.input = "in\n";
	plan.input_len = 3;
	plan.env = env;
	plan.cwd = "/usr";
	start(s, &plan, 1, false);
	finish(s);
	assert_non_null(strstr(s->text, "in\\nx y\\n/usr\\n"));
	free_sink(s);
}

static void what_a_target_has_of_its_own_stands_in_place_of_the_plans(void **state)
{
	static const char *const env[] = { "A=plan", NULL };
	char *own_env[] = { "A=own", NULL };
	struct host_own all = { .command = "echo \"$x_h1\" $A $(pwd) $(cat)", .env = own_env, .cwd = "/usr",
				.input = "in", .input_len = 2, .limit_ms = -1 };
	struct fanout_plan plan = local_plan("echo plan");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.env = env;
	plan.cwd = "/";
	own = &all;
	/* Permission lapses meanwhile: it goes back to the target, and comes again. */
	s->holds_marks = true;
	start(s, &plan, 1, true);
	support_turn(loop, 50);
	fanouts_permit(fanouts, loop_now_ms() - 1);
	s->holds_marks = false;
	loop_defer(loop, &s->answer);
	support_turn(loop, 50);
	assert_int_equal(s->nrecords, 0);
	fanouts_permit(fanouts, INT64_MAX);
	finish(s);
	own = NULL;
	assert_non_null(strstr(s->text, "\"it's 0 own /usr in\\n\""));
	free_sink(s);
}

static void the_limit_may_be_a_targets_own(void **state)
{
	struct host_own all = { .limit_ms = 200 };
	struct fanout_plan plan = local_plan("sleep 60");
	struct sink_of_ours *s = new_sink();

	(void)state;
	own = &all;
	start(s, &plan, 1, false);
	finish(s);
	own = NULL;
	assert_non_null(strstr(s->text, "\"timed_out\":true"));
	free_sink(s);
}

static void what_is_not_started_leaves_nothing(void **state)
{
	struct host_own all = { .command = "sleep 60", .limit_ms = -1 };
	struct fanout_plan plan = local_plan("true");
	struct sink_of_ours *s = new_sink();

	(void)state;
	own = &all;
	plan.window = 1;
	start(s, &plan, 4, false);
	support_turn(loop, 50);
	fanout_refuse(s->fanout, STATUS_FAILED, "not today");
	finish(s);
	own = NULL;
	expect_one_record_each(s, 4, STATUS_FAILED);
	free_sink(s);
}

static void a_command_over_its_limit_is_killed_and_the_others_are_not_held_up(void **state)
{
	struct fanout_plan plan =
		local_plan("[ \"$EXED_OP\" = j.0.3.1 ] && { sleep 60 & wait; }; exit 0");
	struct sink_of_ours *s = new_sink();
	int64_t start_ms = loop_now_ms();

	(void)state;
	plan.op_id = "j.0";
	plan.try = 1;
	plan.limit_ms = 1500;
	start(s, &plan, 8, false);
	finish(s);
	expect_one_record_each(s, 8, -1);
	assert_int_equal(s->status[3], STATUS_FAILED);
	assert_int_equal(s->order[7], 3); /* it was the last */
	assert_non_null(strstr(s->text, "\"timed_out\":true"));
	assert_non_null(strstr(s->text, "\"survivors\":0"));
	assert_true(loop_now_ms() - start_ms < 12000);
	free_sink(s);
}

/* ---- windows ---- */

static void a_window_is_never_exceeded_and_slides(void **state)
{
	struct fanout_plan plan = local_plan("sleep 0.02");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.window = 4;
	start(s, &plan, 30, false);
	finish(s);
	assert_int_equal(s->worst_running, 4);
	expect_one_record_each(s, 30, STATUS_OK);
	free_sink(s);
}

static void a_groups_window_holds_over_its_fan_outs(void **state)
{
	struct fanout_plan plan = local_plan("sleep 0.02");
	struct sink_of_ours *a = new_sink(), *b = new_sink();

	(void)state;
	plan.group_window = 5;
	start(a, &plan, 20, false);
	plan.window = 3;
	start(b, &plan, 20, false);
	finish(a);
	finish(b);
	assert_int_equal(a->worst_running, 5);
	assert_true(b->worst_running <= 5);
	expect_one_record_each(a, 20, STATUS_OK);
	expect_one_record_each(b, 20, STATUS_OK);
	free_sink(a);
	free_sink(b);
}

static void a_tenth_of_the_nodes_places_is_kept_for_urgent_ones(void **state)
{
	struct fanout_plan plan = local_plan("sleep 0.05");
	struct fanout_plan urgent = local_plan("true");
	struct sink_of_ours *a = new_sink(), *b = new_sink();

	(void)state;
	start(a, &plan, 60, false);
	wait_for_running(18);
	assert_int_equal(fanouts_counts(fanouts).running, 18);
	urgent.urgent = true;
	urgent.group = "sync";
	start(b, &urgent, 2, false);
	finish(b);
	assert_true(a->nrecords < 60);
	finish(a);
	assert_int_equal(a->worst_running, 18);
	assert_true(b->worst_running <= 20);
	free_sink(a);
	free_sink(b);
}

static void groups_are_served_in_turn(void **state)
{
	struct fanout_plan plan = local_plan("sleep 0.03");
	struct sink_of_ours *big = new_sink(), *small = new_sink();

	(void)state;
	plan.group = "big";
	start(big, &plan, 200, false);
	wait_for_running(18);
	plan.group = "small";
	start(small, &plan, 10, false);
	finish(small); /* half of the places that became free were its own */
	assert_true(big->nrecords < 60);
	fanout_cancel(big->fanout, "enough");
	finish(big);
	free_sink(big);
	free_sink(small);
}

/* ---- marks ---- */

static void nothing_starts_before_its_mark(void **state)
{
	struct fanout_plan plan = local_plan("true");
	struct sink_of_ours *s = new_sink();

	(void)state;
	s->holds_marks = true;
	start(s, &plan, 10, true);
	support_turn(loop, 60);
	assert_int_equal(s->nasked, 10);
	assert_int_equal(s->nrecords, 0);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(s->asked[i], i);
	s->nanswered = 3;
	fanout_marked(s->fanout, 3, true); /* those that were asked for first */
	support_turn(loop, 200);
	assert_int_equal(s->nrecords, 3);
	assert_true(s->records[0] && s->records[1] && s->records[2]);
	s->holds_marks = false;
	loop_defer(loop, &s->answer);
	finish(s);
	expect_one_record_each(s, 10, STATUS_OK);
	free_sink(s);
}

static void refused_ones_are_not_run_and_get_no_record(void **state)
{
	struct fanout_plan plan = local_plan("true");
	struct sink_of_ours *s = new_sink();

	(void)state;
	s->refuses = true;
	start(s, &plan, 10, true);
	finish(s);
	assert_int_equal(s->nrecords, 0);
	free_sink(s);
}

static void marks_go_in_calls_of_a_bounded_size_and_each_once(void **state)
{
	struct fanout_plan plan = ssh_plan("true");
	struct sink_of_ours *s = new_sink();
	static unsigned char seen[1500];

	(void)state;
	memset(seen, 0, sizeof(seen));
	start(s, &plan, 1500, true);
	finish(s);
	assert_int_equal(s->nasked, 1500);
	for (size_t i = 0; i < 1500; i++)
		seen[s->asked[i]]++;
	for (size_t i = 0; i < 1500; i++)
		assert_int_equal(seen[i], 1);
	expect_one_record_each(s, 1500, STATUS_OK);
	free_sink(s);
}

/* ---- cancel, drain, abandon ---- */

static void cancel_kills_what_runs_and_skips_what_waits(void **state)
{
	struct fanout_plan plan = local_plan("sleep 60");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.window = 4;
	start(s, &plan, 2000, false);
	wait_for_running(4);
	fanout_cancel(s->fanout, "an operator said so");
	fanout_cancel(s->fanout, "twice");
	finish(s);
	expect_one_record_each(s, 2000, -1);
	assert_int_equal(count_status(s, 2000, STATUS_FAILED), 4);
	assert_int_equal(count_status(s, 2000, STATUS_SKIPPED), 1996);
	assert_non_null(strstr(s->text, s->status[s->order[1999]] == STATUS_FAILED
						? "\"cancelled\":true" : "an operator said so"));
	free_sink(s);
}

static void cancel_before_the_mark_skips(void **state)
{
	struct fanout_plan plan = local_plan("sleep 60");
	struct sink_of_ours *s = new_sink();

	(void)state;
	s->holds_marks = true;
	start(s, &plan, 10, true);
	support_turn(loop, 30);
	fanout_cancel(s->fanout, "too late");
	support_turn(loop, 30);
	s->holds_marks = false;
	loop_defer(loop, &s->answer);
	finish(s);
	expect_one_record_each(s, 10, STATUS_SKIPPED);
	free_sink(s);
}

static void drain_lets_what_runs_end_and_counts_the_rest(void **state)
{
	struct fanout_plan plan = local_plan("sleep 0.1");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.window = 4;
	start(s, &plan, 20, false);
	wait_for_running(4);
	fanout_drain(s->fanout);
	finish(s);
	assert_int_equal(s->nrecords, 4);
	assert_int_equal(s->unstarted, 16);
	expect_one_record_each(s, 4, STATUS_OK);
	free_sink(s);
}

static void abandon_ends_without_a_trace(void **state)
{
	struct fanout_plan plan = local_plan("sleep 60");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.window = 4;
	start(s, &plan, 20, false);
	wait_for_running(4);
	fanout_abandon(s->fanout);
	finish(s);
	assert_int_equal(s->nrecords, 0);
	assert_int_equal(s->bytes, 0);
	assert_int_equal(s->unstarted, 16);
	free_sink(s);
}

static void abandon_asks_for_no_mark_any_more(void **state)
{
	struct fanout_plan plan = local_plan("true");
	struct sink_of_ours *s = new_sink();

	(void)state;
	s->holds_marks = true;
	plan.window = 4;
	start(s, &plan, 20, true);
	support_turn(loop, 30);
	assert_int_equal(s->nasked, 4);
	fanout_abandon(s->fanout);
	s->holds_marks = false;
	s->refuses = true;
	loop_defer(loop, &s->answer);
	finish(s);
	assert_int_equal(s->nasked, 4);
	assert_int_equal(s->nrecords, 0);
	free_sink(s);
}

static void the_end_of_the_program_ends_all_and_starts_none(void **state)
{
	struct fanout_plan plan = local_plan("sleep 60");
	struct sink_of_ours *s = new_sink();
	struct err err;

	(void)state;
	start(s, &plan, 30, false);
	wait_for_running(20);
	fanouts_end_all(fanouts);
	assert_int_equal(s->ended, 1);
	assert_null(fanout_start(fanouts, &plan, NULL, NULL, 0, &sink_without_marks, s, &end_ops, s,
				 &err));
	assert_int_equal(err.code, ERR_CLOSED);
	free_sink(s);
}

/* ---- permission ---- */

static void without_permission_nothing_starts_and_later_it_goes_on(void **state)
{
	struct fanout_plan plan = local_plan("true");
	struct sink_of_ours *s = new_sink();

	(void)state;
	fanouts_permit(fanouts, loop_now_ms() - 1);
	start(s, &plan, 10, true);
	support_turn(loop, 100);
	assert_int_equal(s->nasked, 0);
	assert_int_equal(fanouts_counts(fanouts).running, 0);
	fanouts_permit(fanouts, INT64_MAX);
	finish(s);
	expect_one_record_each(s, 10, STATUS_OK);
	free_sink(s);
}

static void permission_that_lapses_before_the_start_sends_hosts_back(void **state)
{
	struct sink_of_ours *s = new_sink();

	for (int transport = FANOUT_SSH; transport <= FANOUT_LOCAL; transport++) {
		struct fanout_plan plan = local_plan("true");

		(void)state;
		free_sink(s);
		s = new_sink();
		plan.transport = (enum fanout_transport)transport;
		s->holds_marks = true;
		start(s, &plan, 10, true);
		support_turn(loop, 60);
		assert_int_equal(s->nasked, 10);
		fanouts_permit(fanouts, loop_now_ms() - 1);
		s->holds_marks = false;
		loop_defer(loop, &s->answer);
		support_turn(loop, 60);
		assert_int_equal(s->nrecords, 0);
		assert_int_equal(fanouts_counts(fanouts).running, 0);
		fanouts_permit(fanouts, INT64_MAX);
		finish(s);
		expect_one_record_each(s, 10, STATUS_OK);
	}
	free_sink(s);
}

/* A node that was stopped for long: the answer for the bit is old, the permission is new. */
static void permission_that_came_back_is_not_the_one_that_was_asked_for(void **state)
{
	struct sink_of_ours *s = new_sink();

	for (int transport = FANOUT_SSH; transport <= FANOUT_LOCAL; transport++) {
		struct fanout_plan plan = local_plan("true");

		(void)state;
		free_sink(s);
		s = new_sink();
		plan.transport = (enum fanout_transport)transport;
		s->holds_marks = true;
		start(s, &plan, 10, true);
		support_turn(loop, 60);
		assert_int_equal(s->nasked, 10);
		fanouts_permit(fanouts, loop_now_ms() - 1);
		fanouts_permit(fanouts, INT64_MAX);
		s->holds_marks = false;
		loop_defer(loop, &s->answer);
		finish(s);
		assert_int_equal(s->nasked, 20); /* each was asked for again, and then ran once */
		expect_one_record_each(s, 10, STATUS_OK);
	}
	free_sink(s);
}

static void lapsed_hosts_can_be_cancelled(void **state)
{
	struct fanout_plan plan = local_plan("true");
	struct sink_of_ours *s = new_sink();

	(void)state;
	s->holds_marks = true;
	start(s, &plan, 10, true);
	support_turn(loop, 60);
	fanouts_permit(fanouts, 0);
	s->holds_marks = false;
	loop_defer(loop, &s->answer);
	support_turn(loop, 30);
	fanout_cancel(s->fanout, "over");
	finish(s);
	expect_one_record_each(s, 10, STATUS_SKIPPED);
	free_sink(s);
}

/* ---- back-pressure ---- */

static void a_sink_that_takes_nothing_stops_the_output_and_then_it_goes_on(void **state)
{
	struct fanout_plan plan = local_plan("head -c 900000 /dev/zero | tr '\\0' x");
	struct sink_of_ours *s = new_sink();

	(void)state;
	s->holds_records = true;
	start(s, &plan, 3, false);
	support_turn(loop, 400);
	assert_int_equal(s->nrecords, 0);
	assert_true(s->bytes >= 3 * 48 * 1024);
	assert_true(s->bytes <= 3 * 256 * 1024);
	s->holds_records = false;
	loop_defer(loop, &s->answer);
	finish(s);
	expect_one_record_each(s, 3, STATUS_OK);
	assert_true(s->bytes >= 3 * 900000);
	free_sink(s);
}

static void entries_that_are_not_taken_stop_admission(void **state)
{
	struct fanout_plan plan = local_plan("head -c 300 /dev/zero | tr '\\0' x");
	struct sink_of_ours *s = new_sink();

	(void)state;
	s->holds_records = true;
	plan.window = 2;
	start(s, &plan, 30, false);
	support_turn(loop, 300);
	assert_in_range(s->nrecords, 2, 6);
	s->holds_records = false;
	loop_defer(loop, &s->answer);
	finish(s);
	expect_one_record_each(s, 30, STATUS_OK);
	free_sink(s);
}

static void a_long_cancel_waits_for_a_slow_sink_too(void **state)
{
	struct fanout_plan plan = local_plan("sleep 60");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.window = 1;
	s->holds_records = true;
	start(s, &plan, MAX_TARGETS, false);
	wait_for_running(1);
	fanout_cancel(s->fanout, "over");
	assert_true(support_turn_until(loop, 5000, records_arrived, s));
	support_turn(loop, 200);
	assert_true(s->nrecords < 4000);
	s->holds_records = false;
	loop_defer(loop, &s->answer);
	finish(s);
	expect_one_record_each(s, MAX_TARGETS, -1);
	free_sink(s);
}

static void the_cap_can_be_lowered_for_what_runs_but_not_raised(void **state)
{
	struct fanout_plan plan = local_plan("head -c 3000 /dev/zero | tr '\\0' x");
	struct sink_of_ours *s = new_sink();

	(void)state;
	plan.rules.output_cap = 500;
	start(s, &plan, 1, false);
	fanout_cut_output(s->fanout, 4096);
	finish(s);
	assert_non_null(strstr(s->text, "\"truncated\":true"));
	assert_true(strlen(s->text) < 900);
	free_sink(s);
	s = new_sink();
	start(s, &plan, 1, false);
	fanout_cut_output(s->fanout, 100);
	finish(s);
	assert_true(strlen(s->text) < 400);
	assert_non_null(strstr(s->text, "\"stdout_bytes\":3000"));
	free_sink(s);
}

/* ---- cost ---- */

static void a_waiting_target_costs_little_memory(void **state)
{
	struct fanout_plan plan = local_plan("sleep 60");
	struct sink_of_ours *s = new_sink();
	size_t before, after;

	(void)state;
	plan.window = 1;
	start(s, &plan, 10, false);
	wait_for_running(1);
	fanout_cancel(s->fanout, "over");
	finish(s);
	free_sink(s);
	s = new_sink();
	before = mallinfo2().uordblks;
	start(s, &plan, MAX_TARGETS, false);
	wait_for_running(1);
	after = mallinfo2().uordblks;
	/* 0 under a sanitizer, which has its own allocator */
	assert_true(after - before < MAX_TARGETS * 32);
	fanout_abandon(s->fanout);
	finish(s);
	free_sink(s);
}

/* ---- over (simulated) SSH ---- */

static void who_runs_can_be_seen_with_its_phase(void **state)
{
	struct fanout_plan plan = ssh_plan("hang");
	struct sink_of_ours *s = new_sink();
	struct fanout_running list[10];
	size_t n;

	(void)state;
	plan.window = 3;
	start(s, &plan, 10, false);
	wait_for_running(3);
	support_turn(loop, 50);
	n = fanout_list_running(s->fanout, list, 10);
	assert_int_equal(n, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(list[i].index, i); /* the oldest first */
		assert_string_equal(list[i].phase, "running");
	}
	assert_int_equal(fanout_list_running(s->fanout, list, 2), 2);
	fanout_cancel(s->fanout, "over");
	finish(s);
	expect_one_record_each(s, 10, -1);
	free_sink(s);
}

static void every_fate_of_a_host_gives_one_record(void **state)
{
	struct fanout_plan plan = ssh_plan("mixed");
	struct sink_of_ours *s = new_sink();

	(void)state;
	fake_ssh_mixed = true;
	start(s, &plan, 3000, true);
	finish(s);
	expect_one_record_each(s, 3000, -1);
	for (size_t i = 0; i < 3000; i++)
		assert_int_equal(s->status[i], fake_ssh_status((unsigned)i));
	free_sink(s);
}

static void a_kept_connection_that_is_dead_is_tried_once_more(void **state)
{
	struct fanout_plan plan = ssh_plan("true");
	struct sink_of_ours *s = new_sink();

	(void)state;
	fake_ssh_stale = true;
	start(s, &plan, 200, true);
	finish(s);
	expect_one_record_each(s, 200, STATUS_OK);
	assert_int_equal(s->nasked, 200); /* and asked for once */
	free_sink(s);
}

static void a_login_is_all_that_a_ping_needs(void **state)
{
	struct fanout_plan plan = ssh_plan(NULL);
	struct sink_of_ours *s = new_sink();

	(void)state;
	start(s, &plan, 300, false);
	finish(s);
	expect_one_record_each(s, 300, STATUS_OK);
	assert_null(strstr(s->text, "rtc"));
	free_sink(s);
}

static void cancel_races_with_everything_and_still_each_has_one_record(void **state)
{
	(void)state;
	fake_ssh_mixed = true;
	for (int round = 0; round < 30; round++) {
		struct fanout_plan plan = ssh_plan("mixed");
		struct sink_of_ours *s = new_sink();

		plan.window = 50;
		start(s, &plan, 400, round % 2);
		support_turn(loop, round / 3);
		if (s->fanout)
			fanout_cancel(s->fanout, "over");
		finish(s);
		expect_one_record_each(s, 400, -1);
		free_sink(s);
	}
}

static void abandon_races_with_everything_and_ends(void **state)
{
	(void)state;
	fake_ssh_mixed = true;
	for (int round = 0; round < 30; round++) {
		struct fanout_plan plan = ssh_plan("mixed");
		struct sink_of_ours *s = new_sink();
		int records;

		plan.window = 50;
		start(s, &plan, 400, round % 2);
		support_turn(loop, round / 3);
		records = s->nrecords;
		if (s->fanout)
			fanout_abandon(s->fanout);
		s->refuses = true;
		finish(s);
		assert_int_equal(s->nrecords, records);
		free_sink(s);
	}
}

static void output_of_many_hosts_waits_for_the_sink_on_the_threads_too(void **state)
{
	struct fanout_plan plan = ssh_plan("flood");
	struct sink_of_ours *s = new_sink();

	(void)state;
	s->holds_records = true;
	start(s, &plan, 20, false);
	support_turn(loop, 300);
	assert_true(s->bytes >= 48 * 1024);
	assert_true(s->bytes <= 20 * 256 * 1024);
	assert_int_equal(s->nrecords, 0);
	s->holds_records = false;
	loop_defer(loop, &s->answer);
	finish(s);
	expect_one_record_each(s, 20, STATUS_OK);
	assert_true(s->bytes >= 20 * (size_t)FLOOD_BYTES);
	free_sink(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_WITH(name, how) cmocka_unit_test_setup_teardown(name, how, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(targets_are_added_to_an_open_fan_out_which_ends_when_it_is_closed),
		TEST(a_cancelled_open_fan_out_takes_no_more_and_gives_each_its_record),
		TEST(an_abandoned_open_fan_out_ends_and_tells_of_no_record),
		TEST(each_target_gets_exactly_one_record),
		TEST(no_target_at_all_ends_at_once),
		TEST(input_environment_and_directory_reach_the_command),
		TEST(what_a_target_has_of_its_own_stands_in_place_of_the_plans),
		TEST(the_limit_may_be_a_targets_own),
		TEST(what_is_not_started_leaves_nothing),
		TEST(a_command_over_its_limit_is_killed_and_the_others_are_not_held_up),
		TEST(a_window_is_never_exceeded_and_slides),
		TEST(a_groups_window_holds_over_its_fan_outs),
		TEST_WITH(a_tenth_of_the_nodes_places_is_kept_for_urgent_ones, setup_20_places),
		TEST_WITH(groups_are_served_in_turn, setup_20_places),
		TEST(nothing_starts_before_its_mark),
		TEST(refused_ones_are_not_run_and_get_no_record),
		TEST_WITH(marks_go_in_calls_of_a_bounded_size_and_each_once, setup_large),
		TEST(cancel_kills_what_runs_and_skips_what_waits),
		TEST(cancel_before_the_mark_skips),
		TEST(drain_lets_what_runs_end_and_counts_the_rest),
		TEST(abandon_ends_without_a_trace),
		TEST(abandon_asks_for_no_mark_any_more),
		TEST(the_end_of_the_program_ends_all_and_starts_none),
		TEST(without_permission_nothing_starts_and_later_it_goes_on),
		TEST(permission_that_lapses_before_the_start_sends_hosts_back),
		TEST(permission_that_came_back_is_not_the_one_that_was_asked_for),
		TEST(lapsed_hosts_can_be_cancelled),
		TEST(a_sink_that_takes_nothing_stops_the_output_and_then_it_goes_on),
		TEST_WITH(entries_that_are_not_taken_stop_admission, setup_small_buffer),
		TEST(a_long_cancel_waits_for_a_slow_sink_too),
		TEST(the_cap_can_be_lowered_for_what_runs_but_not_raised),
		TEST(a_waiting_target_costs_little_memory),
		TEST(who_runs_can_be_seen_with_its_phase),
		TEST_WITH(every_fate_of_a_host_gives_one_record, setup_large),
		TEST(a_kept_connection_that_is_dead_is_tried_once_more),
		TEST(a_login_is_all_that_a_ping_needs),
		TEST(cancel_races_with_everything_and_still_each_has_one_record),
		TEST(abandon_races_with_everything_and_ends),
		TEST(output_of_many_hosts_waits_for_the_sink_on_the_threads_too),
	};

	return cmocka_run_group_tests_name("fanout", tests, NULL, NULL);
}
