/* SPDX-License-Identifier: MIT */
/* Tests of the HTTP server over real sockets: what each request is answered, in order and in
 * pieces; streams, slow and vanishing clients, limits. Ends with no connection and no descriptor
 * left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"
#include "http_client.h"

#define HOST "Host: a\r\n"
#define GET(path, rest) "GET " path " HTTP/1.1\r\n" HOST rest "\r\n"
#define POST(rest) "POST /echo HTTP/1.1\r\n" HOST rest

static struct {
	struct loop *loop;
	struct http_server *server;
	struct http_options options;
	unsigned port;
	struct http_request *held; /* what /late has left open */
	int started, gone, drained, judged;
	char why[64];
	size_t to_write, written; /* of /flood */
} t;

/* ---- the server's user ---- */

static void note_gone(struct http_request *req, const char *why)
{
	assert_int_equal(http_respond(req, 200, NULL, 0, NULL, 0, NULL), -ERR_CLOSED);
	assert_int_equal(http_write(req, "x", 1), -ERR_CLOSED);
	t.gone++;
	t.held = NULL;
	snprintf(t.why, sizeof(t.why), "%s", why);
}

static char pattern(size_t i)
{
	return (char)('a' + i % 23);
}

static void flood(struct http_request *req)
{
	char piece[16384];

	while (t.written < t.to_write) {
		for (size_t i = 0; i < sizeof(piece); i++)
			piece[i] = pattern(t.written + i);
		t.written += sizeof(piece);
		if (http_write(req, piece, sizeof(piece)) != 1)
			return;
	}
	t.held = NULL;
	http_end(req);
}

static void note_drain(struct http_request *req)
{
	t.drained++;
	flood(req);
}

static void describe(struct http_request *req)
{
	struct buf b = { 0 };
	const char *value, *name;

	buf_printf(&b, "%s|%s|%s|%s|%s|%s|", req->method, req->path, req->query, req->host,
		   req->tag, req->peer);
	for (unsigned i = 0; (name = http_request_field(req, i, &value)); i++)
		buf_printf(&b, "%s=%s;", name, value);
	http_respond(req, 200, NULL, 0, b.data, b.len, NULL);
	buf_deinit(&b);
}

static void stream(struct http_request *req)
{
	const struct http_pair type = { "Content-Type", "application/x-ndjson" };

	assert_int_equal(http_start(req, 200, &type, 1, NULL), 0);
	assert_int_equal(http_start(req, 200, NULL, 0, NULL), -ERR_CLOSED);
	assert_int_equal(http_write(req, "one\n", 4), 1);
	assert_int_equal(http_write(req, "", 0), 1);
	assert_int_equal(http_write(req, "second\n", 7), 1);
	if (!strcmp(req->path, "/cut"))
		http_cut(req);
	else
		http_end(req);
}

static void on_request(struct http_request *req, void *arg)
{
	const struct http_pair location = { "Location", "/jobs/1" };

	assert_ptr_equal(arg, &t);
	req->on_gone = note_gone;
	req->on_drain = note_drain;
	t.started++;
	if (!strcmp(req->path, "/echo")) {
		http_respond(req, 200, NULL, 0, req->body, req->body_len, NULL);
	} else if (!strcmp(req->path, "/describe")) {
		describe(req);
	} else if (!strcmp(req->path, "/created")) {
		http_respond(req, 201, &location, 1, "{}", 2, NULL);
	} else if (!strcmp(req->path, "/none")) {
		http_respond(req, 204, NULL, 0, NULL, 0, NULL);
	} else if (!strcmp(req->path, "/late")) {
		t.held = req;
	} else if (!strcmp(req->path, "/stream") || !strcmp(req->path, "/cut")) {
		stream(req);
	} else if (!strcmp(req->path, "/flood")) {
		t.held = req;
		http_start(req, 200, NULL, 0, NULL);
		flood(req);
	} else if (!strcmp(req->path, "/hang-up")) {
		http_cut(req);
	} else {
		http_respond(req, 200, NULL, 0, "hello", 5, NULL);
	}
}

static void on_head(struct http_request *req, void *arg)
{
	assert_ptr_equal(arg, &t);
	assert_int_equal(req->body_len, 0);
	t.judged++;
	if (!strcmp(req->path, "/refused"))
		http_respond(req, 403, NULL, 0, "no", 2, NULL);
}

