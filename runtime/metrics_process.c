/* SPDX-License-Identifier: MIT */
/* metrics_process: memory, time, descriptors and threads of this process, from /proc/self. What cannot be
 * read is left out. Any thread. */
#include "metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(struct buf *b, const char *name, const char *type, const char *help, double value)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

/* When the system started, in seconds since the Unix epoch; 0: not known. */
static double boot_time(void)
{
	FILE *f = fopen("/proc/stat", "re");
	unsigned long long at = 0;
	char line[4096];

	while (f && !at && fgets(line, sizeof(line), f))
		if (sscanf(line, "btime %llu", &at) != 1)
			at = 0;
	if (f)
		fclose(f);
	return (double)at;
}

static void put_stat(struct buf *b)
{
	unsigned long long user, system, start, memory;
	double tick = (double)sysconf(_SC_CLK_TCK), boot = boot_time();
	FILE *f = fopen("/proc/self/stat", "re");
	char text[1024] = "";
	const char *rest;
	long threads, pages;
	size_t n;

	if (!f)
		return;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	rest = strrchr(text, ')'); /* the name may have anything in it */
	if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d "
			    "%*d %ld %*d %llu %llu %ld", &user, &system, &threads, &start, &memory,
			    &pages) != 6)
		return;
	put(b, "process_cpu_seconds_total", "counter", "Processor time of this process.",
	    (double)(user + system) / tick);
	put(b, "process_threads", "gauge", "Threads of this process.", (double)threads);
	put(b, "process_virtual_memory_bytes", "gauge", "Address space of this process.",
	    (double)memory);
	put(b, "process_resident_memory_bytes", "gauge", "Memory of this process.",
	    (double)pages * (double)sysconf(_SC_PAGESIZE));
	if (boot > 0)
		put(b, "process_start_time_seconds", "gauge",
		    "When this process started, in seconds since the Unix epoch.",
		    boot + (double)start / tick);
}

/* Linux since 6.2 says it as the directory's size; before, reading 10,000 names takes the loop 10 ms. -1: not
 * known. */
static long count_descriptors(void)
{
	struct stat st;
	DIR *dir;
	long n = -1; /* without our own */

	if (!stat("/proc/self/fd", &st) && st.st_size > 0)
		return (long)st.st_size;
	dir = opendir("/proc/self/fd");
	if (!dir)
		return -1;
	for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
		if (entry->d_name[0] != '.')
			n++;
	closedir(dir);
	return n;
}

static void put_descriptors(struct buf *b)
{
	long n = count_descriptors();
	struct rlimit limit;

	if (n >= 0)
		put(b, "process_open_fds", "gauge", "Open descriptors of this process.", (double)n);
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur != RLIM_INFINITY)
		put(b, "process_max_fds", "gauge", "Limit of its descriptors.",
		    (double)limit.rlim_cur);
}

void metrics_write_process(struct buf *b)
{
	put_stat(b);
	put_descriptors(b);
}
