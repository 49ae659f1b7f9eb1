/* SPDX-License-Identifier: MIT */
/* sink: batches of entries, in order, at most a few under way.
 *
 * A batch is one call of append. While one is under way, and until the next round (rounds.h), what comes is
 * gathered; a full one goes out at once, and so does the first of all when the store is quiet. So there are no
 * more calls than the store has time for, and the more hosts end at once, the less each costs; started bits
 * are asked for in the same way. All sinks have the same rounds: the store writes its file once for their
 * calls. When a call fails in a way that leaves open whether it was done, every batch under way is waited for
 * and all that are not acknowledged are sent again, oldest first, with their numbers. An answer that says that
 * the slice is another owner's ends the fan-out: what it still gives is dropped. The sink is counted: its
 * binding holds it, and every call under way. Loop thread. */
#include "sink.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "metrics.h"
#include "redis.h"
#include "rounds.h"

#define BATCH_ENTRIES 256
#define BATCH_BYTES (512 * 1024)
/* Few: what the socket does not take at once the client of Redis moves to the front with each write. */
#define UNDER_WAY_MAX 2
/* What is smaller waits for the next round of the store's client. */
#define PACED_BYTES (16 * 1024)
/* Hosts in one call of mark. */
#define MARK_MAX 1024
#define RETRY_MS 250
/* What is kept of each output stream once the job's outputs are over their limit, or the store is nearly
 * full. */
#define CUT_BYTES 4096
/* What a part costs the store beside its bytes. */
#define PART_COST 100

struct batch {
	struct batch *next;
	struct entry *entries;
	size_t n;
	uint64_t seq;
};

struct sink {
	int refs;
	struct loop *loop;
	struct redis *redis;
	struct fanout *fanout;
	char *jid;
	char *head; /* how its records begin, in place of their brace; "" when they bear no name */
	size_t head_len;
	int64_t k, epoch, effect, job_output;
	bool marks, open;
	struct batch *first, **last; /* not acknowledged, oldest first */
	struct batch *unsent;        /* the first of them that is to be sent */
	struct entry *waiting, **waiting_last; /* not in a batch yet */
	size_t nwaiting, waiting_bytes;
	uint64_t seq;
	unsigned under_way;
	bool complained;
	bool unnumbered;
	bool resend; /* something failed: wait until nothing is under way, then send again */
	struct mark_call *marks_first; /* in order; the first may be under way, the last may grow */
	struct round_turn append_turn, mark_turn; /* of small calls */
	struct timer retry;
	struct deferred pump;
	struct err lost; /* code: the slice is not ours any more */
};

struct mark_call {
	struct mark_call *next;
	size_t n;
	bool sent, done, ok;
	bool again; /* set already: only whether the slice is ours is asked */
	struct sink *sink;
	struct fanout_mark marks[];
};

static void pump(struct deferred *d);

static void retry_due(void *arg)
{
	struct sink *s = arg;

	loop_defer(s->loop, &s->pump);
}

/* {"name":"...", to begin a record with; false when memory is out. */
static bool make_head(struct sink *s, const char *name)
{
	struct buf b = { 0 };

	if (!name)
		return true;
	buf_printf(&b, "{\"name\":");
	buf_json_string(&b, name, strlen(name));
	buf_add(&b, ",", 1);
	s->head_len = b.len;
	s->head = b.failed ? NULL : malloc(b.len);
	if (s->head)
		memcpy(s->head, b.data, b.len);
	buf_deinit(&b);
	return s->head != NULL;
}

struct sink *sink_new(struct loop *loop, struct redis *redis, const struct sink_slice *slice)
{
	struct sink *s = calloc(1, sizeof(*s));

	if (!s || !(s->jid = strdup(slice->jid)) || !make_head(s, slice->name) ||
	    timer_init(&s->retry, loop_base(loop), retry_due, s))
		goto fail;
	s->refs = 1;
	s->loop = loop;
	s->redis = redis_ref(redis);
	s->k = slice->k;
	s->epoch = slice->epoch;
	s->effect = slice->effect;
	s->job_output = slice->job_output;
	s->marks = slice->marks;
	s->open = slice->open;
	s->unnumbered = slice->unnumbered;
	s->last = &s->first;
	s->waiting_last = &s->waiting;
	s->pump.run = pump;
	round_turn_init(&s->append_turn, loop, &s->pump);
	round_turn_init(&s->mark_turn, loop, &s->pump);
	return s;
fail:
	if (s) {
		free(s->jid);
		free(s->head);
	}
	free(s);
	return NULL;
}

struct sink *sink_ref(struct sink *s)
{
	s->refs++;
	return s;
}

