/* SPDX-License-Identifier: MIT */
/* host_end: how one host of a fan-out ends: with a record, to be asked again in a while, or by asking first
 * what its op has left there. The host's side of host_run.c. */
#include "host_run.h"

#include <stdio.h>
#include <string.h>

#include "loop.h"

#define NODE_LOST "node lost while running"
#define CONN_LOST "connection lost while running"

static void finish_done(struct work *w)
{
	fanout_run_finished(container_of(w, struct host_run, finish));
}

/* Gives the record away; nothing happens on this side after it. */
void host_end(struct host_run *run, struct entry *last)
{
	run->over = true;
	run->last = last;
	run->finish.done = finish_done;
	host_run_to_loop(run, &run->finish);
}

static void append(struct entry **list, struct entry *e)
{
	while (*list)
		list = &(*list)->next;
	*list = e;
}

void host_end_with(struct host_run *run, const struct ssh_result *result)
{
	struct entry *list = record_flush(&run->record);
	/* Before that a cancel may be under way, and the reason is still the loop's to write. */
	const char *why = run->cancelled ? run->cancel_reason : run->forbid;
	struct ssh_result end = *result;

	/* Who looks at a record wants to know when it was not a person who stopped it. */
	if (end.cancelled && !end.err.code && why && strcmp(why, "cancelled") != 0)
		err_set(&end.err, ERR_CANCELLED, "%s", why);
	append(&list, record_end(&run->record, &end));
	host_end(run, list);
}

/* Whether a started op may be asked about again later. */
static bool may_settle(const struct host_run *run)
{
	return loop_now_ms() < run->settle_until_ms;
}

static void settle_later(struct host_run *run)
{
	run->unsettled = true;
	host_end(run, NULL);
}

/* The request went out, and nobody saw how the command ended. */
static bool is_unseen(const struct ssh_result *r)
{
	return r->sent && !r->exited && !r->signal[0] && !r->timed_out && !r->cancelled;
}

/* Whether the host has to be asked again about an op that started there and is fenced: the connection
 * broke, or it could not be asked. */
static bool must_ask_again(struct host_run *run, const struct ssh_result *r)
{
	const struct fanout_plan *plan = fanout_run_plan(run)->plan;

	if (!run->fence.on || run->fence.broken.code || run->let_go)
		return false;
	if (!r->sent)
		return run->settle_until_ms && may_settle(run);
	if (!is_unseen(r) || !r->err.code)
		return false;
	if (!run->settle_until_ms && plan->settle_ms)
		run->settle_until_ms = loop_now_ms() + plan->settle_ms;
	return may_settle(run);
}

/* Nothing ran; what the host said to it belongs to the reason. */
void host_end_unrun(struct host_run *run, const char *why)
{
	const struct buf *said = &run->record.err.held;
	const char *line = said->len ? memchr(said->data, '\n', said->len) : NULL;
	int n = (int)(line ? (size_t)(line - said->data) : said->len);
	char text[512];

	snprintf(text, sizeof(text), "%s%s%.*s", why, n ? ": " : "", n, n ? said->data : "");
	host_end(run, record_plain(run->index, STATUS_FAILED, text));
}

/* ---- asking what is left ---- */

/* why: the host could not be asked; NULL: it could. */
static void put_why(struct host_run *run, const char *why)
{
	struct err *err = &run->left->result.err;
	struct err was = *err;

	if (why)
		err_set(err, was.code ? was.code : ERR_UNREACHABLE,
			"%s, and the host cannot be asked: %s",
			was.code ? was.message : NODE_LOST, why);
}

void host_end_left(struct host_run *run, const struct kill_answer *a)
{
	host_end(run, host_left_entries(run->left, a));
}

/* Goes on in run->left with the result that is known so far. */
static void ask_left(struct host_run *run, const struct ssh_result *r, bool kill, int64_t until_ms)
{
	run->left = host_left_new(&run->record, r, kill, until_ms);
	if (!run->left) {
		host_end_with(run, r);
		return;
	}
	run->settle_until_ms = until_ms;
	host_fence_deinit(&run->fence);
	run->marked = true;
	run->warm = run->retried = false;
	if (run->io) {
		run->ready = false;
		host_run_connect(run, r->killed_by != NULL);
	} else {
		host_run_command(run);
	}
}

/* The host has answered, or cannot be asked now. */
static void end_asking(struct host_run *run, bool sent, const char *why)
{
	struct host_left *left = run->left;
	struct kill_answer a = host_left_answer(left, sent);

	if (a.left > 0 && (run->cancelled || run->forbid) && !left->kill) {
		left->kill = true;
		if (!left->until_ms)
			left->until_ms = loop_now_ms() + fanout_run_plan(run)->plan->settle_ms;
		run->settle_until_ms = left->until_ms;
		settle_later(run);
		return;
	}
	/* What answers will tell of the end, too. */
	if (a.left > 0 && !left->until_ms)
		left->until_ms = loop_now_ms() + fanout_run_plan(run)->plan->settle_ms;
	run->settle_until_ms = left->until_ms;
	if (a.left != 0 && may_settle(run)) {
		settle_later(run);
		return;
	}
	if (a.left < 0)
		put_why(run, why);
	host_end_left(run, &a);
}

/* Whether the record of an ended command has to wait for what it may have left, and the lease of the host
 * with it: begins to ask then. */
