/* SPDX-License-Identifier: MIT */
/* ssh_pace: how many logins an I/O thread has under way.
 *
 * What a login waits for is the network, or processors: this node's, or those of hosts and jump hosts. Those
 * that wait for the network should all be under way. Those that wait for processors should not: they share
 * them, so all end late, and the hosts of a window go on in step, all computing, then all idle. Begun as
 * others end, they end one after another, the last no later.
 *
 * Which it is shows in how long a login takes beside more others and beside fewer: the limit is doubled, and
 * stays so when logins take no longer; else it is halved again. Hosts that hang, or are far, hold nobody up:
 * many that begin later pass them and take their places, and where none goes on for a while the limit
 * is doubled, too.
 *
 * One I/O thread; no memory but the caller's. Times are loop_tick_us. */
#ifndef EXED_SSH_PACE_H
#define EXED_SSH_PACE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

/* So many are always let: they keep processors busy while hosts answer within some ms. */
#define SSH_PACE_LEAST 8u
/* And no more: a key exchange holds twice the memory of what comes after it. So many keep a thread busy
 * over round trips of 50 ms. */
#define SSH_PACE_MOST 256u
/* Where none goes on for so long, or twice as long as they took last, they wait for the network. */
#define SSH_PACE_STILL_US 100000

struct ssh_login { /* a part of what logs in */
	TAILQ_ENTRY(ssh_login) link; /* in waited */
	int64_t begun_us;
	unsigned passed; /* by so many that began later and have ended */
	unsigned beside; /* so many were under way when it began, itself among them */
	bool under_way, waited;
};

TAILQ_HEAD(ssh_logins, ssh_login);

/* Logins: how many were under way beside one, and how long it took. */
struct ssh_pace_figures { int64_t beside, us; };

struct ssh_pace {
	struct ssh_logins waited; /* under way, and not passed by many; oldest first */
	unsigned nwaited, limit;  /* how many these are, and may be */
	unsigned under_way;       /* in all */
	int64_t moved_us;         /* when one of those went on, or the limit was raised since none did, or the
				   * first began */
	struct ssh_pace_figures sum;  /* of the n that have ended of those begun since then */
	unsigned n;
	int64_t since_us;
	struct ssh_pace_figures last; /* means of those before; 0: there are none */
	unsigned alike;           /* so often in a row the limit was left as it is */
};

void ssh_pace_init(struct ssh_pace *p);
/* Whether one more may begin; asked when one wants to. When not: ask again once one has ended, or after
 * *wait_us. */
bool ssh_pace_may_begin(struct ssh_pace *p, int64_t now_us, int64_t *wait_us);
void ssh_pace_begin(struct ssh_pace *p, struct ssh_login *l, int64_t now_us);
/* It has come a part of its way: where that goes on, processors are waited for. */
void ssh_pace_step(struct ssh_pace *p, const struct ssh_login *l, int64_t now_us);
/* It is logged in, or was at it when its time was over: so long at least it takes. wanted: others want to
 * begin. */
void ssh_pace_done(struct ssh_pace *p, struct ssh_login *l, int64_t now_us, bool wanted);
/* It failed, or is given up; nothing when it is not under way. */
void ssh_pace_drop(struct ssh_pace *p, struct ssh_login *l);

#endif
