/* SPDX-License-Identifier: MIT */
/* fanout: runs one plan on many hosts, a window of them at once, and gives one record for each to a
 * sink, whatever happens. Fan-outs of several jobs share the node's places round robin.
 *
 * Loop thread, except where a comment says otherwise: each host's run lives on its I/O thread while it
 * runs. */
#ifndef EXED_FANOUT_H
#define EXED_FANOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "host_own.h"
#include "pool.h"
#include "record.h"
#include "ssh.h"

/* ---- the node's places ---- */

struct fanouts; /* all fan-outs of the process */

struct fanouts_options {
	unsigned max_hosts;   /* hosts at once over all jobs: [ssh] max_connections */
	size_t max_buffered;  /* bytes of entries that a sink has not taken yet; over it, reading pauses */
};
struct fanouts *fanouts_new(struct loop *loop, struct pool *pool,
			    const struct fanouts_options *o, struct err *err);
/* Abandons every fan-out and turns the loop until all have ended, at most 12 s (a kill on a host takes up
 * to 10), or until by_ms (as loop_now_ms) when that was said. False: some have not, since hosts do not
 * answer. Not from inside the loop. */
bool fanouts_end_all(struct fanouts *fs);
/* The same for those that have not, when the pool and the local processes have been stopped: nothing is
 * left to wait for. */
bool fanouts_end_rest(struct fanouts *fs);
void fanouts_end_by(struct fanouts *fs, int64_t by_ms);
/* Every fan-out must have ended. */
void fanouts_free(struct fanouts *fs);

struct fanouts_counts { unsigned fanouts, running, places; size_t waiting; uint64_t finished; };
struct fanouts_counts fanouts_counts(const struct fanouts *fs);

/* Runs may start until this moment (loop_now_ms); the I/O threads look right before each exec request.
 * At first: for ever. A run whose started bit was asked for before permission ran out does not start on
 * the next one: its bit is asked for again. */
void fanouts_permit(struct fanouts *fs, int64_t until_ms);

/* ---- where entries go ---- */

struct fanout_mark { unsigned index, effect; }; /* of the target */

/* What takes a fan-out's entries; made by sink.c or a binding. It answers on the loop thread by the
 * fanout_x functions below, later than the call. */
struct sink_ops {
	/* Set the started bits of these targets; then fanout_marked. Answers keep the order of the
	 * calls. again: they are set, and it is only to be made sure that they are still ours.
	 * NULL: nothing is marked. */
	void (*mark)(void *sink, const struct fanout_mark *marks, size_t n, bool again);
	/* Takes a list of entries (by next); then fanout_taken with the same list. */
	void (*append)(void *sink, struct entry *list);
};

struct fanout;
/* The n targets that were asked for longest have their started bits (ok), or are refused for good (an
 * old epoch: they are not run and get no record here, since another node owns them). */
void fanout_marked(struct fanout *f, size_t n, bool ok);
/* The sink is done with these: frees them and lets their hosts go on. */
void fanout_taken(struct fanout *f, struct entry *list);

/* From now on at most this many bytes of each output stream are kept. */
void fanout_cut_output(struct fanout *f, uint64_t bytes);

/* ---- one fan-out ---- */

enum fanout_transport { FANOUT_SSH, FANOUT_LOCAL };

