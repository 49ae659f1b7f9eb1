/* SPDX-License-Identifier: MIT */
/* exed.timer:
 *   sleep(seconds)          the fiber waits
 *   now() -> seconds        monotonic, counts time asleep; for durations
 *   wall() -> seconds       since the Unix epoch; for stamps */
#include <lauxlib.h>
#include <stdlib.h>

#include "bind.h"
#include "fiber.h"
#include "script.h"

struct sleep_wait {
	struct wait wait; /* first */
	struct timer timer;
};

static void sleep_over(void *arg)
{
	struct sleep_wait *w = arg;

	wait_done(&w->wait);
}

static int sleep_push(struct wait *w, lua_State *L)
{
	(void)w;
	lua_pushboolean(L, 1);
	return 1;
}

static void sleep_cancel(struct wait *w)
{
	timer_stop(&((struct sleep_wait *)w)->timer);
}

static void sleep_free(struct wait *w)
{
	timer_deinit(&((struct sleep_wait *)w)->timer);
	free(w);
}

static const struct wait_ops sleep_ops = { sleep_push, sleep_cancel, sleep_free };

static int l_sleep(lua_State *L)
{
	int64_t ms = bind_check_ms(L, 1, 0);
	struct sleep_wait *w = malloc(sizeof(*w));

	if (!w || timer_init(&w->timer, loop_base(script_loop(script_of(L))), sleep_over, w)) {
		free(w);
		return luaL_error(L, "not enough memory");
	}
	wait_init(&w->wait, &sleep_ops, "timer.sleep", -1);
	timer_set(&w->timer, ms);
	return fiber_await(L, &w->wait);
}

static int l_now(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)loop_now_ms() / 1000);
	return 1;
}

static int l_wall(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)loop_wall_us() / 1e6);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "sleep", l_sleep },
	{ "now", l_now },
	{ "wall", l_wall },
	{ NULL, NULL },
};

int luaopen_exed_timer(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
