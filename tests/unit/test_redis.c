/* SPDX-License-Identifier: MIT */
/* Tests of runtime/redis*.c: against a real private redis-server where its answers matter, and
 * against a server of our own on the same loop where it must misbehave. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "buf.h"
#include "log.h"
#include "redis.h"
#include "redis_child.h"
#include "support.h"

#define PATIENCE_MS 10000

static struct loop *loop;
static char dir[64];
static struct redis_child *server;
static char *library;

/* ---- helpers ---- */

static void nothing(void *arg)
{
	(void)arg;
}

/* Turns the loop until *flag is at least n; fails the test after the limit. */
static void wait_for(const int *flag, int n)
{
	struct timer tick;
	int64_t end = loop_now_ms() + PATIENCE_MS;

	assert_int_equal(timer_init(&tick, loop_base(loop), nothing, NULL), 0);
	while (*flag < n && loop_now_ms() < end) {
		timer_set(&tick, 50);
		event_base_loop(loop_base(loop), EVLOOP_ONCE);
	}
	timer_deinit(&tick);
	assert_true(*flag >= n);
}

/* Turns the loop for a while: to see that nothing happens. */
static void turn(int64_t ms)
{
	struct timer tick;
	int64_t end = loop_now_ms() + ms;

	assert_int_equal(timer_init(&tick, loop_base(loop), nothing, NULL), 0);
	while (loop_now_ms() < end) {
		timer_set(&tick, 5);
		event_base_loop(loop_base(loop), EVLOOP_ONCE);
	}
	timer_deinit(&tick);
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text;
	long n;

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	text = malloc((size_t)n + 1);
	assert_non_null(text);
	assert_int_equal(fread(text, 1, (size_t)n, f), n);
	text[n] = '\0';
	fclose(f);
	return text;
}

static void on_started(void *arg, const struct err *why)
{
	*(int *)arg = why ? -1 : 1;
	if (why)
		print_message("%s\n", why->message);
}

static int start_server(void **state)
{
	struct redis_child_options o = { .dir = dir, .on_start = on_started };
	struct err err;
	int started = 0;

	(void)state;
	if (!support_make_dir(dir, sizeof(dir)))
		return -1;
	signal(SIGPIPE, SIG_IGN);
	log_open("/dev/null", NULL, LOG_ERROR, NULL);
	loop = loop_new(&err);
	library = read_file("lua/store/functions.lua");
	o.arg = &started;
	server = redis_child_new(loop, &o, &err);
	assert_non_null(server);
	wait_for(&started, 1);
	return 0;
}

static void ended(void *arg)
{
	*(int *)arg = 1;
}

