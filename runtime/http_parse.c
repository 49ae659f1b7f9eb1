/* SPDX-License-Identifier: MIT */
/* http_parse: a machine over lines and runs of body bytes.
 *
 * A line is collected in text and judged when its LF has come, against a bound that does not depend
 * on how the bytes were cut. A head's line stays there, cut into C strings in place; a decoded path
 * is put behind the request line. Lines of chunks and trailers are forgotten once they are judged.
 * Owned by one connection; no thread of its own. */
#include "http_parse.h"

#include <string.h>

#include "http_head.h"

enum state {
	ST_START,    /* before the first byte, or in a first line that may be empty */
	ST_REQUEST,  /* in the request line */
	ST_FIELDS,
	ST_BODY,     /* a body of known length */
	ST_CHUNK,    /* in the line with a chunk's size */
	ST_DATA,     /* in a chunk's bytes */
	ST_DATA_END, /* the line end behind them */
	ST_TRAILER,
	ST_DONE,
	ST_BAD,
};

/* Room for a method, two blanks, a version and a line end beside the target. */
enum { LINE_ROOM = 64, CHUNK_LINE = 256, KEEP_TEXT = 8192, KEEP_BODY = 16384 };

#define DEFAULT_TARGET 8192
#define DEFAULT_HEADER 16384
#define DEFAULT_LINES 100
#define DEFAULT_BODY (8 << 20)

void http_limits_init(struct http_limits *limits)
{
	limits->max_target = DEFAULT_TARGET;
	limits->max_header = DEFAULT_HEADER;
	limits->max_lines = DEFAULT_LINES;
	limits->max_body = DEFAULT_BODY;
}

/* ---- life ---- */

static void clear_request(struct http_parse *p)
{
	p->http10 = p->keep_alive = p->chunked = p->expect_continue = false;
	p->length = p->left = 0;
	p->status = 0;
	p->message[0] = '\0';
	p->state = ST_START;
	p->line = p->header_bytes = 0;
	p->lines = 0;
	p->target = p->path = p->query = p->authority = 0;
	memset(p->known_count, 0, sizeof(p->known_count));
	memset(p->known_value, 0, sizeof(p->known_value));
	p->connection = 0;
	p->nfields = 0;
}

void http_parse_init(struct http_parse *p, const struct http_limits *limits)
{
	p->limits = *limits;
	if (p->limits.max_lines > HTTP_LINES_MAX)
		p->limits.max_lines = HTTP_LINES_MAX;
	memset(&p->text, 0, sizeof(p->text));
	memset(&p->body, 0, sizeof(p->body));
	clear_request(p);
}

void http_parse_deinit(struct http_parse *p)
{
	buf_deinit(&p->text);
	buf_deinit(&p->body);
}

void http_parse_reset(struct http_parse *p)
{
	if (p->text.cap > KEEP_TEXT || p->text.failed)
		buf_deinit(&p->text);
	if (p->body.cap > KEEP_BODY || p->body.failed)
		buf_deinit(&p->body);
	buf_clear(&p->text);
	buf_clear(&p->body);
	clear_request(p);
}

bool http_parse_idle(const struct http_parse *p)
{
	return p->state == ST_START && p->text.len == 0;
}

/* ---- lines ---- */

/* Collects a line in text. HTTP_DONE: it is there, without its end but with a NUL; HTTP_MORE: it is
 * not whole yet. A line of more than max bytes is bad with that status and message. */
static enum http_event take_line(struct http_parse *p, const char *data, size_t n, size_t *used,
				 size_t max, int status, const char *too_long)
{
	const char *lf = n ? memchr(data, '\n', n) : NULL;
	size_t piece = lf ? (size_t)(lf - data) + 1 : n;
	size_t have = p->text.len - p->line;

	if (piece > max || have > max - piece)
		return http_head_bad(p, status, "%s", too_long);
	buf_add(&p->text, data, piece);
	if (p->text.failed)
		return http_head_bad(p, 503, "out of memory");
	*used += piece;
	if (!lf)
		return HTTP_MORE;
	have += piece;
	if (have < 2 || p->text.data[p->text.len - 2] != '\r')
		return http_head_bad(p, 400, "a line must end with CR LF");
	p->text.len -= 1;
	p->text.data[p->text.len - 1] = '\0';
	return HTTP_DONE;
}

