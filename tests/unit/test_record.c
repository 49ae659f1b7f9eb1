/* SPDX-License-Identifier: MIT */
/* Tests of runtime/record.c: what becomes of a command's output and of its end. Every record is read
 * back with jansson. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"

#define MIB (1024u * 1024)

static const struct verdict verdicts[] = { { 0, STATUS_OK }, { 3, STATUS_CHANGED } };

static struct record_rules rules_of(bool lines)
{
	return (struct record_rules){
		.verdicts = verdicts,
		.nverdicts = 2,
		.otherwise = STATUS_FAILED,
		.command = true,
		.lines = lines,
		.output_cap = MIB,
	};
}

static struct ssh_result exited(int code)
{
	return (struct ssh_result){ .sent = true, .exited = true, .code = code, .survivors = -1 };
}

/* What a reader of the results stream has: the streams put together from parts, and the record. */
struct reader {
	struct buf streams[3];
	unsigned nparts;
	size_t longest;
	bool cut_character; /* a part began or ended inside of a character */
	bool cut_line;
	json_t *json;
	int status;
	unsigned flags;
};

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

static void read_part(struct reader *r, const struct entry *e)
{
	struct buf *b = &r->streams[e->stream];

	assert_int_equal(e->index, 7);
	assert_int_equal(e->offset, b->len); /* no gap, nothing twice */
	assert_true(e->len > 0);
	assert_true(e->len <= RECORD_PART);
	r->nparts++;
	r->longest = e->len > r->longest ? e->len : r->longest;
	r->cut_character = r->cut_character || is_continuation(e->data[0]);
	r->cut_line = r->cut_line || e->data[e->len - 1] != '\n';
	buf_add(b, e->data, e->len);
}

static void read_list(struct reader *r, struct entry *list)
{
	for (struct entry *next; list; list = next) {
		json_error_t error;

		next = list->next;
		if (list->kind == ENTRY_PART) {
			read_part(r, list);
		} else {
			assert_null(r->json);
			r->json = json_loadb(list->data, list->len,
					     JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
			if (!r->json)
				fail_msg("%s: %.*s", error.text, (int)list->len, list->data);
			r->status = list->status;
			r->flags = list->parts;
			assert_int_equal(list->index, 7);
			assert_int_equal(json_integer_value(json_object_get(r->json, "status")),
					 r->status);
		}
		entry_free(list);
	}
}

static void reader_deinit(struct reader *r)
{
	for (int i = 0; i < 3; i++)
		buf_deinit(&r->streams[i]);
	json_decref(r->json);
	memset(r, 0, sizeof(*r));
}

/* A whole run: n bytes of data to stdout in chunks, then the end. */
static void run(struct reader *r, const struct record_rules *rules, const char *data, size_t n,
		size_t chunk, const struct ssh_result *res)
{
	struct record rec;

	memset(r, 0, sizeof(*r));
	record_init(&rec, rules, 7);
	record_start(&rec);
	for (size_t at = 0; at < n; at += chunk)
		read_list(r, record_output(&rec, SSH_STDOUT, data + at,
					   n - at < chunk ? n - at : chunk, rules->output_cap));
	read_list(r, record_flush(&rec));
	read_list(r, record_end(&rec, res));
	record_deinit(&rec);
	assert_non_null(r->json);
}

static long long number(const struct reader *r, const char *name)
{
	const json_t *v = json_object_get(r->json, name);

	return json_is_integer(v) ? json_integer_value(v) : -999;
}

static bool is_true(const struct reader *r, const char *name)
{
	return json_is_true(json_object_get(r->json, name));
}

static bool has(const struct reader *r, const char *name)
{
	return json_object_get(r->json, name) != NULL;
}

static const char *text(const struct reader *r, const char *name)
{
	const char *s = json_string_value(json_object_get(r->json, name));

	return s ? s : "(none)";
}

static char *fill(size_t n, const char *pattern)
{
	size_t len = strlen(pattern);
	char *data = malloc(n);

	assert_non_null(data);
	for (size_t i = 0; i < n; i++)
		data[i] = pattern[i % len];
	return data;
}

/* ---- output ---- */

static void short_output_travels_inside_the_record(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	struct reader r;

	(void)state;
	run(&r, &rules, "a \"b\"\n", 6, 2, &res);
	assert_int_equal(r.nparts, 0);
	assert_int_equal(r.status, STATUS_OK);
	assert_int_equal(number(&r, "rtc"), 0);
	assert_string_equal(text(&r, "stdout"), "a \"b\"\n");
	assert_string_equal(text(&r, "stderr"), "");
	assert_false(has(&r, "stdout_bytes") || has(&r, "truncated") || has(&r, "stdout_b64"));
	assert_false(has(&r, "killed") || has(&r, "unknown") || has(&r, "output_open") ||
		     has(&r, "error") || has(&r, "timed_out") || has(&r, "cancelled"));
	assert_true(json_real_value(json_object_get(r.json, "started")) > 1e9);
	assert_true(json_real_value(json_object_get(r.json, "seconds")) >= 0);
	reader_deinit(&r);
}

static void both_streams_are_kept_apart(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	char *big = fill(100000, "err ");
	struct reader r = { 0 };
	struct record rec;

	(void)state;
	record_init(&rec, &rules, 7);
	for (int i = 0; i < 10; i++) {
		read_list(&r, record_output(&rec, SSH_STDERR, big + 10000 * i, 10000, MIB));
		read_list(&r, record_output(&rec, SSH_STDOUT, "out ", 4, MIB));
	}
	read_list(&r, record_flush(&rec));
	read_list(&r, record_end(&rec, &res));
	record_deinit(&rec);
	assert_int_equal(r.streams[SSH_STDERR].len, 100000);
	assert_memory_equal(r.streams[SSH_STDERR].data, big, 100000);
	assert_int_equal(strlen(text(&r, "stdout")), 40);
	assert_int_equal(r.flags, ENTRY_PARTS_STDERR);
	assert_int_equal(number(&r, "stderr_bytes"), 100000);
	assert_false(has(&r, "stderr"));
	reader_deinit(&r);
	free(big);
}

static void output_beyond_the_inline_limit_goes_out_in_parts_without_a_gap(void **state)
{
	static const size_t sizes[] = { RECORD_INLINE - 1, RECORD_INLINE, RECORD_INLINE + 1,
					RECORD_PART, RECORD_PART + 1, 2 * RECORD_PART + 1, 300000 };
	static const size_t chunks[] = { 1000, 32768, 65536, 300000 };
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		char *data = fill(sizes[i], "0123456789abcde");

		for (size_t k = 0; k < sizeof(chunks) / sizeof(*chunks); k++) {
			struct reader r;

			run(&r, &rules, data, sizes[i], chunks[k], &res);
			if (sizes[i] <= RECORD_INLINE) {
				assert_int_equal(r.nparts, 0);
				assert_int_equal(strlen(text(&r, "stdout")), sizes[i]);
			} else {
				assert_int_equal(r.flags, ENTRY_PARTS_STDOUT);
				assert_int_equal(r.streams[SSH_STDOUT].len, sizes[i]);
				assert_memory_equal(r.streams[SSH_STDOUT].data, data, sizes[i]);
				assert_int_equal(number(&r, "stdout_bytes"), sizes[i]);
				assert_false(has(&r, "stdout"));
			}
			reader_deinit(&r);
		}
		free(data);
	}
}

