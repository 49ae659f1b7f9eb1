/* SPDX-License-Identifier: MIT */
/* exed.redis:
 *   connect(url | options) -> conn       returns at once and connects on its own; options: url,
 *     library (text of the functions), resolver (addresses by comma), allow_eviction, buffer
 *     (bytes), connect_timeout, timeout (s)
 *   conn:ready(seconds) -> true | nil, err    waits; ends early when redis refuses (code "refused")
 *   conn:call([{timeout = s},] command, ...) -> reply | nil, err
 *   conn:fcall([{timeout = s},] name, ...) -> reply | nil, err       FCALL name 0 ...; sent once
 *     more when the server had lost the functions
 *   conn:fields(key, names) -> table | nil, err    HMGET: { name = text } of the fields that there are;
 *     names: a list, which does not change any more
 *   conn:subscribe(channel) -> sub       (redis_sub.c)
 *   conn:up() -> true | false, reason    conn:info() -> table     conn:close()
 * Arguments are strings and integers; a table is a list of such, put in its place. Replies:
 * integers, strings (status too), lists; nil is nil, in a list false. An error reply is nil and an
 * err whose code is its first word in lower case ("stale", "conflict", ...) and whose message is
 * the rest. Other codes: away and limit (certainly not done), unreachable, timeout and closed
 * (nobody knows). */
#include "redis.h"

#include <ctype.h>
#include <hiredis/hiredis.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "bind.h"
#include "bind/redis_conn.h"
#include "buf.h"
#include "fiber.h"
#include "script.h"

#define CONN "exed.redis"
#define ARGUMENT_BYTES 24 /* of a short argument: about so many are asked for at once */

struct ticket;

/* A fiber in call, fcall or ready. */
struct call_wait {
	struct wait wait; /* first */
	struct ticket *ticket;            /* with the client; NULL when nothing is there */
	struct call_wait *next, **link;   /* in conn->ready or conn->again */
	struct redis_conn *conn;
	struct redisReply *reply;
	struct err err;                   /* code 0: there is a reply (or ready is true) */
	struct buf resp;                  /* fcall: the command, to send it again */
	bool named;                       /* the reply's values belong to the names at index 3 */
	int64_t timeout_ms;
};

/* What the client holds: outlives the wait when that is cancelled. */
struct ticket {
	struct call_wait *w;
};

/* ---- lists of waits ---- */

static void put_wait(struct call_wait **list, struct call_wait *w)
{
	w->next = *list;
	w->link = list;
	if (w->next)
		w->next->link = &w->next;
	*list = w;
}

static void take_wait(struct call_wait *w)
{
	if (!w->link)
		return;
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	w->link = NULL;
}

static void finish_wait(struct call_wait *w, const struct err *err)
{
	take_wait(w);
	if (err)
		w->err = *err;
	wait_done(&w->wait);
}

static void finish_list(struct call_wait **list, const struct err *err)
{
	while (*list)
		finish_wait(*list, err);
}

/* ---- replies ---- */

