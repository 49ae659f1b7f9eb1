/* SPDX-License-Identifier: MIT */
/* redis_child: starts, watches and ends the private redis-server. A pidfd tells of its end; where
 * the kernel has none, a timer looks. Whether it answers is found out by a client of our own that
 * is closed once it is up; the job store's client connects, and connects again, by itself. Loop
 * thread. */
#include "redis_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "redis_files.h"

#define START_MS 600000      /* until it answers: it may load gigabytes; who waits has a limit too */
#define LOCK_MS 10000        /* for the server of a former exed to be gone */
#define LOOK_MS 20           /* between two looks at the lock, and at a child without a pidfd */
#define SOCKET_MS 2          /* between two looks for its socket: it is there after 8 to 17 ms */
#define RETRY_FIRST_MS 100
#define RETRY_MOST_MS 5000
#define STEADY_MS 10000      /* a server that has lived this long starts the back-off anew */

enum phase { LOCKING, STARTING, RUNNING, PAUSING, STOPPING, STOPPED };

struct redis_child {
	struct loop *loop;
	struct redis_files files;
	struct redis_address address;
	enum phase phase;
	pid_t pid;              /* 0: none */
	int pidfd;              /* -1: none */
	struct event *exited;
	struct timer step;      /* what comes next in this phase */
	struct timer look;      /* without a pidfd */
	struct redis *probe;
	int64_t started_ms, since_ms;
	unsigned failures;
	char notice[256];
	char trouble[320]; /* why the last server ended; empty before any has */
	void (*on_start)(void *arg, const struct err *why); /* NULL once called */
	void *arg;
	void (*on_end)(void *arg);
	void *end_arg;
};

static void start(struct redis_child *c);

/* ---- the new process ---- */

/* In the child, between fork and exec: nothing but system calls. */
static void child_exec(const struct redis_files *f, char *const argv[], pid_t parent)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;
	int null = open("/dev/null", O_RDWR);
	int log = open(f->log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(126);
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(077);
	/* 3 is the lock; nothing else is handed on. Above 3 first, or dup2 could hit one of them. */
	null = fcntl(null, F_DUPFD, 10);
	log = fcntl(log, F_DUPFD, 10);
	dup2(null, 0);
	dup2(log < 0 ? null : log, 1);
	dup2(log < 0 ? null : log, 2);
	if (f->lock == 3)
		fcntl(3, F_SETFD, 0);
	else
		dup2(f->lock, 3);
	syscall(SYS_close_range, 4u, ~0u, 0u);
	execv(f->server, argv);
	_exit(127);
}

static int spawn(struct redis_child *c, struct err *err)
{
	char *argv[] = { c->files.server, c->files.conf, NULL };
	pid_t self = getpid(), pid = fork();

	if (pid < 0)
		return err_errno(err, "cannot fork for redis-server");
	if (pid == 0)
		child_exec(&c->files, argv, self);
	setpgid(pid, pid);
	c->pid = pid;
	c->started_ms = loop_now_ms();
	return 0;
}

/* ---- watching ---- */

static void unwatch(struct redis_child *c)
{
	if (c->exited)
		event_free(c->exited);
	c->exited = NULL;
	if (c->pidfd >= 0)
		close(c->pidfd);
	c->pidfd = -1;
	if (c->look.ev)
		timer_stop(&c->look);
}

static void end_probe(struct redis_child *c)
{
	redis_free(c->probe);
	c->probe = NULL;
}

/* c may be gone after. */
static void tell_start(struct redis_child *c, const struct err *why)
{
	void (*on_start)(void *, const struct err *) = c->on_start;

	c->on_start = NULL;
	if (on_start)
		on_start(c->arg, why);
}

