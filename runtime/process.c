/* SPDX-License-Identifier: MIT */
/* process: opens and closes the runtime of a process. Loop thread. */
#include "process.h"

#include <event2/thread.h>
#include <libssh2.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bind/bind.h"
#include "config.h"
#include "fanout.h"
#include "http_client.h"
#include "left.h"
#include "log.h"
#include "notify.h"
#include "pool.h"
#include "proc.h"
#include "setup.h"
#include "task_host.h"

/* Descriptors that are not connections to hosts: listeners, clients, Redis, logs, threads. Where there
 * are few, hosts get half of what there is, but no more than leaves room for what a node itself and each
 * of its I/O threads need, for a few clients, and for what HTTP leaves free (an eighth). */
#define DESCRIPTORS_KEPT 200
#define DESCRIPTORS_NODE 24
#define DESCRIPTORS_THREAD 4
#define DESCRIPTORS_CLIENTS 16
#define CONNECTIONS_LEAST 4

static char share_dir[4096];

/* As many descriptors as the system lets us have; returns the limit. */
static rlim_t raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 1024;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}

static unsigned fit_connections(const struct config *c, rlim_t descriptors)
{
	int64_t wanted = config_int(c, "ssh", "max_connections"), n = (int64_t)descriptors;
	int64_t own = DESCRIPTORS_NODE + DESCRIPTORS_CLIENTS +
		      DESCRIPTORS_THREAD * config_int(c, "runtime", "io_threads");
	int64_t room = n > 2 * DESCRIPTORS_KEPT ? n - DESCRIPTORS_KEPT : n / 2;

	if (room > n - n / 8 - own)
		room = n - n / 8 - own;
	if (room < CONNECTIONS_LEAST)
		room = CONNECTIONS_LEAST;
	return (unsigned)(wanted <= room ? wanted : room);
}

static int open_fanout(struct runtime *rt, struct err *err)
{
	struct fanouts_options o = {
		.max_hosts = rt->max_connections,
		.max_buffered = (size_t)config_bytes(rt->config, "store", "buffer"),
	};

	rt->pool = pool_new(rt->loop, (int)config_int(rt->config, "runtime", "io_threads"), err);
	if (!rt->pool)
		return -err->code;
	rt->fanouts = fanouts_new(rt->loop, rt->pool, &o, err);
	return rt->fanouts ? 0 : -err->code;
}

/* ---- the configuration ---- */

/* Where lines about the configuration go: standard error before there is a log. */
struct teller {
	const char *program;
	bool log;
};

static void tell_problem(void *arg, const char *line)
{
	const struct teller *t = arg;

	if (t->log)
		log_error("config", "%s", line);
	else
		fprintf(stderr, "%s: %s\n", t->program, line);
}

static void tell_warning(void *arg, const char *line)
{
	const struct teller *t = arg;

	if (t->log)
		log_warn("config", "%s", line);
	else
		fprintf(stderr, "%s: warning: %s\n", t->program, line);
}

/* Messages are told already: the caller has none to add. */
static int told(struct err *err)
{
	return err_set(err, ERR_INVALID, "%s", "");
}

static int open_config(struct runtime *rt, const struct process_options *o, struct err *err)
{
	struct teller t = { .program = o->program };
	struct config *config = config_read(o->config, tell_problem, &t, err);
	enum setup_kind kind = o->test			     ? SETUP_TEST
			       : !strcmp(o->program, "exed") ? SETUP_NODE
							     : SETUP_SCRIPT;
	rlim_t descriptors = raise_descriptors();
	struct setup s;

	if (!config)
		return told(err);
	rt->max_connections = fit_connections(config, descriptors);
	if (setup_open(&s, config, kind, rt->max_connections, tell_problem, tell_warning, &t)) {
		setup_close(&s);
		return told(err);
	}
	setup_use(&s, rt);
	t.log = kind == SETUP_NODE;
	for (const char *const *w = config_warnings(rt->config); *w; w++)
		tell_warning(&t, *w);
	if (o->ready_fd && !strcmp(config_str(rt->config, "log", "error_log"), "-"))
		fprintf(stderr, "%s: warning: in the background nobody sees standard output; set [log] "
				"error_log\n", o->program);
	if (rt->max_connections < config_int(rt->config, "ssh", "max_connections"))
		log_write(o->quiet ? LOG_DEBUG : LOG_WARNING, "exed",
			  "max_connections is lowered to %u: so many descriptors there are",
			  rt->max_connections);
	if (o->test)
		log_set_level(LOG_NONE);
	else if (o->quiet && log_get_level() < LOG_WARNING)
		log_set_level(LOG_WARNING);
	return 0;
}

