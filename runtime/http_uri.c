/* SPDX-License-Identifier: MIT */
/* http_uri: see the header. Nothing is allocated but one scratch copy of a query; any thread. */
#include "http_uri.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int hex_value(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

ssize_t http_uri_decode(const char *s, size_t n, bool form, char *out)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		char c = s[i];

		if (c == '%') {
			int hi = n - i > 2 ? hex_value((unsigned char)s[i + 1]) : -1;
			int lo = n - i > 2 ? hex_value((unsigned char)s[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return -1;
			c = (char)(hi * 16 + lo);
			i += 2;
		} else if (c == '+' && form) {
			c = ' ';
		}
		out[len++] = c;
	}
	return (ssize_t)len;
}

/* Bytes of the well-formed sequence at s, 0 when there is none (Unicode, table 3-7). */
static size_t utf8_length(const unsigned char *s, size_t n)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (n < len)
		return 0;
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

bool http_uri_utf8(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t i = 0; i < n;) {
		size_t len = utf8_length(p + i, n - i);

		if (!len)
			return false;
		i += len;
	}
	return true;
}

static bool path_climbs(const char *s, size_t n)
{
	for (size_t start = 0; start < n;) {
		const char *slash = memchr(s + start, '/', n - start);
		size_t end = slash ? (size_t)(slash - s) : n;

		if (end - start == 2 && s[start] == '.' && s[start + 1] == '.')
			return true;
		start = end + 1;
	}
	return false;
}

/* Whether %2F is in a path: to some it divides, to others it does not (RFC 3986, 2.2). */
static bool has_coded_slash(const char *s, size_t n)
{
	for (size_t i = 0; i + 2 < n; i++)
		if (s[i] == '%' && s[i + 1] == '2' && (s[i + 2] | 0x20) == 'f')
			return true;
	return false;
}

int http_uri_path(const char *s, size_t n, char *out, size_t *len, struct err *err)
{
	bool coded_slash = has_coded_slash(s, n); /* out may be s */
	ssize_t got = http_uri_decode(s, n, false, out);

	if (got < 0)
		return err_set(err, ERR_INVALID, "bad percent-encoding in the path");
	if (coded_slash)
		return err_set(err, ERR_INVALID, "a percent-encoded '/' in the path");
	if (memchr(out, '\\', (size_t)got))
		return err_set(err, ERR_INVALID, "a backslash in the path");
	for (ssize_t i = 0; i < got; i++)
		if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f)
			return err_set(err, ERR_INVALID, "control byte in the path");
	if (!http_uri_utf8(out, (size_t)got))
		return err_set(err, ERR_INVALID, "the path is not UTF-8");
	if (path_climbs(out, (size_t)got))
		return err_set(err, ERR_INVALID, "'..' in the path");
	*len = (size_t)got;
	return 0;
}

/* One piece between two '&', decoded in scratch. */
static int query_piece(const char *s, size_t n, char *scratch, http_uri_pair_fn *fn, void *arg,
		       struct err *err)
{
	const char *equals = memchr(s, '=', n);
	size_t key_raw = equals ? (size_t)(equals - s) : n;
	ssize_t key = http_uri_decode(s, key_raw, true, scratch);
	ssize_t value = 0;

	if (key < 0 || !http_uri_utf8(scratch, (size_t)key))
		return err_set(err, ERR_INVALID, "bad encoding in a query parameter's name");
	if (equals)
		value = http_uri_decode(equals + 1, n - key_raw - 1, true, scratch + key);
	if (value < 0)
		return err_set(err, ERR_INVALID, "bad percent-encoding in query parameter '%.*s'",
			       key > 64 ? 64 : (int)key, scratch);
	if (!http_uri_utf8(scratch + key, (size_t)value))
		return err_set(err, ERR_INVALID, "query parameter '%.*s' is not UTF-8",
			       key > 64 ? 64 : (int)key, scratch);
	if (!fn)
		return 0;
	return fn(arg, scratch, (size_t)key, scratch + key, (size_t)value);
}

int http_uri_query(const char *s, size_t n, http_uri_pair_fn *fn, void *arg, struct err *err)
{
	char *scratch;
	int rc = 0;

	if (!n)
		return 0;
	scratch = malloc(n);
	if (!scratch)
		return err_set(err, ERR_MEMORY, "out of memory");
	for (size_t start = 0; start < n && !rc;) {
		const char *amp = memchr(s + start, '&', n - start);
		size_t end = amp ? (size_t)(amp - s) : n;

		if (end > start)
			rc = query_piece(s + start, end - start, scratch, fn, arg, err);
		start = end + 1;
	}
	free(scratch);
	return rc;
}

/* ---- Host ---- */

static bool name_char(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '.' ||
	       c == '-' || c == '_';
}

size_t http_uri_host_len(const char *host)
{
	const char *end = *host == '[' ? strchr(host, ']') : NULL;

	if (end)
		return (size_t)(end - host) + 1;
	return strcspn(host, ":");
}

static bool v6_ok(const char *s, size_t n)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr addr;

	if (n >= sizeof(text))
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &addr) == 1;
}

/* The port after the host part, default_port when there is none, -1 when it is not one. */
static long host_port(const char *s, unsigned default_port)
{
	long port = 0;

	if (!*s)
		return (long)default_port;
	if (*s++ != ':')
		return -1;
	if (!*s)
		return (long)default_port; /* RFC 3986, 3.2.3: an empty port is the default */
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		port = port * 10 + (*s - '0');
		if (port > 65535)
			return -1;
	}
	return port;
}

bool http_uri_host_ok(const char *host)
{
	size_t n = http_uri_host_len(host);

	if (n == 0 || n > 255 || host_port(host + n, 0) < 0)
		return false;
	if (host[0] == '[')
		return n > 2 && host[n - 1] == ']' && v6_ok(host + 1, n - 2);
	for (size_t i = 0; i < n; i++)
		if (!name_char(host[i]))
			return false;
	return true;
}

bool http_uri_host_same(const char *a, const char *b, unsigned default_port)
{
	size_t na = http_uri_host_len(a), nb = http_uri_host_len(b);

	return na == nb && !strncasecmp(a, b, na) &&
	       host_port(a + na, default_port) == host_port(b + nb, default_port);
}
