/* SPDX-License-Identifier: MIT */
/* exed.proc: programs on this machine.
 *   run{ "ls", "-l" } or run{ argv = {...} }, run{ command = "text for sh" } -> result | nil, err
 *     stdin = text        then end of file; without it, /dev/null
 *     env = { NAME = text }, clean = true: nothing but these
 *     cwd = directory     timeout = seconds (60; 0: none)
 *     max = bytes         of stdout and of stderr that are kept (1 MiB); the rest is counted
 *     op = text           EXED_OP, by which a kill finds what left the session
 *   result: code (nil when a signal ended it), signal, stdout, stderr, stdout_bytes, stderr_bytes,
 *     truncated, timed_out, killed, survivors, survivors_unknown, killed_by, output_open
 * What cannot be started is nil, err. Over its time limit it is killed, with all that it started;
 * that is a result, too. A fiber that is ended while it waits kills it. */
#include "proc.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "buf.h"
#include "fiber.h"
#include "script.h"

#define TIMEOUT_MS 60000
#define MAX_BYTES (1 << 20)

struct stream {
	struct buf kept;
	uint64_t bytes;
};

/* Owned by the process until its end, then by the fiber's wait; `wait` is NULL when that has
 * gone. */
struct run {
	struct run_wait *wait;
	struct proc *proc;
	char *op, *input;
	struct stream out, err;
	size_t max;
	struct ssh_result result;
};

struct run_wait {
	struct wait wait; /* first */
	struct run *run;
};

static void free_run(struct run *r)
{
	buf_deinit(&r->out.kept);
	buf_deinit(&r->err.kept);
	free(r->op);
	free(r->input);
	free(r);
}

/* ---- the process's side ---- */

static void on_output(void *arg, enum ssh_stream which, const char *data, size_t n)
{
	struct run *r = arg;
	struct stream *s = which == SSH_STDOUT ? &r->out : &r->err;
	size_t room = r->max - s->kept.len;

	s->bytes += n;
	buf_add(&s->kept, data, n < room ? n : room);
}

static void on_end(void *arg, const struct ssh_result *result)
{
	struct run *r = arg;

	r->proc = NULL;
	r->result = *result;
	if (r->wait)
		wait_done(&r->wait->wait);
	else
		free_run(r);
}

static const struct ssh_exec_ops exec_ops = { .output = on_output, .end = on_end };

/* ---- the fiber's side ---- */

static void set_stream(lua_State *L, const struct stream *s, const char *name, const char *bytes)
{
	lua_pushlstring(L, s->kept.data, s->kept.len);
	lua_setfield(L, -2, name);
	lua_pushinteger(L, (lua_Integer)s->bytes);
	lua_setfield(L, -2, bytes);
}

static void set_flag(lua_State *L, bool set, const char *name)
{
	if (!set)
		return;
	lua_pushboolean(L, 1);
	lua_setfield(L, -2, name);
}

static void set_end(lua_State *L, const struct ssh_result *res)
{
	if (res->exited) {
		lua_pushinteger(L, res->code);
		lua_setfield(L, -2, "code");
	}
	if (res->signal[0]) {
		lua_pushstring(L, res->signal);
		lua_setfield(L, -2, "signal");
	}
	set_flag(L, res->timed_out, "timed_out");
	set_flag(L, res->output_open, "output_open");
	set_flag(L, res->killed, "killed");
	if (!res->killed_by)
		return;
	lua_pushinteger(L, res->survivors);
	lua_setfield(L, -2, "survivors");
	if (res->possible > 0) {
		lua_pushinteger(L, res->possible);
		lua_setfield(L, -2, "survivors_unknown");
	}
	lua_pushstring(L, res->killed_by);
	lua_setfield(L, -2, "killed_by");
}