static int stop_server(void **state)
{
	char command[128];
	int done = 0;

	(void)state;
	redis_child_stop(server, 10000, ended, &done);
	wait_for(&done, 1);
	redis_child_free(server);
	loop_free(loop);
	free(library);
	log_close();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

/* What on_state was told. */
struct seen {
	int up, down;
	struct err why;
	struct redis *free_on_down;
};

static void on_state(void *arg, bool up, const struct err *why)
{
	struct seen *s = arg;

	if (up) {
		s->up++;
		return;
	}
	s->why = *why;
	s->down++;
	if (s->free_on_down)
		redis_free(s->free_on_down);
}

static struct redis *open_with(struct redis_options o, struct seen *s)
{
	struct err err;
	struct redis *r;

	if (!o.address)
		o.address = redis_child_address(server);
	o.on_state = on_state;
	o.arg = s;
	r = redis_new(loop, &o, &err);
	assert_non_null(r);
	return r;
}

static struct redis *open_up(struct redis_options o, struct seen *s)
{
	struct redis *r = open_with(o, s);

	wait_for(&s->up, 1);
	return r;
}

/* What callbacks were told. */
struct answer {
	int n;       /* calls */
	int replies, errors[ERR_AWAY + 1];
	long long last;
	int type;
	char text[128];
	struct redis *free_in;
};

static void on_answer(void *arg, const struct redisReply *reply, const struct err *err)
{
	struct answer *a = arg;

	assert_true(!reply != !err);
	a->n++;
	if (reply) {
		a->replies++;
		a->type = reply->type;
		a->last = reply->integer;
		snprintf(a->text, sizeof(a->text), "%s", reply->str ? reply->str : "");
	} else {
		a->errors[err->code]++;
	}
	if (a->free_in) {
		struct redis *r = a->free_in;

		a->free_in = NULL;
		redis_free(r);
	}
}

static int call(struct redis *r, struct answer *a, int64_t ms, const char *command)
{
	const char *argv[8];
	char copy[128], *save = NULL;
	int argc = 0;
	struct err err;

	snprintf(copy, sizeof(copy), "%s", command);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	return redis_call(r, argc, argv, NULL, on_answer, a, ms, &err);
}

/* One command and its reply. */
static struct answer ask(struct redis *r, const char *command)
{
	struct answer a = { 0 };

	assert_int_equal(call(r, &a, 0, command), 0);
	wait_for(&a.n, 1);
	return a;
}

/* ---- addresses ---- */

static void reads_urls_and_says_what_is_wrong(void **state)
{
	static const struct {
		const char *url, *socket, *host;
		int port, db;
		const char *user, *password;
	} good[] = {
		{ "redis://h", NULL, "h", 6379, 0, NULL, NULL },
		{ "redis://h:1/", NULL, "h", 1, 0, NULL, NULL },
		{ "redis://h:7000/3", NULL, "h", 7000, 3, NULL, NULL },
		{ "redis://:pw@h", NULL, "h", 6379, 0, NULL, "pw" },
		{ "redis://pw@h", NULL, "h", 6379, 0, NULL, "pw" },
		{ "redis://u:p%40%2f@h:2", NULL, "h", 2, 0, "u", "p@/" },
		{ "redis://u:p@q@h", NULL, "h", 6379, 0, "u", "p@q" },
		{ "redis://[::1]:9/1", NULL, "::1", 9, 1, NULL, NULL },
		{ "redis://[::1]", NULL, "::1", 6379, 0, NULL, NULL },
		{ "unix:///a/b", "/a/b", NULL, 0, 0, NULL, NULL },
		{ "unix:///a%20b?db=4", "/a b", NULL, 0, 4, NULL, NULL },
		{ "unix://:pw@/a", "/a", NULL, 0, 0, NULL, "pw" },
	};
	static const char *const bad[] = {
		"", "http://h", "redis://", "redis://:1", "redis://h:0", "redis://h:65536", "redis://h:x",
		"redis://h:", "redis://[::1", "redis://[::1]x", "redis://h/x", "redis://h/1/2",
		"redis://u:%zz@h", "redis://u:%4@h", "redis://u:%00@h", "unix://a", "unix:///a?x=1",
		"unix:///a?db=", "rediss://h", "redis://h/99999999999999999999",
	};
	struct redis_address a;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(redis_address_parse(&a, good[i].url, &err), 0);
		assert_string_equal(a.socket ? a.socket : "-", good[i].socket ? good[i].socket : "-");
		assert_string_equal(a.host ? a.host : "-", good[i].host ? good[i].host : "-");
		assert_int_equal(a.port, good[i].port);
		assert_int_equal(a.db, good[i].db);
		assert_string_equal(a.user ? a.user : "-", good[i].user ? good[i].user : "-");
		assert_string_equal(a.password ? a.password : "-",
				    good[i].password ? good[i].password : "-");
		if (good[i].password)
			assert_null(strstr(a.text, good[i].password));
		redis_address_deinit(&a);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(redis_address_parse(&a, bad[i], &err), -ERR_INVALID);
		assert_null(a.socket);
		assert_null(a.host);
		assert_null(a.password);
	}
	assert_int_equal(redis_address_parse(&a, "rediss://h", &err), -ERR_INVALID);
	assert_non_null(strstr(err.message, "TLS"));
}

