/* SPDX-License-Identifier: MIT */
/* sink: takes the entries of one slice's fan-out to the job store: started bits by `mark`, records and
 * parts by `append` (lua/store/functions.lua). Calls are numbered, kept until they are acknowledged and
 * sent again after a lost connection; the store takes each once. Loop thread. */
#ifndef EXED_SINK_H
#define EXED_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "fanout.h"

struct redis;
struct sink;

struct sink_slice { /* strings are copied */
	const char *jid;
	int64_t k, epoch;
	int64_t effect;      /* 0: a plain operation */
	bool open;           /* each target has its own effect; this one is the first, by which calls are
			      * numbered */
	int64_t job_output;  /* bytes of output of a job; over it outputs keep their first 4 KiB */
	const char *name;    /* of the step, which its records bear; NULL: none */
	bool marks;          /* started bits are needed: the operation is not safe to repeat */
	bool unnumbered;     /* a second fan-out for the same slice and epoch: records only, no parts */
};

/* redis is borrowed and must outlive it. NULL when memory is out. Counted. */
struct sink *sink_new(struct loop *loop, struct redis *redis, const struct sink_slice *slice);
struct sink *sink_ref(struct sink *s);
void sink_unref(struct sink *s);

/* What to hand to fanout_start, with the sink as its argument; then sink_attach, before the loop turns. */
const struct sink_ops *sink_fanout_ops(const struct sink *s);
void sink_attach(struct sink *s, struct fanout *f);
/* 0, or why the slice is not ours any more (code ERR_REFUSED), for use after the fan-out ended. */
int sink_result(const struct sink *s, struct err *err);

#endif
