/* SPDX-License-Identifier: MIT */
/* proc_stop: the time limit, the cancel and the end of all children. A kill is a job for the
 * thread of proc_killer.c, made here, owned by that thread meanwhile, and freed here when it
 * comes back; its owner is NULL when nobody waits for it any more. Loop thread. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proc_private.h"

#define KILL_MS 10000 /* by then a kill must have an answer */

/* ---- killing ---- */

static void take_answer(struct proc *p, const struct proc_kill *job)
{
	p->kill = NULL;
	p->killed = true;
	p->result.killed = job && job->survivors >= 0;
	p->result.survivors = p->result.killed ? job->survivors : -1;
	p->result.possible = p->result.killed ? job->possible : -1;
	if (!p->result.killed)
		p->result.killed_by = "process group, not verified";
	else
		p->result.killed_by = p->op_id ? KILLED_BY : "session, tree, output";
	timer_stop(&p->limit);
}

static void kill_done(struct proc *p, const struct proc_kill *job)
{
	take_answer(p, job);
	if (p->gone || proc_look(p)) {
		timer_stop(&p->settle);
		proc_try_finish(p);
		return;
	}
	proc_drain(p);
	p->result.output_open = proc_is_open(p);
	proc_finish(p);
}

static void on_killer(evutil_socket_t fd, short what, void *arg)
{
	struct procs *ps = arg;

	(void)fd;
	(void)what;
	for (struct proc_kill *job = proc_killer_fetch(ps->killer), *next; job; job = next) {
		struct proc *p = job->owner;

		next = job->next;
		if (p)
			kill_done(p, job);
		free(job);
	}
}

static int open_killer(struct procs *ps)
{
	int fd;

	if (ps->killer)
		return 0;
	ps->killer = proc_killer_new(&fd, NULL);
	if (!ps->killer)
		return -ERR_SYSTEM;
	ps->killer_ev = event_new(loop_base(ps->loop), fd, EV_READ | EV_PERSIST, on_killer, ps);
	if (ps->killer_ev && !event_add(ps->killer_ev, NULL))
		return 0;
	proc_killer_free(ps->killer);
	ps->killer = NULL;
	return -ERR_MEMORY;
}

/* Both ends of a pipe have the same. */
static unsigned long inode_of(int fd)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) ? st.st_ino : 0;
}

static struct proc_kill *new_job(struct proc *p)
{
	struct proc_kill *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->owner = p;
	job->pid = p->pid;
	if (p->op_id)
		strncpy(job->op_id, p->op_id, sizeof(job->op_id) - 1);
	job->output[0] = inode_of(p->out.fd);
	job->output[1] = inode_of(p->errs.fd);
	return job;
}

/* When it can only be done roughly, the group is killed and nobody looks. */
static void start_kill(struct proc *p)
{
	if (p->ops->killing)
		p->ops->killing(p->arg);
	p->kill = open_killer(p->procs) ? NULL : new_job(p);
	if (!p->kill) {
		kill(-p->pid, SIGKILL);
		take_answer(p, NULL);
	} else {
		proc_killer_post(p->procs->killer, p->kill);
	}
	timer_set(&p->limit, KILL_MS);
}

void proc_limit_over(void *arg)
{
	struct proc *p = arg;

	if (p->kill || p->killed) { /* no answer, or no exit */
		if (p->kill)
			p->kill->owner = NULL;
		kill_done(p, NULL);
		return;
	}
	p->result.timed_out = true;
	err_set(&p->result.err, ERR_TIMEOUT, "over its time limit of %g s",
		(double)p->limit_ms / 1000);
	start_kill(p);
}

void proc_cancel(struct proc *p)
{
	/* At the end of the program it is killed anyway. */
	if (p->kill || p->killed || p->procs->stopping)
		return;
	p->result.cancelled = true;
	err_set(&p->result.err, ERR_CANCELLED, "cancelled");
	timer_stop(&p->settle);
	/* One that never started has its end waiting already. */
	if (p->pid > 0)
		start_kill(p);
}

/* ---- all of them ---- */

unsigned proc_count(struct loop *loop)
{
	const struct procs *ps = loop_procs(loop);

	return ps ? ps->count : 0;
}

/* The thread's unfinished jobs are done here instead. */
static void close_killer(struct procs *ps)
{
	struct proc_kill *left;

	if (!ps->killer)
		return;
	event_free(ps->killer_ev);
	left = proc_killer_free(ps->killer);
	ps->killer = NULL;
	for (struct proc_kill *next; left; left = next) {
		next = left->next;
		if (left->owner)
			((struct proc *)left->owner)->kill = NULL;
		free(left);
	}
}

static struct proc_kill *jobs_of_all(struct procs *ps)
{
	struct proc_kill *jobs = NULL;

	for (struct proc *p = ps->first; p; p = p->next) {
		struct proc_kill *job = p->pid > 0 ? new_job(p) : NULL;

		if (!job)
			continue;
		job->next = jobs;
		jobs = job;
	}
	return jobs;
}

static void finish_stopped(struct proc *p, const struct proc_kill *job)
{
	if (!p->ops) { /* its end was called before */
		proc_reap(p->pid);
		proc_unlink(p);
		proc_free(p);
		return;
	}
	if (job) {
		p->result.cancelled = true;
		take_answer(p, job);
		if (!p->gone)
			proc_look(p);
		proc_drain(p);
		p->result.output_open = proc_is_open(p);
		if (!p->result.err.code)
			err_set(&p->result.err, ERR_CANCELLED, "the program ends");
	}
	proc_finish(p);
}

void proc_stop_all(struct loop *loop)
{
	struct procs *ps = loop ? loop_procs(loop) : NULL;
	struct proc_kill *jobs;

	if (!ps || ps->stopping)
		return;
	ps->stopping = true; /* an end may want to start another */
	close_killer(ps);
	jobs = jobs_of_all(ps);
	if (jobs)
		proc_kill_now(jobs, PROC_OPEN_MS);
	for (struct proc_kill *next; jobs; jobs = next) {
		next = jobs->next;
		finish_stopped(jobs->owner, jobs);
		free(jobs);
	}
	/* What never started, and what outlives this: nothing waits for it any more. */
	while (ps->first)
		finish_stopped(ps->first, NULL);
	ps->stopping = false;
}

void proc_stop(void *state)
{
	struct procs *ps = state;

	proc_stop_all(ps->loop);
	loop_set_procs(ps->loop, NULL, NULL);
	free(ps);
}
