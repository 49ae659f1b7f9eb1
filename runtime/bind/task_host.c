/* SPDX-License-Identifier: MIT */
/* exed.task_host: processes for tasks.
 *   start{ memory = bytes, cpu = seconds } -> child | nil, err
 *   child:send(text) -> true | nil, err        a frame; code "limit" when it does not take them
 *   child:next([seconds]) -> text | nil, err   code "closed" when it has ended, "timeout"
 *   child:all([seconds]) -> list | nil, err    all that there are, at least one
 *   child:probe()    asks where it is: a frame { stuck = "file:line" }
 *   child:kill()     child:pid() -> integer
 *   child:ended() -> { code, signal, cpu, memory } | nil
 * A child that is collected or closed is killed. */
#include "task_host.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "fiber.h"
#include "runtime.h"
#include "script.h"

#define CHILD "exed.task_host"
/* Frames, and bytes of them, that wait for their reader; then the process waits. */
#define QUEUE_MAX 256
#define QUEUE_BYTES (8u << 20)

struct frame {
	struct frame *next;
	size_t n;
	char text[];
};

/* Shared by the userdata and a wait. */
struct box {
	int refs;
	struct task_host *host;
	struct frame *first, **last;
	size_t queued, queued_bytes;
	bool ended;
	struct child_wait *waiting;
};

struct child_wait {
	struct wait wait; /* first */
	struct box *box;
	bool all;
};

static void drop_frames(struct box *b)
{
	while (b->first) {
		struct frame *f = b->first;

		b->first = f->next;
		free(f);
	}
	b->last = &b->first;
	b->queued = b->queued_bytes = 0;
}

static void box_unref(struct box *b)
{
	if (--b->refs)
		return;
	drop_frames(b);
	task_host_free(b->host);
	free(b);
}

static void wake(struct box *b)
{
	struct child_wait *w = b->waiting;

	b->waiting = NULL;
	if (w)
		wait_done(&w->wait);
}

static void on_frame(void *arg, const char *text, size_t n)
{
	struct box *b = arg;
	struct frame *f = malloc(sizeof(*f) + n);

	if (!f) {
		task_host_kill(b->host); /* a lost message would be a wrong run */
		return;
	}
	f->next = NULL;
	f->n = n;
	memcpy(f->text, text, n);
	*b->last = f;
	b->last = &f->next;
	b->queued_bytes += n;
	if (++b->queued >= QUEUE_MAX || b->queued_bytes >= QUEUE_BYTES)
		task_host_pause(b->host, true);
	wake(b);
}

static void on_end(void *arg)
{
	struct box *b = arg;

	b->ended = true;
	wake(b);
}

/* ---- waiting ---- */

/* Pushes the oldest frame and frees it. */
static void push_frame(struct box *b, lua_State *L)
{
	struct frame *f = b->first;

	lua_pushlstring(L, f->text, f->n);
	b->first = f->next;
	if (!b->first)
		b->last = &b->first;
	b->queued--;
	b->queued_bytes -= f->n;
	free(f);
	if (b->queued <= QUEUE_MAX / 2 && b->queued_bytes <= QUEUE_BYTES / 2)
		task_host_pause(b->host, false);
}

/* One frame, or a list of all, or nil and an err at the end. */
static int push_next(struct wait *w, lua_State *L)
{
	struct child_wait *cw = (struct child_wait *)w;
	struct box *b = cw->box;
	size_t queued = b->queued;
	struct err err;

	if (!b->first) {
		err_set(&err, ERR_CLOSED, "the task's process has ended");
		return fiber_push_err(L, &err, "task_host.next");
	}
	if (!cw->all) {
		push_frame(b, L);
		return 1;
	}
	lua_createtable(L, (int)queued, 0);
	for (size_t i = 1; i <= queued; i++) { /* not those that come meanwhile */
		push_frame(b, L);
		lua_rawseti(L, -2, (lua_Integer)i);
	}
	return 1;
}

static void cancel_next(struct wait *w)
{
	((struct child_wait *)w)->box->waiting = NULL;
}

