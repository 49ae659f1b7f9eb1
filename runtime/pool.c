/* SPDX-License-Identifier: MIT */
/* pool: the I/O threads and the queues between them and the loop. A queue is a list under a mutex and
 * an eventfd that is written only when the list was empty; a reader takes the whole list at once.
 * A writer gathers what it has to say in one turn of its own loop and gives it away at the turn's end, so
 * that one wake serves many messages. An I/O thread that has just given something gathers for a moment: a
 * turn of the loop costs as much as what most messages are about. Freed only by the loop thread, after the
 * threads are joined. */
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "left.h"
#include "log.h"
#include "metrics.h"

/* So many are given away at once in the middle of a long turn. */
#define GATHER_MAX 32
/* And so long after an I/O thread gave the loop something it does so again. */
#define GATHER_MS 2

struct queue {
	pthread_mutex_t lock;
	struct work *first, **last;
	int fd; /* eventfd, non-blocking */
	enum metric waiting;
};

/* What one thread has for a queue; its own. */
struct gathered {
	struct queue *queue;
	struct work *first, **last;
	int n;
};

struct io {
	struct loop *loop;
	struct pool *pool;
	struct event_base *base;
	struct event *wake;
	struct queue in;
	struct gathered from_loop; /* the loop thread's */
	struct deferred give_soon; /* the loop thread's */
	struct gathered to_loop;
	struct event *give_later;
	int64_t given_ms;
	pthread_t thread;
	bool started;
	bool stopping; /* this thread's only */
	struct work stop;
	void *ssh;
	void (*ssh_stop)(void *state);
};

struct pool {
	struct loop *loop;
	struct queue out;
	struct event *wake;
	int n;
	struct io *ios;
};

static int queue_init(struct queue *q, enum metric waiting)
{
	q->waiting = waiting;
	pthread_mutex_init(&q->lock, NULL);
	q->last = &q->first;
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->fd < 0 ? -ERR_SYSTEM : 0;
}

static void queue_deinit(struct queue *q)
{
	if (q->fd >= 0)
		close(q->fd);
	pthread_mutex_destroy(&q->lock);
}

static void gathered_init(struct gathered *g, struct queue *q)
{
	*g = (struct gathered){ .queue = q };
	g->last = &g->first;
}