/* ---- around each test ---- */

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int fds_before;

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	fds_before = count_fds();
	t.loop = loop_new(NULL);
	assert_non_null(t.loop);
	client_loop(t.loop);
	http_options_init(&t.options);
	t.options.server = "test/1";
	return 0;
}

static void serve(void)
{
	struct err err;

	t.server = http_server_new(t.loop, &t.options, on_request, &t, &err);
	assert_non_null(t.server);
	http_server_on_head(t.server, on_head);
	if (http_server_listen(t.server, "127.0.0.1:0", "exed", &err))
		fail_msg("%s", err.message);
	t.port = http_server_port(t.server);
}

static int teardown(void **state)
{
	(void)state;
	if (t.server) {
		client_turn();
		http_server_free(t.server);
	}
	loop_free(t.loop);
	return count_fds() == fds_before ? 0 : -1;
}

/* Sends bytes on a new connection and reads one answer. */
static void ask(const void *bytes, size_t n, struct answer *a)
{
	int fd = client_dial(t.port);

	client_send(fd, bytes, n);
	client_read(fd, a, n > 4 && !memcmp(bytes, "HEAD", 4));
	if (a->status >= 400 && !a->closed) {
		size_t more = client_read_end(fd, NULL);

		assert_int_equal(more, 0);
		a->closed = true;
	}
	close(fd);
}

static void expect_status(const char *bytes, int status)
{
	struct answer a;

	ask(bytes, strlen(bytes), &a);
	if (a.status != status)
		fail_msg("%d, not %d: %s", a.status, status, bytes);
	client_answer_free(&a);
}

static void expect_body(struct answer *a, int status, const char *body)
{
	assert_int_equal(a->status, status);
	assert_int_equal(a->body.len, strlen(body));
	assert_memory_equal(a->body.data, body, a->body.len);
	client_answer_free(a);
}

/* ---- whole answers ---- */

static void an_answer_has_its_headers(void **state)
{
	struct answer a;

	(void)state;
	serve();
	ask(GET("/created", ""), strlen(GET("/created", "")), &a);
	assert_memory_equal(a.head.data, "HTTP/1.1 201 Created\r\n", 22);
	assert_string_equal(client_field(&a, "Location"), "/jobs/1");
	assert_string_equal(client_field(&a, "Server"), "test/1");
	assert_string_equal(client_field(&a, "Content-Type"), "application/json");
	assert_string_equal(client_field(&a, "Content-Length"), "2");
	assert_int_equal(strlen(client_field(&a, "Date")), strlen("Sun, 06 Nov 1994 08:49:37 GMT"));
	assert_null(client_field(&a, "Connection"));
	client_answer_free(&a);
	ask(GET("/none", ""), strlen(GET("/none", "")), &a);
	assert_int_equal(a.status, 204);
	assert_null(client_field(&a, "Content-Length"));
	assert_null(client_field(&a, "Content-Type"));
	client_answer_free(&a);
}

static void a_request_is_described_to_its_user(void **state)
{
	static const char bytes[] = "GET /describe?a=%20 HTTP/1.1\r\nHost: H:1\r\nX-Y: z\r\n\r\n";
	struct answer a;

	(void)state;
	serve();
	ask(bytes, strlen(bytes), &a);
	assert_int_equal(a.status, 200);
	assert_memory_equal(buf_str(&a.body), "GET|/describe|a=%20|H:1|exed|127.0.0.1:", 38);
	assert_non_null(strstr(a.body.data, "|host=H:1;x-y=z;"));
	client_answer_free(&a);
}

static void what_cannot_be_sent_is_refused(void **state)
{
	static const struct http_pair bad[] = {
		{ "A", "b\r\nC: d" }, { "A\n", "b" },        { "A:", "b" },
		{ "", "b" },          { "Content-Length", "3" }, { "transfer-encoding", "chunked" },
		{ "Connection", "keep-alive" }, { "Server", "x" },  { "Date", "now" },
	};
	struct answer a;
	struct err err;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", ""));
	client_until_count(&t.started, 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(http_respond(t.held, 200, &bad[i], 1, "", 0, &err), -ERR_INVALID);
		assert_int_equal(http_start(t.held, 200, &bad[i], 1, &err), -ERR_INVALID);
	}
	assert_int_equal(http_respond(t.held, 100, NULL, 0, "", 0, &err), -ERR_INVALID);
	assert_int_equal(http_respond(t.held, 1000, NULL, 0, "", 0, &err), -ERR_INVALID);
	assert_int_equal(http_write(t.held, "x", 1), -ERR_CLOSED);
	assert_int_equal(http_respond_message(t.held, 500, "a \"b\"", NULL), 0);
	client_read(fd, &a, false);
	expect_body(&a, 500, "{\"message\": \"a \\\"b\\\"\"}");
	close(fd);
}

