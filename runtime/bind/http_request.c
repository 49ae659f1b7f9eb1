/* SPDX-License-Identifier: MIT */
/* A request of exed.http.server, which its handler gets:
 *   req.method path target query raw_query headers host body peer address tag id loopback certificate
 *     query: name -> list of values in order; headers: name in lower case -> text, several joined;
 *     address: peer without its port. Each is made when it is asked for; but for method and path, and
 *     what was asked for of query and headers, they raise once the request is answered
 *   req:header(name, ...) -> text | nil, ...     of headers, each for little
 *   req:note(who | nil, jid | nil)          for the access log; before the answer
 *   req:respond(status, headers, body) -> true | nil, err    headers: name -> text or list
 *   req:start(status, headers), req:finish() -> true | nil, err; req:cut()
 *   req:write(text, seconds) -> true | nil, err    waits while the client is behind
 *   req:upgrade(options), req:message(text, last), req:close(code, reason)    http_ws.c
 * A fiber that ends without an answer: 500, or a cut stream. The client leaves: its fiber is
 * cancelled.
 *
 * A request's box is a userdata that the registry holds until its fiber has ended. Loop thread. */
#include "bind/http_request.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bind.h"
#include "fiber.h"
#include "http_uri.h"
#include "log.h"
#include "script.h"

#define REQUEST "exed.http.request"
#define HEADERS_MAX 64

/* What a request's userdata holds; query and headers from when they are first asked for. */
enum held { HELD_METHOD = 1, HELD_PATH, HELD_QUERY, HELD_HEADERS, HELD = HELD_HEADERS };

struct write_wait {
	struct wait wait; /* first */
	struct request_box *box; /* NULL once complete */
	bool left;
};

/* ---- the request ends ---- */

static void wake_writer(struct request_box *box)
{
	struct write_wait *w = box->writer;

	if (!w)
		return;
	box->writer = NULL;
	w->box = NULL;
	w->left = box->left;
	wait_done(&w->wait);
}

static void forget_request(struct request_box *box, bool left)
{
	box->req = NULL;
	box->left = left;
	if (box->ws)
		ws_detach(box->ws);
	wake_writer(box);
}

void bind_http_left(struct request_box *box)
{
	forget_request(box, true);
	if (box->fiber)
		fiber_cancel(box->fiber, "client left");
}

static void on_gone(struct http_request *req, const char *why)
{
	(void)why;
	bind_http_left(req->arg);
}

static void on_drain(struct http_request *req)
{
	wake_writer(req->arg);
}

static int l_text(lua_State *L)
{
	luaL_tolstring(L, 1, NULL);
	return 1;
}

/* An error in making the text of an error is no reason to end the process. */
static void log_failure(const struct fiber_end *end, const char *name)
{
	const char *text = NULL;

	if (lua_checkstack(end->L, 3)) {
		lua_pushcfunction(end->L, l_text);
		lua_pushvalue(end->L, -2);
		lua_pcall(end->L, 1, 1, 0);
		text = lua_tostring(end->L, -1);
	}
	log_error("http", "%s: %s\n%s", name, text ? text : "(no text)",
		  end->trace ? end->trace : "");
}

static void answer_for(struct request_box *box, const struct fiber_end *end)
{
	struct http_request *req = box->req;

	if (end->ok)
		log_error("http", "%s %.200s: the handler ended without an answer", req->method,
			  req->path);
	if (box->ws)
		ws_close(box->ws, end->cancelled ? 1001 : 1011, "the server ends");
	forget_request(box, false);
	if (box->ws)
		return;
	if (box->started)
		http_cut(req);
	else if (end->cancelled)
		http_respond_message(req, 503, "cancelled", NULL);
	else
		http_respond_message(req, 500, "internal error", NULL);
}

static void on_end(void *arg, const struct fiber_end *end)
{
	struct request_box *box = arg;
	lua_State *L = script_state(box->script);

	if (!end->ok && !end->cancelled)
		log_failure(end, fiber_name(box->fiber));
	box->fiber = NULL;
	if (box->req)
		answer_for(box, end);
	ws_free(box->ws);
	box->ws = NULL;
	luaL_unref(L, LUA_REGISTRYINDEX, box->self);
}

/* ---- the request begins ---- */