static void give(struct gathered *g)
{
	struct queue *q = g->queue;
	const uint64_t one = 1;
	bool was_empty;

	if (!g->first)
		return;
	metric_add(q->waiting, g->n);
	pthread_mutex_lock(&q->lock);
	was_empty = !q->first;
	*q->last = g->first;
	q->last = g->last;
	pthread_mutex_unlock(&q->lock);
	gathered_init(g, q);
	/* The counter cannot overflow: it is written once per drained batch. */
	while (was_empty && write(q->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void gather(struct gathered *g, struct work *w)
{
	w->next = NULL;
	*g->last = w;
	g->last = &w->next;
	if (++g->n >= GATHER_MAX)
		give(g);
}

static struct work *queue_take(struct queue *q)
{
	struct work *batch;
	uint64_t count;

	/* Cleared before the list is taken: what comes in between writes the eventfd again. */
	while (read(q->fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&q->lock);
	batch = q->first;
	q->first = NULL;
	q->last = &q->first;
	pthread_mutex_unlock(&q->lock);
	return batch;
}

static void drain_in(evutil_socket_t fd, short what, void *arg)
{
	struct io *io = arg;
	struct work *w = queue_take(&io->in);
	int64_t n = 0;

	(void)fd;
	(void)what;
	while (w) {
		struct work *next = w->next;

		w->run(io, w);
		w = next;
		n++;
	}
	metric_add(METRIC_QUEUE_IN, -n);
}

static void drain_out(evutil_socket_t fd, short what, void *arg)
{
	struct pool *pool = arg;
	struct work *w = queue_take(&pool->out);
	int64_t n = 0;

	(void)fd;
	(void)what;
	while (w) {
		struct work *next = w->next;

		w->done(w);
		w = next;
		n++;
	}
	metric_add(METRIC_QUEUE_OUT, -n);
}

static void stop_thread(struct io *io, struct work *w)
{
	(void)w;
	io->stopping = true;
	event_base_loopbreak(io->base);
}

static void give_to_loop(struct io *io)
{
	event_del(io->give_later);
	give(&io->to_loop);
	io->given_ms = loop_now_ms();
}

static void give_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	give_to_loop(arg);
}

/* Now, when nothing was given for a while, or soon. */
static void give_paced(struct io *io)
{
	const struct timeval soon = { 0, GATHER_MS * 1000 };

	if (!io->to_loop.first || event_pending(io->give_later, EV_TIMEOUT, NULL))
		return;
	/* Without memory for the timer: early is better than never. */
	if (loop_now_ms() - io->given_ms >= GATHER_MS || event_add(io->give_later, &soon))
		give_to_loop(io);
}

static void *thread_main(void *arg)
{
	struct io *io = arg;

	while (!io->stopping) {
		event_base_loop(io->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
		give_paced(io);
	}
	if (io->ssh_stop)
		io->ssh_stop(io->ssh);
	give(&io->to_loop);
	return NULL;
}

static void give_to_thread(struct deferred *d)
{
	give(&container_of(d, struct io, give_soon)->from_loop);
}

static int start_thread(struct io *io, struct err *err)
{
	struct event_config *config = event_config_new();
	sigset_t all, old;
	int rc;

	if (!config)
		return err_set(err, ERR_MEMORY, "no memory for an I/O thread");
	/* One thread uses it; the queue's eventfd is how others reach it. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	io->base = event_base_new_with_config(config);
	event_config_free(config);
	if (!io->base || queue_init(&io->in, METRIC_QUEUE_IN))
		return err_errno(err, "cannot make an I/O thread's event base");
	io->wake = event_new(io->base, io->in.fd, EV_READ | EV_PERSIST, drain_in, io);
	io->give_later = event_new(io->base, -1, 0, give_due, io);
	if (!io->wake || !io->give_later || event_add(io->wake, NULL))
		return err_set(err, ERR_MEMORY, "no memory for an I/O thread");
	/* Signals are the loop thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&io->thread, NULL, thread_main, io);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_set(err, ERR_SYSTEM, "cannot start an I/O thread (error %d)", rc);
	io->started = true;
	return 0;
}

struct pool *pool_new(struct loop *loop, int n, struct err *err)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool || !(pool->ios = calloc((size_t)n, sizeof(*pool->ios)))) {
		free(pool);
		err_set(err, ERR_MEMORY, "no memory for the I/O threads");
		return NULL;
	}
	pool->loop = loop;
	pool->n = n;
	for (int i = 0; i < n; i++)
		pool->ios[i].in.fd = -1;
	if (queue_init(&pool->out, METRIC_QUEUE_OUT)) {
		err_errno(err, "cannot make the queue from the I/O threads");
		goto fail;
	}
	pool->wake = event_new(loop_base(loop), pool->out.fd, EV_READ | EV_PERSIST, drain_out,
			       pool);
	if (!pool->wake || event_add(pool->wake, NULL)) {
		err_set(err, ERR_MEMORY, "no memory for the I/O threads");
		goto fail;
	}
	for (int i = 0; i < n; i++) {
		pool->ios[i].loop = loop;
		pool->ios[i].pool = pool;
		pool->ios[i].give_soon.run = give_to_thread;
		gathered_init(&pool->ios[i].from_loop, &pool->ios[i].in);
		gathered_init(&pool->ios[i].to_loop, &pool->out);
		if (start_thread(&pool->ios[i], err))
			goto fail;
	}
	return pool;
fail:
	pool_free(pool);
	return NULL;
}

void pool_stop(struct pool *pool)
{
	for (int i = 0; i < pool->n; i++) {
		struct io *io = &pool->ios[i];

		loop_undefer(pool->loop, &io->give_soon);
		if (!io->started)
			continue;
		io->started = false;
		io->stop.run = stop_thread;
		gather(&io->from_loop, &io->stop);
		give(&io->from_loop);
		pthread_join(io->thread, NULL);
	}
	if (pool->wake) {
		drain_out(-1, 0, pool);
		event_free(pool->wake);
		pool->wake = NULL;
	}
}

void pool_free(struct pool *pool)
{
	if (!pool)
		return;
	pool_stop(pool);
	for (int i = 0; i < pool->n; i++) {
		struct io *io = &pool->ios[i];

		if (io->wake)
			event_free(io->wake);
		if (io->give_later)
			event_free(io->give_later);
		if (io->base) {
			left_events(io->base, "an I/O thread");
			event_base_free(io->base);
		}
		queue_deinit(&io->in);
	}
	queue_deinit(&pool->out);
	free(pool->ios);
	free(pool);
}

int io_count(const struct io *io)
{
	return io->pool->n;
}

int pool_size(const struct pool *pool)
{
	return pool->n;
}

struct io *pool_io(struct pool *pool, unsigned i)
{
	return &pool->ios[i % (unsigned)pool->n];
}

void io_post(struct io *io, struct work *w)
{
	loop_defer(io->loop, &io->give_soon);
	gather(&io->from_loop, w);
}

void io_done(struct io *io, struct work *w)
{
	gather(&io->to_loop, w);
}

struct event_base *io_base(struct io *io)
{
	return io->base;
}

struct loop *io_loop(struct io *io)
{
	return io->loop;
}

void io_set_ssh(struct io *io, void *state, void (*stop)(void *state))
{
	io->ssh = state;
	io->ssh_stop = stop;
}

void *io_ssh(struct io *io)
{
	return io->ssh;
}
