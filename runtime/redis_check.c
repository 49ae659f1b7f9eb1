/* SPDX-License-Identifier: MIT */
/* redis_check: what is asked of a server before its connection may be used: AUTH, SELECT, INFO, how
 * durable it is, and the function library. Each step is sent when the one before it was answered.
 * Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "redis_link.h"

#define VERSION_WANTED 7 /* the first with functions */

typedef void step_fn(struct redis_link *l, const redisReply *reply);

static step_fn on_auth, on_select, on_info, on_config, on_version, on_load;

/* hiredis' callback for every step: privdata says which. */
static void on_step(redisAsyncContext *ac, void *reply, void *step)
{
	struct redis_link *l = ac->data;
	static step_fn *const steps[] = { on_auth, on_select, on_info, on_config, on_version, on_load };

	if (!l)
		return;
	if (!reply)
		redis_link_lost(ac);
	else
		steps[(uintptr_t)step](l, reply);
}

enum { AUTH, SELECT, INFO, CONFIG, VERSION, LOAD };

static void send_step(struct redis_link *l, uintptr_t step, int argc, const char *const *argv)
{
	struct err why;

	if (redisAsyncCommandArgv(l->ac, on_step, (void *)step, argc, (const char **)argv, NULL) ==
	    REDIS_OK)
		return;
	err_set(&why, ERR_UNREACHABLE, "redis at %s closed the connection", l->setup->address.text);
	redis_link_fail(l, &why);
}

static void refuse(struct redis_link *l, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void refuse(struct redis_link *l, const char *fmt, ...)
{
	struct err why;
	va_list ap;

	va_start(ap, fmt);
	err_vset(&why, ERR_REFUSED, fmt, ap);
	va_end(ap);
	redis_link_fail(l, &why);
}

/* An error reply to a step: redis will serve later, or somebody must change something. */
static void refuse_reply(struct redis_link *l, const redisReply *reply, const char *hint)
{
	struct err why;

	if (redis_reply_err(reply, &why) == -ERR_AWAY)
		redis_link_fail(l, &why);
	else
		refuse(l, "redis at %s: %.90s: %s", l->setup->address.text, reply->str, hint);
}

static void send_select(struct redis_link *l)
{
	char db[16];
	const char *argv[] = { "SELECT", db };

	snprintf(db, sizeof(db), "%d", l->setup->address.db);
	send_step(l, SELECT, 2, argv);
}

void redis_check_start(struct redis_link *l)
{
	const struct redis_address *a = &l->setup->address;
	const char *argv[3] = { "AUTH" };
	int argc = 1;

	if (!a->password) {
		send_select(l);
		return;
	}
	if (a->user)
		argv[argc++] = a->user;
	argv[argc++] = a->password;
	send_step(l, AUTH, argc, argv);
}

static void on_auth(struct redis_link *l, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR)
		refuse_reply(l, reply, "check user and password in redis_url");
	else
		send_select(l);
}

static void on_select(struct redis_link *l, const redisReply *reply)
{
	const char *argv[] = { "INFO" };

	if (reply->type == REDIS_REPLY_ERROR)
		refuse_reply(l, reply, "check password and database in redis_url");
	else if (l->info)
		send_step(l, INFO, 1, argv);
	else
		redis_link_ready(l);
}

/* The value of "name:" at the start of a line of INFO, cut to cap; "" when it is not there. */
static void info_value(const char *info, const char *name, char *out, size_t cap)
{
	size_t len = strlen(name);

	*out = '\0';
	for (const char *line = info; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, len) && line[len] == ':') {
			snprintf(out, cap, "%.*s", (int)strcspn(line + len + 1, "\r\n"), line + len + 1);
			return;
		}
	}
}

static bool info_is(const char *info, const char *name, const char *value)
{
	char have[64];

	info_value(info, name, have, sizeof(have));
	return !strcmp(have, value);
}

