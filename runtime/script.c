/* SPDX-License-Identifier: MIT */
/* script: makes and closes the Lua state. The state owns its memory account; every thread of it finds
 * its script through Lua's extra space. Loop thread. */
#include "script.h"

#include <limits.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blocks.h"
#include "budget.h"
#include "collector.h"
#include "fiber.h"
#include "left.h"
#include "log.h"
#include "runtime.h"

#ifdef __SANITIZE_THREAD__
#include <setjmp.h>

/* Lua leaves functions by glibc's checked longjmp, of which the thread sanitizer knows nothing: each error and
 * each wait would leave frames behind on the stack that it keeps beside ours, until that is full. */
_Noreturn void __longjmp_chk(jmp_buf env, int value);
_Noreturn void __longjmp_chk(jmp_buf env, int value)
{
	longjmp(env, value);
}
#endif

struct script {
	struct runtime *rt;
	lua_State *L;
	struct fibers *fibers;
	struct blocks blocks;
	struct budget budget;
	struct collector collector;
	size_t memory, memory_limit;
	bool refused; /* a block, since script_was_refused was asked */
	bool returned;
};

/* Lua's accountant: a block more than the limit is refused, and Lua collects garbage and tries again
 * before it raises. */
static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize)
{
	struct script *s = ud;
	size_t old = ptr ? osize : 0;
	void *block;

	if (!nsize) {
		blocks_put(&s->blocks, ptr, old);
		s->memory -= old;
		return NULL;
	}
	if (nsize > old && s->memory_limit && s->memory + (nsize - old) > s->memory_limit) {
		s->refused = true;
		return NULL;
	}
	block = blocks_resize(&s->blocks, ptr, old, nsize);
	if (block)
		s->memory += nsize - old;
	return block;
}

/* An error outside of every protected call is a fault of ours: Lua aborts after this. */
static int panic(lua_State *L)
{
	const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no text";

	log_error("script", "an error outside of every protected call: %s", text);
	return 0;
}

/* Whatever may raise stands in functions that are called protected, also when the program starts. */
static int open_state(lua_State *L)
{
	const luaL_Reg *m = lua_touserdata(L, 1);
	const char *share = lua_touserdata(L, 2);

	luaL_openlibs(L);
	lua_getglobal(L, "package");
	lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;%s", share, share,
			(lua_getfield(L, -1, "path"), lua_tostring(L, -1)));
	lua_setfield(L, -3, "path");
	lua_pop(L, 1);
	lua_getfield(L, -1, "preload");
	for (; m->name; m++) {
		lua_pushcfunction(L, m->func);
		lua_setfield(L, -2, m->name);
	}
	return 0;
}

struct script *script_new(struct runtime *rt, const luaL_Reg *modules,
			  const struct script_limits *limits, struct err *err)
{
	struct script *s = calloc(1, sizeof(*s));

	if (!s)
		goto fail;
	s->rt = rt;
	s->memory_limit = limits->memory;
	s->L = lua_newstate(allocate, s);
	if (!s->L)
		goto fail;
	*(struct script **)lua_getextraspace(s->L) = s;
	lua_atpanic(s->L, panic);
	lua_pushcfunction(s->L, open_state);
	lua_pushlightuserdata(s->L, (void *)modules);
	lua_pushlightuserdata(s->L, (void *)rt->share);
	if (lua_pcall(s->L, 2, 0, 0) != LUA_OK)
		goto fail;
	if (budget_start(&s->budget, s->L, limits->budget))
		goto fail;
	s->fibers = fiber_state_new(s, limits->fibers);
	if (!s->fibers)
		goto fail;
	collector_start(&s->collector, s->L, limits->by_turns ? rt->loop : NULL, &s->memory);
	return s;
fail:
	err_set(err, ERR_MEMORY, "no memory for a Lua state");
	script_free(s);
	return NULL;
}

void script_end_fibers(struct script *s)
{
	if (s->fibers)
		fiber_end_all(s->fibers);
}

void script_free(struct script *s)
{
	if (!s)
		return;
	if (s->fibers)
		left_fibers(s);
	script_end_fibers(s);
	collector_stop(&s->collector);
	if (s->L)
		lua_close(s->L);
	if (s->fibers)
		fiber_state_free(s->fibers);
	budget_stop(&s->budget);
	blocks_deinit(&s->blocks);
	free(s);
}

