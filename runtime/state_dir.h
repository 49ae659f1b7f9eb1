/* SPDX-License-Identifier: MIT */
/* state_dir: the directory that is one node's own: made 0700, kept 0700, held by one process. */
#ifndef EXED_STATE_DIR_H
#define EXED_STATE_DIR_H

#include "err.h"

/* Makes the directory (and its parents) when it is missing, checks that it is ours and can be
 * written, and takes its lock. Returns the descriptor that holds the lock (close-on-exec; closing
 * it lets go), or -ERR_x: ERR_REFUSED names the process that holds it. Any thread; blocks for as
 * long as a few calls on local files take. */
int state_dir_open(const char *path, struct err *err);

/* Whether state_dir_open could make the directory and write in it, changing nothing: 0, or -ERR_x;
 * ERR_REFUSED: it belongs to another user. Whether another process holds it is not looked at. As
 * above. */
int state_dir_check(const char *path, struct err *err);

#endif
