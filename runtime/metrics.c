/* SPDX-License-Identifier: MIT */
/* metrics: numbers by thread, and the table that says what they are. The blocks are the one thing in the
 * program that any part may write to, so that counting needs nobody to be handed through; they hold numbers
 * only, and nothing but /metrics depends on them. Any thread. */
#include "metrics.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* A thread has a block of its own unless there are more threads than blocks; then some share one, which is
 * slower and as exact. */
#define BLOCKS 32
#define BOUNDS 15

struct distribution {
	_Atomic int64_t counts[BOUNDS + 1]; /* the last: over the last bound */
	_Atomic int64_t sum_us;
};

struct block {
	_Alignas(128) _Atomic int64_t numbers[METRICS];
	struct distribution times[METRIC_TIMES];
};

static struct block blocks[BLOCKS];
static atomic_uint threads;
static _Thread_local unsigned own; /* number of the block, from 1; 0: none yet */

struct family { const char *name, *type, *help; };

struct row {
	const struct family *family;
	const char *label; /* NULL: none */
};

/* ---- the table ---- */

static const struct family
	submitted = { "exed_jobs_submitted_total", "counter", "Jobs that this node accepted." },
	ended = { "exed_jobs_ended_total", "counter", "Jobs whose last slice ended on this node." },
	records = { "exed_records_total", "counter", "Records of hosts made on this node." },
	output = { "exed_output_bytes_total", "counter", "Output that commands sent." },
	conns = { "exed_ssh_connections", "gauge", "SSH connections of this node." },
	waiting = { "exed_ssh_waiting", "gauge",
		    "Hosts that wait for a place among max_connections." },
	ready = { "exed_ssh_connected_total", "counter", "SSH connections that came to be." },
	reused = { "exed_ssh_reused_total", "counter", "Uses of a connection that was there." },
	failed = { "exed_ssh_failures_total", "counter",
		   "SSH connections that failed, by how far they had come." },
	queue = { "exed_queue_messages", "gauge",
		  "Messages between the loop and the I/O threads that wait." },
	sink_entries = { "exed_sink_waiting_entries", "gauge",
			 "Records and parts of output that the store has not acknowledged." },
	sink_bytes = { "exed_sink_waiting_bytes", "gauge",
		       "Bytes of what the store has not acknowledged." },
	appended = { "exed_sink_appended_total", "counter",
		     "Records and parts of output that the store acknowledged." },
	retries = { "exed_sink_retries_total", "counter",
		    "Appends to the store that have to be sent again." },
	pending = { "exed_redis_pending", "gauge", "Commands to Redis without an answer yet." },
	commands = { "exed_redis_commands_total", "counter", "Commands to Redis, by their end." },
	fibers = { "exed_fibers", "gauge", "Fibers of the node's Lua state." },
	waits = { "exed_waits", "gauge", "Fibers that wait for something." };

