/* SPDX-License-Identifier: MIT */
/* exed.stdio: standard input and output of a command, without holding up the loop. Descriptors are left as
 * they are (not made non-blocking: others share them); what would block waits in the loop instead.
 *   is_terminal(fd) -> boolean      width(fd) -> columns of the terminal, or nil
 *   write(fd, bytes [, seconds]) -> true | nil, err     code closed: nobody reads it any more
 *   read(fd, max [, seconds]) -> bytes to the end of file | nil, err     code limit: more than max bytes
 *   line(fd, max [, seconds]) -> the next line, without its end | nil, err     code closed: there is none
 * Without seconds they wait for as long as the other side takes; cancelling the fiber ends the wait. */
#include <errno.h>
#include <lauxlib.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bind.h"
#include "buf.h"
#include "fiber.h"
#include "script.h"

/* What a pipe that has room takes at once without blocking (POSIX's PIPE_BUF on Linux). */
#define PIECE 4096
#define READ_PIECE 65536

struct stdio_wait {
	struct wait wait; /* first */
	struct event *event;
	struct buf bytes; /* read: what came; write: what is left from `at` on */
	size_t at, max; /* max: of a read; 0: it writes */
	bool line;      /* it reads to the end of a line only */
	struct err err;
};

/* ---- one turn: 1 done, 0 it would block, < 0 failed ---- */

static bool is_ready(int fd, short what)
{
	struct pollfd p = { .fd = fd, .events = what };

	return poll(&p, 1, 0) > 0;
}

static ssize_t write_piece(int fd, const char *data, size_t n)
{
	ssize_t put = send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	return put < 0 && errno == ENOTSOCK ? write(fd, data, n < PIECE ? n : PIECE) : put;
}

static int write_some(int fd, const char *data, size_t n, size_t *at, struct err *err)
{
	while (*at < n) {
		ssize_t put;

		if (!is_ready(fd, POLLOUT))
			return 0;
		put = write_piece(fd, data + *at, n - *at);
		if (put > 0)
			*at += (size_t)put;
		else if (errno == EAGAIN)
			return 0;
		else if (errno == EPIPE || errno == ECONNRESET)
			return err_set(err, ERR_CLOSED, "nobody reads it any more");
		else if (errno != EINTR)
			return err_errno(err, "cannot write");
	}
	return 1;
}

/* Byte by byte, so that what follows is left to others. */
static int read_line(int fd, struct buf *b, size_t max, struct err *err)
{
	while (is_ready(fd, POLLIN)) {
		char byte;
		ssize_t got = read(fd, &byte, 1);

		if (got > 0 && byte == '\n')
			return 1;
		if (!got)
			return b->len ? 1 : err_set(err, ERR_CLOSED, "it has ended");
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got < 0 && errno != EINTR)
			return err_errno(err, "cannot read");
		if (got > 0)
			buf_add(b, &byte, 1);
		if (b->failed)
			return err_set(err, ERR_MEMORY, "not enough memory");
		if (b->len > max)
			return err_set(err, ERR_LIMIT, "a line of more than %zu bytes", max);
	}
	return 0;
}

static int read_some(int fd, struct buf *b, size_t max, struct err *err)
{
	while (is_ready(fd, POLLIN)) {
		ssize_t got;

		if (buf_reserve(b, READ_PIECE))
			return err_set(err, ERR_MEMORY, "not enough memory");
		got = read(fd, b->data + b->len, READ_PIECE);
		if (!got)
			return 1;
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got < 0 && errno != EINTR)
			return err_errno(err, "cannot read");
		b->len += got > 0 ? (size_t)got : 0;
		if (b->len > max)
			return err_set(err, ERR_LIMIT, "more than %zu bytes", max);
	}
	return 0;
}

/* ---- waiting ---- */

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct stdio_wait *w = arg;
	int rc;

	if (w->line)
		rc = read_line(fd, &w->bytes, w->max, &w->err);
	else if (what & EV_READ)
		rc = read_some(fd, &w->bytes, w->max, &w->err);
	else
		rc = write_some(fd, w->bytes.data, w->bytes.len, &w->at, &w->err);
	if (!rc)
		return;
	event_del(w->event);
	wait_done(&w->wait);
}

