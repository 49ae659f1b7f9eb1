/* SPDX-License-Identifier: MIT */
/* faults: counts calls and says which one fails. What it keeps is static: it must work before main and
 * while memory is refused. */
#include "faults.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 10	 /* return addresses that make a place */
#define PLACES (1u << 16) /* more are not told apart */

static const char *const names[] = {
#define FAULT_NAME(name) #name,
	FAULT_FUNCTIONS(FAULT_NAME)
#undef FAULT_NAME
};

static atomic_long counts[FAULT_COUNT];
static int chosen = -1;
static long from, times;
static int chosen_error;
static char show_path[512], calls_path[512];

static _Atomic uint64_t places[PLACES];
static atomic_int nfirst;
static struct {
	int function;
	long n;
} first[PLACES];
static _Thread_local bool busy; /* backtrace allocates at its first call */

/* The leak sanitizer's; NULL without one. */
__attribute__((weak)) extern void __lsan_disable(void);
__attribute__((weak)) extern void __lsan_enable(void);

/* The first backtrace opens libgcc. What the dynamic linker keeps of that looks lost to the leak sanitizer, and
 * finding the names by which it is forgiven would take longer than the whole run. */
static void open_backtrace(void)
{
	void *stack[2];

	busy = true;
	if (__lsan_disable)
		__lsan_disable();
	backtrace(stack, 2);
	if (__lsan_enable)
		__lsan_enable();
	busy = false;
}

static void take(const char *name, char *out, size_t cap)
{
	const char *text = getenv(name);

	snprintf(out, cap, "%s", text ? text : "");
	unsetenv(name);
}

__attribute__((constructor(101))) static void read_environment(void)
{
	char text[200], *colon;

	/* glibc does not look whether it has memory for what it keeps of nsswitch.conf: before the first fault. */
	getpwuid(getuid());
	open_backtrace();
	take("TORTURE_SHOW", show_path, sizeof(show_path));
	take("TORTURE_CALLS", calls_path, sizeof(calls_path));
	take("TORTURE_FAULT", text, sizeof(text));
	colon = strchr(text, ':');
	if (!colon)
		return;
	*colon = '\0';
	if (sscanf(colon + 1, "%ld:%ld:%d", &from, &times, &chosen_error) != 3) {
		fprintf(stderr, "TORTURE_FAULT is NAME:N:TIMES:ERROR\n");
		_exit(125);
	}
	for (int i = 0; i < FAULT_COUNT; i++)
		if (!strcmp(text, names[i]))
			chosen = i;
	if (chosen < 0) {
		fprintf(stderr, "TORTURE_FAULT: no function %s\n", text);
		_exit(125);
	}
}

/* Remembers the call when its place is new. */
static void note_place(enum fault_function f, long n)
{
	void *stack[DEPTH + 2];
	uint64_t hash = 14695981039346656037u + f;
	uint64_t empty = 0;
	uint32_t slot;
	int depth, i;

	busy = true;
	depth = backtrace(stack, DEPTH + 2);
	for (i = 2; i < depth; i++)
		hash = (hash ^ (uintptr_t)stack[i]) * 1099511628211u;
	hash |= 1;
	slot = (uint32_t)(hash >> 20) % PLACES;
	for (i = 0; i < 64; i++, slot = (slot + 1) % PLACES, empty = 0) {
		if (atomic_compare_exchange_strong(&places[slot], &empty, hash)) {
			int k = atomic_fetch_add(&nfirst, 1);

			if (k < (int)PLACES) {
				first[k].function = f;
				first[k].n = n;
			}
			break;
		}
		if (empty == hash)
			break;
	}
	busy = false;
}

static void show_call(enum fault_function f, long n)
{
	void *stack[32];
	int fd, error = errno;

	busy = true;
	fd = open(show_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd >= 0) {
		dprintf(fd, "%s, call %ld\n", names[f], n);
		backtrace_symbols_fd(stack, backtrace(stack, 32), fd);
		close(fd);
	}
	busy = false;
	errno = error;
}

bool fault_watched(enum fault_function f)
{
	return (int)f == chosen || *calls_path;
}

bool fault_due(enum fault_function f, int *error)
{
	long n;

	if (busy)
		return false;
	n = atomic_fetch_add(&counts[f], 1) + 1;
	if (*calls_path)
		note_place(f, n);
	if ((int)f != chosen || n < from || n >= from + times)
		return false;
	if (*show_path)
		show_call(f, n);
	*error = chosen_error;
	return true;
}

__attribute__((destructor)) static void write_calls(void)
{
	int fd, n = atomic_load(&nfirst);

	if (!*calls_path)
		return;
	busy = true;
	fd = open(calls_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	for (int i = 0; fd >= 0 && i < FAULT_COUNT; i++)
		dprintf(fd, "%s %ld\n", names[i], atomic_load(&counts[i]));
	for (int i = 0; fd >= 0 && i < n && i < (int)PLACES; i++)
		dprintf(fd, "%s @%ld\n", names[first[i].function], first[i].n);
	if (fd >= 0)
		close(fd);
	busy = false;
}