static const struct row rows[METRICS] = {
	[METRIC_JOBS_PING] = { &submitted, "operation=\"ping\"" },
	[METRIC_JOBS_FACTER] = { &submitted, "operation=\"facter\"" },
	[METRIC_JOBS_SERVICE] = { &submitted, "operation=\"service\"" },
	[METRIC_JOBS_EXECUTE] = { &submitted, "operation=\"execute\"" },
	[METRIC_JOBS_DEPLOY] = { &submitted, "operation=\"deploy\"" },
	[METRIC_JOBS_TASK] = { &submitted, "operation=\"task\"" },
	[METRIC_JOBS_OTHER] = { &submitted, "operation=\"other\"" },
	[METRIC_JOBS_DONE] = { &ended, "result=\"done\"" },
	[METRIC_JOBS_FAILURE] = { &ended, "result=\"failure\"" },
	[METRIC_RECORDS_NO_MATCH] = { &records, "status=\"no_match\"" },
	[METRIC_RECORDS_OK] = { &records, "status=\"ok\"" },
	[METRIC_RECORDS_SKIPPED] = { &records, "status=\"skipped\"" },
	[METRIC_RECORDS_FAILED] = { &records, "status=\"failed\"" },
	[METRIC_RECORDS_UNREACHABLE] = { &records, "status=\"unreachable\"" },
	[METRIC_RECORDS_CHANGED] = { &records, "status=\"changed\"" },
	[METRIC_OUTPUT_STDOUT] = { &output, "stream=\"stdout\"" },
	[METRIC_OUTPUT_STDERR] = { &output, "stream=\"stderr\"" },
	[METRIC_CONNS_CONNECTING] = { &conns, "state=\"connecting\"" },
	[METRIC_CONNS_BUSY] = { &conns, "state=\"busy\"" },
	[METRIC_CONNS_IDLE] = { &conns, "state=\"idle\"" },
	[METRIC_CONNS_WAITING] = { &waiting, NULL },
	[METRIC_CONNS_READY] = { &ready, NULL },
	[METRIC_CONNS_REUSED] = { &reused, NULL },
	[METRIC_FAILED_RESOLVE] = { &failed, "phase=\"resolve\"" },
	[METRIC_FAILED_CONNECT] = { &failed, "phase=\"connect\"" },
	[METRIC_FAILED_HANDSHAKE] = { &failed, "phase=\"handshake\"" },
	[METRIC_FAILED_HOST_KEY] = { &failed, "phase=\"host_key\"" },
	[METRIC_FAILED_LOGIN] = { &failed, "phase=\"login\"" },
	[METRIC_QUEUE_IN] = { &queue, "queue=\"to_hosts\"" },
	[METRIC_QUEUE_OUT] = { &queue, "queue=\"from_hosts\"" },
	[METRIC_SINK_ENTRIES] = { &sink_entries, NULL },
	[METRIC_SINK_BYTES] = { &sink_bytes, NULL },
	[METRIC_SINK_APPENDED] = { &appended, NULL },
	[METRIC_SINK_RETRIES] = { &retries, NULL },
	[METRIC_REDIS_PENDING] = { &pending, NULL },
	[METRIC_REDIS_OK] = { &commands, "result=\"ok\"" },
	[METRIC_REDIS_ERROR] = { &commands, "result=\"error\"" },
	[METRIC_REDIS_LOST] = { &commands, "result=\"lost\"" },
	[METRIC_REDIS_TIMEOUT] = { &commands, "result=\"timeout\"" },
	[METRIC_FIBERS] = { &fibers, NULL },
	[METRIC_WAITS] = { &waits, NULL },
};

/* Upper bounds in microseconds. */
static const int64_t of_hosts[BOUNDS] = {
	1000, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000,
	10000000, 30000000, 60000000, 600000000,
};
static const int64_t of_turns[BOUNDS] = {
	100, 250, 500, 1000, 2500, 5000, 10000, 20000, 50000, 100000, 250000, 500000, 1000000,
	2500000, 10000000,
};

static const struct {
	const char *name, *help;
	const int64_t *bounds;
} times[METRIC_TIMES] = {
	[METRIC_TIME_CONNECT] = { "exed_ssh_connect_seconds",
				  "Name look-up and TCP connect (or the jump host's tunnel).", of_hosts },
	[METRIC_TIME_HANDSHAKE] = { "exed_ssh_handshake_seconds",
				    "From the TCP connection to an accepted host key.", of_hosts },
	[METRIC_TIME_LOGIN] = { "exed_ssh_login_seconds",
				"From the host key to the end of login.", of_hosts },
	[METRIC_TIME_EXEC] = { "exed_exec_seconds",
			       "Commands of hosts, from their start to their record.", of_hosts },
	[METRIC_TIME_LOOP_LAG] = { "exed_loop_lag_seconds",
				   "How late a timer of 100 ms comes on the loop thread.", of_turns },
	[METRIC_TIME_LOOP_TURN] = { "exed_loop_turn_seconds",
				    "CPU that one turn of the loop used; all else waits for its end.",
				    of_turns },
	[METRIC_TIME_REDIS] = { "exed_redis_seconds",
				"From a command to Redis to its answer.", of_turns },
};

