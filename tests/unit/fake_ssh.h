/* SPDX-License-Identifier: MIT */
/* fake_ssh: the part of ssh.h that fanout and host_run call, without a network: each connection and
 * command ends after a while on its I/O thread, by the name of the command and the host's index:
 *   true   exits 0        hang    runs until it is cancelled        flood  FLOOD_BYTES of output, exit 0
 *   mixed  by the index modulo 8, see fake_ssh_status
 * For one test program; it takes the place of ssh*.o there. */
#ifndef EXED_TEST_FAKE_SSH_H
#define EXED_TEST_FAKE_SSH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssh.h"

#define FLOOD_BYTES (300 * 1024)

static atomic_int fake_live; /* hosts, uses and execs that were not freed */
static bool fake_ssh_stale;  /* every kept connection turns out to be dead; set before a start */
static bool fake_ssh_mixed;  /* some hosts cannot be reached; the same */

struct ssh_host { atomic_int refs; unsigned index; };

struct ssh_use {
	struct ssh_host *host;
	struct event *ev;
	const struct ssh_use_ops *ops;
	void *arg;
	struct event_base *base;
	int step;
	bool fresh;
};

struct ssh_exec {
	struct ssh_use *use;
	struct event *ev;
	const struct ssh_exec_ops *ops;
	void *arg;
	struct ssh_result result;
	size_t left; /* of the output */
	bool asked, paused, hangs;
};

/* What becomes of a host by its index under "mixed". */
enum { FATE_OK, FATE_FAILED, FATE_UNREACHABLE, FATE_SIGNAL, FATE_BROKEN, FATE_NOT_SENT, FATE_FLOOD };

static int fake_fate(unsigned index)
{
	return (int)(index % 8) % 7;
}

static inline int fake_ssh_status(unsigned index)
{
	switch (fake_fate(index)) {
	case FATE_OK:
	case FATE_FLOOD:
		return 1;
	case FATE_UNREACHABLE:
	case FATE_NOT_SENT:
		return 4;
	default:
		return 3;
	}
}

static inline void fake_ssh_reset(void)
{
	fake_live = 0;
	fake_ssh_stale = fake_ssh_mixed = false;
}

static inline int fake_ssh_left(void)
{
	return fake_live;
}

static void fake_again(struct event *ev, int us)
{
	const struct timeval tv = { 0, us };

	event_add(ev, &tv);
}

struct ssh_host *ssh_host_new(const struct ssh_host_spec *spec)
{
	struct ssh_host *h = calloc(1, sizeof(*h));

	h->refs = 1;
	h->index = (unsigned)atoi(spec->name + 4);
	fake_live++;
	return h;
}

struct ssh_host *ssh_host_ref(struct ssh_host *h)
{
	atomic_fetch_add(&h->refs, 1);
	return h;
}

void ssh_host_unref(struct ssh_host *h)
{
	if (!h || atomic_fetch_sub(&h->refs, 1) != 1)
		return;
	fake_live--;
	free(h);
}

unsigned ssh_host_hash(const struct ssh_host *h)
{
	return h->index * 2654435761u;
}

bool ssh_host_raw(const struct ssh_host *h)
{
	(void)h;
	return false;
}

const char *ssh_host_fence_dir(const struct ssh_host *h)
{
	(void)h;
	return NULL;
}

const struct ssh_become *ssh_host_become(const struct ssh_host *h)
{
	(void)h;
	return NULL;
}

struct ssh_settings *ssh_settings_ref(struct ssh_settings *s)
{
	return s;
}

void ssh_settings_unref(struct ssh_settings *s)
{
	(void)s;
}

const char *ssh_phase_name(enum ssh_phase p)
{
	(void)p;
	return "connect";
}

struct ssh_client *ssh_client_of(struct io *io)
{
	return (struct ssh_client *)io; /* nothing but the base is needed of it */
}

static void free_use(struct ssh_use *u)
{
	event_free(u->ev);
	ssh_host_unref(u->host);
	fake_live--;
	free(u);
}

static void use_turn(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_use *u = arg;
	struct err err;

	(void)fd;
	(void)what;
	if (u->step++ == 0) {
		/* Before ops: it may end the use. */
		fake_again(u->ev, (int)(u->host->index % 5) * 500);
		u->ops->reached(u->arg);
		return;
	}
	if (fake_ssh_mixed && fake_fate(u->host->index) == FATE_UNREACHABLE) {
		const struct ssh_use_ops *ops = u->ops;
		void *run = u->arg;

		err_set(&err, ERR_UNREACHABLE, "no route to the host");
		free_use(u);
		ops->failed(run, SSH_LOGIN, &err);
		return;
	}
	u->ops->ready(u->arg, !u->fresh);
}