static int push(struct wait *base, lua_State *L)
{
	struct stdio_wait *w = (struct stdio_wait *)base;

	if (w->err.code)
		return fiber_push_err(L, &w->err, w->wait.operation);
	if (w->max)
		lua_pushlstring(L, w->bytes.data ? w->bytes.data : "", w->bytes.len);
	else
		lua_pushboolean(L, 1);
	return 1;
}

static void cancel_wait(struct wait *base)
{
	struct stdio_wait *w = (struct stdio_wait *)base;

	if (w->event)
		event_del(w->event);
}

static void free_wait(struct wait *base)
{
	struct stdio_wait *w = (struct stdio_wait *)base;

	if (w->event)
		event_free(w->event);
	buf_deinit(&w->bytes);
	free(w);
}

static const struct wait_ops ops = { push, cancel_wait, free_wait };

static struct stdio_wait *new_wait(lua_State *L, const char *operation, int64_t ms)
{
	struct stdio_wait *w = calloc(1, sizeof(*w));

	if (!w)
		luaL_error(L, "not enough memory");
	wait_init(&w->wait, &ops, operation, ms);
	return w;
}

static void listen_to(lua_State *L, struct stdio_wait *w, int fd, short what)
{
	w->event = event_new(loop_base(script_loop(script_of(L))), fd, what | EV_PERSIST, on_event, w);
	if (!w->event || event_add(w->event, NULL)) {
		free_wait(&w->wait);
		luaL_error(L, "cannot wait for descriptor %d", fd);
	}
}

static int check_fd(lua_State *L)
{
	lua_Integer fd = luaL_checkinteger(L, 1);

	luaL_argcheck(L, fd >= 0 && fd <= 2, 1, "0, 1 or 2");
	return (int)fd;
}

static int l_write(lua_State *L)
{
	int fd = check_fd(L), rc;
	size_t n, at = 0;
	const char *data = luaL_checklstring(L, 2, &n);
	int64_t ms = bind_check_ms(L, 3, -1);
	struct stdio_wait *w;
	struct err err;

	rc = write_some(fd, data, n, &at, &err);
	if (rc < 0)
		return fiber_push_err(L, &err, "stdio.write");
	if (rc > 0) {
		lua_pushboolean(L, 1);
		return 1;
	}
	w = new_wait(L, "stdio.write", ms);
	buf_add(&w->bytes, data + at, n - at);
	if (w->bytes.failed) {
		free_wait(&w->wait);
		return luaL_error(L, "not enough memory");
	}
	listen_to(L, w, fd, EV_WRITE);
	return fiber_await(L, &w->wait);
}

/* A file, or a device that epoll refuses: it is there, or there is nothing. */
static bool needs_no_wait(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && (S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && !isatty(fd)));
}

static int start_read(lua_State *L, const char *operation, bool line)
{
	int fd = check_fd(L);
	lua_Integer max = luaL_checkinteger(L, 2);
	int64_t ms = bind_check_ms(L, 3, -1);
	struct stdio_wait *w;

	luaL_argcheck(L, max > 0, 2, "a number of bytes");
	w = new_wait(L, operation, ms);
	w->max = (size_t)max;
	w->line = line;
	if (needs_no_wait(fd)) {
		while (!(line ? read_line : read_some)(fd, &w->bytes, w->max, &w->err))
			;
		wait_done(&w->wait);
	} else {
		listen_to(L, w, fd, EV_READ);
	}
	return fiber_await(L, &w->wait);
}

static int l_read(lua_State *L)
{
	return start_read(L, "stdio.read", false);
}

static int l_line(lua_State *L)
{
	return start_read(L, "stdio.line", true);
}

static int l_is_terminal(lua_State *L)
{
	lua_pushboolean(L, isatty(check_fd(L)));
	return 1;
}

static int l_width(lua_State *L)
{
	struct winsize size;

	if (ioctl(check_fd(L), TIOCGWINSZ, &size) || !size.ws_col)
		return 0;
	lua_pushinteger(L, size.ws_col);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "is_terminal", l_is_terminal },
	{ "width", l_width },
	{ "write", l_write },
	{ "read", l_read },
	{ "line", l_line },
	{ NULL, NULL },
};

int luaopen_exed_stdio(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