static void push_reply(lua_State *L, const struct redisReply *r)
{
	switch (r->type) {
	case REDIS_REPLY_INTEGER:
		lua_pushinteger(L, r->integer);
		break;
	case REDIS_REPLY_NIL:
		lua_pushboolean(L, 0);
		break;
	case REDIS_REPLY_ARRAY:
		luaL_checkstack(L, 4, "reply is nested too deeply");
		lua_createtable(L, (int)r->elements, 0);
		for (size_t i = 0; i < r->elements; i++) {
			push_reply(L, r->element[i]);
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		break;
	default:
		lua_pushlstring(L, r->str, r->len);
	}
}

/* A table of those values that there are, by the names in the list at index 3. */
static void push_named(lua_State *L, const struct redisReply *r)
{
	lua_createtable(L, 0, (int)r->elements);
	for (size_t i = 0; i < r->elements; i++) {
		if (r->element[i]->type == REDIS_REPLY_NIL)
			continue;
		lua_rawgeti(L, 3, (lua_Integer)i + 1);
		push_reply(L, r->element[i]);
		lua_rawset(L, -3);
	}
}

static int push_error_reply(lua_State *L, const struct redisReply *r, const char *operation)
{
	const struct err err = { .code = ERR_REFUSED };
	size_t word = strcspn(r->str, " ");
	char code[32];

	if (word >= sizeof(code))
		word = sizeof(code) - 1;
	for (size_t i = 0; i < word; i++)
		code[i] = (char)tolower((unsigned char)r->str[i]);
	fiber_push_err(L, &err, operation);
	lua_pushlstring(L, code, word);
	lua_setfield(L, -2, "code");
	lua_pushstring(L, r->str[word] ? r->str + word + 1 : "");
	lua_setfield(L, -2, "message");
	return 2;
}

static int call_push(struct wait *wait, lua_State *L)
{
	struct call_wait *w = (struct call_wait *)wait;

	if (w->err.code)
		return fiber_push_err(L, &w->err, wait->operation);
	if (!w->reply)
		lua_pushboolean(L, 1);
	else if (w->reply->type == REDIS_REPLY_ERROR)
		return push_error_reply(L, w->reply, wait->operation);
	else if (w->reply->type == REDIS_REPLY_NIL)
		lua_pushnil(L);
	else if (w->named)
		push_named(L, w->reply);
	else
		push_reply(L, w->reply);
	return 1;
}

static void call_cancel(struct wait *wait)
{
	struct call_wait *w = (struct call_wait *)wait;

	take_wait(w);
	if (w->ticket)
		w->ticket->w = NULL;
	w->ticket = NULL;
}

static void call_free(struct wait *wait)
{
	struct call_wait *w = (struct call_wait *)wait;

	redis_reply_free(w->reply);
	buf_deinit(&w->resp);
	bind_conn_unref(w->conn);
	free(w);
}

static const struct wait_ops call_ops = { call_push, call_cancel, call_free };

static struct call_wait *make_wait(struct redis_conn *conn, const char *operation,
				   int64_t timeout_ms)
{
	struct call_wait *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	wait_init(&w->wait, &call_ops, operation, timeout_ms);
	w->conn = conn;
	conn->refs++;
	return w;
}

/* ---- calls ---- */

static bool lost_functions(const struct err *err)
{
	return err->code == ERR_AWAY && strstr(err->message, "Function not found");
}

static void on_reply(void *arg, const struct redisReply *reply, const struct err *err)
{
	struct ticket *t = arg;
	struct call_wait *w = t->w;

	free(t);
	if (!w)
		return;
	w->ticket = NULL;
	if (reply) {
		w->reply = redis_reply_take(reply);
	} else if (w->resp.len && lost_functions(err) && w->conn->redis) {
		put_wait(&w->conn->again, w);
		return;
	} else {
		w->err = *err;
	}
	wait_done(&w->wait);
}

/* Sends it; on failure err is what the fiber gets. */
static int send_wait(struct call_wait *w, struct buf *resp, struct err *err)
{
	struct ticket *t = malloc(sizeof(*t));
	int rc;

	if (!t)
		return err_set(err, ERR_MEMORY, "not enough memory");
	t->w = w;
	w->ticket = t;
	rc = redis_raw(w->conn->redis, resp, on_reply, t, w->timeout_ms, err);
	if (rc) {
		w->ticket = NULL;
		free(t);
	}
	return rc;
}

static void send_again(struct redis_conn *conn)
{
	while (conn->again) {
		struct call_wait *w = conn->again;
		struct buf resp = w->resp;
		struct err err;

		take_wait(w);
		w->resp = (struct buf){ 0 }; /* once only */
		if (send_wait(w, &resp, &err))
			finish_wait(w, &err);
		buf_deinit(&resp);
	}
}

static void on_state(void *arg, bool up, const struct err *why)
{
	struct redis_conn *conn = arg;
	struct err undone;

	if (up) {
		finish_list(&conn->ready, NULL);
		send_again(conn);
		return;
	}
	if (why->code == ERR_REFUSED)
		finish_list(&conn->ready, why);
	/* A call waits for one new connection, not for the end of an outage. */
	undone = *why;
	if (undone.code != ERR_REFUSED)
		undone.code = ERR_AWAY;
	finish_list(&conn->again, &undone);
}

/* A command has dozens of these, so the room for one is asked for once. */
static void add_bytes(struct buf *resp, const char *s, size_t n)
{
	char *at;

	if (buf_reserve(resp, n + BUF_DIGITS + sizeof("$\r\n\r\n")))
		return;
	at = resp->data + resp->len;
	*at++ = '$';
	at += buf_digits(at, (long long)n);
	*at++ = '\r';
	*at++ = '\n';
	memcpy(at, s, n);
	at += n;
	*at++ = '\r';
	*at++ = '\n';
	resp->len = (size_t)(at - resp->data);
}

/* Appends the value at idx; false when it is none that redis takes. */
static bool add_value(lua_State *L, int idx, struct buf *resp)
{
	char number[BUF_DIGITS];
	const char *s;
	size_t n;

	if (lua_type(L, idx) == LUA_TSTRING) {
		s = lua_tolstring(L, idx, &n);
		add_bytes(resp, s, n);
		return true;
	}
	if (!lua_isinteger(L, idx))
		return false;
	add_bytes(resp, number, buf_digits(number, lua_tointeger(L, idx)));
	return true;
}

/* Appends the list at idx; false when something in it will not do. */
static bool add_list(lua_State *L, int idx, struct buf *resp)
{
	lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
	bool good = true;

	for (lua_Integer i = 1; i <= n && good; i++) {
		lua_rawgeti(L, idx, i);
		good = add_value(L, lua_gettop(L), resp);
		lua_pop(L, 1);
	}
	return good;
}

/* The arguments from idx on as a command; `first` are words before them. Raises for an argument that
 * will not do. */
static void format_command(lua_State *L, int idx, const char *const *first, int nfirst,
			   struct buf *out)
{
	int top = lua_gettop(L), bad = 0;
	long long count = nfirst;

	luaL_checkstack(L, 4, "too many arguments");
	for (int i = idx; i <= top; i++)
		count += lua_istable(L, i) ? (long long)lua_rawlen(L, i) : 1;
	buf_reserve(out, (size_t)count * ARGUMENT_BYTES);
	buf_putc(out, '*');
	buf_integer(out, count);
	buf_add(out, "\r\n", 2);
	for (int i = 0; i < nfirst; i++)
		add_bytes(out, first[i], strlen(first[i]));
	for (int i = idx; i <= top && !bad; i++)
		if (!(lua_istable(L, i) ? add_list(L, i, out) : add_value(L, i, out)))
			bad = i;
	if (bad || out->failed)
		buf_deinit(out);
	if (bad)
		luaL_argerror(L, bad, "a string, an integer or a list of them");
	if (!out->len)
		luaL_error(L, "not enough memory");
}

/* The {timeout = s} table at 2, taken away; 0 when there is none. */
static int64_t take_options(lua_State *L)
{
	int64_t ms = 0;

	if (!lua_istable(L, 2))
		return 0;
	lua_getfield(L, 2, "timeout");
	ms = bind_check_ms(L, lua_gettop(L), 0);
	lua_pop(L, 1);
	lua_remove(L, 2);
	return ms;
}

enum kind { AS_CALL, AS_FUNCTION, AS_FIELDS };

/* A function's resp is kept, to send it again; any other is the client's own. */
static int start_call(lua_State *L, struct redis_conn *conn, struct buf *resp, enum kind kind,
		      const char *operation, int64_t ms)
{
	struct call_wait *w = make_wait(conn, operation, -1);
	struct err err;
	int rc;

	if (!w) {
		buf_deinit(resp);
		return luaL_error(L, "not enough memory");
	}
	w->timeout_ms = ms;
	w->named = kind == AS_FIELDS;
	rc = send_wait(w, resp, &err);
	if (!rc && kind == AS_FUNCTION)
		w->resp = *resp;
	else if (kind == AS_FUNCTION)
		buf_deinit(resp);
	if (!rc)
		return fiber_await(L, &w->wait);
	call_free(&w->wait);
	return fiber_push_err(L, &err, operation);
}

static int l_call(lua_State *L)
{
	struct redis_conn *conn = bind_check_conn(L, 1);
	int64_t ms = take_options(L);
	struct buf *resp = redis_scratch(conn->redis);

	luaL_checkstring(L, 2);
	format_command(L, 2, NULL, 0, resp);
	return start_call(L, conn, resp, AS_CALL, "redis.call", ms);
}

/* Pushes the names at 3 in the protocol's form. The connection keeps it for as long as there is the list: the
 * same few are asked for each time. */
static void push_names(lua_State *L)
{
	struct buf *text = redis_scratch(bind_check_conn(L, 1)->redis);

	lua_getiuservalue(L, 1, 1);
	lua_pushvalue(L, 3);
	if (lua_rawget(L, -2) == LUA_TSTRING)
		return;
	luaL_argcheck(L, add_list(L, 3, text), 3, "a list of names");
	if (text->failed)
		luaL_error(L, "not enough memory");
	lua_pushvalue(L, 3);
	lua_pushlstring(L, text->data, text->len);
	lua_rawset(L, -4);
	lua_pushlstring(L, text->data, text->len);
}

static int l_fields(lua_State *L)
{
	struct redis_conn *conn = bind_check_conn(L, 1);
	size_t key_len, names_len;
	const char *key = luaL_checklstring(L, 2, &key_len), *names;
	struct buf *resp;

	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 3);
	push_names(L);
	names = lua_tolstring(L, -1, &names_len);
	resp = redis_scratch(conn->redis);
	buf_putc(resp, '*');
	buf_integer(resp, 2 + (long long)lua_rawlen(L, 3));
	buf_puts(resp, "\r\n");
	add_bytes(resp, "HMGET", 5);
	add_bytes(resp, key, key_len);
	buf_add(resp, names, names_len);
	return start_call(L, conn, resp, AS_FIELDS, "redis.fields", 0);
}

