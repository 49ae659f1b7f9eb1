/* SPDX-License-Identifier: MIT */
/* proc_killer: the thread of proc_kill.h. The mutex guards both queues; a job belongs to the
 * thread from post until it is in `done`. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "proc_kill.h"

/* How long a sweep looks after what will not die. */
#define LIMIT_MS 2000
#define JOIN_SECONDS 10

struct proc_killer {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct proc_kill *queue, *done;
	bool stop;
	int fd;
};

static struct proc_kill *append(struct proc_kill *list, struct proc_kill *more)
{
	struct proc_kill **last = &list;

	while (*last)
		last = &(*last)->next;
	*last = more;
	return list;
}

static void *work(void *arg)
{
	struct proc_killer *k = arg;
	const uint64_t one = 1;

	pthread_mutex_lock(&k->lock);
	while (!k->stop) {
		struct proc_kill *jobs = k->queue;

		if (!jobs) {
			pthread_cond_wait(&k->wake, &k->lock);
			continue;
		}
		k->queue = NULL;
		pthread_mutex_unlock(&k->lock);
		proc_kill_now(jobs, LIMIT_MS);
		pthread_mutex_lock(&k->lock);
		k->done = append(k->done, jobs);
		if (write(k->fd, &one, sizeof(one)) < 0)
			continue; /* full: then the loop is awake already */
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

/* Signals are for the loop thread. */
static int start_thread(struct proc_killer *k)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&k->thread, NULL, work, k);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

struct proc_killer *proc_killer_new(int *fd, struct err *err)
{
	struct proc_killer *k = calloc(1, sizeof(*k));

	if (!k) {
		err_set(err, ERR_MEMORY, "no memory to kill processes");
		return NULL;
	}
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->wake, NULL);
	k->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (k->fd >= 0 && !start_thread(k)) {
		*fd = k->fd;
		return k;
	}
	err_errno(err, "cannot start the thread that kills processes");
	if (k->fd >= 0)
		close(k->fd);
	free(k);
	return NULL;
}

struct proc_kill *proc_killer_free(struct proc_killer *k)
{
	struct proc_kill *left;
	struct timespec until;

	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += JOIN_SECONDS;
	/* It hangs in /proc: then what it holds must stay, and the program ends without it. */
	if (pthread_timedjoin_np(k->thread, NULL, &until))
		return NULL;
	left = append(k->done, k->queue);
	close(k->fd);
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
	return left;
}

void proc_killer_post(struct proc_killer *k, struct proc_kill *job)
{
	job->next = NULL;
	pthread_mutex_lock(&k->lock);
	k->queue = append(k->queue, job);
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
}

struct proc_kill *proc_killer_fetch(struct proc_killer *k)
{
	struct proc_kill *done;
	uint64_t count;

	if (read(k->fd, &count, sizeof(count)) < 0)
		count = 0; /* woken for nothing */
	pthread_mutex_lock(&k->lock);
	done = k->done;
	k->done = NULL;
	pthread_mutex_unlock(&k->lock);
	return done;
}