/* Each pair as two lengths and their bytes. */
static int add_pair(void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	size_t lengths[2] = { key_len, value_len };

	buf_add(arg, lengths, sizeof(lengths));
	buf_add(arg, key, key_len);
	buf_add(arg, value, value_len);
	return 0;
}

/* The bytes are collected first: pushing may raise, and that must not happen inside the parser. */
static void push_query(lua_State *L, const char *query, struct buf *pairs)
{
	buf_clear(pairs);
	lua_newtable(L);
	if (http_uri_query(query, strlen(query), add_pair, pairs, NULL) || pairs->failed)
		luaL_error(L, "not enough memory");
	for (size_t at = 0; at < pairs->len;) {
		size_t lengths[2];
		const char *key = pairs->data + at + sizeof(lengths);

		memcpy(lengths, pairs->data + at, sizeof(lengths));
		lua_pushlstring(L, key, lengths[0]);
		lua_pushvalue(L, -1);
		if (lua_rawget(L, -3) != LUA_TTABLE) {
			lua_pop(L, 1);
			lua_newtable(L);
			lua_pushvalue(L, -2);
			lua_pushvalue(L, -2);
			lua_rawset(L, -5);
		}
		lua_pushlstring(L, key + lengths[0], lengths[1]);
		lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
		lua_pop(L, 2);
		at += sizeof(lengths) + lengths[0] + lengths[1];
	}
}

static void push_headers(lua_State *L, const struct http_request *req)
{
	const char *name, *value;

	lua_createtable(L, 0, 8);
	for (unsigned i = 0; (name = http_request_field(req, i, &value)); i++) {
		if (lua_getfield(L, -1, name) == LUA_TSTRING)
			lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), value);
		else
			lua_pushstring(L, value);
		lua_setfield(L, -3, name);
		lua_pop(L, 1);
	}
}

struct beginning {
	struct bind_http *server;
	struct http_request *req;
	struct err err;
};

/* "GET /jobs/...", cut to fit. */
static void name_request(const struct http_request *req, char *name, size_t size)
{
	size_t method = strnlen(req->method, size / 4), path = strnlen(req->path, size / 2);

	memcpy(name, req->method, method);
	name[method] = ' ';
	memcpy(name + method + 1, req->path, path);
	name[method + 1 + path] = '\0';
}

/* Pushes a new userdata, with what is asked for most. */
static struct request_box *push_box(lua_State *L, const struct beginning *b)
{
	struct request_box *box = lua_newuserdatauv(L, sizeof(*box), HELD);

	memset(box, 0, sizeof(*box));
	luaL_setmetatable(L, REQUEST);
	lua_pushstring(L, b->req->method);
	lua_setiuservalue(L, -2, HELD_METHOD);
	lua_pushstring(L, b->req->path);
	lua_setiuservalue(L, -2, HELD_PATH);
	box->script = b->server->script;
	box->server = b->server;
	return box;
}

/* Protected: whatever lacks memory here raises. From fiber_start's return on nothing can. */
static int begin_request(lua_State *L)
{
	struct beginning *b = lua_touserdata(L, 1);
	struct request_box *box;
	char name[160];

	lua_rawgeti(L, LUA_REGISTRYINDEX, b->server->fn);
	box = push_box(L, b);
	lua_pushvalue(L, -1);
	box->self = luaL_ref(L, LUA_REGISTRYINDEX);
	name_request(b->req, name, sizeof(name));
	box->fiber = fiber_start(box->script, L, 1, name, on_end, box, &b->err);
	if (!box->fiber) {
		luaL_unref(L, LUA_REGISTRYINDEX, box->self);
		return 0;
	}
	box->req = b->req;
	b->req->arg = box;
	b->req->on_gone = on_gone;
	b->req->on_drain = on_drain;
	b->req = NULL;
	return 0;
}

void bind_http_request(struct http_request *req, void *arg)
{
	const struct http_pair later = { "Retry-After", "1" };
	static const char busy[] = "{\"message\": \"too many requests at once\"}";
	struct beginning b = { .server = arg, .req = req };
	lua_State *L = script_state(b.server->script);

	if (b.server->fn != LUA_NOREF && lua_checkstack(L, 4)) {
		lua_pushcfunction(L, begin_request);
		lua_pushlightuserdata(L, &b);
		if (lua_pcall(L, 1, 0, 0))
			lua_pop(L, 1);
	}
	if (!b.req)
		return;
	log_warn("http", "a request was refused: %s", b.err.code ? b.err.message : "not enough memory");
	http_respond(req, 503, &later, 1, busy, sizeof(busy) - 1, NULL);
}

