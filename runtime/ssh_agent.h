/* SPDX-License-Identifier: MIT */
/* ssh_agent: the ssh-agent protocol (draft-miller-ssh-agent), spoken without blocking over its
 * unix socket. One agent connection serves all SSH connections of an I/O thread, in order. That
 * thread only. */
#ifndef EXED_SSH_AGENT_H
#define EXED_SSH_AGENT_H

#include <event2/event.h>
#include <stddef.h>

#include "err.h"

struct ssh_agent;

struct ssh_agent_key {
	unsigned char *blob;
	size_t len;
	char *comment;
};

#define SSH_AGENT_MS 60000 /* an agent may ask its user before it signs */

/* Connects at its first use, and again after the agent went away, or when it was asked and has said nothing for
 * limit_ms. Copies path. NULL: out of memory. */
struct ssh_agent *ssh_agent_new(struct event_base *base, const char *path, int limit_ms);
void ssh_agent_free(struct ssh_agent *a); /* no answer comes any more */
const char *ssh_agent_path(const struct ssh_agent *a);

struct ssh_agent_ask; /* one question */

/* Asks for the keys. The answer is given to keys (never from inside this call), with n 0 and an
 * err when there is none; the array is the agent's and valid during the call. A list that is not
 * older than a few seconds is used again. NULL: out of memory. */
struct ssh_agent_ask *ssh_agent_list(struct ssh_agent *a,
				     void (*keys)(void *arg, const struct ssh_agent_key *keys,
						  size_t n, const struct err *err),
				     void *arg);
/* Asks for a signature over data with the key of this blob; flags: 2 rsa-sha2-256, 4
 * rsa-sha2-512. The answer is the signature as SSH has it (type string and signature string), or
 * NULL and an err. */
struct ssh_agent_ask *ssh_agent_sign(struct ssh_agent *a, const unsigned char *blob,
				     size_t blob_len, const void *data, size_t len, unsigned flags,
				     void (*done)(void *arg, const unsigned char *sig, size_t n,
						  const struct err *err),
				     void *arg);
/* The answer is not wanted any more. Not after it was given. */
void ssh_agent_drop(struct ssh_agent_ask *ask);

#endif
