/* SPDX-License-Identifier: MIT */
/* ssh_lane: a tunnel as ssh_tunnel.c and ssh_lane.c see it, and no one else. One I/O thread. */
#ifndef EXED_SSH_LANE_H
#define EXED_SSH_LANE_H

#include "ssh_tunnel.h"

/* What one tunnel holds of what has come before its lane reads no more of it. */
#define TUNNEL_IN_MAX (64u * 1024u)
/* When a tunnel waits for its turn for this long there is one more lane. */
#define LANE_MORE_MS 500
/* Lanes of a thread to one jump host: in use, and with those that wait for an answer which nobody
 * needs any more. */
#define LANES 16u
#define LANES_MAX 64u

enum tunnel_state {
	TUNNEL_ASK,     /* for a lane; not in its list yet */
	TUNNEL_WAIT,    /* for its turn on a lane */
	TUNNEL_OPENING, /* the channel */
	TUNNEL_OPEN,
	TUNNEL_CLOSE,   /* its connection is gone; the rest is sent and the channel closed */
	TUNNEL_BROKEN,  /* the lane is gone */
};

struct ssh_tunnel {
	TAILQ_ENTRY(ssh_tunnel) link; /* lane->tunnels */
	enum tunnel_state state;
	struct ssh_conn *conn; /* the inner connection; NULL once it dropped the tunnel */
	struct ssh_conn *lane; /* NULL before WAIT and when it broke */
	struct ssh_use *use;   /* of the lane */
	int64_t since_ms;      /* when it began to wait */
	bool more;             /* its use is to be one more lane */
	bool full;             /* the lane has stopped reading it */
	bool ended;            /* nothing comes any more but what is in `in` */
	LIBSSH2_CHANNEL *ch;
	struct buf message; /* of the open request */
	struct buf in;      /* read from the channel, not yet by conn */
	size_t in_at;
	struct buf rest;    /* conn's last bytes */
};

/* Asks for a lane; more: for one that is not there yet. -ERR_MEMORY. */
int tunnel_ask(struct ssh_tunnel *t, bool more);
/* Its lane is broken: fails its connection, or frees it. */
void tunnel_broken(struct ssh_tunnel *t, const struct err *why);
void tunnel_free(struct ssh_tunnel *t);

/* Its use is ready: it waits for its turn there. */
void lane_add(struct ssh_tunnel *t);

#endif
