/* SPDX-License-Identifier: MIT */
/* proc: child processes on this machine, with the contract that ssh_exec has for hosts: output as
 * it comes, one end, a time limit and a cancel that kill what runs and look whether it is gone.
 * Loop thread.
 *
 * A child leads its own session and process group; it has three descriptors, perhaps a channel, and no
 * other, default signals, and of exed's own environment all but the EXED_* variables, which may hold
 * secrets. */
#ifndef EXED_PROC_H
#define EXED_PROC_H

#include <stdbool.h>

#include "err.h"
#include "loop.h"
#include "ssh.h"

struct proc;

/* Runs cmd->command by /bin/sh -c. Every field of struct ssh_command means the same here; the
 * struct itself is copied, what it points to is borrowed until end is called (env and cwd only
 * during this call). Without input stdin is /dev/null.
 *
 * Returns NULL with *err for misuse or lack of memory. Anything else ends in ops->end, never from
 * inside this call: a program that is not there is `sent` false with ERR_NOT_FOUND. ops are those
 * of ssh_exec, with their rules; may_start is asked during this call. */
struct proc *proc_start(struct loop *loop, const struct ssh_command *cmd,
			const struct ssh_exec_ops *ops, void *arg, struct err *err);

/* As proc_start, but runs argv (NULL-terminated, not empty; argv[0] is looked for in exed's own
 * PATH) without a shell; cmd->command is not looked at. clean: the environment is cmd->env and
 * EXED_OP, and nothing else. argv is borrowed during this call. */
struct proc *proc_start_argv(struct loop *loop, const char *const *argv, bool clean,
			     const struct ssh_command *cmd, const struct ssh_exec_ops *ops,
			     void *arg, struct err *err);

/* As proc_start_argv, with all of the environment; the child has `channel` (not 0 to 2, borrowed during
 * this call) as its descriptor 3. */
struct proc *proc_start_channel(struct loop *loop, const char *const *argv, int channel,
				const struct ssh_command *cmd, const struct ssh_exec_ops *ops,
				void *arg, struct err *err);

/* Stops and goes on reading its output; the child then waits in its writes. While paused it does
 * not end, unless it was killed: then what is left in the pipes (64 KiB each) is handed over
 * anyway. */
void proc_pause(struct proc *p, bool pause);
/* Kills its session, its descendants and what carries its EXED_OP, looks whether they are gone,
 * then calls end with `cancelled`; within 10 s. Nothing when it is being killed already. */
void proc_cancel(struct proc *p);

/* How many run. */
unsigned proc_count(struct loop *loop);
/* Kills all that run, waits until they are gone (about 2 s at most, for what cannot be killed) and
 * calls their ends with `cancelled`; meanwhile nothing can be started. Blocking: for the end of the
 * program. loop_free does it too. */
void proc_stop_all(struct loop *loop); /* nothing for NULL */

#endif
