/* SPDX-License-Identifier: MIT */
/* Tests of what the HTTP server listens on, how many it lets in, and how it lives when room or
 * descriptors are short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http.h"
#include "http_client.h"
#include "http_peers.h"
#include "log.h"
#include "support.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define MANY 40

static struct {
	struct loop *loop;
	struct http_server *server;
	struct http_options options;
	unsigned port;
	char dir[64], path[80], address[96];
	int busy;
	struct http_request *held[MANY];
} t;

static void on_gone(struct http_request *req, const char *why)
{
	(void)why;
	for (int i = 0; i < t.busy; i++)
		if (t.held[i] == req)
			t.held[i] = NULL;
}

static void on_request(struct http_request *req, void *arg)
{
	(void)arg;
	req->on_gone = on_gone;
	if (!strcmp(req->path, "/late") && t.busy < MANY)
		t.held[t.busy++] = req;
	else
		http_respond(req, 200, NULL, 0, req->tag, strlen(req->tag), NULL);
}

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
	assert_true(support_make_dir(t.dir, sizeof(t.dir)));
	snprintf(t.path, sizeof(t.path), "%s/s", t.dir);
	snprintf(t.address, sizeof(t.address), "unix:%s", t.path);
	t.loop = loop_new(NULL);
	client_loop(t.loop);
	http_options_init(&t.options);
	return 0;
}

static void serve(void)
{
	struct err err;

	t.server = http_server_new(t.loop, &t.options, on_request, NULL, &err);
	assert_non_null(t.server);
	if (http_server_listen(t.server, "127.0.0.1:0", "tcp", &err))
		fail_msg("%s", err.message);
	t.port = http_server_port(t.server);
}

static int teardown(void **state)
{
	(void)state;
	client_turn();
	http_server_free(t.server);
	loop_free(t.loop);
	unlink(t.path);
	rmdir(t.dir);
	return count_fds() == fds_before ? 0 : -1;
}

static void expect_tag(int fd, const char *tag)
{
	struct answer a;

	assert_true(fd >= 0);
	client_puts(fd, GET("/"));
	client_read(fd, &a, false);
	assert_int_equal(a.status, 200);
	assert_string_equal(buf_str(&a.body), tag);
	client_answer_free(&a);
}

static int dial_unix(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(un.sun_path, t.path, strlen(t.path) + 1);
	if (!connect(fd, (struct sockaddr *)&un, sizeof(un)))
		return fd;
	close(fd);
	return -1;
}

/* ---- listeners ---- */