static void no_part_cuts_a_character_in_two(void **state)
{
	static const char *const patterns[] = { "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
						"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" };
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		size_t n = strlen(patterns[i]) * 30000;
		char *data = fill(n, patterns[i]);

		for (size_t chunk = 999; chunk < 70000; chunk = chunk * 3 + 1) {
			struct reader r;

			run(&r, &rules, data, n, chunk, &res);
			assert_true(r.nparts > 0);
			assert_false(r.cut_character);
			assert_int_equal(r.flags, ENTRY_PARTS_STDOUT); /* and none is called binary */
			assert_int_equal(r.streams[SSH_STDOUT].len, n);
			assert_memory_equal(r.streams[SSH_STDOUT].data, data, n);
			reader_deinit(&r);
		}
		free(data);
	}
}

static void bytes_that_are_no_text_go_out_whole_and_are_called_binary(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	char *data = malloc(200000);
	struct reader r;

	(void)state;
	for (size_t i = 0; i < 200000; i++)
		data[i] = (char)(i * 7 + i / 256);
	run(&r, &rules, data, 200000, 5000, &res);
	assert_int_equal(r.flags, ENTRY_PARTS_STDOUT | ENTRY_BINARY_STDOUT);
	assert_int_equal(r.streams[SSH_STDOUT].len, 200000);
	assert_memory_equal(r.streams[SSH_STDOUT].data, data, 200000);
	reader_deinit(&r);
	memset(data, 0x80, 200000); /* continuation bytes without a beginning */
	run(&r, &rules, data, 200000, 5000, &res);
	assert_int_equal(r.streams[SSH_STDOUT].len, 200000);
	reader_deinit(&r);
	memset(data, 0xf0, 200000); /* beginnings without an end */
	run(&r, &rules, data, 200000, 65536, &res);
	assert_int_equal(r.streams[SSH_STDOUT].len, 200000);
	reader_deinit(&r);
	free(data);
}

