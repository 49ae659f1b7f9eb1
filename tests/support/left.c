/* SPDX-License-Identifier: MIT */
/* left: loaded into every program under test (LD_PRELOAD, by tests/run.py). When one ends by itself it must have
 * closed what it has opened and waited for what it has started: what is left is written to
 * $TMPDIR/sanitizer.left.PID, which fails the test file. runtime/left.c writes to the same file what it finds of
 * fibers, waits and the like: EXED_TEST_LEFT asks for that. Programs are exed and its tools, and the unit
 * tests; the processes they start are left alone. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 4096

static bool before[MOST]; /* open at the start: the parent's */
static bool had_children; /* of what this program was before its exec */
static char report[512];
static pid_t owner;       /* a fork of it is another program */

static bool is_tested(void)
{
	const char *name = program_invocation_short_name;

	return !strncmp(name, "exed", 4) || !strncmp(name, "torture-exed", 12) || !strncmp(name, "test_", 5);
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	FILE *out = fopen(report, "ae");
	va_list args;

	if (!out)
		return;
	fprintf(out, "%s ended with ", program_invocation_short_name);
	va_start(args, fmt);
	vfprintf(out, fmt, args);
	va_end(args);
	fputc('\n', out);
	fclose(out);
}

/* ---- descriptors ---- */

/* Calls fn for each open descriptor but that of the directory itself. */
static void each_fd(void (*fn)(int fd))
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] != '.' && fd != dirfd(dir) && fd < MOST)
			fn(fd);
	}
	if (dir)
		closedir(dir);
}

static void note(int fd)
{
	before[fd] = true;
}

static void tell(int fd)
{
	char path[64], what[256];
	ssize_t n;

	if (before[fd])
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, what, sizeof(what) - 1);
	what[n > 0 ? n : 0] = '\0';
	say("descriptor %d open: %s", fd, what);
}

/* ---- children ---- */

/* One that runs or that nobody has waited for; *pid is 0 when it runs. */
static bool has_child(pid_t *pid)
{
	siginfo_t info = { 0 };
	int rc = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);

	*pid = rc ? 0 : info.si_pid;
	return !rc || errno != ECHILD;
}

/* What `exed -d` leaves in the background: a session of its own that runs the same program. */
static bool is_daemon(int pid)
{
	char path[64], theirs[256] = "", ours[256] = "";

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	if (getsid(pid) != pid || readlink(path, theirs, sizeof(theirs) - 1) < 0)
		return false;
	return readlink("/proc/self/exe", ours, sizeof(ours) - 1) > 0 && !strcmp(theirs, ours);
}

/* Children of threads that have ended are the main thread's. */
static void tell_running(void)
{
	FILE *f = fopen("/proc/thread-self/children", "re");
	int pid;

	while (f && fscanf(f, "%d", &pid) == 1)
		if (!is_daemon(pid))
			say("child %d that runs", pid);
	if (f)
		fclose(f);
}

/* ---- the program's start and end ---- */

__attribute__((constructor)) static void at_start(void)
{
	const char *where = getenv("TMPDIR");
	pid_t pid;

	if (!where || !is_tested())
		return;
	unsetenv("LD_PRELOAD");
	owner = getpid();
	snprintf(report, sizeof(report), "%s/sanitizer.left.%d", where, (int)owner);
	setenv("EXED_TEST_LEFT", report, 1);
	each_fd(note);
	had_children = has_child(&pid);
}

__attribute__((destructor)) static void at_end(void)
{
	pid_t pid;

	if (!owner || owner != getpid())
		return;
	each_fd(tell);
	if (had_children || !has_child(&pid))
		return;
	if (pid)
		say("child %d ended, which nobody has waited for", (int)pid);
	else
		tell_running();
}
