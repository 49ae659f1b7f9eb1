/* SPDX-License-Identifier: MIT */
/* Tests of ws over real sockets: the handshake, messages in pieces, what comes from the client, and
 * that every end leaves nothing (the sanitizers look). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_client.h"
#include "ws.h"

#define UPGRADE                                                                                     \
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"               \
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static struct {
	struct loop *loop;
	struct http_server *server;
	struct ws_options options;
	struct http_request *req;
	struct ws *ws;
	struct err err;
	int over, code, gone;
	int fd;
	struct buf got; /* all that the client has received */
} t;

static void on_over(void *arg, int code, const char *why)
{
	assert_ptr_equal(arg, &t);
	assert_non_null(why);
	t.over++;
	t.code = code;
}

static void on_data(struct http_request *req, const void *data, size_t len)
{
	(void)req;
	ws_data(t.ws, data, len);
}

static void on_gone(struct http_request *req, const char *why)
{
	(void)req;
	(void)why;
	t.gone++;
	if (t.ws)
		ws_detach(t.ws);
}

static void on_request(struct http_request *req, void *arg)
{
	(void)arg;
	req->on_gone = on_gone;
	t.req = req;
	t.ws = ws_accept(t.loop, req, &t.options, on_over, &t, &t.err);
	if (t.ws)
		req->on_data = on_data;
	else
		http_respond_message(req, 400, t.err.message, NULL);
}

static int setup(void **state)
{
	struct http_options o;

	(void)state;
	memset(&t, 0, sizeof(t));
	ws_options_init(&t.options);
	http_options_init(&o);
	t.loop = loop_new(NULL);
	client_loop(t.loop);
	t.server = http_server_new(t.loop, &o, on_request, NULL, NULL);
	assert_int_equal(http_server_listen(t.server, "127.0.0.1:0", NULL, NULL), 0);
	t.fd = client_dial(http_server_port(t.server));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(t.fd);
	http_server_free(t.server);
	ws_free(t.ws);
	loop_free(t.loop);
	buf_deinit(&t.got);
	return 0;
}

/* Receives until there are at least n bytes in all. */
static void receive(size_t n)
{
	char bytes[4096];

	for (int i = 0; i < CLIENT_LIMIT_MS && t.got.len < n; i++) {
		ssize_t got = recv(t.fd, bytes, sizeof(bytes), MSG_DONTWAIT);

		if (got > 0)
			buf_add(&t.got, bytes, (size_t)got);
		else
			client_pass(1);
	}
	assert_true(t.got.len >= n);
}

