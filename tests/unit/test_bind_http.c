/* SPDX-License-Identifier: MIT */
/* Tests of exed.http.server: Lua handlers behind real sockets. Each test ends with no fiber, wait
 * or descriptor left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"
#include "fiber.h"
#include "http_client.h"
#include "log.h"
#include "runtime.h"
#include "script.h"

#define HOST "Host: a\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

static const char program[] =
	"local server = require 'exed.http.server'\n"
	"local timer = require 'exed.timer'\n"
	"local routes = {}\n"
	"seen, closed, written = {}, 0, 0\n"
	"routes['/hello'] = function(req) req:respond(200, nil, 'hello') end\n"
	"routes['/echo'] = function(req)\n"
	"  req:respond(201, { ['X-A'] = { '1', '2' }, Location = req.path }, req.body)\n"
	"end\n"
	"routes['/describe'] = function(req)\n"
	"  local q = {}\n"
	"  for _, name in ipairs { 'a', 'b', 'none' } do\n"
	"    q[#q + 1] = name .. '=' .. table.concat(req.query[name] or { '-' }, ',')\n"
	"  end\n"
	"  req:respond(200, { ['Content-Type'] = 'text/plain' }, table.concat({ req.method,\n"
	"    req.path, req.raw_query, table.concat(q, ';'), req:header('X-Two'),\n"
	"    req.headers['x-two'], req.host, req.tag, tostring(req.loopback),\n"
	"    tostring(req:header('none')), math.type(req.id),\n"
	"    table.concat(table.pack(req:header('x-two', 'Host')), '+') }, '|'))\n"
	"end\n"
	"routes['/raise'] = function() error('on purpose') end\n"
	"routes['/raise-late'] = function(req) req:respond(200, nil, 'ok') error('too late') end\n"
	"routes['/raise-table'] = function() error({}) end\n"
	"routes['/silent'] = function() end\n"
	"routes['/cut'] = function(req) req:start(200) req:write('part') end\n"
	"routes['/raise-stream'] = function(req)\n"
	"  req:start(200) req:write('part') error('broken')\n"
	"end\n"
	"routes['/wait'] = function(req)\n"
	"  local mark <close> = setmetatable({}, { __close = function()\n"
	"    closed = closed + 1\n"
	"    local ok, err = req:respond(200, nil, 'x')\n"
	"    seen.ok, seen.code, seen.operation = ok, err and err.code, err and err.operation\n"
	"  end })\n"
	"  timer.sleep(1000)\n"
	"end\n"
	"routes['/slow'] = function(req) timer.sleep(0.02) req:respond(200, nil, 'slow') end\n"
	"routes['/flood'] = function(req)\n"
	"  local piece = ('0123456789abcdef'):rep(1024)\n"
	"  assert(req:start(200, { ['Content-Type'] = 'text/plain' }))\n"
	"  for _ = 1, 1024 do\n"
	"    assert(req:write(piece))\n"
	"    written = written + #piece\n"
	"  end\n"
	"  req:finish()\n"
	"end\n"
	"routes['/limit'] = function(req)\n"
	"  req:start(200)\n"
	"  local ok, err\n"
	"  repeat ok, err = req:write(('x'):rep(100000), 0.05) until not ok\n"
	"  seen.code = err.code\n"
	"  req:cut()\n"
	"end\n"
	"local function refused(f, ...)\n"
	"  local ok, err = pcall(f, ...)\n"
	"  return ok and 'accepted' or err\n"
	"end\n"
	"routes['/misuse'] = function(req)\n"
	"  local out = {\n"
	"    refused(req.respond, req, 99), refused(req.respond, req, 'x'),\n"
	"    refused(req.respond, req, 200, { a = 1 }),\n"
	"    refused(req.respond, req, 200, { ['a b'] = 'c' }),\n"
	"    refused(req.respond, req, 200, { a = 'b\\r\\nc: d' }),\n"
	"    refused(req.respond, req, 200, { a = 'b\\0' }),\n"
	"    refused(req.respond, req, 200, { Date = 'now' }), refused(req.write, req, 'x'),\n"
	"    refused(req.finish, req), refused(req.respond, {}, 200),\n"
	"    refused(req.respond, setmetatable({}, getmetatable(req)), 200),\n"
	"    refused(function() return setmetatable({}, getmetatable(req)).body end),\n"
	"  }\n"
	"  req:respond(200, nil, 'done')\n"
	"  out[#out + 1] = refused(req.respond, req, 200)\n"
	"  out[#out + 1] = refused(req.start, req, 200)\n"
	"  seen.misuse = table.concat(out, '\\n')\n"
	"end\n"
	"routes['/close'] = function(req) srv:close() seen.after = req:respond(200) == nil end\n"
	"srv = server.new { server = 'test/1', idle_timeout = 60, max_body = 100000 }\n"
	"assert(srv:listen('127.0.0.1:0', 'exed'))\n"
	"srv:serve(function(req) routes[req.path](req) end)\n"
	"port = srv:port()\n"
	"function misuse()\n"
	"  local out = {\n"
	"    refused(server.new, { max_bdy = 1 }), refused(server.new, { max_body = 'x' }),\n"
	"    refused(server.new, { max_body = -1 }), refused(srv.serve, srv, function() end),\n"
	"  }\n"
	"  local ok, err = srv:listen('nonsense')\n"
	"  out[#out + 1] = tostring(ok) .. ' ' .. err.code .. ' ' .. err.message\n"
	"  return table.concat(out, '\\n')\n"
	"end\n";

static struct runtime rt;
static struct script *script;
static unsigned port;
static int fds_before;

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int setup(void **state)
{
	const struct script_limits limits = { .fibers = 100 };
	struct err err;
	lua_State *L;

	(void)state;
	fds_before = count_fds();
	memset(&rt, 0, sizeof(rt));
	rt.loop = loop_new(&err);
	rt.share = ".";
	rt.program = "test";
	client_loop(rt.loop);
	script = script_new(&rt, bind_modules, &limits, &err);
	if (!script)
		fail_msg("%s", err.message);
	L = script_state(script);
	if (luaL_dostring(L, program))
		fail_msg("%s", lua_tostring(L, -1));
	lua_getglobal(L, "port");
	port = (unsigned)lua_tointeger(L, -1);
	lua_settop(L, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	client_turn();
	assert_int_equal(lua_gettop(script_state(script)), 0);
	script_free(script);
	loop_free(rt.loop);
	return count_fds() == fds_before ? 0 : -1;
}

/* A global, or a field of `seen`, as text in a static buffer. */
static const char *lua_value(const char *table, const char *name)
{
	static char text[2048];
	lua_State *L = script_state(script);

	lua_getglobal(L, table ? table : name);
	if (table)
		lua_getfield(L, -1, name);
	snprintf(text, sizeof(text), "%s", luaL_tolstring(L, -1, NULL));
	lua_settop(L, 0);
	return text;
}

