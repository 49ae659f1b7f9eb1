/* SPDX-License-Identifier: MIT */
/* exed.fanout: runs a plan on many hosts; the work is fanout.c's, Lua is entered once per batch.
 *   host{ name, address, port, user, key, password, raw, fence_dir, become,
 *     become_password, jump (a host) } -> host    made once per inventory host
 *   start(plan, hosts [, indexes [, sink [, own]]]) -> run | nil, err
 *     own: by place in hosts what one has of its own, or false: values (texts, for "$x_h1" and so on in
 *       its command); command, stdin, env, cwd, timeout in place of the plan's
 *     plan: transport, command, stdin, content (of exed.content), before, tidy, env (list of NAME=value), cwd, timeout, connect_timeout (seconds),
 *           window, group, group_window, urgent, keep, op, try, verdict { [code] = status, default },
 *           lines, look, quiet_record, tell_code, facts, json, output_cap, settle_until (timer.now's seconds),
 *           settle (seconds), fence, forbid (reason), quiet, sync, fence_dir, fence_ttl (seconds),
 *           hidden (list of texts that output must not show), open (targets are added)
 *     sink: of exed.sink; without one the entries come by run:next
 *   run:next([seconds]) -> list of { kind, index, status, data, stream, offset, parts, away } | nil at the end
 *   run:wait([seconds]) -> number of hosts that did not start (after drain) | nil, err (code closed: it
 *     was abandoned)
 *     without a sink it drops the entries that run:next has not given yet
 *   run:add(host, index, effect) -> true | nil, err    one target more; with plan.open and a sink
 *   run:taken([seconds]) -> { effect, index, parts, data, ... } | nil, err   records that the store
 *     has, four values each; code closed at the end
 *   run:close()          none is added any more
 *   run:cancel(reason)   run:refuse(reason [, status])   run:drain()   run:abandon()
 *   run:pause(boolean)   starts no more hosts, or goes on
 *   run:running(max) -> list of { index, phase, seconds }; while content is sent, sent and size, too: bytes
 *   run:sent() -> bytes of content that have gone to hosts, over ssh
 *   run:waiting() -> number of hosts that have not started
 *   own_names() -> list                          of fields of records that nothing else may be called
 *   permit(time)        hosts may start until then, in timer.now's seconds; at first for ever
 *   end_by(time)        the program's end waits until then at most for kills; at first 12 s from its end on
 *   counts() -> { fanouts, running, finished } */
#include "fanout.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "fiber.h"
#include "plan.h"
#include "record_fields.h"
#include "runtime.h"
#include "script.h"
#include "sink.h"
#include "targets.h"

#define RUN "exed.fanout.run"

/* Shared by the userdata and the fan-out; freed by the last of the two. */
struct box {
	int refs;
	struct script *script;
	struct fanout *fanout; /* NULL once it ended */
	struct sink *sink;     /* the store's, or NULL: entries wait in the list */
	struct entry *first, **last; /* with a sink: records that it has taken */
	struct box_wait *waiting;
	size_t unstarted;
	bool open;      /* the plan was */
	bool abandoned; /* by run:abandon */
	bool left; /* nobody will ask for entries: the userdata is gone, or they did not want any */
};

struct box_wait {
	struct wait wait; /* first */
	struct box *box;
	bool entries; /* next or taken, not wait */
};

static void box_unref(struct box *b)
{
	if (--b->refs)
		return;
	if (b->sink)
		sink_unref(b->sink);
	free(b);
}

/* ---- the run ---- */

static void wake(struct box *b)
{
	struct box_wait *w = b->waiting;

	if (!w || (b->fanout && !(w->entries && b->first)))
		return;
	b->waiting = NULL;
	wait_done(&w->wait);
}

/* Holds the sink at index arg, and so its connection, while the fan-out lives, which may be longer than
 * the run's userdata; 0 lets it go. */
static void anchor_sink(lua_State *L, struct box *b, int arg)
{
	if (!b->sink)
		return;
	if (arg)
		lua_pushvalue(L, arg);
	else
		lua_pushnil(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, b);
}

static void on_end(void *arg, size_t unstarted)
{
	struct box *b = arg;

	b->unstarted = unstarted;
	b->fanout = NULL;
	anchor_sink(script_state(b->script), b, 0);
	wake(b);
	box_unref(b);
}

