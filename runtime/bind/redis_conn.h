/* SPDX-License-Identifier: MIT */
/* bind/redis_conn: what other bindings need of exed.redis. Loop thread. */
#ifndef EXED_BIND_REDIS_CONN_H
#define EXED_BIND_REDIS_CONN_H

#include <lua.h>

struct redis;

/* The client of the connection object at this argument; raises when it is none or closed.
 * Borrowed: keep a reference to the object for as long as the client is used, and take CLOSED for
 * an answer. */
struct redis *bind_check_redis(lua_State *L, int arg);

/* exed.redis' second class, in redis_sub.c: conn:subscribe(channel), and the end of a connection.
 * */
struct redis_conn;
int bind_redis_subscribe(lua_State *L);
void bind_redis_subs_close(struct redis_conn *conn);
void bind_redis_sub_class(lua_State *L);

/* Shared by the connection's userdata and its subscriptions; freed by the last of them. */
struct sub_box;
struct call_wait;
struct redis_conn {
	struct redis *redis;      /* NULL: closed */
	struct call_wait *ready;  /* fibers in conn:ready() */
	struct call_wait *again;  /* calls that wait for the functions to be loaded again */
	struct sub_box *subs;
	int refs;
};
struct redis_conn *bind_check_conn(lua_State *L, int arg);
void bind_conn_unref(struct redis_conn *conn);

#endif