static void ask(const char *bytes, int status, const char *body)
{
	struct answer a;
	int fd = client_dial(port);

	client_puts(fd, bytes);
	client_read(fd, &a, false);
	if (a.status != status || (body && strcmp(buf_str(&a.body), body)))
		fail_msg("%s: %d '%s', not %d '%s'", bytes, a.status, buf_str(&a.body), status,
			 body ? body : "(any)");
	client_answer_free(&a);
	close(fd);
}

/* Turns until so many fibers wait, of as many that there are. */
static void until_waits(unsigned n)
{
	int64_t since = loop_now_ms();

	for (client_turn(); fiber_counts(script).waits != n || fiber_counts(script).fibers != n;
	     client_pass(1))
		if (loop_now_ms() - since > CLIENT_LIMIT_MS)
			fail_msg("%u fibers and %u waits, not %u", fiber_counts(script).fibers,
				 fiber_counts(script).waits, n);
}

static void no_fiber_is_left(void)
{
	until_waits(0);
}

static void a_handler_answers(void **state)
{
	struct answer a;
	int fd = client_dial(port);

	(void)state;
	ask(GET("/hello"), 200, "hello");
	ask(GET("/slow"), 200, "slow");
	client_puts(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\na\r\nb");
	client_read(fd, &a, false);
	assert_int_equal(a.status, 201);
	assert_string_equal(buf_str(&a.body), "a\r\nb");
	assert_string_equal(client_field(&a, "Location"), "/echo");
	assert_string_equal(client_field(&a, "Server"), "test/1");
	assert_non_null(strstr(buf_str(&a.head), "X-A: 1\r\nX-A: 2\r\n"));
	client_answer_free(&a);
	close(fd);
	no_fiber_is_left();
}

static void a_request_has_its_fields(void **state)
{
	(void)state;
	ask("GET /describe?a=1&b=x%20+y&a=%C3%A9 HTTP/1.1\r\nHost: H\r\n"
	    "X-Two: 1\r\nx-two: 2\r\n\r\n", 200,
	    "GET|/describe|a=1&b=x%20+y&a=%C3%A9|a=1,\xc3\xa9;b=x  y;none=-|1, 2|1, 2|H|exed|true|"
	    "nil|integer|1, 2+H");
	no_fiber_is_left();
}

static void a_handler_that_fails_is_answered_for(void **state)
{
	static const char internal[] = "{\"message\": \"internal error\"}";
	struct answer a;

	(void)state;
	ask(GET("/raise"), 500, internal);
	ask(GET("/raise-table"), 500, internal);
	ask(GET("/nothing-here"), 500, internal);
	ask(GET("/silent"), 500, internal);
	ask(GET("/raise-late"), 200, "ok");
	for (int i = 0; i < 2; i++) {
		int fd = client_dial(port);

		client_puts(fd, i ? GET("/raise-stream") : GET("/cut"));
		client_read(fd, &a, false);
		assert_int_equal(a.status, 200);
		assert_true(a.cut);
		assert_string_equal(buf_str(&a.body), "4\r\npart\r\n");
		client_answer_free(&a);
		close(fd);
	}
	ask(GET("/hello"), 200, "hello");
	no_fiber_is_left();
}

static void the_fiber_of_a_client_that_left_ends(void **state)
{
	int fd = client_dial(port);

	(void)state;
	client_puts(fd, GET("/wait"));
	until_waits(1);
	close(fd);
	no_fiber_is_left();
	assert_string_equal(lua_value(NULL, "closed"), "1");
	assert_string_equal(lua_value("seen", "ok"), "nil");
	assert_string_equal(lua_value("seen", "code"), "closed");
	assert_string_equal(lua_value("seen", "operation"), "respond");
}

static void a_writer_waits_for_a_slow_client(void **state)
{
	struct answer a;
	int fd = client_dial(port);
	size_t n = 0;

	(void)state;
	client_puts(fd, "GET /flood HTTP/1.0\r\n\r\n");
	until_waits(1);
	client_pass(20);
	assert_true(strtoul(lua_value(NULL, "written"), NULL, 10) < 8 << 20);
	client_read(fd, &a, false);
	assert_int_equal(a.body.len, 16 << 20);
	for (; n < a.body.len && a.body.data[n] == "0123456789abcdef"[n % 16]; n++)
		;
	assert_int_equal(n, a.body.len);
	client_answer_free(&a);
	close(fd);
	/* And one that leaves while the writer waits. */
	fd = client_dial(port);
	client_puts(fd, GET("/flood"));
	until_waits(1);
	close(fd);
	no_fiber_is_left();
}

static void a_write_has_a_time_limit(void **state)
{
	int fd = client_dial(port);

	(void)state;
	client_puts(fd, GET("/limit"));
	until_waits(1);
	no_fiber_is_left();
	assert_string_equal(lua_value("seen", "code"), "timeout");
	close(fd);
}

static void misuse_is_raised(void **state)
{
	lua_State *L = script_state(script);
	const char *text;

	(void)state;
	ask(GET("/misuse"), 200, "done");
	text = lua_value("seen", "misuse");
	assert_null(strstr(text, "accepted"));
	assert_non_null(strstr(text, "a status from 200 to 599"));
	assert_non_null(strstr(text, "header Date is set by the server"));
	assert_non_null(strstr(text, "start comes first"));
	assert_non_null(strstr(text, "answered already"));
	no_fiber_is_left();
	lua_getglobal(L, "misuse");
	assert_int_equal(lua_pcall(L, 0, 1, 0), LUA_OK);
	text = lua_tostring(L, -1);
	assert_null(strstr(text, "accepted"));
	assert_non_null(strstr(text, "max_bdy"));
	assert_non_null(strstr(text, "nil invalid nonsense"));
	lua_settop(L, 0);
}

static void too_many_requests_are_told_to_come_back(void **state)
{
	int fds[101];
	struct answer a;

	(void)state;
	for (int i = 0; i < 100; i++) {
		fds[i] = client_dial(port);
		client_puts(fds[i], GET("/wait"));
	}
	until_waits(100);
	fds[100] = client_dial(port);
	client_puts(fds[100], GET("/hello"));
	client_read(fds[100], &a, false);
	assert_int_equal(a.status, 503);
	assert_string_equal(client_field(&a, "Retry-After"), "1");
	client_answer_free(&a);
	for (int i = 0; i < 101; i++)
		close(fds[i]);
	no_fiber_is_left();
	assert_string_equal(lua_value(NULL, "closed"), "100");
	ask(GET("/hello"), 200, "hello");
	no_fiber_is_left();
}

static void the_state_may_close_with_requests_open(void **state)
{
	int waiting = client_dial(port), writing = client_dial(port);

	(void)state;
	client_puts(waiting, GET("/wait"));
	client_puts(writing, GET("/flood"));
	until_waits(2);
	script_end_fibers(script);
	script_free(script);
	close(waiting);
	close(writing);
	script = script_new(&rt, bind_modules, &(struct script_limits){ 0 }, NULL);
	assert_non_null(script);
}

static void a_handler_may_close_the_server(void **state)
{
	int fd = client_dial(port), waiting = client_dial(port);

	(void)state;
	client_puts(waiting, GET("/wait"));
	until_waits(1);
	client_puts(fd, GET("/close"));
	client_read_end(fd, NULL);
	client_read_end(waiting, NULL);
	no_fiber_is_left();
	assert_string_equal(lua_value("seen", "after"), "true");
	assert_string_equal(lua_value(NULL, "closed"), "1");
	close(fd);
	close(waiting);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_handler_answers),
		TEST(a_request_has_its_fields),
		TEST(a_handler_that_fails_is_answered_for),
		TEST(the_fiber_of_a_client_that_left_ends),
		TEST(a_writer_waits_for_a_slow_client),
		TEST(a_write_has_a_time_limit),
		TEST(misuse_is_raised),
		TEST(too_many_requests_are_told_to_come_back),
		TEST(the_state_may_close_with_requests_open),
		TEST(a_handler_may_close_the_server),
	};
	int failed;

	signal(SIGPIPE, SIG_IGN);
	log_open("/dev/null", NULL, LOG_NONE, NULL);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	log_close();
	return failed;
}
