/* SPDX-License-Identifier: MIT */
/* Tests of http_parse and http_uri: every form of a request and what it is judged to be, fed whole
 * and cut at each byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_parse.h"
#include "http_uri.h"

#define HOST "Host: a.example\r\n"
#define GET(rest) "GET / HTTP/1.1\r\n" HOST rest "\r\n"
#define POST(rest) "POST / HTTP/1.1\r\n" HOST rest
#define CHUNKED(body) POST("Transfer-Encoding: chunked\r\n\r\n") body
#define TARGET(t) "GET " t " HTTP/1.1\r\n" HOST "\r\n"

/* Bytes to the status that answers them; 0: a good request. */
struct judged {
	const char *bytes;
	int status;
	size_t n; /* 0: strlen */
};

#define WITH_NUL(s, status) { s, status, sizeof(s) - 1 }

static const struct judged cases[] = {
	/* request line */
	{ GET(""), 0, 0 },
	{ "\r\n" GET(""), 0, 0 },
	{ "\r\n\r\n" GET(""), 400, 0 },
	{ " GET / HTTP/1.1\r\n" HOST "\r\n", 400, 0 },
	{ "GET  / HTTP/1.1\r\n" HOST "\r\n", 400, 0 },
	{ "GET /  HTTP/1.1\r\n" HOST "\r\n", 400, 0 },
	{ "GET / HTTP/1.1 \r\n" HOST "\r\n", 400, 0 },
	{ "GET\t/ HTTP/1.1\r\n" HOST "\r\n", 400, 0 },
	{ "GET / HTTP/1.1\n" HOST "\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: a\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, 0 },
	{ "GET / HTTP/1.1\rHost: a\r\n\r\n", 400, 0 },
	{ "\n" GET(""), 400, 0 },
	{ "GET /\r\n\r\n", 400, 0 },
	{ "GET HTTP/1.1\r\n\r\n", 400, 0 },
	{ "G@T / HTTP/1.1\r\n" HOST "\r\n", 400, 0 },
	{ "\x16\x03\x01", 400, 0 },
	{ "get / HTTP/1.1\r\n" HOST "\r\n", 501, 0 },
	{ "BREW / HTTP/1.1\r\n" HOST "\r\n", 501, 0 },
	{ "CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n", 501, 0 },
	{ "TRACE / HTTP/1.1\r\n" HOST "\r\n", 501, 0 },
	{ "GET / HTTP/2.0\r\n" HOST "\r\n", 505, 0 },
	{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 0 },
	{ "GET / HTTP/1.2\r\n" HOST "\r\n", 505, 0 },
	{ "GET / HTTP/0.9\r\n" HOST "\r\n", 505, 0 },
	{ "GET / http/1.1\r\n" HOST "\r\n", 400, 0 },
	{ "GET / HTTP/1.10\r\n" HOST "\r\n", 400, 0 },
	{ "GET / HTTP/11\r\n" HOST "\r\n", 400, 0 },
	/* target */
	{ TARGET("*"), 400, 0 },
	{ "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0, 0 },
	{ TARGET("a"), 400, 0 },
	{ TARGET("/a#b"), 400, 0 },
	{ TARGET("/\xc3\xa9"), 400, 0 },
	{ TARGET("/\x01"), 400, 0 },
	{ TARGET("/\x7f"), 400, 0 },
	{ TARGET("/%"), 400, 0 },
	{ TARGET("/%2"), 400, 0 },
	{ TARGET("/%zz"), 400, 0 },
	{ TARGET("/%00"), 400, 0 },
	{ TARGET("/a%00.lua"), 400, 0 },
	{ TARGET("/%0a"), 400, 0 },
	{ TARGET("/%ff"), 400, 0 },
	{ TARGET("/%c3%28"), 400, 0 },
	{ TARGET("/%ed%a0%80"), 400, 0 },
	{ TARGET("/%c0%af"), 400, 0 },
	{ TARGET("/%c3%a9"), 0, 0 },
	{ TARGET("/.."), 400, 0 },
	{ TARGET("/../etc/passwd"), 400, 0 },
	{ TARGET("/a/../b"), 400, 0 },
	{ TARGET("/a/%2e%2e/b"), 400, 0 },
	{ TARGET("/a/.%2E"), 400, 0 },
	{ TARGET("/a%2f..%2fb"), 400, 0 },
	{ TARGET("/a..b/..c/d.."), 0, 0 },
	{ TARGET("/?x=%"), 400, 0 },
	{ TARGET("/?x=%ff"), 400, 0 },
	{ TARGET("/?%ff=x"), 400, 0 },
	{ TARGET("/?x=../..&y=web[01:20]"), 0, 0 },
	WITH_NUL("GET /\0 HTTP/1.1\r\n" HOST "\r\n", 400),
	WITH_NUL("G\0T / HTTP/1.1\r\n" HOST "\r\n", 400),
	WITH_NUL("GET / HTTP/1.1\0\r\n" HOST "\r\n", 400),
	{ TARGET("http://a.example/x"), 0, 0 },
	{ TARGET("HTTP://A.Example:80/x"), 0, 0 },
	{ TARGET("https://a.example:443"), 0, 0 },
	{ TARGET("http://b.example/x"), 400, 0 },
	{ TARGET("http://a.example:81/x"), 400, 0 },
	{ TARGET("http://me@a.example/x"), 400, 0 },
	{ TARGET("http:///x"), 400, 0 },
	{ TARGET("ftp://a.example/x"), 400, 0 },
	{ TARGET("http://a.example/../x"), 400, 0 },
	/* Host */
	{ "GET / HTTP/1.1\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.1\r\nHost: [::1]:16808\r\n\r\n", 0, 0 },
	{ "GET / HTTP/1.1\r\nHost: [nonsense]\r\n\r\n", 400, 0 },
	{ "GET / HTTP/1.0\r\n\r\n", 0, 0 },
	{ "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, 0 },
	/* fields */
	{ GET("A: b\r\n"), 0, 0 },
	{ GET("A:\r\n"), 0, 0 },
	{ GET("A: \xe9\r\n"), 0, 0 },
	{ GET("A : b\r\n"), 400, 0 },
	{ GET("A\t: b\r\n"), 400, 0 },
	{ GET(": b\r\n"), 400, 0 },
	{ GET("A b: c\r\n"), 400, 0 },
	{ GET("A\r\n"), 400, 0 },
	{ GET("A: b\r\n c\r\n"), 400, 0 },
	{ GET("A: b\r\n\tc\r\n"), 400, 0 },
	{ "GET / HTTP/1.1\r\n " HOST "\r\n", 400, 0 },
	{ GET("A: b\x01\r\n"), 400, 0 },
	{ GET("A: b\x7f\r\n"), 400, 0 },
	{ GET("A: b\rc\r\n"), 400, 0 },
	WITH_NUL(GET("A: b\0c\r\n"), 400),
	WITH_NUL(GET("A\0: b\r\n"), 400),
	/* length of a body */
	{ POST("\r\n"), 0, 0 },
	{ POST("Content-Length: 5\r\n\r\nhello"), 0, 0 },
	{ POST("Content-Length: 005\r\n\r\nhello"), 0, 0 },
	{ POST("Content-Length: +5\r\n\r\nhello"), 400, 0 },
	{ POST("Content-Length: -5\r\n\r\nhello"), 400, 0 },
	{ POST("Content-Length: 0x5\r\n\r\nhello"), 400, 0 },
	{ POST("Content-Length: 5 5\r\n\r\nhello"), 400, 0 },
	{ POST("Content-Length: 5, 5\r\n\r\nhello"), 400, 0 },
	{ POST("Content-Length: 5.0\r\n\r\nhello"), 400, 0 },
	{ POST("Content-Length:\r\n\r\n"), 400, 0 },
	{ POST("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), 400, 0 },
	{ POST("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), 400, 0 },
	{ POST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400, 0 },
	{ POST("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), 400, 0 },
	{ POST("Content-Length: 8388609\r\n\r\n"), 413, 0 },
	{ POST("Content-Length: 18446744073709551617\r\n\r\n"), 413, 0 },
	{ POST("Content-Length: 99999999999999999999999999\r\n\r\n"), 413, 0 },
	/* codings */
	{ POST("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"), 400, 0 },
	{ POST("Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n"), 0, 0 },
	{ POST("Transfer-Encoding: gzip\r\n\r\n"), 501, 0 },
	{ POST("Transfer-Encoding: xchunked\r\n\r\n"), 501, 0 },
	{ POST("Transfer-Encoding: identity\r\n\r\n"), 501, 0 },
	{ POST("Transfer-Encoding: gzip, chunked\r\n\r\n"), 400, 0 },
	{ POST("Transfer-Encoding: chunked, chunked\r\n\r\n"), 400, 0 },
	{ POST("Transfer-Encoding:\r\n\r\n"), 400, 0 },
	{ POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, 0 },
	{ "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, 0 },
	{ POST("Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab"), 415, 0 },
	{ POST("Content-Encoding: identity\r\nContent-Length: 2\r\n\r\nab"), 0, 0 },
	{ POST("Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab"), 0, 0 },
	{ POST("Expect: a-cookie\r\nContent-Length: 2\r\n\r\nab"), 417, 0 },
	/* chunks */
	{ CHUNKED("0\r\n\r\n"), 0, 0 },
	{ CHUNKED("5\r\nhello\r\n0\r\n\r\n"), 0, 0 },
	{ CHUNKED("A\r\n0123456789\r\na\r\n0123456789\r\n00\r\n\r\n"), 0, 0 },
	{ CHUNKED("5;ext=\"x\"\r\nhello\r\n0;last\r\nTrailer: x\r\n\r\n"), 0, 0 },
	{ CHUNKED("5\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("5\r\nhello\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("5\r\nhello!\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("5\r\nhell\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("+5\r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("-5\r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("0x5\r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED(" 5\r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("5 \r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("5 ;a\r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("\r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("g\r\n"), 400, 0 },
	{ CHUNKED("5;\x01\r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("800001\r\n"), 413, 0 },
	{ CHUNKED("5\r\nhello\r\n7ffffc\r\n"), 413, 0 },
	{ CHUNKED("FFFFFFFFFFFFFFFF\r\n"), 413, 0 },
	{ CHUNKED("00000000000000005\r\nhello\r\n0\r\n\r\n"), 400, 0 },
	{ CHUNKED("0\r\nTrailer : x\r\n\r\n"), 400, 0 },
	{ CHUNKED("0\r\n folded\r\n\r\n"), 400, 0 },
	WITH_NUL(CHUNKED("5\0\r\nhello\r\n0\r\n\r\n"), 400),
};

static struct http_parse parse;

static void start(const struct http_limits *limits)
{
	struct http_limits defaults;

	http_limits_init(&defaults);
	http_parse_init(&parse, limits ? limits : &defaults);
}

/* Feeds in two pieces, cut at `cut`; returns the last event. */
static enum http_event feed_cut(const char *bytes, size_t n, size_t cut)
{
	size_t ends[2] = { cut, n }, at = 0, used = 0;
	enum http_event ev = HTTP_MORE;

	for (int i = 0; i < 2; i++) {
		do {
			ev = http_parse_feed(&parse, bytes + at, ends[i] - at, &used);
			at += used;
		} while (ev == HTTP_HEAD);
		if (ev != HTTP_MORE)
			break;
	}
	return ev;
}

static enum http_event feed(const char *bytes)
{
	size_t n = strlen(bytes);

	return feed_cut(bytes, n, n);
}

static void each_form_is_judged_alike_at_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct judged *c = &cases[i];
		size_t n = c->n ? c->n : strlen(c->bytes);

		for (size_t cut = 0; cut <= n; cut++) {
			enum http_event ev;

			start(NULL);
			ev = feed_cut(c->bytes, n, cut);
			if (parse.status != c->status || ev != (c->status ? HTTP_BAD : HTTP_DONE))
				fail_msg("case %zu cut at %zu: event %d status %d '%s', not %d: %s",
					 i, cut, ev, parse.status, parse.message, c->status,
					 c->bytes);
			assert_true(!c->status == !parse.message[0]);
			http_parse_deinit(&parse);
		}
	}
}

static void what_was_read_is_there(void **state)
{
	const char *value;

	(void)state;
	start(NULL);
	assert_int_equal(feed("POST /a%20b/%c3%a9?x=1&y=%20 HTTP/1.1\r\nHost: H:1\r\n"
			      "X-Two:  a b \t\r\nx-two: c\r\nContent-Length: 3\r\n\r\nabc"),
			 HTTP_DONE);
	assert_string_equal(http_parse_method(&parse), "POST");
	assert_string_equal(http_parse_target(&parse), "/a%20b/%c3%a9?x=1&y=%20");
	assert_string_equal(http_parse_path(&parse), "/a b/\xc3\xa9");
	assert_string_equal(http_parse_query(&parse), "x=1&y=%20");
	assert_string_equal(http_parse_host(&parse), "H:1");
	assert_int_equal(parse.nfields, 4);
	assert_string_equal(http_parse_field(&parse, 2, &value), "x-two");
	assert_string_equal(value, "c");
	assert_string_equal(http_parse_header(&parse, "x-two"), "a b");
	assert_null(http_parse_header(&parse, "x-three"));
	assert_int_equal(parse.body.len, 3);
	assert_memory_equal(parse.body.data, "abc", 3);
	assert_true(parse.keep_alive);
	http_parse_deinit(&parse);
}

static void an_absolute_target_gives_its_host_and_path(void **state)
{
	(void)state;
	start(NULL);
	assert_int_equal(feed(TARGET("http://A.example?q")), HTTP_DONE);
	assert_string_equal(http_parse_path(&parse), "/");
	assert_string_equal(http_parse_query(&parse), "q");
	assert_string_equal(http_parse_host(&parse), "A.example");
	http_parse_deinit(&parse);
}

static void the_percent_sign_is_decoded_once(void **state)
{
	(void)state;
	start(NULL);
	assert_int_equal(feed(TARGET("/%252e%252e/%2541")), HTTP_DONE);
	assert_string_equal(http_parse_path(&parse), "/%2e%2e/%41");
	http_parse_deinit(&parse);
}

static void a_chunked_body_is_put_together(void **state)
{
	(void)state;
	start(NULL);
	assert_int_equal(feed(CHUNKED("3\r\nabc\r\nB;x=y\r\n0123456789\n\r\n0\r\nT: u\r\n\r\n")),
			 HTTP_DONE);
	assert_true(parse.chunked);
	assert_int_equal(parse.body.len, 14);
	assert_memory_equal(parse.body.data, "abc0123456789\n", 14);
	assert_null(http_parse_header(&parse, "t"));
	http_parse_deinit(&parse);
}

static void keep_alive_is_what_version_and_connection_say(void **state)
{
	static const struct {
		const char *bytes;
		bool keep;
	} table[] = {
		{ GET(""), true },
		{ GET("Connection: close\r\n"), false },
		{ GET("Connection: Keep-Alive\r\n"), true },
		{ GET("Connection: keep-alive, CLOSE\r\n"), false },
		{ GET("Connection: x\r\nConnection: close\r\n"), false },
		{ GET("Connection: closed\r\n"), true },
		{ "GET / HTTP/1.0\r\n\r\n", false },
		{ "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		start(NULL);
		assert_int_equal(feed(table[i].bytes), HTTP_DONE);
		if (parse.keep_alive != table[i].keep)
			fail_msg("%s", table[i].bytes);
		http_parse_deinit(&parse);
	}
}

static void bytes_of_the_next_request_are_left(void **state)
{
	static const char bytes[] = POST("Content-Length: 2\r\n\r\nab")
		"GET /next HTTP/1.1\r\n" HOST "\r\n";
	size_t used, at = 0;

	(void)state;
	start(NULL);
	assert_true(http_parse_idle(&parse));
	assert_int_equal(http_parse_feed(&parse, bytes, sizeof(bytes) - 1, &used), HTTP_HEAD);
	at += used;
	assert_int_equal(http_parse_feed(&parse, bytes + at, sizeof(bytes) - 1 - at, &used),
			 HTTP_DONE);
	at += used;
	assert_int_equal(http_parse_feed(&parse, bytes + at, 1, &used), HTTP_DONE);
	assert_int_equal(used, 0);
	http_parse_reset(&parse);
	assert_true(http_parse_idle(&parse));
	assert_int_equal(feed(bytes + at), HTTP_DONE);
	assert_string_equal(http_parse_path(&parse), "/next");
	assert_int_equal(parse.body.len, 0);
	http_parse_deinit(&parse);
}

static void the_body_is_judged_before_it_comes(void **state)
{
	size_t used;
	static const char bytes[] = POST("Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");

	(void)state;
	start(NULL);
	assert_int_equal(http_parse_feed(&parse, bytes, sizeof(bytes) - 1, &used), HTTP_HEAD);
	assert_true(parse.expect_continue);
	assert_int_equal(parse.length, 2);
	http_parse_deinit(&parse);
	start(NULL);
	assert_int_equal(feed(POST("Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")),
			 HTTP_BAD);
	assert_int_equal(parse.status, 413);
	http_parse_deinit(&parse);
	start(NULL); /* nothing to wait for */
	assert_int_equal(feed(POST("Expect: 100-continue\r\n\r\n")), HTTP_DONE);
	assert_false(parse.expect_continue);
	http_parse_deinit(&parse);
}

/* One request with a target, `lines` field lines and a body of these sizes. */
static int status_of_size(size_t target, size_t field, unsigned lines, size_t body, bool end)
{
	struct http_limits limits = { 100, 200, 5, 10 };
	struct buf b = { 0 };
	size_t used, at = 0;
	enum http_event ev;

	buf_puts(&b, "POST /");
	for (size_t i = 1; i < target; i++)
		buf_putc(&b, 'a');
	buf_puts(&b, end ? " HTTP/1.1\r\nHost: a\r\n" : "");
	for (unsigned i = 1; i < lines; i++)
		buf_puts(&b, "A:b\r\n");
	for (size_t i = 0; i < field; i++)
		buf_puts(&b, i ? "c" : "C:");
	if (body)
		buf_printf(&b, "\r\nContent-Length: %zu", body);
	buf_puts(&b, field || body ? "\r\n\r\n" : "\r\n");
	for (size_t i = 0; i < body; i++)
		buf_putc(&b, 'd');
	start(&limits);
	do {
		ev = http_parse_feed(&parse, b.data + at, b.len - at, &used);
		at += used;
	} while (ev == HTTP_HEAD);
	http_parse_deinit(&parse);
	buf_deinit(&b);
	return ev == HTTP_DONE ? 0 : ev == HTTP_MORE ? -1 : parse.status;
}

static void each_limit_holds_to_the_byte(void **state)
{
	(void)state;
	assert_int_equal(status_of_size(100, 0, 1, 0, true), 0);
	assert_int_equal(status_of_size(101, 0, 1, 0, true), 414);
	assert_int_equal(status_of_size(500, 0, 1, 0, true), 414);
	assert_int_equal(status_of_size(500, 0, 1, 0, false), 414);
	/* "Host: a\r\n" is 9 bytes; "C:" and its line end 4 */
	assert_int_equal(status_of_size(1, 200 - 9 - 3, 1, 0, true), 0);
	assert_int_equal(status_of_size(1, 200 - 9 - 2, 1, 0, true), 431);
	assert_int_equal(status_of_size(1, 500, 1, 0, true), 431);
	assert_int_equal(status_of_size(1, 0, 5, 0, true), 0);
	assert_int_equal(status_of_size(1, 0, 6, 0, true), 431);
	assert_int_equal(status_of_size(1, 1, 1, 10, true), 0);
	assert_int_equal(status_of_size(1, 1, 1, 11, true), 413);
}

static void a_trailer_counts_as_header(void **state)
{
	struct http_limits limits = { 100, 200, 3, 10 };

	(void)state;
	start(&limits);
	assert_int_equal(feed(CHUNKED("0\r\nA: b\r\n\r\n")), HTTP_DONE);
	http_parse_reset(&parse);
	assert_int_equal(feed(CHUNKED("0\r\nA: b\r\nC: d\r\n\r\n")), HTTP_BAD);
	assert_int_equal(parse.status, 431);
	http_parse_reset(&parse); /* one request's lines are not the next one's */
	assert_int_equal(feed(CHUNKED("0\r\nA: b\r\n\r\n")), HTTP_DONE);
	http_parse_deinit(&parse);
}

/* ---- queries ---- */

static int add_pair(void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	buf_printf(arg, "[%.*s=", (int)key_len, key);
	buf_add(arg, value, value_len);
	buf_putc(arg, ']');
	return 0;
}

static void a_query_gives_its_pairs_in_order(void **state)
{
	static const char *const table[][2] = {
		{ "", "" },
		{ "a", "[a=]" },
		{ "a=1&b=2&a=3", "[a=1][b=2][a=3]" },
		{ "&a=1&&b=&", "[a=1][b=]" },
		{ "a=b=c", "[a=b=c]" },
		{ "a+b=c+d%2Be", "[a b=c d+e]" },
		{ "%61%3d=%26%3D%2525", "[a==&=%25]" },
		{ "=x", "[=x]" },
		{ "t=%C3%A9", "[t=\xc3\xa9]" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct buf got = { 0 };

		assert_int_equal(http_uri_query(table[i][0], strlen(table[i][0]), add_pair, &got,
						NULL),
				 0);
		assert_string_equal(buf_str(&got), table[i][1]);
		buf_deinit(&got);
	}
}

static void a_bad_query_names_the_parameter(void **state)
{
	struct buf got = { 0 };
	struct err err;

	(void)state;
	assert_int_equal(http_uri_query("a=1&cmd=%f", 10, add_pair, &got, &err), -ERR_INVALID);
	assert_non_null(strstr(err.message, "'cmd'"));
	assert_int_equal(http_uri_query("cmd=%ff", 7, add_pair, &got, &err), -ERR_INVALID);
	assert_non_null(strstr(err.message, "'cmd'"));
	assert_int_equal(http_uri_query("cmd=a%00b", 9, add_pair, &got, &err), 0);
	assert_int_equal(got.len, strlen("[a=1][cmd=a_b]"));
	assert_memory_equal(got.data + 5, "[cmd=a\0b]", 9);
	buf_deinit(&got);
}

static void hosts_are_compared_without_case_and_default_port(void **state)
{
	(void)state;
	assert_true(http_uri_host_same("A", "a:80", 80));
	assert_true(http_uri_host_same("a:", "a:80", 80));
	assert_false(http_uri_host_same("a", "a:81", 80));
	assert_false(http_uri_host_same("a", "aa", 80));
	assert_int_equal(http_uri_host_len("[::1]:80"), 5);
	assert_int_equal(http_uri_host_len("name:80"), 4);
	assert_false(http_uri_host_ok("[::1"));
	assert_false(http_uri_host_ok(":80"));
	assert_false(http_uri_host_ok("[::1]x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_form_is_judged_alike_at_every_cut),
		cmocka_unit_test(what_was_read_is_there),
		cmocka_unit_test(an_absolute_target_gives_its_host_and_path),
		cmocka_unit_test(the_percent_sign_is_decoded_once),
		cmocka_unit_test(a_chunked_body_is_put_together),
		cmocka_unit_test(keep_alive_is_what_version_and_connection_say),
		cmocka_unit_test(bytes_of_the_next_request_are_left),
		cmocka_unit_test(the_body_is_judged_before_it_comes),
		cmocka_unit_test(each_limit_holds_to_the_byte),
		cmocka_unit_test(a_trailer_counts_as_header),
		cmocka_unit_test(a_query_gives_its_pairs_in_order),
		cmocka_unit_test(a_bad_query_names_the_parameter),
		cmocka_unit_test(hosts_are_compared_without_case_and_default_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
