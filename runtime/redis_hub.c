/* SPDX-License-Identifier: MIT */
/* redis_hub: channels by name, each with its listeners. hiredis is given no pointer of ours per
 * channel: what comes in finds its channel by name, so that channels may go at any time. A channel
 * of our own is subscribed to again and again: its confirmations show that the connection lives.
 * Loop thread. */
#include "redis_hub.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 256
#define BEAT_MS 5000    /* the pause between two signs of life */
#define SILENCE_MS 15000 /* no sign for this long: the connection is dead */
#define BEAT_CHANNEL "exed:alive"

struct redis_sub {
	struct redis_sub *next;
	struct channel *channel; /* NULL: ended, waits to be freed */
	const struct redis_sub_ops *ops;
	void *arg;
};

struct channel {
	struct channel *next; /* in its bucket */
	struct redis_hub *hub;
	struct redis_sub *subs;
	bool busy;            /* its listeners are being called: nothing is freed */
	char name[];
};

struct redis_hub {
	struct redis_link link;
	struct channel *buckets[BUCKETS];
	struct timer beat;
	int64_t heard_ms;
	bool *gone; /* set when the hub is freed while listeners are being called */
};

static unsigned bucket_of(const char *name, size_t len)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	return hash % BUCKETS;
}

static struct channel *find(const struct redis_hub *hub, const char *name, size_t len)
{
	struct channel *c = hub->buckets[bucket_of(name, len)];

	while (c && (strlen(c->name) != len || memcmp(c->name, name, len)))
		c = c->next;
	return c;
}

static void free_channel(struct channel *c)
{
	struct channel **at = &c->hub->buckets[bucket_of(c->name, strlen(c->name))];

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c);
}

static void on_message(redisAsyncContext *ac, void *reply, void *privdata);

static void send_command(struct redis_hub *hub, const char *command, const char *channel)
{
	if (hub->link.up) /* a refusal means that the connection is ending: it is done again after */
		redisAsyncCommand(hub->link.ac, on_message, NULL, "%s %s", command, channel);
}

/* Frees the subscriptions that ended, and the channel when none is left. */
static void sweep_channel(struct channel *c)
{
	struct redis_sub **at = &c->subs, *sub;

	while ((sub = *at)) {
		if (sub->channel) {
			at = &sub->next;
			continue;
		}
		*at = sub->next;
		free(sub);
	}
	if (c->subs)
		return;
	send_command(c->hub, "UNSUBSCRIBE", c->name);
	free_channel(c);
}

/* Calls the listeners; text NULL: the subscription stands. */
static void tell(struct redis_hub *hub, struct channel *c, const char *text, size_t len)
{
	bool gone = false;
	struct redis_sub *sub;

	c->busy = true;
	hub->gone = &gone;
	for (sub = c->subs; sub && !gone; sub = sub->next) {
		if (!sub->channel)
			continue;
		if (text)
			sub->ops->message(sub->arg, text, len);
		else
			sub->ops->subscribed(sub->arg);
		if (gone)
			return;
	}
	hub->gone = NULL;
	c->busy = false;
	sweep_channel(c);
}

static bool is_word(const redisReply *r, const char *word)
{
	return r->type == REDIS_REPLY_STRING && !strcasecmp(r->str, word);
}

static void on_message(redisAsyncContext *ac, void *reply, void *privdata)
{
	struct redis_link *l = ac->data;
	const redisReply *r = reply;
	struct redis_hub *hub;
	struct channel *c;

	(void)privdata;
	if (!l)
		return;
	if (!r) {
		redis_link_lost(ac);
		return;
	}
	hub = l->arg;
	hub->heard_ms = loop_now_ms();
	if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 ||
	    r->element[1]->type != REDIS_REPLY_STRING)
		return;
	c = find(hub, r->element[1]->str, r->element[1]->len);
	if (!c)
		return;
	if (is_word(r->element[0], "message") && r->element[2]->type == REDIS_REPLY_STRING)
		tell(hub, c, r->element[2]->str, r->element[2]->len);
	else if (is_word(r->element[0], "subscribe"))
		tell(hub, c, NULL, 0);
}

