/* SPDX-License-Identifier: MIT */
/* proc: children on the loop. A struct proc is owned by its loop's list and freed when its end
 * was called. Here are the start, the pipes and the exit; proc_stop.c has the limit, the cancel
 * and the end of all, proc_spawn.c starts and proc_kill.c kills.
 *
 * The exit is seen by a pidfd, or by SIGCHLD where there is none, and looked at without taking it
 * (WNOWAIT): until the very end the pid stays the child's, so that a late kill cannot hit
 * another. */
#include "proc.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc_private.h"
#include "proc_spawn.h"

#define CHUNK 65536
#define PIPE_MOST (1 << 20)  /* a pipe holds no more */

/* ---- the end ---- */

static void close_pipe(struct proc_pipe *p)
{
	if (p->ev)
		event_free(p->ev);
	if (p->fd >= 0)
		close(p->fd);
	p->ev = NULL;
	p->fd = -1;
}

void proc_unlink(struct proc *p)
{
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
	p->procs->count--;
}

void proc_free(struct proc *p)
{
	close_pipe(&p->in);
	close_pipe(&p->out);
	close_pipe(&p->errs);
	if (p->exit_ev)
		event_free(p->exit_ev);
	if (p->pidfd >= 0)
		close(p->pidfd);
	timer_deinit(&p->limit);
	timer_deinit(&p->settle);
	loop_undefer(p->procs->loop, &p->end);
	free(p);
}

bool proc_reap(pid_t pid)
{
	siginfo_t info = { 0 };

	return !waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) && info.si_pid == pid;
}

/* What outlived its kill ends some day: only its exit is still waited for. */
static void on_late_exit(evutil_socket_t fd, short what, void *arg)
{
	struct proc *p = arg;

	(void)fd;
	(void)what;
	if (!proc_reap(p->pid))
		return;
	proc_unlink(p);
	proc_free(p);
}

static void linger(struct proc *p)
{
	close_pipe(&p->in);
	close_pipe(&p->out);
	close_pipe(&p->errs);
	timer_stop(&p->limit);
	timer_stop(&p->settle);
	p->ops = NULL;
	p->op_id = NULL; /* the caller's, until its end */
	event_del(p->exit_ev);
	event_assign(p->exit_ev, loop_base(p->procs->loop), p->pidfd >= 0 ? p->pidfd : SIGCHLD,
		     (p->pidfd >= 0 ? EV_READ : EV_SIGNAL) | EV_PERSIST, on_late_exit, p);
	event_add(p->exit_ev, NULL);
}

void proc_finish(struct proc *p)
{
	const struct ssh_exec_ops *ops = p->ops;
	struct ssh_result result = p->result;
	void *arg = p->arg;

	if (p->pid > 0 && !proc_reap(p->pid)) {
		linger(p);
	} else {
		proc_unlink(p);
		proc_free(p);
	}
	ops->end(arg, &result);
}

static void end_unstarted(struct deferred *d)
{
	proc_finish(container_of(d, struct proc, end));
}

/* ---- output ---- */

