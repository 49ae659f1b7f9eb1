/* SPDX-License-Identifier: MIT */
/* plan: the plan that exed.fanout's start is given, from Lua to C; its fields stand in bind/fanout.c. Loop
 * thread. */
#ifndef EXED_BIND_PLAN_H
#define EXED_BIND_PLAN_H

#include <lua.h>

#include "fanout.h"

/* Reads the table at t (not a negative index). What *plan points to is borrowed from the table and from values
 * that are left on the stack, some 30 of them. Raises on misuse, with the name of the field. */
void bind_plan_read(lua_State *L, int t, struct fanout_plan *plan);

#endif
