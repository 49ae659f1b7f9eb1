/* SPDX-License-Identifier: MIT */
/* redis: commands in flight over one connection. hiredis calls back in the order of sending; each
 * command has a struct of ours, in a list while its answer is owed. When the caller has been
 * answered early (time limit, redis_free) the struct stays with hiredis until it lets go. Loop
 * thread. */
#include "redis.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "log.h"
#include "metrics.h"
#include "rounds.h"
#include "redis_hub.h"
#include "redis_link.h"

#define CONNECT_MS 5000
#define COMMAND_MS 10000
#define MAX_BYTES (64u << 20)
#define MAX_COMMANDS 100000
#define SCRATCH_KEPT (1u << 20) /* bytes of the buffer for commands that are kept for the next */
/* A call costs Redis and its disk as much as ten records, and a store that answers in 0.2 ms would get one
 * for every host or two. */
#define ROUND_MS 15
#define SCAN_MS 20 /* looks at time limits at most this often */

struct request {
	struct redis *redis; /* NULL: answered */
	struct request *next, **link;
	redis_cb *cb;
	void *arg;
	size_t bytes;
	int64_t due_ms;
	int64_t sent_us; /* loop_tick_us */
};

struct redis {
	struct loop *loop;
	struct redis_setup setup;
	size_t max_bytes;
	unsigned max_commands;
	void (*on_state)(void *arg, bool up, const struct err *why);
	void *arg;
	struct redis_link link;
	struct redis_info info;
	struct err why; /* message "": up, or not tried yet */
	struct redis_hub *hub; /* of subscriptions; NULL until the first */
	struct request *first, **last; /* in the order of sending */
	unsigned pending;
	size_t bytes;
	struct timer scan;
	int64_t scan_due_ms;  /* INT64_MAX: none planned */
	unsigned in_flight;   /* sent on this connection and not replied to, answered early or not */
	int64_t silent_ms;    /* since when nothing came though something is in flight */
	struct buf scratch;   /* a command that is being made */
	struct rounds asking, telling; /* of small calls */
	bool *gone;           /* set by redis_free while a loop over requests is under way */
	bool closing;         /* redis_free is under way, or was and somebody still holds a ref */
	bool closed;          /* redis_free has come to its end */
	unsigned refs;        /* beside its owner's */
};

/* ---- answering ---- */

static void take_out(struct redis *r, struct request *q)
{
	*q->link = q->next;
	if (q->next)
		q->next->link = q->link;
	else
		r->last = q->link;
	r->pending--;
	metric_add(METRIC_REDIS_PENDING, -1);
	r->bytes -= q->bytes;
	q->redis = NULL;
}

/* Answers without a reply; the struct stays with hiredis. r may be gone after. */
static void answer_err(struct redis *r, struct request *q, int code, const char *text)
{
	redis_cb *cb = q->cb;
	struct err err;

	take_out(r, q);
	metric_add(code == ERR_TIMEOUT ? METRIC_REDIS_TIMEOUT : METRIC_REDIS_LOST, 1);
	err_set(&err, code, "%s", text);
	if (cb)
		cb(q->arg, NULL, &err);
}

/* Redis is there but cannot serve: the connection is made anew, which waits for it or repairs it.
 * */
static void reconnect_on(struct request *q, const redisReply *reply, struct err *err)
{
	if (redis_reply_err(reply, err) != -ERR_AWAY)
		err->code = ERR_OK;
	else if (strncmp(reply->str, "BUSY", 4))
		redis_link_fail(&q->redis->link, err);
}

static void count_reply(const redisAsyncContext *ac)
{
	const struct redis_link *l = ac->data;
	struct redis *r = l ? l->arg : NULL;

	if (!r)
		return;
	r->in_flight--;
	r->silent_ms = loop_now_ms();
}