/* The box is the server's no longer when its function has returned or raised. */
static int judge_head(lua_State *L)
{
	struct beginning *b = lua_touserdata(L, 1);
	struct request_box *box;
	bool failed;

	lua_rawgeti(L, LUA_REGISTRYINDEX, b->server->judge);
	box = push_box(L, b);
	lua_pushvalue(L, -1);
	lua_insert(L, 2); /* it stays when the function raises */
	box->req = b->req;
	failed = lua_pcall(L, 1, 0, 0);
	box->req = NULL;
	return failed ? lua_error(L) : 0;
}

/* What cannot be judged now, for want of memory too, is judged with its body. */
void bind_http_head(struct http_request *req, void *arg)
{
	struct beginning b = { .server = arg, .req = req };
	lua_State *L = script_state(b.server->script);

	if (!lua_checkstack(L, 4))
		return;
	lua_pushcfunction(L, judge_head);
	lua_pushlightuserdata(L, &b);
	if (lua_pcall(L, 1, 0, 0)) {
		log_warn("http", "the head of a request was not judged: %s",
			 lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no text)");
		lua_pop(L, 1);
	}
}

/* ---- answering ---- */

/* As luaL_checkudata, which looks for the class by its name: that is asked a dozen times a request. Here it is
 * the first upvalue of each of the functions. A table may have been given the class, too. */
struct request_box *bind_http_check(lua_State *L)
{
	struct request_box *box = lua_touserdata(L, 1);
	bool same = box && lua_getmetatable(L, 1);

	if (same) {
		same = lua_rawequal(L, -1, lua_upvalueindex(1));
		lua_pop(L, 1);
	}
	return same ? box : luaL_checkudata(L, 1, REQUEST);
}

int bind_http_not_open(lua_State *L, const struct request_box *box, const char *operation)
{
	struct err err;

	if (!box->left)
		return luaL_error(L, "%s: this request has been answered already", operation);
	err_set(&err, ERR_CLOSED, "the client has left");
	return fiber_push_err(L, &err, operation);
}

static int failed(lua_State *L, const struct err *err, const char *operation)
{
	if (err->code == ERR_INVALID || err->code == ERR_CLOSED)
		return luaL_error(L, "%s: %s", operation, err->message);
	return fiber_push_err(L, err, operation);
}

static void add_header(lua_State *L, struct http_pair *headers, size_t *n)
{
	size_t len;

	if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
		luaL_error(L, "a header is a name with a text or a list of texts");
	if (*n == HEADERS_MAX)
		luaL_error(L, "more than %d headers", HEADERS_MAX);
	headers[*n].name = lua_tostring(L, -2);
	headers[*n].value = lua_tolstring(L, -1, &len);
	if (strlen(headers[*n].value) != len)
		luaL_error(L, "header %s: a NUL cannot be sent", headers[*n].name);
	++*n;
}

/* The strings stay in the caller's table, so they are borrowed. */
static size_t check_headers(lua_State *L, int arg, struct http_pair *headers)
{
	size_t n = 0;

	if (lua_isnoneornil(L, arg))
		return 0;
	luaL_checktype(L, arg, LUA_TTABLE);
	for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
		lua_Integer count = lua_istable(L, -1) ? (lua_Integer)lua_rawlen(L, -1) : 0;

		if (!lua_istable(L, -1))
			add_header(L, headers, &n);
		for (lua_Integer i = 1; i <= count; i++) {
			lua_pushvalue(L, -2);
			lua_rawgeti(L, -2, i);
			add_header(L, headers, &n);
			lua_pop(L, 2);
		}
	}
	return n;
}

static int l_respond(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	lua_Integer status = luaL_checkinteger(L, 2);
	struct http_pair headers[HEADERS_MAX];
	size_t n = check_headers(L, 3, headers), len;
	const char *body = luaL_optlstring(L, 4, "", &len);
	struct err err;

	luaL_argcheck(L, status >= 200 && status <= 599, 2, "a status from 200 to 599");
	if (!box->req)
		return bind_http_not_open(L, box, "respond");
	if (http_respond(box->req, (int)status, headers, n, body, len, &err))
		return failed(L, &err, "respond");
	forget_request(box, false);
	lua_pushboolean(L, true);
	return 1;
}

