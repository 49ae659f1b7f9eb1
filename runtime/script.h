/* SPDX-License-Identifier: MIT */
/* script: one Lua state with its loop, memory limit, instruction budget and module path. Loop thread. */
#ifndef EXED_SCRIPT_H
#define EXED_SCRIPT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#include "err.h"
#include "loop.h"

struct script_limits {
	size_t memory;        /* bytes for the whole state; 0: none. Over it: "not enough memory" */
	unsigned long budget; /* Lua instructions that a fiber may run between two waits; 0: none */
	unsigned fibers;      /* fibers at once; 0: none */
	bool by_turns;        /* garbage is collected at the end of turns (collector.h), not by Lua itself */
};

struct runtime; /* runtime.h */
struct budget;
struct collector;
struct fibers;
struct script;

/* Makes a state with the standard libraries; `modules` (ended by a NULL name, kept by reference) can be
 * required, and so can SHARE/lua/NAME.lua. rt is borrowed until script_free. */
struct script *script_new(struct runtime *rt, const luaL_Reg *modules,
			  const struct script_limits *limits, struct err *err);
/* Ends every fiber: its wait is cancelled and its `<close>` variables run. */
void script_end_fibers(struct script *s);
/* Does that and closes the state. Fibers that nobody has cancelled before are told to left.c: who lets them be
 * ended by force calls script_end_fibers first. */
void script_free(struct script *s);

lua_State *script_state(struct script *s);
struct loop *script_loop(struct script *s);
struct runtime *script_runtime(struct script *s);
struct script *script_of(lua_State *L);         /* of any thread of the state */
struct fibers *script_fibers(struct script *s); /* fiber.c's */
size_t script_memory(const struct script *s);   /* bytes in use */
struct budget *script_budget(struct script *s);
struct collector *script_collector(struct script *s);
bool script_returned(const struct script *s);   /* whether the file of script_run_file ended well */
bool script_was_refused(struct script *s); /* whether memory was, for the limit, since the last call */

/* How a file ended: what it raised has been printed to standard error. */
struct script_end {
	bool ok;
	int result; /* ok: the integer that it returned; 0 when it returned none */
};

/* Loads the Lua file (text only, no bytecode) and starts a fiber that calls it with argv[0..argc-1].
 * Returns 0, or the error of loading with file and line. */
int script_run_file(struct script *s, const char *path, int argc, char *const argv[],
		    void (*on_end)(void *arg, const struct script_end *end), void *arg,
		    struct err *err);

/* Finds the directory that has lua/exed: next to the program (../share/exed), else the source tree
 * that it was built in (.. or ../..). Written to out. */
int script_find_share(char *out, size_t cap, struct err *err);

#endif