void sink_unref(struct sink *s)
{
	if (--s->refs)
		return;
	loop_undefer(s->loop, &s->pump);
	timer_deinit(&s->retry);
	round_turn_deinit(&s->append_turn);
	round_turn_deinit(&s->mark_turn);
	redis_unref(s->redis);
	free(s->jid);
	free(s->head);
	free(s);
}

void sink_attach(struct sink *s, struct fanout *f)
{
	s->fanout = f;
}

int sink_result(const struct sink *s, struct err *err)
{
	if (!s->lost.code)
		return 0;
	*err = s->lost;
	return -s->lost.code;
}

static void pump_soon(struct sink *s)
{
	loop_defer(s->loop, &s->pump);
}

static void pump_later(struct sink *s)
{
	if (!event_pending(s->retry.ev, EV_TIMEOUT, NULL))
		timer_set(&s->retry, RETRY_MS);
}

/* The node ends: what could not be written will not be, and nobody has to wait for it. */
static void lose_closed(struct sink *s)
{
	err_set(&s->lost, ERR_CLOSED, "the store was closed");
	fanout_abandon(s->fanout);
	pump_soon(s);
}

/* ---- what the store answers ---- */

static bool starts_with(const redisReply *r, const char *word)
{
	size_t n = strlen(word);

	return r->len >= n && !memcmp(r->str, word, n);
}

/* The slice is not ours, or the store does not know it: nothing more of it is written here. */
static bool is_lost(const redisReply *r)
{
	return starts_with(r, "STALE") || starts_with(r, "GONE") || starts_with(r, "ENDED") ||
	       starts_with(r, "INVALID");
}

static void lose(struct sink *s, const redisReply *r)
{
	if (s->lost.code)
		return;
	err_set(&s->lost, ERR_REFUSED, "%.200s", r->str);
	log_warn("sink", "jid=%s slice=%" PRId64 " is given up: %.200s", s->jid, s->k, r->str);
	fanout_abandon(s->fanout);
	pump_soon(s);
}

static void stopped(struct sink *s, const char *reason, size_t n)
{
	char text[256];

	snprintf(text, sizeof(text), "%.*s", (int)n, reason);
	fanout_cancel(s->fanout, text);
}

/* Said once until something works again. */
static void complain(struct sink *s, const char *what, const redisReply *r, const struct err *err)
{
	if (!s->complained)
		log_warn("sink", "jid=%s slice=%" PRId64 " %s: %s", s->jid, s->k, what,
			 err ? err->message : r && r->str ? r->str : "answers came out of order");
	s->complained = true;
}

/* ---- sending ---- */

static void put_length(struct buf *b, size_t n)
{
	buf_putc(b, '$');
	buf_integer(b, (long long)n);
	buf_add(b, "\r\n", 2);
}

static void put_arg(struct buf *b, const void *data, size_t n)
{
	put_length(b, n);
	buf_add(b, data, n);
	buf_add(b, "\r\n", 2);
}

static void put_number(struct buf *b, int64_t v)
{
	char text[BUF_DIGITS];

	put_arg(b, text, buf_digits(text, v));
}

static struct buf *put_head(struct sink *s, const char *function, size_t nargs)
{
	struct buf *b = redis_scratch(s->redis);

	buf_printf(b, "*%zu\r\n", nargs + 6);
	put_arg(b, "FCALL", 5);
	put_arg(b, function, strlen(function));
	put_arg(b, "0", 1);
	put_arg(b, s->jid, strlen(s->jid));
	put_number(b, s->k);
	put_number(b, s->epoch);
	return b;
}

static void put_entry(const struct sink *s, struct buf *b, const struct entry *e)
{
	bool named = s->head && e->kind == ENTRY_RECORD && e->len > 1;
	size_t skip = named ? 1 : 0, more = named ? s->head_len : 0;
	char head[64] = "";
	int n = 0;

	if (s->open)
		put_number(b, e->effect);
	put_number(b, e->index);
	if (e->kind == ENTRY_PART) {
		put_arg(b, "part", 4);
		n = snprintf(head, sizeof(head), "%d %" PRIu64 "\n", e->stream, e->offset);
	} else {
		put_arg(b, "record", 6);
		if (e->parts)
			n = snprintf(head, sizeof(head), "%u", e->parts);
	}
	put_number(b, e->kind == ENTRY_PART ? 0 : e->status);
	/* What short lines cost the store is not their bytes. */
	put_number(b, (int64_t)e->len + (e->kind == ENTRY_PART ? PART_COST : 0));
	put_length(b, (size_t)n + e->len - skip + more);
	buf_add(b, head, (size_t)n);
	if (named)
		buf_add(b, s->head, more);
	buf_add(b, e->data + skip, e->len - skip);
	buf_add(b, "\r\n", 2);
}

