/* SPDX-License-Identifier: MIT */
/* ssh_pace: how many logins are under way, by how long they take. Logins are their owners'; all that is
 * kept is in struct ssh_pace. One I/O thread. */
#include "ssh_pace.h"

#include <stddef.h>

/* Logins whose mean is looked at. */
#define ROUND 8
/* Rounds without a change after which more are tried. */
#define ALIKE 4

void ssh_pace_init(struct ssh_pace *p)
{
	*p = (struct ssh_pace){ .limit = SSH_PACE_LEAST };
	TAILQ_INIT(&p->waited);
}

/* Begins a round: logins that began under another limit tell nothing of this one. */
static void limit_set(struct ssh_pace *p, unsigned limit, int64_t now_us)
{
	p->limit = limit < SSH_PACE_LEAST ? SSH_PACE_LEAST : limit > SSH_PACE_MOST ? SSH_PACE_MOST : limit;
	p->since_us = now_us;
	p->n = 0;
	p->sum = (struct ssh_pace_figures){ 0 };
}

/* Those that began at once may all end at once: only then have they taken too long. */
static int64_t patience_us(const struct ssh_pace *p)
{
	return 2 * p->last.us > SSH_PACE_STILL_US ? 2 * p->last.us : SSH_PACE_STILL_US;
}

bool ssh_pace_may_begin(struct ssh_pace *p, int64_t now_us, int64_t *wait_us)
{
	*wait_us = patience_us(p);
	if (p->nwaited >= p->limit) {
		*wait_us -= now_us - p->moved_us;
		if (*wait_us > 0)
			return false;
		*wait_us = patience_us(p);
		p->moved_us = now_us;
		if (p->limit < SSH_PACE_MOST)
			limit_set(p, 2 * p->limit, now_us);
	}
	return p->under_way < SSH_PACE_MOST;
}

void ssh_pace_begin(struct ssh_pace *p, struct ssh_login *l, int64_t now_us)
{
	*l = (struct ssh_login){ .begun_us = now_us, .under_way = true, .waited = true };
	l->beside = ++p->under_way;
	if (!p->nwaited++)
		p->moved_us = now_us;
	TAILQ_INSERT_TAIL(&p->waited, l, link);
}

void ssh_pace_step(struct ssh_pace *p, const struct ssh_login *l, int64_t now_us)
{
	if (l->waited)
		p->moved_us = now_us;
}

static void wait_end(struct ssh_pace *p, struct ssh_login *l)
{
	if (!l->waited)
		return;
	TAILQ_REMOVE(&p->waited, l, link);
	l->waited = false;
	p->nwaited--;
}

/* Whether logins share what they wait for: beside more others each takes longer by a third or more of what
 * it would be if all of it were shared. */
static bool is_shared(const struct ssh_pace_figures *fewer, const struct ssh_pace_figures *more)
{
	return 3 * (more->us - fewer->us) * fewer->beside > fewer->us * (more->beside - fewer->beside);
}

/* The limit that follows from this round and the one before. */
static unsigned verdict(struct ssh_pace *p, const struct ssh_pace_figures *now)
{
	const struct ssh_pace_figures *last = &p->last;

	/* Nothing to hold it against. When they became so many since none ended, fewer are tried. */
	if (!last->beside)
		return p->limit > SSH_PACE_LEAST ? p->limit / 2 : 2 * p->limit;
	if (4 * now->beside > 5 * last->beside)
		return is_shared(last, now) ? p->limit / 2 : 2 * p->limit;
	if (5 * now->beside < 4 * last->beside)
		return is_shared(now, last) ? p->limit / 2 : 2 * p->limit;
	/* Beside as many: when it takes longer now, fewer are tried. */
	if (3 * now->us > 4 * last->us)
		return p->limit / 2;
	return p->alike + 1 < ALIKE ? p->limit : 2 * p->limit;
}

static void round_end(struct ssh_pace *p, int64_t now_us, bool wanted)
{
	struct ssh_pace_figures now = { p->sum.beside / p->n, p->sum.us / p->n };
	unsigned limit = verdict(p, &now);

	if (limit > p->limit && !wanted)
		limit = p->limit;
	/* While the limit stays, the quickest round is what others are held against, so that a slow change shows. */
	if (limit != p->limit || now.us < p->last.us)
		p->last = now;
	p->alike = limit == p->limit ? p->alike + 1 : 0;
	limit_set(p, limit, now_us);
}

void ssh_pace_done(struct ssh_pace *p, struct ssh_login *l, int64_t now_us, bool wanted)
{
	struct ssh_login *older, *next;

	/* Of one that is not waited for it is not known who is older. */
	for (older = l->waited ? TAILQ_FIRST(&p->waited) : l; older != l; older = next) {
		next = TAILQ_NEXT(older, link);
		if (++older->passed >= p->limit / 2)
			wait_end(p, older);
	}
	ssh_pace_step(p, l, now_us);
	if (l->begun_us >= p->since_us) {
		/* What began after it has made it slower, too. */
		p->sum.beside += l->beside > p->under_way ? l->beside : p->under_way;
		p->sum.us += now_us > l->begun_us ? now_us - l->begun_us : 1;
		p->n++;
	}
	ssh_pace_drop(p, l);
	if (p->n >= ROUND)
		round_end(p, now_us, wanted);
}

void ssh_pace_drop(struct ssh_pace *p, struct ssh_login *l)
{
	wait_end(p, l);
	if (l->under_way)
		p->under_way--;
	l->under_way = false;
}
