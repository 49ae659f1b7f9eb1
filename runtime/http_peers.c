/* SPDX-License-Identifier: MIT */
/* http_peers: a hash table with chains. An entry lives while its count is not 0. Loop thread. */
#include "http_peers.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct http_peer {
	struct http_peer *next;
	uint64_t key[2];
	unsigned bucket, count;
};

/* The address as 16 bytes: IPv4 mapped, IPv6 without its interface part. */
static void peer_key(const struct sockaddr *addr, uint64_t key[2])
{
	unsigned char bytes[16] = { 0 };

	if (addr->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;

		memcpy(bytes, &in6->sin6_addr, IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? 16 : 8);
	} else if (addr->sa_family == AF_INET) {
		bytes[10] = bytes[11] = 0xff;
		memcpy(bytes + 12, &((const struct sockaddr_in *)addr)->sin_addr, 4);
	}
	memcpy(key, bytes, 16);
}

static unsigned peer_bucket(const struct http_peers *peers, const uint64_t key[2])
{
	uint64_t h = (key[0] ^ peers->seed) * 0x9e3779b97f4a7c15u;

	h = (h ^ (h >> 32) ^ key[1]) * 0x9e3779b97f4a7c15u;
	return (unsigned)(h >> 40) % HTTP_PEERS_BUCKETS;
}

struct http_peer *http_peers_take(struct http_peers *peers, const struct sockaddr *addr,
				  unsigned max)
{
	struct http_peer *p;
	uint64_t key[2];
	unsigned bucket;

	peer_key(addr, key);
	bucket = peer_bucket(peers, key);
	for (p = peers->buckets[bucket]; p; p = p->next)
		if (!memcmp(p->key, key, sizeof(key)))
			break;
	if (p && p->count >= max)
		return NULL;
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return NULL;
		memcpy(p->key, key, sizeof(key));
		p->bucket = bucket;
		p->next = peers->buckets[bucket];
		peers->buckets[bucket] = p;
	}
	p->count++;
	return p;
}

void http_peers_give(struct http_peers *peers, struct http_peer *peer)
{
	struct http_peer **link = &peers->buckets[peer->bucket];

	if (--peer->count)
		return;
	while (*link != peer)
		link = &(*link)->next;
	*link = peer->next;
	free(peer);
}

bool http_peers_loopback(const struct sockaddr *addr)
{
	const struct in6_addr *in6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;

	if (addr->sa_family == AF_INET) {
		uint32_t host = ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr);

		return host >> 24 == 127;
	}
	if (addr->sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(in6) ||
		       (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
	return addr->sa_family == AF_UNIX;
}
