/* SPDX-License-Identifier: MIT */
/* exed.metrics: what /metrics tells of the C side.
 *   text() -> Prometheus' text format: what was counted, the fan-out, Lua, the process
 *   count(family, label [, n])    adds n, 1: metrics.count("exed_jobs_submitted_total", 'operation="ping"'). An
 *     operation that has no number of its own counts as "other" */
#include "metrics.h"

#include <lauxlib.h>
#include <libssh2.h>
#include <stdlib.h>

#include "bind.h"
#include "fanout.h"
#include "runtime.h"
#include "script.h"
#include "version.h"

static void put(struct buf *b, const char *name, const char *help, unsigned long long value)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s gauge\n%s %llu\n", name, help, name, name, value);
}

static void put_own(struct buf *b, struct script *s)
{
	struct fanouts_counts c = fanouts_counts(script_runtime(s)->fanouts);

	put(b, "exed_hosts_running", "Hosts of jobs that have a place on this node.", c.running);
	put(b, "exed_hosts_places", "Hosts that may run at once on this node.", c.places);
	put(b, "exed_hosts_waiting", "Hosts of this node's slices that have not started.", c.waiting);
	put(b, "exed_fanouts", "Fan-outs that run: at most one for each slice.", c.fanouts);
	put(b, "exed_lua_memory_bytes", "Memory of the node's Lua state.", script_memory(s));
	buf_printf(b, "# HELP exed_build_info What this exed is made of.\n"
		      "# TYPE exed_build_info gauge\n"
		      "exed_build_info{version=\"%s\",lua=\"%s\",libssh2=\"%s\"} 1\n",
		   EXED_VERSION, LUA_VERSION_MAJOR "." LUA_VERSION_MINOR "." LUA_VERSION_RELEASE,
		   libssh2_version(0));
}

static int l_text(lua_State *L)
{
	struct buf b = { 0 };

	metrics_write(&b);
	put_own(&b, script_of(L));
	metrics_write_process(&b);
	bind_push_buf(L, &b);
	return 1;
}

static int l_count(lua_State *L)
{
	const char *family = luaL_checkstring(L, 1);
	int m = metric_find(family, luaL_checkstring(L, 2));

	if (m < 0)
		m = metric_find(family, "operation=\"other\"");
	if (m >= 0)
		metric_add((enum metric)m, luaL_optinteger(L, 3, 1));
	return 0;
}

static const luaL_Reg functions[] = {
	{ "text", l_text },
	{ "count", l_count },
	{ NULL, NULL },
};

int luaopen_exed_metrics(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
