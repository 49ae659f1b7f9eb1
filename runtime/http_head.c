/* SPDX-License-Identifier: MIT */
/* http_head: the inside of http_parse that judges the lines of a head, each one as it is whole and
 * then all of them together. Owned by http_parse; no thread of its own. */
#include "http_head.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http_uri.h"

enum connection { CONNECTION_CLOSE = 1, CONNECTION_KEEP = 2 };

static const char *const known_methods[] = { "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS",
					     "PATCH" };
static const char *const known_names[HTTP_KNOWN_COUNT] = {
	[HTTP_KNOWN_HOST] = "host",
	[HTTP_KNOWN_LENGTH] = "content-length",
	[HTTP_KNOWN_CODING] = "transfer-encoding",
	[HTTP_KNOWN_CONTENT_CODING] = "content-encoding",
	[HTTP_KNOWN_EXPECT] = "expect",
};

enum http_event http_head_bad(struct http_parse *p, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->message, sizeof(p->message), fmt, ap);
	va_end(ap);
	p->status = status;
	return HTTP_BAD;
}

/* ---- bytes ---- */

bool http_head_token(unsigned char c)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	if (c >= '0' && c <= '9')
		return true;
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
		return true;
	return c > 0x20 && c < 0x7f && strchr(others, c);
}

