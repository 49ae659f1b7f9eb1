/* SPDX-License-Identifier: MIT */
/* fanout_private: what fanout.c, fanouts.c and fanout_wait.c share. Loop thread. */
#ifndef EXED_FANOUT_PRIVATE_H
#define EXED_FANOUT_PRIVATE_H

#include "host_run.h"
#include "ring.h"

struct group {
	struct ring_node node; /* in fanouts.ring or .urgent while it has something to start */
	struct group *next;
	char *name;
	unsigned window, running, nfanouts;
	bool urgent;
	struct ring ring; /* its fan-outs that have something to start */
};

struct fanouts {
	struct loop *loop;
	struct pool *pool;
	struct fanouts_options options;
	struct group *groups;
	struct fanout *first; /* all of them */
	struct ring ring, urgent;
	struct deferred admit;
	struct timer retry; /* looks again when permission had lapsed */
	_Atomic int64_t permit;
	_Atomic uint64_t lapses; /* how often permission was given anew after it had run out */
	int64_t end_by_ms; /* fanouts_end_all waits until then at most; 0: not said */
	unsigned running, nfanouts;
	bool ending; /* the program ends: none is started any more */
	uint64_t finished;
	size_t buffered;
};

/* What few targets have. */
struct target_more {
	struct host_own *own;
	int64_t settle_until_ms; /* of one that was started: its host is asked until then how it ended, or */
	struct host_left *left;  /* what it left */
};

/* A target that waits to be started, or to be asked about again. There may be many: keep it small. */
struct target {
	unsigned index;
	unsigned effect : 31;
	bool started : 1; /* its op was, here */
	struct ssh_host *host;
	struct target_more *more; /* NULL: nothing */
};

struct fanout {
	struct ring_node node; /* in its group's ring */
	struct fanout *next_fanout, **link;
	struct fanouts *all;
	struct group *group;
	struct fanout_plan plan;
	char *strings[8]; /* what the plan points to: command, cwd, group, op_id, fence_dir, forbid,
			   * before, tidy */
	char **env;
	void *input;
	struct verdict *verdicts;
	struct mask *mask;
	struct host_run_plan run_plan;
	struct target *targets;
	size_t ntargets, next; /* targets[next..] wait */
	size_t room;           /* targets that there is memory for */
	size_t nlater;         /* targets[..nlater] are to be asked again when the timer says so */
	struct timer later;
	struct host_run *runs, **runs_last;
	unsigned running;
	uint64_t sent; /* bytes of content, to hosts that do not run any more */
	struct host_run *reached, **reached_last; /* to be asked for in this turn */
	struct host_run *marking, **marking_last; /* asked for */
	struct entry *entries, **entries_last;    /* for the sink, this turn */
	size_t untaken;                           /* entries that the sink has not taken */
	struct deferred flush;
	const struct sink_ops *sink;
	void *sink_arg;
	const struct fanout_ops *ops;
	void *arg;
	char *cancel;
	bool skipped; /* by the cancel: what waits now was started before, and is settled */
	bool refused;
	bool abandoned, draining, paused;
	bool open; /* targets may be added */
	int unrun_status; /* of hosts that a cancel kept from starting */
};

/* ---- fanouts.c: the node's places ---- */

struct group *fanouts_group(struct fanouts *fs, const struct fanout_plan *plan); /* one reference */
void fanouts_group_put(struct fanouts *fs, struct group *g);
/* Puts the fan-out and its group in their rings, or takes them out, as they can or cannot start a host. */
void fanouts_update(struct fanout *f);
void fanouts_admit(struct fanouts *fs); /* at the end of this turn */

/* ---- fanout_wait.c: targets that wait ---- */

/* Whether the target is not to be skipped: it may run, or have run. */
bool fanout_wait_is_started(const struct fanout *f, const struct target *t);
/* Puts a target of the caller's into its place, which is free. */
void fanout_wait_set(struct target *to, const struct fanout_target *from);
/* Starts the next one. False: no memory. */
bool fanout_wait_start(struct fanout *f);
/* The cancel's SKIPPED records, some of them; what was started before is kept, to be settled. */
void fanout_wait_skip(struct fanout *f);
/* The run's target waits once more: for a while, or (lapsed) for its turn. */
void fanout_wait_again(struct host_run *run);
/* Those that wait for a while are next. arg: the fan-out. */
void fanout_wait_over(void *arg);
void fanout_wait_free(struct fanout *f); /* all that did not start */

/* ---- fanout.c ---- */

void fanout_flush_soon(struct fanout *f);
void fanout_queue(struct fanout *f, struct entry *list); /* for the sink */

#endif