static void free_next(struct wait *w)
{
	box_unref(((struct child_wait *)w)->box);
	free(w);
}

static struct box *check_box(lua_State *L)
{
	struct box **p = luaL_checkudata(L, 1, CHILD);

	if (!*p)
		luaL_error(L, "the task's process was closed");
	return *p;
}

static int await(lua_State *L, bool all)
{
	static const struct wait_ops ops = { push_next, cancel_next, free_next };
	struct box *b = check_box(L);
	int64_t ms = bind_check_ms(L, 2, -1);
	struct child_wait *w;

	if (b->waiting)
		return luaL_error(L, "another fiber waits for this process");
	w = malloc(sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &ops, "task_host.next", ms);
	w->box = b;
	w->all = all;
	b->refs++;
	if (b->first || b->ended)
		wait_done(&w->wait);
	else
		b->waiting = w;
	return fiber_await(L, &w->wait);
}

static int l_next(lua_State *L)
{
	return await(L, false);
}

static int l_all(lua_State *L)
{
	return await(L, true);
}

/* ---- the rest ---- */

static int l_send(lua_State *L)
{
	struct box *b = check_box(L);
	size_t n;
	const char *text = luaL_checklstring(L, 2, &n);
	struct err err;

	if (task_host_send(b->host, text, n, &err))
		return fiber_push_err(L, &err, "task_host.send");
	lua_pushboolean(L, 1);
	return 1;
}

static int l_probe(lua_State *L)
{
	task_host_probe(check_box(L)->host);
	return 0;
}

static int l_kill(lua_State *L)
{
	task_host_kill(check_box(L)->host);
	return 0;
}

static int l_pid(lua_State *L)
{
	lua_pushinteger(L, task_host_pid(check_box(L)->host));
	return 1;
}

static int l_ended(lua_State *L)
{
	const struct task_host_end *end = task_host_end(check_box(L)->host);

	if (!end)
		return 0;
	lua_createtable(L, 0, 4);
	if (end->code >= 0) {
		lua_pushinteger(L, end->code);
		lua_setfield(L, -2, "code");
	} else {
		lua_pushinteger(L, end->signal);
		lua_setfield(L, -2, "signal");
	}
	lua_pushnumber(L, end->cpu);
	lua_setfield(L, -2, "cpu");
	lua_pushinteger(L, (lua_Integer)end->memory);
	lua_setfield(L, -2, "memory");
	return 1;
}

static int l_gc(lua_State *L)
{
	struct box **p = luaL_checkudata(L, 1, CHILD);
	struct box *b = *p;

	*p = NULL;
	if (!b)
		return 0;
	task_host_kill(b->host);
	box_unref(b);
	return 0;
}

static int l_start(lua_State *L)
{
	struct script *script = script_of(L);
	struct task_host_options o = { .on_frame = on_frame, .on_end = on_end };
	struct box **p, *b;
	struct err err;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_getfield(L, 1, "memory");
	o.memory = (size_t)luaL_checkinteger(L, -1);
	lua_getfield(L, 1, "cpu");
	o.cpu = (unsigned long)luaL_optinteger(L, -1, 0);
	p = lua_newuserdatauv(L, sizeof(*p), 0);
	*p = NULL;
	luaL_setmetatable(L, CHILD);
	b = calloc(1, sizeof(*b));
	if (!b)
		return luaL_error(L, "not enough memory");
	b->refs = 1;
	b->last = &b->first;
	o.arg = b;
	b->host = task_host_start(script_loop(script), script_runtime(script)->program_fd, &o, &err);
	if (!b->host) {
		free(b);
		return fiber_push_err(L, &err, "task_host.start");
	}
	*p = b;
	return 1;
}

int luaopen_exed_task_host(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "send", l_send },   { "next", l_next }, { "probe", l_probe }, { "kill", l_kill },
		{ "pid", l_pid },     { "ended", l_ended }, { "all", l_all },	  { NULL, NULL },
	};
	static const luaL_Reg functions[] = { { "start", l_start }, { NULL, NULL } };

	bind_class(L, CHILD, methods, l_gc);
	luaL_newlib(L, functions);
	return 1;
}