static void invalid_bytes_inside_a_record_are_readable_and_exact_beside(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	const json_t *out;
	struct reader r;

	(void)state;
	run(&r, &rules, "a\xff\x80z\0\x01", 6, 6, &res);
	out = json_object_get(r.json, "stdout");
	assert_int_equal(json_string_length(out), 10);
	assert_memory_equal(json_string_value(out), "a\xef\xbf\xbd\xef\xbf\xbdz\0\x01", 10);
	assert_string_equal(text(&r, "stdout_b64"), "Yf+AegAB");
	assert_false(has(&r, "stderr_b64"));
	reader_deinit(&r);
	run(&r, &rules, "x\0y", 3, 3, &res); /* NUL is a character: nothing is lost */
	out = json_object_get(r.json, "stdout");
	assert_int_equal(json_string_length(out), 3);
	assert_memory_equal(json_string_value(out), "x\0y", 3);
	assert_false(has(&r, "stdout_b64"));
	reader_deinit(&r);
}

static void output_over_the_cap_keeps_its_first_bytes_and_says_how_long_it_was(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	char *data = fill(500000, "0123456789");
	struct reader r;

	(void)state;
	rules.output_cap = 1000;
	run(&r, &rules, data, 500000, 700, &res);
	assert_true(is_true(&r, "truncated"));
	assert_int_equal(number(&r, "stdout_bytes"), 500000);
	assert_int_equal(strlen(text(&r, "stdout")), 1000);
	assert_memory_equal(text(&r, "stdout"), data, 1000);
	reader_deinit(&r);
	rules.output_cap = 100000;
	run(&r, &rules, data, 500000, 65536, &res);
	assert_true(is_true(&r, "truncated"));
	assert_int_equal(number(&r, "stdout_bytes"), 500000);
	assert_int_equal(r.streams[SSH_STDOUT].len, 100000);
	assert_memory_equal(r.streams[SSH_STDOUT].data, data, 100000);
	reader_deinit(&r);
	rules.output_cap = 500000; /* exactly as much as it may */
	run(&r, &rules, data, 500000, 65536, &res);
	assert_false(has(&r, "truncated"));
	reader_deinit(&r);
	free(data);
}

static void a_cap_that_is_lowered_on_the_way_keeps_what_was_taken(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	struct reader r = { 0 };
	struct record rec;

	(void)state;
	record_init(&rec, &rules, 7);
	read_list(&r, record_output(&rec, SSH_STDOUT, "0123456789", 10, MIB));
	read_list(&r, record_output(&rec, SSH_STDOUT, "abcdefghij", 10, 4));
	read_list(&r, record_output(&rec, SSH_STDOUT, "abcdefghij", 10, 12));
	read_list(&r, record_end(&rec, &res));
	record_deinit(&rec);
	assert_string_equal(text(&r, "stdout"), "0123456789ab");
	assert_int_equal(number(&r, "stdout_bytes"), 30);
	assert_true(is_true(&r, "truncated"));
	reader_deinit(&r);
}

static void output_without_memory_is_told_and_nothing_follows_the_gap(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	struct reader r = { 0 };
	struct record rec;

	(void)state;
	record_init(&rec, &rules, 7);
	read_list(&r, record_output(&rec, SSH_STDOUT, "01234", 5, MIB));
	rec.out.held.failed = true; /* as when it cannot grow */
	read_list(&r, record_output(&rec, SSH_STDOUT, "56789", 5, MIB));
	read_list(&r, record_output(&rec, SSH_STDOUT, "abcde", 5, MIB));
	read_list(&r, record_end(&rec, &res));
	record_deinit(&rec);
	assert_string_equal(text(&r, "stdout"), "01234");
	assert_int_equal(number(&r, "stdout_bytes"), 15);
	assert_true(is_true(&r, "truncated"));
	reader_deinit(&r);
}

static void lines_come_whole_and_at_once(void **state)
{
	struct record_rules rules = rules_of(true);
	struct ssh_result res = exited(0);
	struct reader r = { 0 };
	struct record rec;

	(void)state;
	record_init(&rec, &rules, 7);
	read_list(&r, record_output(&rec, SSH_STDOUT, "one\ntw", 6, MIB));
	assert_int_equal(r.streams[SSH_STDOUT].len, 4);
	read_list(&r, record_output(&rec, SSH_STDOUT, "o", 1, MIB));
	assert_int_equal(r.nparts, 1);
	read_list(&r, record_output(&rec, SSH_STDOUT, "\nthree", 6, MIB));
	assert_int_equal(r.streams[SSH_STDOUT].len, 8);
	assert_false(r.cut_line);
	read_list(&r, record_flush(&rec)); /* the end needs no newline */
	read_list(&r, record_end(&rec, &res));
	record_deinit(&rec);
	assert_int_equal(r.streams[SSH_STDOUT].len, 13);
	assert_memory_equal(r.streams[SSH_STDOUT].data, "one\ntwo\nthree", 13);
	assert_int_equal(number(&r, "stdout_bytes"), 13);
	reader_deinit(&r);
}

