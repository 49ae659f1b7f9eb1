/* SPDX-License-Identifier: MIT */
/* metrics: what the process counts, for /metrics. Names, help and labels stand in one table in metrics.c;
 * whoever does a thing adds to its number, on any thread and without a lock: each thread has numbers of its
 * own, which are summed when somebody asks. No label comes from outside. */
#ifndef EXED_METRICS_H
#define EXED_METRICS_H

#include <stdint.h>

#include "buf.h"

/* In the order of metrics.c's table. A gauge is a number that goes down, too. */
enum metric {
	METRIC_JOBS_PING, METRIC_JOBS_FACTER, METRIC_JOBS_SERVICE, METRIC_JOBS_EXECUTE,
	METRIC_JOBS_DEPLOY, METRIC_JOBS_TASK, METRIC_JOBS_OTHER,
	METRIC_JOBS_DONE, METRIC_JOBS_FAILURE,
	METRIC_RECORDS_NO_MATCH, METRIC_RECORDS_OK, METRIC_RECORDS_SKIPPED, METRIC_RECORDS_FAILED,
	METRIC_RECORDS_UNREACHABLE, METRIC_RECORDS_CHANGED,
	METRIC_OUTPUT_STDOUT, METRIC_OUTPUT_STDERR,
	METRIC_CONNS_CONNECTING, METRIC_CONNS_BUSY, METRIC_CONNS_IDLE, /* gauges */
	METRIC_CONNS_WAITING,                                          /* gauge */
	METRIC_CONNS_READY, METRIC_CONNS_REUSED,
	METRIC_FAILED_RESOLVE, METRIC_FAILED_CONNECT, METRIC_FAILED_HANDSHAKE,
	METRIC_FAILED_HOST_KEY, METRIC_FAILED_LOGIN, /* by enum ssh_phase */
	METRIC_QUEUE_IN, METRIC_QUEUE_OUT,           /* gauges */
	METRIC_SINK_ENTRIES, METRIC_SINK_BYTES,      /* gauges */
	METRIC_SINK_APPENDED, METRIC_SINK_RETRIES,
	METRIC_REDIS_PENDING,                        /* gauge */
	METRIC_REDIS_OK, METRIC_REDIS_ERROR, METRIC_REDIS_LOST, METRIC_REDIS_TIMEOUT,
	METRIC_FIBERS, METRIC_WAITS,                 /* gauges */
	METRICS
};

enum metric_time {
	METRIC_TIME_CONNECT, METRIC_TIME_HANDSHAKE, METRIC_TIME_LOGIN, METRIC_TIME_EXEC,
	METRIC_TIME_LOOP_LAG, METRIC_TIME_LOOP_TURN, METRIC_TIME_REDIS,
	METRIC_TIMES
};

void metric_add(enum metric m, int64_t n);
/* Microseconds; less than 0 is 0. */
void metric_observe(enum metric_time t, int64_t us);

/* The metric of that family and label (`operation="ping"`), or -1. Costs a walk over the table. */
int metric_find(const char *family, const char *label);

/* Calls fn for each gauge with its name and labels and what it is now: exact when no other thread counts. */
void metrics_each_gauge(void (*fn)(void *arg, const char *name, int64_t now), void *arg);

/* Appends all of them as Prometheus' text format 0.0.4. */
void metrics_write(struct buf *b);

/* metrics_process.c: appends what the system knows of this process, under Prometheus' usual names. It reads
 * /proc/self. */
void metrics_write_process(struct buf *b);

#endif