/* Of a fan-out that is open: run:taken gives it. */
static bool on_taken(void *arg, struct entry *record)
{
	struct box *b = arg;

	if (!b->open || b->left)
		return false;
	record->next = NULL;
	*b->last = record;
	b->last = &record->next;
	wake(b);
	return true;
}

static const struct fanout_ops run_ops = { on_end, on_taken };

/* Entries for Lua wait here until run:next takes them: that is its back-pressure. */
static void box_append(void *arg, struct entry *list)
{
	struct box *b = arg;

	if (b->left) {
		fanout_taken(b->fanout, list);
		return;
	}
	*b->last = list;
	while (*b->last)
		b->last = &(*b->last)->next;
	wake(b);
}

static const struct sink_ops box_sink = { NULL, box_append };

static void free_entries(struct box *b)
{
	while (b->first) {
		struct entry *next = b->first->next;

		entry_free(b->first);
		b->first = next;
	}
	b->last = &b->first;
}

static void drop_entries(struct box *b)
{
	b->left = true;
	if (b->sink)
		free_entries(b);
	else if (b->first)
		fanout_taken(b->fanout, b->first);
	b->first = NULL;
	b->last = &b->first;
}

static int l_start(lua_State *L)
{
	struct runtime *rt = script_runtime(script_of(L));
	struct fanout_plan plan;
	struct fanout_target *targets;
	struct sink *sink;
	struct box *b, **ud;
	struct err err;
	size_t n;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 5);
	sink = bind_sink_opt(L, 4);
	ud = lua_newuserdatauv(L, sizeof(*ud), 0);
	*ud = NULL;
	luaL_setmetatable(L, RUN);
	targets = bind_targets(L, 2, 3, 5, &n);
	bind_plan_read(L, 1, &plan);
	b = calloc(1, sizeof(*b));
	if (!b)
		return luaL_error(L, "not enough memory");
	b->last = &b->first;
	b->refs = 1;
	b->sink = sink ? sink_ref(sink) : NULL;
	b->open = plan.open;
	*ud = b;
	b->script = script_of(L);
	anchor_sink(L, b, 4);
	b->fanout = fanout_start(rt->fanouts, &plan, rt->ssh, targets, n,
				 sink ? sink_fanout_ops(sink) : &box_sink, sink ? (void *)sink : b,
				 &run_ops, b, &err);
	bind_targets_taken(targets, n);
	if (!b->fanout) {
		anchor_sink(L, b, 0);
		return fiber_push_err(L, &err, "fanout.start");
	}
	if (sink)
		sink_attach(sink, b->fanout);
	b->refs++;
	lua_pushvalue(L, 6);
	return 1;
}

static struct box *check_run(lua_State *L)
{
	struct box *b = *(struct box **)luaL_checkudata(L, 1, RUN);

	luaL_argcheck(L, b, 1, "the run is closed");
	return b;
}

static void push_entry(lua_State *L, const struct entry *e)
{
	lua_createtable(L, 0, 8);
	lua_pushstring(L, e->kind == ENTRY_PART ? "part" : "record");
	lua_setfield(L, -2, "kind");
	lua_pushinteger(L, e->index);
	lua_setfield(L, -2, "index");
	lua_pushlstring(L, e->data, e->len);
	lua_setfield(L, -2, "data");
	if (e->kind == ENTRY_PART) {
		lua_pushinteger(L, e->stream);
		lua_setfield(L, -2, "stream");
		lua_pushinteger(L, (lua_Integer)e->offset);
		lua_setfield(L, -2, "offset");
		return;
	}
	lua_pushinteger(L, e->status);
	lua_setfield(L, -2, "status");
	lua_pushinteger(L, e->parts);
	lua_setfield(L, -2, "parts");
	lua_pushboolean(L, e->away);
	lua_setfield(L, -2, "away");
}

static int push_entries(lua_State *L, struct box *b)
{
	lua_Integer i = 0;

	if (!b->first) {
		lua_pushnil(L);
		return 1;
	}
	lua_newtable(L);
	for (const struct entry *e = b->first; e; e = e->next) {
		push_entry(L, e);
		lua_rawseti(L, -2, ++i);
	}
	fanout_taken(b->fanout, b->first);
	b->first = NULL;
	b->last = &b->first;
	return 1;
}

