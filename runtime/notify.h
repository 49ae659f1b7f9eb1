/* SPDX-License-Identifier: MIT */
/* notify: tells the service manager how the node is (sd_notify(3)'s protocol: one datagram of
 * NAME=value lines to the socket that $NOTIFY_SOCKET names). Loop thread. */
#ifndef EXED_NOTIFY_H
#define EXED_NOTIFY_H

#include "loop.h"

struct notify;

/* Takes $NOTIFY_SOCKET and $WATCHDOG_USEC out of the environment, so that no child speaks for us.
 * NULL when nobody is to be told, which all functions take. */
struct notify *notify_new(struct loop *loop);
void notify_free(struct notify *n);

/* The node serves, at first or again after a reload. From the first one on the loop itself keeps the
 * watchdog quiet: a loop that does not turn any more is found. */
void notify_ready(struct notify *n);
void notify_reloading(struct notify *n);
void notify_stopping(struct notify *n);

#endif
