/* SPDX-License-Identifier: MIT */
/* ssh_cert: OpenSSH's user certificates (PROTOCOL.certkeys of OpenSSH): a public key with what a
 * certificate authority says about it. We only carry them: the host judges. Pure functions over
 * bytes; any thread. */
#ifndef EXED_SSH_CERT_H
#define EXED_SSH_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "buf.h"
#include "err.h"

/* What the algorithm of a certificate has behind that of its key. */
#define SSH_CERT_SUFFIX "-cert-v01@openssh.com"

/* The certificate in the text of a NAME-cert.pub file (type, base64, comment), appended to blob,
 * when it is a user's and made for the public key (key_len bytes, RFC 4253, 6.6). ERR_INVALID with
 * what is wrong, ERR_MEMORY. */
int ssh_cert_parse(const char *text, size_t n, const unsigned char *key, size_t key_len,
		   struct buf *blob, struct err *err);

/* Whether a public key, as an agent lists it, is a certificate. */
bool ssh_cert_is(const unsigned char *blob, size_t n);

/* Why a certificate is of no use at that time: "expired", "not valid yet"; NULL when there is
 * nothing to say. */
const char *ssh_cert_lapse(const unsigned char *blob, size_t n, time_t now);

#endif