static void away(struct redis_link *l, const char *reason)
{
	struct err why;

	err_set(&why, ERR_AWAY, "redis at %s %s", l->setup->address.text, reason);
	redis_link_fail(l, &why);
}

static void on_info(struct redis_link *l, const redisReply *reply)
{
	const char *argv[] = { "CONFIG", "GET", "appendfsync" };
	const char *at = l->setup->address.text, *info = reply->str;
	char value[64];

	if (reply->type != REDIS_REPLY_STRING) {
		refuse_reply(l, reply, "exed needs INFO: ACL SETUSER <user> +info");
		return;
	}
	info_value(info, "redis_version", l->info->version, sizeof(l->info->version));
	info_value(info, "maxmemory_policy", value, sizeof(value));
	if (atoi(l->info->version) < VERSION_WANTED)
		refuse(l, "redis at %s is version %.20s: exed needs 7.0 or newer (functions)", at,
		       l->info->version);
	else if (info_is(info, "loading", "1"))
		away(l, "is loading its data");
	else if (info_is(info, "cluster_enabled", "1"))
		refuse(l, "redis at %s runs in cluster mode, which exed does not support: give it a "
		       "server with cluster-enabled no", at);
	else if (strcmp(value, "noeviction") && !l->setup->allow_eviction)
		refuse(l, "redis at %s may throw keys away (maxmemory-policy %.30s): set it to "
		       "noeviction, or [store] allow_eviction = true", at, value);
	else if (!info_is(info, "role", "master"))
		away(l, "is a read-only replica");
	else {
		info_value(info, "used_memory", value, sizeof(value));
		l->info->used_memory = atoll(value);
		l->info->durable = info_is(info, "aof_enabled", "1");
		send_step(l, CONFIG, 3, argv);
	}
}

static void on_config(struct redis_link *l, const redisReply *reply)
{
	const char *argv[] = { "FCALL", "exed_1_version", "0" };
	const char *sync = NULL;
	struct redis_info *i = l->info;

	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2)
		sync = reply->element[1]->str;
	if (!i->durable)
		snprintf(i->durability, sizeof(i->durability),
			 "degraded: appendonly is off, a restart of redis loses jobs");
	else if (!sync)
		snprintf(i->durability, sizeof(i->durability),
			 "degraded: appendfsync is not known (CONFIG GET is refused)");
	else if (strcmp(sync, "always"))
		snprintf(i->durability, sizeof(i->durability),
			 "degraded: appendfsync is %.20s, a crash may lose the last writes", sync);
	else
		snprintf(i->durability, sizeof(i->durability), "full");
	i->durable = i->durable && sync && !strcmp(sync, "always");
	if (l->setup->library)
		send_step(l, VERSION, 3, argv);
	else
		redis_link_ready(l);
}

static void on_version(struct redis_link *l, const redisReply *reply)
{
	const char *argv[] = { "FUNCTION", "LOAD", "REPLACE", l->setup->library };

	if (reply->type == REDIS_REPLY_INTEGER && reply->integer >= l->setup->revision)
		redis_link_ready(l);
	else if (reply->type == REDIS_REPLY_ERROR && !strstr(reply->str, "Function not found"))
		refuse_reply(l, reply, "exed needs functions: ACL SETUSER <user> +fcall +function|load");
	else
		send_step(l, LOAD, 4, argv);
}

static void on_load(struct redis_link *l, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_ERROR)
		refuse_reply(l, reply, "exed needs functions: ACL SETUSER <user> +fcall +function|load");
	else
		redis_link_ready(l);
}

int redis_reply_err(const struct redisReply *reply, struct err *err)
{
	static const char *const later[] = { "LOADING", "BUSY ", "READONLY", "MASTERDOWN",
					     "ERR Function not found" };

	for (size_t i = 0; i < sizeof(later) / sizeof(*later); i++)
		if (!strncmp(reply->str, later[i], strlen(later[i])))
			return err_set(err, ERR_AWAY, "redis cannot serve now: %.200s", reply->str);
	return err_set(err, ERR_REFUSED, "%s", reply->str);
}