static void lines_wait_while_a_part_is_under_way(void **state)
{
	struct record_rules rules = rules_of(true);
	struct ssh_result res = exited(0);
	char *data = fill(RECORD_PART + 7, "012345\n");
	struct reader r = { 0 };
	struct record rec;

	(void)state;
	record_init(&rec, &rules, 7);
	rec.hold = true;
	read_list(&r, record_output(&rec, SSH_STDOUT, "one\ntwo\n", 8, MIB));
	read_list(&r, record_output(&rec, SSH_STDERR, "bad\n", 4, MIB));
	assert_int_equal(r.nparts, 0);
	read_list(&r, record_lines(&rec));
	assert_int_equal(r.nparts, 2);
	rec.hold = true;
	read_list(&r, record_output(&rec, SSH_STDOUT, data, RECORD_PART + 7, MIB));
	assert_int_equal(r.nparts, 3); /* what is held stays bounded */
	assert_false(r.cut_line);
	read_list(&r, record_output(&rec, SSH_STDERR, "worse\n", 6, MIB));
	assert_int_equal(r.nparts, 3);
	read_list(&r, record_flush(&rec)); /* the end waits for nobody */
	read_list(&r, record_end(&rec, &res));
	record_deinit(&rec);
	assert_int_equal(r.streams[SSH_STDOUT].len, 8 + RECORD_PART + 7);
	assert_int_equal(r.streams[SSH_STDERR].len, 10);
	reader_deinit(&r);
	free(data);
}

static void many_lines_in_one_chunk_are_still_cut_between_lines(void **state)
{
	struct record_rules rules = rules_of(true);
	struct ssh_result res = exited(0);
	char *data = fill(199997, "012345\n"); /* no line ends where a longest part would */
	struct reader r;

	(void)state;
	for (size_t chunk = 65536; chunk <= 200000; chunk += 67232) {
		run(&r, &rules, data, 199997, chunk, &res);
		assert_false(r.cut_line);
		assert_int_equal(r.streams[SSH_STDOUT].len, 199997);
		reader_deinit(&r);
	}
	memset(data, 'x', 199997); /* one line, longer than a part */
	run(&r, &rules, data, 199997, 65536, &res);
	assert_int_equal(r.streams[SSH_STDOUT].len, 199997);
	reader_deinit(&r);
	free(data);
}

/* ---- ends ---- */

static void the_exit_code_decides_the_status(void **state)
{
	static const struct { int code, status; } cases[] = {
		{ 0, STATUS_OK }, { 3, STATUS_CHANGED }, { 1, STATUS_FAILED }, { 255, STATUS_FAILED },
	};
	struct record_rules rules = rules_of(false);

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct ssh_result res = exited(cases[i].code);
		struct reader r;

		run(&r, &rules, "", 0, 1, &res);
		assert_int_equal(r.status, cases[i].status);
		assert_int_equal(number(&r, "rtc"), cases[i].code);
		reader_deinit(&r);
	}
}

static void a_signal_is_128_and_its_number(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = { .sent = true, .survivors = -1, .signal = "SEGV" };
	struct reader r;

	(void)state;
	run(&r, &rules, "", 0, 1, &res);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_int_equal(number(&r, "rtc"), 139);
	assert_string_equal(text(&r, "signal"), "SEGV");
	assert_false(has(&r, "unknown"));
	reader_deinit(&r);
}

static void a_time_limit_is_124_and_says_what_was_killed(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = { .sent = true, .timed_out = true, .killed = true, .survivors = 0,
				  .signal = "KILL", .killed_by = "session, tree" };
	struct reader r;

	(void)state;
	err_set(&res.err, ERR_TIMEOUT, "over its time limit of 1 s");
	run(&r, &rules, "so far", 6, 6, &res);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_int_equal(number(&r, "rtc"), 124);
	assert_true(is_true(&r, "timed_out") && is_true(&r, "killed"));
	assert_int_equal(number(&r, "survivors"), 0);
	assert_string_equal(text(&r, "killed_by"), "session, tree");
	assert_string_equal(text(&r, "stdout"), "so far");
	assert_string_equal(text(&r, "error"), "over its time limit of 1 s");
	reader_deinit(&r);
	assert_false(has(&r, "survivors_unknown"));
	res.possible = 3;
	run(&r, &rules, "", 0, 1, &res);
	assert_int_equal(number(&r, "survivors_unknown"), 3);
	reader_deinit(&r);
	res.survivors = res.possible = -1; /* not looked */
	res.killed = false;
	res.killed_by = KILL_UNVERIFIED;
	run(&r, &rules, "", 0, 1, &res);
	assert_true(has(&r, "killed") && !is_true(&r, "killed"));
	assert_string_equal(text(&r, "killed_by"), "not verified");
	assert_false(has(&r, "survivors") || has(&r, "survivors_unknown"));
	reader_deinit(&r);
}

