/* SPDX-License-Identifier: MIT */
/* host_run: one host of a fan-out, from connecting to its record. Private to fanout.c and host_run.c.
 *
 * A run is counted: the fan-out holds it from admission until its finish message is handled, and each
 * message that is under way holds it once more. Fields say which side may touch them. */
#ifndef EXED_HOST_RUN_H
#define EXED_HOST_RUN_H

#include <stdatomic.h>

#include "fanout.h"
#include "host_fence.h"
#include "host_left.h"
#include "proc.h"

/* What comes after SSH_READY. */
enum run_phase { RUN_SENDING = SSH_READY + 1, RUN_COMMAND, RUN_KILLING };

struct host_run {
	atomic_int refs;
	/* set before it starts, read by both sides */
	struct fanout *fanout;
	struct io *io; /* NULL: local, everything happens on the loop thread */
	struct ssh_host *host;
	unsigned index, effect;
	uint64_t lapses; /* of permission, when its started bit was asked for */
	bool again;      /* its op was started before, by a lost node or by an earlier run of ours */

	/* loop side */
	struct host_run *next, **link; /* running, oldest first */
	struct host_run *next_marking;
	int64_t since_ms;
	bool ended;
	bool cancel_sent;
	bool leave; /* of the cancel that was sent */

	/* messages */
	struct work hop;    /* start -> (reached) -> marked */
	struct work cancel;
	struct work finish; /* it is over: `last` goes to the sink */
	bool refused;       /* hop's answer: another node owns the host now */
	const char *cancel_reason;
	struct entry *last; /* list; NULL when refused, lapsed or unsettled */
	struct entry *spare; /* the record when there is no memory for the true one: no host is without */
	bool lapsed;        /* the permission to start had run out: to be started again */
	bool unsettled;     /* nothing is known yet: to be asked again in a while */
	int64_t settle_until_ms; /* then: until when; 0: the op was not started before */
	struct host_left *left;  /* not NULL: the host is only asked what it left */
	struct host_own *own;    /* moves from target to run and back; NULL: it has nothing of its own */

	/* the host's side */
	atomic_int phase; /* enum ssh_phase, then enum run_phase */
	_Atomic uint64_t sent; /* bytes of the plan's content */
	struct ssh_use *use;
	struct ssh_exec *exec;
	struct proc *proc;
	struct record record;
	struct host_fence fence;
	bool forbidding; /* the fence's text takes the op's place */
	bool forbidden;  /* it has; the op had started, and is joined */
	bool kill_joined;
	bool let_go;     /* a cancel that leaves what is fenced has come */
	bool tidying;    /* the command was killed, and what it left is being taken away */
	struct ssh_result killed; /* then: how it ended */
	struct buf tidy; /* then: the text for sh */
	bool ready, warm, retried, marked, cancelled, over, paused;
	size_t untaken; /* bytes of parts that the sink has not taken */
	char op_id[96];
	const char *forbid; /* not NULL: the op is not to start, for this reason */
	struct buf text; /* the host's own command */
	struct ssh_command command;
};

/* What the host's side reads of its fan-out; but for the atomics it does not change. */
struct host_run_plan {
	const struct fanout_plan *plan;
	struct ssh_settings *ssh;
	bool marks;              /* the sink sets started bits */
	struct loop *loop;
	_Atomic int64_t *permit; /* runs may start until then */
	_Atomic uint64_t *lapses;
	_Atomic uint64_t output_cap;
};
struct host_run_plan *fanout_run_plan(const struct host_run *run);

/* What is said of a host that did not get to run. Any side. */
struct entry *fanout_unrun_record(const struct fanout *f, unsigned index, const char *reason);

/* Loop side of fanout.c, called by messages. */
void fanout_run_reached(struct host_run *run);                   /* asks for its started bit */
void fanout_run_parts(struct host_run *run, struct entry *part); /* one part */
void fanout_run_finished(struct host_run *run);                  /* run->last is set */

/* ---- host_end.c; the host's side ---- */

/* Gives the records away; nothing happens on this side after it. */
void host_end(struct host_run *run, struct entry *last);
void host_end_with(struct host_run *run, const struct ssh_result *result);
/* Nothing ran; what the host said to it belongs to the reason. */
void host_end_unrun(struct host_run *run, const char *why);
/* No connection to the host could be made; it failed in that phase. */
void host_end_unreached(struct host_run *run, enum ssh_phase phase, const struct err *err);
/* With the record that waited in run->left; a: what the host said now, or NULL. */
void host_end_left(struct host_run *run, const struct kill_answer *a);
/* An op of a lost node that has no fence: the host is asked what is left of it. Makes run->left; without
 * the memory the run is over. */
void host_end_look(struct host_run *run);
/* The command has ended; ssh_exec_ops' end. */
void host_end_command(void *arg, const struct ssh_result *result);

/* ---- host_run.c; the host's side, for host_end.c ---- */

void host_run_give_back(struct host_run *run, bool sound); /* its connection, if it has one */
void host_run_connect(struct host_run *run, bool fresh);
void host_run_command(struct host_run *run); /* runs what is next: the command, or a question */
/* Runs what tidies up after a killed command; the end of it comes to host_end_command. False: it cannot. */
bool host_run_tidy(struct host_run *run);
void host_run_fenced(void *run, const char *data, size_t n); /* stdout of a command in its fence */
void host_run_to_loop(struct host_run *run, struct work *w);

struct host_run *host_run_ref(struct host_run *run);
void host_run_unref(struct host_run *run);

/* Loop side. */
void host_run_start(struct host_run *run);
void host_run_mark(struct host_run *run, bool ok); /* the answer to fanout_run_reached */
/* Where it is, for people: "connect", "handshake", "login", "starting" (the store is asked), "sending",
 * "running", "killing", ... Static. Any thread. */
const char *host_run_phase(const struct host_run *run);
/* leave: what is fenced runs on there, for its next owner; everything else is killed. */
void host_run_cancel(struct host_run *run, const char *reason, bool leave);
void host_run_part_taken(struct entry *part);      /* frees it, and reading goes on */

#endif
