/* SPDX-License-Identifier: MIT */
/* collector: stops Lua's own collector and runs its cycles from the loop. Loop thread. */
#include "collector.h"

/* What a slice takes, in microseconds of CPU. The last step begins before it is over. */
#define SLICE_US 1000
/* A slice frees so many bytes only when all that is in use has been looked at; before that it is stacks. */
#define FREES (64 << 10)
/* Work of a step for each 16 bytes of STEP_LOG2, in what Lua counts: about a value that is looked at or an object
 * that is freed. Lua's own 100 are 5 ms a step. */
#define STEP_WORK 4
#define STEP_LOG2 13
/* A cycle begins when memory has grown to so many percent of what the last one left: Lua's own. */
#define PAUSE_PERCENT 200
/* Garbage that one turn may leave, in bytes, before Lua's own collector helps. */
#define TURN_GARBAGE (4 << 20)

static bool is_running(const struct collector *c)
{
	return lua_gc(c->L, LUA_GCISRUNNING);
}

static void plan_hurry(struct collector *c)
{
	c->hurry_at = (*c->memory > c->begin_at ? *c->memory : c->begin_at) + TURN_GARBAGE;
}

static void plan_cycle(struct collector *c, size_t live)
{
	c->live = live;
	c->begin_at = live / 100 * PAUSE_PERCENT;
}

/* Longer the more memory is over what a cycle is to need: else it would grow for as long as each turn leaves more
 * than is freed after it. By no more than twice what the turn itself took: to free costs less than to make. */
static int64_t slice_us(const struct collector *c, int64_t turn_us)
{
	size_t room = c->live + TURN_GARBAGE, calm = c->begin_at + room;
	size_t over = *c->memory > calm ? *c->memory - calm : 0;

	if (over > 2 * room)
		over = 2 * room;
	return SLICE_US + (int64_t)((double)turn_us * (double)over / (double)room);
}

/* What there is in use when the cycle begins to free, less what it frees. What turns leave from then on is not
 * counted: each cycle would begin later and find more than the last. */
static void note_freed(struct collector *c, size_t before)
{
	size_t freed = before > *c->memory ? before - *c->memory : 0;

	c->freeing = c->freeing || freed >= FREES;
	if (!c->freeing)
		c->found = *c->memory;
	else
		c->found = c->found > freed ? c->found - freed : 0;
}

static void run_slice(struct deferred *d)
{
	struct collector *c = container_of(d, struct collector, slice);
	size_t before = *c->memory;
	int64_t now = loop_cpu_us(), end;

	lua_gc(c->L, LUA_GCSTOP);
	if (c->held)
		return;
	if (!c->cycle) {
		c->found = before;
		c->freeing = false;
	}
	end = now + slice_us(c, c->cycle ? now - c->last_us : 0);
	do {
		c->cycle = !lua_gc(c->L, LUA_GCSTEP, 0);
		now = loop_cpu_us();
	} while (c->cycle && now < end);
	c->last_us = now;
	note_freed(c, before);
	if (c->cycle)
		loop_defer(c->loop, &c->slice);
	else
		plan_cycle(c, c->found < *c->memory ? c->found : *c->memory);
	plan_hurry(c);
}

void collector_start(struct collector *c, lua_State *L, struct loop *loop, const size_t *memory)
{
	*c = (struct collector){ .L = L, .loop = loop, .memory = memory, .slice.run = run_slice };
	if (!loop)
		return;
	lua_gc(L, LUA_GCINC, PAUSE_PERCENT, STEP_WORK, STEP_LOG2);
	lua_gc(L, LUA_GCSTOP);
	plan_cycle(c, *memory);
	plan_hurry(c);
}

void collector_stop(struct collector *c)
{
	if (c->loop)
		loop_undefer(c->loop, &c->slice);
}

void collector_look(struct collector *c)
{
	if (!c->loop || c->held || (!c->cycle && *c->memory < c->begin_at))
		return;
	if (*c->memory > c->hurry_at && !is_running(c))
		lua_gc(c->L, LUA_GCRESTART);
	loop_defer(c->loop, &c->slice);
}

bool collector_hold(struct collector *c)
{
	if (c->cycle)
		return false;
	c->held = true;
	lua_gc(c->L, LUA_GCSTOP);
	return true;
}

void collector_release(struct collector *c)
{
	c->held = false;
	if (c->loop)
		plan_hurry(c);
	else
		lua_gc(c->L, LUA_GCRESTART);
}
