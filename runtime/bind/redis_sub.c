/* SPDX-License-Identifier: MIT */
/* exed.redis, subscriptions:
 *   conn:subscribe(channel) -> sub | nil, err
 *   sub:next(seconds) -> text | nil, err    the next message; "" says: look for yourself, some may
 *     have been missed (the subscription stands, at first and after a reconnect; too many waited)
 *   sub:close() */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "bind/redis_conn.h"
#include "fiber.h"
#include "redis.h"

#define SUB "exed.redis.sub"
#define MESSAGES 1000 /* that wait; then they are forgotten and the reader is told */

struct message {
	struct message *next;
	size_t len;
	char text[];
};

struct sub_wait;

struct sub_box {
	struct redis_conn *conn;
	struct sub_box *next, **link; /* in conn->subs */
	struct redis_sub *sub;        /* NULL: closed */
	struct message *first, **last;
	unsigned waiting;             /* messages */
	struct sub_wait *reader;
};

struct sub_wait {
	struct wait wait; /* first */
	struct sub_box *box; /* NULL once complete */
	struct message *message; /* NULL: there is none, or no memory for it */
	bool closed;
};

/* ---- messages ---- */

static void forget(struct sub_box *box)
{
	struct message *m;

	while ((m = box->first)) {
		box->first = m->next;
		free(m);
	}
	box->last = &box->first;
	box->waiting = 0;
}

static struct message *take_message(struct sub_box *box)
{
	struct message *m = box->first;

	if (!m)
		return NULL;
	box->first = m->next;
	if (!box->first)
		box->last = &box->first;
	box->waiting--;
	return m;
}

static void wake(struct sub_box *box)
{
	struct sub_wait *w = box->reader;

	if (!w)
		return;
	box->reader = NULL;
	w->box = NULL;
	w->message = take_message(box);
	w->closed = !box->sub;
	wait_done(&w->wait);
}

/* "" says that messages may be missing; so it does when there is no memory for one. */
static void put_message(struct sub_box *box, const char *data, size_t len)
{
	struct message *m;

	if (box->waiting >= MESSAGES) {
		forget(box);
		len = 0;
	}
	m = malloc(sizeof(*m) + len);
	if (m) {
		m->next = NULL;
		m->len = len;
		if (len)
			memcpy(m->text, data, len);
		*box->last = m;
		box->last = &m->next;
		box->waiting++;
	}
	wake(box);
}

static void on_message(void *arg, const char *data, size_t len)
{
	put_message(arg, data, len);
}

static void on_subscribed(void *arg)
{
	put_message(arg, NULL, 0);
}

static const struct redis_sub_ops sub_ops = { on_message, on_subscribed };

/* ---- waiting ---- */

static int next_push(struct wait *wait, lua_State *L)
{
	struct sub_wait *w = (struct sub_wait *)wait;
	const struct err err = { ERR_CLOSED, "the subscription was closed" };

	if (w->message)
		lua_pushlstring(L, w->message->text, w->message->len);
	else if (w->closed)
		return fiber_push_err(L, &err, wait->operation);
	else
		lua_pushliteral(L, "");
	return 1;
}

static void next_cancel(struct wait *wait)
{
	struct sub_wait *w = (struct sub_wait *)wait;

	if (w->box)
		w->box->reader = NULL;
	w->box = NULL;
}

static void next_free(struct wait *wait)
{
	struct sub_wait *w = (struct sub_wait *)wait;

	next_cancel(wait);
	free(w->message);
	free(w);
}

static const struct wait_ops next_ops = { next_push, next_cancel, next_free };

static int l_next(lua_State *L)
{
	struct sub_box *box = luaL_checkudata(L, 1, SUB);
	int64_t ms = bind_check_ms(L, 2, -1);
	struct sub_wait *w;

	if (box->reader)
		return luaL_error(L, "another fiber waits for this subscription already");
	w = calloc(1, sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	wait_init(&w->wait, &next_ops, "redis.next", ms);
	box->reader = w;
	w->box = box;
	if (box->first || !box->sub)
		wake(box);
	return fiber_await(L, &w->wait);
}

/* ---- life ---- */

/* by_conn: the client frees its subscriptions itself. */
static void close_sub(struct sub_box *box, bool by_conn)
{
	if (!box->sub)
		return;
	if (!by_conn)
		redis_unsubscribe(box->sub);
	box->sub = NULL;
	*box->link = box->next;
	if (box->next)
		box->next->link = box->link;
	forget(box);
	wake(box);
}

void bind_redis_subs_close(struct redis_conn *conn)
{
	while (conn->subs)
		close_sub(conn->subs, true);
}

static int l_close(lua_State *L)
{
	close_sub(luaL_checkudata(L, 1, SUB), false);
	return 0;
}

static int l_gc(lua_State *L)
{
	struct sub_box *box = luaL_checkudata(L, 1, SUB);

	close_sub(box, false);
	if (box->conn)
		bind_conn_unref(box->conn);
	box->conn = NULL;
	return 0;
}

int bind_redis_subscribe(lua_State *L)
{
	struct redis_conn *conn = bind_check_conn(L, 1);
	const char *channel = luaL_checkstring(L, 2);
	struct sub_box *box = lua_newuserdatauv(L, sizeof(*box), 0);
	struct err err;

	memset(box, 0, sizeof(*box));
	box->last = &box->first;
	luaL_setmetatable(L, SUB);
	box->sub = redis_subscribe(conn->redis, channel, &sub_ops, box, &err);
	if (!box->sub)
		return fiber_push_err(L, &err, "redis.subscribe");
	box->conn = conn;
	conn->refs++;
	box->next = conn->subs;
	box->link = &conn->subs;
	if (box->next)
		box->next->link = &box->next;
	conn->subs = box;
	return 1;
}

static const luaL_Reg methods[] = {
	{ "next", l_next },
	{ "close", l_close },
	{ NULL, NULL },
};

void bind_redis_sub_class(lua_State *L)
{
	bind_class(L, SUB, methods, l_gc);
}
