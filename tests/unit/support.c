/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "loop.h"

static void nothing(void *arg)
{
	(void)arg;
}

bool support_turn_until(struct loop *loop, int64_t ms, bool (*ready)(void *arg), void *arg)
{
	int64_t end = loop_now_ms() + ms;
	struct timer tick;

	if (timer_init(&tick, loop_base(loop), nothing, NULL))
		return false;
	while (!ready(arg) && loop_now_ms() < end) {
		timer_set(&tick, 20);
		event_base_loop(loop_base(loop), EVLOOP_ONCE);
	}
	timer_deinit(&tick);
	return ready(arg);
}

struct at_least { const int *flag; int n; };

static bool reached(void *arg)
{
	const struct at_least *a = arg;

	return *a->flag >= a->n;
}

bool support_turn_to(struct loop *loop, const int *flag, int n)
{
	struct at_least a = { flag, n };

	return support_turn_until(loop, 20000, reached, &a);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

void support_turn(struct loop *loop, int64_t ms)
{
	support_turn_until(loop, ms, never, NULL);
}

int support_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -3; /* ., .. and the directory itself */

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

bool support_has_children(void)
{
	siginfo_t info;

	return !waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || errno != ECHILD;
}

bool support_make_dir(char *dir, size_t cap)
{
	const char *tmp = getenv("TMPDIR");
	int n = snprintf(dir, cap, "%s/exed-XXXXXX", tmp ? tmp : "/tmp");

	return n > 0 && (size_t)n < cap && mkdtemp(dir);
}
