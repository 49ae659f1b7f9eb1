/* SPDX-License-Identifier: MIT */
/* exed.sys: the little of the operating system that the Lua side of the core needs.
 *   uuid() -> text               random, RFC 9562 version 4
 *   hostname() -> text
 *   addresses() -> { text, ... } this machine's IP addresses
 *   pid() -> integer
 *   stat(path) -> { type, size, mtime, inode, mode, uid } | nil, err     type: file, directory, other
 *   list(path) -> { name, ... } | nil, err                          sorted, without . and ..
 *   readlink(path) -> text | nil, err
 *   version() -> text            of exed
 *   share() -> text              the directory with lua/, executors/, tasks/
 *   reload() -> boolean          the configuration and its files again: all of it, or nothing (the log
 *                                says why)
 *   reload_ssh() -> boolean      only keys and known hosts
 *   hold_collector() -> boolean  no garbage is collected until release_collector(); false while a cycle is
 *                                under way, which ends after some turns of the loop: ask again then
 *   release_collector()
 *   ready()                      the node serves: who started it with -d may go
 *   notify("ready" | "reloading" | "stopping")   tells the service manager, when there is one */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <lauxlib.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bind.h"
#include "collector.h"
#include "fiber.h"
#include "log.h"
#include "notify.h"
#include "process.h"
#include "runtime.h"
#include "script.h"
#include "version.h"

static int l_uuid(lua_State *L)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char b[16];
	char text[36], *at = text;

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		return luaL_error(L, "no random bytes: %s", strerror(errno));
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0; i < sizeof(b); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = digits[b[i] >> 4];
		*at++ = digits[b[i] & 0x0f];
	}
	lua_pushlstring(L, text, sizeof(text));
	return 1;
}

static int l_hostname(lua_State *L)
{
	char name[256] = "localhost";

	gethostname(name, sizeof(name) - 1);
	lua_pushstring(L, name);
	return 1;
}

static bool address_text(const struct sockaddr *sa, char *text, socklen_t cap)
{
	socklen_t len = sa && sa->sa_family == AF_INET	  ? sizeof(struct sockaddr_in)
			: sa && sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
							  : 0;

	if (!len || getnameinfo(sa, len, text, cap, NULL, 0, NI_NUMERICHOST))
		return false;
	text[strcspn(text, "%")] = '\0'; /* without the interface of a link-local one */
	return true;
}

/* In protected mode: the list at 1 (light) is freed by the caller. */
static int push_addresses(lua_State *L)
{
	char text[NI_MAXHOST];
	lua_Integer n = 0;

	lua_newtable(L);
	for (const struct ifaddrs *a = lua_touserdata(L, 1); a; a = a->ifa_next)
		if (address_text(a->ifa_addr, text, sizeof(text))) {
			lua_pushstring(L, text);
			lua_rawseti(L, -2, ++n);
		}
	return 1;
}

static int l_addresses(lua_State *L)
{
	struct ifaddrs *list = NULL;
	int status;

	if (getifaddrs(&list))
		return luaL_error(L, "getifaddrs: %s", strerror(errno));
	lua_pushcfunction(L, push_addresses);
	lua_pushlightuserdata(L, list);
	status = lua_pcall(L, 1, 1, 0);
	freeifaddrs(list);
	return status == LUA_OK ? 1 : lua_error(L);
}

static int l_pid(lua_State *L)
{
	lua_pushinteger(L, getpid());
	return 1;
}