static void a_cancel_says_so(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = { .sent = true, .cancelled = true, .killed = true, .survivors = 2,
				  .killed_by = "session, tree, op id" };
	struct reader r;

	(void)state;
	err_set(&res.err, ERR_CANCELLED, "cancelled");
	run(&r, &rules, "", 0, 1, &res);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_true(is_true(&r, "cancelled") && is_true(&r, "killed"));
	assert_int_equal(number(&r, "survivors"), 2);
	assert_false(has(&r, "unknown"));
	reader_deinit(&r);
	res = (struct ssh_result){ .survivors = -1 }; /* before anything was sent */
	err_set(&res.err, ERR_CANCELLED, "cancelled");
	run(&r, &rules, "", 0, 1, &res);
	assert_int_equal(r.status, STATUS_SKIPPED);
	assert_false(has(&r, "rtc") || has(&r, "stdout"));
	reader_deinit(&r);
}

/* It ended by itself before the kill reached it: its record is that of its end, or it would be run again. */
static void a_cancel_that_came_too_late_is_none(void **state)
{
	struct record_rules rules = rules_of(false);
	const struct ssh_result late = { .sent = true, .cancelled = true, .killed = true, .exited = true,
					 .killed_by = "session, tree, op id" };
	struct ssh_result res = late;
	struct reader r;

	(void)state;
	run(&r, &rules, "done\n", 5, 5, &res);
	assert_int_equal(r.status, STATUS_OK);
	assert_int_equal(number(&r, "rtc"), 0);
	assert_false(has(&r, "cancelled") || has(&r, "killed") || has(&r, "survivors") ||
		     has(&r, "killed_by") || has(&r, "error"));
	reader_deinit(&r);
	for (int i = 0; i < 4; i++) {
		res = late;
		res.survivors = i == 0; /* a part of it goes on */
		res.killed = i != 1;
		res.code = i == 2 ? 9 : 0;
		res.timed_out = i == 3;
		run(&r, &rules, "", 0, 1, &res);
		assert_int_equal(r.status, STATUS_FAILED);
		assert_true(is_true(&r, "cancelled") && has(&r, "killed"));
		reader_deinit(&r);
	}
}

static void a_connection_that_breaks_is_unknown_after_the_start_and_unreachable_before(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = { .sent = true, .survivors = -1 };
	struct reader r;

	(void)state;
	err_set(&res.err, ERR_UNREACHABLE, "the connection \"broke\"\n");
	run(&r, &rules, "half", 4, 4, &res);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_true(is_true(&r, "unknown"));
	assert_false(has(&r, "rtc"));
	assert_string_equal(text(&r, "error"), "the connection \"broke\"\n");
	assert_string_equal(text(&r, "stdout"), "half");
	reader_deinit(&r);
	res.sent = false;
	run(&r, &rules, "", 0, 1, &res);
	assert_int_equal(r.status, STATUS_UNREACHABLE);
	assert_false(has(&r, "unknown") || has(&r, "stdout") || has(&r, "rtc"));
	reader_deinit(&r);
}

static void an_output_that_stayed_open_is_told(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	struct reader r;

	(void)state;
	res.output_open = true;
	run(&r, &rules, "", 0, 1, &res);
	assert_true(is_true(&r, "output_open"));
	assert_int_equal(r.status, STATUS_OK);
	reader_deinit(&r);
}

static void a_look_counts_what_a_lost_op_left(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(0);
	struct reader r;

	(void)state;
	rules.look = true;
	res = (struct ssh_result){ .sent = true, .looked = true, .survivors = 2 };
	err_set(&res.err, ERR_UNREACHABLE, "node lost while running");
	run(&r, &rules, "", 0, 1, &res);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_true(is_true(&r, "unknown"));
	assert_int_equal(number(&r, "survivors"), 2);
	assert_string_equal(text(&r, "error"), "node lost while running");
	assert_false(has(&r, "stdout"));
	reader_deinit(&r);
	res = (struct ssh_result){ .survivors = -1 }; /* the host could not be asked */
	err_set(&res.err, ERR_UNREACHABLE, "no route");
	run(&r, &rules, "", 0, 1, &res);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_true(is_true(&r, "unknown"));
	assert_false(has(&r, "survivors"));
	reader_deinit(&r);
}

/* A failure of a quiet record with these streams; its error is left in the reader. */
static void fail_quietly(struct reader *r, const char *out, const char *err, size_t nerr)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = exited(5);
	struct record rec;

	memset(r, 0, sizeof(*r));
	rules.quiet_record = true;
	record_init(&rec, &rules, 7);
	record_start(&rec);
	read_list(r, record_output(&rec, SSH_STDOUT, out, strlen(out), MIB));
	read_list(r, record_output(&rec, SSH_STDERR, err, nerr, MIB));
	read_list(r, record_flush(&rec));
	read_list(r, record_end(&rec, &res));
	record_deinit(&rec);
	assert_int_equal(r->status, STATUS_FAILED);
	assert_int_equal(number(r, "rtc"), 5);
}

