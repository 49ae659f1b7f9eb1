/* SPDX-License-Identifier: MIT */
/* exed.state: the node's state directory, held while the process lives.
 *   open([dir]) -> state | nil, err     default: $STATE_DIRECTORY, else /var/lib/exed as root, else
 *                                       $XDG_STATE_HOME/exed or ~/.local/state/exed
 *   path([dir]) -> text                 the same directory, whoever holds it
 *   state:path() -> text                state:node_id() -> text, the same in every life of the node */
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

static void make_id(lua_State *L, char *id)
{
	unsigned char b[ID_LEN / 2];

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		luaL_error(L, "no random bytes: %s", strerror(errno));
	for (size_t i = 0; i < sizeof(b); i++)
		snprintf(id + 2 * i, 3, "%02x", b[i]);
}

/* A new id is on the disk before it is used: with another one after a crash nobody would take up what
 * this node had. */
static int l_node_id(lua_State *L)
{
	struct state *s = luaL_checkudata(L, 1, STATE);
	char path[PATH_MAX + 16], id[ID_LEN + 1] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/node_id", s->path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return luaL_error(L, "%s: %s", path, strerror(errno));
	n = read(fd, id, ID_LEN);
	if (n != ID_LEN || strspn(id, "0123456789abcdef") != ID_LEN) {
		make_id(L, id);
		n = ftruncate(fd, 0) ? -1 : pwrite(fd, id, ID_LEN, 0);
		if (n != ID_LEN || fsync(fd)) {
			close(fd);
			return luaL_error(L, "%s: %s", path, strerror(errno));
		}
	}
	close(fd);
	lua_pushlstring(L, id, ID_LEN);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "path", l_path },
	{ "node_id", l_node_id },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "open", l_open },
	{ "path", l_default_path },
	{ NULL, NULL },
};

int luaopen_exed_state(lua_State *L)
{
	bind_class(L, STATE, methods, l_gc);
	luaL_newlib(L, functions);
	return 1;
}