struct batch_call {
	struct sink *sink;
	struct batch *batch;
};

static void on_appended(void *arg, const struct redisReply *reply, const struct err *err);

static int send_batch(struct sink *s, struct batch *batch)
{
	struct batch_call *call = malloc(sizeof(*call));
	struct buf *b;
	int rc;

	if (!call)
		return -ERR_MEMORY;
	b = put_head(s, s->open ? "exed_1_append_ops" : "exed_1_append",
		     2 + (s->open ? 6 : 5) * batch->n);
	put_number(b, s->effect);
	put_number(b, (int64_t)batch->seq);
	for (const struct entry *e = batch->entries; e; e = e->next)
		put_entry(s, b, e);
	call->sink = s;
	call->batch = batch;
	rc = redis_raw(s->redis, b, on_appended, call, 0, NULL);
	if (rc) {
		free(call);
		return rc;
	}
	s->under_way++;
	sink_ref(s);
	return 0;
}

/* Batches are acknowledged in their order, so this is the first. */
static void batch_taken(struct sink *s, struct batch *batch)
{
	s->first = batch->next;
	if (!s->first)
		s->last = &s->first;
	fanout_taken(s->fanout, batch->entries);
	free(batch);
}

static void read_answer(struct sink *s, const redisReply *r)
{
	if (r->type != REDIS_REPLY_ARRAY || r->elements < 4)
		return;
	if (r->element[2]->integer > s->job_output ||
	    (r->elements > 4 && r->element[4]->integer))
		fanout_cut_output(s->fanout, CUT_BYTES);
	if (r->element[3]->len)
		stopped(s, r->element[3]->str, r->element[3]->len);
}

static void on_appended(void *arg, const struct redisReply *reply, const struct err *err)
{
	struct batch_call call = *(struct batch_call *)arg;
	struct sink *s = call.sink;

	free(arg);
	s->under_way--;
	if (reply && reply->type != REDIS_REPLY_ERROR && call.batch == s->first && !s->resend) {
		s->complained = false;
		read_answer(s, reply);
		metric_add(METRIC_SINK_APPENDED, (int64_t)call.batch->n);
		batch_taken(s, call.batch);
	} else if (reply && reply->type == REDIS_REPLY_ERROR && is_lost(reply)) {
		lose(s, reply);
	} else {
		complain(s, "records wait", reply, err);
		metric_add(METRIC_SINK_RETRIES, 1);
		s->resend = true;
	}
	pump_soon(s);
	sink_unref(s);
}

/* Of entries that wait: there are some. */
static bool make_batch(struct sink *s)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	size_t bytes = 0;

	if (!batch)
		return false;
	batch->entries = s->waiting;
	while (s->waiting && batch->n < BATCH_ENTRIES && bytes < BATCH_BYTES) {
		struct entry *e = s->waiting;

		bytes += e->len;
		batch->n++;
		s->nwaiting--;
		s->waiting_bytes -= e->len;
		s->waiting = e->next;
		if (!s->waiting)
			s->waiting_last = &s->waiting;
		if (!s->waiting || batch->n == BATCH_ENTRIES || bytes >= BATCH_BYTES)
			e->next = NULL;
	}
	batch->seq = s->unnumbered ? 0 : ++s->seq;
	*s->last = batch;
	s->last = &batch->next;
	if (!s->unsent)
		s->unsent = batch;
	return true;
}

/* Whether what waits is to be sent now. */
static bool is_due(struct sink *s)
{
	if (!s->waiting)
		return false;
	if (s->nwaiting >= BATCH_ENTRIES || s->waiting_bytes >= BATCH_BYTES)
		return true;
	return !s->under_way && (s->waiting_bytes >= PACED_BYTES ||
				 rounds_go(redis_rounds(s->redis, REDIS_TELLING), &s->append_turn));
}

static void take_all(struct sink *s)
{
	while (s->first)
		batch_taken(s, s->first);
	s->unsent = NULL;
	if (s->waiting) {
		struct entry *list = s->waiting;

		s->waiting = NULL;
		s->waiting_last = &s->waiting;
		s->nwaiting = s->waiting_bytes = 0;
		fanout_taken(s->fanout, list);
	}
}

static void pump_batches(struct sink *s)
{
	if (s->resend) {
		if (s->under_way)
			return;
		s->resend = false;
		s->unsent = s->first;
		pump_later(s);
		return;
	}
	while (s->under_way < UNDER_WAY_MAX && (s->unsent || (s->waiting && is_due(s)))) {
		if ((!s->unsent && !make_batch(s)) || send_batch(s, s->unsent)) {
			pump_later(s);
			return;
		}
		s->unsent = s->unsent->next;
	}
}

