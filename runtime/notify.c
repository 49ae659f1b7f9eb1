/* SPDX-License-Identifier: MIT */
/* notify: one datagram each. Written out here instead of linking libsystemd: it is thirty lines, and
 * the library would be a dependency of every build for them. Loop thread. */
#include "notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

struct notify {
	struct sockaddr_un address;
	socklen_t len;
	int fd;
	int64_t period_ms; /* of the watchdog; 0: none */
	struct timer watchdog;
};

static void say(struct notify *n, const char *text)
{
	ssize_t done = sendto(n->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
			      (const struct sockaddr *)&n->address, n->len);

	if (done < 0)
		log_debug("notify", "the service manager cannot be told: %s", strerror(errno));
}

static void watchdog(void *arg)
{
	struct notify *n = arg;

	say(n, "WATCHDOG=1");
	timer_set(&n->watchdog, n->period_ms);
}

/* "/path", or "@name" of the abstract namespace. */
static bool set_address(struct notify *n, const char *name)
{
	size_t len = strlen(name);

	if ((*name != '/' && *name != '@') || len < 2 || len >= sizeof(n->address.sun_path))
		return false;
	n->address.sun_family = AF_UNIX;
	memcpy(n->address.sun_path, name, len);
	if (*name == '@')
		n->address.sun_path[0] = '\0';
	n->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	return true;
}

/* Twice as often as is asked for. $WATCHDOG_PID is who is meant. */
static int64_t watchdog_period(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	long long n = usec ? strtoll(usec, NULL, 10) : 0;

	if (n <= 0 || (pid && strtoll(pid, NULL, 10) != getpid()))
		return 0;
	return n / 2000 ? n / 2000 : 1;
}

struct notify *notify_new(struct loop *loop)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct notify *n = name ? calloc(1, sizeof(*n)) : NULL;

	if (n) {
		n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		n->period_ms = watchdog_period();
		if (n->fd < 0 || !set_address(n, name) ||
		    timer_init(&n->watchdog, loop_base(loop), watchdog, n)) {
			log_warn("notify", "NOTIFY_SOCKET cannot be used");
			notify_free(n);
			n = NULL;
		}
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return n;
}

void notify_free(struct notify *n)
{
	if (!n)
		return;
	timer_deinit(&n->watchdog);
	if (n->fd >= 0)
		close(n->fd);
	free(n);
}

void notify_ready(struct notify *n)
{
	if (!n)
		return;
	say(n, "READY=1\nSTATUS=serving");
	if (n->period_ms)
		watchdog(n);
}

void notify_reloading(struct notify *n)
{
	char text[96];
	struct timespec ts;

	if (!n)
		return;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=reading the settings",
		 (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
	say(n, text);
}

void notify_stopping(struct notify *n)
{
	if (n)
		say(n, "STOPPING=1\nSTATUS=ending what runs");
}
