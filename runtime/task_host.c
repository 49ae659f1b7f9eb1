/* SPDX-License-Identifier: MIT */
/* task_host: posix_spawn of this program's own file with one end of a socketpair as its descriptor 0;
 * frames by a bufferevent; its end by a pidfd. The process is reaped when both its end was seen and the
 * socket is drained, so that no frame is lost. Loop thread. */
#include "task_host.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "task_child.h"

#define REAP_MS 20 /* between two looks where there is no pidfd */

struct task_host {
	struct loop *loop;
	struct task_host_options o;
	pid_t pid;
	int pidfd;
	struct event *exit_ev; /* of the pidfd */
	struct timer look;     /* where there is none */
	struct deferred last;  /* calls on_end */
	struct bufferevent *bev;
	bool paused, eof, reaped;
	bool deaf; /* it takes no more; what it has sent is still to be read */
	struct task_host_end end;
};

int task_host_open_program(struct err *err)
{
	int fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);

	return fd < 0 ? err_errno(err, "cannot open this program's file") : fd;
}

/* ---- the end ---- */

static void finish_if_over(struct task_host *t)
{
	if (t->reaped && t->eof && !t->paused)
		loop_defer(t->loop, &t->last);
}

static void run_last(struct deferred *d)
{
	struct task_host *t = container_of(d, struct task_host, last);

	t->o.on_end(t->o.arg);
}

static void note_end(struct task_host *t, int status, const struct rusage *used)
{
	t->end.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	t->end.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	t->end.cpu = (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) +
		     (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec) / 1e6;
	t->end.memory = (size_t)used->ru_maxrss * 1024;
	t->reaped = true;
	if (t->exit_ev)
		event_del(t->exit_ev);
	timer_stop(&t->look);
	finish_if_over(t);
}

static void reap(struct task_host *t)
{
	struct rusage used;
	int status;

	if (wait4(t->pid, &status, WNOHANG, &used) == t->pid)
		note_end(t, status, &used);
	else if (!t->exit_ev)
		timer_set(&t->look, REAP_MS);
}

static void on_exit_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	reap(arg);
}

static void on_look(void *arg)
{
	reap(arg);
}

/* ---- frames ---- */

/* Takes whole frames out of the input. */
static void read_frames(struct task_host *t)
{
	struct evbuffer *in = bufferevent_get_input(t->bev);

	while (!t->paused) {
		unsigned char head[4];
		size_t n;
		char *text;

		if (evbuffer_copyout(in, head, sizeof(head)) < (ev_ssize_t)sizeof(head))
			return;
		n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
		if (n > TASK_MESSAGE_MAX) {
			log_error("task", "pid=%d sent a frame of %zu bytes; it is killed", (int)t->pid, n);
			task_host_kill(t);
			evbuffer_drain(in, evbuffer_get_length(in));
			return;
		}
		if (evbuffer_get_length(in) < sizeof(head) + n)
			return;
		evbuffer_drain(in, sizeof(head));
		text = n ? (char *)evbuffer_pullup(in, (ev_ssize_t)n) : "";
		if (!text) { /* no memory; a run without this frame would be a wrong one */
			task_host_kill(t);
			evbuffer_drain(in, evbuffer_get_length(in));
			return;
		}
		t->o.on_frame(t->o.arg, text, n);
		evbuffer_drain(in, n);
	}
}

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)bev;
	read_frames(arg);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct task_host *t = arg;

	(void)bev;
	if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) || t->eof)
		return;
	if (what & BEV_EVENT_WRITING) {
		t->deaf = true;
		return;
	}
	t->eof = true;
	bufferevent_disable(t->bev, EV_READ | EV_WRITE);
	read_frames(t);
	finish_if_over(t);
}

void task_host_pause(struct task_host *t, bool pause)
{
	if (t->paused == pause)
		return;
	t->paused = pause;
	if (pause) {
		bufferevent_disable(t->bev, EV_READ);
		return;
	}
	if (!t->eof)
		bufferevent_enable(t->bev, EV_READ);
	read_frames(t);
	finish_if_over(t);
}

int task_host_send(struct task_host *t, const char *text, size_t n, struct err *err)
{
	unsigned char head[4] = { (unsigned char)(n >> 24), (unsigned char)(n >> 16),
				  (unsigned char)(n >> 8), (unsigned char)n };
	struct evbuffer *out = bufferevent_get_output(t->bev);

	if (t->eof || t->deaf || t->reaped)
		return err_set(err, ERR_CLOSED, "the task's process has ended");
	if (n > TASK_FRAME_MAX)
		return err_set(err, ERR_LIMIT, "a message of %zu bytes is longer than %u", n, TASK_FRAME_MAX);
	if (evbuffer_get_length(out) + n > TASK_FRAME_MAX + sizeof(head))
		return err_set(err, ERR_LIMIT, "the task's process does not take its answers");
	if (evbuffer_add(out, head, sizeof(head)) || evbuffer_add(out, text, n))
		return err_set(err, ERR_MEMORY, "no memory for a message to a task");
	return 0;
}

