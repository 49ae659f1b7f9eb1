/* SPDX-License-Identifier: MIT */
/* kill_text: the script that finds on a host what belongs to an op, and kills it or counts it. POSIX sh,
 * with ls and sed for what the shell cannot read; it runs where nothing is installed. Pure functions; any
 * thread.
 *
 * What belongs to the op: what carries its id in the environment, what descends from that, what is in a
 * session of such a process (sshd gives each command one of its own), and an orphan that holds the output of
 * the op open, or a file in its fence. What cleared its environment, left its session, lost its parents and
 * closed that output bears no trace of the op; of such processes the script counts those that may be its:
 * orphans of the same user, cgroup and login session as the script that are younger than the op. */
#ifndef EXED_KILL_TEXT_H
#define EXED_KILL_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

struct kill_text {
	const char *op_id; /* letters, digits, `.`, `_`, `-` */
	bool look;         /* only count */
	bool as_other;     /* run by sudo as a user who is not root: do not stop first. sudo stops itself
			    * with what it runs, and only root could end it then */
	bool alone;        /* nothing but the op and this script runs on the connection: its other commands
			    * are the op's, whatever they did to their environment */
	int64_t age_ms;    /* how long ago the op started; < 0: not known, nothing is counted as possible */
};

/* Appends the script, one line with its newline. */
void kill_text_put(struct buf *out, const struct kill_text *k);

struct kill_answer {
	int left;     /* processes of the op that live; -1: the script gave no answer */
	int possible; /* that may be the op's; -1: not looked */
};
/* Reads what the script said; a profile may have printed something before it. */
struct kill_answer kill_text_read(struct buf *said);

#endif