struct fanout_plan { /* copied by fanout_start */
	enum fanout_transport transport;
	const char *command;    /* text for sh; NULL: a login is all (ping) */
	const void *input;
	size_t input_len;
	struct content *content; /* stdin, instead of input: a file that is not copied; a reference is
				  * taken. NULL: none */
	const char *before;     /* with a fence: text for sh that runs with that stdin before the op takes its
				 * place, each time until it has: it must be safe to repeat. It ends the op
				 * with its exit code when that is not 0. NULL: none */
	const char *tidy;       /* text for sh that takes away what a command has left that was killed, that
				 * died behind its fence or may not start any more; x_o is the op id. It
				 * must be safe to repeat. NULL: none */
	const char *const *env; /* "NAME=value", NULL-terminated, or NULL */
	const char *cwd;
	int64_t limit_ms;         /* of the command; <= 0: none */
	int64_t connect_limit_ms; /* to the end of login */
	unsigned window;        /* hosts of this fan-out at once; 0: no limit of its own */
	const char *group;      /* job; fan-outs of one group share group_window */
	unsigned group_window;  /* 0: no limit */
	bool urgent;            /* a small sync request: may use the places kept for such */
	bool keep;              /* keep connections warm afterwards */
	int64_t settle_until_ms; /* not 0: these ops were started by a lost node. A host that cannot be
				  * asked, or where something still runs, is asked again until then
				  * (loop_now_ms), and is unknown after it */
	int64_t settle_ms;       /* the same for ops of this fan-out whose end was not seen: so long from
				  * then on. Fenced ones are joined again; of others the host is asked
				  * once what is left, and again while there is something. 0: never */
	const char *op_id;      /* "jid.n": EXED_OP is this, the index and the try; "jid" when `open` is set */
	unsigned try;
	bool open;              /* targets are added later (fanout_add), each with its effect, which is the n
				 * of its op id; it does not end before fanout_close */
	bool fence;             /* the command starts once on a host, whoever asks: fence.h. A run with
				 * settle_until_ms then joins or tells what was started before */
	const char *forbid;     /* with settle_until_ms: decided not to run: hosts where a fence says that it
				 * never started are SKIPPED with this reason; what runs is killed, what
				 * ended is told */
	bool quiet;             /* fence: struct fence_command's */
	bool sync;
	const char *fence_dir;  /* for hosts that name none; NULL: fence.h's */
	int64_t fence_ttl_s;
	const struct mask_text *hidden; /* texts that output must not show: rules.mask is made of them */
	size_t nhidden;
	struct record_rules rules;
};

struct fanout_target {
	unsigned index;        /* in the job */
	unsigned effect;       /* with plan.open: > 0, at most 2^31 - 1 */
	struct ssh_host *host; /* a reference is taken */
	struct host_own *own;  /* what it has of its own, which is taken, also by a start that fails; or NULL */
};

struct fanout_ops {
	/* Every target has its record (but for `unstarted` ones after fanout_drain), and the sink has
	 * taken all. The fan-out is freed after. */
	void (*end)(void *arg, size_t unstarted);
	/* The sink has taken this record, unless the fan-out was abandoned. True: the caller keeps it, and
	 * frees it. May be NULL. */
	bool (*taken)(void *arg, struct entry *record);
};

/* Starts it; hosts begin at the end of this turn. All data is copied; rules' verdicts too. */
struct fanout *fanout_start(struct fanouts *fs, const struct fanout_plan *plan,
			    const struct ssh_settings *ssh, const struct fanout_target *targets,
			    size_t ntargets, const struct sink_ops *sink, void *sink_arg,
			    const struct fanout_ops *ops, void *arg, struct err *err);
/* One target more, without `own`, for a fan-out that is open. -ERR_CLOSED: it was cancelled, drained,
 * abandoned or closed. */
int fanout_add(struct fanout *f, const struct fanout_target *target, struct err *err);
/* None will be added any more. */
void fanout_close(struct fanout *f);
/* Running hosts are killed (records: FAILED, cancelled), the others get SKIPPED with the reason. What was
 * started before, by a lost node or here, is settled as plan.forbid says. */
void fanout_cancel(struct fanout *f, const char *reason);
/* Before anything has started: every host gets that status (UNREACHABLE, FAILED) with the reason, and none
 * is tried. */
void fanout_refuse(struct fanout *f, int status, const char *reason);
/* Starts no more hosts until it is told to go on; those that run end. What was started before by a lost
 * node is settled all the same. */
void fanout_pause(struct fanout *f, bool pause);
/* Starts no more hosts; ends when those that run have ended. */
void fanout_drain(struct fanout *f);
/* No record is written any more: another node owns it. What is fenced runs on, for that node to join; what
 * else runs is killed. */
void fanout_abandon(struct fanout *f);

/* How many of its targets have not started. */
size_t fanout_waiting(const struct fanout *f);
/* One host that runs now, for "who holds it up": since when (loop_now_ms), and host_run_phase. While the
 * plan's content is sent to it: how many bytes have gone, of how many; else both are 0. */
struct fanout_running {
	unsigned index;
	const char *phase;
	int64_t since_ms;
	uint64_t sent, size;
};
/* Up to max of them, oldest first; returns how many. */
size_t fanout_list_running(const struct fanout *f, struct fanout_running *out, size_t max);
/* Bytes of the plan's content that have gone to hosts, those that have ended included. */
uint64_t fanout_sent(const struct fanout *f);

#endif