/* ---- commands ---- */

static void answers_come_in_the_order_of_the_calls(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct answer a = { 0 };

	(void)state;
	ask(r, "DEL count");
	for (int i = 1; i <= 10000; i++)
		assert_int_equal(call(r, &a, 0, "INCR count"), 0);
	assert_int_equal(a.n, 0); /* never from inside the call */
	wait_for(&a.n, 10000);
	assert_int_equal(a.last, 10000);
	assert_int_equal(redis_pending(r, NULL), 0);
	assert_string_equal(redis_get_info(r)->durability, "full");
	assert_true(redis_get_info(r)->durable);
	redis_free(r);
}

static void takes_bytes_and_finished_protocol(void **state)
{
	static const char text[] = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\0\r\n\r\n";
	struct buf resp = { 0 };
	const char *argv[] = { "SET", "k", "a\0b" };
	size_t lens[] = { 3, 1, 3 };
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct answer a = { 0 };
	struct err err;

	(void)state;
	assert_int_equal(redis_call(r, 3, argv, lens, NULL, NULL, 0, &err), 0);
	assert_int_equal(call(r, &a, 0, "STRLEN k"), 0);
	wait_for(&a.n, 1);
	assert_int_equal(a.last, 3);
	buf_add(&resp, text, sizeof(text) - 1);
	assert_int_equal(redis_raw(r, &resp, on_answer, &a, 0, &err), 0);
	buf_deinit(&resp);
	wait_for(&a.n, 2);
	assert_string_equal(a.text, "OK");
	redis_free(r);
}

static void an_error_reply_is_a_reply(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct answer a = ask(r, "NOSUCH");

	(void)state;
	assert_int_equal(a.type, REDIS_REPLY_ERROR);
	redis_free(r);
}

static void is_away_at_once_when_not_connected(void **state)
{
	struct redis_address nowhere = { .socket = (char *)"/nonexistent/redis.sock", .text = "there" };
	struct seen s = { 0 };
	struct redis *r = open_with((struct redis_options){ .address = &nowhere }, &s);
	struct answer a = { 0 };

	(void)state;
	assert_int_equal(call(r, &a, 0, "PING"), -ERR_AWAY);
	wait_for(&s.down, 1);
	assert_int_equal(s.why.code, ERR_UNREACHABLE);
	assert_int_equal(call(r, &a, 0, "PING"), -ERR_AWAY);
	turn(200);
	assert_int_equal(a.n, 0);
	assert_int_equal(s.down, 1); /* the same reason is told once */
	redis_free(r);
}

static void refuses_more_than_its_bounds(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ .max_commands = 10, .max_bytes = 4000 }, &s);
	struct answer a = { 0 };
	struct buf big = { 0 };
	size_t bytes;
	struct err err;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(call(r, &a, 0, "PING"), 0);
	assert_int_equal(call(r, &a, 0, "PING"), -ERR_LIMIT);
	wait_for(&a.n, 10);
	assert_int_equal(call(r, &a, 0, "PING"), 0);
	buf_reserve(&big, 5000);
	memset(big.data, 'x', 5000);
	big.len = 5000;
	assert_int_equal(redis_raw(r, &big, on_answer, &a, 0, &err), -ERR_LIMIT);
	buf_deinit(&big);
	wait_for(&a.n, 11);
	assert_int_equal(redis_pending(r, &bytes), 0);
	assert_int_equal(bytes, 0);
	redis_free(r);
}

