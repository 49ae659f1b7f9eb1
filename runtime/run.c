/* SPDX-License-Identifier: MIT */
/* exed-run: runs a Lua script with exed's modules and no server.
 * Exit codes: 0 it ended well, 1 it raised or said os.exit(1), 2 wrong usage, 130 interrupted. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "log.h"
#include "process.h"
#include "version.h"

static const char usage[] =
	"usage: exed-run [-c FILE] SCRIPT.lua [ARGUMENT...]\n"
	"Runs a Lua script with exed's modules (exed.hosts, exed.fanout, exed.http, ...), no server needed.\n"
	"  -c, --conf FILE   settings; default ./exed.conf, if there is one\n"
	"  -h, --help        this text\n"
	"  -v, --version     the version\n";

struct run {
	struct runtime rt;
	struct script *script;
	struct event *interrupt;
	int interrupts;
};

static void script_ended(void *arg, bool ok)
{
	struct run *run = arg;

	loop_stop(run->rt.loop, run->interrupts ? 130 : ok ? 0 : 1);
}

/* The first one ends the script's fibers, which cancel what they run; a second one is final. */
static void interrupted(evutil_socket_t fd, short what, void *arg)
{
	struct run *run = arg;

	(void)fd;
	(void)what;
	if (run->interrupts++)
		_Exit(130);
	fprintf(stderr, "interrupted: ending what runs (once more to leave at once)\n");
	loop_stop(run->rt.loop, 130);
}

/* A script finds modules beside it. */
static void add_script_dir(lua_State *L, const char *script)
{
	const char *slash = strrchr(script, '/');
	int n = slash ? (int)(slash - script) : 1;

	lua_getglobal(L, "package");
	lua_pushfstring(L, "%s/?.lua;", lua_pushlstring(L, slash ? script : ".", (size_t)n));
	lua_getfield(L, -3, "path");
	lua_concat(L, 2);
	lua_setfield(L, -3, "path");
	lua_pop(L, 2);
}

static int run_script(struct run *run, int argc, char *argv[], struct err *err)
{
	run->interrupt = evsignal_new(loop_base(run->rt.loop), SIGINT, interrupted, run);
	if (!run->interrupt || evsignal_add(run->interrupt, NULL))
		return err_set(err, ERR_MEMORY, "no memory");
	add_script_dir(script_state(run->script), argv[0]);
	return script_run_file(run->script, argv[0], argc - 1, argv + 1, script_ended, run, err);
}

/* Returns an exit code, or -1 to go on. */
static int read_options(int argc, char *argv[], const char **config)
{
	static const struct option options[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	/* "+": what follows the script's name is the script's. */
	while ((c = getopt_long(argc, argv, "+c:hv", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			*config = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'v':
			puts("exed-run " EXED_VERSION);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind < argc)
		return -1;
	fputs(usage, stderr);
	return 2;
}

int main(int argc, char *argv[])
{
	struct process_options o = { .program = "exed-run" };
	struct run run = { 0 };
	struct err err = { 0 };
	int code = read_options(argc, argv, &o.config);

	if (code >= 0)
		return code;
	if (process_open(&run.rt, &run.script, &o, &err) ||
	    run_script(&run, argc - optind, argv + optind, &err)) {
		fprintf(stderr, "exed-run: %s\n", err.message);
		code = 2;
	} else {
		code = loop_run(run.rt.loop);
	}
	if (run.interrupt)
		event_free(run.interrupt);
	process_close(&run.rt, run.script);
	return code;
}
