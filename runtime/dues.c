/* SPDX-License-Identifier: MIT */
/* dues: a list in the order in which limits pass. Loop thread. */
#include "dues.h"

static void set_timer(struct dues *ds, int64_t now)
{
	const struct due *first = TAILQ_FIRST(&ds->list);

	ds->set = first != NULL;
	if (first)
		timer_set(&ds->timer, first->at_ms > now ? first->at_ms - now : 0);
}

static void on_timer(void *arg)
{
	struct dues *ds = arg;
	int64_t now = loop_now_ms();
	struct due *d;

	while ((d = TAILQ_FIRST(&ds->list)) && d->at_ms <= now) {
		dues_end(ds, d);
		ds->passed(d);
	}
	set_timer(ds, now);
}

int dues_init(struct dues *ds, struct event_base *base, void (*passed)(struct due *d))
{
	TAILQ_INIT(&ds->list);
	ds->set = false;
	ds->passed = passed;
	return timer_init(&ds->timer, base, on_timer, ds);
}

void dues_deinit(struct dues *ds)
{
	timer_deinit(&ds->timer);
}

/* Most limits are the same, so the place of a new one is the last. The timer stays as it is while it is early
 * enough. */
void dues_set(struct dues *ds, struct due *d, int64_t ms)
{
	int64_t now = loop_now_ms();
	struct due *before;

	dues_end(ds, d);
	d->at_ms = now + ms;
	before = TAILQ_LAST(&ds->list, dues_list);
	while (before && before->at_ms > d->at_ms)
		before = TAILQ_PREV(before, dues_list, link);
	if (before)
		TAILQ_INSERT_AFTER(&ds->list, before, d, link);
	else
		TAILQ_INSERT_HEAD(&ds->list, d, link);
	if (!ds->set || !before)
		set_timer(ds, now);
}

void dues_end(struct dues *ds, struct due *d)
{
	if (d->at_ms)
		TAILQ_REMOVE(&ds->list, d, link);
	d->at_ms = 0;
}
