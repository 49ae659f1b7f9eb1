/* SPDX-License-Identifier: MIT */
/* bind: the Lua modules of the runtime. Each bind/x.c opens runtime/x.c; bind may call the rest of
 * runtime/, never the other way. */
#ifndef EXED_BIND_H
#define EXED_BIND_H

#include <lauxlib.h>
#include <stdint.h>

/* Every module, by the name that `require` knows; ended by a NULL name. */
extern const luaL_Reg bind_modules[];

/* Makes the metatable `name`: methods under a separate __index, gc (may be NULL) also as __close. */
void bind_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc);

/* A time limit in seconds (may be a fraction) as milliseconds; `otherwise` when the argument is nil. */
int64_t bind_check_ms(lua_State *L, int arg, int64_t otherwise);

/* Pushes what is in b as a string and frees b, whatever happens; raises when memory is out. */
struct buf;
void bind_push_buf(lua_State *L, struct buf *b);

/* sink.c: the sink at arg, borrowed; NULL when it is nil. */
struct sink;
struct sink *bind_sink_opt(lua_State *L, int arg);

/* content.c: the content at arg, borrowed; NULL when it is nil. */
struct content;
struct content *bind_content_opt(lua_State *L, int arg);

/* config.c: gives exed.config of the lua_State the values of c. -ERR_MEMORY: it has the former ones. */
struct config;
int bind_config_renew(void *state, const struct config *c);

int luaopen_exed_access(lua_State *L);
int luaopen_exed_config(lua_State *L);
int luaopen_exed_content(lua_State *L);
int luaopen_exed_fanout(lua_State *L);
int luaopen_exed_fiber(lua_State *L);
int luaopen_exed_http_client(lua_State *L);
int luaopen_exed_http_server(lua_State *L);
int luaopen_exed_json(lua_State *L);
int luaopen_exed_log(lua_State *L);
int luaopen_exed_metrics(lua_State *L);
int luaopen_exed_proc(lua_State *L);
int luaopen_exed_program(lua_State *L);
int luaopen_exed_redis(lua_State *L);
int luaopen_exed_redis_child(lua_State *L);
int luaopen_exed_regex(lua_State *L);
int luaopen_exed_signal(lua_State *L);
int luaopen_exed_sink(lua_State *L);
int luaopen_exed_state(lua_State *L);
int luaopen_exed_stdio(lua_State *L);
int luaopen_exed_sys(lua_State *L);
int luaopen_exed_task_host(lua_State *L);
int luaopen_exed_text(lua_State *L);
int luaopen_exed_timer(lua_State *L);

#endif