static void on_beat(void *arg)
{
	struct redis_hub *hub = arg;
	struct err why;

	timer_set(&hub->beat, BEAT_MS);
	if (!hub->link.up)
		return;
	if (loop_now_ms() - hub->heard_ms < SILENCE_MS) {
		send_command(hub, "SUBSCRIBE", BEAT_CHANNEL);
		return;
	}
	err_set(&why, ERR_TIMEOUT, "redis at %s is silent", hub->link.setup->address.text);
	redis_link_fail(&hub->link, &why);
}

static void on_up(void *arg)
{
	struct redis_hub *hub = arg;

	hub->heard_ms = loop_now_ms();
	send_command(hub, "SUBSCRIBE", BEAT_CHANNEL);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct channel *c = hub->buckets[i]; c; c = c->next)
			send_command(hub, "SUBSCRIBE", c->name);
}

static void on_down(void *arg, const struct err *why)
{
	(void)arg; /* the connection for commands says it */
	(void)why;
}

struct redis_hub *redis_hub_new(struct event_base *base, const struct redis_setup *setup,
				struct err *err)
{
	struct redis_hub *hub = calloc(1, sizeof(*hub));

	if (!hub || redis_link_init(&hub->link, base, NULL))
		goto fail;
	if (timer_init(&hub->beat, base, on_beat, hub)) {
		redis_link_deinit(&hub->link);
		goto fail;
	}
	hub->link.setup = setup;
	hub->link.on_up = on_up;
	hub->link.on_down = on_down;
	hub->link.arg = hub;
	redis_link_start(&hub->link);
	timer_set(&hub->beat, BEAT_MS);
	return hub;

fail:
	free(hub);
	err_set(err, ERR_MEMORY, "redis: not enough memory");
	return NULL;
}

void redis_hub_free(struct redis_hub *hub)
{
	if (!hub)
		return;
	if (hub->gone)
		*hub->gone = true;
	redis_link_deinit(&hub->link);
	timer_deinit(&hub->beat);
	for (size_t i = 0; i < BUCKETS; i++) {
		while (hub->buckets[i]) {
			struct channel *c = hub->buckets[i];

			hub->buckets[i] = c->next;
			while (c->subs) {
				struct redis_sub *sub = c->subs;

				c->subs = sub->next;
				free(sub);
			}
			free(c);
		}
	}
	free(hub);
}

struct redis_sub *redis_hub_add(struct redis_hub *hub, const char *channel,
				const struct redis_sub_ops *ops, void *arg, struct err *err)
{
	size_t len = strlen(channel);
	struct redis_sub *sub = calloc(1, sizeof(*sub));
	struct channel *c = find(hub, channel, len);

	if (!c && sub) {
		c = calloc(1, sizeof(*c) + len + 1);
		if (c) {
			memcpy(c->name, channel, len + 1);
			c->hub = hub;
			c->next = hub->buckets[bucket_of(channel, len)];
			hub->buckets[bucket_of(channel, len)] = c;
		}
	}
	if (!sub || !c) {
		free(sub);
		err_set(err, ERR_MEMORY, "redis: not enough memory");
		return NULL;
	}
	sub->channel = c;
	sub->ops = ops;
	sub->arg = arg;
	sub->next = c->subs;
	c->subs = sub;
	/* For a channel that stands already this brings one more confirmation, which is what is wanted. */
	send_command(hub, "SUBSCRIBE", c->name);
	return sub;
}

void redis_unsubscribe(struct redis_sub *sub)
{
	struct channel *c = sub->channel;

	sub->channel = NULL;
	if (!c->busy)
		sweep_channel(c);
}
