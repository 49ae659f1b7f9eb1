/* SPDX-License-Identifier: MIT */
/* http_parse: reads one HTTP/1.1 or 1.0 request (RFC 9112), strictly. What is not exactly a request
 * is answered with a status and a connection that closes: nothing is guessed, so that nobody in
 * front of us can read the same bytes in another way. A pure machine: bytes go in by
 * http_parse_feed, in pieces of any size, with the same result for every way of cutting them. No
 * input and output, no clock. Not shared between threads. */
#ifndef EXED_HTTP_PARSE_H
#define EXED_HTTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

#define HTTP_LINES_MAX 128

struct http_limits {
	size_t max_target;  /* bytes of the request target; more is 414 */
	size_t max_header;  /* bytes of all field lines with their ends; more is 431 */
	unsigned max_lines; /* field lines, at most HTTP_LINES_MAX; more is 431 */
	size_t max_body;    /* bytes of the body, known before they are read; more is 413 */
};

enum http_event {
	HTTP_MORE, /* all bytes taken, more are needed */
	HTTP_HEAD, /* once: the head is whole and good; feed on for the body */
	HTTP_DONE, /* the request is whole; what was not used belongs to the next one */
	HTTP_BAD,  /* answer with status and message, then close */
};

/* A field line; offsets into text. */
struct http_field {
	uint32_t name, value;
};

/* Fields that the machine itself understands. */
enum http_known {
	HTTP_KNOWN_HOST,
	HTTP_KNOWN_LENGTH,
	HTTP_KNOWN_CODING,
	HTTP_KNOWN_CONTENT_CODING,
	HTTP_KNOWN_EXPECT,
	HTTP_KNOWN_COUNT
};

struct http_parse {
	struct http_limits limits;

	/* From HTTP_HEAD on. */
	bool http10;
	bool keep_alive;      /* the client allows another request on this connection */
	bool chunked;
	bool expect_continue; /* waits for 100 before it sends the body */
	uint64_t length;      /* Content-Length, 0 when there is none */
	struct buf body;      /* from HTTP_DONE on */

	/* From HTTP_BAD on. */
	int status;
	char message[160]; /* for the answer: one line, may hold bytes that the client sent */

	/* Inside. */
	int state;
	struct buf text;      /* the head's lines, cut in place into C strings */
	size_t line;          /* where in text the line that is being read begins */
	size_t header_bytes;
	unsigned lines;
	uint64_t left;        /* bytes still to come of the body or chunk */
	uint32_t target, path, query, authority; /* offsets; 0: not there. The method is at 0 */
	unsigned known_count[HTTP_KNOWN_COUNT];
	uint32_t known_value[HTTP_KNOWN_COUNT];
	unsigned connection;  /* what the Connection fields say */
	unsigned nfields;
	struct http_field fields[HTTP_LINES_MAX];
};

void http_limits_init(struct http_limits *limits); /* the defaults: 8 KiB, 16 KiB, 100, 8 MiB */

void http_parse_init(struct http_parse *p, const struct http_limits *limits); /* limits: copied */
void http_parse_deinit(struct http_parse *p);
/* Ready for the next request of the same connection. Keeps memory of usual size. */
void http_parse_reset(struct http_parse *p);
/* True when no byte of a request has been taken since init or reset. */
bool http_parse_idle(const struct http_parse *p);

/* Takes bytes and says how many in *used. At HTTP_MORE all of them are used. After HTTP_HEAD call
 * it again with the rest (of any size, 0 too): a request without a body is done then. */
enum http_event http_parse_feed(struct http_parse *p, const char *data, size_t n, size_t *used);

/* All valid from HTTP_HEAD until reset; C strings inside p. After HTTP_BAD too, when that part had
 * been read; "" when it had not. */
const char *http_parse_method(const struct http_parse *p);
const char *http_parse_target(const struct http_parse *p); /* as it was sent */
const char *http_parse_path(const struct http_parse *p);   /* decoded; "*" only for OPTIONS */
const char *http_parse_query(const struct http_parse *p);  /* as it was sent, without '?' */
/* The host and port meant: of an absolute target, else of Host; "" when there is none (1.0). */
const char *http_parse_host(const struct http_parse *p);

/* The field at index i < nfields: its name in lower case, and its value. */
const char *http_parse_field(const struct http_parse *p, unsigned i, const char **value);
/* Value of the first field of that name (lower case), NULL when there is none. */
const char *http_parse_header(const struct http_parse *p, const char *name);

#endif
