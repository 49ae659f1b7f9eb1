/* SPDX-License-Identifier: MIT */
/* exed-run: runs a Lua script, a task, or one of the verbs of lua/exed/cli, with exed's modules.
 * Exit codes: what the file returns as an integer, else 0; 1 it raised; 2 wrong usage or could not start;
 * 130 interrupted. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fanout.h"
#include "fiber.h"
#include "log.h"
#include "process.h"
#include "task_child.h"
#include "version.h"

#define INTERRUPTED 130

static const char usage[] =
	"usage: exed-run [-c FILE] SCRIPT.lua [ARGUMENT...]\n"
	"       exed-run [-c FILE] VERB [ARGUMENT...]\n"
	"       exed-run [-c FILE] TASK [OPTION...] PATTERN\n"
	"  -c, --conf FILE   settings; default ./exed.conf, if there is one\n"
	"  -h, --help        the verbs, and what they do\n"
	"  -v, --version     the version\n"
	"A SCRIPT's name ends in .lua or holds a slash.\n";

static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
#define NENDS (sizeof(ends) / sizeof(*ends))

struct run {
	struct runtime rt;
	struct script *script;
	struct event *events[NENDS];
};

static void script_ended(void *arg, const struct script_end *end)
{
	struct run *run = arg;

	loop_stop(run->rt.loop, end->ok ? end->result & 255 : 1);
}

/* ---- signals ---- */

/* libevent's handler, which tells the loop. */
static void (*tell_loop)(int);
static volatile sig_atomic_t signals;

/* The second one is final, and must be so when the loop does not turn: a script may compute, a terminal may
 * be stopped. */
static void on_signal(int number)
{
	static const char text[] = "\nexed-run: left at once; what ran on hosts may still run\n";

	if (signals++) {
		if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
			_exit(INTERRUPTED);
		_exit(INTERRUPTED);
	}
	tell_loop(number);
}

/* Whoever waits for signals ends by itself. For everybody else fibers are ended, and what they run is killed,
 * when the loop has stopped. */
static void interrupted(evutil_socket_t number, short what, void *arg)
{
	struct run *run = arg;

	(void)number;
	(void)what;
	if (run->rt.signals_taken)
		return;
	if (fanouts_counts(run->rt.fanouts).running)
		fprintf(stderr, "exed-run: interrupted, ending what runs (once more to leave at once)\n");
	loop_stop(run->rt.loop, INTERRUPTED);
}

static int catch_signal(struct run *run, size_t i, struct err *err)
{
	struct sigaction act;

	if (sigaction(ends[i], NULL, &act) || act.sa_handler == SIG_IGN)
		return 0; /* nohup, a job in the background */
	run->events[i] = evsignal_new(loop_base(run->rt.loop), ends[i], interrupted, run);
	if (!run->events[i] || evsignal_add(run->events[i], NULL) || sigaction(ends[i], NULL, &act))
		return err_set(err, ERR_MEMORY, "no memory");
	tell_loop = act.sa_handler;
	act.sa_handler = on_signal;
	return sigaction(ends[i], &act, NULL) ? err_errno(err, "sigaction") : 0;
}

/* ---- what to run ---- */

/* A script finds modules beside it. */
static int add_script_dir(lua_State *L)
{
	const char *script = lua_touserdata(L, 1);
	const char *slash = strrchr(script, '/');
	int n = slash ? (int)(slash - script) : 1;

	lua_getglobal(L, "package");
	lua_pushfstring(L, "%s/?.lua;", lua_pushlstring(L, slash ? script : ".", (size_t)n));
	lua_getfield(L, 2, "path");
	lua_concat(L, 2);
	lua_setfield(L, 2, "path");
	return 0;
}

static bool is_script(const char *name)
{
	size_t n = strlen(name);

	return strchr(name, '/') || (n > 4 && !strcmp(name + n - 4, ".lua"));
}

