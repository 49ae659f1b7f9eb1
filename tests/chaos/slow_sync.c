/* SPDX-License-Identifier: MIT */
/* slow_sync: preloaded into a redis-server, it makes each write to its disk take SYNC_PAUSE_US longer: what was
 * written is safe, and nobody has been told so yet. That is the moment at which being killed hurts most. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void pause_here(void)
{
	const char *us = getenv("SYNC_PAUSE_US");

	if (us)
		usleep((useconds_t)strtoul(us, NULL, 10));
}

int fdatasync(int fd)
{
	int rc = (int)syscall(SYS_fdatasync, fd);

	pause_here();
	return rc;
}

int fsync(int fd)
{
	int rc = (int)syscall(SYS_fsync, fd);

	pause_here();
	return rc;
}
