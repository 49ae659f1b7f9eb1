/* SPDX-License-Identifier: MIT */
/* process: opens and closes the runtime of a process. Loop thread. */
#include "process.h"

#include <event2/thread.h>
#include <libssh2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bind/bind.h"
#include "buf.h"
#include "config.h"
#include "fanout.h"
#include "http_client.h"
#include "log.h"
#include "pool.h"
#include "proc.h"
#include "ssh.h"
#include "task_host.h"

/* Descriptors that are not connections to hosts: listeners, clients, Redis, logs, threads. */
#define DESCRIPTORS_KEPT 200

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
	int64_t wanted = config_int(c, "ssh", "max_connections");
	int64_t room = descriptors > 2 * DESCRIPTORS_KEPT
			       ? (int64_t)descriptors - DESCRIPTORS_KEPT
			       : (int64_t)descriptors / 2;

	if (wanted <= room)
		return (unsigned)wanted;
	log_warn("exed", "max_connections=%lld is lowered to %lld: the limit of descriptors is %lld",
		 (long long)wanted, (long long)room, (long long)descriptors);
	return (unsigned)room;
}

/* The items of a list as one text, for free(); NULL when there are none, or memory is out. */
static char *join(const struct config *c, const char *section, const char *key)
{
	struct buf b = {0};
	size_t n;
	const char *const *items = config_list(c, section, key, &n);

	for (size_t i = 0; i < n; i++)
		buf_printf(&b, "%s%s", i ? "," : "", items[i]);
	return n ? buf_take(&b, &n) : NULL;
}

static struct ssh_settings *open_ssh(const struct config *c, unsigned max_connections,
				     struct err *err)
{
	size_t nkeys;
	const char *const *keys = config_list(c, "ssh", "key", &nkeys);
	const char *checking = config_str(c, "ssh", "host_key_checking");
	const char *agent = config_str(c, "ssh", "agent");
	char *resolver = join(c, "runtime", "resolver");
	struct ssh_settings *s;
	struct ssh_options o = {
		.user = config_str(c, "ssh", "user"),
		.port = (int)config_int(c, "ssh", "port"),
		.keys = nkeys ? keys : NULL,
		.key_passphrase_file = config_str(c, "ssh", "key_passphrase_file"),
		.agent = agent && !strcmp(agent, "none") ? "" : agent,
		.resolver = resolver,
		.known_hosts = config_str(c, "ssh", "known_hosts"),
		.checking = !strcmp(checking, "strict")	      ? SSH_CHECK_STRICT
			    : !strcmp(checking, "accept-new") ? SSH_CHECK_ACCEPT_NEW
							      : SSH_CHECK_OFF,
		.connect_timeout_ms = config_ms(c, "ssh", "connect_timeout"),
		.keep_ms = config_ms(c, "ssh", "keep"),
		.max_connections = max_connections,
		.max_sessions = (unsigned)config_int(c, "ssh", "max_sessions"),
	};

	s = ssh_settings_new(&o, err);
	free(resolver);
	return s;
}

static int open_log(const struct config *c, bool quiet, struct err *err)
{
	int level = log_level_parse(config_str(c, "log", "log_level"));

	if (quiet)
		return log_open(NULL, NULL, level > LOG_WARNING ? (enum log_level)level : LOG_WARNING,
				err);
	return log_open(config_str(c, "log", "error_log"), config_str(c, "log", "access_log"),
			(enum log_level)level, err);
}

static int open_fanout(struct runtime *rt, struct err *err)
{
	unsigned connections = fit_connections(rt->config, raise_descriptors());
	struct fanouts_options o = {
		.max_hosts = connections,
		.max_buffered = (size_t)config_bytes(rt->config, "store", "buffer"),
	};

	rt->ssh = open_ssh(rt->config, connections, err);
	if (!rt->ssh)
		return -err->code;
	rt->pool = pool_new(rt->loop, (int)config_int(rt->config, "runtime", "io_threads"), err);
	if (!rt->pool)
		return -err->code;
	rt->fanouts = fanouts_new(rt->loop, rt->pool, &o, err);
	return rt->fanouts ? 0 : -err->code;
}

int process_open(struct runtime *rt, struct script **script, const struct process_options *o,
		 struct err *err)
{
	struct script_limits limits;

	memset(rt, 0, sizeof(*rt));
	rt->program = o->program;
	rt->ready_fd = o->ready_fd;
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
	rt->config = config_load(o->config, err);
	if (!rt->config || open_log(rt->config, o->quiet, err))
		return -err->code;
	for (const char *const *w = config_warnings(rt->config); w && *w; w++)
		log_warn("config", "%s", *w);
	rt->loop = loop_new(err);
	if (!rt->loop || open_fanout(rt, err))
		return -err->code;
	limits = (struct script_limits){
		.memory = (size_t)config_bytes(rt->config, "runtime", "lua_memory"),
		.budget = o->bounded ? (unsigned long)config_int(rt->config, "runtime", "lua_budget") : 0,
		.fibers = (unsigned)config_int(rt->config, "runtime", "fibers"),
	};
	*script = script_new(rt, bind_modules, &limits, err);
	return *script ? 0 : -err->code;
}

void process_close(struct runtime *rt, struct script *script)
{
	if (script)
		script_end_fibers(script);
	if (rt->fanouts)
		fanouts_end_all(rt->fanouts);
	script_free(script);
	http_client_free(rt->http_client);
	/* What outlived that limit ends now, while there is still a fan-out to tell. */
	if (rt->loop)
		proc_stop_all(rt->loop);
	pool_free(rt->pool);
	fanouts_free(rt->fanouts);
	ssh_settings_unref(rt->ssh);
	loop_free(rt->loop);
	config_free(rt->config);
	if (rt->program_fd > 0)
		close(rt->program_fd);
	log_close();
	libssh2_exit();
	libevent_global_shutdown();
}
