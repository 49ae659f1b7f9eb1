/* SPDX-License-Identifier: MIT */
/* exed.content: what hosts get as the stdin of a command (field content of a fan-out's plan).
 *   open(path, max) -> content | nil, err   waits: the file is read for its checksum; max in bytes
 *   text(bytes) -> content | nil, err
 *   content:size() -> bytes    content:sha256() -> 64 hex digits */
#include "content.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "fiber.h"
#include "runtime.h"
#include "script.h"

#define CONTENT "exed.content"

struct open_wait {
	struct wait wait; /* first */
	struct content_open *open; /* NULL: it is done */
	struct content *content;
	struct err err;
};

static struct content **push_box(lua_State *L)
{
	struct content **box = lua_newuserdatauv(L, sizeof(*box), 0);

	*box = NULL;
	luaL_setmetatable(L, CONTENT);
	return box;
}

static void on_opened(void *arg, struct content *c, const struct err *err)
{
	struct open_wait *w = arg;

	w->open = NULL;
	w->content = c;
	w->err = *err;
	wait_done(&w->wait);
}

static int open_push(struct wait *wait, lua_State *L)
{
	struct open_wait *w = (struct open_wait *)wait;

	if (!w->content)
		return fiber_push_err(L, &w->err, "content.open");
	*push_box(L) = w->content;
	w->content = NULL;
	return 1;
}

static void open_cancel(struct wait *wait)
{
	struct open_wait *w = (struct open_wait *)wait;

	if (w->open)
		content_open_drop(w->open);
	w->open = NULL;
}

static void open_free(struct wait *wait)
{
	content_unref(((struct open_wait *)wait)->content);
	free(wait);
}

static const struct wait_ops open_ops = { open_push, open_cancel, open_free };

static int l_open(lua_State *L)
{
	struct runtime *rt = script_runtime(script_of(L));
	size_t n;
	const char *path = luaL_checklstring(L, 1, &n);
	lua_Integer max = luaL_checkinteger(L, 2);
	struct open_wait *w;

	luaL_argcheck(L, n && strlen(path) == n, 1, "it is empty or has a NUL byte");
	luaL_argcheck(L, max >= 0, 2, "a number of bytes is wanted");
	w = calloc(1, sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &open_ops, "content.open", -1);
	w->open = content_open(pool_io(rt->pool, (unsigned)((uintptr_t)w >> 6)), path,
			       (uint64_t)max, on_opened, w);
	if (!w->open) {
		free(w);
		return luaL_error(L, "not enough memory");
	}
	return fiber_await(L, &w->wait);
}

static int l_text(lua_State *L)
{
	size_t n;
	const char *bytes = luaL_checklstring(L, 1, &n);
	struct content **box = push_box(L);
	struct err err = { 0 };

	*box = content_text(bytes, n, &err);
	return *box ? 1 : fiber_push_err(L, &err, "content.text");
}

static struct content *check(lua_State *L, int arg)
{
	struct content *c = *(struct content **)luaL_checkudata(L, arg, CONTENT);

	luaL_argcheck(L, c, arg, "the content is closed");
	return c;
}

struct content *bind_content_opt(lua_State *L, int arg)
{
	return lua_isnoneornil(L, arg) ? NULL : check(L, arg);
}

static int l_size(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)content_size(check(L, 1)));
	return 1;
}

static int l_sha256(lua_State *L)
{
	lua_pushstring(L, content_sha256(check(L, 1)));
	return 1;
}

static int l_gc(lua_State *L)
{
	struct content **box = luaL_checkudata(L, 1, CONTENT);

	content_unref(*box);
	*box = NULL;
	return 0;
}

static const luaL_Reg methods[] = { { "size", l_size }, { "sha256", l_sha256 }, { NULL, NULL } };

static const luaL_Reg functions[] = { { "open", l_open }, { "text", l_text }, { NULL, NULL } };

int luaopen_exed_content(lua_State *L)
{
	bind_class(L, CONTENT, methods, l_gc);
	luaL_newlib(L, functions);
	return 1;
}
