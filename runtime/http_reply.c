/* SPDX-License-Identifier: MIT */
/* http_reply: answers, whole and as streams. A head is made in the server's scratch and goes out in
 * one write together with what follows it. Loop thread. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http_conn.h"
#include "http_head.h"

const char *http_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {
		{ 101, "Switching Protocols" },
		{ 200, "OK" },
		{ 201, "Created" },
		{ 202, "Accepted" },
		{ 204, "No Content" },
		{ 301, "Moved Permanently" },
		{ 302, "Found" },
		{ 303, "See Other" },
		{ 304, "Not Modified" },
		{ 307, "Temporary Redirect" },
		{ 308, "Permanent Redirect" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 406, "Not Acceptable" },
		{ 408, "Request Timeout" },
		{ 409, "Conflict" },
		{ 410, "Gone" },
		{ 411, "Length Required" },
		{ 412, "Precondition Failed" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 415, "Unsupported Media Type" },
		{ 416, "Range Not Satisfiable" },
		{ 417, "Expectation Failed" },
		{ 421, "Misdirected Request" },
		{ 422, "Unprocessable Content" },
		{ 425, "Too Early" },
		{ 426, "Upgrade Required" },
		{ 428, "Precondition Required" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
		{ 505, "HTTP Version Not Supported" },
		{ 507, "Insufficient Storage" },
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

/* ---- the head ---- */

static bool name_ok(const char *name)
{
	const char *p = name;

	while (http_head_token((unsigned char)*p))
		p++;
	return p != name && !*p;
}

static bool value_ok(const char *value)
{
	while (http_head_value_byte(*value))
		value++;
	return !*value;
}

static bool is_own(const struct http_pair *h)
{
	static const char *const own[] = { "content-length", "transfer-encoding", "date",
					   "server" };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (!strcasecmp(h->name, own[i]))
			return true;
	return !strcasecmp(h->name, "connection") && strcasecmp(h->value, "close") != 0;
}

static int check_head(int status, const struct http_pair *headers, size_t n, struct err *err)
{
	if (status < 200 || status > 599)
		return err_set(err, ERR_INVALID, "status %d cannot be sent", status);
	for (size_t i = 0; i < n; i++) {
		if (!name_ok(headers[i].name) || !value_ok(headers[i].value))
			return err_set(err, ERR_INVALID, "header %.60s: bytes that cannot be sent",
				       headers[i].name);
		if (is_own(&headers[i]))
			return err_set(err, ERR_INVALID, "header %.60s is set by the server",
				       headers[i].name);
	}
	return 0;
}

static void put_field(struct buf *b, const char *name, const char *value)
{
	buf_puts(b, name);
	buf_puts(b, ": ");
	buf_puts(b, value);
	buf_puts(b, "\r\n");
}

static bool put_user_fields(struct http_conn *c, const struct http_pair *headers, size_t n)
{
	bool typed = false;

	for (size_t i = 0; i < n; i++) {
		if (!strcasecmp(headers[i].name, "connection")) {
			c->keep = false;
			continue;
		}
		typed |= !strcasecmp(headers[i].name, "content-type");
		put_field(&c->server->scratch, headers[i].name, headers[i].value);
	}
	return typed;
}

/* Makes the head in scratch up to the fields about length and connection. */
static void put_head(struct http_conn *c, int status, const struct http_pair *headers, size_t n,
		     bool body)
{
	struct http_server *s = c->server;
	struct buf *b = &s->scratch;
	bool typed;

	c->status = status;
	if (s->draining)
		c->keep = false;
	c->bodiless = c->bodiless || status == 204 || status == 304;
	buf_clear(b);
	buf_puts(b, "HTTP/1.1 ");
	buf_integer(b, status);
	buf_putc(b, ' ');
	buf_puts(b, http_reason(status));
	buf_puts(b, "\r\n");
	put_field(b, "Date", http_server_date(s));
	if (s->options.server)
		put_field(b, "Server", s->options.server);
	typed = put_user_fields(c, headers, n);
	if (body && !typed && status != 204 && status != 304)
		put_field(b, "Content-Type", "application/json");
}

/* The last fields; keep is settled by now. */
static void end_head(struct http_conn *c)
{
	struct buf *b = &c->server->scratch;

	if (!c->keep)
		put_field(b, "Connection", "close");
	else if (c->parse.http10)
		put_field(b, "Connection", "keep-alive");
	buf_puts(b, "\r\n");
}

/* ---- whole answers ---- */

static int answer(struct http_conn *c, int status, const struct http_pair *headers, size_t n,
		  const void *body, size_t len, struct err *err)
{
	struct buf *b = &c->server->scratch;
	struct iovec iov[2];

	put_head(c, status, headers, n, len > 0);
	if (status != 204 && status != 304) {
		buf_puts(b, "Content-Length: ");
		buf_integer(b, (long long)len);
		buf_add(b, "\r\n", 2);
	}
	end_head(c);
	if (b->failed) {
		buf_deinit(b);
		http_conn_drop_later(c, "out of memory");
		return err_set(err, ERR_MEMORY, "out of memory for an answer");
	}
	if (c->bodiless)
		len = 0;
	iov[0] = (struct iovec){ b->data, b->len };
	iov[1] = (struct iovec){ (void *)body, len };
	c->sent = len;
	http_conn_give(c, iov, len ? 2 : 1);
	http_conn_answered(c);
	return 0;
}

int http_respond(struct http_request *req, int status, const struct http_pair *headers,
		 size_t nheaders, const void *body, size_t len, struct err *err)
{
	struct http_conn *c = (struct http_conn *)req;
	int rc;

	if (c->state != CONN_BUSY)
		return err_set(err, ERR_CLOSED, "this request has been answered already");
	rc = check_head(status, headers, nheaders, err);
	return rc ? rc : answer(c, status, headers, nheaders, body, len, err);
}

