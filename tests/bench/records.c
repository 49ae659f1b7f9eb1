/* SPDX-License-Identifier: MIT */
/* records: how fast records go to the job store: the sinks and the client of Redis as exed has them, on one thread,
 * fed with N records of SIZE bytes in lists of 64, as I/O threads bring them. No hosts and no fan-out. They belong to
 * jobs of as many hosts as one call creates, one after the other, each cut into slices as exed does.
 *
 * usage: records SOCKET FUNCTIONS.lua N SIZE; prints one line of JSON. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "buf.h"
#include "redis.h"
#include "sink.h"

#define LIST 64
#define SLICE 256
#define SLICES 7

static struct loop *loop;
static struct redis *redis;
static struct sink *sinks[SLICES];
static unsigned total, taken, of_job, jobs;
static size_t size;
static char jid[40];
static int64_t began_us;
static double began_cpu;

static double cpu_now(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what)
{
	fprintf(stderr, "records: %s\n", what);
	exit(2);
}

static struct entry *entry_make(unsigned index)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e || !(e->data = malloc(size)))
		die("no memory");
	memset(e->data, 'x', size);
	e->kind = ENTRY_RECORD;
	e->index = index;
	e->status = STATUS_OK;
	e->len = size;
	return e;
}

/* All records of the job, slice by slice in turns. */
static void give(void)
{
	for (unsigned from = 0; from < SLICE; from += LIST)
		for (unsigned k = 0; k < SLICES; k++) {
			struct entry *first = NULL, **last = &first;

			for (unsigned i = 0; i < LIST; i++) {
				*last = entry_make(k * SLICE + from + i);
				last = &(*last)->next;
			}
			sink_fanout_ops(sinks[k])->append(sinks[k], first);
		}
}

static void job_start(void);

static void job_end(void)
{
	for (int k = 0; k < SLICES; k++)
		sink_unref(sinks[k]);
	of_job = 0;
	if (taken >= total)
		loop_stop(loop, 0);
	else
		job_start();
}

/* ---- what the sink asks of its fan-out ---- */

void entry_free(struct entry *e)
{
	free(e->data);
	free(e);
}

void fanout_taken(struct fanout *f, struct entry *list)
{
	(void)f;
	while (list) {
		struct entry *next = list->next;

		entry_free(list);
		list = next;
		taken++;
		of_job++;
	}
	if (of_job == SLICE * SLICES)
		job_end();
}

void fanout_marked(struct fanout *f, size_t n, bool ok)
{
	(void)f;
	(void)n;
	(void)ok;
}

void fanout_cut_output(struct fanout *f, uint64_t bytes)
{
	(void)f;
	(void)bytes;
	die("the store cuts outputs");
}

void fanout_cancel(struct fanout *f, const char *reason)
{
	(void)f;
	die(reason);
}

void fanout_abandon(struct fanout *f)
{
	(void)f;
	die("the slice was refused");
}

/* ---- the job ---- */

static void store(const char *text, redis_cb *then)
{
	char *copy = strdup(text);
	const char *argv[64];
	int argc = 0;

	for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
		argv[argc++] = strcmp(word, "-") ? word : "";
	if (redis_call(redis, argc, argv, NULL, then, NULL, 0, NULL))
		die("redis takes no command");
	free(copy);
}

static const redisReply *good(const struct redisReply *reply, const struct err *err)
{
	if (!reply || reply->type == REDIS_REPLY_ERROR)
		die(reply ? reply->str : err->message);
	return reply;
}

static void on_taken(void *arg, const struct redisReply *reply, const struct err *err)
{
	struct sink_slice slice = { .jid = jid, .epoch = 1, .job_output = INT64_MAX };

	(void)arg;
	if (good(reply, err)->elements != SLICES)
		die("the slices were not handed out");
	for (int k = 0; k < SLICES; k++) {
		slice.k = k;
		sinks[k] = sink_new(loop, redis, &slice);
		sink_attach(sinks[k], NULL);
	}
	give();
}

static void on_created(void *arg, const struct redisReply *reply, const struct err *err)
{
	(void)arg;
	good(reply, err);
	store("FCALL exed_1_take 0 bench 1 100", on_taken);
}

static void job_start(void)
{
	char text[512];
	int n;

	snprintf(jid, sizeof(jid), "00000000-0000-4000-8000-%012u", ++jobs);
	n = snprintf(text, sizeof(text), "FCALL exed_1_create 0 %s 1000000 bench 1 1 %d none 1 0 - - 100000 0 0 %d",
		     jid, SLICE * SLICES, SLICES);
	for (int k = 0; k < SLICES; k++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, " %d %d", k * SLICE, (k + 1) * SLICE);
	snprintf(text + n, sizeof(text) - (size_t)n, " 4 [] [] [] [] 0");
	store(text, on_created);
}

static void on_registered(void *arg, const struct redisReply *reply, const struct err *err)
{
	(void)arg;
	if (good(reply, err)->type != REDIS_REPLY_INTEGER || reply->integer != 1)
		die("the store is not empty");
	began_us = loop_tick_us();
	began_cpu = cpu_now();
	job_start();
}

static void on_state(void *arg, bool up, const struct err *why)
{
	(void)arg;
	if (!up)
		die(why->message);
	store("FCALL exed_1_register 0 bench 1", on_registered);
}

static char *file_read(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	if (!f || !text || !fread(text, 1, (1 << 20) - 1, f))
		die("cannot read the functions");
	fclose(f);
	return text;
}

int main(int argc, char **argv)
{
	struct redis_address at = { 0 };
	struct redis_options options = { .address = &at, .on_state = on_state };
	struct err err;

	if (argc != 5)
		die("usage: records SOCKET FUNCTIONS.lua N SIZE");
	at.socket = argv[1];
	options.library = file_read(argv[2]);
	total = (unsigned)strtoul(argv[3], NULL, 10);
	size = strtoul(argv[4], NULL, 10);
	alarm(100);
	loop = loop_new(&err);
	redis = loop ? redis_new(loop, &options, &err) : NULL;
	if (!redis)
		die(err.message);
	loop_run(loop);
	printf("{\"records\": %u, \"wall_s\": %.4f, \"cpu_s\": %.4f}\n", taken,
	       (double)(loop_tick_us() - began_us) / 1e6, cpu_now() - began_cpu);
	redis_free(redis);
	loop_free(loop);
	free((char *)options.library);
	return 0;
}