/* What ended it, as text. */
static void describe_end(const struct redis_child *c, int status, char *out, size_t cap)
{
	char complaint[240];

	/* On a full disk its log has no room either. */
	redis_files_room(&c->files, complaint, sizeof(complaint));
	if (!*complaint)
		redis_files_complaint(&c->files, complaint, sizeof(complaint));
	if (WIFSIGNALED(status))
		snprintf(out, cap, "was ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == 127)
		snprintf(out, cap, "could not be run: %.200s", c->files.server);
	else
		snprintf(out, cap, "ended with exit code %d%s%s", WEXITSTATUS(status),
			 *complaint ? ": " : "", complaint);
}

static void pause_start(struct redis_child *c)
{
	int64_t ms = RETRY_MOST_MS;

	if (loop_now_ms() - c->started_ms > STEADY_MS)
		c->failures = 0;
	if (c->failures < 6)
		ms = RETRY_FIRST_MS << c->failures;
	c->failures++;
	c->phase = PAUSING;
	timer_set(&c->step, ms < RETRY_MOST_MS ? ms : RETRY_MOST_MS);
}

static void stopped(struct redis_child *c)
{
	void (*on_end)(void *) = c->on_end;

	c->phase = STOPPED;
	timer_stop(&c->step);
	c->on_end = NULL;
	if (on_end)
		on_end(c->end_arg);
}

/* The process is gone and reaped. */
static void handle_end(struct redis_child *c, int status)
{
	pid_t pid = c->pid;
	char how[288];
	struct err why;

	unwatch(c);
	end_probe(c);
	c->pid = 0;
	kill(-pid, SIGKILL); /* a rewrite of its file may still run in its group */
	if (c->phase == STOPPING) {
		stopped(c);
		return;
	}
	describe_end(c, status, how, sizeof(how));
	if (c->on_start) {
		c->phase = STOPPED;
		timer_stop(&c->step);
		err_set(&why, ERR_REFUSED, "the private redis-server %.170s (its log: redis.log in the "
			"state directory)", how);
		tell_start(c, &why);
		return;
	}
	log_error("redis", "the private redis-server (pid %d) %s; it is started again", (int)pid, how);
	snprintf(c->trouble, sizeof(c->trouble), "the private redis-server %.280s", how);
	pause_start(c);
}

static void look_at_child(struct redis_child *c)
{
	int status;
	pid_t pid = c->pid ? waitpid(c->pid, &status, WNOHANG) : -1;

	if (pid == c->pid)
		handle_end(c, status);
	else if (pid < 0 && errno == ECHILD && c->pid) /* somebody else reaped it */
		handle_end(c, 0);
}

static void on_exited(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look_at_child(arg);
}

static void on_look(void *arg)
{
	struct redis_child *c = arg;

	timer_set(&c->look, LOOK_MS);
	look_at_child(c);
}

static void watch(struct redis_child *c)
{
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd >= 0) {
		fcntl(c->pidfd, F_SETFD, FD_CLOEXEC);
		c->exited = event_new(loop_base(c->loop), c->pidfd, EV_READ, on_exited, c);
	}
	if (!c->exited || event_add(c->exited, NULL))
		timer_set(&c->look, LOOK_MS);
}

/* ---- starting ---- */

static void give_up(struct redis_child *c, const struct err *why)
{
	if (c->pid)
		kill(-c->pid, SIGKILL); /* its end is handled when it comes */
	if (c->on_start) {
		c->phase = c->pid ? STOPPING : STOPPED;
		timer_stop(&c->step);
		tell_start(c, why);
		return;
	}
	log_error("redis", "%s", why->message);
	if (!c->pid)
		pause_start(c);
}

static void on_probe(void *arg, bool up, const struct err *why)
{
	struct redis_child *c = arg;

	if (!up && why->code != ERR_REFUSED)
		return;
	if (!up) {
		struct err copy = *why;

		end_probe(c);
		give_up(c, &copy);
		return;
	}
	end_probe(c);
	c->phase = RUNNING;
	timer_stop(&c->step);
	redis_files_cut(&c->files, c->notice, sizeof(c->notice));
	if (*c->notice)
		log_error("redis", "the job store's file %s", c->notice);
	log_info("redis", "private redis-server runs, pid %d, ready after %lld ms", (int)c->pid,
		 (long long)(loop_now_ms() - c->started_ms));
	tell_start(c, NULL);
}

/* Its socket is there: ask whether it answers. False: c may be gone. */
static bool probe(struct redis_child *c)
{
	struct redis_options o = { .address = &c->address, .on_state = on_probe, .arg = c };
	struct err err;

	c->probe = redis_new(c->loop, &o, &err);
	if (c->probe)
		return true;
	give_up(c, &err);
	return false;
}

