/* SPDX-License-Identifier: MIT */
/* task_child: one thread, one Lua state, one socket. The state, the output buffer and the coroutine that
 * runs now are statics, since a signal handler and the allocator need them. */
#include "task_child.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bind/bind.h"
#include "buf.h"
#include "json.h"

#define SOCKET 0
/* What is said while there is more to hear is sent when it is so much; what is said between two messages
 * goes out in one piece, up to the second limit, so that the node does not see half of it. */
#define FLUSH_BYTES 65536
#define FLUSH_MOST (1u << 20)
#define READ_BYTES 65536
/* Over Lua's own limit: for JSON on its way, the C library and the program itself. */
#define MEMORY_AROUND (192ull << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static struct {
	lua_State *running; /* the coroutine that runs now */
	unsigned long long memory, limit;
	bool refused; /* the last block that was asked for: Lua collects garbage and asks again */
	struct buf out, in;
	size_t in_at; /* up to there `in` was taken */
	long long idle, told; /* messages that the task is done with, and how many of them were told */
} task;

/* ---- the socket ---- */

static void write_all(const char *data, size_t n)
{
	while (n > 0) {
		ssize_t done = write(SOCKET, data, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			_exit(TASK_EXIT_PROTOCOL); /* nobody is there to be told */
		data += done;
		n -= (size_t)done;
	}
}

static void put_length(unsigned char out[4], size_t n)
{
	out[0] = (unsigned char)(n >> 24);
	out[1] = (unsigned char)(n >> 16);
	out[2] = (unsigned char)(n >> 8);
	out[3] = (unsigned char)n;
}

/* Adds a frame to what is to go out. */
static void put_frame(const char *text, size_t n)
{
	unsigned char head[4];

	put_length(head, n);
	buf_add(&task.out, head, sizeof(head));
	buf_add(&task.out, text, n);
	if (task.out.failed)
		_exit(TASK_EXIT_MEMORY);
}

/* How far the task is goes with whatever goes out, once, however many messages it took meanwhile. */
static void flush(void)
{
	char text[40];

	if (task.idle != task.told)
		put_frame(text, (size_t)snprintf(text, sizeof(text), "{\"idle\":%lld}", task.idle));
	task.told = task.idle;
	write_all(task.out.data, task.out.len);
	task.out.len = 0;
}

/* Reads what there is, at least a byte. */
static void read_more(void)
{
	static char data[READ_BYTES];
	ssize_t n;

	if (task.in_at) {
		memmove(task.in.data, task.in.data + task.in_at, task.in.len - task.in_at);
		task.in.len -= task.in_at;
		task.in_at = 0;
	}
	do
		n = read(SOCKET, data, sizeof(data));
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		_exit(n == 0 ? TASK_EXIT_OK : TASK_EXIT_PROTOCOL);
	buf_add(&task.in, data, (size_t)n);
	if (task.in.failed)
		_exit(TASK_EXIT_MEMORY);
}

/* Whether a frame is there whole: its text, inside of `in`. */
static bool find_frame(char **text, size_t *n)
{
	const unsigned char *head = (const unsigned char *)task.in.data + task.in_at;
	size_t have = task.in.len - task.in_at;

	if (have < 4)
		return false;
	*n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
	if (*n > TASK_FRAME_MAX)
		_exit(TASK_EXIT_PROTOCOL);
	*text = task.in.data + task.in_at + 4;
	return have - 4 >= *n;
}

/* The next frame: its text, until the next call. What was said goes out before it is waited for. */
static char *read_frame(size_t *n)
{
	char *text;

	while (!find_frame(&text, n)) {
		flush();
		read_more();
	}
	if (task.out.len >= FLUSH_BYTES)
		flush();
	task.in_at += 4 + *n;
	return text;
}

/* Where the coroutine is: the first level that has lines. Allocates nothing. */
static void find_line(char *out, size_t cap)
{
	lua_Debug at;

	snprintf(out, cap, "an unknown line");
	for (int level = 0; task.running && lua_getstack(task.running, level, &at); level++) {
		if (!lua_getinfo(task.running, "Sl", &at) || at.currentline <= 0 ||
		    !strncmp(at.source, "=exed.", 6))
			continue;
		snprintf(out, cap, "%s:%d", at.short_src, at.currentline);
		return;
	}
}

/* A frame with the line, past the buffer: what waits there may be cut. JSON needs no escape for what
 * Lua makes of a file's name but for quotes, backslashes and control bytes. */
static void report_line(const char *name)
{
	char where[LUA_IDSIZE + 32], text[LUA_IDSIZE + 128];
	unsigned char head[4];
	int n;

	find_line(where, sizeof(where));
	for (char *p = where; *p; p++)
		if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ')
			*p = '?';
	n = snprintf(text, sizeof(text), "{\"%s\":\"%s\"}", name, where);
	put_length(head, (size_t)n);
	flush();
	write_all((const char *)head, sizeof(head));
	write_all(text, (size_t)n);
}

/* ---- limits ---- */

/* Lua's accountant. A refused block is asked for once more after garbage was collected; then it is over:
 * a task that may go on could catch the error and eat on. */
static void *allocate(void *ud, void *ptr, size_t osize, size_t nsize)
{
	size_t old = ptr ? osize : 0;
	void *block;

	(void)ud;
	if (!nsize) {
		free(ptr);
		task.memory -= old;
		return NULL;
	}
	if (nsize > old && task.memory + (nsize - old) > task.limit) {
		if (task.refused) {
			report_line("memory");
			_exit(TASK_EXIT_MEMORY);
		}
		task.refused = true;
		return NULL;
	}
	task.refused = false;
	block = realloc(ptr, nsize);
	if (block)
		task.memory += nsize - old;
	return block;
}

static void on_hook(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	task.running = L;
	report_line("stuck");
}

/* Lua's hook may be set by a signal handler (lua.c does so); it runs at the next instruction. */
static void on_usr1(int sig)
{
	(void)sig;
	if (task.running)
		lua_sethook(task.running, on_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

static int set_limit(int what, rlim_t soft, rlim_t hard)
{
	struct rlimit limit = { .rlim_cur = soft, .rlim_max = hard };

	return setrlimit(what, &limit);
}

/* What a process that only computes, and talks over one socket, needs. */
static int close_sandbox(void)
{
	static const int allowed[] = {
		SCMP_SYS(read),		 SCMP_SYS(write),      SCMP_SYS(mmap),	     SCMP_SYS(munmap),
		SCMP_SYS(mremap),	 SCMP_SYS(brk),	       SCMP_SYS(madvise),    SCMP_SYS(futex),
		SCMP_SYS(clock_gettime), SCMP_SYS(getrandom),  SCMP_SYS(exit_group), SCMP_SYS(exit),
		SCMP_SYS(rt_sigreturn),	 SCMP_SYS(restart_syscall),
	};
	scmp_filter_ctx filter;
	int rc;

	if (SANITIZED)
		return 0;
	filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter)
		return -1;
	rc = 0;
	for (size_t i = 0; !rc && i < sizeof(allowed) / sizeof(*allowed); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	if (!rc)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	return rc;
}

static int set_limits(unsigned long cpu)
{
	struct sigaction usr1 = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_DUMPABLE, 0) || sigaction(SIGUSR1, &usr1, NULL) ||
	    set_limit(RLIMIT_CORE, 0, 0) || set_limit(RLIMIT_NPROC, 0, 0) ||
	    set_limit(RLIMIT_FSIZE, 0, 0) || set_limit(RLIMIT_NOFILE, 1, 1) ||
	    (cpu && set_limit(RLIMIT_CPU, cpu, cpu + 5)))
		return -1;
	/* A sanitizer's shadow memory takes terabytes of addresses. */
	if (!SANITIZED && set_limit(RLIMIT_DATA, task.limit + MEMORY_AROUND, task.limit + MEMORY_AROUND))
		return -1;
	return close_sandbox();
}

/* ---- Lua ---- */

static int l_send(lua_State *L)
{
	size_t n;
	const char *text = luaL_checklstring(L, 1, &n);

	if (n > TASK_MESSAGE_MAX)
		return luaL_error(L, "a message of %d bytes is longer than %d", (int)n, (int)TASK_MESSAGE_MAX);
	put_frame(text, n);
	if (task.out.len >= FLUSH_MOST)
		flush();
	return 0;
}

/* So many messages of the node are done with: all fibers wait. */
static int l_idle(lua_State *L)
{
	task.idle = luaL_checkinteger(L, 1);
	return 0;
}

static int l_receive(lua_State *L)
{
	size_t n;
	char *data = read_frame(&n);

	lua_pushlstring(L, data, n);
	return 1;
}

static int l_switch(lua_State *L)
{
	lua_State *thread = lua_tothread(L, 1);

	task.running = thread ? thread : L;
	return 0;
}

static int open_channel(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "send", l_send },
		{ "idle", l_idle },
		{ "receive", l_receive },
		{ "switch", l_switch },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}