static bool ask_if_needed(struct host_run *run, const struct ssh_result *r)
{
	const struct fanout_plan *plan = fanout_run_plan(run)->plan;
	int64_t until = run->settle_until_ms;
	bool unverified = r->killed_by && (!r->killed || r->survivors > 0);

	if (!r->sent || run->let_go || !plan->op_id || (!until && !plan->settle_ms) ||
	    (run->io && ssh_host_raw(run->host)))
		return false;
	if (!until && plan->fence)
		until = loop_now_ms() + plan->settle_ms;
	if (is_unseen(r))
		ask_left(run, r, false, until);
	else if (unverified && plan->fence)
		ask_left(run, r, true, until);
	else
		return false;
	return true;
}

/* ---- the ends of a command ---- */

static void end_fenced(struct host_run *run, struct ssh_result result)
{
	struct err why;

	if (!host_fence_end(&run->fence, &result, run->settle_until_ms != 0, host_run_fenced, run, &why))
		host_end_unrun(run, why.message);
	else if (!ask_if_needed(run, &result))
		host_end_with(run, &result);
}

/* The host has said whether the op that is not to run ever started. */
static void end_forbidding(struct host_run *run, const struct ssh_result *result)
{
	enum fence_said said = host_fence_forbidden(&run->fence, result);

	run->forbidding = false;
	if (said == FENCE_ALIVE || said == FENCE_ENDED || said == FENCE_DIED) {
		run->forbidden = true;
		run->kill_joined = said == FENCE_ALIVE;
		host_run_command(run);
		return;
	}
	host_run_give_back(run, !result->err.code);
	if (said == FENCE_NEW || said == FENCE_NEVER)
		host_end(run, record_plain(run->index, STATUS_SKIPPED, run->forbid));
	else if (may_settle(run))
		settle_later(run);
	else
		host_end(run, record_unknown(run->index, "the host does not say whether it started"));
}

/* Whether the end of the command has to wait until what it left there is taken away: begins that. Behind a
 * fence a signal is the end of the fence's shell, and so nobody else has tidied up. */
static bool tidies(struct host_run *run, const struct ssh_result *r)
{
	bool ended_badly = r->killed_by || (run->fence.on && r->signal[0]);

	if (!r->sent || !ended_badly || r->err.code || run->left || run->forbidding || run->let_go ||
	    !fanout_run_plan(run)->plan->tidy)
		return false;
	run->killed = *r;
	run->tidying = true;
	if (!host_run_tidy(run))
		run->tidying = false;
	return run->tidying;
}

void host_end_command(void *arg, const struct ssh_result *result)
{
	struct host_run *run = arg;
	bool sound;

	run->exec = NULL;
	run->proc = NULL;
	if (run->tidying) {
		run->tidying = false;
		result = &run->killed;
	} else if (tidies(run, result)) {
		return;
	}
	sound = !result->err.code && !result->killed_by;
	/* A kept connection may have died unnoticed; what never started may be tried on a new one. */
	if (!result->sent && run->warm && !run->retried && !run->cancelled &&
	    result->err.code == ERR_UNREACHABLE) {
		host_run_give_back(run, false);
		run->retried = true;
		run->ready = false;
		host_run_connect(run, true);
		return;
	}
	if (run->forbidding && result->sent) {
		end_forbidding(run, result);
		return;
	}
	host_run_give_back(run, sound);
	if (!result->sent && result->err.code == ERR_CANCELLED && !run->cancelled) {
		run->lapsed = true;
		host_end(run, NULL);
	} else if (run->left) {
		end_asking(run, result->sent, result->err.code ? result->err.message : NULL);
	} else if (must_ask_again(run, result)) {
		settle_later(run);
	} else if (run->fence.on && result->sent) {
		end_fenced(run, *result);
	} else if (!ask_if_needed(run, result)) {
		host_end_with(run, result);
	}
}

/* Nothing answers to connecting, or nothing comes then: a login that fails is a host's answer. */
static bool is_away(enum ssh_phase phase, const struct err *err)
{
	return (phase == SSH_CONNECT || phase == SSH_HANDSHAKE) &&
	       (err->code == ERR_UNREACHABLE || err->code == ERR_TIMEOUT);
}

void host_end_unreached(struct host_run *run, enum ssh_phase phase, const struct err *err)
{
	const char *why = err->message;

	if (run->left) {
		end_asking(run, false, why);
	} else if (may_settle(run)) {
		settle_later(run);
	} else if (run->settle_until_ms) {
		char text[320];

		snprintf(text, sizeof(text), "%s, and the host cannot be asked: %s",
			 fanout_run_plan(run)->plan->settle_until_ms ? NODE_LOST : CONN_LOST,
			 why);
		host_end(run, record_unknown(run->index, text));
	} else {
		struct entry *record = record_plain(run->index, STATUS_UNREACHABLE, why);

		if (record)
			record->away = is_away(phase, err);
		host_end(run, record);
	}
}

void host_end_look(struct host_run *run)
{
	struct ssh_result lost = { .sent = true, .survivors = -1, .possible = -1 };

	err_set(&lost.err, ERR_UNREACHABLE, "%s", NODE_LOST);
	if (!run->left)
		run->left = host_left_new(&run->record, &lost, run->forbid != NULL,
					  run->settle_until_ms);
	if (!run->left)
		host_end(run, record_unknown(run->index, "not enough memory to ask what is left"));
}