static void a_unix_socket_is_for_its_owner(void **state)
{
	struct stat st;
	struct err err;
	mode_t mask = umask(0);
	int fd;

	(void)state;
	serve();
	assert_int_equal(http_server_listen(t.server, t.address, "own", &err), 0);
	umask(mask);
	assert_int_equal(lstat(t.path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	fd = dial_unix();
	expect_tag(fd, "own");
	close(fd);
	assert_int_equal(http_server_listen(t.server, t.address, "own", &err), -ERR_REFUSED);
	assert_non_null(strstr(err.message, "in use"));
	assert_int_equal(http_server_port(t.server), t.port);
	http_server_stop_accepting(t.server);
	assert_int_equal(lstat(t.path, &st), -1);
}

static void a_socket_left_behind_is_replaced(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct err err;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	memcpy(un.sun_path, t.path, strlen(t.path) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	close(fd);
	serve();
	assert_int_equal(http_server_listen(t.server, t.address, "own", &err), 0);
	fd = dial_unix();
	expect_tag(fd, "own");
	close(fd);
}

static void another_file_is_not_replaced(void **state)
{
	struct err err;
	int fd = open(t.path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	close(fd);
	serve();
	assert_int_equal(http_server_listen(t.server, t.address, "own", &err), -ERR_REFUSED);
	assert_non_null(strstr(err.message, "not a socket"));
	assert_int_equal(access(t.path, F_OK), 0);
}

static void addresses_are_understood_or_refused(void **state)
{
	static const char *const bad[] = { "", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:x",
		"127.0.0.1:65536", "127.0.0.1:-1", "::1:80", "[::1]", "[::1:80", "[x]:80",
		"name:80", "unix:", "unix:relative", "127.0.0.1:80 ", "1.2.3:80" };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	char taken[32];
	struct err err;
	int fd;

	(void)state;
	t.server = http_server_new(t.loop, &t.options, on_request, NULL, &err);
	assert_int_equal(http_server_port(t.server), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (http_server_listen(t.server, bad[i], "", &err) != -ERR_INVALID)
			fail_msg("%s", bad[i]);
	assert_int_equal(http_server_listen(t.server, "[::1]:0", "six", &err), 0);
	in6.sin6_port = htons((in_port_t)http_server_port(t.server));
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in6, sizeof(in6)), 0);
	expect_tag(fd, "six");
	close(fd);
	assert_int_equal(http_server_listen(t.server, "localhost:0", "", &err), 0);
	snprintf(taken, sizeof(taken), "[::1]:%u", http_server_port(t.server));
	assert_int_equal(http_server_listen(t.server, taken, "", &err), -ERR_SYSTEM);
	assert_non_null(strstr(err.message, taken));
}

/* ---- peers ---- */

static struct http_peer *take(struct http_peers *peers, const char *text, unsigned max)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		return http_peers_take(peers, (struct sockaddr *)&in, max);
	assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
	return http_peers_take(peers, (struct sockaddr *)&in6, max);
}

static void peers_are_counted_by_address(void **state)
{
	static struct http_peers peers;
	struct http_peer *a = take(&peers, "192.0.2.1", 2), *b = take(&peers, "192.0.2.1", 2);
	struct http_peer *c = take(&peers, "2001:db8::1", 2), *d = take(&peers, "2001:db8::f:2", 2);

	(void)state;
	assert_true(a && a == b);
	assert_null(take(&peers, "192.0.2.1", 2));
	assert_null(take(&peers, "::ffff:192.0.2.1", 2)); /* the same machine */
	assert_true(c && c == d);                         /* the same /64 */
	assert_null(take(&peers, "2001:db8::3", 2));
	http_peers_give(&peers, a);
	a = take(&peers, "192.0.2.1", 2);
	assert_non_null(a);
	http_peers_give(&peers, a);
	http_peers_give(&peers, b);
	http_peers_give(&peers, c);
	http_peers_give(&peers, d);
	for (int i = 0; i < HTTP_PEERS_BUCKETS; i++)
		assert_null(peers.buckets[i]);
}

static void loopback_is_known(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };

	(void)state;
	in.sin_addr.s_addr = htonl(0x7f010203);
	assert_true(http_peers_loopback((struct sockaddr *)&in));
	in.sin_addr.s_addr = htonl(0x80010203);
	assert_false(http_peers_loopback((struct sockaddr *)&in));
	assert_true(http_peers_loopback((struct sockaddr *)&in6));
	inet_pton(AF_INET6, "::ffff:127.0.0.2", &in6.sin6_addr);
	assert_true(http_peers_loopback((struct sockaddr *)&in6));
	inet_pton(AF_INET6, "::2", &in6.sin6_addr);
	assert_false(http_peers_loopback((struct sockaddr *)&in6));
}

static void one_peer_has_so_many_connections(void **state)
{
	int fds[3];

	(void)state;
	t.options.limit_loopback = true;
	t.options.peer_connections = 2;
	serve();
	for (int i = 0; i < 3; i++) {
		fds[i] = client_dial(t.port);
		client_turn();
	}
	assert_int_equal(client_read_end(fds[2], NULL), 0);
	assert_int_equal(http_server_counts(t.server).refused, 1);
	expect_tag(fds[0], "tcp");
	close(fds[1]);
	client_pass(5);
	close(fds[2]);
	fds[2] = client_dial(t.port);
	expect_tag(fds[2], "tcp");
	close(fds[0]);
	close(fds[2]);
}

/* ---- room ---- */

static void who_asks_nothing_makes_room(void **state)
{
	int fds[20], good;

	(void)state;
	t.options.max_connections = 4;
	serve();
	for (int i = 0; i < 20; i++) {
		fds[i] = client_dial(t.port);
		client_puts(fds[i], "GET / HT");
	}
	good = client_dial(t.port);
	expect_tag(good, "tcp");
	assert_true(http_server_counts(t.server).connections <= 4);
	assert_true(http_server_counts(t.server).refused >= 17);
	close(good);
	for (int i = 0; i < 20; i++)
		close(fds[i]);
}

static void who_is_served_is_not_put_out(void **state)
{
	struct answer a;
	int fds[4], waits;

	(void)state;
	t.options.max_connections = 4;
	serve();
	for (int i = 0; i < 4; i++) {
		fds[i] = client_dial(t.port);
		client_puts(fds[i], GET("/late"));
	}
	client_until_count(&t.busy, 4);
	waits = client_dial(t.port);
	client_puts(waits, GET("/"));
	client_pass(200);
	assert_int_equal(http_server_counts(t.server).refused, 0);
	assert_int_equal(http_server_counts(t.server).accepted, 4);
	assert_int_equal(http_respond(t.held[2], 200, NULL, 0, "x", 1, NULL), 0);
	client_read(fds[2], &a, false);
	client_answer_free(&a);
	close(fds[2]);
	client_read(waits, &a, false);
	assert_int_equal(a.status, 200);
	client_answer_free(&a);
	close(waits);
	for (int i = 0; i < 4; i++)
		if (i != 2)
			close(fds[i]);
	client_pass(10);
}

static int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void it_serves_on_when_descriptors_are_out(void **state)
{
	struct rlimit before, low;
	int late = -1, waits[8];
	struct answer a;

	(void)state;
	t.options.max_connections = 1000;
	serve();
	getrlimit(RLIMIT_NOFILE, &before);
	late = client_dial(t.port);
	client_puts(late, GET("/late"));
	client_until_count(&t.busy, 1);
	for (int i = 0; i < 8; i++) { /* the loop does not turn, so they wait to be accepted */
		waits[i] = client_dial(t.port);
		assert_true(send(waits[i], GET("/"), strlen(GET("/")), 0) > 0);
	}
	low = before;
	low.rlim_cur = (rlim_t)lowest_free_fd(); /* what is open stays open */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	client_pass(150);
	assert_int_equal(http_server_counts(t.server).accepted, 1);
	assert_int_equal(http_respond(t.held[0], 200, NULL, 0, "x", 1, NULL), 0);
	client_read(late, &a, false);
	assert_int_equal(a.status, 200);
	client_answer_free(&a);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	for (int i = 0; i < 8; i++) {
		client_read(waits[i], &a, false);
		assert_int_equal(a.status, 200);
		client_answer_free(&a);
		close(waits[i]);
	}
	close(late);
}

static void some_descriptors_are_left_to_others(void **state)
{
	struct rlimit limit;
	int fds[MANY], first;
	unsigned most;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &limit);
	first = lowest_free_fd() + MANY + 14; /* all clients and some of the server's ends */
	t.options.max_connections = 1000;
	t.options.reserve = (unsigned)limit.rlim_cur - (unsigned)first;
	serve();
	for (int i = 0; i < MANY; i++) {
		fds[i] = client_dial(t.port);
		client_puts(fds[i], GET("/late"));
	}
	client_pass(100);
	most = http_server_counts(t.server).connections;
	assert_true(most > 0 && most < MANY);
	assert_int_equal(lowest_free_fd(), first); /* taken up to there, and not one more */
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
}