/* Flat, since there may be many of them in a second. */
static int push_taken(lua_State *L, struct box *b)
{
	lua_Integer i = 0;

	lua_newtable(L);
	for (const struct entry *e = b->first; e; e = e->next) {
		lua_pushinteger(L, e->effect);
		lua_rawseti(L, -2, ++i);
		lua_pushinteger(L, e->index);
		lua_rawseti(L, -2, ++i);
		lua_pushinteger(L, e->parts);
		lua_rawseti(L, -2, ++i);
		lua_pushlstring(L, e->data, e->len);
		lua_rawseti(L, -2, ++i);
	}
	free_entries(b);
	return 1;
}

static int wait_push(struct wait *w, lua_State *L)
{
	struct box_wait *bw = (struct box_wait *)w;
	struct err err;

	if (bw->entries && bw->box->open && bw->box->first)
		return push_taken(L, bw->box);
	if (bw->entries && !bw->box->open)
		return push_entries(L, bw->box);
	if (bw->box->abandoned) {
		err_set(&err, ERR_CLOSED, "abandoned");
		return fiber_push_err(L, &err, "fanout.wait");
	}
	if (bw->box->sink && sink_result(bw->box->sink, &err))
		return fiber_push_err(L, &err, "fanout.wait");
	if (bw->entries) {
		err_set(&err, ERR_CLOSED, "the run has ended");
		return fiber_push_err(L, &err, "fanout.taken");
	}
	lua_pushinteger(L, (lua_Integer)bw->box->unstarted);
	return 1;
}

static void wait_cancel(struct wait *w)
{
	struct box_wait *bw = (struct box_wait *)w;

	if (bw->box->waiting == bw)
		bw->box->waiting = NULL;
}

static void wait_free(struct wait *w)
{
	wait_cancel(w);
	box_unref(((struct box_wait *)w)->box);
	free(w);
}

static const struct wait_ops box_wait_ops = { wait_push, wait_cancel, wait_free };

static int await(lua_State *L, bool entries)
{
	struct box *b = check_run(L);
	int64_t ms = bind_check_ms(L, 2, -1);
	struct box_wait *w;

	if (b->waiting)
		return luaL_error(L, "another fiber waits for this run");
	w = calloc(1, sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &box_wait_ops, entries ? "fanout.next" : "fanout.wait", ms);
	w->box = b;
	w->entries = entries;
	b->refs++;
	b->waiting = w;
	wake(b);
	return fiber_await(L, &w->wait);
}

static int l_next(lua_State *L)
{
	struct box *b = check_run(L);

	luaL_argcheck(L, !b->sink, 1, "its entries go to the store");
	return await(L, true);
}

static int l_taken(lua_State *L)
{
	luaL_argcheck(L, check_run(L)->open, 1, "its plan is not open");
	return await(L, true);
}

static int l_add(lua_State *L)
{
	struct box *b = check_run(L);
	struct ssh_host **host = luaL_checkudata(L, 2, BIND_HOST);
	struct fanout_target target = { 0 };
	struct err err;

	luaL_argcheck(L, *host, 2, "the host is closed");
	target.host = *host;
	target.index = (unsigned)luaL_checkinteger(L, 3);
	target.effect = (unsigned)luaL_checkinteger(L, 4);
	if (!b->fanout)
		err_set(&err, ERR_CLOSED, "the run has ended");
	if (!b->fanout || fanout_add(b->fanout, &target, &err))
		return fiber_push_err(L, &err, "fanout.add");
	lua_pushboolean(L, 1);
	return 1;
}

static int l_close(lua_State *L)
{
	struct box *b = check_run(L);

	if (b->fanout)
		fanout_close(b->fanout);
	return 0;
}

static int l_wait(lua_State *L)
{
	struct box *b = check_run(L);

	/* Without a sink it would wait for ever for entries that nobody takes. */
	if (!b->sink && !b->waiting)
		drop_entries(b);
	return await(L, false);
}

static int l_cancel(lua_State *L)
{
	struct box *b = check_run(L);

	if (b->fanout)
		fanout_cancel(b->fanout, luaL_optstring(L, 2, "cancelled"));
	return 0;
}

static int l_abandon(lua_State *L)
{
	struct box *b = check_run(L);

	b->abandoned = b->abandoned || b->fanout;
	if (b->fanout)
		fanout_abandon(b->fanout);
	return 0;
}

static int l_refuse(lua_State *L)
{
	struct box *b = check_run(L);
	const char *reason = luaL_checkstring(L, 2);
	int status = (int)luaL_optinteger(L, 3, STATUS_UNREACHABLE);

	if (b->fanout)
		fanout_refuse(b->fanout, status, reason);
	return 0;
}