/* ---- starting ---- */

/* The program is its descriptor 1 until it runs, since all others are closed before the exec. */
static int set_up(posix_spawn_file_actions_t *fa, posix_spawnattr_t *attr, int theirs, int program_fd)
{
	sigset_t all, none;

	sigfillset(&all);
	sigemptyset(&none);
	if (posix_spawnattr_setsigdefault(attr, &all) || posix_spawnattr_setsigmask(attr, &none) ||
	    posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF |
						   POSIX_SPAWN_SETSIGMASK))
		return -1;
	return posix_spawn_file_actions_adddup2(fa, theirs, 0) ||
	       posix_spawn_file_actions_adddup2(fa, program_fd, 1) ||
	       posix_spawn_file_actions_addclosefrom_np(fa, 2);
}

static int spawn(struct task_host *t, int program_fd, int theirs, struct err *err)
{
	static const char program[] = "/proc/self/fd/1";
	char memory[32], cpu[32];
	char *argv[] = { "exed", "--task", memory, cpu, NULL };
	char *env[] = { NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int rc;

	snprintf(memory, sizeof(memory), "%zu", t->o.memory);
	snprintf(cpu, sizeof(cpu), "%lu", t->o.cpu);
	if (posix_spawn_file_actions_init(&fa))
		return err_set(err, ERR_MEMORY, "no memory to start a task");
	if (posix_spawnattr_init(&attr)) {
		posix_spawn_file_actions_destroy(&fa);
		return err_set(err, ERR_MEMORY, "no memory to start a task");
	}
	rc = set_up(&fa, &attr, theirs, program_fd) ? ENOMEM : posix_spawn(&t->pid, program, &fa, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return rc ? err_set(err, ERR_SYSTEM, "cannot start a task's process: %s", strerrordesc_np(rc)) : 0;
}

static int watch(struct task_host *t, int ours, struct err *err)
{
	struct event_base *base = loop_base(t->loop);

	t->bev = bufferevent_socket_new(base, ours, BEV_OPT_CLOSE_ON_FREE);
	if (!t->bev) {
		close(ours);
		return err_set(err, ERR_MEMORY, "no memory for a task's process");
	}
	bufferevent_setcb(t->bev, on_read, NULL, on_event, t);
	if (timer_init(&t->look, base, on_look, t))
		return err_set(err, ERR_MEMORY, "no memory for a task's process");
	return 0;
}

static int watch_exit(struct task_host *t, struct err *err)
{
	t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
	if (t->pidfd < 0) {
		timer_set(&t->look, REAP_MS);
		return 0;
	}
	t->exit_ev = event_new(loop_base(t->loop), t->pidfd, EV_READ, on_exit_event, t);
	if (!t->exit_ev || event_add(t->exit_ev, NULL))
		return err_set(err, ERR_MEMORY, "no memory for a task's process");
	return 0;
}

struct task_host *task_host_start(struct loop *loop, int program_fd,
				  const struct task_host_options *options, struct err *err)
{
	struct task_host *t = calloc(1, sizeof(*t));
	int ends[2] = { -1, -1 };

	if (!t) {
		err_set(err, ERR_MEMORY, "no memory for a task's process");
		return NULL;
	}
	t->loop = loop;
	t->o = *options;
	t->pidfd = -1;
	t->last.run = run_last;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		err_errno(err, "cannot make a socket for a task");
		goto fail;
	}
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK) || watch(t, ends[0], err) ||
	    spawn(t, program_fd, ends[1], err) || watch_exit(t, err))
		goto fail;
	if (bufferevent_enable(t->bev, EV_READ | EV_WRITE)) {
		err_set(err, ERR_MEMORY, "no memory for a task's process");
		goto fail;
	}
	close(ends[1]);
	return t;
fail:
	if (ends[1] >= 0)
		close(ends[1]);
	task_host_free(t);
	return NULL;
}

/* ---- ending ---- */

void task_host_probe(struct task_host *t)
{
	if (!t->reaped)
		kill(t->pid, SIGUSR1);
}

void task_host_kill(struct task_host *t)
{
	if (!t->reaped && t->pid > 0)
		kill(t->pid, SIGKILL);
}

const struct task_host_end *task_host_end(const struct task_host *t)
{
	return t->reaped ? &t->end : NULL;
}

pid_t task_host_pid(const struct task_host *t)
{
	return t->pid;
}

void task_host_free(struct task_host *t)
{
	if (!t)
		return;
	if (t->pid > 0 && !t->reaped) {
		kill(t->pid, SIGKILL);
		waitpid(t->pid, NULL, 0); /* killed: at once */
	}
	loop_undefer(t->loop, &t->last);
	if (t->exit_ev)
		event_free(t->exit_ev);
	if (t->pidfd >= 0)
		close(t->pidfd);
	timer_deinit(&t->look);
	if (t->bev)
		bufferevent_free(t->bev);
	free(t);
}
