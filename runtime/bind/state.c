/* SPDX-License-Identifier: MIT */
/* exed.state: the node's state directory, held while the process lives.
 *   open([dir]) -> state | nil, err     default: $STATE_DIRECTORY, else /var/lib/exed as root, else
 *                                       $XDG_STATE_HOME/exed or ~/.local/state/exed
 *   path([dir]) -> text                 the same directory, whoever holds it
 *   check([dir]) -> true | nil, err     whether it could be made and written, changing nothing; code refused:
 *                                       it is another user's
 *   state:path() -> text                state:node_id() -> text, the same in every life of the node
 *   state:new_node_id() -> text, the node's from now on
 *   state:key() -> text                 so too: what seals secrets (exed.text), known to this node only */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "bind.h"
#include "fiber.h"
#include "state_dir.h"

#define STATE "exed.state"
#define ID_LEN 16
#define KEY_LEN 64
#define HEX_MAX KEY_LEN

struct state {
	int fd;
	char path[PATH_MAX];
};

static int default_dir(char *out, size_t cap)
{
	const char *dir = getenv("STATE_DIRECTORY"), *home = getenv("HOME");
	const char *xdg = getenv("XDG_STATE_HOME");
	int n;

	if (dir && *dir)
		n = snprintf(out, cap, "%s", dir);
	else if (geteuid() == 0)
		n = snprintf(out, cap, "/var/lib/exed");
	else if (xdg && *xdg == '/')
		n = snprintf(out, cap, "%s/exed", xdg);
	else
		n = snprintf(out, cap, "%s/.local/state/exed", home ? home : "");
	return n > 0 && (size_t)n < cap ? 0 : -1;
}

/* The directory that the argument names, or the default one. */
static void check_path(lua_State *L, char *out, size_t cap)
{
	const char *path = luaL_optstring(L, 1, NULL);

	if (path && strlen(path) < cap)
		strcpy(out, path);
	else if (path || default_dir(out, cap))
		luaL_error(L, "the state directory's path is too long");
}

static int l_default_path(lua_State *L)
{
	char path[PATH_MAX];

	check_path(L, path, sizeof(path));
	lua_pushstring(L, path);
	return 1;
}

static int l_open(lua_State *L)
{
	struct state *s = lua_newuserdatauv(L, sizeof(*s), 0);
	char full[PATH_MAX];
	struct err err;

	s->fd = -1;
	luaL_setmetatable(L, STATE);
	check_path(L, s->path, sizeof(s->path));
	s->fd = state_dir_open(s->path, &err);
	if (s->fd < 0)
		return fiber_push_err(L, &err, "state.open");
	/* Sockets in it are named by their whole path. */
	if (realpath(s->path, full))
		strcpy(s->path, full);
	return 1;
}

static int l_check(lua_State *L)
{
	char path[PATH_MAX];
	struct err err;

	check_path(L, path, sizeof(path));
	if (state_dir_check(path, &err))
		return fiber_push_err(L, &err, "state.check");
	lua_pushboolean(L, 1);
	return 1;
}

static int l_gc(lua_State *L)
{
	struct state *s = luaL_checkudata(L, 1, STATE);

	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	return 0;
}

static int l_path(lua_State *L)
{
	struct state *s = luaL_checkudata(L, 1, STATE);

	lua_pushstring(L, s->path);
	return 1;
}

static void make_hex(lua_State *L, char *text, size_t n)
{
	unsigned char b[HEX_MAX / 2];

	if (getrandom(b, n / 2, 0) != (ssize_t)(n / 2))
		luaL_error(L, "no random bytes: %s", strerror(errno));
	for (size_t i = 0; i < n / 2; i++)
		snprintf(text + 2 * i, 3, "%02x", b[i]);
}

/* Pushes the n random hex digits that a file of the directory has; they are made once, and are on the disk
 * before they are used. */
static int push_kept(lua_State *L, const char *name, size_t n)
{
	struct state *s = luaL_checkudata(L, 1, STATE);
	char path[PATH_MAX + 16], text[HEX_MAX + 1] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", s->path, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return luaL_error(L, "%s: %s", path, strerror(errno));
	if (read(fd, text, n) != (ssize_t)n || strspn(text, "0123456789abcdef") != n) {
		make_hex(L, text, n);
		if (ftruncate(fd, 0) || pwrite(fd, text, n, 0) != (ssize_t)n || fsync(fd)) {
			close(fd);
			return luaL_error(L, "%s: %s", path, strerror(errno));
		}
	}
	close(fd);
	lua_pushlstring(L, text, n);
	return 1;
}

/* With another one after a crash nobody would take up what this node had. */
static int l_node_id(lua_State *L)
{
	return push_kept(L, "node_id", ID_LEN);
}

static int l_new_node_id(lua_State *L)
{
	struct state *s = luaL_checkudata(L, 1, STATE);
	char path[PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/node_id", s->path);
	if (unlink(path) && errno != ENOENT)
		return luaL_error(L, "%s: %s", path, strerror(errno));
	return l_node_id(L);
}

static int l_key(lua_State *L)
{
	return push_kept(L, "task_key", KEY_LEN);
}

static const luaL_Reg methods[] = {
	{ "path", l_path },
	{ "node_id", l_node_id },
	{ "new_node_id", l_new_node_id },
	{ "key", l_key },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "open", l_open },
	{ "path", l_default_path },
	{ "check", l_check },
	{ NULL, NULL },
};

int luaopen_exed_state(lua_State *L)
{
	bind_class(L, STATE, methods, l_gc);
	luaL_newlib(L, functions);
	return 1;
}
