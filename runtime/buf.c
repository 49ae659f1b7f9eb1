/* SPDX-License-Identifier: MIT */
/* buf: growing bytes and the two encodings that records need. Any thread, one owner at a time. */
#include "buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"

/* Most of what is formatted fits in this, and then it is formatted once. */
#define PRINTF_ROOM 32

void buf_deinit(struct buf *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

int buf_reserve(struct buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 64;
	char *data;

	if (b->failed || more > SIZE_MAX / 2 - b->len)
		goto fail;
	if (b->len + more <= b->cap)
		return 0;
	while (cap < b->len + more)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data)
		goto fail;
	b->data = data;
	b->cap = cap;
	return 0;
fail:
	b->failed = true;
	return -ERR_MEMORY;
}

void buf_add(struct buf *b, const void *data, size_t n)
{
	if (!n || buf_reserve(b, n))
		return;
	memcpy(b->data + b->len, data, n);
	b->len += n;
}

void buf_puts(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (buf_reserve(b, PRINTF_ROOM))
		return;
	va_start(ap, fmt);
	n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n >= b->cap - b->len) {
		if (buf_reserve(b, (size_t)n + 1))
			return;
		va_start(ap, fmt);
		vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	if (n > 0)
		b->len += (size_t)n;
}

size_t buf_digits(char *text, long long v)
{
	char backwards[BUF_DIGITS];
	unsigned long long u = v < 0 ? 0 - (unsigned long long)v : (unsigned long long)v;
	size_t n = 0, at = 0;

	do
		backwards[n++] = (char)('0' + u % 10);
	while (u /= 10);
	if (v < 0)
		text[at++] = '-';
	while (n)
		text[at++] = backwards[--n];
	return at;
}

void buf_integer(struct buf *b, long long v)
{
	char text[BUF_DIGITS];

	buf_add(b, text, buf_digits(text, v));
}

void buf_drop(struct buf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
		return;
	}
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

const char *buf_str(struct buf *b)
{
	if (buf_reserve(b, 1))
		return NULL;
	b->data[b->len] = '\0';
	return b->data;
}

char *buf_take(struct buf *b, size_t *n)
{
	char *data = NULL;

	if (!b->failed && !buf_reserve(b, 1)) {
		b->data[b->len] = '\0';
		data = b->data;
		*n = b->len;
		b->data = NULL;
	}
	buf_deinit(b);
	return data;
}

/* Length of the well-formed UTF-8 sequence at s (RFC 3629, 4), or 0; then *bad is the length of
 * the maximal subpart that one U+FFFD stands for. */
static size_t utf8_span(const unsigned char *s, size_t n, size_t *bad)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t need, i;

	*bad = 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		need = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		need = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		need = 4;
	else
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	for (i = 1; i < need; i++) {
		if (i >= n || s[i] < low || s[i] > high) {
			*bad = i;
			return 0;
		}
		low = 0x80;
		high = 0xbf;
	}
	return need;
}

static void json_escape(struct buf *b, unsigned char c)
{
	switch (c) {
	case '"': buf_add(b, "\\\"", 2); return;
	case '\\': buf_add(b, "\\\\", 2); return;
	case '\n': buf_add(b, "\\n", 2); return;
	case '\r': buf_add(b, "\\r", 2); return;
	case '\t': buf_add(b, "\\t", 2); return;
	default: buf_printf(b, "\\u%04x", c);
	}
}

bool buf_json_text(struct buf *b, const void *data, size_t n)
{
	const unsigned char *s = data;
	bool whole = true;
	size_t i = 0, from = 0;

	while (i < n) {
		size_t span, bad = 1;

		if (s[i] >= 0x20 && s[i] < 0x7f && s[i] != '"' && s[i] != '\\') {
			i++;
			continue;
		}
		span = s[i] < 0x80 ? 0 : utf8_span(s + i, n - i, &bad);
		if (span) {
			i += span;
			continue;
		}
		buf_add(b, s + from, i - from);
		if (s[i] < 0x80) {
			json_escape(b, s[i]);
			i++;
		} else {
			buf_add(b, "\xef\xbf\xbd", 3);
			whole = false;
			i += bad;
		}
		from = i;
	}
	buf_add(b, s + from, i - from);
	return whole;
}