static int l_start(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	lua_Integer status = luaL_checkinteger(L, 2);
	struct http_pair headers[HEADERS_MAX];
	size_t n = check_headers(L, 3, headers);
	struct err err;

	luaL_argcheck(L, status >= 200 && status <= 599, 2, "a status from 200 to 599");
	if (!box->req)
		return bind_http_not_open(L, box, "start");
	if (!box->fiber)
		return luaL_error(L, "start: the body has not been read");
	if (http_start(box->req, (int)status, headers, n, &err))
		return failed(L, &err, "start");
	box->started = true;
	lua_pushboolean(L, true);
	return 1;
}

static int write_push(struct wait *wait, lua_State *L)
{
	const struct err err = { ERR_CLOSED, "the client has left" };

	if (((struct write_wait *)wait)->left)
		return fiber_push_err(L, &err, wait->operation);
	lua_pushboolean(L, true);
	return 1;
}

static void write_cancel(struct wait *wait)
{
	struct write_wait *w = (struct write_wait *)wait;

	if (w->box)
		w->box->writer = NULL;
	w->box = NULL;
}

static void write_free(struct wait *wait)
{
	write_cancel(wait);
	free(wait);
}

static const struct wait_ops write_ops = { write_push, write_cancel, write_free };

int bind_http_written(lua_State *L, struct request_box *box, int rc, const char *operation,
		      int64_t ms)
{
	struct write_wait *w;
	struct err err;

	if (rc < 0) {
		err_set(&err, -rc, "the client is too slow");
		return fiber_push_err(L, &err, operation);
	}
	if (rc > 0) {
		lua_pushboolean(L, true);
		return 1;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return luaL_error(L, "not enough memory");
	w->box = box;
	box->writer = w;
	wait_init(&w->wait, &write_ops, operation, ms);
	return fiber_await(L, &w->wait);
}

static int l_write(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	size_t len;
	const char *data = luaL_checklstring(L, 2, &len);
	int64_t ms = bind_check_ms(L, 3, -1); /* the server drops a client that takes nothing */

	if (!box->req)
		return bind_http_not_open(L, box, "write");
	if (!box->started)
		return luaL_error(L, "write: start comes first");
	if (box->ws)
		return luaL_error(L, "write: a WebSocket has messages");
	if (box->writer)
		return luaL_error(L, "write: another fiber waits to write this answer");
	return bind_http_written(L, box, http_write(box->req, data, len), "write", ms);
}

static int l_finish(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	struct http_request *req = box->req;

	if (!req)
		return bind_http_not_open(L, box, "finish");
	if (!box->started)
		return luaL_error(L, "finish: start comes first");
	forget_request(box, false);
	http_end(req);
	lua_pushboolean(L, true);
	return 1;
}

static int l_cut(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	struct http_request *req = box->req;

	if (req) {
		forget_request(box, false);
		http_cut(req);
	}
	return 0;
}

static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = strnlen(from, size - 1);

	memcpy(to, from, n);
	to[n] = '\0';
}

static int l_note(lua_State *L)
{
	struct request_box *box = bind_http_check(L);
	const char *who = luaL_optstring(L, 2, NULL), *jid = luaL_optstring(L, 3, NULL);

	if (box->req && who)
		copy_text(box->req->who, sizeof(box->req->who), who);
	if (box->req && jid)
		copy_text(box->req->jid, sizeof(box->req->jid), jid);
	return 0;
}

/* ---- what a handler looks at ---- */

static const struct http_request *open_request(lua_State *L, const struct request_box *box)
{
	if (!box->req)
		luaL_error(L, "%s", box->left ? "cancelled: client left"
					      : "this request has been answered already");
	return box->req;
}

static void push_header(lua_State *L, const struct http_request *req, const char *name)
{
	const char *found, *value;
	int n = 0;

	for (unsigned i = 0; (found = http_request_field(req, i, &value)); i++) {
		if (strcasecmp(found, name))
			continue;
		luaL_checkstack(L, 4, "headers");
		if (n++)
			lua_pushliteral(L, ", ");
		lua_pushstring(L, value);
	}
	if (n)
		lua_concat(L, 2 * n - 1);
	else
		lua_pushnil(L);
}