static int run_push(struct wait *w, lua_State *L)
{
	const struct run *r = ((struct run_wait *)w)->run;
	struct err err;

	if (r->out.kept.failed || r->err.kept.failed) {
		err_set(&err, ERR_MEMORY, "no memory for the output");
		return fiber_push_err(L, &err, "proc.run");
	}
	if (r->result.err.code && !r->result.timed_out)
		return fiber_push_err(L, &r->result.err, "proc.run");
	lua_createtable(L, 0, 8);
	set_stream(L, &r->out, "stdout", "stdout_bytes");
	set_stream(L, &r->err, "stderr", "stderr_bytes");
	set_flag(L, r->out.bytes > r->out.kept.len || r->err.bytes > r->err.kept.len, "truncated");
	set_end(L, &r->result);
	return 1;
}

static void run_cancel(struct wait *w)
{
	struct run *r = ((struct run_wait *)w)->run;

	if (r->proc)
		proc_cancel(r->proc);
}

static void run_free(struct wait *w)
{
	struct run *r = ((struct run_wait *)w)->run;

	if (r->proc)
		r->wait = NULL; /* it is being killed; its end frees the rest */
	else
		free_run(r);
	free(w);
}

static const struct wait_ops run_ops = { run_push, run_cancel, run_free };

/* ---- arguments: what may raise comes before what Lua does not free is allocated ---- */

static const char *check_text(lua_State *L, int idx, const char *what)
{
	size_t n;
	const char *text;

	if (!lua_isstring(L, idx))
		luaL_error(L, "proc.run: %s must be a string", what);
	text = lua_tolstring(L, idx, &n);
	if (strlen(text) != n)
		luaL_error(L, "proc.run: %s must not hold NUL", what);
	return text;
}

/* The strings of the table on top, as an array ended by NULL, which replaces nothing: table and
 * array stay on the stack, and with them the strings. */
static const char *const *push_list(lua_State *L)
{
	size_t n = lua_rawlen(L, -1);
	const char **list = lua_newuserdatauv(L, (n + 1) * sizeof(*list), 0);

	for (size_t i = 0; i < n; i++) {
		lua_rawgeti(L, -2, (lua_Integer)i + 1);
		list[i] = lua_tostring(L, -1);
		lua_pop(L, 1);
	}
	list[n] = NULL;
	return list;
}

/* The words of argv, or of the list itself; NULL when there are none. */
static const char *const *get_words(lua_State *L)
{
	size_t n;
	int from;

	if (lua_getfield(L, 1, "argv") == LUA_TNIL)
		lua_pushvalue(L, 1);
	luaL_checktype(L, -1, LUA_TTABLE);
	from = lua_gettop(L);
	n = lua_rawlen(L, from);
	lua_createtable(L, (int)n, 0);
	for (size_t i = 1; i <= n; i++) {
		lua_rawgeti(L, from, (lua_Integer)i);
		check_text(L, -1, "each word");
		lua_rawseti(L, -2, (lua_Integer)i);
	}
	return n ? push_list(L) : NULL;
}

static const char *const *get_env(lua_State *L)
{
	int from, to;
	lua_Integer n = 0;

	if (lua_getfield(L, 1, "env") == LUA_TNIL)
		return NULL;
	luaL_checktype(L, -1, LUA_TTABLE);
	from = lua_gettop(L);
	lua_newtable(L);
	to = lua_gettop(L);
	lua_pushnil(L);
	while (lua_next(L, from)) {
		const char *value = check_text(L, -1, "a value in env"), *name = NULL;

		if (lua_type(L, -2) == LUA_TSTRING)
			name = check_text(L, -2, "a name in env");
		if (!name || !*name || strchr(name, '='))
			luaL_error(L, "proc.run: a name in env must be a name");
		lua_pushfstring(L, "%s=%s", name, value);
		lua_rawseti(L, to, ++n);
		lua_pop(L, 1);
	}
	return push_list(L);
}

static void check_names(lua_State *L)
{
	static const char *const names[] = { "argv", "command", "stdin",   "env", "clean",
					     "cwd",  "op",	"timeout", "max", NULL };

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, 1)) {
		bool known = lua_type(L, -2) == LUA_TNUMBER;

		for (size_t i = 0; !known && names[i]; i++)
			known = lua_type(L, -2) == LUA_TSTRING &&
				!strcmp(lua_tostring(L, -2), names[i]);
		if (!known)
			luaL_error(L, "proc.run: there is no option '%s'",
				   luaL_tolstring(L, -2, NULL));
		lua_pop(L, 1);
	}
}

