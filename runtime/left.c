/* SPDX-License-Identifier: MIT */
/* left: tells a test what was not ended. No state but the environment's, and for the address sanitizer; any thread,
 * see the header. */
#include "left.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "fiber.h"
#include "metrics.h"
#include "script.h"

#ifdef __SANITIZE_ADDRESS__
static bool forgotten;

/* The sanitizer asks at the end whether it is not to tell of memory. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return forgotten;
}
#endif

bool left_is_wanted(void)
{
	return getenv("EXED_TEST_LEFT") != NULL;
}

void left_forget(void)
{
	unsetenv("EXED_TEST_LEFT");
#ifdef __SANITIZE_ADDRESS__
	forgotten = true;
#endif
}

void left_tell(const char *fmt, ...)
{
	const char *path = getenv("EXED_TEST_LEFT");
	FILE *out = path ? fopen(path, "ae") : NULL;
	va_list args;

	if (!out)
		return;
	va_start(args, fmt);
	vfprintf(out, fmt, args);
	va_end(args);
	fputc('\n', out);
	fclose(out);
}

static void tell_fiber(void *arg, const struct fiber *f, const char *text)
{
	(void)arg;
	if (!fiber_is_cancelled(f))
		left_tell("fiber left: %s", text);
}

void left_fibers(struct script *script)
{
	if (left_is_wanted())
		fiber_each(script, tell_fiber, NULL);
}

/* libevent's own; and what is freed as soon as the base's turn, or its end, comes to it. */
#define NOT_LEFT (EVLIST_INTERNAL | EVLIST_FINALIZING)

static int tell_event(const struct event_base *base, const struct event *ev, void *arg)
{
	short what = event_get_events(ev);
	const char *kind = what & EV_SIGNAL ? "signal" : what & EV_READ ? "to be read"
			   : what & EV_WRITE ? "to be written" : "timer";

	(void)base;
	if (ev->ev_evcallback.evcb_flags & NOT_LEFT)
		return 0;
	if (event_get_fd(ev) < 0)
		left_tell("event left on %s: %s", (const char *)arg, kind);
	else
		left_tell("event left on %s: %d, %s", (const char *)arg, (int)event_get_fd(ev), kind);
	return 0;
}

void left_events(struct event_base *base, const char *whose)
{
	if (left_is_wanted())
		event_base_foreach_event(base, tell_event, (void *)whose);
}

static void tell_gauge(void *arg, const char *name, int64_t now)
{
	(void)arg;
	if (now)
		left_tell("%s is %lld at the end", name, (long long)now);
}

void left_gauges(void)
{
	if (left_is_wanted())
		metrics_each_gauge(tell_gauge, NULL);
}
