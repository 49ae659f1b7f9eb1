/* SPDX-License-Identifier: MIT */
/* Tests of runtime/dues.c: limits pass in their order, once, and only those that have not ended. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "dues.h"
#include "support.h"

#define THINGS 6

static struct {
	struct loop *loop;
	struct dues dues;
	struct due things[THINGS];
	int64_t at_ms[THINGS];
	int order[2 * THINGS], passed;
	int again; /* this one is set once more when it passes; -1: none */
} t;

static void on_passed(struct due *d)
{
	int i = (int)(d - t.things);

	assert_int_equal(d->at_ms, 0);
	assert_true(t.passed < 2 * THINGS);
	t.order[t.passed++] = i;
	if (i != t.again)
		return;
	t.again = -1;
	dues_set(&t.dues, d, 0);
}

static void set(int i, int64_t ms)
{
	dues_set(&t.dues, &t.things[i], ms);
	t.at_ms[i] = t.things[i].at_ms;
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	t.again = -1;
	t.loop = loop_new(NULL);
	return dues_init(&t.dues, loop_base(t.loop), on_passed);
}

static int teardown(void **state)
{
	(void)state;
	dues_deinit(&t.dues);
	loop_free(t.loop);
	return 0;
}

static void turn(int n)
{
	assert_true(support_turn_to(t.loop, &t.passed, n));
	support_turn(t.loop, 100);
	assert_int_equal(t.passed, n);
}

static void expect(const int *order, int n)
{
	turn(n);
	assert_memory_equal(t.order, order, (size_t)n * sizeof(*order));
}

/* In the order of their times, whatever held up this program while it set them. */
static void expect_all(int n)
{
	unsigned seen = 0;

	turn(n);
	for (int i = 0; i < n; i++) {
		seen |= 1u << t.order[i];
		assert_true(!i || t.at_ms[t.order[i - 1]] <= t.at_ms[t.order[i]]);
	}
	assert_int_equal(seen, (1u << n) - 1);
}

static void they_pass_in_their_order(void **state)
{
	(void)state;
	for (int i = 0; i < THINGS; i++)
		set(i, (THINGS - i) * 5);
	expect_all(THINGS);
}

static void one_that_has_ended_does_not_pass(void **state)
{
	(void)state;
	for (int i = 0; i < THINGS; i++)
		set(i, 1 + i * 5);
	dues_end(&t.dues, &t.things[0]);
	dues_end(&t.dues, &t.things[0]);
	dues_end(&t.dues, &t.things[3]);
	dues_end(&t.dues, &t.things[5]);
	expect((int[]){ 1, 2, 4 }, 3);
}

static void one_that_is_set_anew_passes_then(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		set(i, 1 + i * 10);
	set(0, 60);
	set(2, 1);
	expect_all(3);
}

static void one_that_is_set_when_it_passes_passes_again(void **state)
{
	(void)state;
	set(0, 1);
	set(1, 3600000);
	t.again = 0;
	expect((int[]){ 0, 0 }, 2);
}

static void a_shorter_limit_does_not_wait_for_a_longer_one(void **state)
{
	(void)state;
	set(0, 3600000);
	set(1, 1);
	expect((int[]){ 1 }, 1);
	set(2, 1);
	expect((int[]){ 1, 2 }, 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(they_pass_in_their_order),
		T(one_that_has_ended_does_not_pass),
		T(one_that_is_set_anew_passes_then),
		T(one_that_is_set_when_it_passes_passes_again),
		T(a_shorter_limit_does_not_wait_for_a_longer_one),
	};

	return cmocka_run_group_tests_name("dues", tests, NULL, NULL);
}
