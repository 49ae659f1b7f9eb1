/* SPDX-License-Identifier: MIT */
/* redis_url: reads redis_url into a struct redis_address. No state; any thread. */
#include <ctype.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "redis.h"

#define PORT 6379

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n bytes with %XX decoded, as a new string. */
static int decode(char **out, const char *s, size_t n, const char *what, struct err *err)
{
	char *text = malloc(n + 1);
	size_t len = 0;

	if (!text)
		return err_set(err, ERR_MEMORY, "redis_url: not enough memory");
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)s[i];

		if (c == '%') {
			int high = i + 2 < n ? hex(s[i + 1]) : -1;
			int low = i + 2 < n ? hex(s[i + 2]) : -1;

			c = high < 0 || low < 0 ? 0 : high << 4 | low;
			i += 2;
		}
		if (c == 0) {
			free(text);
			return err_set(err, ERR_INVALID, "redis_url: bad %% escape in its %s", what);
		}
		text[len++] = (char)c;
	}
	text[len] = '\0';
	*out = text;
	return 0;
}

/* A decimal number from 0 to max, the whole of n bytes; -1 when it is none. */
static long number(const char *s, size_t n, long max)
{
	long value = 0;

	if (n == 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (!isdigit((unsigned char)s[i]))
			return -1;
		value = value * 10 + (s[i] - '0');
		if (value > max)
			return -1;
	}
	return value;
}

/* [user]:password, or password alone. */
static int parse_user(struct redis_address *a, const char *s, size_t n, struct err *err)
{
	const char *colon = memchr(s, ':', n);
	int rc;

	if (!colon)
		return decode(&a->password, s, n, "password", err);
	if (colon > s) {
		rc = decode(&a->user, s, (size_t)(colon - s), "user", err);
		if (rc)
			return rc;
	}
	return decode(&a->password, colon + 1, n - (size_t)(colon - s) - 1, "password", err);
}

static int parse_db(struct redis_address *a, const char *s, size_t n, struct err *err)
{
	long db = number(s, n, 1000000);

	if (db < 0)
		return err_set(err, ERR_INVALID, "redis_url: the database must be a number");
	a->db = (int)db;
	return 0;
}

/* host, host:port or [IPv6]:port */
static int parse_host(struct redis_address *a, const char *s, size_t n, struct err *err)
{
	const char *end = s + n, *host = s, *stop, *port;
	long value = PORT;

	if (n && *s == '[') {
		host = s + 1;
		stop = memchr(s, ']', n);
		if (!stop)
			return err_set(err, ERR_INVALID, "redis_url: ']' is missing after the address");
		port = stop + 1;
	} else {
		stop = memchr(s, ':', n);
		port = stop = stop ? stop : end;
	}
	if (stop == host)
		return err_set(err, ERR_INVALID, "redis_url: no host in it");
	if (port < end)
		value = *port == ':' ? number(port + 1, (size_t)(end - port) - 1, 65535) : -1;
	if (value < 1)
		return err_set(err, ERR_INVALID, "redis_url: the port must be 1 to 65535");
	a->port = (int)value;
	return decode(&a->host, host, (size_t)(stop - host), "host", err);
}

static int parse_tcp(struct redis_address *a, const char *s, struct err *err)
{
	const char *slash = strchr(s, '/');
	size_t n = slash ? (size_t)(slash - s) : strlen(s);
	int rc = parse_host(a, s, n, err);

	if (!rc && slash && slash[1])
		rc = parse_db(a, slash + 1, strlen(slash + 1), err);
	if (!rc)
		snprintf(a->text, sizeof(a->text), strchr(a->host, ':') ? "[%.80s]:%d" : "%.80s:%d",
			 a->host, a->port);
	return rc;
}

static int parse_unix(struct redis_address *a, const char *s, struct err *err)
{
	const char *query = strchr(s, '?');
	size_t n = query ? (size_t)(query - s) : strlen(s);
	int rc;

	if (*s != '/')
		return err_set(err, ERR_INVALID, "redis_url: unix:// needs an absolute path");
	if (query && strncmp(query, "?db=", 4))
		return err_set(err, ERR_INVALID, "redis_url: only ?db=N may follow the path");
	rc = decode(&a->socket, s, n, "path", err);
	if (rc)
		return rc;
	if (strlen(a->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_set(err, ERR_INVALID,
			       "redis_url: the path of a socket has at most %zu bytes, this one has %zu",
			       sizeof(((struct sockaddr_un *)0)->sun_path) - 1, strlen(a->socket));
	snprintf(a->text, sizeof(a->text), "%s", a->socket);
	return query ? parse_db(a, query + 4, strlen(query + 4), err) : 0;
}

int redis_address_parse(struct redis_address *a, const char *url, struct err *err)
{
	bool local = !strncmp(url, "unix://", 7);
	const char *rest = url + (local ? 7 : 8), *at;
	int rc = 0;

	memset(a, 0, sizeof(*a));
	if (!strncmp(url, "rediss://", 9))
		return err_set(err, ERR_INVALID,
			       "redis_url: rediss:// needs a hiredis with TLS (1.0 or newer), and this "
			       "exed was built with %d.%d: use redis:// through a TLS tunnel, or unix://",
			       HIREDIS_MAJOR, HIREDIS_MINOR);
	if (!local && strncmp(url, "redis://", 8))
		return err_set(err, ERR_INVALID, "redis_url: must be embedded, redis://[user:password@]"
			       "host[:port][/db] or unix:///path");
	/* The last @ before the path: a password may have one that nobody encoded. */
	at = memrchr(rest, '@', strcspn(rest, "/"));
	if (at) {
		rc = parse_user(a, rest, (size_t)(at - rest), err);
		rest = at + 1;
	}
	if (!rc)
		rc = local ? parse_unix(a, rest, err) : parse_tcp(a, rest, err);
	if (rc)
		redis_address_deinit(a);
	return rc;
}

void redis_address_deinit(struct redis_address *a)
{
	free(a->socket);
	free(a->host);
	free(a->user);
	if (a->password)
		explicit_bzero(a->password, strlen(a->password));
	free(a->password);
	memset(a, 0, sizeof(*a));
}
