/* SPDX-License-Identifier: MIT */
/* http_peers: how many connections each address has. IPv6 is counted by /64, for one machine has
 * them all. As many entries as there are addresses connected now. Loop thread. */
#ifndef EXED_HTTP_PEERS_H
#define EXED_HTTP_PEERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define HTTP_PEERS_BUCKETS 1024

struct http_peer; /* one address; opaque */

/* All zero is empty. */
struct http_peers {
	struct http_peer *buckets[HTTP_PEERS_BUCKETS];
	uint64_t seed; /* random, so that nobody chooses his bucket */
};

/* Counts one more for an IPv4 or IPv6 address and returns its entry; NULL when it has max already
 * or memory is short. */
struct http_peer *http_peers_take(struct http_peers *peers, const struct sockaddr *addr,
				  unsigned max);
void http_peers_give(struct http_peers *peers, struct http_peer *peer); /* one less */
/* True for 127.0.0.0/8, ::1, IPv4 loopback mapped to IPv6, and unix sockets. */
bool http_peers_loopback(const struct sockaddr *addr);

#endif
