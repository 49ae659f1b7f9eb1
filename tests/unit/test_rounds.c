/* SPDX-License-Identifier: MIT */
/* Tests of runtime/rounds.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "rounds.h"
#include "support.h"

#define ROUND_MS 60000 /* of the tests that wait for none */

struct one {
	struct deferred then;
	struct round_turn turn;
	int runs;
};

static struct loop *loop;
static struct rounds rounds;

static void run(struct deferred *d)
{
	container_of(d, struct one, then)->runs++;
}

static void one_init(struct one *o)
{
	*o = (struct one){ .then.run = run };
	round_turn_init(&o->turn, loop, &o->then);
}

static void who_comes_while_it_is_quiet_goes_and_the_next_ones_wait(void **state)
{
	struct one a, b;

	(void)state;
	assert_int_equal(rounds_init(&rounds, loop_base(loop), ROUND_MS), 0);
	rounds.began_ms = loop_now_ms() - ROUND_MS;
	one_init(&a);
	one_init(&b);
	assert_true(rounds_go(&rounds, &a.turn));
	assert_false(rounds_go(&rounds, &b.turn));
	assert_false(rounds_go(&rounds, &a.turn));
	assert_false(rounds_go(&rounds, &a.turn));
	support_turn(loop, 2);
	assert_int_equal(a.runs + b.runs, 0);
	round_turn_deinit(&a.turn);
	round_turn_deinit(&b.turn);
	rounds_deinit(&rounds);
}

static void all_who_wait_go_in_one_turn_once(void **state)
{
	struct one some[3];

	(void)state;
	assert_int_equal(rounds_init(&rounds, loop_base(loop), 10), 0);
	rounds.began_ms = loop_now_ms();
	for (int i = 0; i < 3; i++) {
		one_init(&some[i]);
		assert_false(rounds_go(&rounds, &some[i].turn));
	}
	assert_true(support_turn_to(loop, &some[0].runs, 1));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(some[i].runs, 1);
		assert_true(rounds_go(&rounds, &some[i].turn));
	}
	rounds.began_ms = loop_now_ms();
	assert_false(rounds_go(&rounds, &some[1].turn));
	assert_true(support_turn_to(loop, &some[1].runs, 2));
	assert_int_equal(some[0].runs, 1);
	rounds_deinit(&rounds);
}

static void who_has_left_is_not_run_and_at_the_end_who_waits_is(void **state)
{
	struct one gone, stays;

	(void)state;
	assert_int_equal(rounds_init(&rounds, loop_base(loop), ROUND_MS), 0);
	rounds.began_ms = loop_now_ms();
	one_init(&gone);
	one_init(&stays);
	assert_false(rounds_go(&rounds, &gone.turn));
	assert_false(rounds_go(&rounds, &stays.turn));
	round_turn_deinit(&gone.turn);
	rounds_deinit(&rounds);
	assert_true(support_turn_to(loop, &stays.runs, 1));
	assert_int_equal(gone.runs, 0);
}

static int open_loop(void **state)
{
	(void)state;
	loop = loop_new(NULL);
	return !loop;
}

static int close_loop(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_comes_while_it_is_quiet_goes_and_the_next_ones_wait),
		cmocka_unit_test(all_who_wait_go_in_one_turn_once),
		cmocka_unit_test(who_has_left_is_not_run_and_at_the_end_who_waits_is),
	};

	return cmocka_run_group_tests_name("rounds", tests, open_loop, close_loop);
}