/* The first line; one empty line before it is forgiven (RFC 9112, 2.2). */
static enum http_event step_request(struct http_parse *p, const char *data, size_t n, size_t *used)
{
	enum http_event ev;

	if (p->text.len == p->line && data[0] != '\r' && !http_head_token((unsigned char)data[0]))
		return http_head_bad(p, 400, "this is not an HTTP request");
	/* The bound holds for the whole line, so that it falls alike however the bytes come. */
	ev = take_line(p, data, n, used, p->limits.max_target + LINE_ROOM, 414,
		       "the request line is too long");
	if (ev != HTTP_DONE)
		return ev;
	if (http_head_length(p) == 0 && p->state == ST_START) {
		buf_clear(&p->text);
		p->state = ST_REQUEST;
		return HTTP_MORE;
	}
	p->state = ST_FIELDS;
	return http_head_request(p);
}

static enum http_event end_of_head(struct http_parse *p)
{
	if (http_head_end(p) == HTTP_BAD)
		return HTTP_BAD;
	p->left = p->length;
	p->line = p->text.len;
	p->state = p->chunked ? ST_CHUNK : ST_BODY;
	return HTTP_HEAD;
}

/* A line of the head or, when p is in the trailer, one of that: checked alike, then forgotten. */
static enum http_event step_field(struct http_parse *p, const char *data, size_t n, size_t *used)
{
	bool trailer = p->state == ST_TRAILER;
	size_t room = p->limits.max_header - p->header_bytes;
	uint32_t value = 0;
	enum http_event ev;

	/* Two bytes more, so that the empty line at the end always has room. */
	ev = take_line(p, data, n, used, room + 2, 431, "the header is too large");
	if (ev != HTTP_DONE)
		return ev;
	if (http_head_length(p) == 0) {
		p->text.len = p->line;
		p->state = trailer ? ST_DONE : p->state;
		return trailer ? HTTP_DONE : end_of_head(p);
	}
	if (http_head_length(p) + 2 > room)
		return http_head_bad(p, 431, "the header is too large");
	if (p->lines++ == p->limits.max_lines)
		return http_head_bad(p, 431, "more than %u header lines", p->limits.max_lines);
	p->header_bytes += http_head_length(p) + 2;
	if (http_head_field(p, &value) == HTTP_BAD)
		return HTTP_BAD;
	if (trailer) {
		p->text.len = p->line;
		return HTTP_MORE;
	}
	p->fields[p->nfields].name = (uint32_t)p->line;
	p->fields[p->nfields++].value = value;
	http_head_note(p, http_head_line(p), value);
	p->line = p->text.len;
	return HTTP_MORE;
}

/* ---- body ---- */

/* Hex digits at the start of a line to *size; returns how many, 0 for none or too many. */
static size_t chunk_size(const char *line, uint64_t *size)
{
	size_t n = strspn(line, "0123456789abcdefABCDEF");

	*size = 0;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)line[i];

		*size = *size * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return n > 16 ? 0 : n;
}

/* An extension is allowed and has no meaning (RFC 9112, 7.1.1). */
static enum http_event step_chunk(struct http_parse *p, const char *data, size_t n, size_t *used)
{
	enum http_event ev = take_line(p, data, n, used, CHUNK_LINE, 400, "bad chunk size");
	const char *line;
	size_t digits, length;
	uint64_t size;