/* ---- counting ---- */

static struct block *block(void)
{
	if (!own)
		own = atomic_fetch_add(&threads, 1) % BLOCKS + 1;
	return &blocks[own - 1];
}

void metric_add(enum metric m, int64_t n)
{
	atomic_fetch_add_explicit(&block()->numbers[m], n, memory_order_relaxed);
}

void metric_observe(enum metric_time t, int64_t us)
{
	struct distribution *d = &block()->times[t];
	size_t i = 0;

	us = us > 0 ? us : 0;
	while (i < BOUNDS && us > times[t].bounds[i])
		i++;
	atomic_fetch_add_explicit(&d->counts[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&d->sum_us, us, memory_order_relaxed);
}

int metric_find(const char *family, const char *label)
{
	for (int m = 0; m < METRICS; m++)
		if (!strcmp(rows[m].family->name, family) && rows[m].label &&
		    !strcmp(rows[m].label, label))
			return m;
	return -1;
}

/* ---- telling ---- */

static void put_head(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static int64_t sum_of(enum metric m)
{
	int64_t sum = 0;

	for (size_t i = 0; i < BLOCKS; i++)
		sum += atomic_load_explicit(&blocks[i].numbers[m], memory_order_relaxed);
	return sum;
}

/* What threads add and take is not read in one moment, so a gauge may look less than nothing. */
static int64_t total(enum metric m)
{
	int64_t sum = sum_of(m);

	return sum > 0 ? sum : 0;
}

void metrics_each_gauge(void (*fn)(void *arg, const char *name, int64_t now), void *arg)
{
	char name[128];

	for (int m = 0; m < METRICS; m++) {
		const struct row *r = &rows[m];

		if (strcmp(r->family->type, "gauge") != 0)
			continue;
		snprintf(name, sizeof(name), "%s%s%s%s", r->family->name, r->label ? "{" : "",
			 r->label ? r->label : "", r->label ? "}" : "");
		fn(arg, name, sum_of(m));
	}
}

static void put_time(struct buf *b, enum metric_time t)
{
	int64_t counts[BOUNDS + 1] = { 0 }, sum = 0, below = 0;

	for (size_t i = 0; i < BLOCKS; i++) {
		struct distribution *d = &blocks[i].times[t];

		for (size_t k = 0; k <= BOUNDS; k++)
			counts[k] += atomic_load_explicit(&d->counts[k], memory_order_relaxed);
		sum += atomic_load_explicit(&d->sum_us, memory_order_relaxed);
	}
	put_head(b, times[t].name, "histogram", times[t].help);
	for (size_t k = 0; k < BOUNDS; k++) {
		below += counts[k];
		buf_printf(b, "%s_bucket{le=\"%g\"} %lld\n", times[t].name,
			   (double)times[t].bounds[k] / 1e6, (long long)below);
	}
	below += counts[BOUNDS];
	buf_printf(b, "%s_bucket{le=\"+Inf\"} %lld\n%s_sum %.6f\n%s_count %lld\n", times[t].name,
		   (long long)below, times[t].name, (double)sum / 1e6, times[t].name,
		   (long long)below);
}

void metrics_write(struct buf *b)
{
	for (int m = 0; m < METRICS; m++) {
		const struct family *f = rows[m].family;

		if (!m || f != rows[m - 1].family)
			put_head(b, f->name, f->type, f->help);
		if (rows[m].label)
			buf_printf(b, "%s{%s} %lld\n", f->name, rows[m].label, (long long)total(m));
		else
			buf_printf(b, "%s %lld\n", f->name, (long long)total(m));
	}
	for (int t = 0; t < METRIC_TIMES; t++)
		put_time(b, t);
}
