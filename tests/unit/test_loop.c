/* SPDX-License-Identifier: MIT */
/* Tests of runtime/loop.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "support.h"

struct job {
	struct deferred deferred; /* first */
	int runs;
	int again; /* how often it queues itself again */
	struct job *takes_out, *frees, *queues;
	int *order, place;
};

struct fixture {
	struct loop *loop;
	int fds;
};

static struct loop *loop;

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->fds = support_count_fds();
	f->loop = loop = loop_new(NULL);
	*state = f;
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int left;

	loop_free(f->loop);
	left = support_count_fds() - f->fds;
	free(f);
	return left;
}

static void run_job(struct deferred *d)
{
	struct job *j = (struct job *)d;

	j->runs++;
	if (j->order)
		j->place = ++*j->order;
	if (j->again > 0) {
		j->again--;
		loop_defer(loop, d);
	}
	if (j->takes_out)
		loop_undefer(loop, &j->takes_out->deferred);
	if (j->queues)
		loop_defer(loop, &j->queues->deferred);
	if (j->frees) {
		loop_undefer(loop, &j->frees->deferred);
		free(j->frees);
		j->frees = NULL;
	}
}

static struct job make_job(void)
{
	return (struct job){ .deferred.run = run_job };
}

static void deferred_work_runs_once_however_often_it_is_queued(void **state)
{
	struct job j = make_job();

	(void)state;
	loop_defer(loop, &j.deferred);
	loop_defer(loop, &j.deferred);
	assert_int_equal(j.runs, 0);
	support_turn(loop, 30);
	assert_int_equal(j.runs, 1);
	loop_defer(loop, &j.deferred);
	support_turn(loop, 30);
	assert_int_equal(j.runs, 2);
}

static void deferred_work_keeps_the_order_of_its_queueing(void **state)
{
	int order = 0;
	struct job jobs[5];

	(void)state;
	for (int i = 0; i < 5; i++) {
		jobs[i] = make_job();
		jobs[i].order = &order;
		loop_defer(loop, &jobs[i].deferred);
	}
	support_turn(loop, 30);
	for (int i = 0; i < 5; i++)
		assert_int_equal(jobs[i].place, i + 1);
}

static void queued_work_can_be_taken_out(void **state)
{
	struct job a = make_job(), b = make_job(), c = make_job();

	(void)state;
	loop_defer(loop, &a.deferred);
	loop_defer(loop, &b.deferred);
	loop_undefer(loop, &b.deferred);
	loop_undefer(loop, &b.deferred);
	loop_defer(loop, &c.deferred); /* the end of the list must have moved back */
	support_turn(loop, 30);
	assert_int_equal(a.runs, 1);
	assert_int_equal(b.runs, 0);
	assert_int_equal(c.runs, 1);
}

static void the_only_one_taken_out_leaves_a_queue_that_works(void **state)
{
	struct job a = make_job(), b = make_job();

	(void)state;
	loop_defer(loop, &a.deferred);
	loop_undefer(loop, &a.deferred);
	loop_defer(loop, &b.deferred);
	support_turn(loop, 30);
	assert_int_equal(a.runs, 0);
	assert_int_equal(b.runs, 1);
}

static void work_can_be_taken_out_and_freed_inside_of_anothers_run(void **state)
{
	struct job a = make_job(), b = make_job();
	struct job *middle = malloc(sizeof(*middle)), *last = malloc(sizeof(*last));

	(void)state;
	*middle = *last = make_job();
	a.frees = middle;
	b.frees = last;
	loop_defer(loop, &a.deferred);
	loop_defer(loop, &middle->deferred);
	loop_defer(loop, &b.deferred);
	loop_defer(loop, &last->deferred);
	support_turn(loop, 30);
	assert_int_equal(a.runs, 1);
	assert_int_equal(b.runs, 1);
}

static void what_a_run_queues_and_takes_out_again_does_not_run(void **state)
{
	struct job a = make_job(), b = make_job(), c = make_job();

	(void)state;
	a.queues = &c;
	b.takes_out = &c;
	loop_defer(loop, &a.deferred);
	loop_defer(loop, &b.deferred);
	support_turn(loop, 30);
	assert_int_equal(c.runs, 0);
	b.queues = &c;
	b.takes_out = NULL;
	loop_defer(loop, &b.deferred);
	support_turn(loop, 30);
	assert_int_equal(c.runs, 1);
}

static int reads;

static void read_one(evutil_socket_t fd, short what, void *arg)
{
	char c;

	(void)what;
	(void)arg;
	if (read(fd, &c, 1) == 1)
		reads++;
}

