/* SPDX-License-Identifier: MIT */
/* redis_hub: the SUBSCRIBE connection of one client and who listens on it. Inside of redis.c only.
 * Loop thread. */
#ifndef EXED_REDIS_HUB_H
#define EXED_REDIS_HUB_H

#include "redis.h"
#include "redis_link.h"

struct redis_hub;

/* setup is borrowed. NULL with *err when memory is out. */
struct redis_hub *redis_hub_new(struct event_base *base, const struct redis_setup *setup,
				struct err *err);
void redis_hub_free(struct redis_hub *hub); /* NULL is nothing; frees the subscriptions */
struct redis_sub *redis_hub_add(struct redis_hub *hub, const char *channel,
				const struct redis_sub_ops *ops, void *arg, struct err *err);

#endif
