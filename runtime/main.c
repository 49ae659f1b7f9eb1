/* SPDX-License-Identifier: MIT */
/* exed: the daemon. Opens the runtime and runs lua/exed/main.lua, which is the node; the node ends at
 * SIGTERM or SIGINT.
 * Exit codes: 0 ended as asked, 1 the node cannot go on, 2 wrong usage or configuration. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "process.h"
#include "task_child.h"
#include "version.h"

static const char usage[] =
	"usage: exed [-c FILE] [-d]\n"
	"       exed worker --exe-conf FILE\n"
	"  -c, --conf FILE       settings; default ./exed.conf, if there is one\n"
	"  -d, --daemon          go to the background once it serves\n"
	"  -t, --test            check the settings and the files that they name, and leave\n"
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
	close(fds[0]);
	if (n == 1)
		return 0;
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Runs lua/exed/NAME.lua to its end. */
static int run_lua(struct program *p, const char *name, struct err *err)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/lua/exed/%s.lua", p->rt.share, name);
	if (script_run_file(p->script, path, 0, NULL, node_ended, p, err))
		return 1;
	return loop_run(p->rt.loop);
}

static int test_config(struct program *p, const struct args *a, struct err *err)
{
	struct process_options o = { .program = "exed", .config = a->config, .test = true };

	if (process_open(&p->rt, &p->script, &o, err) || run_lua(p, "check", err))
		return 2;
	printf("%s: ok\n", config_path(p->rt.config) ? config_path(p->rt.config)
						     : "no exed.conf here, all defaults");
	return 0;
}

static int run_node(struct program *p, const struct args *a, int ready_fd, struct err *err)
{
	struct process_options o = { .program = "exed", .config = a->config, .bounded = true,
				     .ready_fd = ready_fd };

	signal(SIGHUP, SIG_IGN); /* until the node waits for it */
	return process_open(&p->rt, &p->script, &o, err) ? 2 : run_lua(p, "main", err);
}

int main(int argc, char *argv[])
{
	struct args a = { .exit = -1 };
	struct program p = { 0 };
	struct err err = { 0 };
	int code, ready_fd = 0;

	/* At once: what a program does at its end, as a sanitizer, the sandbox does not let it do. */
	if (argc == 4 && !strcmp(argv[1], "--task"))
		_exit(task_child_run(strtoull(argv[2], NULL, 10), strtoul(argv[3], NULL, 10)));
	read_args(&a, argc, argv);
	if (a.exit >= 0)
		return a.exit;
	if (a.daemon && !a.test && (code = go_to_background(&ready_fd)) >= 0)
		return code;
	code = a.test ? test_config(&p, &a, &err) : run_node(&p, &a, ready_fd, &err);
	if (*err.message)
		fprintf(stderr, "exed: %s\n", err.message);
	process_close(&p.rt, p.script);
	return code;
}