bool buf_json_string(struct buf *b, const void *data, size_t n)
{
	bool whole;

	buf_putc(b, '"');
	whole = buf_json_text(b, data, n);
	buf_putc(b, '"');
	return whole;
}

/* How many bytes at s are ASCII, in eights: most of what hosts say is. */
static size_t ascii_span(const unsigned char *s, size_t n)
{
	uint64_t eight;
	size_t i = 0;

	for (; n - i >= sizeof(eight); i += sizeof(eight)) {
		memcpy(&eight, s + i, sizeof(eight));
		if (eight & 0x8080808080808080u)
			break;
	}
	return i;
}

bool buf_is_utf8(const void *data, size_t n)
{
	const unsigned char *s = data;
	size_t i = 0, bad;

	while ((i += ascii_span(s + i, n - i)) < n) {
		size_t span = s[i] < 0x80 ? 1 : utf8_span(s + i, n - i, &bad);

		if (!span)
			return false;
		i += span;
	}
	return true;
}

/* C1 controls, zero-width and direction marks (Unicode, 23.2 and 23.3): text would not look like what it
 * is. */
static bool is_deceptive(unsigned c)
{
	return (c >= 0x80 && c <= 0x9f) || c == 0x61c || c == 0x200b || c == 0x200e || c == 0x200f ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x2069) || c == 0xfeff;
}

/* Of a sequence that utf8_span took. */
static unsigned utf8_decode(const unsigned char *s, size_t span)
{
	unsigned c = s[0] & (0xffu >> (span + 1));

	for (size_t i = 1; i < span; i++)
		c = c << 6 | (s[i] & 0x3f);
	return c;
}

/* Appends what begins at s, escaped when it has to be; returns how many bytes it took. */
static size_t escape_one(struct buf *b, const unsigned char *s, size_t n)
{
	size_t bad, span = s[0] < 0x80 ? 0 : utf8_span(s, n, &bad);
	unsigned c = span ? utf8_decode(s, span) : s[0];

	if (span && is_deceptive(c)) {
		buf_printf(b, "\\u{%x}", c);
		return span;
	}
	if (span) {
		buf_add(b, s, span);
		return span;
	}
	if (c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7f))
		buf_putc(b, (char)c);
	else if (c != '\r' || n < 2 || s[1] != '\n')
		buf_printf(b, "\\x%02x", c);
	return 1;
}

void buf_escape(struct buf *b, const void *data, size_t n)
{
	const unsigned char *s = data;

	for (size_t i = 0; i < n;) {
		size_t from = i;

		while (i < n && ((s[i] >= 0x20 && s[i] < 0x7f) || s[i] == '\n'))
			i++;
		buf_add(b, s + from, i - from);
		if (i < n)
			i += escape_one(b, s + i, n - i);
	}
}

void buf_base64(struct buf *b, const void *data, size_t n)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *s = data;
	size_t i;

	if (buf_reserve(b, (n + 2) / 3 * 4))
		return;
	for (i = 0; i < n; i += 3) {
		unsigned v = (unsigned)s[i] << 16;
		char out[4];

		if (i + 1 < n)
			v |= (unsigned)s[i + 1] << 8;
		if (i + 2 < n)
			v |= s[i + 2];
		out[0] = set[v >> 18];
		out[1] = set[v >> 12 & 63];
		out[2] = i + 1 < n ? set[v >> 6 & 63] : '=';
		out[3] = i + 2 < n ? set[v & 63] : '=';
		buf_add(b, out, 4);
	}
}