/* The searcher: a module of the first frame, whose table is upvalue 1. */
static int l_find(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	if (lua_getfield(L, lua_upvalueindex(1), name) != LUA_TTABLE) {
		lua_pushfstring(L, "module '%s' was not sent", name);
		return 1;
	}
	lua_geti(L, -1, 1);
	lua_geti(L, -2, 2);
	lua_pushfstring(L, "=%s", name);
	if (luaL_loadbufferx(L, lua_tostring(L, -2), lua_rawlen(L, -2), lua_tostring(L, -1), "t"))
		return lua_error(L);
	return 1;
}

static void open_libraries(lua_State *L)
{
	static const luaL_Reg libraries[] = {
		{ LUA_GNAME, luaopen_base },	     { LUA_LOADLIBNAME, luaopen_package },
		{ LUA_COLIBNAME, luaopen_coroutine }, { LUA_TABLIBNAME, luaopen_table },
		{ LUA_STRLIBNAME, luaopen_string },  { LUA_MATHLIBNAME, luaopen_math },
		{ LUA_UTF8LIBNAME, luaopen_utf8 },   { LUA_DBLIBNAME, luaopen_debug },
		{ "exed.json", luaopen_exed_json },  { "exed.task.channel", open_channel },
	};

	for (size_t i = 0; i < sizeof(libraries) / sizeof(*libraries); i++) {
		bool standard = !strchr(libraries[i].name, '.');

		luaL_requiref(L, libraries[i].name, libraries[i].func, standard);
		lua_pop(L, 1);
	}
}