/* The field as text that stays on the stack; NULL when it is nil. */
static const char *get_text(lua_State *L, const char *name)
{
	return lua_getfield(L, 1, name) == LUA_TNIL ? NULL : check_text(L, -1, name);
}

static int64_t get_timeout(lua_State *L)
{
	if (lua_getfield(L, 1, "timeout") == LUA_TNIL)
		return TIMEOUT_MS;
	if (!lua_isnumber(L, -1) || lua_tonumber(L, -1) < 0 || lua_tonumber(L, -1) > 1e9)
		luaL_error(L, "proc.run: timeout must be seconds, not negative");
	return (int64_t)ceil(lua_tonumber(L, -1) * 1000);
}

/* Strings stay on the stack, so they live as long as this call. */
struct options {
	struct ssh_command cmd;
	const char *const *argv;
	size_t max;
	bool clean;
};

static void get_options(lua_State *L, struct options *o)
{
	lua_Integer max;

	luaL_checkstack(L, 24, "proc.run");
	check_names(L);
	o->cmd.command = get_text(L, "command");
	o->cmd.cwd = get_text(L, "cwd");
	o->cmd.op_id = get_text(L, "op");
	if (lua_getfield(L, 1, "stdin") != LUA_TNIL)
		o->cmd.input = luaL_checklstring(L, -1, &o->cmd.input_len);
	o->cmd.limit_ms = get_timeout(L);
	lua_getfield(L, 1, "max");
	max = luaL_optinteger(L, -1, MAX_BYTES);
	if (max < 0)
		luaL_error(L, "proc.run: max must not be negative");
	o->max = (size_t)max;
	lua_getfield(L, 1, "clean");
	o->clean = lua_toboolean(L, -1);
	o->cmd.env = get_env(L);
	o->argv = get_words(L);
	if (!o->cmd.command == !o->argv)
		luaL_error(L, "proc.run: give either a list of words or a command");
}

/* ---- run ---- */

/* What the process uses after its start is copied. */
static int copy_lasting(struct run *r, struct options *o)
{
	if (o->cmd.op_id && !(o->cmd.op_id = r->op = strdup(o->cmd.op_id)))
		return -ERR_MEMORY;
	if (!o->cmd.input_len)
		return 0;
	r->input = malloc(o->cmd.input_len);
	if (!r->input)
		return -ERR_MEMORY;
	memcpy(r->input, o->cmd.input, o->cmd.input_len);
	o->cmd.input = r->input;
	return 0;
}

static int start(struct run *r, struct loop *loop, const struct options *o, struct err *err)
{
	const char *const shell[] = { "/bin/sh", "-c", o->cmd.command, NULL };

	r->proc = proc_start_argv(loop, o->argv ? o->argv : shell, o->clean, &o->cmd, &exec_ops, r,
				  err);
	return r->proc ? 0 : -err->code;
}

static int l_run(lua_State *L)
{
	struct err err = { .code = ERR_MEMORY, .message = "no memory to run a program" };
	struct options o = { .argv = NULL };
	struct run *r;
	struct run_wait *w;

	if (!fiber_current(L))
		return luaL_error(L, "proc.run waits, and only a fiber can wait");
	get_options(L, &o);
	r = calloc(1, sizeof(*r));
	w = malloc(sizeof(*w));
	if (!r || !w || copy_lasting(r, &o))
		goto fail;
	r->max = o.max;
	r->wait = w;
	w->run = r;
	wait_init(&w->wait, &run_ops, "proc.run", -1);
	if (start(r, script_loop(script_of(L)), &o, &err))
		goto fail;
	return fiber_await(L, &w->wait);
fail:
	if (r)
		free_run(r);
	free(w);
	return fiber_push_err(L, &err, "proc.run");
}

static const luaL_Reg functions[] = {
	{ "run", l_run },
	{ NULL, NULL },
};

int luaopen_exed_proc(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
