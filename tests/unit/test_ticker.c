/* SPDX-License-Identifier: MIT */
/* Tests of runtime/ticker.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "ticker.h"

static volatile sig_atomic_t ticks;
static pthread_t where;

static void count(void *arg)
{
	(void)arg;
	where = pthread_self();
	ticks++;
}

static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Computes until it has ticked so often, or for that many seconds of CPU. */
static void compute(int until, double s)
{
	double end = cpu_now() + s;

	while (ticks < until && cpu_now() < end)
		;
}

static void it_ticks_while_the_thread_computes(void **state)
{
	struct ticker t = { 0 };
	double start = cpu_now();

	(void)state;
	ticks = 0;
	assert_true(ticker_start(&t, 5, count, NULL));
	compute(4, 10);
	ticker_stop(&t);
	assert_true(ticks >= 4);
	assert_true(cpu_now() - start > 0.015);
	assert_true(pthread_equal(where, pthread_self()));
}

static void a_thread_that_sleeps_is_left_alone(void **state)
{
	struct timespec nap = { 0, 100000000 };
	struct ticker t = { 0 };

	(void)state;
	ticks = 0;
	assert_true(ticker_start(&t, 20, count, NULL));
	assert_int_equal(nanosleep(&nap, NULL), 0);
	ticker_stop(&t);
	assert_int_equal(ticks, 0);
}

static void one_that_was_stopped_is_silent(void **state)
{
	struct ticker t = { 0 };

	(void)state;
	assert_true(ticker_start(&t, 5, count, NULL));
	ticker_stop(&t);
	ticker_stop(&t);
	ticks = 0;
	compute(1, 0.05);
	assert_int_equal(ticks, 0);
}

static void a_signal_of_somebody_else_is_nothing(void **state)
{
	(void)state;
	ticks = 0;
	assert_int_equal(raise(SIGVTALRM), 0); /* the handler stays after the tests before */
	assert_int_equal(ticks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_ticks_while_the_thread_computes),
		cmocka_unit_test(a_thread_that_sleeps_is_left_alone),
		cmocka_unit_test(one_that_was_stopped_is_silent),
		cmocka_unit_test(a_signal_of_somebody_else_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