static void a_quiet_record_of_a_success_has_status_and_times_only(void **state)
{
	static const int codes[] = { 0, 3 };
	struct record_rules rules = rules_of(false);

	(void)state;
	rules.quiet_record = true;
	rules.output_cap = 4; /* what was cut is not told either */
	for (size_t i = 0; i < 2; i++) {
		struct ssh_result res = exited(codes[i]);
		struct reader r;

		run(&r, &rules, "words\n", 6, 6, &res);
		assert_int_equal(r.status, codes[i] ? STATUS_CHANGED : STATUS_OK);
		assert_int_equal(json_object_size(r.json), 3);
		assert_true(has(&r, "started") && has(&r, "seconds"));
		assert_int_equal(r.flags, 0);
		reader_deinit(&r);
	}
}

static void a_quiet_record_of_a_failure_has_the_last_words_as_its_error(void **state)
{
	char *many = fill(40 * 100, "a line of words, which is forty bytes \xc3\n");
	struct reader r;

	(void)state;
	fail_quietly(&r, "out\n", "\n Unit x.service not found.\n\n", 30);
	assert_string_equal(text(&r, "error"), "Unit x.service not found.");
	assert_string_equal(text(&r, "stdout"), "out\n");
	assert_string_equal(text(&r, "stderr"), "\n Unit x.service not found.\n\n");
	reader_deinit(&r);
	fail_quietly(&r, "said on stdout", " \n", 2);
	assert_string_equal(text(&r, "error"), "said on stdout");
	reader_deinit(&r);
	fail_quietly(&r, "", "", 0);
	assert_string_equal(text(&r, "error"), "it ended with exit code 5");
	reader_deinit(&r);

	fail_quietly(&r, "", many, 40 * 100); /* whole lines, within 1 KiB as they came */
	assert_int_equal(strncmp(text(&r, "error"), "a line", 6), 0);
	assert_true(strlen(text(&r, "error")) > 1000);
	assert_true(strlen(text(&r, "error")) <= 1024 + 2 * 25); /* U+FFFD is longer */
	reader_deinit(&r);
	for (size_t i = 0; i < 4000; i++)
		many[i] = "\xc3\xa4"[i % 2]; /* no line ends, so it is cut between characters */
	many[3998] = 'x';
	fail_quietly(&r, "", many, 3999);
	assert_int_equal(strlen(text(&r, "error")), 1024 - 1);
	assert_int_equal((unsigned char)text(&r, "error")[0], 0xc3);
	reader_deinit(&r);
	free(many);
}

static void a_quiet_record_of_what_never_ran_has_its_reason(void **state)
{
	struct record_rules rules = rules_of(false);
	struct ssh_result res = { .survivors = -1 };
	struct reader r;

	(void)state;
	rules.quiet_record = true;
	err_set(&res.err, ERR_UNREACHABLE, "no route");
	run(&r, &rules, "", 0, 1, &res);
	assert_int_equal(r.status, STATUS_UNREACHABLE);
	assert_string_equal(text(&r, "error"), "no route");
	assert_false(has(&r, "rtc") || has(&r, "stdout"));
	reader_deinit(&r);
}

static void ask_for_facts(struct reader *r, const char *out, size_t n, const struct ssh_result *res)
{
	struct record_rules rules = rules_of(false);

	rules.quiet_record = true;
	rules.facts = true;
	rules.output_cap = 4; /* facts have a bound of their own */
	run(r, &rules, out, n, 1000, res);
	assert_int_equal(r->nparts, 0);
	assert_int_equal(r->flags & (ENTRY_PARTS_STDOUT | ENTRY_PARTS_STDERR), 0);
}

static void the_record_of_facts_has_them_as_json(void **state)
{
	struct ssh_result res = exited(0);
	char *long_name = fill(40 * 1000, "a name of forty bytes in all, in one line");
	struct buf b = { 0 };
	struct reader r;

	(void)state;
	ask_for_facts(&r, "exed-facts 1\nmemory=4\nend\n", 27, &res);
	assert_int_equal(r.status, STATUS_OK);
	assert_int_equal(json_object_size(r.json), 4);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(r.json, "facts"),
							    "memory")), 4096);
	reader_deinit(&r);
	buf_printf(&b, "exed-facts 1\nhostname=%.40000s\nend\n", long_name);
	ask_for_facts(&r, b.data, b.len, &res); /* longer than what travels inside of other records */
	assert_int_equal(json_string_length(json_object_get(json_object_get(r.json, "facts"),
							    "hostname")), 40000);
	reader_deinit(&r);
	buf_deinit(&b);
	free(long_name);
}

/* ---- stdout that is JSON ---- */

