/* SPDX-License-Identifier: MIT */
/* redis_reply: how replies of redis are held in memory. redis_reply_take and redis_reply_free, for users of the
 * client, are in redis.h. Loop thread. */
#ifndef EXED_REDIS_REPLY_H
#define EXED_REDIS_REPLY_H

struct redisReader;

/* That reader's replies (a connection's, before its first) are made here. */
void redis_reply_make(struct redisReader *reader);

#endif
