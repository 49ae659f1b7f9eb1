/* SPDX-License-Identifier: MIT */
/* left: loaded into every program under test (LD_PRELOAD, by tests/run.py). When one ends by itself it must have
 * closed what it has opened: what is still open is written to $TMPDIR/sanitizer.left.PID, which fails the
 * test file. Programs are exed and its tools, and the unit tests; the processes they start are left alone. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 4096

static bool before[MOST]; /* open at the start: the parent's */
static char report[512];
static pid_t owner;       /* a fork of it is another program */

static bool is_tested(void)
{
	const char *name = program_invocation_short_name;

	return !strncmp(name, "exed", 4) || !strncmp(name, "torture-exed", 12) || !strncmp(name, "test_", 5);
}

/* Calls fn for each open descriptor but that of the directory itself. */
static void each_fd(void (*fn)(int fd, void *arg), void *arg)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] != '.' && fd != dirfd(dir) && fd < MOST)
			fn(fd, arg);
	}
	if (dir)
		closedir(dir);
}

static void note(int fd, void *arg)
{
	(void)arg;
	before[fd] = true;
}

__attribute__((constructor)) static void at_start(void)
{
	const char *where = getenv("TMPDIR");

	if (!where || !is_tested())
		return;
	unsetenv("LD_PRELOAD");
	owner = getpid();
	snprintf(report, sizeof(report), "%s/sanitizer.left.%d", where, (int)owner);
	each_fd(note, NULL);
}

static void tell(int fd, void *arg)
{
	char path[64], what[256];
	FILE **out = arg;
	ssize_t n;

	if (before[fd])
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, what, sizeof(what) - 1);
	what[n > 0 ? n : 0] = '\0';
	if (!*out)
		*out = fopen(report, "we");
	if (*out)
		fprintf(*out, "%s ended with descriptor %d open: %s\n", program_invocation_short_name, fd, what);
}

__attribute__((destructor)) static void at_end(void)
{
	FILE *out = NULL;

	if (!owner || owner != getpid())
		return;
	each_fd(tell, &out);
	if (out)
		fclose(out);
}
