/* SPDX-License-Identifier: MIT */
/* Tests of runtime/metrics.c: what threads count is summed, and the text has the form that Prometheus reads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"

#define THREADS 40 /* more than there are blocks */
#define ROUNDS 10000

static char *write_all(void)
{
	struct buf b = { 0 };
	size_t n;
	char *text;

	metrics_write(&b);
	metrics_write_process(&b);
	text = buf_take(&b, &n);
	assert_non_null(text);
	return text;
}

/* The number on the line that begins with the name (labels included). */
static double value_of(const char *name)
{
	char *text = write_all(), *line, *rest = NULL;
	size_t n = strlen(name);
	double value = -1;

	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		if (!strncmp(line, name, n) && line[n] == ' ')
			value = strtod(line + n, NULL);
	free(text);
	if (value < 0)
		fail_msg("there is no %s", name);
	return value;
}

static void *count_a_lot(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		metric_add(METRIC_REDIS_OK, 1);
		metric_add(METRIC_QUEUE_IN, i % 2 ? -1 : 1);
		metric_observe(METRIC_TIME_EXEC, 2000000);
	}
	return NULL;
}

static void what_threads_count_is_summed(void **state)
{
	double ok = value_of("exed_redis_commands_total{result=\"ok\"}");
	pthread_t threads[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_a_lot, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(value_of("exed_redis_commands_total{result=\"ok\"}") == ok + THREADS * ROUNDS);
	assert_true(value_of("exed_queue_messages{queue=\"to_hosts\"}") == 0);
	assert_true(value_of("exed_exec_seconds_count") == THREADS * ROUNDS);
	assert_true(value_of("exed_exec_seconds_sum") == 2.0 * THREADS * ROUNDS);
	assert_true(value_of("exed_exec_seconds_bucket{le=\"1\"}") == 0);
	assert_true(value_of("exed_exec_seconds_bucket{le=\"2.5\"}") == THREADS * ROUNDS);
}

static void a_time_counts_in_each_bucket_from_its_own_on(void **state)
{
	static const int64_t times[] = { -5, 0, 100, 101, 10000000, 10000001, INT64_MAX / 4 };

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++)
		metric_observe(METRIC_TIME_LOOP_LAG, times[i]);
	assert_true(value_of("exed_loop_lag_seconds_bucket{le=\"0.0001\"}") == 3);
	assert_true(value_of("exed_loop_lag_seconds_bucket{le=\"0.00025\"}") == 4);
	assert_true(value_of("exed_loop_lag_seconds_bucket{le=\"2.5\"}") == 4);
	assert_true(value_of("exed_loop_lag_seconds_bucket{le=\"10\"}") == 5);
	assert_true(value_of("exed_loop_lag_seconds_bucket{le=\"+Inf\"}") == 7);
	assert_true(value_of("exed_loop_lag_seconds_count") == 7);
}

static void a_gauge_never_looks_less_than_nothing(void **state)
{
	(void)state;
	metric_add(METRIC_SINK_BYTES, -10);
	assert_true(value_of("exed_sink_waiting_bytes") == 0);
	metric_add(METRIC_SINK_BYTES, 13);
	assert_true(value_of("exed_sink_waiting_bytes") == 3);
	metric_add(METRIC_SINK_BYTES, -3);
}

static void a_metric_is_found_by_its_label(void **state)
{
	(void)state;
	assert_int_equal(metric_find("exed_jobs_submitted_total", "operation=\"ping\""),
			 METRIC_JOBS_PING);
	assert_int_equal(metric_find("exed_jobs_submitted_total", "operation=\"dance\""), -1);
	assert_int_equal(metric_find("exed_ssh_waiting", ""), -1);
	assert_int_equal(metric_find("exed_nothing", "operation=\"ping\""), -1);
}

static bool is_name(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!(islower((unsigned char)s[i]) || s[i] == '_' || (i && isdigit((unsigned char)s[i]))))
			return false;
	return n > 0;
}

/* Each family once: HELP, TYPE, then its lines. */
static void every_family_has_its_help_and_type_before_its_lines(void **state)
{
	char *text = write_all(), *line, *rest = NULL, family[80] = "", seen[8192] = "";
	int families = 0;

	(void)state;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char name[80], type[20], quoted[84];

		if (sscanf(line, "# HELP %79s", name) == 1) {
			assert_true(line[strlen(line) - 1] == '.');
			snprintf(quoted, sizeof(quoted), " %s ", name);
			assert_null(strstr(seen, quoted));
			strcat(seen, quoted);
			strcpy(family, name);
			families++;
		} else if (sscanf(line, "# TYPE %79s %19s", name, type) == 2) {
			assert_string_equal(name, family);
			assert_true(!strcmp(type, "counter") || !strcmp(type, "gauge") ||
				    !strcmp(type, "histogram"));
			/* A counter's name says that it is one; a histogram's has its unit. */
			assert_int_equal(strstr(name, "_total") != NULL, !strcmp(type, "counter"));
			if (!strcmp(type, "histogram"))
				assert_non_null(strstr(name, "_seconds"));
		} else {
			assert_int_equal(strncmp(line, family, strlen(family)), 0);
			assert_true(is_name(line, strcspn(line, " {")));
			assert_non_null(strrchr(line, ' '));
		}
	}
	assert_true(families > 25);
	free(text);
}

static void the_process_has_memory_time_and_descriptors(void **state)
{
	(void)state;
	assert_true(value_of("process_resident_memory_bytes") > 100000);
	assert_true(value_of("process_virtual_memory_bytes") >
		    value_of("process_resident_memory_bytes"));
	assert_true(value_of("process_start_time_seconds") > 1e9);
	assert_true(value_of("process_open_fds") >= 3);
	assert_true(value_of("process_threads") >= 1);
	assert_true(value_of("process_cpu_seconds_total") >= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_threads_count_is_summed),
		cmocka_unit_test(a_time_counts_in_each_bucket_from_its_own_on),
		cmocka_unit_test(a_gauge_never_looks_less_than_nothing),
		cmocka_unit_test(a_metric_is_found_by_its_label),
		cmocka_unit_test(every_family_has_its_help_and_type_before_its_lines),
		cmocka_unit_test(the_process_has_memory_time_and_descriptors),
	};

	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
