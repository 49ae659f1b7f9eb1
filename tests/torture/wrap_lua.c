/* SPDX-License-Identifier: MIT */
/* wrap_lua: with TORTURE_GC=N in the environment Lua collects all garbage at each N-th object that it makes.
 *
 * A block that is refused makes Lua collect all that it can and ask again. So the first request of each N-th
 * object is refused. Only objects: what Lua's library asks for its buffers it does not ask again. */
#include <lua.h>
#include <stdlib.h>

struct collector {
	lua_Alloc allocate;
	void *arg;
	unsigned long every, objects; /* refuse each every-th; 0: none */
	int again;                    /* the next request is the one that was refused */
};

lua_State *__real_lua_newstate(lua_Alloc allocate, void *arg);
lua_State *__wrap_lua_newstate(lua_Alloc allocate, void *arg);

static void *allocate(void *arg, void *old, size_t osize, size_t nsize)
{
	struct collector *c = arg;
	/* Without an old block osize is the kind of object, 0 for what is none. */
	int is_object = !old && osize && nsize;

	if (is_object && c->every && !c->again && ++c->objects % c->every == 0) {
		c->again = 1;
		return NULL;
	}
	if (is_object)
		c->again = 0;
	return c->allocate(c->arg, old, osize, nsize);
}

lua_State *__wrap_lua_newstate(lua_Alloc real, void *arg)
{
	const char *every = getenv("TORTURE_GC");
	static struct collector collectors[8]; /* a process has one state, a unit test a few */
	static unsigned n;
	struct collector *c = &collectors[n++ % 8];
	lua_State *L;

	if (!every)
		return __real_lua_newstate(real, arg);
	*c = (struct collector){ .allocate = real, .arg = arg };
	L = __real_lua_newstate(allocate, c);
	/* Not before: a state that is being made cannot collect. */
	c->every = strtoul(every, NULL, 10);
	return L;
}
