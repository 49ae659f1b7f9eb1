/* SPDX-License-Identifier: MIT */
/* program: a process (proc.c) and one end of a socket pair. It is its owner's until program_free, and
 * its process's until that has ended: the last of both frees it. Loop thread. */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buf.h"
#include "proc.h"

#define CHUNK 65536
#define LINES_MAX (16u << 20) /* bytes that wait to be taken; then it waits in its writes */
#define SEND_MAX (1u << 20)
#define SAID_MAX (16u * 1024u)

struct program {
	struct program_options o; /* callbacks; NULL when the owner has gone */
	struct proc *proc;        /* NULL: it has ended */
	char *op_id;
	int fd; /* -1: closed */
	struct event *rd, *wr;
	struct buf in, out, said;
	size_t whole; /* bytes of `in` up to its last newline */
	size_t line;  /* bytes behind that, those that were left out, too */
	struct ssh_result result;
};

static void close_socket(struct program *p)
{
	if (p->rd)
		event_free(p->rd);
	if (p->wr)
		event_free(p->wr);
	if (p->fd >= 0)
		close(p->fd);
	p->rd = p->wr = NULL;
	p->fd = -1;
}

static void destroy(struct program *p)
{
	close_socket(p);
	buf_deinit(&p->in);
	buf_deinit(&p->out);
	buf_deinit(&p->said);
	free(p->op_id);
	free(p);
}

/* ---- what it sends ---- */

/* The next bytes of a line, of which there is no end yet. */
static void take_piece(struct program *p, const char *data, size_t n)
{
	size_t room = p->o.line_max > p->line ? p->o.line_max - p->line : 0;

	buf_add(&p->in, data, p->o.line_max && n > room ? room : n);
	p->line += n;
}

static void take_in(struct program *p, const char *data, size_t n)
{
	const char *end;

	while ((end = memchr(data, '\n', n))) {
		take_piece(p, data, (size_t)(end - data));
		buf_putc(&p->in, '\n');
		p->whole = p->in.len;
		p->line = 0;
		n -= (size_t)(end + 1 - data);
		data = end + 1;
	}
	take_piece(p, data, n);
}

/* False when there is nothing more now, or ever. */
static bool read_some(struct program *p)
{
	char data[CHUNK];
	ssize_t n = read(p->fd, data, sizeof(data));

	if (n > 0) {
		take_in(p, data, (size_t)n);
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		close_socket(p);
	return false;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct program *p = arg;

	(void)fd;
	(void)what;
	read_some(p);
	if (p->in.failed || (!p->whole && p->in.len >= LINES_MAX)) {
		program_kill(p);
		close_socket(p);
	} else if (p->in.len >= LINES_MAX && p->rd) {
		event_del(p->rd);
	}
	if (p->whole && p->o.on_lines)
		p->o.on_lines(p->o.arg);
}

size_t program_lines(struct program *p, const char **text)
{
	*text = p->in.data;
	return p->in.failed ? 0 : p->whole;
}

void program_taken(struct program *p, size_t n)
{
	buf_drop(&p->in, n);
	p->whole -= n;
	if (p->rd && p->in.len < LINES_MAX)
		event_add(p->rd, NULL);
}

/* ---- what is sent to it ---- */

static void write_some(struct program *p)
{
	ssize_t n = p->out.len ? send(p->fd, p->out.data, p->out.len, MSG_NOSIGNAL) : 0;

	if (n > 0)
		buf_drop(&p->out, (size_t)n);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		buf_clear(&p->out); /* its end shows why */
	if (p->out.len)
		event_add(p->wr, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	write_some(arg);
}

int program_send(struct program *p, const char *text, size_t n, struct err *err)
{
	if (!p->proc || p->fd < 0)
		return err_set(err, ERR_CLOSED, "the program has ended");
	if (p->out.len + n > SEND_MAX)
		return err_set(err, ERR_LIMIT, "the program does not read what it is sent");
	buf_add(&p->out, text, n);
	if (p->out.failed)
		return err_set(err, ERR_MEMORY, "no memory to send %zu bytes", n);
	write_some(p);
	return 0;
}

/* ---- the process ---- */

static void on_output(void *arg, enum ssh_stream stream, const char *data, size_t n)
{
	struct program *p = arg;

	(void)stream;
	buf_add(&p->said, data, n);
	if (p->said.len > 2 * SAID_MAX)
		buf_drop(&p->said, p->said.len - SAID_MAX);
}

static void on_end(void *arg, const struct ssh_result *result)
{
	struct program *p = arg;

	p->proc = NULL;
	p->result = *result;
	if (!p->o.on_end) {
		destroy(p);
		return;
	}
	/* What it sent last; what outlived it may hold the socket open. */
	while (p->fd >= 0 && p->in.len < 2 * LINES_MAX && read_some(p))
		;
	close_socket(p);
	p->o.on_end(p->o.arg);
}

static const struct ssh_exec_ops exec_ops = { .output = on_output, .end = on_end };

const struct ssh_result *program_result(const struct program *p)
{
	return p->proc ? NULL : &p->result;
}

size_t program_said(const struct program *p, const char **text)
{
	size_t over = p->said.len > SAID_MAX ? p->said.len - SAID_MAX : 0;

	*text = p->said.data ? p->said.data + over : "";
	return p->said.len - over;
}

void program_kill(struct program *p)
{
	if (p->proc)
		proc_cancel(p->proc);
}

void program_free(struct program *p)
{
	if (!p)
		return;
	p->o.on_end = NULL;
	p->o.on_lines = NULL;
	if (!p->proc)
		destroy(p);
	else
		proc_cancel(p->proc);
}

/* ---- start ---- */

static int open_socket(struct program *p, struct loop *loop, int *theirs)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -ERR_SYSTEM;
	p->fd = ends[0];
	*theirs = fcntl(ends[1], F_DUPFD_CLOEXEC, 3); /* not one of the standard descriptors */
	close(ends[1]);
	if (*theirs < 0 || fcntl(p->fd, F_SETFL, O_NONBLOCK))
		return -ERR_SYSTEM;
	p->rd = event_new(loop_base(loop), p->fd, EV_READ | EV_PERSIST, on_readable, p);
	p->wr = event_new(loop_base(loop), p->fd, EV_WRITE, on_writable, p);
	return p->rd && p->wr && !event_add(p->rd, NULL) ? 0 : -ERR_MEMORY;
}

struct program *program_start(struct loop *loop, const struct program_options *o, struct err *err)
{
	struct ssh_command cmd = { .env = o->env, .cwd = o->cwd };
	struct program *p = calloc(1, sizeof(*p));
	int theirs = -1;

	if (p)
		p->fd = -1;
	if (!p || !(p->op_id = strdup(o->op_id))) {
		err_set(err, ERR_MEMORY, "no memory to run %.128s", o->argv[0]);
	} else if (open_socket(p, loop, &theirs)) {
		err_set(err, ERR_SYSTEM, "cannot make a socket to talk with %.128s", o->argv[0]);
	} else {
		p->o = *o;
		cmd.op_id = p->op_id;
		p->proc = proc_start_channel(loop, o->argv, theirs, &cmd, &exec_ops, p, err);
	}
	if (theirs >= 0)
		close(theirs);
	if (p && p->proc)
		return p;
	if (p)
		destroy(p);
	return NULL;
}