int process_reload(struct runtime *rt, int (*accept)(void *arg, const struct config *fresh),
		   void *arg)
{
	struct teller t = { .program = rt->program, .log = true };
	struct config *fresh;
	struct setup s = { .error_fd = -1, .access_fd = -1 };
	struct err err;
	int rc;

	fresh = config_read(rt->config_file, tell_problem, &t, &err);
	if (!fresh)
		return -err.code;
	rc = config_keep(fresh, rt->config, tell_warning, &t);
	if (rc)
		config_free(fresh);
	else
		rc = setup_open(&s, fresh, SETUP_NODE, rt->max_connections, tell_problem,
				tell_warning, &t);
	if (!rc)
		rc = accept(arg, fresh);
	if (rc) {
		setup_close(&s);
		return rc;
	}
	setup_use(&s, rt);
	for (const char *const *w = config_warnings(rt->config); *w; w++)
		tell_warning(&t, *w);
	return 0;
}

int process_reload_ssh(struct runtime *rt)
{
	struct teller t = { .program = rt->program, .log = true };

	return setup_renew_ssh(rt, tell_problem, tell_warning, &t);
}

int process_open(struct runtime *rt, struct script **script, const struct process_options *o,
		 struct err *err)
{
	struct script_limits limits;

	memset(rt, 0, sizeof(*rt));
	rt->program = o->program;
	rt->ready_fd = o->ready_fd;
	rt->config_file = o->config;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a log at the limit of a file's size is a log that cannot be written */
	evthread_use_pthreads();
	libssh2_init(0);
	if (script_find_share(share_dir, sizeof(share_dir), err))
		return -err->code;
	rt->share = share_dir;
	rt->program_fd = task_host_open_program(err);
	if (rt->program_fd < 0)
		return -err->code;
	if (open_config(rt, o, err))
		return -err->code;
	rt->loop = loop_new(err);
	if (!rt->loop)
		return -err->code;
	rt->notify = notify_new(rt->loop);
	if (open_fanout(rt, err))
		return -err->code;
	limits = (struct script_limits){
		.memory = (size_t)config_bytes(rt->config, "runtime", "lua_memory"),
		.budget = o->bounded ? (unsigned long)config_int(rt->config, "runtime", "lua_budget") : 0,
		.fibers = (unsigned)config_int(rt->config, "runtime", "fibers"),
		.by_turns = o->bounded,
	};
	*script = script_new(rt, bind_modules, &limits, err);
	return *script ? 0 : -err->code;
}

/* Of hosts that do not answer a kill in time nobody hears any more. Their fan-outs end while those are still
 * there who are told so. */
static void give_up_hosts(struct runtime *rt)
{
	proc_stop_all(rt->loop);
	pool_stop(rt->pool);
	if (!fanouts_end_rest(rt->fanouts))
		left_forget(); /* what they hold is told by nobody */
}

void process_close(struct runtime *rt, struct script *script)
{
	if (script && script_returned(script))
		left_fibers(script);
	if (script)
		script_end_fibers(script);
	/* Of a fan-out whose fiber has ended records may wait for somebody to take them: once its userdata is
	 * collected nobody is waited for. */
	if (script && rt->fanouts && fanouts_counts(rt->fanouts).fanouts)
		lua_gc(script_state(script), LUA_GCCOLLECT);
	if (rt->fanouts && !fanouts_end_all(rt->fanouts))
		give_up_hosts(rt);
	script_free(script);
	http_client_free(rt->http_client);
	/* What outlived that limit ends now, while there is still a fan-out to tell. */
	if (rt->loop)
		proc_stop_all(rt->loop);
	pool_free(rt->pool);
	fanouts_free(rt->fanouts);
	notify_free(rt->notify);
	loop_free(rt->loop);
	if (rt->program_fd > 0)
		close(rt->program_fd);
	setup_close(&(struct setup){ .config = rt->config, .ssh = rt->ssh, .tokens = rt->tokens,
				     .tls = rt->tls, .error_fd = -1, .access_fd = -1 });
	log_close();
	libssh2_exit();
	libevent_global_shutdown();
	left_gauges();
}