static void a_time_limit_answers_once_and_the_rest_goes_on(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct answer a = { 0 }, b = { 0 };
	int64_t start;

	(void)state;
	ask(r, "CLIENT PAUSE 400 ALL");
	start = loop_now_ms();
	assert_int_equal(call(r, &a, 100, "SET late 1"), 0);
	assert_int_equal(call(r, &b, 5000, "PING"), 0);
	wait_for(&a.n, 1);
	assert_int_equal(a.errors[ERR_TIMEOUT], 1);
	assert_in_range(loop_now_ms() - start, 95, 350);
	wait_for(&b.n, 1);
	assert_string_equal(b.text, "PONG");
	assert_int_equal(a.n, 1);
	assert_int_equal(s.down, 0);
	redis_free(r);
}

static void silence_ends_the_connection(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ .command_ms = 300 }, &s);
	struct answer a = { 0 };

	(void)state;
	kill(redis_child_pid(server), SIGSTOP);
	/* Short limits of their own must not keep a dead connection. */
	for (int i = 0; i < 20 && !s.down; i++) {
		if (call(r, &a, 30, "PING"))
			break;
		turn(40);
	}
	wait_for(&s.down, 1);
	assert_int_equal(s.why.code, ERR_TIMEOUT);
	assert_int_equal(a.errors[ERR_TIMEOUT] + a.errors[ERR_UNREACHABLE], a.n);
	kill(redis_child_pid(server), SIGCONT);
	wait_for(&s.up, 2);
	redis_free(r);
}

static void a_killed_server_leaves_every_call_answered_once(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct answer a = { 0 };
	int sent = 0;

	(void)state;
	ask(r, "DEL count");
	for (int i = 0; i < 5000; i++)
		sent += !call(r, &a, 0, "INCR count");
	event_base_loop(loop_base(loop), EVLOOP_ONCE);
	kill(redis_child_pid(server), SIGKILL);
	wait_for(&s.down, 1);
	assert_int_equal(a.n, sent);
	assert_int_equal(a.replies + a.errors[ERR_UNREACHABLE], sent);
	assert_true(a.errors[ERR_UNREACHABLE] > 0);
	wait_for(&s.up, 2);
	/* What was acknowledged is there. */
	assert_true(atoi(ask(r, "GET count").text) >= a.replies);
	redis_free(r);
}

/* ---- freeing ---- */

static void free_answers_all_that_is_owed(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct answer a = { 0 };

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(call(r, &a, 0, "PING"), 0);
	redis_free(r);
	assert_int_equal(a.n, 100);
	assert_int_equal(a.errors[ERR_CLOSED], 100);
	turn(50);
	assert_int_equal(a.n, 100);
}

static void may_be_freed_in_a_callback(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct answer a = { 0 };

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(call(r, &a, 0, "PING"), 0);
	a.free_in = r;
	wait_for(&a.n, 10);
	assert_int_equal(a.replies, 1);
	assert_int_equal(a.errors[ERR_CLOSED], 9);
}

static void may_be_freed_in_a_callback_of_a_time_limit(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct answer a = { 0 };

	(void)state;
	ask(r, "CLIENT PAUSE 200 ALL");
	for (int i = 0; i < 10; i++)
		assert_int_equal(call(r, &a, 50, "PING"), 0);
	a.free_in = r;
	wait_for(&a.n, 10);
	assert_int_equal(a.errors[ERR_TIMEOUT], 1);
	assert_int_equal(a.errors[ERR_CLOSED], 9);
}

static void may_be_freed_when_told_of_the_loss(void **state)
{
	struct seen s = { 0 }, other = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct redis *still = open_up((struct redis_options){ 0 }, &other);
	struct answer a = { 0 };

	(void)state;
	s.free_on_down = r;
	for (int i = 0; i < 10; i++)
		assert_int_equal(call(r, &a, 0, "BLPOP nothing 0"), 0);
	ask(still, "CLIENT KILL SKIPME yes");
	wait_for(&s.down, 1);
	assert_int_equal(a.n, 10);
	assert_int_equal(a.errors[ERR_CLOSED] + a.errors[ERR_UNREACHABLE], 10);
	redis_free(still);
}

