/* SPDX-License-Identifier: MIT */
/* each_case: stands between every unit test and cmocka (the linker's --wrap), and compares after each case what is
 * there with what was there before it: descriptors, children, and the gauges of metrics.h (fibers, waits, messages
 * in queues, ...). What the case has left is printed and fails it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metrics.h"
#include "support.h"

#define CASES 200
#define FDS 1024

int __real__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n,
				   CMFixtureFunction setup, CMFixtureFunction teardown);
int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n,
				   CMFixtureFunction setup, CMFixtureFunction teardown);

struct there {
	int64_t gauges[METRICS];
	bool fds[FDS];
	int nfds;
	bool children;
};

static const struct CMUnitTest *cases; /* as the test file has them */
static size_t at;                      /* one after that which runs */
static struct there before;
static bool shared;                    /* there is a fixture of all cases, */

/* which may make a thread with its queue when a case first needs it. */
static bool is_counted(int fd)
{
	char path[64], what[64] = "";

	if (!shared)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, what, sizeof(what) - 1) < 0 || strcmp(what, "anon_inode:[eventfd]") != 0;
}

static void note_gauge(void *arg, const char *name, int64_t now)
{
	int64_t **next = arg;

	(void)name;
	*(*next)++ = now;
}

static void look(struct there *t)
{
	int64_t *next = t->gauges;
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	memset(t, 0, sizeof(*t));
	metrics_each_gauge(note_gauge, &next);
	t->children = support_has_children();
	while (dir && (e = readdir(dir))) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] == '.' || fd == dirfd(dir) || fd >= FDS || !is_counted(fd))
			continue;
		t->fds[fd] = true;
		t->nfds++;
	}
	if (dir)
		closedir(dir);
}

struct difference { const int64_t *before; int n; };

static void compare_gauge(void *arg, const char *name, int64_t now)
{
	struct difference *d = arg;
	int64_t was = *d->before++;

	if (now == was)
		return;
	print_error("left: %s was %lld before and is %lld\n", name, (long long)was, (long long)now);
	d->n++;
}

/* Those that are new; some may be what a fixture of all cases has opened again in place of another. */
static void print_fds(const struct there *now)
{
	char path[64], what[256] = "";

	print_error("left: %d descriptors more\n", now->nfds - before.nfds);
	for (int fd = 0; fd < FDS; fd++) {
		if (!now->fds[fd] || before.fds[fd])
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		memset(what, 0, sizeof(what));
		if (readlink(path, what, sizeof(what) - 1) > 0)
			print_error("left: descriptor %d open: %s\n", fd, what);
	}
}

/* How many kinds of things are there that were not. */
static int compare(void)
{
	struct difference d = { before.gauges, 0 };
	struct there now;

	look(&now);
	metrics_each_gauge(compare_gauge, &d);
	if (now.nfds > before.nfds) {
		print_fds(&now);
		d.n++;
	}
	if (now.children && !before.children) {
		print_error("left: a child that runs, or that nobody has waited for\n");
		d.n++;
	}
	return d.n;
}

static int begin_case(void **state)
{
	const struct CMUnitTest *c = &cases[at++];

	look(&before);
	return c->setup_func ? c->setup_func(state) : 0;
}

static int end_case(void **state)
{
	const struct CMUnitTest *c = &cases[at - 1];
	int rc = c->teardown_func ? c->teardown_func(state) : 0;

	return rc ? rc : compare();
}

int __wrap__cmocka_run_group_tests(const char *name, const struct CMUnitTest *tests, size_t n,
				   CMFixtureFunction setup, CMFixtureFunction teardown)
{
	struct CMUnitTest watched[CASES];

	if (n > CASES)
		abort(); /* there are never so many in one file */
	memcpy(watched, tests, n * sizeof(*tests));
	for (size_t i = 0; i < n; i++) {
		watched[i].setup_func = begin_case;
		watched[i].teardown_func = end_case;
	}
	cases = tests;
	shared = setup != NULL;
	at = 0;
	return __real__cmocka_run_group_tests(name, watched, n, setup, teardown);
}
