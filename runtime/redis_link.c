/* SPDX-License-Identifier: MIT */
/* redis_link: the life of one connection over hiredis' asynchronous context. hiredis frees the
 * context itself when the connection ends; ac->data is our link for as long as it is ours. Loop
 * thread. */
#include "redis_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/util.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"
#include "redis_reply.h"
#include "redis_watch.h"

#define RETRY_FIRST_MS 50     /* a server that is being restarted is back within a few of it */
#define RETRY_MOST_MS 2000    /* often enough that nobody waits long after an outage */
#define RETRY_REFUSED_MS 5000 /* somebody must change something first */

static void end_lookup(struct redis_link *l)
{
	struct evdns_getaddrinfo_request *lookup = l->lookup;

	l->lookup = NULL;
	l->looked_up = false;
	if (lookup)
		evdns_getaddrinfo_cancel(lookup); /* its callback comes with EVUTIL_EAI_CANCEL */
}

/* 50, 100, 200 ... 2,000 ms, each up to a quarter shorter so that nodes do not come all at once. */
static int64_t retry_delay(const struct redis_link *l, int code)
{
	int64_t ms = RETRY_MOST_MS;
	uint32_t random;

	if (code == ERR_REFUSED)
		return RETRY_REFUSED_MS;
	if (l->failures < 6)
		ms = RETRY_FIRST_MS << l->failures;
	evutil_secure_rng_get_bytes(&random, sizeof(random));
	return ms > RETRY_MOST_MS ? RETRY_MOST_MS : ms - (int64_t)(random % 1000) * ms / 4000;
}

static void fail(struct redis_link *l, const struct err *why, bool closing)
{
	redisAsyncContext *ac = l->ac;
	struct err copy = *why;

	l->ac = NULL;
	l->up = false;
	if (ac)
		ac->data = NULL;
	end_lookup(l);
	timer_stop(&l->limit);
	timer_set(&l->retry, retry_delay(l, copy.code));
	l->failures++;
	l->on_down(l->arg, &copy); /* l may be gone from here on */
	if (ac && !closing)
		redisAsyncFree(ac);
}

void redis_link_fail(struct redis_link *l, const struct err *why)
{
	fail(l, why, false);
}

void redis_link_lost(redisAsyncContext *ac)
{
	struct redis_link *l = ac->data;
	struct err why;

	if (!l)
		return;
	if (l->up)
		err_set(&why, ERR_UNREACHABLE, "the connection to redis at %s broke: %s",
			l->setup->address.text, ac->errstr && *ac->errstr ? ac->errstr : "closed");
	else
		err_set(&why, ERR_UNREACHABLE, "redis at %s closed the connection",
			l->setup->address.text);
	fail(l, &why, true);
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
	(void)status;
	redis_link_lost((redisAsyncContext *)ac);
}

static void on_connect(const redisAsyncContext *ac, int status)
{
	struct redis_link *l = ac->data;
	struct err why;

	if (!l)
		return;
	if (status == REDIS_OK) {
		redis_check_start(l);
		return;
	}
	err_set(&why, ERR_UNREACHABLE, "cannot connect to redis at %s: %s", l->setup->address.text,
		ac->errstr && *ac->errstr ? ac->errstr : strerror(errno));
	fail(l, &why, true); /* hiredis frees it after this callback */
}

static void connect_failed(struct redis_link *l, const char *reason)
{
	struct err why;

	err_set(&why, ERR_UNREACHABLE, "cannot connect to redis at %s: %s", l->setup->address.text,
		reason);
	fail(l, &why, false);
}

/* To the address, or to the unix socket when it is NULL. */
static void connect_to(struct redis_link *l, const char *ip)
{
	const struct redis_address *a = &l->setup->address;
	redisAsyncContext *ac = ip ? redisAsyncConnect(ip, a->port)
				   : redisAsyncConnectUnix(a->socket);

	if (!ac || ac->err) {
		char reason[128] = "not enough memory";

		if (ac) {
			snprintf(reason, sizeof(reason), "%s", ac->errstr);
			redisAsyncFree(ac);
		}
		connect_failed(l, reason);
		return;
	}
	if (redis_watch(ac, l->base)) {
		redisAsyncFree(ac);
		connect_failed(l, "not enough memory");
		return;
	}
	redis_reply_make(ac->c.reader);
	fcntl(ac->c.fd, F_SETFD, FD_CLOEXEC);
	l->ac = ac;
	ac->data = l;
	redisAsyncSetConnectCallback(ac, on_connect);
	redisAsyncSetDisconnectCallback(ac, on_disconnect);
}

