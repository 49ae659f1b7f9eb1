/* SPDX-License-Identifier: MIT */
/* exed.program: programs on this machine that are talked with in lines, over their descriptor 3.
 *   start{ argv = {...}, env = { "NAME=value", ... }, cwd = directory, op = EXED_OP, line_max = bytes }
 *     -> program | nil, err                        line_max: of longer lines only so much comes
 *   program:lines([seconds]) -> list | nil, err   what there is, one to 1,000; code "closed" when it has
 *     ended, "timeout"
 *   program:send(text) -> true | nil, err
 *   program:kill()     it and all that it started; it ends soon
 *   program:ended() -> { code, signal, error, said, killed, survivors, killed_by } | nil
 *     said: the end of what it printed; killed_by: nil when it ended by itself
 * A program that is collected or closed is killed. */
#include "program.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "fiber.h"
#include "script.h"

#define PROGRAM "exed.program"
/* Lines given at once: a program may send millions of empty ones. */
#define LINES 1000

/* Shared by the userdata and a wait. */
struct box {
	int refs;
	struct program *program;
	struct lines_wait *waiting;
};

struct lines_wait {
	struct wait wait; /* first */
	struct box *box;
};

static void box_unref(struct box *b)
{
	if (--b->refs)
		return;
	program_free(b->program);
	free(b);
}

static void wake(void *arg)
{
	struct box *b = arg;
	struct lines_wait *w = b->waiting;

	b->waiting = NULL;
	if (w)
		wait_done(&w->wait);
}

/* ---- waiting ---- */

static int push_lines(struct wait *w, lua_State *L)
{
	struct box *b = ((struct lines_wait *)w)->box;
	const char *text, *line, *end;
	size_t n = program_lines(b->program, &text);
	lua_Integer i = 0;
	struct err err;

	if (!n) {
		err_set(&err, ERR_CLOSED, "the program has ended");
		return fiber_push_err(L, &err, "program.lines");
	}
	lua_newtable(L);
	for (line = text; line < text + n && i < LINES; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + n - line));
		lua_pushlstring(L, line, (size_t)(end - line));
		lua_rawseti(L, -2, ++i);
	}
	program_taken(b->program, (size_t)(line - text));
	return 1;
}

static void cancel_lines(struct wait *w)
{
	((struct lines_wait *)w)->box->waiting = NULL;
}

static void free_lines(struct wait *w)
{
	box_unref(((struct lines_wait *)w)->box);
	free(w);
}

static struct box *check_box(lua_State *L)
{
	struct box **p = luaL_checkudata(L, 1, PROGRAM);

	if (!*p)
		luaL_error(L, "the program was closed");
	return *p;
}

static int l_lines(lua_State *L)
{
	static const struct wait_ops ops = { push_lines, cancel_lines, free_lines };
	struct box *b = check_box(L);
	int64_t ms = bind_check_ms(L, 2, -1);
	struct lines_wait *w;
	const char *text;

	if (b->waiting)
		return luaL_error(L, "another fiber waits for this program");
	w = malloc(sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &ops, "program.lines", ms);
	w->box = b;
	b->refs++;
	if (program_lines(b->program, &text) || program_result(b->program))
		wait_done(&w->wait);
	else
		b->waiting = w;
	return fiber_await(L, &w->wait);
}

/* ---- the rest ---- */

static int l_send(lua_State *L)
{
	struct box *b = check_box(L);
	size_t n;
	const char *text = luaL_checklstring(L, 2, &n);
	struct err err;

	if (program_send(b->program, text, n, &err))
		return fiber_push_err(L, &err, "program.send");
	lua_pushboolean(L, 1);
	return 1;
}

static int l_kill(lua_State *L)
{
	program_kill(check_box(L)->program);
	return 0;
}

