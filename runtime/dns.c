/* SPDX-License-Identifier: MIT */
/* dns: an evdns_base and what it is made of. One thread. */
#include "dns.h"

#include <arpa/inet.h>
#include <event2/util.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "err.h"
#include "log.h"
#include "loop.h"

#define HOSTS "/etc/hosts"
#define RESOLV_CONF "/etc/resolv.conf"
/* A file that is larger is not read: that would hold the thread. */
#define FILE_MAX (4 << 20)
/* How often the files are looked at, at most. */
#define LOOK_MS 1000
/* Seconds and tries. They go to the servers in turn, those of a name's two questions (A and AAAA)
 * together, so that it takes up to three until the second server hears a question; all of it must
 * fit into half of [ssh] connect_timeout, which a lookup has. */
#define TIMEOUT "1"
#define ATTEMPTS "4"
/* A server that was silent more often than this is left alone until it answers a probe. */
#define SILENT "1"

struct mark { /* of a file; all zero: it is not there */
	struct timespec mtime;
	off_t size;
	ino_t inode;
};

struct dns {
	struct evdns_base *base;
	char *servers; /* NULL: of RESOLV_CONF */
	struct mark hosts, resolv;
	int64_t looked_ms;
};

static struct mark mark_of(const char *path)
{
	struct mark m = {0};
	struct stat st;

	if (!stat(path, &st) && S_ISREG(st.st_mode) && st.st_size <= FILE_MAX) {
		m.mtime = st.st_mtim;
		m.size = st.st_size;
		m.inode = st.st_ino;
	}
	return m;
}

static bool same_mark(const struct mark *a, const struct mark *b)
{
	return a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec &&
	       a->size == b->size && a->inode == b->inode;
}

/* ---- servers ---- */

bool dns_is_server(const char *text)
{
	struct sockaddr_storage at;
	int len = sizeof(at);

	return !evutil_parse_sockaddr_port(text, (struct sockaddr *)&at, &len);
}

static void add_servers(struct dns *d)
{
	char *copy = strdup(d->servers), *save = NULL;

	for (char *s = copy ? strtok_r(copy, ", ", &save) : NULL; s; s = strtok_r(NULL, ", ", &save))
		if (evdns_base_nameserver_ip_add(d->base, s))
			log_warn("dns", "the name server %s cannot be used", s);
	free(copy);
}

/* Everything that RESOLV_CONF and the servers say, in place of what was there. */
static void load_servers(struct dns *d)
{
	int what = DNS_OPTION_SEARCH | DNS_OPTION_MISC;

	if (!d->servers)
		what |= DNS_OPTION_NAMESERVERS;
	evdns_base_clear_nameservers_and_suspend(d->base);
	evdns_base_search_clear(d->base);
	evdns_base_set_option(d->base, "timeout:", TIMEOUT);
	evdns_base_set_option(d->base, "attempts:", ATTEMPTS);
	evdns_base_set_option(d->base, "max-timeouts:", SILENT);
	if (evdns_base_resolv_conf_parse(d->base, what, RESOLV_CONF) && !d->servers)
		log_warn("dns", RESOLV_CONF " cannot be used; only " HOSTS " is");
	if (d->servers)
		add_servers(d);
	evdns_base_resume(d->base);
}

static void load_hosts(struct dns *d)
{
	evdns_base_clear_host_addresses(d->base);
	if (d->hosts.inode)
		evdns_base_load_hosts(d->base, HOSTS);
}

int dns_set_servers(struct dns *d, const char *servers)
{
	char *copy = NULL;

	if (servers == d->servers || (servers && d->servers && !strcmp(servers, d->servers)))
		return 0;
	if (servers && !(copy = strdup(servers)))
		return -ERR_MEMORY;
	free(d->servers);
	d->servers = copy;
	load_servers(d);
	return 0;
}

struct evdns_base *dns_base(struct dns *d)
{
	int64_t now = loop_now_ms();
	struct mark m;

	if (d->looked_ms && now - d->looked_ms < LOOK_MS)
		return d->base;
	d->looked_ms = now;
	m = mark_of(RESOLV_CONF);
	if (!same_mark(&m, &d->resolv)) {
		d->resolv = m;
		load_servers(d);
	}
	m = mark_of(HOSTS);
	if (!same_mark(&m, &d->hosts)) {
		d->hosts = m;
		load_hosts(d);
	}
	return d->base;
}

/* ---- life ---- */

struct dns *dns_new(struct event_base *base, const char *servers)
{
	struct dns *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->base = evdns_base_new(base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!d->base || (servers && !(d->servers = strdup(servers)))) {
		dns_free(d, false);
		return NULL;
	}
	d->resolv = mark_of(RESOLV_CONF);
	d->hosts = mark_of(HOSTS);
	d->looked_ms = loop_now_ms();
	load_servers(d);
	load_hosts(d);
	return d;
}

void dns_free(struct dns *d, bool tell)
{
	if (!d)
		return;
	if (d->base)
		evdns_base_free(d->base, tell);
	free(d->servers);
	free(d);
}

const char *dns_why(int error)
{
	switch (error) {
	case 0:
	case EVUTIL_EAI_NODATA:
	case EVUTIL_EAI_ADDRFAMILY:
		return "the name has no address";
	case EVUTIL_EAI_NONAME:
		return "there is no such name (neither in " HOSTS " nor for the name servers)";
	case EVUTIL_EAI_AGAIN:
	case EVUTIL_EAI_FAIL: /* libevent tells no more */
		return "the name servers gave none (no answer, an error, or an empty answer)";
	case EVUTIL_EAI_MEMORY:
		return "out of memory";
	default:
		return evutil_gai_strerror(error);
	}
}
