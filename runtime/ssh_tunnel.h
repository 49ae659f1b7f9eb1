/* SPDX-License-Identifier: MIT */
/* ssh_tunnel: what stands in for the socket of a host that is reached through a jump host: a
 * direct-tcpip channel of a connection to the jump host (a lane). Only the files of the SSH client
 * include it.
 *
 * No connection ever calls libssh2 for another one. A lane's turn moves bytes between its channels
 * and the tunnels' buffers and kicks the inner connections, and the other way round. libssh2 opens
 * one channel of a connection at a time, and the answer may take as long as the jump host's
 * connect(2). So tunnels that wait for their turn are taken by any lane that is free, and when they
 * wait for long there is one more lane. A lane serves tunnels only. Each thread has lanes of its
 * own. One I/O thread. */
#ifndef EXED_SSH_TUNNEL_H
#define EXED_SSH_TUNNEL_H

#include "ssh_conn.h"

/* Begins to make the tunnel of c, whose host has a jump host; kicks c when it is open and fails c
 * when it cannot be. */
void tunnel_start(struct ssh_conn *c);
bool tunnel_is_open(const struct ssh_tunnel *t);
/* As recv(2) and never blocking: bytes, 0 at the end, or -1 with errno EAGAIN. */
ssize_t tunnel_recv(struct ssh_tunnel *t, void *data, size_t n);
/* c->out has something to send; it is taken in a turn of the lane. */
void tunnel_send(struct ssh_tunnel *t);
/* A descriptor for libssh2, which wants to see one: the socket below all tunnels. */
int tunnel_fd(const struct ssh_tunnel *t);
/* c does not need it any more; what is left in c->out is still sent, as far as the window goes. */
void tunnel_drop(struct ssh_conn *c);
/* conn_say_timeout for a connection whose tunnel is not open yet. */
void tunnel_say_timeout(const struct ssh_tunnel *t, int64_t limit_ms, struct err *err);

/* ---- for the lane ---- */

void lane_init(struct ssh_conn *lane);
void lane_step(struct ssh_conn *lane); /* every tunnel that can go on */
void lane_fail(struct ssh_conn *lane); /* fails every connection through it with lane->err */
void lane_stop(struct ssh_conn *lane); /* forgets its channels; before the session goes */
/* A packet that libssh2 has done with: type 92 (channel not opened). */
void lane_packet(struct ssh_conn *lane, const unsigned char *packet, size_t n);

#endif