/* Only what the node sent may be required. The first frame is on the stack. */
static void set_searcher(lua_State *L)
{
	lua_getglobal(L, "package");
	lua_createtable(L, 1, 0);
	lua_getfield(L, -3, "modules");
	lua_pushcclosure(L, l_find, 1);
	lua_rawseti(L, -2, 1);
	lua_setfield(L, -2, "searchers");
	lua_pop(L, 1);
}

static int run(lua_State *L)
{
	struct err err;
	size_t n;
	char *frame;
	int rc;

	open_libraries(L);
	frame = read_frame(&n);
	rc = json_decode(L, frame, n, &err);
	if (rc)
		return luaL_error(L, "the first frame: %s", err.message);
	set_searcher(L);
	lua_getglobal(L, "require");
	lua_getfield(L, -2, "main");
	lua_call(L, 1, 1);
	lua_call(L, 0, 0);
	flush();
	return 0;
}

/* With the traceback, for the log of the node. */
static int on_error(lua_State *L)
{
	luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
	return 1;
}

static void report_error(lua_State *L)
{
	size_t n;
	const char *text = lua_tolstring(L, -1, &n);
	struct buf b = { 0 };
	struct err err;

	lua_createtable(L, 0, 1);
	lua_pushlstring(L, text ? text : "?", text ? n : 1);
	lua_setfield(L, -2, "error");
	if (!json_encode(L, lua_gettop(L), &b, &err)) {
		unsigned char head[4];

		put_length(head, b.len);
		flush();
		write_all((const char *)head, sizeof(head));
		write_all(b.data, b.len);
	}
	buf_deinit(&b);
}

int task_child_run(unsigned long long memory, unsigned long cpu)
{
	lua_State *L;

	task.limit = memory;
	task.told = task.idle = -1;
	close(1); /* this program's file (task_host.c) */
	json_object_seed(0); /* reads /dev/urandom, which the sandbox does not let it */
	if (set_limits(cpu))
		return TASK_EXIT_SANDBOX;
	L = lua_newstate(allocate, NULL);
	if (!L)
		return TASK_EXIT_MEMORY;
	task.running = L;
	lua_pushcfunction(L, on_error);
	lua_pushcfunction(L, run);
	if (lua_pcall(L, 0, 0, 1) != LUA_OK) {
		report_error(L);
		return TASK_EXIT_ERROR;
	}
	return TASK_EXIT_OK;
}