/* Hands over what is there now, at most one chunk. False at the end of the stream. */
static bool read_chunk(struct proc *p, struct proc_pipe *pipe, enum ssh_stream stream, size_t *n)
{
	char data[CHUNK];
	ssize_t got = read(pipe->fd, data, sizeof(data));

	*n = got > 0 ? (size_t)got : 0;
	if (got > 0)
		p->ops->output(p->arg, stream, data, (size_t)got);
	return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

/* All that is in the pipe. */
static void drain(struct proc *p, struct proc_pipe *pipe, enum ssh_stream stream)
{
	size_t total = 0, n = 1;

	while (pipe->fd >= 0 && n && total < PIPE_MOST) {
		if (!read_chunk(p, pipe, stream, &n))
			close_pipe(pipe);
		total += n;
	}
}

void proc_drain(struct proc *p)
{
	drain(p, &p->out, SSH_STDOUT);
	drain(p, &p->errs, SSH_STDERR);
}

bool proc_is_open(const struct proc *p)
{
	return p->out.fd >= 0 || p->errs.fd >= 0;
}

void proc_try_finish(struct proc *p)
{
	if (!p->gone || p->kill)
		return;
	if (p->killed)
		proc_drain(p);
	if (!proc_is_open(p)) {
		proc_finish(p);
		return;
	}
	if ((!p->paused || p->killed) && !event_pending(p->settle.ev, EV_TIMEOUT, NULL))
		timer_set(&p->settle, PROC_OPEN_MS);
}

static void settle_over(void *arg)
{
	struct proc *p = arg;

	proc_drain(p);
	p->result.output_open = proc_is_open(p);
	proc_finish(p);
}

static void on_output(struct proc *p, struct proc_pipe *pipe, enum ssh_stream stream)
{
	size_t n;

	if (read_chunk(p, pipe, stream, &n))
		return;
	close_pipe(pipe);
	proc_try_finish(p);
}

static void on_stdout(evutil_socket_t fd, short what, void *arg)
{
	struct proc *p = arg;

	(void)fd;
	(void)what;
	on_output(p, &p->out, SSH_STDOUT);
}

static void on_stderr(evutil_socket_t fd, short what, void *arg)
{
	struct proc *p = arg;

	(void)fd;
	(void)what;
	on_output(p, &p->errs, SSH_STDERR);
}

static void set_reading(struct proc_pipe *pipe, bool on)
{
	if (pipe->ev && on)
		event_add(pipe->ev, NULL);
	else if (pipe->ev)
		event_del(pipe->ev);
}

void proc_pause(struct proc *p, bool pause)
{
	p->paused = pause;
	set_reading(&p->out, !pause);
	set_reading(&p->errs, !pause);
	if (!p->gone || p->kill || p->killed)
		return;
	if (pause)
		timer_stop(&p->settle);
	else
		timer_set(&p->settle, PROC_OPEN_MS);
}

/* ---- input ---- */

static void on_stdin(evutil_socket_t fd, short what, void *arg)
{
	struct proc *p = arg;
	ssize_t n = write(fd, p->input, p->input_left < CHUNK ? p->input_left : CHUNK);

	(void)what;
	if (n > 0) {
		p->input += n;
		p->input_left -= (size_t)n;
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		p->input_left = 0; /* it does not read any more, which is its right */
	}
	if (!p->input_left)
		close_pipe(&p->in);
}

/* ---- exit ---- */

bool proc_look(struct proc *p)
{
	siginfo_t info = { 0 };

	if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) ||
	    info.si_pid != p->pid)
		return false;
	p->gone = true;
	event_del(p->exit_ev);
	if (!p->kill)
		timer_stop(&p->limit);
	if (info.si_code == CLD_EXITED) {
		p->result.exited = true;
		p->result.code = info.si_status;
	} else {
		const char *name = sigabbrev_np(info.si_status);

		strncpy(p->result.signal, name ? name : "unknown", sizeof(p->result.signal) - 1);
	}
	return true;
}

static void on_exit_event(evutil_socket_t fd, short what, void *arg)
{
	struct proc *p = arg;

	(void)fd;
	(void)what;
	if (!p->gone && proc_look(p))
		proc_try_finish(p);
}

/* ---- start ---- */

static struct procs *procs_of(struct loop *loop)
{
	struct procs *ps = loop_procs(loop);

	if (ps || !(ps = calloc(1, sizeof(*ps))))
		return ps;
	ps->loop = loop;
	loop_set_procs(loop, ps, proc_stop);
	return ps;
}

static int watch_pipe(struct proc *p, struct proc_pipe *pipe, short what, event_callback_fn fn)
{
	struct event_base *base = loop_base(p->procs->loop);

	if (pipe->fd < 0)
		return 0;
	pipe->ev = event_new(base, pipe->fd, (short)(what | EV_PERSIST), fn, p);
	return pipe->ev && !event_add(pipe->ev, NULL) ? 0 : -ERR_MEMORY;
}

static int watch_exit(struct proc *p)
{
	struct event_base *base = loop_base(p->procs->loop);

	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (p->pidfd >= 0)
		p->exit_ev = event_new(base, p->pidfd, EV_READ | EV_PERSIST, on_exit_event, p);
	else
		p->exit_ev = event_new(base, SIGCHLD, EV_SIGNAL | EV_PERSIST, on_exit_event, p);
	if (!p->exit_ev || event_add(p->exit_ev, NULL))
		return -ERR_MEMORY;
	/* It may have ended before SIGCHLD was watched. */
	if (p->pidfd < 0)
		event_active(p->exit_ev, EV_SIGNAL, 1);
	return 0;
}

static int run(struct proc *p, const struct proc_spawn *s)
{
	int fds[3];

	if (proc_spawn(s, &p->pid, fds, &p->result.err))
		return -p->result.err.code;
	p->result.sent = true;
	p->in.fd = fds[0];
	p->out.fd = fds[1];
	p->errs.fd = fds[2];
	if (watch_pipe(p, &p->in, EV_WRITE, on_stdin) ||
	    watch_pipe(p, &p->out, EV_READ, on_stdout) ||
	    watch_pipe(p, &p->errs, EV_READ, on_stderr) || watch_exit(p)) {
		kill(-p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0); /* killed: at once */
		p->pid = 0;
		return err_set(&p->result.err, ERR_MEMORY, "no memory to run %.128s", s->argv[0]);
	}
	if (p->limit_ms > 0)
		timer_set(&p->limit, p->limit_ms);
	return 0;
}