static int l_drain(lua_State *L)
{
	struct box *b = check_run(L);

	if (b->fanout)
		fanout_drain(b->fanout);
	return 0;
}

static int l_pause(lua_State *L)
{
	struct box *b = check_run(L);

	luaL_checktype(L, 2, LUA_TBOOLEAN);
	if (b->fanout)
		fanout_pause(b->fanout, lua_toboolean(L, 2));
	return 0;
}

static int l_running(lua_State *L)
{
	struct box *b = check_run(L);
	lua_Integer max = luaL_optinteger(L, 2, 100);
	struct fanout_running *list;
	size_t n;

	luaL_argcheck(L, max > 0 && max <= 10000, 2, "1 to 10000");
	list = lua_newuserdatauv(L, (size_t)max * sizeof(*list), 0);
	n = b->fanout ? fanout_list_running(b->fanout, list, (size_t)max) : 0;
	lua_createtable(L, (int)n, 0);
	for (size_t i = 0; i < n; i++) {
		lua_createtable(L, 0, 5);
		lua_pushinteger(L, list[i].index);
		lua_setfield(L, -2, "index");
		lua_pushstring(L, list[i].phase);
		lua_setfield(L, -2, "phase");
		lua_pushnumber(L, (lua_Number)(loop_now_ms() - list[i].since_ms) / 1000);
		lua_setfield(L, -2, "seconds");
		if (list[i].size) {
			lua_pushinteger(L, (lua_Integer)list[i].sent);
			lua_setfield(L, -2, "sent");
			lua_pushinteger(L, (lua_Integer)list[i].size);
			lua_setfield(L, -2, "size");
		}
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

static int l_sent(lua_State *L)
{
	struct box *b = check_run(L);

	lua_pushinteger(L, b->fanout ? (lua_Integer)fanout_sent(b->fanout) : 0);
	return 1;
}

static int l_waiting(lua_State *L)
{
	struct box *b = check_run(L);

	lua_pushinteger(L, b->fanout ? (lua_Integer)fanout_waiting(b->fanout) : 0);
	return 1;
}

/* Nobody will ask any more: what waits is let go, and what runs is ended. */
static int l_run_gc(lua_State *L)
{
	struct box **ud = luaL_checkudata(L, 1, RUN), *b = *ud;

	*ud = NULL;
	if (!b)
		return 0;
	if (b->fanout)
		fanout_cancel(b->fanout, "its script ended");
	drop_entries(b);
	box_unref(b);
	return 0;
}

static int l_counts(lua_State *L)
{
	struct fanouts_counts c = fanouts_counts(script_runtime(script_of(L))->fanouts);

	lua_createtable(L, 0, 3);
	lua_pushinteger(L, c.fanouts);
	lua_setfield(L, -2, "fanouts");
	lua_pushinteger(L, c.running);
	lua_setfield(L, -2, "running");
	lua_pushinteger(L, (lua_Integer)c.finished);
	lua_setfield(L, -2, "finished");
	return 1;
}

static int l_own_names(lua_State *L)
{
	lua_newtable(L);
	for (lua_Integer i = 0; record_own_names[i]; i++) {
		lua_pushstring(L, record_own_names[i]);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

static int l_end_by(lua_State *L)
{
	double by = luaL_checknumber(L, 1);

	fanouts_end_by(script_runtime(script_of(L))->fanouts, (int64_t)(by * 1000));
	return 0;
}

static int l_permit(lua_State *L)
{
	lua_Number until = luaL_checknumber(L, 1);

	fanouts_permit(script_runtime(script_of(L))->fanouts, (int64_t)(until * 1000));
	return 0;
}

static const luaL_Reg run_methods[] = {
	{ "add", l_add },	  { "taken", l_taken },	    { "close", l_close },
	{ "next", l_next },	  { "wait", l_wait },	    { "cancel", l_cancel },
	{ "refuse", l_refuse },	  { "drain", l_drain },	    { "abandon", l_abandon }, { "running", l_running },
	{ "waiting", l_waiting }, { "pause", l_pause },	    { "sent", l_sent },	      { NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "host", bind_host },
	{ "start", l_start },
	{ "permit", l_permit },
	{ "end_by", l_end_by },
	{ "counts", l_counts },
	{ "own_names", l_own_names },
	{ NULL, NULL },
};

int luaopen_exed_fanout(lua_State *L)
{
	bind_targets_open(L);
	bind_class(L, RUN, run_methods, l_run_gc);
	luaL_newlib(L, functions);
	return 1;
}