static int l_fcall(lua_State *L)
{
	struct redis_conn *conn = bind_check_conn(L, 1);
	int64_t ms = take_options(L);
	const char *const first[] = { "FCALL", luaL_checkstring(L, 2), "0" };
	struct buf resp = { 0 };

	format_command(L, 3, first, 3, &resp);
	return start_call(L, conn, &resp, AS_FUNCTION, "redis.fcall", ms);
}

/* ---- connection ---- */

static int l_ready(lua_State *L)
{
	struct redis_conn *conn = bind_check_conn(L, 1);
	int64_t ms = bind_check_ms(L, 2, -1);
	const struct err *why = redis_get_error(conn->redis);
	struct call_wait *w;

	if (redis_is_up(conn->redis)) {
		lua_pushboolean(L, 1);
		return 1;
	}
	if (why->code == ERR_REFUSED)
		return fiber_push_err(L, why, "redis.ready");
	w = make_wait(conn, "redis.ready", ms);
	if (!w)
		return luaL_error(L, "not enough memory");
	put_wait(&conn->ready, w);
	return fiber_await(L, &w->wait);
}

static int l_up(lua_State *L)
{
	struct redis_conn *conn = bind_check_conn(L, 1);

	lua_pushboolean(L, redis_is_up(conn->redis));
	lua_pushstring(L, redis_get_error(conn->redis)->message);
	return 2;
}