struct ssh_use *ssh_use_start(struct ssh_client *c, struct ssh_host *h, struct ssh_settings *s,
			      int64_t limit_ms, bool fresh, const struct ssh_use_ops *ops,
			      void *arg)
{
	struct ssh_use *u = calloc(1, sizeof(*u));

	(void)s;
	(void)limit_ms;
	u->host = ssh_host_ref(h);
	u->ops = ops;
	u->arg = arg;
	u->fresh = fresh;
	u->base = io_base((struct io *)c);
	u->ev = event_new(u->base, -1, 0, use_turn, u);
	fake_live++;
	fake_again(u->ev, (int)(h->index % 3) * 300);
	return u;
}

void ssh_use_end(struct ssh_use *u, bool keep)
{
	(void)keep;
	free_use(u);
}

static void end_exec(struct ssh_exec *x)
{
	struct ssh_result result = x->result;
	const struct ssh_exec_ops *ops = x->ops;
	void *arg = x->arg;

	event_free(x->ev);
	fake_live--;
	free(x);
	ops->end(arg, &result);
}

static void send_output(struct ssh_exec *x)
{
	static const char block[16384] = "flood";
	size_t n = x->left < sizeof(block) ? x->left : sizeof(block);

	x->left -= n;
	fake_again(x->ev, 0); /* before: it may pause */
	x->ops->output(x->arg, SSH_STDOUT, block, n);
}

static bool ask_to_start(struct ssh_exec *x)
{
	x->asked = true;
	if ((fake_ssh_stale && !x->use->fresh) ||
	    (fake_ssh_mixed && fake_fate(x->use->host->index) == FATE_NOT_SENT)) {
		err_set(&x->result.err, ERR_UNREACHABLE, "the connection broke");
		return false;
	}
	if (x->ops->may_start && !x->ops->may_start(x->arg)) {
		err_set(&x->result.err, ERR_CANCELLED, "not started");
		return false;
	}
	x->result.sent = true;
	return true;
}

static void exec_turn(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_exec *x = arg;

	(void)fd;
	(void)what;
	if (!x->asked && !x->result.cancelled) {
		if (!ask_to_start(x)) {
			end_exec(x);
			return;
		}
		fake_again(x->ev, (int)(x->use->host->index % 4) * 400);
	} else if (x->result.cancelled) {
		end_exec(x);
	} else if (x->left) {
		send_output(x);
	} else if (!x->hangs) {
		end_exec(x);
	}
}

static void set_fate(struct ssh_exec *x, int fate)
{
	x->result.exited = fate == FATE_OK || fate == FATE_FAILED || fate == FATE_FLOOD;
	x->result.code = fate == FATE_FAILED ? 9 : 0;
	x->left = fate == FATE_FLOOD ? FLOOD_BYTES : 10;
	if (fate == FATE_SIGNAL)
		strcpy(x->result.signal, "TERM");
	if (fate == FATE_BROKEN)
		err_set(&x->result.err, ERR_UNREACHABLE, "the connection broke");
}

struct ssh_exec *ssh_exec_start(struct ssh_use *u, const struct ssh_command *cmd,
				const struct ssh_exec_ops *ops, void *arg)
{
	struct ssh_exec *x = calloc(1, sizeof(*x));

	x->use = u;
	x->ops = ops;
	x->arg = arg;
	x->result.survivors = -1;
	x->hangs = !strcmp(cmd->command, "hang");
	if (!strcmp(cmd->command, "mixed"))
		set_fate(x, fake_fate(u->host->index));
	else
		set_fate(x, !strcmp(cmd->command, "flood") ? FATE_FLOOD : FATE_OK);
	x->ev = event_new(u->base, -1, 0, exec_turn, x);
	fake_live++;
	fake_again(x->ev, 0);
	return x;
}

void ssh_exec_pause(struct ssh_exec *x, bool pause)
{
	x->paused = pause;
	if (pause)
		event_del(x->ev);
	else
		fake_again(x->ev, 0);
}

void ssh_exec_cancel(struct ssh_exec *x)
{
	if (x->result.cancelled)
		return;
	x->result.cancelled = true;
	x->result.exited = false;
	x->result.killed = x->result.sent;
	x->result.survivors = x->result.sent ? 0 : -1;
	err_set(&x->result.err, ERR_CANCELLED, "cancelled");
	fake_again(x->ev, 100);
}

#endif
