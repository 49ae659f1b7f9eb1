/* SPDX-License-Identifier: MIT */
/* ssh_auth: what the two files of a login share, and no one else includes: keys (ssh_auth.c) and
 * passwords (ssh_password.c). One I/O thread. */
#ifndef EXED_SSH_AUTH_H
#define EXED_SSH_AUTH_H

#include "ssh_conn.h"

/* Keys that are tried where there is also a password; sshd allows six failures in all. */
#define KEYS_BEFORE_PASSWORD 4u

/* What a host takes, as far as we can do it (RFC 4252, 5.1). */
enum { AUTH_PUBLICKEY = 1, AUTH_PASSWORD = 2, AUTH_INTERACTIVE = 4 };

struct offered { /* a key of the agent, copied: its list may change meanwhile */
	unsigned char *blob;
	size_t len;
	char *comment;
};

struct ssh_auth {
	struct ssh_key *own; /* of this host; borrowed from the settings */
	struct err own_err;  /* why there is none although one is named */
	size_t next;         /* what is tried: of own, configured and the agent's keys */
	bool trying;
	struct ssh_agent_ask *ask; /* runs */
	bool listed;               /* the agent's keys are here */
	struct err agent_err;
	struct offered *agent_keys;
	size_t n_agent_keys;
	struct buf sig;            /* the agent's answer */
	bool sign_done, sign_failed;
	struct buf tried;          /* for the message */
	unsigned n_tried;
	bool heard;                /* the host said what it takes: */
	unsigned methods;          /* AUTH_x */
	unsigned password_by;      /* AUTH_x by which the password is sent; 0: not yet */
	bool answered;             /* a prompt was answered with the password */
	unsigned odd_prompts;      /* of a round that asks for something else */
};

/* ---- ssh_auth.c ---- */

const char *auth_user(const struct ssh_conn *c);
void auth_note_tried(struct ssh_auth *a, const char *what); /* copied, for the message */
int auth_refused(struct ssh_conn *c); /* conn_fail with what was tried; returns -1 */

/* ---- ssh_password.c ---- */

/* One step with the host's password, in the way of conn_auth_step. */
int auth_password_step(struct ssh_conn *c);
/* "; the host takes password only", or "" when there is nothing to say. Static. */
const char *auth_methods_say(const struct ssh_auth *a);

#endif