static void put_message(struct buf *b, const char *message)
{
	buf_puts(b, "{\"message\": ");
	buf_json_string(b, message, strlen(message));
	buf_puts(b, "}");
	if (b->failed)
		buf_clear(b); /* a body that is not whole is worse than none */
}

static const struct http_pair later = { "Retry-After", "1" };

int http_respond_message(struct http_request *req, int status, const char *message,
			 struct err *err)
{
	struct buf b = { 0 };
	int rc;

	put_message(&b, message);
	rc = http_respond(req, status, &later, status == 503, b.data, b.len, err);
	buf_deinit(&b);
	return rc;
}

void http_reply_refuse(struct http_conn *c, int status, const char *message)
{
	static const struct http_pair coding = { "Accept-Encoding", "identity" };
	struct buf b = { 0 };

	put_message(&b, message);
	c->keep = false;
	answer(c, status, status == 415 ? &coding : &later, status == 415 || status == 503, b.data,
	       b.len, NULL);
	buf_deinit(&b);
}

/* ---- streams ---- */

int http_start(struct http_request *req, int status, const struct http_pair *headers,
	       size_t nheaders, struct err *err)
{
	struct http_conn *c = (struct http_conn *)req;
	struct buf *b = &c->server->scratch;
	struct iovec iov;
	int rc;

	if (c->state != CONN_BUSY)
		return err_set(err, ERR_CLOSED, "this request has been answered already");
	rc = check_head(status, headers, nheaders, err);
	if (rc)
		return rc;
	put_head(c, status, headers, nheaders, true);
	c->chunked = !c->parse.http10 && status != 204 && status != 304;
	if (c->chunked)
		put_field(b, "Transfer-Encoding", "chunked");
	else if (!c->bodiless)
		c->keep = false; /* the end of the connection is the end of the answer */
	end_head(c);
	if (b->failed) {
		buf_deinit(b);
		http_conn_drop_later(c, "out of memory");
		return err_set(err, ERR_MEMORY, "out of memory for an answer");
	}
	c->state = CONN_STREAM;
	iov = (struct iovec){ b->data, b->len };
	http_conn_give(c, &iov, 1);
	return 0;
}

int http_write(struct http_request *req, const void *data, size_t len)
{
	struct http_conn *c = (struct http_conn *)req;
	const struct http_options *o = &c->server->options;
	char size[24], end[] = "\r\n";
	struct iovec iov[3];

	if (c->state != CONN_STREAM)
		return -ERR_CLOSED;
	if (http_conn_unsent(c) + len > o->max_unsent && http_conn_unsent(c)) {
		http_conn_drop_later(c, "the client is too slow");
		return -ERR_LIMIT;
	}
	if (len && !c->bodiless) {
		int n = snprintf(size, sizeof(size), "%zx\r\n", len);

		iov[0] = (struct iovec){ size, (size_t)n };
		iov[1] = (struct iovec){ (void *)data, len };
		iov[2] = (struct iovec){ end, 2 };
		http_conn_give(c, c->chunked ? iov : iov + 1, c->chunked ? 3 : 1);
		c->sent += len;
	}
	if (!c->full && http_conn_unsent(c) >= o->high_water) {
		c->full = true;
		bufferevent_setwatermark(c->bev, EV_WRITE, o->high_water / 4, 0);
	}
	return !c->full;
}

size_t http_unsent(const struct http_request *req)
{
	const struct http_conn *c = (const struct http_conn *)req;

	return c->state == CONN_DEAD ? 0 : http_conn_unsent(c);
}

void http_end(struct http_request *req)
{
	struct http_conn *c = (struct http_conn *)req;
	char last[] = "0\r\n\r\n";
	struct iovec iov = { last, sizeof(last) - 1 };

	if (c->state != CONN_STREAM)
		return;
	if (c->chunked && !c->bodiless)
		http_conn_give(c, &iov, 1);
	http_conn_answered(c);
}

int http_upgrade(struct http_request *req, const struct http_pair *headers, size_t nheaders,
		 struct err *err)
{
	struct http_conn *c = (struct http_conn *)req;
	struct buf *b = &c->server->scratch;
	struct iovec iov;
	int rc;

	if (c->state != CONN_BUSY)
		return err_set(err, ERR_CLOSED, "this request has been answered already");
	if (c->parse.http10)
		return err_set(err, ERR_INVALID, "HTTP/1.0 has no upgrades");
	rc = check_head(200, headers, nheaders, err);
	if (rc)
		return rc;
	put_head(c, 101, headers, nheaders, false);
	put_field(b, "Connection", "Upgrade");
	buf_puts(b, "\r\n");
	if (b->failed) {
		buf_deinit(b);
		http_conn_drop_later(c, "out of memory");
		return err_set(err, ERR_MEMORY, "out of memory for an answer");
	}
	c->keep = false;
	c->upgraded = true;
	c->state = CONN_STREAM;
	iov = (struct iovec){ b->data, b->len };
	http_conn_give(c, &iov, 1);
	http_conn_resume(c);
	return 0;
}

void http_cut(struct http_request *req)
{
	struct http_conn *c = (struct http_conn *)req;

	if (c->state != CONN_STREAM && c->state != CONN_BUSY)
		return;
	c->keep = false;
	if (c->state == CONN_STREAM && (c->chunked || c->bodiless)) {
		http_conn_answered(c);
		return;
	}
	/* Without chunks only a reset can say that the end is not the end. */
	http_conn_reset(c);
	c->req.on_gone = NULL;
	http_conn_close(c, "cut");
}
