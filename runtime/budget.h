/* SPDX-License-Identifier: MIT */
/* budget: how many instructions what runs in a script's Lua state may take before it waits. What takes more is
 * stopped with an error that names its line, which no pcall, xpcall or coroutine of its own holds up. Loop thread. */
#ifndef EXED_BUDGET_H
#define EXED_BUDGET_H

#include <lua.h>

#include "ticker.h"

struct budget {
	unsigned long limit, used;
	struct ticker ticker;
	lua_State *volatile running; /* for the ticker: the fiber that was resumed last, and */
	volatile int looks;          /* how often it came since */
};

/* Changes what the standard libraries have of this, and begins to look. L: the main thread of a script's state;
 * limit: instructions, 0 for none. The struct is the script's (script_budget) and stays in place until budget_stop.
 * -ERR_MEMORY: nothing is left to stop. */
int budget_start(struct budget *b, lua_State *L, unsigned long limit);
void budget_stop(struct budget *b); /* after lua_close; one that was never started, all zero, is nothing */

/* Gives it a limit when it has none. */
void budget_need(struct budget *b, unsigned long limit);

/* Around lua_resume of a fiber: it has the whole budget again; what goes on after it is L, or NULL. */
void budget_begin(struct budget *b, lua_State *fiber);
void budget_end(struct budget *b, lua_State *outer);

/* As lua_pcall of the function under nargs arguments on top of L, all of its results wanted: with a budget of
 * its own, in instructions, and nothing in it can wait. Returns the status. */
int budget_call(lua_State *L, unsigned long limit, int nargs);

#endif