static int l_header(lua_State *L)
{
	const struct http_request *req = open_request(L, bind_http_check(L));
	int last = lua_gettop(L);

	luaL_checkstring(L, 2);
	for (int name = 2; name <= last; name++)
		push_header(L, req, luaL_checkstring(L, name));
	return last - 1;
}

/* A table of the request, made once. */
static int push_held(lua_State *L, struct request_box *box, enum held which)
{
	if (lua_getiuservalue(L, 1, which) != LUA_TNIL)
		return 1;
	if (which == HELD_QUERY)
		push_query(L, open_request(L, box)->query, &box->server->pairs);
	else
		push_headers(L, open_request(L, box));
	lua_pushvalue(L, -1);
	lua_setiuservalue(L, 1, which);
	return 1;
}

static int push_address(lua_State *L, const char *peer)
{
	const char *colon = strrchr(peer, ':');

	lua_pushlstring(L, peer, colon ? (size_t)(colon - peer) : strlen(peer));
	return 1;
}

/* The fields stand in the table of methods, each with its number. */
enum field {
	FIELD_METHOD, FIELD_PATH, FIELD_QUERY, FIELD_HEADERS, FIELD_BODY, FIELD_TAG, FIELD_HOST, FIELD_PEER,
	FIELD_ADDRESS, FIELD_CERTIFICATE, FIELD_TARGET, FIELD_RAW_QUERY, FIELD_ID, FIELD_LOOPBACK, FIELDS
};

static const char *const field_names[FIELDS] = {
	[FIELD_METHOD] = "method",   [FIELD_PATH] = "path",
	[FIELD_QUERY] = "query",     [FIELD_HEADERS] = "headers",
	[FIELD_BODY] = "body",       [FIELD_TAG] = "tag",
	[FIELD_HOST] = "host",       [FIELD_PEER] = "peer",
	[FIELD_ADDRESS] = "address", [FIELD_CERTIFICATE] = "certificate",
	[FIELD_TARGET] = "target",   [FIELD_RAW_QUERY] = "raw_query",
	[FIELD_ID] = "id",           [FIELD_LOOPBACK] = "loopback",
};

static int push_text(lua_State *L, const char *text)
{
	lua_pushstring(L, text);
	return 1;
}

static int push_field(lua_State *L, struct request_box *box, enum field field)
{
	const struct http_request *req;

	if (field <= FIELD_HEADERS)
		return push_held(L, box, HELD_METHOD + field - FIELD_METHOD);
	req = open_request(L, box);
	switch (field) {
	case FIELD_BODY:
		lua_pushlstring(L, req->body, req->body_len);
		return 1;
	case FIELD_TAG:
		return push_text(L, req->tag);
	case FIELD_HOST:
		return push_text(L, req->host);
	case FIELD_PEER:
		return push_text(L, req->peer);
	case FIELD_ADDRESS:
		return push_address(L, req->peer);
	case FIELD_CERTIFICATE:
		return push_text(L, req->certificate);
	case FIELD_TARGET:
		return push_text(L, req->target);
	case FIELD_RAW_QUERY:
		return push_text(L, req->query);
	case FIELD_ID:
		lua_pushinteger(L, (lua_Integer)req->id);
		return 1;
	default:
		lua_pushboolean(L, req->loopback);
		return 1;
	}
}

/* A method, else one of the fields. */
static int l_index(lua_State *L)
{
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(2)) != LUA_TNUMBER)
		return 1;
	return push_field(L, bind_http_check(L), (enum field)lua_tointeger(L, -1));
}

static const luaL_Reg request_methods[] = {
	{ "close", bind_http_ws_close },     { "cut", l_cut },
	{ "finish", l_finish },              { "header", l_header },
	{ "message", bind_http_ws_message }, { "note", l_note },
	{ "respond", l_respond },            { "start", l_start },
	{ "upgrade", bind_http_ws_upgrade }, { "write", l_write },
	{ NULL, NULL },
};

void bind_http_request_class(lua_State *L)
{
	luaL_newmetatable(L, REQUEST);
	lua_pushvalue(L, -1); /* of l_index */
	lua_newtable(L);
	lua_pushvalue(L, -2);
	luaL_setfuncs(L, request_methods, 1);
	for (int field = 0; field < FIELDS; field++) {
		lua_pushinteger(L, field);
		lua_setfield(L, -2, field_names[field]);
	}
	lua_pushcclosure(L, l_index, 2);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
}
