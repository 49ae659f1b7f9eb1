/* SPDX-License-Identifier: MIT */
/* host_left: between host_run.c and kill_text.c. No thread of its own. */
#include "host_left.h"

#include <stdlib.h>

/* The script says one line; a profile may say more before it. */
#define SAID_MAX (64u * 1024u)

struct host_left *host_left_new(struct record *record, const struct ssh_result *result, bool kill,
				int64_t until_ms)
{
	struct host_left *left = calloc(1, sizeof(*left));

	if (!left)
		return NULL;
	left->record = *record;
	record_init(record, left->record.rules, left->record.index);
	left->result = *result;
	left->kill = kill;
	left->until_ms = until_ms;
	return left;
}

void host_left_free(struct host_left *left)
{
	if (!left)
		return;
	record_deinit(&left->record);
	buf_deinit(&left->text);
	buf_deinit(&left->said);
	free(left);
}

const char *host_left_text(struct host_left *left, const char *op_id, bool as_other)
{
	const struct kill_text k = {
		.op_id = op_id, .look = !left->kill, .as_other = as_other, .age_ms = -1,
	};

	buf_clear(&left->text);
	buf_clear(&left->said);
	kill_text_put(&left->text, &k);
	return buf_str(&left->text);
}

void host_left_read(struct host_left *left, const char *data, size_t n)
{
	if (left->said.len + n <= SAID_MAX)
		buf_add(&left->said, data, n);
}

struct kill_answer host_left_answer(struct host_left *left, bool sent)
{
	if (!sent)
		return (struct kill_answer){ .left = -1, .possible = -1 };
	return kill_text_read(&left->said);
}

struct entry *host_left_entries(struct host_left *left, const struct kill_answer *a)
{
	struct ssh_result *r = &left->result;
	struct entry *first, **last = &first;

	if (a && a->left >= 0) {
		r->looked = true;
		r->survivors = a->left;
		r->possible = r->killed ? r->possible : -1;
	}
	if (left->kill) {
		r->killed = r->killed || r->looked;
		r->killed_by = r->killed ? KILLED_BY : KILL_UNVERIFIED;
	}
	first = record_flush(&left->record);
	while (*last)
		last = &(*last)->next;
	*last = record_end(&left->record, r);
	return first;
}
