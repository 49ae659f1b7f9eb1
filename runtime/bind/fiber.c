/* SPDX-License-Identifier: MIT */
/* exed.fiber: start and end fibers, and events that they wait for.
 *   spawn(name, fn, ...) -> handle       handle:cancel(reason)   handle:running()
 *   vital(name, fn, ...) -> handle       the same, but an error in it ends the program, with exit code 1
 *   event() -> event                     event:wait(seconds) -> true | nil, err   event:notify()
 *   limit(seconds | nil)                 of the fiber that calls it: when it has passed, what is waited for
 *                                        raises an err with code "timeout"; nil ends it
 *   bounded(instructions, fn, ...) -> true, results | false, error
 *                                        as pcall, but fn may run that many instructions, and must not wait
 *   count() -> fibers, waits
 *   list() -> for each fiber a text: its name, where its function stands, where it is, what it waits for
 * An error in a spawned fiber is logged with its traceback. */
#include "fiber.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "budget.h"
#include "log.h"
#include "script.h"

#define HANDLE "exed.fiber"
#define EVENT "exed.event"

/* Shared by the userdata and the running fiber; freed by the last of the two. */
struct handle {
	struct fiber *fiber; /* NULL once it ended */
	struct loop *vital_to; /* this loop stops when the fiber fails; NULL: none */
	int refs;
};

struct event_box {
	struct event_wait *first;
};

struct event_wait {
	struct wait wait; /* first */
	struct event_wait *next, **link;
};

/* ---- spawn ---- */

static void handle_unref(struct handle *h)
{
	if (!--h->refs)
		free(h);
}

static void spawned_end(void *arg, const struct fiber_end *end)
{
	struct handle *h = arg;

	if (!end->ok && !end->cancelled)
		log_error("fiber", "%s: %s\n%s", fiber_name(h->fiber), fiber_end_text(end),
			  end->trace ? end->trace : "");
	if (!end->ok && !end->cancelled && h->vital_to) {
		log_error("fiber", "nothing goes on without %s: the program ends", fiber_name(h->fiber));
		loop_stop(h->vital_to, 1);
	}
	h->fiber = NULL;
	handle_unref(h);
}

static int spawn(lua_State *L, bool vital)
{
	const char *name = luaL_checkstring(L, 1);
	struct handle **box, *h;
	struct err err;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	box = lua_newuserdatauv(L, sizeof(*box), 0);
	*box = NULL;
	luaL_setmetatable(L, HANDLE);
	lua_replace(L, 1); /* the name stays: its string is an argument of the caller */
	h = calloc(1, sizeof(*h));
	if (!h)
		return luaL_error(L, "not enough memory");
	h->refs = 2;
	h->vital_to = vital ? script_loop(script_of(L)) : NULL;
	*box = h;
	h->fiber = fiber_start(script_of(L), L, lua_gettop(L) - 2, name, spawned_end, h, &err);
	if (!h->fiber) {
		h->refs = 1;
		return fiber_push_err(L, &err, "fiber.spawn");
	}
	return 1;
}

static int l_spawn(lua_State *L)
{
	return spawn(L, false);
}

/* What must not be missing without anybody's notice: better no program than one that only seems to work. */
static int l_vital(lua_State *L)
{
	return spawn(L, true);
}

static struct handle *check_handle(lua_State *L)
{
	struct handle *h = *(struct handle **)luaL_checkudata(L, 1, HANDLE);

	luaL_argcheck(L, h, 1, "the handle is closed");
	return h;
}

static int l_cancel(lua_State *L)
{
	struct handle *h = check_handle(L);
	const char *reason = luaL_optstring(L, 2, "ended");

	if (h->fiber)
		fiber_cancel(h->fiber, reason);
	return 0;
}

static int l_running(lua_State *L)
{
	lua_pushboolean(L, check_handle(L)->fiber != NULL);
	return 1;
}

static int l_handle_gc(lua_State *L)
{
	struct handle **box = luaL_checkudata(L, 1, HANDLE);

	if (*box)
		handle_unref(*box);
	*box = NULL;
	return 0;
}

