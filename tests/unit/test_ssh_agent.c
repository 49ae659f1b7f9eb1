/* SPDX-License-Identifier: MIT */
/* Tests of runtime/ssh_agent.c with an agent of our own, which answers when it is told to: how long a question
 * has. test_ssh.c logs in with the real one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "loop.h"
#include "ssh_agent.h"
#include "support.h"

static const unsigned char signature[] = { 0, 0, 0, 7, 14, 0, 0, 0, 2, 'o', 'k' };

/* The agent's end. */
static struct event_base *base;
static struct evconnlistener *listener;
static struct bufferevent *client;
static struct event *later;
static int64_t delay_ms; /* of its answers; < 0: none comes */
static char dir[64], path[80];

/* What came of a question. */
static struct { int n, code; char message[256]; } answer;

static void reply(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	bufferevent_write(client, signature, sizeof(signature));
}

static void on_question(struct bufferevent *bev, void *arg)
{
	struct timeval tv = { delay_ms / 1000, delay_ms % 1000 * 1000 };
	struct evbuffer *in = bufferevent_get_input(bev);

	(void)arg;
	evbuffer_drain(in, evbuffer_get_length(in));
	if (delay_ms >= 0)
		event_add(later, &tv);
}

static void on_connection(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *addr, int len, void *arg)
{
	(void)l;
	(void)addr;
	(void)len;
	(void)arg;
	client = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(client, on_question, NULL, NULL, NULL);
	bufferevent_enable(client, EV_READ | EV_WRITE);
}

static int setup(void **state)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	(void)state;
	memset(&answer, 0, sizeof(answer));
	assert_true(support_make_dir(dir, sizeof(dir)));
	snprintf(path, sizeof(path), "%s/agent", dir);
	memcpy(at.sun_path, path, sizeof(path));
	base = event_base_new();
	listener = evconnlistener_new_bind(base, on_connection, NULL, LEV_OPT_CLOSE_ON_FREE, 8,
					   (struct sockaddr *)&at, sizeof(at));
	later = event_new(base, -1, 0, reply, NULL);
	assert_true(listener && later);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (client)
		bufferevent_free(client);
	client = NULL;
	event_free(later);
	evconnlistener_free(listener);
	event_base_free(base);
	unlink(path);
	return rmdir(dir);
}

static void on_answer(void *arg, const unsigned char *sig, size_t n, const struct err *err)
{
	(void)arg;
	answer.n++;
	answer.code = err->code;
	snprintf(answer.message, sizeof(answer.message), "%s", err->message);
	if (!err->code) {
		assert_int_equal(n, 2);
		assert_memory_equal(sig, "ok", 2);
	}
}

static void ask(struct ssh_agent *a)
{
	assert_non_null(ssh_agent_sign(a, (const unsigned char *)"key", 3, "data", 4, 0, on_answer, NULL));
}

static void stop(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

/* Turns the base for that long, or until there are n answers. */
static void turn(int n, int64_t ms)
{
	const struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
	bool over = false;
	struct event *end = event_new(base, -1, 0, stop, &over);

	event_add(end, &tv);
	while (!over && (!n || answer.n < n))
		event_base_loop(base, EVLOOP_ONCE);
	event_free(end);
}

/* ---- tests ---- */

static void an_agent_that_does_not_answer_is_told_at_its_limit(void **state)
{
	struct ssh_agent *a = ssh_agent_new(base, path, 200);

	(void)state;
	delay_ms = -1;
	ask(a);
	turn(1, 3000);
	assert_int_equal(answer.n, 1);
	assert_int_equal(answer.code, ERR_UNREACHABLE);
	assert_non_null(strstr(answer.message, "does not answer"));
	ssh_agent_free(a);
}

static void a_question_after_a_rest_has_the_whole_limit(void **state)
{
	struct ssh_agent *a = ssh_agent_new(base, path, 2000);

	(void)state;
	delay_ms = 0;
	ask(a);
	turn(0, 1500);
	assert_int_equal(answer.n, 1);
	assert_int_equal(answer.code, 0);
	/* Its answer comes when the limit, counted from the last one, has passed. */
	delay_ms = 900;
	ask(a);
	turn(2, 1500);
	assert_int_equal(answer.n, 2);
	assert_string_equal(answer.message, "");
	ssh_agent_free(a);
}

static void questions_that_follow_do_not_put_off_the_limit(void **state)
{
	struct ssh_agent *a = ssh_agent_new(base, path, 600);

	(void)state;
	delay_ms = -1;
	for (int i = 0; i < 8 && !answer.n; i++) {
		ask(a);
		turn(0, 200);
	}
	assert_true(answer.n > 0);
	assert_non_null(strstr(answer.message, "does not answer"));
	ssh_agent_free(a);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(an_agent_that_does_not_answer_is_told_at_its_limit),
		T(a_question_after_a_rest_has_the_whole_limit),
		T(questions_that_follow_do_not_put_off_the_limit),
	};

	return cmocka_run_group_tests_name("ssh_agent", tests, NULL, NULL);
}
