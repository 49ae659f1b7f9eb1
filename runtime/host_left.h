/* SPDX-License-Identifier: MIT */
/* host_left: what an op may have left on a host, and the record that waits until that is known: of a
 * command whose end nobody saw, or whose kill was not verified. Plain data, owned by one host_run, or by
 * the fan-out between two of them; whoever owns it may use it. */
#ifndef EXED_HOST_LEFT_H
#define EXED_HOST_LEFT_H

#include "buf.h"
#include "kill_text.h"
#include "record.h"

struct host_left {
	struct record record;
	struct ssh_result result;
	bool kill;        /* what is found is to be killed; else it is waited for */
	int64_t until_ms; /* the host is asked until then (loop_now_ms); 0: until it has answered once */
	struct buf text, said;
};

/* Takes what the record holds; it is empty after. NULL when memory is out: nothing was taken. */
struct host_left *host_left_new(struct record *record, const struct ssh_result *result, bool kill,
				int64_t until_ms);
void host_left_free(struct host_left *left); /* NULL is none */

/* The script for the next question, valid until the one after; NULL when memory is out. */
const char *host_left_text(struct host_left *left, const char *op_id, bool as_other);
/* Stdout of the script. */
void host_left_read(struct host_left *left, const char *data, size_t n);
/* What it said. sent: it was asked at all. */
struct kill_answer host_left_answer(struct host_left *left, bool sent);

/* The record, with what the last answer told, and the parts that go before it; never NULL but for want of
 * memory. The rest of left is of no more use. */
struct entry *host_left_entries(struct host_left *left, const struct kill_answer *a);

#endif