	if (ev != HTTP_DONE)
		return ev;
	line = http_head_line(p);
	length = http_head_length(p);
	digits = chunk_size(line, &size);
	p->text.len = p->line;
	if (!digits || (digits != length && line[digits] != ';'))
		return http_head_bad(p, 400, "bad chunk size");
	for (size_t i = digits; i < length; i++)
		if (!http_head_value_byte(line[i]))
			return http_head_bad(p, 400, "control byte in a chunk's line");
	if (size > p->limits.max_body - p->body.len)
		return http_head_bad(p, 413, HTTP_HEAD_TOO_LARGE, p->limits.max_body);
	p->left = size;
	p->state = size ? ST_DATA : ST_TRAILER;
	return HTTP_MORE;
}

static enum http_event step_data_end(struct http_parse *p, const char *data, size_t n, size_t *used)
{
	enum http_event ev = take_line(p, data, n, used, 2, 400, "a chunk is longer than its size");

	if (ev != HTTP_DONE)
		return ev;
	p->text.len = p->line;
	p->state = ST_CHUNK;
	return HTTP_MORE;
}

static enum http_event step_data(struct http_parse *p, const char *data, size_t n, size_t *used)
{
	size_t take = n < p->left ? n : (size_t)p->left;

	if (take)
		buf_add(&p->body, data, take);
	if (p->body.failed)
		return http_head_bad(p, 503, "out of memory");
	*used += take;
	p->left -= take;
	if (p->left)
		return HTTP_MORE;
	if (p->state == ST_BODY) {
		p->state = ST_DONE;
		return HTTP_DONE;
	}
	p->state = ST_DATA_END;
	return HTTP_MORE;
}

/* One line or one run of bytes. */
static enum http_event step(struct http_parse *p, const char *data, size_t n, size_t *used)
{
	switch (p->state) {
	case ST_START:
	case ST_REQUEST:
		return step_request(p, data, n, used);
	case ST_FIELDS:
	case ST_TRAILER:
		return step_field(p, data, n, used);
	case ST_CHUNK:
		return step_chunk(p, data, n, used);
	case ST_DATA_END:
		return step_data_end(p, data, n, used);
	default:
		return step_data(p, data, n, used);
	}
}

enum http_event http_parse_feed(struct http_parse *p, const char *data, size_t n, size_t *used)
{
	enum http_event ev = HTTP_MORE;

	*used = 0;
	if (p->state == ST_DONE)
		return HTTP_DONE;
	if (p->state == ST_BAD)
		return HTTP_BAD;
	while (ev == HTTP_MORE && (*used < n || (p->state == ST_BODY && !p->left))) {
		size_t took = 0;

		ev = step(p, n ? data + *used : "", n - *used, &took);
		*used += took;
	}
	if (ev == HTTP_BAD)
		p->state = ST_BAD;
	return ev;
}

/* ---- results ---- */

static const char *string_at(const struct http_parse *p, uint32_t offset)
{
	return offset ? p->text.data + offset : "";
}

const char *http_parse_method(const struct http_parse *p)
{
	return p->target ? p->text.data : "";
}

const char *http_parse_target(const struct http_parse *p)
{
	return string_at(p, p->target);
}

const char *http_parse_path(const struct http_parse *p)
{
	return string_at(p, p->path);
}

const char *http_parse_query(const struct http_parse *p)
{
	return string_at(p, p->query);
}

const char *http_parse_host(const struct http_parse *p)
{
	if (p->authority)
		return p->text.data + p->authority;
	return p->known_count[HTTP_KNOWN_HOST] == 1 ?
		       p->text.data + p->known_value[HTTP_KNOWN_HOST] : "";
}

const char *http_parse_field(const struct http_parse *p, unsigned i, const char **value)
{
	*value = p->text.data + p->fields[i].value;
	return p->text.data + p->fields[i].name;
}

const char *http_parse_header(const struct http_parse *p, const char *name)
{
	for (unsigned i = 0; i < p->nfields; i++)
		if (!strcmp(p->text.data + p->fields[i].name, name))
			return p->text.data + p->fields[i].value;
	return NULL;
}