static void bodies_together_have_a_bound(void **state)
{
	static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
	static const char half[60000];
	struct answer a;
	int one, two;

	(void)state;
	t.options.body_memory = 100000;
	serve();
	one = client_dial(t.port);
	client_puts(one, head);
	client_send(one, half, sizeof(half));
	client_pass(10);
	two = client_dial(t.port);
	client_puts(two, head);
	client_send(two, half, sizeof(half));
	client_read(two, &a, false);
	assert_int_equal(a.status, 503);
	assert_string_equal(client_field(&a, "Retry-After"), "1");
	client_answer_free(&a);
	close(two);
	client_send(one, half, 40000);
	client_read(one, &a, false);
	assert_int_equal(a.status, 200);
	client_answer_free(&a);
	/* Its memory is given back, so another one fits. */
	client_puts(one, head);
	client_send(one, half, sizeof(half));
	client_send(one, half, 40000);
	client_read(one, &a, false);
	assert_int_equal(a.status, 200);
	client_answer_free(&a);
	close(one);
}

/* ---- the access log ---- */

static void each_request_is_one_line_of_the_access_log(void **state)
{
	char log[100], line[512], peer[64], who[16], method[16], path[256];
	int status, bytes, s, ms, fd;
	struct answer a;
	FILE *f;

	(void)state;
	snprintf(log, sizeof(log), "%s/log", t.dir);
	assert_int_equal(log_open("/dev/null", log, LOG_NONE, NULL), 0);
	serve();
	fd = client_dial(t.port);
	expect_tag(fd, "tcp");
	client_puts(fd, "GET /\xff HTTP/1.1\r\n\r\n");
	client_read(fd, &a, false);
	client_answer_free(&a);
	client_puts(fd, "");
	close(fd);
	f = fopen(log, "r");
	assert_non_null(fgets(line, sizeof(line), f));
	assert_int_equal(sscanf(line, "%*s info access peer=%63s who=%15s method=%15s path=%255s "
				      "status=%d bytes=%d seconds=%d.%3d", peer, who, method, path,
				&status, &bytes, &s, &ms), 8);
	assert_memory_equal(peer, "127.0.0.1:", 10);
	assert_string_equal(method, "GET");
	assert_string_equal(who, "-");
	assert_string_equal(path, "/");
	assert_int_equal(status, 200);
	assert_int_equal(bytes, 3);
	assert_non_null(fgets(line, sizeof(line), f));
	assert_non_null(strstr(line, " status=400 "));
	assert_null(fgets(line, sizeof(line), f));
	fclose(f);
	unlink(log);
	log_close();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_unix_socket_is_for_its_owner),
		TEST(a_socket_left_behind_is_replaced),
		TEST(another_file_is_not_replaced),
		TEST(addresses_are_understood_or_refused),
		TEST(peers_are_counted_by_address),
		TEST(loopback_is_known),
		TEST(one_peer_has_so_many_connections),
		TEST(who_asks_nothing_makes_room),
		TEST(who_is_served_is_not_put_out),
		TEST(it_serves_on_when_descriptors_are_out),
		TEST(some_descriptors_are_left_to_others),
		TEST(bodies_together_have_a_bound),
		TEST(each_request_is_one_line_of_the_access_log),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
