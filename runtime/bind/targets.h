/* SPDX-License-Identifier: MIT */
/* targets: hosts, and the lists of them that exed.fanout's start is given, from Lua to C. Loop thread. */
#ifndef EXED_BIND_TARGETS_H
#define EXED_BIND_TARGETS_H

#include <lua.h>

#include "fanout.h"

#define BIND_HOST "exed.host" /* the metatable of hosts; NULL in a userdata: it is closed */

int bind_host(lua_State *L); /* exed.fanout's host */

/* Pushes a userdata that owns a target for each host of the list at `hosts`: with the index in the list at
 * `indexes` (nil: its place), and what it has of its own in the list at `own` (nil: nothing). Their number
 * in *n. Raises on misuse. */
struct fanout_target *bind_targets(lua_State *L, int hosts, int indexes, int own, size_t *n);
/* fanout_start has taken what they own. */
void bind_targets_taken(struct fanout_target *targets, size_t n);

int bind_targets_open(lua_State *L); /* the metatables */

#endif
