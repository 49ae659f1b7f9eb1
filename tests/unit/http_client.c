/* SPDX-License-Identifier: MIT */
/* http_client: see the header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;

void client_loop(struct loop *l)
{
	loop = l;
}

void client_turn(void)
{
	/* Deferred work may queue more of itself. */
	for (int i = 0; i < 3; i++)
		event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
}

static void wait_a_little(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	client_turn();
	poll(&p, fd >= 0, 1);
}

static void check_limit(int64_t since, const char *what)
{
	if (loop_now_ms() - since > CLIENT_LIMIT_MS)
		fail_msg("%s took too long", what);
}

void client_until(const bool *flag)
{
	int64_t since = loop_now_ms();

	for (client_turn(); !*flag; wait_a_little(-1, 0))
		check_limit(since, "an event");
}

void client_until_count(const int *count, int n)
{
	int64_t since = loop_now_ms();

	for (client_turn(); *count < n; wait_a_little(-1, 0))
		check_limit(since, "a count");
}

void client_pass(int ms)
{
	int64_t since = loop_now_ms();

	while (loop_now_ms() - since < ms)
		wait_a_little(-1, 0);
}

int client_dial(unsigned port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((in_port_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&in, sizeof(in)))
		fail_msg("connect: %s", strerror(errno));
	return fd;
}

void client_send(int fd, const void *bytes, size_t n)
{
	int64_t since = loop_now_ms();

	for (size_t at = 0; at < n;) {
		ssize_t sent = send(fd, (const char *)bytes + at, n - at,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			at += (size_t)sent;
			continue;
		}
		if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
			return; /* the server has refused; what it said is read later */
		wait_a_little(fd, POLLOUT);
		check_limit(since, "sending");
	}
}

void client_puts(int fd, const char *text)
{
	client_send(fd, text, strlen(text));
}

/* Appends what has come, waiting for at least one byte. False: the connection has ended. */
static bool read_more(int fd, struct buf *b, size_t max, bool *reset)
{
	int64_t since = loop_now_ms();
	char bytes[65536];

	for (;;) {
		size_t room = max < sizeof(bytes) ? max : sizeof(bytes);
		ssize_t n = recv(fd, bytes, room, MSG_DONTWAIT);

		if (n > 0) {
			buf_add(b, bytes, (size_t)n);
			return true;
		}
		if (n == 0 || errno != EAGAIN) {
			if (reset && n < 0)
				*reset = true;
			return false;
		}
		wait_a_little(fd, POLLIN);
		check_limit(since, "an answer");
	}
}

/* Byte by byte up to the empty line, so that nothing of the next answer is taken. */
static bool read_head(int fd, struct answer *a)
{
	while (a->head.len < 4 || memcmp(a->head.data + a->head.len - 4, "\r\n\r\n", 4) != 0)
		if (!read_more(fd, &a->head, 1, &a->cut))
			return false;
	return true;
}

static bool ends_with(const struct buf *b, const char *text)
{
	size_t n = strlen(text);

	return b->len >= n && !memcmp(b->data + b->len - n, text, n);
}

/* Chunks up to the last one; none of the tests' chunks holds such an end. */
static void read_chunks(int fd, struct answer *a)
{
	while (!ends_with(&a->body, a->body.len > 5 ? "\r\n0\r\n\r\n" : "0\r\n\r\n"))
		if (!read_more(fd, &a->body, 1, &a->cut)) {
			a->cut = a->closed = true;
			return;
		}
}

void client_read(int fd, struct answer *a, bool head)
{
	const char *length;
	size_t n;

	memset(a, 0, sizeof(*a));
	if (!read_head(fd, a)) {
		a->closed = true;
		return;
	}
	assert_int_equal(sscanf(buf_str(&a->head), "HTTP/1.1 %d ", &a->status), 1);
	if (head || a->status == 204 || a->status == 304 || a->status == 100)
		return;
	length = client_field(a, "Content-Length");
	if (length) {
		n = strtoul(length, NULL, 10);
		while (a->body.len < n && !a->cut)
			a->cut = !read_more(fd, &a->body, n - a->body.len, NULL);
	} else if (client_field(a, "Transfer-Encoding")) {
		read_chunks(fd, a);
	} else {
		while (read_more(fd, &a->body, SIZE_MAX, &a->cut))
			;
		a->closed = true;
	}
}

size_t client_read_end(int fd, bool *reset)
{
	struct buf b = { 0 };
	size_t n;

	while (read_more(fd, &b, SIZE_MAX, reset))
		;
	n = b.len;
	buf_deinit(&b);
	return n;
}

void client_answer_free(struct answer *a)
{
	buf_deinit(&a->head);
	buf_deinit(&a->body);
}

const char *client_field(struct answer *a, const char *name)
{
	static char value[256];
	char line[64];
	const char *at;

	snprintf(line, sizeof(line), "\r\n%s: ", name);
	at = strstr(buf_str(&a->head), line);
	if (!at)
		return NULL;
	at += strlen(line);
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\r"), at);
	return value;
}
