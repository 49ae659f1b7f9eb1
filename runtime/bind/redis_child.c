/* SPDX-License-Identifier: MIT */
/* exed.redis_child: the private redis-server.
 *   start(dir, program, memory, seconds) -> child | nil, err     waits until it answers; dir is its path
 *   child:url() -> text            for redis.connect; has the password, so it is not for logs
 *   child:pid() -> integer         0 when none runs now
 *   child:notice() -> text         "" or what it said of its file when it started
 *   child:trouble() -> text        "" or why the last one ended, while it is not steady again
 *   child:stop(seconds)            waits until it has ended; it is killed when that takes longer */
#include "redis_child.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "buf.h"
#include "fiber.h"
#include "script.h"

#define CHILD "exed.redis_child"

struct box {
	int refs; /* of the userdata, and of a wait */
	struct redis_child *child;
	struct child_wait *waiting;
	bool answered;
	struct err why; /* code 0: it answers */
};

struct child_wait {
	struct wait wait; /* first */
	struct box *box;
	bool start;
};

static void box_unref(struct box *b)
{
	if (--b->refs)
		return;
	redis_child_free(b->child);
	free(b);
}

static void wake(struct box *b)
{
	struct child_wait *w = b->waiting;

	b->waiting = NULL;
	if (w)
		wait_done(&w->wait);
}

static void on_start(void *arg, const struct err *why)
{
	struct box *b = arg;

	b->answered = true;
	if (why)
		b->why = *why;
	wake(b);
}

static void on_end(void *arg)
{
	wake(arg);
}

static int push_result(struct wait *w, lua_State *L)
{
	struct child_wait *cw = (struct child_wait *)w;
	struct box *b = cw->box, **ud;

	if (!cw->start) {
		lua_pushboolean(L, 1);
		return 1;
	}
	if (b->why.code)
		return fiber_push_err(L, &b->why, "redis_child.start");
	ud = lua_newuserdatauv(L, sizeof(*ud), 0);
	*ud = b;
	b->refs++;
	luaL_setmetatable(L, CHILD);
	return 1;
}

static void cancel_wait(struct wait *w)
{
	struct child_wait *cw = (struct child_wait *)w;

	if (cw->box->waiting == cw)
		cw->box->waiting = NULL;
}

static void free_wait(struct wait *w)
{
	cancel_wait(w);
	box_unref(((struct child_wait *)w)->box);
	free(w);
}

static const struct wait_ops ops = { push_result, cancel_wait, free_wait };

/* Takes over a reference of b. */
static int await(lua_State *L, struct box *b, bool start, int64_t ms)
{
	struct child_wait *w = calloc(1, sizeof(*w));

	if (!w) {
		box_unref(b);
		return luaL_error(L, "not enough memory");
	}
	wait_init(&w->wait, &ops, start ? "redis_child.start" : "redis_child.stop", ms);
	w->box = b;
	w->start = start;
	b->waiting = w;
	if (start && b->answered)
		wake(b);
	return fiber_await(L, &w->wait);
}

static int l_start(lua_State *L)
{
	struct redis_child_options o = {
		.dir = luaL_checkstring(L, 1),
		.server = luaL_optstring(L, 2, NULL),
		.memory = luaL_checkinteger(L, 3),
		.on_start = on_start,
	};
	int64_t ms = bind_check_ms(L, 4, -1);
	struct box *b = calloc(1, sizeof(*b));
	struct err err;

	if (!b)
		return luaL_error(L, "not enough memory");
	b->refs = 1;
	o.arg = b;
	b->child = redis_child_new(script_loop(script_of(L)), &o, &err);
	if (!b->child) {
		free(b);
		return fiber_push_err(L, &err, "redis_child.start");
	}
	return await(L, b, true, ms);
}

static struct box *check_child(lua_State *L)
{
	struct box *b = *(struct box **)luaL_checkudata(L, 1, CHILD);

	luaL_argcheck(L, b, 1, "it has been stopped");
	return b;
}

/* Percent-encoding as redis_address_parse reads it. */
static void put_encoded(struct buf *b, const char *text, const char *plain)
{
	for (; *text; text++) {
		if (isalnum((unsigned char)*text) || strchr(plain, *text))
			buf_putc(b, *text);
		else
			buf_printf(b, "%%%02X", (unsigned char)*text);
	}
}

static int l_url(lua_State *L)
{
	const struct redis_address *a = redis_child_address(check_child(L)->child);
	struct buf b = { 0 };

	buf_puts(&b, "unix://:");
	put_encoded(&b, a->password ? a->password : "", "-_");
	buf_putc(&b, '@');
	put_encoded(&b, a->socket, "-_./");
	bind_push_buf(L, &b);
	return 1;
}

static int l_pid(lua_State *L)
{
	lua_pushinteger(L, redis_child_pid(check_child(L)->child));
	return 1;
}

static int l_notice(lua_State *L)
{
	lua_pushstring(L, redis_child_notice(check_child(L)->child));
	return 1;
}

static int l_trouble(lua_State *L)
{
	lua_pushstring(L, redis_child_trouble(check_child(L)->child));
	return 1;
}

static int l_stop(lua_State *L)
{
	struct box *b = check_child(L);
	int64_t limit_ms;

	luaL_checknumber(L, 2);
	limit_ms = bind_check_ms(L, 2, 0);
	redis_child_stop(b->child, limit_ms, on_end, b);
	b->refs++;
	return await(L, b, false, -1);
}

static int l_gc(lua_State *L)
{
	struct box **ud = luaL_checkudata(L, 1, CHILD);

	if (*ud)
		box_unref(*ud);
	*ud = NULL;
	return 0;
}

static const luaL_Reg methods[] = {
	{ "url", l_url },     { "pid", l_pid },   { "notice", l_notice }, { "trouble", l_trouble },
	{ "stop", l_stop },	{ NULL, NULL },
};

static const luaL_Reg functions[] = { { "start", l_start }, { NULL, NULL } };

int luaopen_exed_redis_child(lua_State *L)
{
	bind_class(L, CHILD, methods, l_gc);
	luaL_newlib(L, functions);
	return 1;
}
