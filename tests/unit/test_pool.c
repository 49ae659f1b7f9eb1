/* SPDX-License-Identifier: MIT */
/* Tests of runtime/pool.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>

#include "pool.h"
#include "support.h"

#define MANY 100000

struct message {
	struct work work; /* first */
	struct side *side;
	int number;
};

/* One I/O thread's traffic. `ran` is the thread's own until the pool is freed. */
struct side {
	struct io *io;
	int ran, done;
	bool in_order;
	int *total;
};

static struct loop *loop;
static int fds;

static int setup(void **state)
{
	(void)state;
	fds = support_count_fds();
	loop = loop_new(NULL);
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	loop_free(loop);
	return support_count_fds() != fds;
}

static void run_message(struct io *io, struct work *w)
{
	struct message *m = (struct message *)w;

	if (m->number != m->side->ran++ || io != m->side->io)
		m->side->in_order = false;
	io_done(io, w);
}

static void message_done(struct work *w)
{
	struct message *m = (struct message *)w;

	if (m->number != m->side->done++)
		m->side->in_order = false;
	++*m->side->total;
	free(m);
}

static void post(struct side *side, int number)
{
	struct message *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->work.run = run_message;
	m->work.done = message_done;
	m->side = side;
	m->number = number;
	io_post(side->io, &m->work);
}

static void start_sides(struct pool *pool, struct side *sides, int n, int *total)
{
	for (int i = 0; i < n; i++)
		sides[i] = (struct side){ pool_io(pool, (unsigned)i), 0, 0, true, total };
}

static void no_message_is_lost_or_overtakes_another_in_either_direction(void **state)
{
	struct pool *pool = pool_new(loop, 4, NULL);
	struct side sides[4];
	int total = 0;

	(void)state;
	assert_non_null(pool);
	assert_int_equal(pool_size(pool), 4);
	assert_ptr_equal(pool_io(pool, 6), pool_io(pool, 2));
	start_sides(pool, sides, 4, &total);
	for (int i = 0; i < MANY / 4; i++) {
		for (int k = 0; k < 4; k++)
			post(&sides[k], i);
		if (i % 1000 == 0) /* so that both sides work at once */
			event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	}
	assert_true(support_turn_to(loop, &total, MANY));
	pool_free(pool);
	assert_int_equal(total, MANY);
	for (int k = 0; k < 4; k++)
		assert_true(sides[k].in_order && sides[k].ran == MANY / 4);
}

/* A message that goes to and fro: each trip needs its own wakeup, and a thread wakes the loop every 2 ms. */
#define TRIPS 500

static void bounce_done(struct work *w)
{
	struct message *m = (struct message *)w;

	m->number++;
	++*m->side->total;
	if (m->number < TRIPS)
		io_post(m->side->io, w);
}

static void bounce_run(struct io *io, struct work *w)
{
	((struct message *)w)->side->ran++;
	io_done(io, w);
}

static void no_wakeup_is_lost_when_single_messages_go_to_and_fro(void **state)
{
	struct pool *pool = pool_new(loop, 2, NULL);
	struct message messages[4] = { 0 };
	struct side sides[2];
	int total = 0;

	(void)state;
	start_sides(pool, sides, 2, &total);
	for (int i = 0; i < 4; i++) {
		messages[i].work = (struct work){ NULL, bounce_run, bounce_done };
		messages[i].side = &sides[i % 2];
		io_post(sides[i % 2].io, &messages[i].work);
	}
	assert_true(support_turn_to(loop, &total, 4 * TRIPS));
	pool_free(pool);
	assert_int_equal(sides[0].ran + sides[1].ran, 4 * TRIPS);
}

/* The thread sends on its own, many for one, while the loop is asleep in its poll. */
struct burst {
	struct work work; /* first */
	struct side *side;
};

static void burst_run(struct io *io, struct work *w)
{
	struct side *side = ((struct burst *)w)->side;

	for (int i = 0; i < MANY; i++) {
		struct message *m = calloc(1, sizeof(*m));

		m->work.done = message_done;
		m->side = side;
		m->number = i;
		io_done(io, &m->work);
	}
}

static void a_thread_may_send_on_its_own(void **state)
{
	struct pool *pool = pool_new(loop, 1, NULL);
	struct side side;
	int total = 0;
	struct burst b = { .work.run = burst_run, .side = &side };

	(void)state;
	start_sides(pool, &side, 1, &total);
	io_post(side.io, &b.work);
	assert_true(support_turn_to(loop, &total, MANY));
	assert_true(side.in_order);
	pool_free(pool);
}

static void what_is_left_at_the_end_is_run_and_handed_back(void **state)
{
	struct pool *pool = pool_new(loop, 3, NULL);
	struct side sides[3];
	int total = 0;

	(void)state;
	start_sides(pool, sides, 3, &total);
	for (int i = 0; i < 3000; i++)
		post(&sides[i % 3], i / 3);
	pool_free(pool); /* the loop has not turned */
	assert_int_equal(total, 3000);
	for (int k = 0; k < 3; k++)
		assert_true(sides[k].in_order && sides[k].done == 1000);
}

static int hooks;

struct hook_state {
	struct message last;
	struct io *io;
};

static void hook_done(struct work *w)
{
	(void)w;
	hooks++;
}

static void stop_hook(void *state)
{
	struct hook_state *h = state;

	h->last.work.done = hook_done;
	io_done(h->io, &h->last.work);
}

static void set_hook(struct io *io, struct work *w)
{
	struct hook_state *h = (struct hook_state *)w;

	h->io = io;
	io_set_ssh(io, h, stop_hook);
}

static void the_hook_runs_on_the_thread_before_it_ends(void **state)
{
	struct pool *pool = pool_new(loop, 2, NULL);
	struct hook_state states[2] = { 0 };

	(void)state;
	hooks = 0;
	for (unsigned i = 0; i < 2; i++) {
		states[i].last.work.run = set_hook;
		io_post(pool_io(pool, i), &states[i].last.work);
	}
	pool_free(pool);
	assert_int_equal(hooks, 2);
	assert_ptr_equal(states[0].io != states[1].io, true);
}

static void timer_note(evutil_socket_t fd, short what, void *arg)
{
	struct message *m = arg;

	(void)fd;
	(void)what;
	io_done(m->side->io, &m->work);
}

static void arm_timer(struct io *io, struct work *w)
{
	const struct timeval soon = { 0, 1000 };

	event_base_once(io_base(io), -1, EV_TIMEOUT, timer_note, w, &soon);
}

static void events_of_a_thread_run_there_and_an_idle_thread_stays(void **state)
{
	struct pool *pool = pool_new(loop, 1, NULL);
	struct side side;
	int total = 0;
	struct message *m = calloc(1, sizeof(*m));

	(void)state;
	start_sides(pool, &side, 1, &total);
	support_turn(loop, 30);
	m->work = (struct work){ NULL, arm_timer, message_done };
	m->side = &side;
	io_post(side.io, &m->work);
	assert_true(support_turn_to(loop, &total, 1));
	pool_free(pool);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_message_is_lost_or_overtakes_another_in_either_direction),
		TEST(no_wakeup_is_lost_when_single_messages_go_to_and_fro),
		TEST(a_thread_may_send_on_its_own),
		TEST(what_is_left_at_the_end_is_run_and_handed_back),
		TEST(the_hook_runs_on_the_thread_before_it_ends),
		TEST(events_of_a_thread_run_there_and_an_idle_thread_stays),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