static void shake_hands(void)
{
	const char *end;

	client_puts(t.fd, UPGRADE);
	receive(150);
	end = strstr(buf_str(&t.got), "\r\n\r\n");
	assert_non_null(end);
	assert_non_null(t.ws);
	assert_int_equal(strncmp(t.got.data, "HTTP/1.1 101 ", 13), 0);
	/* RFC 6455, 1.3 */
	assert_non_null(strstr(t.got.data, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	buf_drop(&t.got, (size_t)(end + 4 - t.got.data));
}

static void expect(const char *bytes, size_t n)
{
	receive(n);
	assert_int_equal(t.got.len, n);
	assert_memory_equal(t.got.data, bytes, n);
	buf_clear(&t.got);
}

static void a_message_in_pieces_is_one_message(void **state)
{
	(void)state;
	shake_hands();
	assert_int_equal(ws_write(t.ws, "whole", 5, true), 1);
	expect("\x81\x05whole", 7);
	assert_int_equal(ws_write(t.ws, "be", 2, false), 1);
	assert_int_equal(ws_write(t.ws, "", 0, false), 1);
	assert_int_equal(ws_write(t.ws, "gun", 3, false), 1);
	assert_int_equal(ws_write(t.ws, "", 0, true), 1);
	assert_int_equal(ws_write(t.ws, "", 0, true), 1);
	assert_int_equal(ws_write(t.ws, "next", 4, true), 1);
	expect("\x01\x02" "be" "\x00\x00" "\x00\x03" "gun" "\x80\x00" "\x81\x00" "\x81\x04" "next",
	       2 + 2 + 2 + 2 + 3 + 2 + 2 + 2 + 4);
	ws_close(t.ws, 1000, "enough");
	expect("\x88\x08\x03\xe8" "enough", 10);
	assert_int_equal(ws_write(t.ws, "late", 4, true), -ERR_CLOSED);
	ws_close(t.ws, 1000, "twice");
	client_pass(5);
	assert_int_equal(t.over, 0);
	assert_int_equal(t.gone, 0);
}

/* A masked frame with the key 0. */
static void client_frame(unsigned char first, const char *data, size_t n)
{
	char frame[132] = { (char)first, (char)(0x80 | n) };

	memcpy(frame + 6, data, n);
	client_send(t.fd, frame, 6 + n);
}

static void a_pong_may_come_between_pieces(void **state)
{
	(void)state;
	shake_hands();
	ws_write(t.ws, "a", 1, false);
	client_frame(0x89, "ping", 4);
	receive(9);
	ws_write(t.ws, "b", 1, true);
	expect("\x01\x01" "a" "\x8a\x04" "ping" "\x80\x01" "b", 12);
}

static void the_client_closes_it(void **state)
{
	(void)state;
	shake_hands();
	client_frame(0x88, "\x03\xe9", 2);
	expect("\x88\x02\x03\xe9", 4);
	assert_int_equal(t.over, 1);
	assert_int_equal(t.code, 1001);
	assert_int_equal(ws_write(t.ws, "late", 4, true), -ERR_CLOSED);
}

static void a_client_that_breaks_the_rules_is_told_so(void **state)
{
	(void)state;
	shake_hands();
	client_send(t.fd, "\x83\x80\0\0\0\0", 6); /* no such opcode */
	expect("\x88\x02\x03\xea", 4);
	assert_int_equal(t.over, 1);
	assert_int_equal(t.code, 1002);
}

static void bytes_that_come_with_the_handshake_are_read(void **state)
{
	(void)state;
	client_send(t.fd, UPGRADE "\x89\x82\0\0\0\0hi", sizeof(UPGRADE) - 1 + 8);
	receive(150);
	client_pass(5);
	receive(t.got.len);
	assert_memory_equal(t.got.data + t.got.len - 4, "\x8a\x02hi", 4);
}

static void a_silent_client_is_dropped(void **state)
{
	(void)state;
	t.options.ping_ms = 10;
	t.options.silence_ms = 50;
	shake_hands();
	client_until_count(&t.over, 1);
	assert_int_equal(t.code, 1006);
	receive(2);
	assert_memory_equal(t.got.data, "\x89\x00", 2);
	assert_int_equal(t.gone, 0);
}

/* No ping goes out behind what waits for it, so there is none that it could answer. */
static void a_client_that_takes_its_time_is_not_silent(void **state)
{
	static char piece[64 << 10];
	size_t n = 0;

	(void)state;
	t.options.ping_ms = 10;
	t.options.silence_ms = 100;
	shake_hands();
	while (ws_write(t.ws, piece, sizeof(piece), true) > 0)
		n++;
	client_pass(400);
	assert_int_equal(t.over, 0);
	/* When it has taken all it has the whole time again, and is asked. */
	receive((n + 1) * sizeof(piece));
	client_until_count(&t.over, 1);
	assert_int_equal(t.code, 1006);
}

static void a_client_that_leaves_is_gone(void **state)
{
	(void)state;
	shake_hands();
	shutdown(t.fd, SHUT_RDWR);
	client_until_count(&t.gone, 1);
	assert_int_equal(ws_write(t.ws, "late", 4, true), -ERR_CLOSED);
	ws_close(t.ws, 1000, "");
	assert_int_equal(t.over, 0);
}

static void a_long_reason_is_cut_between_characters(void **state)
{
	char reason[200];

	(void)state;
	shake_hands();
	for (size_t i = 0; i + 2 < sizeof(reason); i += 3)
		memcpy(reason + i, "\xe2\x82\xac", 3);
	reason[198] = '\0';
	ws_close(t.ws, 1011, reason);
	receive(4 + 120);
	assert_int_equal((unsigned char)t.got.data[1], 2 + 120);
	assert_int_equal(t.got.len, 4 + 120);
}

static void a_wrong_key_is_refused(void **state)
{
	struct answer a = { 0 };

	(void)state;
	for (int two = 0; two < 2; two++) {
		client_puts(t.fd, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
				  "Sec-WebSocket-Version: 13\r\n");
		client_puts(t.fd, two ? "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
					"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
				      : "Sec-WebSocket-Key: short\r\n\r\n");
		client_read(t.fd, &a, false);
		assert_null(t.ws);
		assert_int_equal(t.err.code, ERR_INVALID);
		assert_int_equal(a.status, 400);
		client_answer_free(&a);
		memset(&t.err, 0, sizeof(t.err));
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_message_in_pieces_is_one_message),
		TEST(a_pong_may_come_between_pieces),
		TEST(the_client_closes_it),
		TEST(a_client_that_breaks_the_rules_is_told_so),
		TEST(bytes_that_come_with_the_handshake_are_read),
		TEST(a_silent_client_is_dropped),
		TEST(a_client_that_takes_its_time_is_not_silent),
		TEST(a_client_that_leaves_is_gone),
		TEST(a_long_reason_is_cut_between_characters),
		TEST(a_wrong_key_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