/* ---- functions ---- */

static void loads_the_functions_and_again_when_they_are_gone(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ .library = library }, &s);
	struct answer a;

	(void)state;
	a = ask(r, "FCALL exed_1_version 0");
	assert_int_equal(a.type, REDIS_REPLY_INTEGER);
	ask(r, "FUNCTION FLUSH");
	a = ask(r, "FCALL exed_1_version 0");
	assert_int_equal(a.errors[ERR_AWAY], 1); /* certainly not done */
	wait_for(&s.up, 2);
	a = ask(r, "FCALL exed_1_version 0");
	assert_int_equal(a.type, REDIS_REPLY_INTEGER);
	redis_free(r);
}

static void keeps_a_newer_library_and_replaces_an_older(void **state)
{
	struct seen s = { 0 }, t = { 0 };
	static const char old[] = "#!lua name=exed_1\nlocal REVISION = 0\n"
		"redis.register_function('exed_1_version', function() return REVISION end)\n";
	static const char newer[] = "#!lua name=exed_1\n\nlocal REVISION = 1000\n"
		"redis.register_function('exed_1_version', function() return REVISION end)\n";
	const char *argv[] = { "FUNCTION", "LOAD", "REPLACE", old };
	struct redis *r = open_up((struct redis_options){ 0 }, &s), *q;
	struct answer a = { 0 };
	struct err err;

	(void)state;
	assert_int_equal(redis_call(r, 4, argv, NULL, on_answer, &a, 0, &err), 0);
	q = open_up((struct redis_options){ .library = library }, &t);
	assert_true(ask(r, "FCALL exed_1_version 0").last >= 1);
	redis_free(q);
	q = open_up((struct redis_options){ .library = newer }, &t);
	wait_for(&t.up, 2);
	redis_free(q);
	q = open_up((struct redis_options){ .library = library }, &t);
	wait_for(&t.up, 3);
	assert_int_equal(ask(r, "FCALL exed_1_version 0").last, 1000);
	redis_free(q);
	ask(r, "FUNCTION FLUSH");
	redis_free(r);
}

/* ---- subscriptions ---- */

struct heard {
	int messages, subscribed;
	char text[64];
	struct redis_sub *end, *end_other;
	struct redis *free_in;
};

static void heard_end(struct heard *h)
{
	struct redis *r = h->free_in;

	if (h->end)
		redis_unsubscribe(h->end);
	if (h->end_other)
		redis_unsubscribe(h->end_other);
	h->end = h->end_other = NULL;
	h->free_in = NULL;
	if (r)
		redis_free(r);
}

static void on_message(void *arg, const char *data, size_t len)
{
	struct heard *h = arg;

	h->messages++;
	snprintf(h->text, sizeof(h->text), "%.*s", (int)len, data);
	heard_end(h);
}

static void on_subscribed(void *arg)
{
	struct heard *h = arg;

	h->subscribed++;
}

static const struct redis_sub_ops ops = { on_message, on_subscribed };

static void hears_messages_and_is_told_after_a_reconnect(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct heard h = { 0 };
	struct redis_sub *sub = redis_subscribe(r, "news", &ops, &h, NULL);

	(void)state;
	wait_for(&h.subscribed, 1);
	assert_int_equal(ask(r, "PUBLISH news one").last, 1);
	wait_for(&h.messages, 1);
	assert_string_equal(h.text, "one");
	ask(r, "CLIENT KILL TYPE pubsub");
	wait_for(&h.subscribed, 2);
	assert_int_equal(ask(r, "PUBLISH news two").last, 1);
	wait_for(&h.messages, 2);
	redis_unsubscribe(sub);
	turn(50);
	assert_int_equal(ask(r, "PUBLISH news three").last, 0);
	redis_free(r);
}