static void count_end(const struct request *q, const redisReply *reply)
{
	if (!reply) {
		metric_add(METRIC_REDIS_LOST, 1);
		return;
	}
	metric_add(reply->type == REDIS_REPLY_ERROR ? METRIC_REDIS_ERROR : METRIC_REDIS_OK, 1);
	metric_observe(METRIC_TIME_REDIS, loop_tick_us() - q->sent_us);
}

static void on_reply(redisAsyncContext *ac, void *reply, void *privdata)
{
	struct request *q = privdata;
	struct err err = { 0 };
	redis_cb *cb;
	void *arg;

	if (reply)
		count_reply(ac);
	else
		redis_link_lost(ac);
	if (reply && q->redis && ((redisReply *)reply)->type == REDIS_REPLY_ERROR)
		reconnect_on(q, reply, &err);
	if (!q->redis) {
		free(q);
		return;
	}
	take_out(q->redis, q);
	count_end(q, reply);
	cb = q->cb;
	arg = q->arg;
	free(q);
	if (!reply)
		err_set(&err, ERR_UNREACHABLE, "the connection to redis broke before the reply");
	if (cb)
		cb(arg, err.code ? NULL : reply, err.code ? &err : NULL);
}

/* ---- time limits ---- */

static void plan_scan(struct redis *r, int64_t due_ms)
{
	int64_t ms;

	if (due_ms >= r->scan_due_ms)
		return;
	r->scan_due_ms = due_ms;
	ms = due_ms - loop_now_ms();
	timer_set(&r->scan, ms < SCAN_MS ? SCAN_MS : ms);
}

/* Redis has said nothing for a whole limit though it should: a half-open connection. */
static bool end_silence(struct redis *r, int64_t now)
{
	struct err why;

	if (!r->in_flight || now - r->silent_ms < r->setup.command_ms)
		return false;
	err_set(&why, ERR_TIMEOUT, "redis at %s has not answered for %lld ms", r->setup.address.text,
		(long long)(now - r->silent_ms));
	redis_link_fail(&r->link, &why);
	return true;
}

static void on_scan(void *arg)
{
	struct redis *r = arg;
	int64_t now = loop_now_ms(), next = INT64_MAX;
	struct request *q, *after;
	bool gone = false;

	r->scan_due_ms = INT64_MAX;
	r->gone = &gone;
	for (q = r->first; q; q = after) {
		after = q->next;
		if (q->due_ms > now) {
			next = q->due_ms < next ? q->due_ms : next;
			continue;
		}
		/* The callback may only add at the end, or free all; so `after` holds unless gone. */
		answer_err(r, q, ERR_TIMEOUT, "redis did not answer within the time limit");
		if (gone)
			return;
	}
	r->gone = NULL;
	if (end_silence(r, now))
		return;
	if (r->in_flight && r->silent_ms + r->setup.command_ms < next)
		next = r->silent_ms + r->setup.command_ms;
	if (next < INT64_MAX)
		plan_scan(r, next);
}

/* ---- sending ---- */

static int check_room(struct redis *r, size_t len, struct err *err)
{
	if (!r->link.up)
		return err_set(err, ERR_AWAY, "%s",
			       *r->why.message ? r->why.message : "not connected to redis yet");
	if (r->pending >= r->max_commands || r->bytes + len > r->max_bytes)
		return err_set(err, ERR_LIMIT, "%u commands of %zu bytes wait for redis already",
			       r->pending, r->bytes);
	return 0;
}

static void put_in(struct redis *r, struct request *q)
{
	q->redis = r;
	q->next = NULL;
	q->link = r->last;
	*r->last = q;
	r->last = &q->next;
	r->pending++;
	metric_add(METRIC_REDIS_PENDING, 1);
	r->bytes += q->bytes;
}

