/* SPDX-License-Identifier: MIT */
/* bind/http_request: one request of bind/http.c's server in Lua. Nobody else includes it. */
#ifndef EXED_BIND_HTTP_REQUEST_H
#define EXED_BIND_HTTP_REQUEST_H

#include <lua.h>

#include "buf.h"
#include "http.h"

/* The userdata of a server. */
struct bind_http {
	struct http_server *server; /* NULL: closed */
	struct script *script;
	int fn, self;     /* in the registry while it serves */
	struct buf pairs; /* a query while it is taken apart */
};

/* on_request of the server; arg is its struct bind_http. */
void bind_http_request(struct http_request *req, void *arg);
void bind_http_request_class(lua_State *L); /* makes the metatable */

#endif