lua_State *script_state(struct script *s)
{
	return s->L;
}

struct loop *script_loop(struct script *s)
{
	return s->rt->loop;
}

struct runtime *script_runtime(struct script *s)
{
	return s->rt;
}

struct script *script_of(lua_State *L)
{
	return *(struct script **)lua_getextraspace(L);
}

struct fibers *script_fibers(struct script *s)
{
	return s->fibers;
}

size_t script_memory(const struct script *s)
{
	return s->memory;
}

struct budget *script_budget(struct script *s)
{
	return &s->budget;
}

struct collector *script_collector(struct script *s)
{
	return &s->collector;
}

bool script_returned(const struct script *s)
{
	return s->returned;
}

bool script_was_refused(struct script *s)
{
	bool refused = s->refused;

	s->refused = false;
	return refused;
}

/* ---- running a file ---- */

struct file_run {
	struct script *script;
	void (*on_end)(void *arg, const struct script_end *end);
	void *arg;
};

static void file_ended(void *arg, const struct fiber_end *end)
{
	struct file_run run = *(struct file_run *)arg;
	struct script_end how = { .ok = end->ok };

	free(arg);
	run.script->returned = end->ok;
	if (end->ok && end->nresults)
		how.result = (int)lua_tointeger(end->L, -end->nresults);
	if (!end->ok && !end->cancelled) {
		/* An err table is a failure that was foreseen: its message says all. */
		bool foreseen = lua_istable(end->L, -1);

		fprintf(stderr, "%s\n", fiber_end_text(end));
		if (end->trace && !foreseen)
			fprintf(stderr, "%s\n", end->trace);
	}
	run.on_end(run.arg, &how);
}

struct file_args {
	const char *path;
	int argc;
	char *const *argv;
};

/* Returns the file as a function, and its arguments. */
static int load_file(lua_State *L)
{
	const struct file_args *a = lua_touserdata(L, 1);

	if (luaL_loadfilex(L, a->path, "t") != LUA_OK)
		return lua_error(L);
	lua_createtable(L, a->argc, 1);
	lua_pushstring(L, a->path);
	lua_rawseti(L, -2, 0);
	for (int i = 0; i < a->argc; i++) {
		lua_pushstring(L, a->argv[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setglobal(L, "arg");
	luaL_checkstack(L, a->argc, "too many arguments");
	for (int i = 0; i < a->argc; i++)
		lua_pushstring(L, a->argv[i]);
	return a->argc + 1;
}

int script_run_file(struct script *s, const char *path, int argc, char *const argv[],
		    void (*on_end)(void *arg, const struct script_end *end), void *arg,
		    struct err *err)
{
	struct file_args args = { path, argc, argv };
	struct file_run *run;
	int rc;

	lua_pushcfunction(s->L, load_file);
	lua_pushlightuserdata(s->L, &args);
	if (lua_pcall(s->L, 1, LUA_MULTRET, 0) != LUA_OK) {
		rc = err_set(err, ERR_INVALID, "%s", lua_tostring(s->L, -1));
		lua_pop(s->L, 1);
		return rc;
	}
	run = malloc(sizeof(*run));
	if (!run) {
		lua_pop(s->L, argc + 1);
		return err_set(err, ERR_MEMORY, "no memory to run %s", path);
	}
	run->script = s;
	run->on_end = on_end;
	run->arg = arg;
	if (fiber_start(s, s->L, argc, path, file_ended, run, err))
		return 0;
	free(run);
	return -err->code;
}

/* ---- where the Lua files are ---- */

static bool has_lua(const char *dir)
{
	char path[PATH_MAX];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/lua/exed", dir);

	return n > 0 && (size_t)n < sizeof(path) && !stat(path, &st) && S_ISDIR(st.st_mode);
}

int script_find_share(char *out, size_t cap, struct err *err)
{
	static const char *const places[] = { "../share/exed", "..", "../.." };
	char exe[PATH_MAX - 32], dir[PATH_MAX], real[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (n <= 0)
		return err_errno(err, "cannot read /proc/self/exe");
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		snprintf(dir, sizeof(dir), "%s/%s", exe, places[i]);
		if (has_lua(dir) && realpath(dir, real) && strlen(real) < cap) {
			strcpy(out, real);
			return 0;
		}
	}
	return err_set(err, ERR_NOT_FOUND,
		       "cannot find the Lua files (share/exed/lua) beside %s", exe);
}
