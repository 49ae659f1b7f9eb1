/* SPDX-License-Identifier: MIT */
/* Tests of runtime/log.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "log.h"
#include "support.h"

static char dir[64], error_path[96], access_path[96];
static int fds;

static int setup(void **state)
{
	(void)state;
	fds = support_count_fds();
	if (!support_make_dir(dir, sizeof(dir)))
		return -1;
	snprintf(error_path, sizeof(error_path), "%s/error", dir);
	snprintf(access_path, sizeof(access_path), "%s/access", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	log_close();
	log_open(NULL, NULL, LOG_INFO, NULL);
	unlink(error_path);
	unlink(access_path);
	return rmdir(dir) || support_count_fds() != fds;
}

static char text[1 << 20];

static const char *read_log(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

static size_t count_lines(const char *s)
{
	size_t n = 0;

	while ((s = strchr(s, '\n'))) {
		n++;
		s++;
	}
	return n;
}

static void a_line_has_time_level_area_and_message(void **state)
{
	int y, mo, d, h, mi, s, ms;
	char level[16], area[16], rest[64];

	(void)state;
	assert_int_equal(log_open(error_path, NULL, LOG_INFO, NULL), 0);
	log_warn("test", "host=%s n=%d", "web1", 7);
	assert_int_equal(sscanf(read_log(error_path), "%d-%d-%dT%d:%d:%d.%dZ %15s %15s %63[^\n]", &y,
				&mo, &d, &h, &mi, &s, &ms, level, area, rest), 10);
	assert_string_equal(level, "warning");
	assert_string_equal(area, "test");
	assert_string_equal(rest, "host=web1 n=7");
}

static void lines_below_the_level_are_not_written(void **state)
{
	(void)state;
	assert_int_equal(log_open(error_path, NULL, LOG_WARNING, NULL), 0);
	log_info("test", "no");
	log_debug("test", "no");
	log_error("test", "yes");
	assert_int_equal(count_lines(read_log(error_path)), 1);
	assert_int_equal(log_level_parse("warning"), LOG_WARNING);
	assert_int_equal(log_level_parse("loud"), -1);
}

static void what_a_host_sends_cannot_forge_a_line_or_steer_a_terminal(void **state)
{
	char quoted[64];

	(void)state;
	assert_int_equal(log_open(error_path, access_path, LOG_INFO, NULL), 0);
	log_info("a\nb", "one\ntwo\r\x1b[2Jthree\x7f\xc2\x9b\tfour\xff");
	log_access("GET %s", "/x\n/y");
	assert_int_equal(count_lines(read_log(error_path)), 1);
	for (const char *c = text; c[1]; c++)
		assert_in_range(*c, 0x20, 0x7e);
	assert_non_null(strstr(text, "one"));
	assert_non_null(strstr(text, "three"));
	assert_non_null(strstr(text, "four\\xff"));
	assert_int_equal(count_lines(read_log(access_path)), 1);
	assert_string_equal(log_quote(quoted, sizeof(quoted), "a\"\\\n\0b", 6), "a\\x22\\x5c\\x0a\\x00b");
	assert_string_equal(log_quote(quoted, 8, "abcdefghijkl", 12), "abc");
}

static void long_lines_are_cut_whatever_is_long(void **state)
{
	char *big = malloc(20001);

	(void)state;
	memset(big, '\n', 20000);
	big[20000] = '\0';
	assert_int_equal(log_open(error_path, access_path, LOG_INFO, NULL), 0);
	log_info("test", "%s", big);
	log_info(big, "%s", "short");
	log_access("%s", big);
	memset(big, 'x', 20000);
	log_info("test", "%s", big);
	log_info(big, "%s", big);
	log_access("%s", big);
	free(big);
	assert_int_equal(count_lines(read_log(error_path)), 4);
	assert_true(strlen(text) <= 4 * 4096);
	assert_int_equal(count_lines(read_log(access_path)), 2);
	assert_true(strlen(text) <= 2 * 4096);
}

static void logs_can_be_opened_anew_and_closed_without_a_lost_descriptor(void **state)
{
	char moved[128];

	(void)state;
	snprintf(moved, sizeof(moved), "%s.1", error_path);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(log_open(error_path, access_path, LOG_INFO, NULL), 0);
		assert_true(log_access_on());
		assert_int_equal(log_open(NULL, NULL, LOG_INFO, NULL), 0);
		assert_false(log_access_on());
	}
	assert_int_equal(log_open(error_path, access_path, LOG_INFO, NULL), 0);
	log_info("test", "before");
	assert_int_equal(rename(error_path, moved), 0);
	assert_int_equal(log_open(error_path, access_path, LOG_INFO, NULL), 0);
	log_info("test", "after");
	assert_non_null(strstr(read_log(moved), "before"));
	assert_null(strstr(text, "after"));
	assert_non_null(strstr(read_log(error_path), "after"));
	unlink(moved);
	log_close();
	assert_int_equal(support_count_fds(), fds);
}

static void a_log_that_cannot_be_opened_is_named_and_changes_nothing(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(log_open(error_path, NULL, LOG_INFO, NULL), 0);
	assert_int_equal(log_open("/nowhere/log", NULL, LOG_INFO, &err), -ERR_SYSTEM);
	assert_non_null(strstr(err.message, "/nowhere/log"));
	assert_int_equal(log_open(error_path, "/nowhere/log", LOG_INFO, &err), -ERR_SYSTEM);
	log_info("test", "still");
	assert_non_null(strstr(read_log(error_path), "still"));
}

static void *write_many(void *arg)
{
	for (int i = 0; i < 2000; i++)
		log_info("thread", "%s", (const char *)arg);
	return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state)
{
	static const char *const words[] = { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
					     "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" };
	pthread_t threads[2];
	int lines = 0;

	(void)state;
	assert_int_equal(log_open(error_path, NULL, LOG_INFO, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, (void *)words[i]), 0);
	for (int i = 0; i < 20; i++) /* while it is opened anew */
		assert_int_equal(log_open(error_path, NULL, LOG_INFO, NULL), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	read_log(error_path);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		const char *word = strrchr(line, ' ');

		assert_non_null(word);
		assert_true(!strcmp(word + 1, words[0]) || !strcmp(word + 1, words[1]));
		lines++;
	}
	assert_int_equal(lines, 4000);
}