static void work_that_queues_itself_for_ever_leaves_room_for_input_and_timers(void **state)
{
	struct job j = make_job();
	struct event *ev;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	ev = event_new(loop_base(loop), fds[0], EV_READ | EV_PERSIST, read_one, NULL);
	event_add(ev, NULL);
	j.again = 1 << 30;
	reads = 0;
	loop_defer(loop, &j.deferred);
	assert_int_equal(write(fds[1], "abc", 3), 3);
	assert_true(support_turn_to(loop, &reads, 3)); /* by a timer and I/O beside it */
	assert_true(j.runs > 2);
	loop_undefer(loop, &j.deferred);
	event_free(ev);
	close(fds[0]);
	close(fds[1]);
}

static void count_up(void *arg)
{
	++*(int *)arg;
}

static void timers_fire_once_and_can_be_set_again_and_stopped(void **state)
{
	int fired = 0, stopped = 0;
	struct timer a, b;
	int64_t start = loop_now_ms();

	(void)state;
	assert_int_equal(timer_init(&a, loop_base(loop), count_up, &fired), 0);
	assert_int_equal(timer_init(&b, loop_base(loop), count_up, &stopped), 0);
	timer_set(&a, 10000);
	timer_set(&a, 30); /* replaces the one before */
	timer_set(&b, 1);
	timer_stop(&b);
	assert_true(support_turn_to(loop, &fired, 1));
	assert_in_range(loop_now_ms() - start, 24, 5000);
	support_turn(loop, 60);
	assert_int_equal(fired, 1);
	assert_int_equal(stopped, 0);
	timer_set(&a, 0);
	assert_true(support_turn_to(loop, &fired, 2));
	timer_deinit(&a);
	timer_deinit(&b);
	timer_deinit(&b);
}

static void block(int ms)
{
	const struct timespec t = { 0, ms * 1000000L };

	nanosleep(&t, NULL);
}

struct slow { struct timer *next; int64_t set_at; };

static void block_then_set(void *arg)
{
	struct slow *s = arg;

	block(150);
	s->set_at = loop_now_ms();
	timer_set(s->next, 100);
}

static void note_time(void *arg)
{
	*(int64_t *)arg = loop_now_ms();
}

static bool is_set(void *arg)
{
	return *(int64_t *)arg != 0;
}

static void a_timer_that_is_set_late_in_a_long_turn_counts_from_then(void **state)
{
	struct timer slow, next;
	struct slow s = { .next = &next };
	int64_t fired_at = 0;

	(void)state;
	timer_init(&slow, loop_base(loop), block_then_set, &s);
	timer_init(&next, loop_base(loop), note_time, &fired_at);
	timer_set(&slow, 0);
	assert_true(support_turn_until(loop, 5000, is_set, &fired_at));
	assert_true(fired_at - s.set_at >= 90);
	timer_deinit(&slow);
	timer_deinit(&next);
}

static void stop_with_7(void *arg)
{
	(void)arg;
	loop_stop(loop, 7);
}

static void block_150(void *arg)
{
	(void)arg;
	block(150);
}

static void start_up(void *arg)
{
	(void)arg;
}

/* Not of the first turn, which loads the program. */
static void the_lag_gauge_tells_of_a_long_turn_and_starts_anew(void **state)
{
	struct timer start, stop, slow;
	double lag;

	(void)state;
	timer_init(&start, loop_base(loop), start_up, NULL);
	timer_init(&stop, loop_base(loop), stop_with_7, NULL);
	timer_init(&slow, loop_base(loop), block_150, NULL);
	timer_set(&start, 0);
	timer_set(&slow, 40);
	timer_set(&stop, 400);
	assert_int_equal(loop_run(loop), 7);
	lag = loop_lag_ms(loop);
	assert_true(lag > 50);
	assert_true(lag < 5000);
	assert_true(loop_lag_ms(loop) < lag);
	timer_deinit(&start);
	timer_deinit(&stop);
	timer_deinit(&slow);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(deferred_work_runs_once_however_often_it_is_queued),
		TEST(deferred_work_keeps_the_order_of_its_queueing),
		TEST(queued_work_can_be_taken_out),
		TEST(the_only_one_taken_out_leaves_a_queue_that_works),
		TEST(work_can_be_taken_out_and_freed_inside_of_anothers_run),
		TEST(what_a_run_queues_and_takes_out_again_does_not_run),
		TEST(work_that_queues_itself_for_ever_leaves_room_for_input_and_timers),
		TEST(timers_fire_once_and_can_be_set_again_and_stopped),
		TEST(a_timer_that_is_set_late_in_a_long_turn_counts_from_then),
		TEST(the_lag_gauge_tells_of_a_long_turn_and_starts_anew),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