/* ---- events ---- */

static void event_unlink(struct event_wait *w)
{
	if (!w->link)
		return;
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	w->link = NULL;
}

static int event_push(struct wait *w, lua_State *L)
{
	(void)w;
	lua_pushboolean(L, 1);
	return 1;
}

static void event_cancel(struct wait *w)
{
	event_unlink((struct event_wait *)w);
}

static void event_free_wait(struct wait *w)
{
	event_unlink((struct event_wait *)w);
	free(w);
}

static const struct wait_ops event_ops = { event_push, event_cancel, event_free_wait };

static int l_event(lua_State *L)
{
	struct event_box *box = lua_newuserdatauv(L, sizeof(*box), 0);

	box->first = NULL;
	luaL_setmetatable(L, EVENT);
	return 1;
}

static int l_wait(lua_State *L)
{
	struct event_box *box = luaL_checkudata(L, 1, EVENT);
	int64_t timeout = bind_check_ms(L, 2, -1);
	struct event_wait *w = malloc(sizeof(*w));

	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &event_ops, "event.wait", timeout);
	w->next = box->first;
	w->link = &box->first;
	if (w->next)
		w->next->link = &w->next;
	box->first = w;
	return fiber_await(L, &w->wait);
}

static int l_notify(lua_State *L)
{
	struct event_box *box = luaL_checkudata(L, 1, EVENT);

	while (box->first) {
		struct event_wait *w = box->first;

		event_unlink(w);
		wait_done(&w->wait);
	}
	return 0;
}

static int l_limit(lua_State *L)
{
	int64_t ms = bind_check_ms(L, 1, -1);
	struct fiber *f = fiber_current(L);

	if (!f)
		return luaL_error(L, "limit: only a fiber has one");
	fiber_limit(f, ms);
	return 0;
}

static int l_bounded(lua_State *L)
{
	lua_Integer budget = luaL_checkinteger(L, 1);
	int status;

	luaL_argcheck(L, budget > 0, 1, "at least one instruction");
	luaL_checkany(L, 2);
	status = budget_call(L, (unsigned long)budget, lua_gettop(L) - 2);
	lua_pushboolean(L, status == LUA_OK);
	lua_replace(L, 1);
	return lua_gettop(L);
}

static int l_count(lua_State *L)
{
	struct fiber_counts counts = fiber_counts(script_of(L));

	lua_pushinteger(L, counts.fibers);
	lua_pushinteger(L, counts.waits);
	return 2;
}

static void add_text(void *arg, const struct fiber *f, const char *text)
{
	luaL_Buffer *b = arg;

	(void)f;
	luaL_addstring(b, text);
	luaL_addchar(b, '\n');
}

static int l_list(lua_State *L)
{
	luaL_Buffer b;
	const char *text, *end;

	/* Into one text first: what raises while it is made leaves nothing to free. */
	luaL_buffinit(L, &b);
	fiber_each(script_of(L), add_text, &b);
	luaL_pushresult(&b);
	lua_newtable(L);
	for (text = lua_tostring(L, -2); (end = strchr(text, '\n')); text = end + 1) {
		lua_pushlstring(L, text, (size_t)(end - text));
		lua_rawseti(L, -2, luaL_len(L, -2) + 1);
	}
	return 1;
}

static const luaL_Reg handle_methods[] = {
	{ "cancel", l_cancel },
	{ "running", l_running },
	{ NULL, NULL },
};

static const luaL_Reg event_methods[] = {
	{ "wait", l_wait },
	{ "notify", l_notify },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "spawn", l_spawn }, { "vital", l_vital },
	{ "event", l_event },   { "bounded", l_bounded },
	{ "limit", l_limit },
	{ "count", l_count },   { "list", l_list },
	{ NULL, NULL },
};

int luaopen_exed_fiber(lua_State *L)
{
	bind_class(L, HANDLE, handle_methods, l_handle_gc);
	bind_class(L, EVENT, event_methods, NULL);
	luaL_newlib(L, functions);
	return 1;
}