/* Of several addresses each try takes the next one. */
static const struct evutil_addrinfo *choose(const struct evutil_addrinfo *res, unsigned tries)
{
	const struct evutil_addrinfo *a;
	unsigned n = 0;

	for (a = res; a; a = a->ai_next)
		n++;
	for (a = res, n = tries % n; n; n--)
		a = a->ai_next;
	return a;
}

/* Keeps one address of the answer as text (hiredis takes no other form). What follows from it is
 * done by the timer: it may end the link and with it the resolver, which is inside its own call
 * here. */
static void on_lookup(int result, struct evutil_addrinfo *res, void *arg)
{
	struct redis_link *l = arg;
	const void *bytes;

	if (result == EVUTIL_EAI_CANCEL)
		return;
	l->lookup = NULL;
	l->looked_up = true;
	snprintf(l->why_not, sizeof(l->why_not), "%s", dns_why(result));
	if (result == 0 && res) {
		const struct evutil_addrinfo *a = choose(res, l->failures);

		bytes = a->ai_family == AF_INET6
			? (const void *)&((struct sockaddr_in6 *)(void *)a->ai_addr)->sin6_addr
			: (const void *)&((struct sockaddr_in *)(void *)a->ai_addr)->sin_addr;
		inet_ntop(a->ai_family, bytes, l->found, sizeof(l->found));
	}
	if (res)
		evutil_freeaddrinfo(res);
	timer_set(&l->retry, 0);
}

static bool is_address(const char *host)
{
	struct in6_addr any;

	return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static void look_up(struct redis_link *l)
{
	struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct evdns_getaddrinfo_request *lookup;

	if (!l->dns) {
		l->dns = dns_new(l->base, l->setup->resolver);
		if (!l->dns) {
			connect_failed(l, "not enough memory");
			return;
		}
	}
	/* A name from the hosts file is answered inside the call, which then returns NULL. */
	*l->found = '\0';
	lookup = evdns_getaddrinfo(dns_base(l->dns), l->setup->address.host, NULL, &hints, on_lookup, l);
	if (lookup)
		l->lookup = lookup;
}

static void on_retry(void *arg)
{
	struct redis_link *l = arg;
	const struct redis_address *a = &l->setup->address;

	if (l->looked_up) {
		l->looked_up = false;
		if (*l->found)
			connect_to(l, l->found);
		else
			connect_failed(l, l->why_not);
		return;
	}
	timer_set(&l->limit, l->setup->connect_ms);
	if (a->socket)
		connect_to(l, NULL);
	else if (is_address(a->host))
		connect_to(l, a->host);
	else
		look_up(l);
}

static void on_limit(void *arg)
{
	struct redis_link *l = arg;
	struct err why;

	err_set(&why, ERR_TIMEOUT, l->lookup ? "the name of redis at %s was not found within %lld ms"
					     : "redis at %s did not answer within %lld ms",
		l->setup->address.text, (long long)l->setup->connect_ms);
	fail(l, &why, false);
}

void redis_link_ready(struct redis_link *l)
{
	timer_stop(&l->limit);
	l->failures = 0;
	l->up = true;
	l->on_up(l->arg);
}

int redis_link_init(struct redis_link *l, struct event_base *base, struct err *err)
{
	memset(l, 0, sizeof(*l));
	l->base = base;
	if (timer_init(&l->limit, base, on_limit, l))
		return err_set(err, ERR_MEMORY, "redis: not enough memory");
	if (timer_init(&l->retry, base, on_retry, l)) {
		timer_deinit(&l->limit);
		return err_set(err, ERR_MEMORY, "redis: not enough memory");
	}
	return 0;
}

void redis_link_start(struct redis_link *l)
{
	timer_set(&l->retry, 0);
}

void redis_link_deinit(struct redis_link *l)
{
	redisAsyncContext *ac = l->ac;

	l->ac = NULL;
	l->up = false;
	end_lookup(l);
	timer_deinit(&l->limit);
	timer_deinit(&l->retry);
	dns_free(l->dns, false);
	l->dns = NULL;
	if (ac) {
		ac->data = NULL;
		redisAsyncFree(ac);
	}
}