/* hiredis looks at the byte after the command, which must be NUL. */
static int send_text(struct redis *r, const char *resp, size_t len, redis_cb *cb, void *arg,
		     int64_t timeout_ms, struct err *err)
{
	int rc = check_room(r, len, err);
	struct request *q;

	if (rc)
		return rc;
	q = malloc(sizeof(*q));
	if (!q)
		return err_set(err, ERR_MEMORY, "redis: not enough memory");
	q->cb = cb;
	q->arg = arg;
	q->bytes = len + sizeof(*q);
	q->sent_us = loop_tick_us();
	q->due_ms = loop_now_ms() + (timeout_ms > 0 ? timeout_ms : r->setup.command_ms);
	if (redisAsyncFormattedCommand(r->link.ac, on_reply, q, resp, len) != REDIS_OK) {
		free(q);
		return err_set(err, ERR_AWAY, "the connection to redis is ending");
	}
	put_in(r, q);
	if (r->in_flight++ == 0)
		r->silent_ms = loop_now_ms();
	plan_scan(r, q->due_ms);
	return 0;
}

struct buf *redis_scratch(struct redis *r)
{
	buf_clear(&r->scratch);
	return &r->scratch;
}

int redis_raw(struct redis *r, struct buf *resp, redis_cb *cb, void *arg, int64_t timeout_ms,
	      struct err *err)
{
	const char *text = buf_str(resp);
	int rc = text ? send_text(r, text, resp->len, cb, arg, timeout_ms, err)
		      : err_set(err, ERR_MEMORY, "redis: not enough memory");

	if (resp == &r->scratch && (!text || r->scratch.cap > SCRATCH_KEPT))
		buf_deinit(&r->scratch);
	return rc;
}

int redis_call(struct redis *r, int argc, const char *const *argv, const size_t *lens, redis_cb *cb,
	       void *arg, int64_t timeout_ms, struct err *err)
{
	char *resp = NULL;
	int len, rc = check_room(r, 0, err);

	if (rc)
		return rc;
	len = redisFormatCommandArgv(&resp, argc, (const char **)argv, lens);
	if (len < 0)
		return err_set(err, ERR_MEMORY, "redis: not enough memory");
	rc = send_text(r, resp, (size_t)len, cb, arg, timeout_ms, err);
	redisFreeCommand(resp);
	return rc;
}

/* ---- state ---- */

static void on_up(void *arg)
{
	struct redis *r = arg;

	memset(&r->why, 0, sizeof(r->why));
	r->info.connects++;
	log_info("redis", "connected to redis %s at %s, durability %s", r->info.version,
		 r->setup.address.text, r->info.durability);
	if (r->on_state)
		r->on_state(r->arg, true, NULL);
}

static void on_down(void *arg, const struct err *why)
{
	struct redis *r = arg;

	r->in_flight = 0;
	if (!strcmp(r->why.message, why->message))
		return;
	r->why = *why;
	log_warn("redis", "%s", why->message);
	if (r->on_state)
		r->on_state(r->arg, false, why);
}

bool redis_is_up(const struct redis *r)
{
	return r->link.up;
}

const struct redis_info *redis_get_info(const struct redis *r)
{
	return &r->info;
}

const struct err *redis_get_error(const struct redis *r)
{
	return &r->why;
}

unsigned redis_pending(const struct redis *r, size_t *bytes)
{
	if (bytes)
		*bytes = r->bytes;
	return r->pending;
}

/* ---- life ---- */

static char *copy_text(const char *s, bool *failed)
{
	char *copy = s ? strdup(s) : NULL;

	if (s && !copy)
		*failed = true;
	return copy;
}