static int l_ended(lua_State *L)
{
	struct box *b = check_box(L);
	const struct ssh_result *r = program_result(b->program);
	const char *text;
	size_t n;

	if (!r)
		return 0;
	lua_createtable(L, 0, 3);
	if (r->exited) {
		lua_pushinteger(L, r->code);
		lua_setfield(L, -2, "code");
	}
	if (r->signal[0]) {
		lua_pushstring(L, r->signal);
		lua_setfield(L, -2, "signal");
	}
	if (r->err.code) {
		lua_pushstring(L, r->err.message);
		lua_setfield(L, -2, "error");
	}
	n = program_said(b->program, &text);
	lua_pushlstring(L, text, n);
	lua_setfield(L, -2, "said");
	if (!r->killed_by)
		return 1;
	lua_pushstring(L, r->killed_by);
	lua_setfield(L, -2, "killed_by");
	lua_pushboolean(L, r->killed);
	lua_setfield(L, -2, "killed");
	if (r->survivors >= 0) {
		lua_pushinteger(L, r->survivors);
		lua_setfield(L, -2, "survivors");
	}
	return 1;
}

static int l_gc(lua_State *L)
{
	struct box **p = luaL_checkudata(L, 1, PROGRAM), *b = *p;

	*p = NULL;
	if (!b)
		return 0;
	program_kill(b->program);
	box_unref(b);
	return 0;
}

/* ---- start ---- */

/* The strings of the list in that field, ended by NULL: they live as long as the table at 1. */
static const char *const *get_list(lua_State *L, const char *name)
{
	const char **list;
	size_t n;

	if (lua_getfield(L, 1, name) == LUA_TNIL)
		return NULL;
	luaL_checktype(L, -1, LUA_TTABLE);
	n = lua_rawlen(L, -1);
	list = lua_newuserdatauv(L, (n + 1) * sizeof(*list), 0);
	for (size_t i = 0; i < n; i++) {
		size_t len;

		if (lua_rawgeti(L, -2, (lua_Integer)i + 1) != LUA_TSTRING)
			luaL_error(L, "program.start: %s must be a list of strings", name);
		list[i] = lua_tolstring(L, -1, &len);
		if (strlen(list[i]) != len)
			luaL_error(L, "program.start: %s must not hold NUL", name);
		lua_pop(L, 1);
	}
	list[n] = NULL;
	return list;
}

static int l_start(lua_State *L)
{
	struct program_options o = { .on_lines = wake, .on_end = wake };
	struct box **p, *b;
	struct err err;

	luaL_checktype(L, 1, LUA_TTABLE);
	o.argv = get_list(L, "argv");
	o.env = get_list(L, "env");
	lua_getfield(L, 1, "cwd");
	o.cwd = luaL_optstring(L, -1, NULL);
	lua_getfield(L, 1, "op");
	o.op_id = luaL_checkstring(L, -1);
	lua_getfield(L, 1, "line_max");
	o.line_max = (size_t)luaL_optinteger(L, -1, 0);
	luaL_argcheck(L, o.argv && o.argv[0], 1, "field argv is missing");
	p = lua_newuserdatauv(L, sizeof(*p), 0);
	*p = NULL;
	luaL_setmetatable(L, PROGRAM);
	b = calloc(1, sizeof(*b));
	if (!b)
		return luaL_error(L, "not enough memory");
	b->refs = 1;
	o.arg = b;
	b->program = program_start(script_loop(script_of(L)), &o, &err);
	if (!b->program) {
		free(b);
		return fiber_push_err(L, &err, "program.start");
	}
	*p = b;
	return 1;
}

int luaopen_exed_program(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "lines", l_lines }, { "send", l_send },   { "kill", l_kill },
		{ "ended", l_ended }, { NULL, NULL },
	};
	static const luaL_Reg functions[] = { { "start", l_start }, { NULL, NULL } };

	bind_class(L, PROGRAM, methods, l_gc);
	luaL_newlib(L, functions);
	return 1;
}
