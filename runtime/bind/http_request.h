/* SPDX-License-Identifier: MIT */
/* bind/http_request: one request of bind/http.c's server in Lua. Nobody else includes it. */
#ifndef EXED_BIND_HTTP_REQUEST_H
#define EXED_BIND_HTTP_REQUEST_H

#include <lua.h>

#include "buf.h"
#include "http.h"
#include "ws.h"

/* The userdata of a server. */
struct bind_http {
	struct http_server *server; /* NULL: closed */
	struct script *script;
	int fn, judge, self; /* in the registry while it serves; judge: LUA_NOREF for none */
	struct buf pairs; /* a query while it is taken apart */
};

struct write_wait;

/* The userdata of a request. */
struct request_box {
	struct http_request *req; /* NULL: answered, or the client has left */
	struct bind_http *server; /* there while req is */
	struct script *script;
	struct fiber *fiber; /* NULL: ended, or none yet: the request is being judged by its head */
	struct write_wait *writer;
	struct ws *ws;       /* NULL: none. Owned */
	bool started, left;
	int self; /* in the registry until the fiber has ended */
};

struct request_box *bind_http_check(lua_State *L); /* argument 1 */
/* nil, err when the client has left; raises when the handler has answered already. */
int bind_http_not_open(lua_State *L, const struct request_box *box, const char *operation);
/* What a write pushes or waits for, by what http_write or ws_write returned. */
int bind_http_written(lua_State *L, struct request_box *box, int rc, const char *operation,
		      int64_t ms);
void bind_http_left(struct request_box *box); /* the client has: cancels the fiber */

/* http_ws.c */
int bind_http_ws_upgrade(lua_State *L);
int bind_http_ws_message(lua_State *L);
int bind_http_ws_close(lua_State *L);

/* on_request of the server; arg is its struct bind_http. */
void bind_http_request(struct http_request *req, void *arg);
void bind_http_head(struct http_request *req, void *arg); /* its on_head */
void bind_http_request_class(lua_State *L); /* makes the metatable */

#endif
