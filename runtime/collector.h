/* SPDX-License-Identifier: MIT */
/* collector: when the garbage of a script's Lua state is collected. By itself Lua collects in the middle of what
 * runs, in proportion to what that allocates: a text of some hundred KB then pays for a whole cycle, in one go.
 * Here a cycle goes in slices of a millisecond, one at the end of each turn of the loop; longer ones while
 * turns leave more garbage than such slices free. Loop thread. */
#ifndef EXED_COLLECTOR_H
#define EXED_COLLECTOR_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

struct collector {
	lua_State *L;
	struct loop *loop;    /* NULL: Lua collects by itself */
	const size_t *memory; /* bytes in use, the script's account */
	size_t live;          /* bytes that the last cycle left, beside what came while it freed */
	size_t found;         /* what will be that of the cycle under way */
	size_t begin_at;      /* a cycle begins when so many are */
	size_t hurry_at;      /* Lua's own collector goes on for the rest of the turn when so many are */
	int64_t last_us;      /* CPU time of the thread at the end of the last slice */
	bool cycle;           /* one is under way */
	bool freeing;         /* and has seen what is in use */
	bool held;
	struct deferred slice;
};

/* Takes over from Lua's own collector, when there is a loop: without one (NULL) that goes on as it does. The struct
 * stays in place until collector_stop; memory is borrowed as long. */
void collector_start(struct collector *c, lua_State *L, struct loop *loop, const size_t *memory);
void collector_stop(struct collector *c); /* before lua_close; one that was never started, all zero, is nothing */

/* Lua has run, so there may be garbage. */
void collector_look(struct collector *c);

/* Nothing is collected from here until collector_release. False when a cycle is under way, which takes some turns:
 * ask again then. */
bool collector_hold(struct collector *c);
void collector_release(struct collector *c);

#endif