/* A file at its limit is like one on a full disk: it takes a part of a line, then nothing. */
static void lines_that_a_full_disk_loses_are_counted_when_there_is_room(void **state)
{
	struct rlimit old, small;
	void (*was)(int) = signal(SIGXFSZ, SIG_IGN);
	const char *s;

	(void)state;
	assert_int_equal(log_open(error_path, NULL, LOG_INFO, NULL), 0);
	getrlimit(RLIMIT_FSIZE, &old);
	small = (struct rlimit){ 100, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 5; i++)
		log_info("test", "a line of sixty and some bytes, of which one fits: %d", i);
	setrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, was);
	log_info("test", "there is room");
	log_info("test", "and again");
	s = read_log(error_path);
	assert_int_equal(count_lines(s), 5);
	assert_non_null(strstr(s, "fits: 0\n"));
	assert_null(strstr(s, "fits: 1"));
	assert_non_null(strstr(s, " warning log 4 lines before this one were lost: "));
	assert_non_null(strstr(s, " test there is room\n"));
	assert_non_null(strstr(s, " test and again\n"));
}

static void a_log_that_never_takes_a_line_does_no_harm(void **state)
{
	(void)state;
	assert_int_equal(log_open("/dev/full", "/dev/full", LOG_INFO, NULL), 0);
	for (int i = 0; i < 1000; i++) {
		log_info("test", "%d", i);
		log_access("%d", i);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_line_has_time_level_area_and_message),
		TEST(lines_below_the_level_are_not_written),
		TEST(what_a_host_sends_cannot_forge_a_line_or_steer_a_terminal),
		TEST(long_lines_are_cut_whatever_is_long),
		TEST(logs_can_be_opened_anew_and_closed_without_a_lost_descriptor),
		TEST(a_log_that_cannot_be_opened_is_named_and_changes_nothing),
		TEST(lines_of_several_threads_do_not_mix),
		TEST(a_log_that_never_takes_a_line_does_no_harm),
		TEST(lines_that_a_full_disk_loses_are_counted_when_there_is_room),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