static void ask_for_json(struct reader *r, const char *out, size_t n, const char *err, uint64_t cap,
			 const struct ssh_result *res)
{
	struct record_rules rules = rules_of(false);
	struct record record;

	memset(r, 0, sizeof(*r));
	rules.json = true;
	rules.output_cap = cap;
	record_init(&record, &rules, 7);
	record_start(&record);
	read_list(r, record_output(&record, SSH_STDOUT, out, n / 2, 4)); /* a lowered cap does not count */
	read_list(r, record_output(&record, SSH_STDOUT, out + n / 2, n - n / 2, 4));
	read_list(r, record_output(&record, SSH_STDERR, err, strlen(err), MIB));
	read_list(r, record_flush(&record));
	read_list(r, record_end(&record, res));
	record_deinit(&record);
}

static const char *text_of(const struct reader *r, const char *name)
{
	const char *text = json_string_value(json_object_get(r->json, name));

	return text ? text : "";
}

static void json_is_merged_into_the_record(void **state)
{
	static const char text[] = " {\"disk\": {\"used\": [1, 2.5, null]},\n \"n\\u0000m\\u00e9\": \"a\\u0000\\n\", "
				   "\"big\": 9223372036854775807, \"\": true}\n";
	static const char plain[] = " {\"disk\": {\"used\": [1, 2.5, null]},\n \"nm\\u00e9\": \"a\\u0000\\n\", "
				    "\"big\": 9223372036854775807, \"\": true}\n";
	struct ssh_result res = exited(3);
	struct reader r;

	(void)state;
	ask_for_json(&r, plain, strlen(plain), "said\n", MIB, &res);
	assert_int_equal(r.status, STATUS_CHANGED);
	assert_int_equal(json_integer_value(json_object_get(r.json, "big")), INT64_MAX);
	assert_int_equal(json_string_length(json_object_get(r.json, "nm\xc3\xa9")), 3);
	assert_int_equal(json_array_size(json_object_get(json_object_get(r.json, "disk"), "used")), 3);
	assert_true(json_is_true(json_object_get(r.json, "")));
	assert_string_equal(text_of(&r, "stdout"), "");
	assert_string_equal(text_of(&r, "stderr"), "said\n");
	assert_int_equal(json_integer_value(json_object_get(r.json, "rtc")), 3);
	assert_null(json_object_get(r.json, "error"));
	assert_int_equal(r.nparts, 0);
	json_decref(r.json);
	/* A failure's fields are told, too. */
	res = exited(1);
	ask_for_json(&r, plain, strlen(plain), "", MIB, &res);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_non_null(json_object_get(r.json, "disk"));
	assert_null(json_object_get(r.json, "error"));
	json_decref(r.json);
	res = exited(1);
	ask_for_json(&r, "", 0, "why\n", MIB, &res);
	assert_null(json_object_get(r.json, "error"));
	json_decref(r.json);
	res = exited(0);
	ask_for_json(&r, text, strlen(text), "", MIB, &res);
	assert_int_equal(r.status, STATUS_FAILED); /* NUL in a name */
	json_decref(r.json);
}

static void what_cannot_be_merged_is_a_failure_with_the_reason(void **state)
{
	static const struct { const char *text, *why; } cases[] = {
		{ "", "its stdout cannot be merged into the record: " },
		{ "no json", "its stdout cannot be merged into the record: " },
		{ "[1]", "it is no JSON object" },
		{ "{\"a\":1", "its stdout cannot be merged into the record: " },
		{ "{\"a\":1}{\"b\":2}", "its stdout cannot be merged into the record: " },
		{ "{\"a\":1,\"a\":2}", "its stdout cannot be merged into the record: " },
		{ "{\"a\":\"\xff\"}", "its stdout cannot be merged into the record: " },
		{ "{\"a\":NaN}", "its stdout cannot be merged into the record: " },
		{ "{\"a\":1,\"status\":1}", "the field \"status\" is exed's own" },
		{ "{\"rtc\":0}", "the field \"rtc\" is exed's own" },
		{ "{\"return_data\":0}", "the field \"return_data\" is exed's own" },
	};
	struct reader r;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct ssh_result res = exited(0);

		ask_for_json(&r, cases[i].text, strlen(cases[i].text), "", MIB, &res);
		assert_int_equal(r.status, STATUS_FAILED);
		assert_non_null(strstr(text_of(&r, "error"), cases[i].why));
		assert_null(json_object_get(r.json, "a"));
		assert_int_equal(json_integer_value(json_object_get(r.json, "rtc")), 0);
		assert_int_equal(strlen(text_of(&r, "stdout")) > 0, i > 0); /* as it came */
		json_decref(r.json);
	}
}

static void json_that_is_too_long_is_told_in_part(void **state)
{
	static char text[300000];
	struct ssh_result res = exited(0);
	struct reader r;

	(void)state;
	memset(text, ' ', sizeof(text));
	text[0] = '{';
	text[sizeof(text) - 1] = '}';
	ask_for_json(&r, text, sizeof(text), "", MIB, &res);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_string_equal(text_of(&r, "error"), "its stdout is longer than the 262144 bytes that are read as JSON");
	assert_int_equal(strlen(text_of(&r, "stdout")), RECORD_INLINE);
	assert_true(json_is_true(json_object_get(r.json, "truncated")));
	assert_int_equal(json_integer_value(json_object_get(r.json, "stdout_bytes")), sizeof(text));
	assert_int_equal(r.nparts, 0);
	json_decref(r.json);
	ask_for_json(&r, "{\"a\": 1}", 8, "", 7, &res);
	assert_string_equal(text_of(&r, "error"), "its stdout is longer than the 7 bytes that are read as JSON");
	json_decref(r.json);
}