static int l_info(lua_State *L)
{
	struct redis_conn *conn = bind_check_conn(L, 1);
	const struct redis_info *info = redis_get_info(conn->redis);
	size_t bytes;

	lua_createtable(L, 0, 6);
	lua_pushstring(L, info->version);
	lua_setfield(L, -2, "version");
	lua_pushboolean(L, info->durable);
	lua_setfield(L, -2, "durable");
	lua_pushstring(L, info->durability);
	lua_setfield(L, -2, "durability");
	lua_pushinteger(L, (lua_Integer)info->connects);
	lua_setfield(L, -2, "connects");
	lua_pushinteger(L, redis_pending(conn->redis, &bytes));
	lua_setfield(L, -2, "pending");
	lua_pushinteger(L, (lua_Integer)bytes);
	lua_setfield(L, -2, "pending_bytes");
	return 1;
}

static void close_conn(struct redis_conn *conn)
{
	const struct err err = { ERR_CLOSED, "the redis client was closed" };
	struct redis *redis = conn->redis;

	if (!redis)
		return;
	conn->redis = NULL;
	bind_redis_subs_close(conn);
	finish_list(&conn->ready, &err);
	finish_list(&conn->again, &err);
	redis_free(redis);
}

void bind_conn_unref(struct redis_conn *conn)
{
	if (!--conn->refs)
		free(conn);
}