static size_t token_length(const char *s)
{
	size_t n = 0;

	while (http_head_token((unsigned char)s[n]))
		n++;
	return n;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

bool http_head_value_byte(char c)
{
	return ((unsigned char)c >= 0x20 && c != 0x7f) || c == '\t';
}

/* ---- request line ---- */

static bool method_known(const char *method)
{
	for (size_t i = 0; i < sizeof(known_methods) / sizeof(known_methods[0]); i++)
		if (!strcmp(method, known_methods[i]))
			return true;
	return false;
}

/* Appends a C string to text and writes its offset to *where. */
static bool keep_string(struct http_parse *p, const char *s, size_t n, uint32_t *where)
{
	size_t from = (size_t)(s - p->text.data);

	if (buf_reserve(&p->text, n + 1))
		return false;
	*where = (uint32_t)p->text.len;
	memcpy(p->text.data + p->text.len, p->text.data + from, n);
	p->text.data[p->text.len + n] = '\0';
	p->text.len += n + 1;
	return true;
}

static enum http_event parse_path(struct http_parse *p, const char *s, size_t n)
{
	size_t from = (size_t)(s - p->text.data), len = 0;
	struct err err;

	if (buf_reserve(&p->text, n + 1))
		return http_head_bad(p, 503, "out of memory");
	if (http_uri_path(p->text.data + from, n, p->text.data + p->text.len, &len, &err))
		return http_head_bad(p, 400, "%.120s", err.message);
	p->path = (uint32_t)p->text.len;
	p->text.len += len;
	p->text.data[p->text.len++] = '\0';
	return HTTP_MORE;
}

/* "http://host:port/path" to its authority and the rest; *rest is an offset from the target. */
static enum http_event parse_absolute(struct http_parse *p, size_t *rest)
{
	const char *target = p->text.data + p->target;
	size_t scheme = !strncasecmp(target, "http://", 7)  ? 7 :
			!strncasecmp(target, "https://", 8) ? 8 :
							      0;
	size_t n = strcspn(target + scheme, "/?");

	if (!scheme)
		return http_head_bad(p, 400, "the request target must be a path from '/'");
	*rest = scheme + n;
	if (!keep_string(p, target + scheme, n, &p->authority))
		return http_head_bad(p, 503, "out of memory");
	if (!http_uri_host_ok(p->text.data + p->authority))
		return http_head_bad(p, 400, "bad host in the request target");
	return HTTP_MORE;
}

static enum http_event parse_target(struct http_parse *p)
{
	const char *target = p->text.data + p->target;
	size_t rest = 0, n;
	const char *query;
	struct err err;

	if (!strcmp(target, "*")) {
		if (strcmp(p->text.data, "OPTIONS") != 0)
			return http_head_bad(p, 400, "the target '*' is for OPTIONS only");
		p->path = p->target;
		return HTTP_MORE;
	}
	if (target[0] != '/' && parse_absolute(p, &rest) == HTTP_BAD)
		return HTTP_BAD;
	target = p->text.data + p->target + rest;
	query = strchr(target, '?');
	n = query ? (size_t)(query - target) : strlen(target);
	if (query) {
		p->query = (uint32_t)(query + 1 - p->text.data);
		if (http_uri_query(query + 1, strlen(query + 1), NULL, NULL, &err))
			return http_head_bad(p, err.code == ERR_MEMORY ? 503 : 400, "%.150s",
					     err.message);
	}
	if (n)
		return parse_path(p, target, n);
	if (buf_reserve(&p->text, 2))
		return http_head_bad(p, 503, "out of memory");
	p->path = (uint32_t)p->text.len;
	memcpy(p->text.data + p->text.len, "/", 2); /* an absolute target with no path means "/" */
	p->text.len += 2;
	return HTTP_MORE;
}

static enum http_event parse_version(struct http_parse *p, const char *s)
{
	if (strlen(s) != 8 || strncmp(s, "HTTP/", 5) != 0 || s[5] < '0' || s[5] > '9' ||
	    s[6] != '.' || s[7] < '0' || s[7] > '9')
		return http_head_bad(p, 400, "bad request line");
	if (s[5] != '1' || s[7] > '1')
		return http_head_bad(p, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	p->http10 = s[7] == '0';
	return HTTP_MORE;
}

enum http_event http_head_request(struct http_parse *p)
{
	char *line = http_head_line(p);
	size_t n = http_head_length(p), method = token_length(line), target = 0;

	while (line[method] == ' ' && line[method + 1 + target] > 0x20 &&
	       line[method + 1 + target] < 0x7f && line[method + 1 + target] != '#')
		target++;
	if (!method || !target || line[method + 1 + target] != ' ' || strlen(line) != n)
		return http_head_bad(p, 400, "bad request line");
	line[method] = line[method + 1 + target] = '\0';
	p->target = (uint32_t)(p->line + method + 1);
	if (parse_version(p, line + method + target + 2) == HTTP_BAD)
		return HTTP_BAD;
	if (!method_known(line))
		return http_head_bad(p, 501, "method %.40s is not implemented", line);
	if (target > p->limits.max_target)
		return http_head_bad(p, 414, "the request target is longer than %zu bytes",
				     p->limits.max_target);
	if (parse_target(p) == HTTP_BAD)
		return HTTP_BAD;
	p->line = p->text.len;
	return HTTP_MORE;
}

/* ---- field lines ---- */

/* Cuts a line into name and value in place. *value is an offset into text. */
enum http_event http_head_field(struct http_parse *p, uint32_t *value)
{
	char *line = http_head_line(p);
	size_t n = http_head_length(p), name = token_length(line), from, to = n;

	if (is_blank(line[0]))
		return http_head_bad(p, 400, "a header line must not be folded");
	if (!name || line[name] != ':')
		return http_head_bad(p, 400, "bad header line: a name and a colon are expected");
	for (size_t i = name; i < n; i++)
		if (!http_head_value_byte(line[i]))
			return http_head_bad(p, 400, "control byte in header %.*s",
					     name > 40 ? 40 : (int)name, line);
	for (size_t i = 0; i < name; i++)
		if (line[i] >= 'A' && line[i] <= 'Z')
			line[i] |= 0x20;
	for (from = name + 1; from < n && is_blank(line[from]); from++)
		;
	while (to > from && is_blank(line[to - 1]))
		to--;
	line[name] = line[to] = '\0';
	*value = (uint32_t)(p->line + from);
	return HTTP_MORE;
}

/* Calls one for each element of a comma list; what is between blanks is the element. */
static void each_element(const char *list, void (*one)(struct http_parse *, const char *, size_t),
			 struct http_parse *p)
{
	while (*list) {
		size_t n = strcspn(list, ","), to = n, from = 0;

		while (from < to && is_blank(list[from]))
			from++;
		while (to > from && is_blank(list[to - 1]))
			to--;
		if (to > from)
			one(p, list + from, to - from);
		list += n + (list[n] == ',');
	}
}

static void connection_element(struct http_parse *p, const char *s, size_t n)
{
	if (n == 5 && !strncasecmp(s, "close", n))
		p->connection |= CONNECTION_CLOSE;
	else if (n == 10 && !strncasecmp(s, "keep-alive", n))
		p->connection |= CONNECTION_KEEP;
}

void http_head_note(struct http_parse *p, const char *name, uint32_t value)
{
	if (!strcmp(name, "connection")) {
		each_element(p->text.data + value, connection_element, p);
		return;
	}
	for (int i = 0; i < HTTP_KNOWN_COUNT; i++)
		if (!strcmp(name, known_names[i])) {
			p->known_count[i]++;
			p->known_value[i] = value;
		}
}

/* The value of a field that is there. */
static const char *known(const struct http_parse *p, enum http_known which)
{
	return p->text.data + p->known_value[which];
}

/* ---- the head as a whole ---- */

static enum http_event judge_length(struct http_parse *p)
{
	const char *s = known(p, HTTP_KNOWN_LENGTH);
	uint64_t length = 0;

	if (p->known_count[HTTP_KNOWN_LENGTH] > 1)
		return http_head_bad(p, 400, "more than one Content-Length");
	if (!*s || s[strspn(s, "0123456789")])
		return http_head_bad(p, 400, "Content-Length must be a decimal number");
	for (; *s; s++) {
		if (length > (UINT64_MAX - 9) / 10) {
			length = UINT64_MAX; /* too large for any limit */
			break;
		}
		length = length * 10 + (uint64_t)(*s - '0');
	}
	p->length = length;
	return HTTP_MORE;
}

static enum http_event judge_coding(struct http_parse *p)
{
	const char *s = known(p, HTTP_KNOWN_CODING);

	if (p->http10)
		return http_head_bad(p, 400, "Transfer-Encoding in an HTTP/1.0 request");
	if (p->known_count[HTTP_KNOWN_CODING] > 1)
		return http_head_bad(p, 400, "more than one Transfer-Encoding");
	if (p->known_count[HTTP_KNOWN_LENGTH])
		return http_head_bad(p, 400, "both Content-Length and Transfer-Encoding");
	if (s[token_length(s)] || !*s) /* a list or parameters: no single coding */
		return http_head_bad(p, 400, "Transfer-Encoding must be chunked and nothing else");
	if (strcasecmp(s, "chunked") != 0)
		return http_head_bad(p, 501, "transfer coding %.40s is not implemented", s);
	p->chunked = true;
	return HTTP_MORE;
}

static enum http_event judge_host(struct http_parse *p)
{
	unsigned count = p->known_count[HTTP_KNOWN_HOST];
	const char *host = known(p, HTTP_KNOWN_HOST);

	if (count > 1)
		return http_head_bad(p, 400, "more than one Host header");
	if (!count && !p->http10)
		return http_head_bad(p, 400, "no Host header");
	if (count && !http_uri_host_ok(host))
		return http_head_bad(p, 400, "bad Host header");
	if (count && p->authority &&
	    !http_uri_host_same(p->text.data + p->authority, host,
				(p->text.data[p->target + 4] | 0x20) == 's' ? 443 : 80))
		return http_head_bad(p, 400, "the request target and Host name different hosts");
	return HTTP_MORE;
}

static enum http_event judge_body(struct http_parse *p)
{
	const char *expect = known(p, HTTP_KNOWN_EXPECT);

	if (p->known_count[HTTP_KNOWN_CONTENT_CODING] > 1 ||
	    (p->known_count[HTTP_KNOWN_CONTENT_CODING] &&
	     strcasecmp(known(p, HTTP_KNOWN_CONTENT_CODING), "identity") != 0))
		return http_head_bad(p, 415, "a coded body is not understood: send it plain");
	if (p->known_count[HTTP_KNOWN_EXPECT] && !p->http10) {
		if (p->known_count[HTTP_KNOWN_EXPECT] > 1 || strcasecmp(expect, "100-continue"))
			return http_head_bad(p, 417, "only Expect: 100-continue is understood");
		p->expect_continue = p->chunked || p->length;
	}
	if (p->length > p->limits.max_body)
		return http_head_bad(p, 413, HTTP_HEAD_TOO_LARGE, p->limits.max_body);
	return HTTP_MORE;
}

enum http_event http_head_end(struct http_parse *p)
{
	if (p->known_count[HTTP_KNOWN_CODING] && judge_coding(p) == HTTP_BAD)
		return HTTP_BAD;
	if (p->known_count[HTTP_KNOWN_LENGTH] && judge_length(p) == HTTP_BAD)
		return HTTP_BAD;
	if (judge_host(p) == HTTP_BAD || judge_body(p) == HTTP_BAD)
		return HTTP_BAD;
	p->keep_alive = !(p->connection & CONNECTION_CLOSE) &&
			(!p->http10 || (p->connection & CONNECTION_KEEP));
	return HTTP_MORE;
}

