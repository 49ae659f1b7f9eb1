/* SPDX-License-Identifier: MIT */
/* redis_reply: makes hiredis' replies, each in one block with its text or its places (its own functions take
 * two, and copy when a reply is to be kept), and counts who holds one. Loop thread. */
#include "redis_reply.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#if HIREDIS_MAJOR < 1
typedef int reply_count;
#else
typedef size_t reply_count;
#endif

struct reply {
	redisReply r; /* first; its str or element follow the struct */
	unsigned refs; /* of one that is in no other: hiredis, and who has taken it */
};

/* All that is nil: a hash's missing fields are many. */
static struct reply nil = { .r = { .type = REDIS_REPLY_NIL } };

/* Hands it to the array that it is in, if any. */
static void *put(const redisReadTask *task, struct reply *reply)
{
	redisReply *parent = reply && task->parent ? task->parent->obj : NULL;

	if (parent)
		parent->element[task->idx] = &reply->r;
	return reply;
}

static struct reply *new_reply(int type, size_t more)
{
	struct reply *reply = malloc(sizeof(*reply) + more);

	if (reply) {
		memset(reply, 0, sizeof(*reply));
		reply->r.type = type;
		reply->refs = 1;
	}
	return reply;
}

static void *make_string(const redisReadTask *task, char *text, size_t len)
{
	struct reply *reply = new_reply(task->type, len + 1);

	if (!reply)
		return NULL;
	reply->r.str = (char *)(reply + 1);
	reply->r.len = len;
	memcpy(reply->r.str, text, len);
	reply->r.str[len] = '\0';
	return put(task, reply);
}

static void *make_array(const redisReadTask *task, reply_count elements)
{
	size_t n = (size_t)elements;
	struct reply *reply = new_reply(task->type, n * sizeof(redisReply *));

	if (!reply)
		return NULL;
	reply->r.element = (redisReply **)(void *)(reply + 1);
	reply->r.elements = n;
	memset(reply->r.element, 0, n * sizeof(redisReply *));
	return put(task, reply);
}

static void *make_integer(const redisReadTask *task, long long value)
{
	struct reply *reply = new_reply(task->type, 0);

	if (reply)
		reply->r.integer = value;
	return put(task, reply);
}

static void *make_nil(const redisReadTask *task)
{
	return put(task, &nil);
}

/* Nested as deep as hiredis reads, which is a few levels. */
static void unref(void *object)
{
	struct reply *reply = object;

	if (!reply || reply == &nil || --reply->refs)
		return;
	for (size_t i = 0; i < reply->r.elements; i++)
		unref(reply->r.element[i]);
	free(reply);
}

void redis_reply_make(struct redisReader *reader)
{
	static redisReplyObjectFunctions functions = {
		.createString = make_string, .createArray = make_array,
		.createInteger = make_integer, .createNil = make_nil, .freeObject = unref,
	};

	reader->fn = &functions;
}

struct redisReply *redis_reply_take(const struct redisReply *reply)
{
	struct reply *taken = (struct reply *)reply;

	if (taken != &nil)
		taken->refs++;
	return &taken->r;
}

void redis_reply_free(struct redisReply *reply)
{
	unref(reply);
}