static int l_close(lua_State *L)
{
	struct redis_conn **box = luaL_checkudata(L, 1, CONN);

	if (*box)
		close_conn(*box);
	return 0;
}

static int l_gc(lua_State *L)
{
	struct redis_conn **box = luaL_checkudata(L, 1, CONN);

	if (*box) {
		close_conn(*box);
		bind_conn_unref(*box);
	}
	*box = NULL;
	return 0;
}

struct redis_conn *bind_check_conn(lua_State *L, int arg)
{
	struct redis_conn **box = luaL_checkudata(L, arg, CONN);

	luaL_argcheck(L, *box && (*box)->redis, arg, "the redis client was closed");
	return *box;
}

struct redis *bind_check_redis(lua_State *L, int arg)
{
	return bind_check_conn(L, arg)->redis;
}

/* Fills o from the table at 1; pushes what its strings live in. */
static void read_options(lua_State *L, struct redis_options *o)
{
	lua_getfield(L, 1, "library");
	o->library = luaL_optstring(L, -1, NULL);
	lua_getfield(L, 1, "resolver");
	o->resolver = luaL_optstring(L, -1, NULL);
	lua_getfield(L, 1, "allow_eviction");
	o->allow_eviction = lua_toboolean(L, -1);
	lua_getfield(L, 1, "buffer");
	o->max_bytes = (size_t)luaL_optinteger(L, -1, 0);
	lua_getfield(L, 1, "connect_timeout");
	o->connect_ms = bind_check_ms(L, lua_gettop(L), 0);
	lua_getfield(L, 1, "timeout");
	o->command_ms = bind_check_ms(L, lua_gettop(L), 0);
	lua_getfield(L, 1, "url");
}

/* With keys that it does not keep alive. */
static void push_weak_table(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
}

static int l_connect(lua_State *L)
{
	struct redis_options o = { .on_state = on_state };
	struct redis_address address;
	struct redis_conn **box, *conn;
	struct err err;

	lua_settop(L, 1);
	if (lua_istable(L, 1))
		read_options(L, &o);
	luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 1, "url: a string");
	box = lua_newuserdatauv(L, sizeof(*box), 1);
	*box = NULL;
	luaL_setmetatable(L, CONN);
	push_weak_table(L);
	lua_setiuservalue(L, -2, 1);
	if (redis_address_parse(&address, lua_tostring(L, -2), &err))
		return fiber_push_err(L, &err, "redis.connect");
	conn = calloc(1, sizeof(*conn));
	o.address = &address;
	o.arg = conn;
	if (conn)
		conn->redis = redis_new(script_loop(script_of(L)), &o, &err);
	else
		err_set(&err, ERR_MEMORY, "not enough memory");
	redis_address_deinit(&address);
	if (!conn || !conn->redis) {
		free(conn);
		return fiber_push_err(L, &err, "redis.connect");
	}
	conn->refs = 1;
	*box = conn;
	return 1;
}

static const luaL_Reg methods[] = {
	{ "ready", l_ready },
	{ "call", l_call },
	{ "fcall", l_fcall },
	{ "fields", l_fields },
	{ "subscribe", bind_redis_subscribe },
	{ "up", l_up },
	{ "info", l_info },
	{ "close", l_close },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "connect", l_connect },
	{ NULL, NULL },
};

int luaopen_exed_redis(lua_State *L)
{
	bind_class(L, CONN, methods, l_gc);
	bind_redis_sub_class(L);
	luaL_newlib(L, functions);
	return 1;
}