static int start(struct run *run, int argc, char *argv[], struct err *err)
{
	lua_State *L = script_state(run->script);
	char path[4096];

	for (size_t i = 0; i < NENDS; i++)
		if (catch_signal(run, i, err))
			return -err->code;
	if (is_script(argv[0])) {
		lua_pushcfunction(L, add_script_dir);
		lua_pushlightuserdata(L, argv[0]);
		if (lua_pcall(L, 1, 0, 0) != LUA_OK)
			return err_set(err, ERR_MEMORY, "%s", lua_tostring(L, -1));
	}
	snprintf(path, sizeof(path), "%s/lua/exed/cli/%s.lua", run->rt.share,
		 is_script(argv[0]) ? "script" : "main");
	return script_run_file(run->script, path, argc, argv, script_ended, run, err);
}

/* ---- the program ---- */

/* Returns an exit code, or -1 to go on. Help is main.lua's, which knows the verbs. */
static int read_options(int argc, char *argv[], const char **config, bool *help)
{
	static const struct option options[] = {
		{ "conf", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		/* In place of a verb, since tasks may have these names; main.lua knows them. */
		{ "list", no_argument, NULL, 'w' },
		{ "check", no_argument, NULL, 'w' },
		{ "new", no_argument, NULL, 'w' },
		{ "test", no_argument, NULL, 'w' },
		{ "replay", no_argument, NULL, 'w' },
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
			*help = true;
			return -1;
		case 'v':
			puts("exed-run " EXED_VERSION);
			return 0;
		case 'w':
			optind--;
			return -1;
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

static bool is_verb(const char *name)
{
	char share[4096], path[sizeof(share) + 300];
	struct err err;

	if (strncmp(name, "--", 2) == 0)
		return true;
	if (script_find_share(share, sizeof(share), &err))
		return false;
	snprintf(path, sizeof(path), "%s/lua/exed/cli/%.255s.lua", share, name);
	return access(path, F_OK) == 0;
}

/* Help must be had from a directory with broken settings, too. Not that of a task: settings say where tasks
 * are. */
static bool wants_help(int argc, char *argv[])
{
	if (!strcmp(argv[0], "help"))
		return argc < 2 || is_verb(argv[1]);
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help"))
			return is_verb(argv[0]) && (strcmp(argv[0], "task") || i == 1);
	return false;
}

/* What Lua's print wrote may still be in stdio's buffer, and be refused only now. */
static int check_output(int code)
{
	if (!fflush(stdout) && !ferror(stdout))
		return code;
	fprintf(stderr, "exed-run: its output could not be written whole\n");
	return code ? code : 1;
}

int main(int argc, char *argv[])
{
	struct process_options o = { .program = "exed-run" };
	struct run run = { 0 };
	struct err err = { 0 };
	char *help_args[] = { (char[]){ "help" }, NULL };
	bool help = false;
	int code;

	/* At once: what a program does at its end, as a sanitizer, the sandbox does not let it do. */
	if (argc == 4 && !strcmp(argv[1], "--task"))
		_exit(task_child_run(strtoull(argv[2], NULL, 10), strtoul(argv[3], NULL, 10)));
	code = read_options(argc, argv, &o.config, &help);
	if (code >= 0)
		return check_output(code);
	argv = help ? help_args : argv + optind;
	argc = help ? 1 : argc - optind;
	o.quiet = !is_script(argv[0]);
	if (o.quiet && wants_help(argc, argv))
		o.config = "/dev/null";
	if (process_open(&run.rt, &run.script, &o, &err) || start(&run, argc, argv, &err)) {
		if (*err.message) /* else it is told already */
			fprintf(stderr, "exed-run: %s\n", err.message);
		code = 2;
	} else {
		code = loop_run(run.rt.loop);
	}
	for (size_t i = 0; i < NENDS; i++)
		if (run.events[i])
			event_free(run.events[i]);
	process_close(&run.rt, run.script);
	return check_output(code);
}