static struct proc *new_proc(struct loop *loop, const struct ssh_command *cmd,
			     const struct ssh_exec_ops *ops, void *arg)
{
	struct procs *ps = procs_of(loop);
	struct proc *p = ps ? calloc(1, sizeof(*p)) : NULL;

	if (!p)
		return NULL;
	p->procs = ps;
	p->ops = ops;
	p->arg = arg;
	p->op_id = cmd->op_id;
	p->input = cmd->input;
	p->input_left = cmd->input_len;
	p->limit_ms = cmd->limit_ms;
	p->in.fd = p->out.fd = p->errs.fd = p->pidfd = -1;
	p->end.run = end_unstarted;
	p->result.survivors = -1;
	if (timer_init(&p->limit, loop_base(loop), proc_limit_over, p) ||
	    timer_init(&p->settle, loop_base(loop), settle_over, p)) {
		proc_free(p);
		return NULL;
	}
	p->next = ps->first;
	p->link = &ps->first;
	if (p->next)
		p->next->link = &p->next;
	ps->first = p;
	ps->count++;
	return p;
}

static int check(const struct ssh_command *cmd, const char *const *argv, struct err *err)
{
	if (!argv[0] || !argv[0][0])
		return err_set(err, ERR_INVALID, "no program to run");
	if (cmd->content && cmd->input_len)
		return err_set(err, ERR_INVALID, "a local command takes input or content");
	if (cmd->op_id && strlen(cmd->op_id) >= sizeof(((struct proc_kill *)0)->op_id))
		return err_set(err, ERR_INVALID, "the op id is too long");
	for (size_t i = 0; cmd->env && cmd->env[i]; i++)
		if (!strchr(cmd->env[i], '=') || *cmd->env[i] == '=')
			return err_set(err, ERR_INVALID, "an environment entry is no NAME=value");
	return 0;
}

static struct proc *start(struct loop *loop, const char *const *argv, bool clean, int channel,
			  const struct ssh_command *cmd, const struct ssh_exec_ops *ops, void *arg,
			  struct err *err)
{
	const struct proc_spawn spawn = {
		.argv = argv,
		.env = cmd->env,
		.op_id = cmd->op_id,
		.cwd = cmd->cwd,
		.clean = clean,
		.input = cmd->input_len > 0,
		.content = cmd->content,
		.channel = channel,
	};
	struct proc *p;

	if (check(cmd, argv, err))
		return NULL;
	if (loop_procs(loop) && ((struct procs *)loop_procs(loop))->stopping) {
		err_set(err, ERR_CLOSED, "the program ends");
		return NULL;
	}
	p = new_proc(loop, cmd, ops, arg);
	if (!p) {
		err_set(err, ERR_MEMORY, "no memory to run %.128s", argv[0]);
		return NULL;
	}
	if (ops->may_start && !ops->may_start(arg)) {
		err_set(&p->result.err, ERR_CANCELLED, "not started");
		loop_defer(loop, &p->end);
	} else if (run(p, &spawn)) {
		loop_defer(loop, &p->end);
	}
	return p;
}

struct proc *proc_start_argv(struct loop *loop, const char *const *argv, bool clean,
			     const struct ssh_command *cmd, const struct ssh_exec_ops *ops,
			     void *arg, struct err *err)
{
	return start(loop, argv, clean, 0, cmd, ops, arg, err);
}

struct proc *proc_start_channel(struct loop *loop, const char *const *argv, int channel,
				const struct ssh_command *cmd, const struct ssh_exec_ops *ops,
				void *arg, struct err *err)
{
	return start(loop, argv, false, channel, cmd, ops, arg, err);
}

struct proc *proc_start(struct loop *loop, const struct ssh_command *cmd,
			const struct ssh_exec_ops *ops, void *arg, struct err *err)
{
	/* "--": a command may begin with a dash. */
	const char *const argv[] = { "/bin/sh", "-c", "--", cmd->command, NULL };

	if (!cmd->command) {
		err_set(err, ERR_INVALID, "no command to run");
		return NULL;
	}
	return proc_start_argv(loop, argv, false, cmd, ops, arg, err);
}