static int push_errno(lua_State *L, const char *path, const char *operation)
{
	struct err err;

	err_errno(&err, "%s", path);
	if (errno == ENOENT || errno == ENOTDIR)
		err.code = ERR_NOT_FOUND;
	return fiber_push_err(L, &err, operation);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

static int l_stat(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	struct stat st;

	if (stat(path, &st))
		return push_errno(L, path, "sys.stat");
	lua_createtable(L, 0, 6);
	lua_pushstring(L, S_ISREG(st.st_mode)   ? "file"
			  : S_ISDIR(st.st_mode) ? "directory"
						: "other");
	lua_setfield(L, -2, "type");
	set_integer(L, "size", st.st_size);
	/* Nanoseconds, so that two saves within a second differ. */
	set_integer(L, "mtime", (lua_Integer)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	set_integer(L, "inode", (lua_Integer)st.st_ino);
	set_integer(L, "mode", st.st_mode & 07777);
	set_integer(L, "uid", st.st_uid);
	return 1;
}

struct listing {
	struct dirent **names;
	int n;
};

/* The names as a list; called protected, since it may raise. */
static int push_names(lua_State *L)
{
	const struct listing *found = lua_touserdata(L, 1);
	int kept = 0;

	lua_createtable(L, found->n, 0);
	for (int i = 0; i < found->n; i++) {
		const char *name = found->names[i]->d_name;

		if (strcmp(name, ".") && strcmp(name, "..")) {
			lua_pushstring(L, name);
			lua_rawseti(L, -2, ++kept);
		}
	}
	return 1;
}

static int l_list(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	struct listing found;
	int rc;

	found.n = scandir(path, &found.names, NULL, alphasort);
	if (found.n < 0)
		return push_errno(L, path, "sys.list");
	lua_pushcfunction(L, push_names);
	lua_pushlightuserdata(L, &found);
	rc = lua_pcall(L, 1, 1, 0);
	for (int i = 0; i < found.n; i++)
		free(found.names[i]);
	free(found.names);
	return rc == LUA_OK ? 1 : lua_error(L);
}

static int l_readlink(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	char text[4096];
	ssize_t n = readlink(path, text, sizeof(text));

	if (n < 0)
		return push_errno(L, path, "sys.readlink");
	lua_pushlstring(L, text, (size_t)n);
	return 1;
}

static int l_share(lua_State *L)
{
	lua_pushstring(L, script_runtime(script_of(L))->share);
	return 1;
}

static int l_ready(lua_State *L)
{
	struct runtime *rt = script_runtime(script_of(L));
	int nowhere;

	malloc_trim(0); /* what loading took: 1 MB of 12 */
	notify_ready(rt->notify);
	if (!rt->ready_fd)
		return 0;
	/* In the background nobody reads what is printed; whoever has our output open may end it. */
	nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; nowhere >= 0 && fd <= 2; fd++)
		dup2(nowhere, fd);
	if (nowhere > 2)
		close(nowhere);
	if (write(rt->ready_fd, "", 1) < 0)
		log_warn("node", "who started it has gone: %s", strerror(errno));
	close(rt->ready_fd);
	rt->ready_fd = 0;
	return 0;
}

static int l_reload_ssh(lua_State *L)
{
	lua_pushboolean(L, !process_reload_ssh(script_runtime(script_of(L))));
	return 1;
}

static int l_hold_collector(lua_State *L)
{
	lua_pushboolean(L, collector_hold(script_collector(script_of(L))));
	return 1;
}

static int l_release_collector(lua_State *L)
{
	collector_release(script_collector(script_of(L)));
	return 0;
}

static int l_notify(lua_State *L)
{
	static const char *const words[] = { "ready", "reloading", "stopping", NULL };
	static void (*const say[])(struct notify *n) = { notify_ready, notify_reloading,
							 notify_stopping };

	say[luaL_checkoption(L, 1, NULL, words)](script_runtime(script_of(L))->notify);
	return 0;
}

static int l_reload(lua_State *L)
{
	lua_pushboolean(L, !process_reload(script_runtime(script_of(L)), bind_config_renew, L));
	return 1;
}

static int l_version(lua_State *L)
{
	lua_pushstring(L, EXED_VERSION);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "version", l_version },
	{ "uuid", l_uuid },
	{ "hostname", l_hostname },
	{ "addresses", l_addresses },
	{ "pid", l_pid },
	{ "stat", l_stat },
	{ "list", l_list },
	{ "readlink", l_readlink },
	{ "share", l_share },
	{ "notify", l_notify },
	{ "ready", l_ready },
	{ "reload", l_reload },
	{ "reload_ssh", l_reload_ssh },
	{ "hold_collector", l_hold_collector },
	{ "release_collector", l_release_collector },
	{ NULL, NULL },
};

int luaopen_exed_sys(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