static void what_is_no_facts_fails_with_the_reason_and_a_little_of_it(void **state)
{
	struct ssh_result good = exited(0), bad = exited(7);
	char *long_text = fill(200 * 1000, "exed-facts 1\nhostname=a\n");
	struct reader r;

	(void)state;
	ask_for_facts(&r, "exed-facts 1\nwho\xff=1\n", 21, &good);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_string_equal(text(&r, "error"),
			    "line 1 of its facts is not one that is known: who\xef\xbf\xbd=1");
	assert_int_equal(number(&r, "rtc"), 0);
	assert_false(has(&r, "facts") || has(&r, "truncated"));
	reader_deinit(&r);
	ask_for_facts(&r, long_text, 200 * 1000, &good);
	assert_int_equal(r.status, STATUS_FAILED);
	assert_string_equal(text(&r, "error"), "its facts are longer than 131072 bytes");
	assert_int_equal(strlen(text(&r, "stdout")), 4096);
	assert_int_equal(number(&r, "stdout_bytes"), 200 * 1000);
	assert_true(has(&r, "truncated"));
	reader_deinit(&r);
	ask_for_facts(&r, "exed-facts 1\nend\n", 17, &bad); /* the exit code counts, too */
	assert_int_equal(r.status, STATUS_FAILED);
	assert_int_equal(number(&r, "rtc"), 7);
	assert_false(has(&r, "facts"));
	reader_deinit(&r);
	free(long_text);
}

static void a_host_on_which_nothing_ran_has_status_and_reason(void **state)
{
	struct reader r = { 0 };

	(void)state;
	read_list(&r, record_plain(7, STATUS_SKIPPED, "cancelled by \x01\xff\""));
	assert_int_equal(r.status, STATUS_SKIPPED);
	assert_string_equal(text(&r, "error"), "cancelled by \x01\xef\xbf\xbd\"");
	reader_deinit(&r);
	read_list(&r, record_plain(7, STATUS_OK, NULL));
	assert_int_equal(json_object_size(r.json), 1);
	reader_deinit(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_output_travels_inside_the_record),
		cmocka_unit_test(both_streams_are_kept_apart),
		cmocka_unit_test(output_beyond_the_inline_limit_goes_out_in_parts_without_a_gap),
		cmocka_unit_test(no_part_cuts_a_character_in_two),
		cmocka_unit_test(bytes_that_are_no_text_go_out_whole_and_are_called_binary),
		cmocka_unit_test(invalid_bytes_inside_a_record_are_readable_and_exact_beside),
		cmocka_unit_test(output_over_the_cap_keeps_its_first_bytes_and_says_how_long_it_was),
		cmocka_unit_test(a_cap_that_is_lowered_on_the_way_keeps_what_was_taken),
		cmocka_unit_test(output_without_memory_is_told_and_nothing_follows_the_gap),
		cmocka_unit_test(lines_come_whole_and_at_once),
		cmocka_unit_test(lines_wait_while_a_part_is_under_way),
		cmocka_unit_test(many_lines_in_one_chunk_are_still_cut_between_lines),
		cmocka_unit_test(the_exit_code_decides_the_status),
		cmocka_unit_test(a_signal_is_128_and_its_number),
		cmocka_unit_test(a_time_limit_is_124_and_says_what_was_killed),
		cmocka_unit_test(a_cancel_says_so),
		cmocka_unit_test(a_cancel_that_came_too_late_is_none),
		cmocka_unit_test(a_connection_that_breaks_is_unknown_after_the_start_and_unreachable_before),
		cmocka_unit_test(an_output_that_stayed_open_is_told),
		cmocka_unit_test(a_look_counts_what_a_lost_op_left),
		cmocka_unit_test(a_quiet_record_of_a_success_has_status_and_times_only),
		cmocka_unit_test(a_quiet_record_of_a_failure_has_the_last_words_as_its_error),
		cmocka_unit_test(a_quiet_record_of_what_never_ran_has_its_reason),
		cmocka_unit_test(the_record_of_facts_has_them_as_json),
		cmocka_unit_test(json_is_merged_into_the_record),
		cmocka_unit_test(what_cannot_be_merged_is_a_failure_with_the_reason),
		cmocka_unit_test(json_that_is_too_long_is_told_in_part),
		cmocka_unit_test(what_is_no_facts_fails_with_the_reason_and_a_little_of_it),
		cmocka_unit_test(a_host_on_which_nothing_ran_has_status_and_reason),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