static void wait_start(struct redis_child *c)
{
	struct err why;

	if (loop_now_ms() - c->started_ms > START_MS) {
		end_probe(c);
		err_set(&why, ERR_TIMEOUT, "the private redis-server did not answer within %d s",
			START_MS / 1000);
		give_up(c, &why);
		return;
	}
	if (!c->probe && !access(c->files.socket, F_OK) && !probe(c))
		return;
	timer_set(&c->step, c->probe ? 1000 : SOCKET_MS);
}

static void start(struct redis_child *c)
{
	struct err err;

	redis_files_prepare(&c->files);
	if (spawn(c, &err)) {
		give_up(c, &err);
		return;
	}
	c->phase = STARTING;
	watch(c);
	timer_set(&c->step, SOCKET_MS);
}

static void wait_lock(struct redis_child *c)
{
	struct err err;
	int rc = redis_files_lock(&c->files, &err);

	if (!rc)
		start(c);
	else if (rc == -ERR_AWAY && loop_now_ms() - c->since_ms < LOCK_MS)
		timer_set(&c->step, LOOK_MS);
	else
		give_up(c, &err);
}

static void on_step(void *arg)
{
	struct redis_child *c = arg;

	switch (c->phase) {
	case LOCKING:
		wait_lock(c);
		break;
	case STARTING:
		wait_start(c);
		break;
	case PAUSING:
		start(c);
		break;
	case STOPPING:
		if (!c->pid) {
			stopped(c);
			break;
		}
		log_warn("redis", "the private redis-server does not end: SIGKILL");
		kill(-c->pid, SIGKILL);
		break;
	case RUNNING:
	case STOPPED:
		break;
	}
}

/* ---- life ---- */

static int fill(struct redis_child *c, const struct redis_child_options *o, struct err *err)
{
	struct event_base *base = loop_base(c->loop);
	int rc = redis_files_init(&c->files, o->dir, o->server, o->memory, err);

	if (rc)
		return rc;
	c->address.socket = strdup(c->files.socket);
	c->address.password = strdup(c->files.password);
	snprintf(c->address.text, sizeof(c->address.text), "%.127s", c->files.socket);
	if (!c->address.socket || !c->address.password || timer_init(&c->step, base, on_step, c) ||
	    timer_init(&c->look, base, on_look, c))
		return err_set(err, ERR_MEMORY, "not enough memory");
	return 0;
}

struct redis_child *redis_child_new(struct loop *loop, const struct redis_child_options *options,
				    struct err *err)
{
	struct redis_child *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(err, ERR_MEMORY, "not enough memory");
		return NULL;
	}
	c->loop = loop;
	c->pidfd = -1;
	c->files.lock = -1;
	c->on_start = options->on_start;
	c->arg = options->arg;
	c->phase = LOCKING;
	c->since_ms = loop_now_ms();
	if (fill(c, options, err)) {
		redis_child_free(c);
		return NULL;
	}
	timer_set(&c->step, 0);
	return c;
}

const struct redis_address *redis_child_address(const struct redis_child *child)
{
	return &child->address;
}

pid_t redis_child_pid(const struct redis_child *child)
{
	return child->pid;
}

const char *redis_child_notice(const struct redis_child *child)
{
	return child->notice;
}

const char *redis_child_trouble(const struct redis_child *child)
{
	/* One that ends at each write is up for moments. */
	if (child->phase == RUNNING && loop_now_ms() - child->started_ms > STEADY_MS)
		return "";
	return child->trouble;
}

void redis_child_stop(struct redis_child *child, int64_t limit_ms, void (*on_end)(void *arg), void *arg)
{
	child->on_start = NULL;
	child->on_end = on_end;
	child->end_arg = arg;
	child->phase = STOPPING;
	end_probe(child);
	if (child->pid)
		kill(child->pid, SIGTERM);
	timer_set(&child->step, child->pid ? limit_ms : 0);
}

void redis_child_free(struct redis_child *child)
{
	if (!child)
		return;
	unwatch(child);
	end_probe(child);
	if (child->pid) {
		kill(-child->pid, SIGKILL);
		while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	timer_deinit(&child->step);
	timer_deinit(&child->look);
	redis_address_deinit(&child->address);
	redis_files_deinit(&child->files);
	free(child);
}