static void a_user_may_ask_to_close(void **state)
{
	const struct http_pair bye = { "Connection", "close" };
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", ""));
	client_until_count(&t.started, 1);
	assert_int_equal(http_respond(t.held, 200, &bye, 1, "x", 1, NULL), 0);
	client_read(fd, &a, false);
	assert_string_equal(client_field(&a, "Connection"), "close");
	assert_int_equal(client_read_end(fd, NULL), 0);
	client_answer_free(&a);
	close(fd);
}

/* ---- judged by the server itself ---- */

static void each_malformed_form_is_answered_and_closed(void **state)
{
	static const struct {
		const char *bytes;
		int status;
	} table[] = {
		{ "GET / HTTP/1.1\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\nHost: a\n\n", 400 },
		{ "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400 },
		{ "GET / HTTP/1.1\r\nHost: a\r\nA: \x01\r\n\r\n", 400 },
		{ GET("/%00", ""), 400 },
		{ GET("/../etc", ""), 400 },
		{ GET("/%2e%2e/etc", ""), 400 },
		{ GET("http://b/", ""), 400 },
		{ GET("/?a=%ff", ""), 400 },
		{ POST("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400 },
		{ POST("Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"), 400 },
		{ POST("Content-Length: +1\r\n\r\nx"), 400 },
		{ POST("Content-Length: 0x1\r\n\r\nx"), 400 },
		{ POST("Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n"), 400 },
		{ POST("Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n"), 400 },
		{ POST("Transfer-Encoding: gzip\r\n\r\n"), 501 },
		{ POST("Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), 415 },
		{ POST("Content-Length: 8388609\r\n\r\n"), 413 },
		{ POST("Transfer-Encoding: chunked\r\n\r\nffffff\r\n"), 413 },
		{ POST("Expect: x\r\nContent-Length: 1\r\n\r\nx"), 417 },
		{ "BREW / HTTP/1.1\r\n" HOST "\r\n", 501 },
		{ "GET / HTTP/3.0\r\n" HOST "\r\n", 505 },
		{ "\x16\x03\x01\x02", 400 },
	};

	(void)state;
	serve();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct answer a;

		ask(table[i].bytes, strlen(table[i].bytes), &a);
		if (a.status != table[i].status || !a.closed)
			fail_msg("%d, not %d: %s", a.status, table[i].status, table[i].bytes);
		assert_string_equal(client_field(&a, "Connection"), "close");
		assert_string_equal(client_field(&a, "Content-Type"), "application/json");
		assert_memory_equal(buf_str(&a.body), "{\"message\": \"", 13);
		client_answer_free(&a);
		expect_status(GET("/", ""), 200);
	}
	assert_int_equal(t.started, (int)(sizeof(table) / sizeof(table[0])));
}

static void what_is_too_large_has_its_status(void **state)
{
	static const struct {
		const char *before, *after;
		size_t n;
		int status;
	} table[] = {
		{ "GET /", " HTTP/1.1\r\n" HOST "\r\n", 8191, 200 },
		{ "GET /", " HTTP/1.1\r\n" HOST "\r\n", 8192, 414 },
		{ "GET /", "", 100000, 414 },
		{ "GET / HTTP/1.1\r\n" HOST "A: ", "\r\n\r\n", 16000, 200 },
		{ "GET / HTTP/1.1\r\n" HOST "A: ", "\r\n\r\n", 17000, 431 },
		{ "GET / HTTP/1.1\r\n" HOST "A: ", "", 200000, 431 },
	};

	(void)state;
	serve();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct buf b = { 0 };
		struct answer a;

		buf_puts(&b, table[i].before);
		for (size_t k = 0; k < table[i].n; k++)
			buf_putc(&b, 'a');
		buf_puts(&b, table[i].after);
		ask(b.data, b.len, &a);
		if (a.status != table[i].status)
			fail_msg("case %zu: %d, not %d", i, a.status, table[i].status);
		client_answer_free(&a);
		buf_deinit(&b);
	}
}

static void a_refused_body_does_not_lose_the_answer(void **state)
{
	struct buf b = { 0 };
	struct answer a;

	(void)state;
	serve();
	buf_puts(&b, POST("Content-Length: 9000000\r\n\r\n"));
	for (size_t i = 0; i < 3000000; i++)
		buf_putc(&b, 'x');
	ask(b.data, b.len, &a);
	assert_int_equal(a.status, 413);
	assert_false(a.cut);
	assert_non_null(strstr(buf_str(&a.body), "larger than 8388608 bytes"));
	client_answer_free(&a);
	buf_deinit(&b);
}

static void options_of_the_server_are_answered(void **state)
{
	struct answer a;
	static const char bytes[] = "OPTIONS * HTTP/1.1\r\n" HOST "\r\n";

	(void)state;
	serve();
	ask(bytes, strlen(bytes), &a);
	assert_int_equal(a.status, 204);
	assert_non_null(strstr(client_field(&a, "Allow"), "GET, HEAD"));
	assert_int_equal(t.started, 0);
	client_answer_free(&a);
}

/* ---- reading ---- */

static void a_request_may_be_cut_anywhere(void **state)
{
	static const char bytes[] = POST("Transfer-Encoding: chunked\r\n\r\n")
		"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
	struct answer a;

	(void)state;
	serve();
	for (size_t cut = 1; cut < sizeof(bytes) - 1; cut++) {
		int fd = client_dial(t.port);

		client_send(fd, bytes, cut);
		client_turn();
		client_send(fd, bytes + cut, sizeof(bytes) - 1 - cut);
		client_read(fd, &a, false);
		expect_body(&a, 200, "abcde");
		close(fd);
	}
}

static void bodies_arrive_whole(void **state)
{
	struct buf b = { 0 };
	struct answer a;
	size_t n = 3000000;

	(void)state;
	serve();
	buf_printf(&b, POST("Content-Length: %zu\r\n\r\n"), n);
	for (size_t i = 0; i < n; i++)
		buf_putc(&b, pattern(i));
	ask(b.data, b.len, &a);
	assert_int_equal(a.status, 200);
	assert_int_equal(a.body.len, n);
	assert_memory_equal(a.body.data, b.data + b.len - n, n);
	client_answer_free(&a);
	buf_deinit(&b);
}

static void expect_continue_is_told_to_go_on(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, POST("Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
	client_read(fd, &a, false);
	assert_int_equal(a.status, 100);
	client_answer_free(&a);
	client_puts(fd, "abc");
	client_read(fd, &a, false);
	expect_body(&a, 200, "abc");
	/* The body is there already: no 100. */
	client_puts(fd, POST("Expect: 100-continue\r\nContent-Length: 3\r\n\r\ndef"));
	client_read(fd, &a, false);
	expect_body(&a, 200, "def");
	close(fd);
	expect_status(POST("Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"), 413);
}

#define REFUSED(rest) "POST /refused HTTP/1.1\r\n" HOST rest

static void a_body_may_be_refused_before_it_comes(void **state)
{
	static const char *const heads[] = {
		REFUSED("Content-Length: 3\r\n\r\n"),
		REFUSED("Content-Length: 3\r\n\r\nab"),
		REFUSED("Content-Length: 8000000\r\n\r\nab"),
		REFUSED("Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"),
		REFUSED("Transfer-Encoding: chunked\r\n\r\n"),
		REFUSED("Transfer-Encoding: chunked\r\n\r\n2\r\nab"),
	};
	struct answer a;

	(void)state;
	serve();
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		ask(heads[i], strlen(heads[i]), &a);
		assert_true(a.closed);
		expect_body(&a, 403, "no");
	}
	assert_int_equal(t.started, 0);
	assert_int_equal(t.judged, 6);
	assert_int_equal(http_server_counts(t.server).requests, 6);
	assert_int_equal(http_server_counts(t.server).open, 0);
}

static void a_body_that_is_there_is_not_asked_about(void **state)
{
	static const char chunks[] =
		POST("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
	struct answer a;

	(void)state;
	serve();
	expect_status(REFUSED("Content-Length: 3\r\n\r\nabc"), 200);
	expect_status(REFUSED("\r\n"), 200);
	assert_int_equal(t.judged, 0);
	/* Where a body in chunks ends is not known before it has been read. */
	ask(chunks, strlen(chunks), &a);
	assert_false(a.closed);
	expect_body(&a, 200, "ab");
	assert_int_equal(t.judged, 1);
	assert_int_equal(http_server_counts(t.server).requests, 3);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct buf b = { 0 };
	struct answer a;
	int fd;

	(void)state;
	serve();
	for (int i = 0; i < 1000; i++)
		buf_printf(&b, POST("Content-Length: 4\r\n\r\n%04d"), i);
	fd = client_dial(t.port);
	client_send(fd, b.data, b.len);
	for (int i = 0; i < 1000; i++) {
		char body[16];

		client_read(fd, &a, false);
		snprintf(body, sizeof(body), "%04d", i);
		expect_body(&a, 200, body);
	}
	close(fd);
	buf_deinit(&b);
}

static void one_request_at_a_time_is_handed_over(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", "") POST("Content-Length: 1\r\n\r\nx"));
	client_until_count(&t.started, 1);
	client_pass(20);
	assert_int_equal(t.started, 1);
	assert_int_equal(http_server_counts(t.server).open, 1);
	assert_int_equal(http_respond(t.held, 200, NULL, 0, "first", 5, NULL), 0);
	client_read(fd, &a, false);
	expect_body(&a, 200, "first");
	client_read(fd, &a, false);
	expect_body(&a, 200, "x");
	assert_int_equal(http_server_counts(t.server).open, 0);
	close(fd);
}

static void a_bad_request_behind_a_good_one_comes_second(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/", "") "NONSENSE\r\n\r\n" GET("/", ""));
	client_read(fd, &a, false);
	expect_body(&a, 200, "hello");
	client_read(fd, &a, false);
	assert_int_equal(a.status, 400);
	client_answer_free(&a);
	assert_int_equal(client_read_end(fd, NULL), 0);
	assert_int_equal(t.started, 1);
	close(fd);
}

static void a_close_is_kept(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/", "Connection: close\r\n") GET("/", ""));
	client_read(fd, &a, false);
	assert_string_equal(client_field(&a, "Connection"), "close");
	expect_body(&a, 200, "hello");
	assert_int_equal(client_read_end(fd, NULL), 0);
	assert_int_equal(t.started, 1);
	close(fd);
}

static void head_has_no_body(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	for (int i = 0; i < 2; i++) {
		client_puts(fd, "HEAD / HTTP/1.1\r\n" HOST "\r\n");
		client_read(fd, &a, true);
		assert_int_equal(a.status, 200);
		assert_string_equal(client_field(&a, "Content-Length"), "5");
		client_answer_free(&a);
	}
	client_puts(fd, "HEAD /stream HTTP/1.1\r\n" HOST "\r\n");
	client_read(fd, &a, true);
	assert_string_equal(client_field(&a, "Transfer-Encoding"), "chunked");
	client_answer_free(&a);
	client_puts(fd, GET("/", ""));
	client_read(fd, &a, false);
	expect_body(&a, 200, "hello");
	close(fd);
	/* A refusal has none either: the client would take it for the next answer. */
	ask("HEAD / HTTP/1.1\r\n\r\n", 19, &a);
	assert_int_equal(a.status, 400);
	client_answer_free(&a);
}

/* ---- HTTP/1.0 ---- */

static void http10_closes_unless_asked(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	ask("GET / HTTP/1.0\r\n\r\n", 18, &a);
	assert_string_equal(client_field(&a, "Connection"), "close");
	expect_body(&a, 200, "hello");
	fd = client_dial(t.port);
	for (int i = 0; i < 2; i++) {
		client_puts(fd, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
		client_read(fd, &a, false);
		assert_string_equal(client_field(&a, "Connection"), "keep-alive");
		expect_body(&a, 200, "hello");
	}
	client_puts(fd, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	client_read(fd, &a, false);
	assert_null(client_field(&a, "Transfer-Encoding"));
	assert_string_equal(client_field(&a, "Connection"), "close");
	assert_true(a.closed);
	expect_body(&a, 200, "one\nsecond\n");
	close(fd);
}

static void a_cut_stream_is_seen_to_be_cut(void **state)
{
	struct answer a;

	(void)state;
	serve();
	ask(GET("/cut", ""), strlen(GET("/cut", "")), &a);
	assert_true(a.cut);
	expect_body(&a, 200, "4\r\none\n\r\n7\r\nsecond\n\r\n");
	ask("GET /cut HTTP/1.0\r\n\r\n", 21, &a);
	assert_true(a.cut);
	client_answer_free(&a);
	ask(GET("/hang-up", ""), strlen(GET("/hang-up", "")), &a);
	assert_int_equal(a.status, 0);
	client_answer_free(&a);
	assert_int_equal(t.gone, 0);
}

/* ---- streams ---- */

static void a_stream_is_chunked_and_keeps_the_connection(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	for (int i = 0; i < 2; i++) {
		client_puts(fd, GET("/stream", ""));
		client_read(fd, &a, false);
		assert_string_equal(client_field(&a, "Content-Type"), "application/x-ndjson");
		expect_body(&a, 200, "4\r\none\n\r\n7\r\nsecond\n\r\n0\r\n\r\n");
	}
	close(fd);
}

/* Reads a close-delimited flood and checks each byte. */
static void check_flood(const struct buf *b, size_t n)
{
	assert_int_equal(b->len, n);
	for (size_t i = 0; i < n; i++)
		if (b->data[i] != pattern(i))
			fail_msg("byte %zu differs", i);
}

static void a_slow_reader_holds_back_its_writer_only(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	t.to_write = 40 << 20;
	fd = client_dial(t.port);
	client_puts(fd, "GET /flood HTTP/1.0\r\n\r\n");
	client_until_count(&t.started, 1);
	client_pass(20);
	assert_int_equal(t.drained, 0);
	assert_true(t.written < t.to_write / 2);
	expect_status(GET("/", ""), 200);
	client_read(fd, &a, false);
	assert_true(t.drained > 0);
	check_flood(&a.body, t.to_write);
	client_answer_free(&a);
	close(fd);
}

static void a_client_that_takes_nothing_is_dropped(void **state)
{
	int fd;

	(void)state;
	t.options.stall_ms = 100;
	serve();
	t.to_write = 40 << 20;
	fd = client_dial(t.port);
	client_puts(fd, GET("/flood", ""));
	client_until_count(&t.gone, 1);
	assert_string_equal(t.why, "the client takes too little");
	close(fd);
}

static void a_client_that_takes_slowly_is_kept(void **state)
{
	char bytes[65536];
	int fd;

	(void)state;
	t.options.stall_ms = 500;
	serve();
	t.to_write = 40 << 20;
	fd = client_dial(t.port);
	client_puts(fd, GET("/flood", ""));
	for (int i = 0; i < 20; i++) { /* enough each time for the window to open again */
		client_pass(40);
		for (int k = 0; k < 16; k++)
			assert_true(recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) != 0);
	}
	assert_int_equal(t.gone, 0);
	close(fd);
	client_until_count(&t.gone, 1);
}

static void a_client_that_takes_less_than_the_rate_is_dropped(void **state)
{
	char bytes[65536];
	int fd;

	(void)state;
	t.options.stall_ms = 100;
	t.options.send_rate = (size_t)1 << 40;
	serve();
	t.to_write = 40 << 20;
	fd = client_dial(t.port);
	client_puts(fd, GET("/flood", ""));
	for (int i = 0; i < 400 && !t.gone; i++) {
		client_pass(5);
		recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	}
	assert_string_equal(t.why, "the client takes too little");
	close(fd);
}

static void a_writer_that_does_not_wait_ends(void **state)
{
	static const char piece[65536];
	int fd, rc = 0;

	(void)state;
	t.options.max_unsent = 1 << 20;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", ""));
	client_until_count(&t.started, 1);
	assert_int_equal(http_start(t.held, 200, NULL, 0, NULL), 0);
	for (int i = 0; i < 1000 && rc >= 0; i++)
		rc = http_write(t.held, piece, sizeof(piece));
	assert_int_equal(rc, -ERR_LIMIT);
	assert_int_equal(t.gone, 0); /* not from inside the call */
	client_until_count(&t.gone, 1);
	assert_string_equal(t.why, "the client is too slow");
	close(fd);
}

/* ---- clients that leave ---- */

static void a_client_that_leaves_is_reported(void **state)
{
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", ""));
	client_until_count(&t.started, 1);
	close(fd);
	client_until_count(&t.gone, 1);
	assert_string_equal(t.why, "the client left");
	assert_int_equal(http_server_counts(t.server).connections, 0);
	assert_int_equal(http_server_counts(t.server).open, 0);
}

static void a_client_that_resets_is_reported(void **state)
{
	struct linger hard = { 1, 0 };
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", ""));
	client_until_count(&t.started, 1);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd);
	client_until_count(&t.gone, 1);
}

static void a_leaver_is_seen_behind_what_it_has_sent(void **state)
{
	static const char more[100000]; /* more than is read ahead, less than the socket holds */
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", ""));
	client_until_count(&t.started, 1);
	client_send(fd, more, sizeof(more));
	client_pass(10);
	assert_int_equal(t.gone, 0);
	close(fd);
	client_until_count(&t.gone, 1);
}

static void a_leaver_in_the_middle_of_a_request_is_forgotten(void **state)
{
	static const char bytes[] = POST("Content-Length: 5\r\n\r\nabc");

	(void)state;
	serve();
	for (size_t n = 0; n < sizeof(bytes); n += 7) {
		int fd = client_dial(t.port);

		client_send(fd, bytes, n);
		client_pass(2);
		close(fd);
	}
	expect_status(GET("/", "Connection: close\r\n"), 200);
	client_pass(5);
	assert_int_equal(http_server_counts(t.server).connections, 0);
	assert_int_equal(t.started, 1);
}

static void a_half_closed_client_gets_answers_that_are_ready(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/", "") GET("/echo", ""));
	shutdown(fd, SHUT_WR);
	client_read(fd, &a, false);
	expect_body(&a, 200, "hello");
	client_read(fd, &a, false);
	expect_body(&a, 200, "");
	assert_int_equal(client_read_end(fd, NULL), 0);
	close(fd);
}

static void a_half_closed_client_gets_a_long_answer(void **state)
{
	static char body[6000000];
	struct answer a;
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, POST("Content-Length: 6000000\r\n\r\n"));
	client_send(fd, body, sizeof(body));
	shutdown(fd, SHUT_WR);
	client_pass(20); /* the end is seen while the answer waits to be taken */
	client_read(fd, &a, false);
	assert_int_equal(a.status, 200);
	assert_int_equal(a.body.len, sizeof(body));
	assert_false(a.cut);
	client_answer_free(&a);
	close(fd);
}

/* ---- time ---- */

static void a_header_has_a_deadline(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	t.options.header_ms = 150;
	serve();
	fd = client_dial(t.port);
	for (const char *p = GET("/", "X: yyyyyyyyyyyyyyyyyyyyyyyy\r\n"); *p; p++) {
		if (send(fd, p, 1, MSG_NOSIGNAL) != 1)
			break;
		client_pass(10);
		if (http_server_counts(t.server).bad)
			break;
	}
	client_read(fd, &a, false);
	assert_int_equal(a.status, 408);
	client_answer_free(&a);
	close(fd);
	/* One that says nothing gets nothing. */
	fd = client_dial(t.port);
	assert_int_equal(client_read_end(fd, NULL), 0);
	close(fd);
	assert_int_equal(t.started, 0);
}

static void an_idle_connection_is_closed(void **state)
{
	struct answer a;
	int64_t since;
	int fd;

	(void)state;
	t.options.idle_ms = 100;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/", ""));
	client_read(fd, &a, false);
	expect_body(&a, 200, "hello");
	since = loop_now_ms();
	assert_int_equal(client_read_end(fd, NULL), 0);
	assert_true(loop_now_ms() - since >= 80);
	close(fd);
}

static void a_body_must_come_at_a_rate(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	t.options.body_ms = 500;
	t.options.body_rate = 1000;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, POST("Content-Length: 1000\r\n\r\n"));
	for (int i = 0; i < 200 && !http_server_counts(t.server).bad; i++) {
		send(fd, "x", 1, MSG_NOSIGNAL);
		client_pass(5);
	}
	client_read(fd, &a, false);
	assert_int_equal(a.status, 408);
	client_answer_free(&a);
	close(fd);
	/* Slow, but at the rate. */
	fd = client_dial(t.port);
	client_puts(fd, POST("Content-Length: 4000\r\n\r\n"));
	for (int i = 0; i < 40; i++) {
		static const char piece[100];

		client_send(fd, piece, sizeof(piece));
		client_pass(20);
	}
	client_read(fd, &a, false);
	assert_int_equal(a.status, 200);
	assert_int_equal(a.body.len, 4000);
	client_answer_free(&a);
	close(fd);
}

static void a_long_handler_is_under_no_clock(void **state)
{
	struct answer a;
	int fd;

	(void)state;
	t.options.header_ms = t.options.idle_ms = t.options.stall_ms = t.options.body_ms = 50;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", ""));
	client_until_count(&t.started, 1);
	client_pass(200);
	assert_int_equal(t.gone, 0);
	assert_int_equal(http_start(t.held, 200, NULL, 0, NULL), 0);
	client_pass(200);
	assert_int_equal(http_write(t.held, "x", 1), 1);
	http_end(t.held);
	client_read(fd, &a, false);
	expect_body(&a, 200, "1\r\nx\r\n0\r\n\r\n");
	close(fd);
}

/* ---- the end ---- */

static void stopping_lets_running_requests_finish(void **state)
{
	struct answer a;
	int idle, busy;

	(void)state;
	serve();
	idle = client_dial(t.port);
	client_puts(idle, GET("/", ""));
	client_read(idle, &a, false);
	expect_body(&a, 200, "hello");
	busy = client_dial(t.port);
	client_puts(busy, GET("/late", ""));
	client_until_count(&t.started, 2);
	http_server_stop_accepting(t.server);
	assert_int_equal(client_read_end(idle, NULL), 0);
	assert_int_equal(http_respond(t.held, 200, NULL, 0, "end", 3, NULL), 0);
	client_read(busy, &a, false);
	assert_string_equal(client_field(&a, "Connection"), "close");
	expect_body(&a, 200, "end");
	close(idle);
	close(busy);
}

static void freeing_tells_who_has_a_request(void **state)
{
	int fd;

	(void)state;
	serve();
	fd = client_dial(t.port);
	client_puts(fd, GET("/late", ""));
	client_until_count(&t.started, 1);
	http_server_free(t.server);
	t.server = NULL;
	assert_int_equal(t.gone, 1);
	assert_string_equal(t.why, "the server stops");
	close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_answer_has_its_headers),
		TEST(a_request_is_described_to_its_user),
		TEST(what_cannot_be_sent_is_refused),
		TEST(a_user_may_ask_to_close),
		TEST(each_malformed_form_is_answered_and_closed),
		TEST(what_is_too_large_has_its_status),
		TEST(a_refused_body_does_not_lose_the_answer),
		TEST(options_of_the_server_are_answered),
		TEST(a_request_may_be_cut_anywhere),
		TEST(bodies_arrive_whole),
		TEST(expect_continue_is_told_to_go_on),
		TEST(a_body_may_be_refused_before_it_comes),
		TEST(a_body_that_is_there_is_not_asked_about),
		TEST(pipelined_requests_are_answered_in_order),
		TEST(one_request_at_a_time_is_handed_over),
		TEST(a_bad_request_behind_a_good_one_comes_second),
		TEST(a_close_is_kept),
		TEST(head_has_no_body),
		TEST(http10_closes_unless_asked),
		TEST(a_cut_stream_is_seen_to_be_cut),
		TEST(a_stream_is_chunked_and_keeps_the_connection),
		TEST(a_slow_reader_holds_back_its_writer_only),
		TEST(a_client_that_takes_nothing_is_dropped),
		TEST(a_client_that_takes_slowly_is_kept),
		TEST(a_client_that_takes_less_than_the_rate_is_dropped),
		TEST(a_writer_that_does_not_wait_ends),
		TEST(a_client_that_leaves_is_reported),
		TEST(a_client_that_resets_is_reported),
		TEST(a_leaver_is_seen_behind_what_it_has_sent),
		TEST(a_leaver_in_the_middle_of_a_request_is_forgotten),
		TEST(a_half_closed_client_gets_answers_that_are_ready),
		TEST(a_half_closed_client_gets_a_long_answer),
		TEST(a_header_has_a_deadline),
		TEST(an_idle_connection_is_closed),
		TEST(a_body_must_come_at_a_rate),
		TEST(a_long_handler_is_under_no_clock),
		TEST(stopping_lets_running_requests_finish),
		TEST(freeing_tells_who_has_a_request),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
