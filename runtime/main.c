/* SPDX-License-Identifier: MIT */
/* exed: the daemon. Opens the runtime and runs lua/exed/main.lua, which is the node; the node ends at
 * SIGTERM or SIGINT.
 * Exit codes: 0 ended as asked, 1 the node cannot go on, 2 wrong usage or configuration. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "process.h"
#include "redis.h"
#include "task_child.h"
#include "version.h"

static const char usage[] =
	"usage: exed [-c FILE] [-d]\n"
	"       exed worker --exe-conf FILE\n"
	"  -c, --conf FILE       settings; default ./exed.conf, if there is one\n"
	"  -d, --daemon          go to the background once it serves\n"
	"  -t, --test            check the settings and leave\n"
	"  -h, --help            this text\n"
	"  -v, --version         the version\n"
	"  worker                run jobs and answer no HTTP, as [runner] role = worker\n"
	"      --exe-conf FILE   as --conf\n";

struct args {
	const char *config;
	bool daemon, test;
	int exit; /* -1: go on */
};

static void read_args(struct args *a, int argc, char *argv[])
{
	static const struct option options[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "exe-conf", required_argument, NULL, 'c' },
		{ "daemon", no_argument, NULL, 'd' },
		{ "test", no_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while (a->exit < 0 && (c = getopt_long(argc, argv, "c:dthv", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			a->config = optarg;
			break;
		case 'd':
			a->daemon = true;
			break;
		case 't':
			a->test = true;
			break;
		case 'h':
			fputs(usage, stdout);
			a->exit = 0;
			break;
		case 'v':
			puts("exed " EXED_VERSION);
			a->exit = 0;
			break;
		default:
			fputs(usage, stderr);
			a->exit = 2;
		}
	}
	if (a->exit >= 0 || optind == argc)
		return;
	if (optind == argc - 1 && !strcmp(argv[optind], "worker")) {
		setenv("EXED_RUNNER_ROLE", "worker", 1);
		return;
	}
	fprintf(stderr, "exed: \"%s\" is not understood\n%s", argv[optind], usage);
	a->exit = 2;
}

/* What the settings mean together, for a node. */
static int check_config(const struct config *c, struct err *err)
{
	const char *url = config_str(c, "runner", "redis_url");
	struct redis_address address;
	struct err why;

	if (config_check(c, err))
		return -err->code;
	if (!url || !strcmp(url, "embedded"))
		return 0;
	if (redis_address_parse(&address, url, &why))
		return err_set(err, ERR_INVALID, "[runner] %s", why.message);
	redis_address_deinit(&address);
	return 0;
}

static int test_config(const char *path)
{
	struct err err;
	struct config *c = config_load(path, &err);

	if (!c || check_config(c, &err)) {
		fprintf(stderr, "exed: %s\n", err.message);
		config_free(c);
		return 2;
	}
	for (const char *const *w = config_warnings(c); w && *w; w++)
		fprintf(stderr, "exed: warning: %s\n", *w);
	printf("%s: ok\n", config_path(c) ? config_path(c) : "no file, all defaults");
	config_free(c);
	return 0;
}

struct program {
	struct runtime rt;
	struct script *script;
};

static void node_ended(void *arg, const struct script_end *end)
{
	struct program *p = arg;

	loop_stop(p->rt.loop, end->ok ? 0 : 1);
}

/* -d: goes on in a child of its own session, and waits until that serves or has ended. Returns -1 in
 * the child, whose end of the pipe is *ready_fd, else the exit code. */
static int go_to_background(int *ready_fd)
{
	int fds[2], status = 0;
	char byte;
	pid_t pid;
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC) || (pid = fork()) < 0) {
		perror("exed: cannot go to the background");
		return 1;
	}
	if (pid == 0) {
		close(fds[0]);
		setsid();
		*ready_fd = fds[1];
		return -1;
	}
	close(fds[1]);
	do
		n = read(fds[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int run_node(struct program *p, const struct args *a, int ready_fd, struct err *err)
{
	struct process_options o = { .program = "exed", .config = a->config, .bounded = true,
				     .ready_fd = ready_fd };
	char path[4096];

	if (process_open(&p->rt, &p->script, &o, err) || check_config(p->rt.config, err))
		return 2;
	snprintf(path, sizeof(path), "%s/lua/exed/main.lua", p->rt.share);
	if (script_run_file(p->script, path, 0, NULL, node_ended, p, err))
		return 1;
	return loop_run(p->rt.loop);
}

int main(int argc, char *argv[])
{
	struct args a = { .exit = -1 };
	struct program p = { 0 };
	struct err err = { 0 };
	int code, ready_fd = 0;

	if (argc == 4 && !strcmp(argv[1], "--task"))
		return task_child_run(strtoull(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
	read_args(&a, argc, argv);
	if (a.exit >= 0)
		return a.exit;
	if (a.test)
		return test_config(a.config);
	if (a.daemon && (code = go_to_background(&ready_fd)) >= 0)
		return code;
	code = run_node(&p, &a, ready_fd, &err);
	if (err.code)
		fprintf(stderr, "exed: %s\n", err.message);
	process_close(&p.rt, p.script);
	return code;
}