/* ---- started bits ---- */

static void on_marked(void *arg, const struct redisReply *reply, const struct err *err)
{
	struct mark_call *m = arg;
	struct sink *s = m->sink;

	m->sent = false;
	if (reply && reply->type != REDIS_REPLY_ERROR) {
		/* What a stopped task still puts back is not stopped. */
		if (m->again && !s->effect && reply->type == REDIS_REPLY_STRING && reply->len)
			stopped(s, reply->str, reply->len);
		m->done = m->ok = true;
	} else if (reply && starts_with(reply, "STOPPED ")) {
		stopped(s, reply->str + 8, reply->len - 8);
		m->done = true;
	} else if (reply && is_lost(reply)) {
		lose(s, reply);
	} else {
		complain(s, "hosts wait for their started bits", reply, err);
		pump_later(s);
	}
	pump_soon(s);
	sink_unref(s);
}

static int send_mark(struct sink *s, struct mark_call *m)
{
	const char *function = m->again ? "exed_1_hold" : s->open ? "exed_1_mark_ops" : "exed_1_mark";
	struct buf *b = put_head(s, function, m->again ? 0 : s->open ? 2 * m->n : 1 + m->n);

	if (!m->again && !s->open)
		put_number(b, s->effect);
	for (size_t i = 0; i < m->n && !m->again; i++) {
		if (s->open)
			put_number(b, m->marks[i].effect);
		put_number(b, m->marks[i].index);
	}
	if (redis_raw(s->redis, b, on_marked, m, 0, NULL))
		return -ERR_AWAY;
	m->sent = true;
	sink_ref(s);
	return 0;
}

/* One call at a time, none too soon after the other; what is reached meanwhile is asked for in the next one. */
static void pump_marks(struct sink *s)
{
	bool waiting = event_pending(s->retry.ev, EV_TIMEOUT, NULL);
	struct mark_call *m;

	while ((m = s->marks_first) && (m->done || (s->lost.code && !m->sent))) {
		s->marks_first = m->next;
		fanout_marked(s->fanout, m->n, m->ok);
		free(m);
	}
	if (m && !m->sent && !waiting &&
	    rounds_go(redis_rounds(s->redis, REDIS_ASKING), &s->mark_turn) && send_mark(s, m))
		pump_later(s);
}

static void pump(struct deferred *d)
{
	struct sink *s = container_of(d, struct sink, pump);

	sink_ref(s);
	/* While something waits here the fan-out lives. */
	if (!s->lost.code && (s->first || s->waiting || s->marks_first) && redis_is_closed(s->redis))
		lose_closed(s);
	pump_marks(s);
	if (!s->lost.code)
		pump_batches(s);
	else if (!s->under_way)
		take_all(s);
	sink_unref(s);
}

/* ---- what the fan-out calls ---- */

/* Without it these hosts could never start: the slice goes back to the store. */
static void mark_failed(struct sink *s, size_t n)
{
	err_set(&s->lost, ERR_MEMORY, "not enough memory to mark %zu hosts", n);
	fanout_abandon(s->fanout);
	fanout_marked(s->fanout, n, false);
}

static void sink_mark(void *arg, const struct fanout_mark *marks, size_t n, bool again)
{
	struct sink *s = arg;
	struct mark_call **at = &s->marks_first, *last = NULL, *m;
	size_t have = 0;

	while (*at && (*at)->next)
		at = &(*at)->next;
	if (*at && ((*at)->sent || (*at)->done || (*at)->again != again || (*at)->n + n > MARK_MAX))
		at = &(*at)->next;
	last = *at;
	have = last ? last->n : 0;
	m = realloc(last, sizeof(*m) + (have + n) * sizeof(*marks));
	if (!m) {
		mark_failed(s, n);
		return;
	}
	if (!last)
		*m = (struct mark_call){ .again = again, .sink = s };
	memcpy(m->marks + have, marks, n * sizeof(*marks));
	m->n = have + n;
	*at = m;
	pump_soon(s);
}

static void sink_append(void *arg, struct entry *list)
{
	struct sink *s = arg;

	*s->waiting_last = list;
	for (; *s->waiting_last; s->waiting_last = &(*s->waiting_last)->next) {
		s->nwaiting++;
		s->waiting_bytes += (*s->waiting_last)->len;
	}
	pump_soon(s);
}

const struct sink_ops *sink_fanout_ops(const struct sink *s)
{
	static const struct sink_ops with_marks = { sink_mark, sink_append };
	static const struct sink_ops without = { NULL, sink_append };

	return s->marks ? &with_marks : &without;
}
