/* SPDX-License-Identifier: MIT */
/* http_head: the inside of http_parse that judges lines, for runtime/http*.c only. A line is text
 * from p->line to its NUL, without its CR LF; what is cut stays in text as C strings. */
#ifndef EXED_HTTP_HEAD_H
#define EXED_HTTP_HEAD_H

#include "http_parse.h"

#define HTTP_HEAD_TOO_LARGE "the body is larger than %zu bytes"

bool http_head_token(unsigned char c); /* a byte of a method or field name (RFC 9110, 5.6.2) */
bool http_head_value_byte(char c);     /* a byte of a field value: no control byte but tab */

/* Sets status and message; returns HTTP_BAD. */
enum http_event http_head_bad(struct http_parse *p, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The line and its length without the NUL. */
static inline char *http_head_line(struct http_parse *p)
{
	return p->text.data + p->line;
}
static inline size_t http_head_length(const struct http_parse *p)
{
	return p->text.len - p->line - 1;
}

/* Judges the request line and moves p->line behind it. HTTP_MORE or HTTP_BAD. */
enum http_event http_head_request(struct http_parse *p);
/* Cuts a field line into name (lower case) and value, whose offset goes to *value. */
enum http_event http_head_field(struct http_parse *p, uint32_t *value);
/* Notes a field of the head that the machine itself understands. */
void http_head_note(struct http_parse *p, const char *name, uint32_t value);
/* Judges the head as a whole: framing first, then Host, then what else it asks for. */
enum http_event http_head_end(struct http_parse *p);

#endif
