/* SPDX-License-Identifier: MIT */
/* exed.signal:
 *   wait([seconds]) -> "TERM" | "INT" | "HUP" | nil, err      the next one, also one that came before
 * The signals are caught from the first call on; one that exed-run was started to ignore (nohup, a job in
 * the background) stays ignored. */
#include <lauxlib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "fiber.h"
#include "runtime.h"
#include "script.h"

#define BOX "exed.signals"

static const struct { int number; const char *name; } caught[] = {
	{ SIGTERM, "TERM" },
	{ SIGINT, "INT" },
	{ SIGHUP, "HUP" },
};
#define NCAUGHT (sizeof(caught) / sizeof(*caught))

struct box {
	struct event *events[NCAUGHT];
	unsigned came[NCAUGHT];
	struct signal_wait *waiting;
};

struct signal_wait {
	struct wait wait; /* first */
	struct box *box;
};

static void wake(struct box *b)
{
	struct signal_wait *w = b->waiting;
	unsigned came = 0;

	for (size_t i = 0; i < NCAUGHT; i++)
		came += b->came[i];
	if (!w || !came)
		return;
	b->waiting = NULL;
	wait_done(&w->wait);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	struct box *b = arg;

	(void)what;
	for (size_t i = 0; i < NCAUGHT; i++)
		b->came[i] += caught[i].number == (int)number;
	wake(b);
}

static int push_signal(struct wait *w, lua_State *L)
{
	struct box *b = ((struct signal_wait *)w)->box;

	for (size_t i = 0; i < NCAUGHT; i++) {
		if (!b->came[i])
			continue;
		b->came[i]--;
		lua_pushstring(L, caught[i].name);
		return 1;
	}
	lua_pushnil(L);
	return 1;
}

static void cancel_wait(struct wait *w)
{
	struct signal_wait *sw = (struct signal_wait *)w;

	if (sw->box->waiting == sw)
		sw->box->waiting = NULL;
}

static void free_wait(struct wait *w)
{
	cancel_wait(w);
	free(w);
}

static const struct wait_ops ops = { push_signal, cancel_wait, free_wait };

static int l_gc(lua_State *L)
{
	struct box *b = luaL_checkudata(L, 1, BOX);

	for (size_t i = 0; i < NCAUGHT; i++) {
		if (b->events[i])
			event_free(b->events[i]);
		b->events[i] = NULL;
	}
	return 0;
}

/* A node is told by signals what to do, however it was started. */
static bool stays_ignored(const struct runtime *rt, int number)
{
	struct sigaction now;

	return !strcmp(rt->program, "exed-run") && !sigaction(number, NULL, &now) &&
	       now.sa_handler == SIG_IGN;
}

static void catch_signals(lua_State *L, struct box *b)
{
	struct runtime *rt = script_runtime(script_of(L));
	struct event_base *base = loop_base(rt->loop);

	rt->signals_taken = true;
	for (size_t i = 0; i < NCAUGHT; i++) {
		if (b->events[i] || stays_ignored(rt, caught[i].number))
			continue;
		b->events[i] = evsignal_new(base, caught[i].number, on_signal, b);
		if (!b->events[i] || evsignal_add(b->events[i], NULL))
			luaL_error(L, "cannot catch SIG%s", caught[i].name);
	}
}

static int l_wait(lua_State *L)
{
	struct box *b = lua_touserdata(L, lua_upvalueindex(1));
	int64_t ms = bind_check_ms(L, 1, -1);
	struct signal_wait *w;

	catch_signals(L, b);
	if (b->waiting)
		return luaL_error(L, "another fiber waits for signals");
	w = malloc(sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &ops, "signal.wait", ms);
	w->box = b;
	b->waiting = w;
	wake(b);
	return fiber_await(L, &w->wait);
}

int luaopen_exed_signal(lua_State *L)
{
	struct box *b;

	bind_class(L, BOX, (const luaL_Reg[]){ { NULL, NULL } }, l_gc);
	lua_newtable(L);
	b = lua_newuserdatauv(L, sizeof(*b), 0);
	*b = (struct box){ 0 };
	luaL_setmetatable(L, BOX);
	lua_pushcclosure(L, l_wait, 1);
	lua_setfield(L, -2, "wait");
	return 1;
}
