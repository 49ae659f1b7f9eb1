/* SPDX-License-Identifier: MIT */
/* host_fence: the fence of one host's run: its text, its reader, and what its answer makes of the
 * result. Private to host_run.c and host_fence.c; the host's side. */
#ifndef EXED_HOST_FENCE_H
#define EXED_HOST_FENCE_H

#include "fanout.h"
#include "fence.h"

struct host_fence { /* all zero: none */
	bool on;
	struct buf text; /* runs in the command's place */
	struct fence_reader reader;
	struct err broken; /* what was wrong with its stdout */
};

/* Makes the text for that command of the plan on h, also once more. forbid: the text that keeps the op from
 * ever starting instead. */
int host_fence_begin(struct host_fence *f, const struct fanout_plan *plan, const struct ssh_command *cmd,
		     const struct ssh_host *h, const char *op_id, bool forbid, struct err *err);
/* The text that forbids has ended: what it found. */
enum fence_said host_fence_forbidden(struct host_fence *f, const struct ssh_result *r);
void host_fence_deinit(struct host_fence *f);

/* Stdout of the text; what of it is the command's goes to output. An error is kept: the run is to be
 * ended, and nothing more is read. */
int host_fence_read(struct host_fence *f, const char *data, size_t n, fence_output *output, void *arg);
/* The run is over. Changes r to what the op came to. False: it is certain that nothing ran, and `why`
 * says for what reason. settles: a lost node may have started it before. */
bool host_fence_end(struct host_fence *f, struct ssh_result *r, bool settles, fence_output *output,
		    void *arg, struct err *why);

#endif