static void a_second_listener_is_told_that_it_stands(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct heard h = { 0 }, g = { 0 };

	(void)state;
	redis_subscribe(r, "news", &ops, &h, NULL);
	wait_for(&h.subscribed, 1);
	redis_subscribe(r, "news", &ops, &g, NULL);
	wait_for(&g.subscribed, 1);
	ask(r, "PUBLISH news x");
	wait_for(&h.messages, 1);
	wait_for(&g.messages, 1);
	redis_free(r);
}

static void listeners_may_end_each_other_in_a_callback(void **state)
{
	struct seen s = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct heard h = { 0 }, g = { 0 };
	struct redis_sub *first = redis_subscribe(r, "news", &ops, &h, NULL);
	struct redis_sub *second = redis_subscribe(r, "news", &ops, &g, NULL);

	(void)state;
	wait_for(&h.subscribed, 1);
	wait_for(&g.subscribed, 1);
	g.end = second;
	g.end_other = first;
	ask(r, "PUBLISH news x");
	wait_for(&g.messages, 1);
	turn(50);
	assert_int_equal(g.messages + h.messages, 1);
	assert_int_equal(ask(r, "PUBLISH news x").last, 0);
	redis_free(r);
}

static void may_be_freed_in_a_message(void **state)
{
	struct seen s = { 0 }, t = { 0 };
	struct redis *r = open_up((struct redis_options){ 0 }, &s);
	struct redis *q = open_up((struct redis_options){ 0 }, &t);
	struct heard h = { 0 }, g = { 0 };

	(void)state;
	redis_subscribe(r, "news", &ops, &h, NULL);
	redis_subscribe(r, "news", &ops, &g, NULL);
	wait_for(&h.subscribed, 1);
	wait_for(&g.subscribed, 1);
	h.free_in = g.free_in = NULL;
	g.free_in = r;
	ask(q, "PUBLISH news x");
	wait_for(&g.messages, 1);
	turn(50);
	redis_free(q);
}

/* ---- a server that misbehaves ---- */

struct fake {
	int fd;
	struct event *accept;
	struct event *read;
	int client;
	redisReader *reader;
	char path[96];
	struct redis_address address;
	int connections;
	/* What it says. */
	const char *info, *auth, *version;
	int loading; /* so many connections are told that it loads */
	bool mute;
};

static const char good_info[] = "redis_version:7.0.15\r\nloading:0\r\ncluster_enabled:0\r\n"
	"maxmemory_policy:noeviction\r\nrole:master\r\naof_enabled:1\r\nused_memory:5\r\n";