static int copy_setup(struct redis_setup *s, const struct redis_options *o, struct err *err)
{
	const char *line = o->library ? strstr(o->library, "\nlocal REVISION = ") : NULL;
	bool failed = false;

	s->address.socket = copy_text(o->address->socket, &failed);
	s->address.host = copy_text(o->address->host, &failed);
	s->address.user = copy_text(o->address->user, &failed);
	s->address.password = copy_text(o->address->password, &failed);
	s->address.port = o->address->port;
	s->address.db = o->address->db;
	memcpy(s->address.text, o->address->text, sizeof(s->address.text));
	s->library = copy_text(o->library, &failed);
	s->resolver = copy_text(o->resolver, &failed);
	s->revision = line ? atoi(strchr(line, '=') + 1) : 0;
	s->allow_eviction = o->allow_eviction;
	s->connect_ms = o->connect_ms > 0 ? o->connect_ms : CONNECT_MS;
	s->command_ms = o->command_ms > 0 ? o->command_ms : COMMAND_MS;
	if (failed)
		return err_set(err, ERR_MEMORY, "redis: not enough memory");
	if (o->library && s->revision < 1)
		return err_set(err, ERR_INVALID, "the function library does not say its REVISION");
	return 0;
}

static void free_setup(struct redis_setup *s)
{
	redis_address_deinit(&s->address);
	free(s->library);
	free(s->resolver);
}

struct redis *redis_new(struct loop *loop, const struct redis_options *options, struct err *err)
{
	struct redis *r = calloc(1, sizeof(*r));

	if (!r) {
		err_set(err, ERR_MEMORY, "redis: not enough memory");
		return NULL;
	}
	if (copy_setup(&r->setup, options, err))
		goto fail;
	r->loop = loop;
	r->max_bytes = options->max_bytes ? options->max_bytes : MAX_BYTES;
	r->max_commands = options->max_commands ? options->max_commands : MAX_COMMANDS;
	r->on_state = options->on_state;
	r->arg = options->arg;
	r->last = &r->first;
	r->scan_due_ms = INT64_MAX;
	if (timer_init(&r->scan, loop_base(loop), on_scan, r) ||
	    rounds_init(&r->asking, loop_base(loop), ROUND_MS) ||
	    rounds_init(&r->telling, loop_base(loop), ROUND_MS)) {
		err_set(err, ERR_MEMORY, "redis: not enough memory");
		goto fail;
	}
	if (redis_link_init(&r->link, loop_base(loop), err)) {
		timer_deinit(&r->scan);
		goto fail;
	}
	r->link.setup = &r->setup;
	r->link.info = &r->info;
	r->link.on_up = on_up;
	r->link.on_down = on_down;
	r->link.arg = r;
	redis_link_start(&r->link);
	return r;

fail:
	free_setup(&r->setup);
	free(r);
	return NULL;
}

void redis_free(struct redis *r)
{
	if (!r || r->closing)
		return;
	r->closing = true;
	if (r->gone)
		*r->gone = true;
	/* Callbacks find a client that is not up; they cannot add to the list. */
	r->link.up = false;
	err_set(&r->why, ERR_CLOSED, "the redis client was closed");
	while (r->first)
		answer_err(r, r->first, ERR_CLOSED, "the redis client was closed");
	redis_hub_free(r->hub);
	redis_link_deinit(&r->link);
	timer_deinit(&r->scan);
	rounds_deinit(&r->asking);
	rounds_deinit(&r->telling);
	free_setup(&r->setup);
	buf_deinit(&r->scratch);
	r->closed = true;
	if (!r->refs)
		free(r);
}

struct redis *redis_ref(struct redis *r)
{
	r->refs++;
	return r;
}

void redis_unref(struct redis *r)
{
	if (--r->refs == 0 && r->closed)
		free(r);
}

struct rounds *redis_rounds(struct redis *r, enum redis_kind kind)
{
	return kind == REDIS_ASKING ? &r->asking : &r->telling;
}

bool redis_is_closed(const struct redis *r)
{
	return r->closing;
}

struct redis_sub *redis_subscribe(struct redis *r, const char *channel,
				  const struct redis_sub_ops *ops, void *arg, struct err *err)
{
	if (!r->hub)
		r->hub = redis_hub_new(loop_base(r->loop), &r->setup, err);
	return r->hub ? redis_hub_add(r->hub, channel, ops, arg, err) : NULL;
}
