/* SPDX-License-Identifier: MIT */
/* libFuzzer target for the configuration: any file is read, or refused with a message. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"

static void give_up(const char *why)
{
	perror(why);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
	static int fd = -1;
	char path[32];
	struct err err = { 0 };
	struct config *c;

	if (fd < 0)
		fd = memfd_create("exed.conf", 0);
	if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, input, n, 0) != (ssize_t)n)
		give_up("memfd");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	c = config_load(path, &err);
	if (!c && !*err.message)
		abort();
	if (c)
		config_check(c, &err);
	config_free(c);
	return 0;
}