static void fake_say(struct fake *f, const char *text)
{
	assert_int_equal(send(f->client, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void fake_say_info(struct fake *f)
{
	static const char loading[] = "redis_version:7.0.15\r\nloading:1\r\ncluster_enabled:0\r\n"
		"maxmemory_policy:noeviction\r\nrole:master\r\n";
	const char *info = f->connections <= f->loading ? loading : f->info ? f->info : good_info;
	char head[32];

	snprintf(head, sizeof(head), "$%zu\r\n", strlen(info));
	fake_say(f, head);
	fake_say(f, info);
	fake_say(f, "\r\n");
}

static void fake_answer(struct fake *f, const redisReply *command)
{
	const char *name = command->element[0]->str;

	if (f->mute)
		return;
	if (!strcmp(name, "INFO"))
		fake_say_info(f);
	else if (!strcmp(name, "AUTH"))
		fake_say(f, f->auth ? f->auth : "+OK\r\n");
	else if (!strcmp(name, "CONFIG"))
		fake_say(f, "-NOPERM this user has no permissions to run the 'config' command\r\n");
	else if (!strcmp(name, "FCALL"))
		fake_say(f, f->version ? f->version : ":1\r\n");
	else if (!strcmp(name, "HANGUP"))
		shutdown(f->client, SHUT_RDWR);
	else
		fake_say(f, "+OK\r\n");
}

static void fake_drop(struct fake *f)
{
	if (f->read)
		event_free(f->read);
	f->read = NULL;
	if (f->client >= 0)
		close(f->client);
	f->client = -1;
	if (f->reader)
		redisReaderFree(f->reader);
	f->reader = NULL;
}

static void fake_read(evutil_socket_t fd, short what, void *arg)
{
	struct fake *f = arg;
	char bytes[4096];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
	void *command;

	(void)what;
	if (n <= 0) {
		fake_drop(f);
		return;
	}
	redisReaderFeed(f->reader, bytes, (size_t)n);
	while (redisReaderGetReply(f->reader, &command) == REDIS_OK && command) {
		fake_answer(f, command);
		freeReplyObject(command);
	}
}

static void fake_accept(evutil_socket_t fd, short what, void *arg)
{
	struct fake *f = arg;

	(void)what;
	fake_drop(f);
	f->client = accept(fd, NULL, NULL);
	assert_true(f->client >= 0);
	f->connections++;
	f->reader = redisReaderCreate();
	f->read = event_new(loop_base(loop), f->client, EV_READ | EV_PERSIST, fake_read, f);
	event_add(f->read, NULL);
}

static void fake_start(struct fake *f)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	f->client = -1;
	snprintf(f->path, sizeof(f->path), "%s/fake.sock", dir);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", f->path);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(f->fd, 8), 0);
	f->accept = event_new(loop_base(loop), f->fd, EV_READ | EV_PERSIST, fake_accept, f);
	event_add(f->accept, NULL);
	f->address.socket = f->path;
	snprintf(f->address.text, sizeof(f->address.text), "fake");
}

static void fake_stop(struct fake *f)
{
	fake_drop(f);
	event_free(f->accept);
	close(f->fd);
	unlink(f->path);
}

/* The reason that a client is told when the server is like this. */
static struct err refusal(struct fake *f, struct redis_options o)
{
	struct seen s = { 0 };
	struct redis *r;

	fake_start(f);
	o.address = &f->address;
	r = open_with(o, &s);
	wait_for(&s.down, 1);
	assert_int_equal(s.up, 0);
	redis_free(r);
	fake_stop(f);
	return s.why;
}

static void refuses_a_server_that_will_not_do(void **state)
{
	static const struct {
		const char *info, *auth, *version, *word;
	} cases[] = {
		{ "redis_version:6.2.1\r\nmaxmemory_policy:noeviction\r\n", NULL, NULL, "7.0" },
		{ "redis_version:7.0.1\r\ncluster_enabled:1\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n",
		  NULL, NULL, "cluster" },
		{ "redis_version:7.0.1\r\nmaxmemory_policy:allkeys-lru\r\nrole:master\r\n", NULL, NULL,
		  "allow_eviction" },
		{ NULL, "-WRONGPASS invalid username-password pair\r\n", NULL, "redis_url" },
		{ NULL, NULL, "-NOPERM this user has no permissions\r\n", "+fcall" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct fake f = { .info = cases[i].info, .auth = cases[i].auth,
				  .version = cases[i].version };
		struct err why;

		f.address.password = (char *)"secret-word";
		why = refusal(&f, (struct redis_options){ .library = library });
		assert_int_equal(why.code, ERR_REFUSED);
		assert_non_null(strstr(why.message, cases[i].word));
		assert_null(strstr(why.message, "secret-word"));
	}
}

static void a_replica_is_away_not_refused(void **state)
{
	struct fake f = { .info = "redis_version:7.0.1\r\nmaxmemory_policy:noeviction\r\nrole:slave\r\n" };

	(void)state;
	assert_int_equal(refusal(&f, (struct redis_options){ 0 }).code, ERR_AWAY);
}

static void a_mute_server_is_a_timeout(void **state)
{
	struct fake f = { .mute = true };

	(void)state;
	assert_int_equal(refusal(&f, (struct redis_options){ .connect_ms = 100 }).code, ERR_TIMEOUT);
}

static void waits_while_a_server_loads_and_says_how_durable_it_is(void **state)
{
	struct fake f = { .loading = 3 };
	struct seen s = { 0 };
	struct redis *r;

	(void)state;
	fake_start(&f);
	r = open_up((struct redis_options){ .address = &f.address, .library = library }, &s);
	assert_int_equal(f.connections, 4);
	assert_int_equal(s.down, 1);
	assert_false(redis_get_info(r)->durable);
	assert_non_null(strstr(redis_get_info(r)->durability, "degraded: appendfsync is not known"));
	redis_free(r);
	fake_stop(&f);
}

static void takes_evicting_server_when_told_to(void **state)
{
	struct fake f = { .info = "redis_version:7.0.1\r\nmaxmemory_policy:allkeys-lru\r\n"
				  "role:master\r\n" };
	struct seen s = { 0 };
	struct redis *r;

	(void)state;
	fake_start(&f);
	r = open_up((struct redis_options){ .address = &f.address, .allow_eviction = true }, &s);
	assert_non_null(strstr(redis_get_info(r)->durability, "appendonly is off"));
	redis_free(r);
	fake_stop(&f);
}

static void backs_off_from_a_server_that_hangs_up(void **state)
{
	struct fake f = { 0 };
	struct seen s = { 0 };
	struct answer a = { 0 };
	struct redis *r;

	(void)state;
	fake_start(&f);
	r = open_up((struct redis_options){ .address = &f.address }, &s);
	assert_int_equal(call(r, &a, 0, "HANGUP"), 0);
	wait_for(&s.up, 2);
	assert_int_equal(a.errors[ERR_UNREACHABLE], 1);
	/* Now it never gets up: the tries must become rare. */
	f.info = "redis_version:7.0.1\r\nmaxmemory_policy:noeviction\r\nrole:slave\r\n";
	f.connections = 0;
	assert_int_equal(call(r, &a, 0, "HANGUP"), 0);
	turn(1000);
	assert_in_range(f.connections, 2, 6);
	redis_free(r);
	fake_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_urls_and_says_what_is_wrong),
		cmocka_unit_test(answers_come_in_the_order_of_the_calls),
		cmocka_unit_test(takes_bytes_and_finished_protocol),
		cmocka_unit_test(an_error_reply_is_a_reply),
		cmocka_unit_test(is_away_at_once_when_not_connected),
		cmocka_unit_test(refuses_more_than_its_bounds),
		cmocka_unit_test(a_time_limit_answers_once_and_the_rest_goes_on),
		cmocka_unit_test(silence_ends_the_connection),
		cmocka_unit_test(a_killed_server_leaves_every_call_answered_once),
		cmocka_unit_test(free_answers_all_that_is_owed),
		cmocka_unit_test(may_be_freed_in_a_callback),
		cmocka_unit_test(may_be_freed_in_a_callback_of_a_time_limit),
		cmocka_unit_test(may_be_freed_when_told_of_the_loss),
		cmocka_unit_test(loads_the_functions_and_again_when_they_are_gone),
		cmocka_unit_test(keeps_a_newer_library_and_replaces_an_older),
		cmocka_unit_test(hears_messages_and_is_told_after_a_reconnect),
		cmocka_unit_test(a_second_listener_is_told_that_it_stands),
		cmocka_unit_test(listeners_may_end_each_other_in_a_callback),
		cmocka_unit_test(may_be_freed_in_a_message),
		cmocka_unit_test(refuses_a_server_that_will_not_do),
		cmocka_unit_test(a_replica_is_away_not_refused),
		cmocka_unit_test(a_mute_server_is_a_timeout),
		cmocka_unit_test(waits_while_a_server_loads_and_says_how_durable_it_is),
		cmocka_unit_test(takes_evicting_server_when_told_to),
		cmocka_unit_test(backs_off_from_a_server_that_hangs_up),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
