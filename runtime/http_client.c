/* SPDX-License-Identifier: MIT */
/* http_client: libcurl's multi handle on the loop, and the calls that it carries. libcurl says which
 * descriptors and what time to wait for (on_watch, on_time_wanted); what it reports goes into the call,
 * and the call's owner is woken. Loop thread. */
#include "http_client.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_client_lib.h"
#include "http_client_setup.h"
#include "loop.h"

#define HIGH_WATER (256 << 10) /* bytes of a stream that wait for their reader */

struct http_client {
	struct loop *loop;
	struct http_client_lib lib;
	struct http_client_options options;
	CURLM *multi;
	struct timer timer;
	unsigned running;
};

struct http_client_call {
	struct http_client *client;
	CURL *easy;
	struct curl_slist *headers;
	void (*wake)(void *arg);
	void *arg;
	struct timer timer;
	int64_t timeout_ms, idle_ms;
	size_t max_body;
	char *subject; /* "GET http://host:port", for messages */
	struct buf fields, body;
	size_t header_bytes;
	int status;
	bool stream, running, paused, truncated, header_too_long, sent;
	struct err why; /* code 0: none */
	char detail[CURL_ERROR_SIZE];
};

/* ---- the end of a call ---- */

static int code_of(CURLcode rc)
{
	switch (rc) {
	case CURLE_OPERATION_TIMEDOUT:
		return ERR_TIMEOUT;
	case CURLE_OUT_OF_MEMORY:
		return ERR_MEMORY;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return ERR_REFUSED;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_HTTP_RETURNED_ERROR:
		return ERR_PROTOCOL;
	default:
		return ERR_UNREACHABLE;
	}
}

/* Takes the call from libcurl. Its owner frees it. */
static void stop_call(struct http_client_call *call)
{
	struct http_client *c = call->client;
	long bytes = 0;

	if (!call->running)
		return;
	call->running = false;
	c->running--;
	timer_stop(&call->timer);
	c->lib.easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &bytes);
	call->sent = bytes > 0;
	c->lib.multi_remove_handle(c->multi, call->easy);
}

/* The other side had a part in the text. */
static void clean_text(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = '?';
}

static void judge(struct http_client_call *call, CURLcode rc)
{
	const char *text = *call->detail ? call->detail : call->client->lib.easy_strerror(rc);

	if (call->truncated || rc == CURLE_OK)
		return;
	/* So libcurl calls a line that is longer than its own limit. */
	if (rc == CURLE_OUT_OF_MEMORY && call->sent && !call->status)
		call->header_too_long = true;
	if (call->header_too_long)
		err_set(&call->why, ERR_LIMIT, "%s: the answer's header is longer than %zu bytes",
			call->subject, call->client->options.max_header);
	else if (call->body.failed || call->fields.failed)
		err_set(&call->why, ERR_MEMORY, "%s: no memory for the answer", call->subject);
	else
		err_set(&call->why, code_of(rc), "%s: %s", call->subject, text);
	clean_text(call->why.message);
}

static void finish_ended(struct http_client *c)
{
	struct http_client_call *call;
	CURLMsg *msg;
	int left;

	while ((msg = c->lib.multi_info_read(c->multi, &left))) {
		char *owner = NULL;
		CURLcode rc = msg->data.result;

		if (msg->msg != CURLMSG_DONE)
			continue;
		c->lib.easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &owner);
		call = (struct http_client_call *)owner;
		stop_call(call);
		judge(call, rc);
		call->wake(call->arg);
	}
}

static const char *what_was_missed(const struct http_client_call *call)
{
	if (call->status)
		return call->stream ? "nothing more came" : "the answer was not complete";
	return call->sent ? "no answer" : "no connection";
}

static void call_timed_out(void *arg)
{
	struct http_client_call *call = arg;
	int64_t ms = call->status && call->stream ? call->idle_ms : call->timeout_ms;

	if (call->paused) { /* it is the reader who is slow */
		timer_set(&call->timer, ms);
		return;
	}
	stop_call(call);
	err_set(&call->why, ERR_TIMEOUT, "%s: %s within %d.%03d s", call->subject,
		what_was_missed(call), (int)(ms / 1000), (int)(ms % 1000));
	clean_text(call->why.message);
	call->wake(call->arg);
}

/* ---- what libcurl wants to wait for ---- */

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct http_client *c = arg;
	int mask = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);
	int running;

	c->lib.multi_socket_action(c->multi, fd, mask, &running);
	finish_ended(c);
}

static void on_time(void *arg)
{
	struct http_client *c = arg;
	int running;

	c->lib.multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	finish_ended(c);
}

/* `watch` is the descriptor's event, which libcurl keeps for us. */
static int on_watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *watch)
{
	struct http_client *c = arg;
	struct event *ev = watch;
	short events = EV_PERSIST;

	(void)easy;
	if (ev)
		event_free(ev);
	c->lib.multi_assign(c->multi, fd, NULL);
	if (what == CURL_POLL_REMOVE)
		return 0;
	events |= (short)(what & CURL_POLL_IN ? EV_READ : 0);
	events |= (short)(what & CURL_POLL_OUT ? EV_WRITE : 0);
	ev = event_new(loop_base(c->loop), fd, events, on_ready, c);
	if (!ev || event_add(ev, NULL)) {
		if (ev)
			event_free(ev);
		return -1;
	}
	c->lib.multi_assign(c->multi, fd, ev);
	return 0;
}

static int on_time_wanted(CURLM *multi, long ms, void *arg)
{
	struct http_client *c = arg;

	(void)multi;
	if (ms < 0)
		timer_stop(&c->timer);
	else
		timer_set(&c->timer, ms);
	return 0;
}

/* ---- the answer ---- */

static void add_field(struct buf *fields, const char *line, size_t n)
{
	const char *colon = memchr(line, ':', n), *end = line + n, *value;

	if (n && (*line == ' ' || *line == '\t')) {
		if (!fields->len)
			return;
		fields->len--; /* a folded line goes on with the last value */
		value = line;
	} else {
		if (!colon)
			return;
		for (; line < colon; line++)
			buf_putc(fields, (char)tolower((unsigned char)*line));
		buf_putc(fields, '\0');
		value = colon + 1;
		while (value < end && (*value == ' ' || *value == '\t'))
			value++;
	}
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	buf_add(fields, value, (size_t)(end - value));
	buf_putc(fields, '\0');
}

static void head_ended(struct http_client_call *call)
{
	long status = 0;

	call->client->lib.easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200) { /* an interim answer */
		buf_clear(&call->fields);
		return;
	}
	call->status = (int)status;
	if (!call->stream)
		return;
	timer_stop(&call->timer);
	if (call->idle_ms)
		timer_set(&call->timer, call->idle_ms);
	call->wake(call->arg);
}

static size_t on_header(char *line, size_t one, size_t size, void *arg)
{
	struct http_client_call *call = arg;
	size_t n = size;

	(void)one;
	call->header_bytes += size;
	call->header_too_long = call->header_bytes > call->client->options.max_header;
	if (call->header_too_long)
		return 0;
	if (call->status) /* trailers */
		return size;
	while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		n--;
	if (!n)
		head_ended(call);
	else if (n >= 5 && !strncasecmp(line, "HTTP/", 5))
		buf_clear(&call->fields);
	else
		add_field(&call->fields, line, n);
	return call->fields.failed ? 0 : size;
}

static size_t on_body(char *data, size_t one, size_t size, void *arg)
{
	struct http_client_call *call = arg;
	size_t room = call->max_body - call->body.len;

	(void)one;
	if (call->stream && call->body.len >= HIGH_WATER) {
		call->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (!call->stream && size > room) {
		buf_add(&call->body, data, room);
		call->truncated = !call->body.failed;
		return 0;
	}
	buf_add(&call->body, data, size);
	if (call->body.failed)
		return 0;
	if (call->stream) {
		if (call->idle_ms)
			timer_set(&call->timer, call->idle_ms);
		call->wake(call->arg);
	}
	return size;
}

/* ---- life of a call ---- */

static void attach(struct http_client_call *call, const struct http_client_request *r)
{
	const struct http_client_lib *lib = &call->client->lib;
	CURL *easy = call->easy;

	lib->easy_setopt(easy, CURLOPT_PRIVATE, (char *)call);
	lib->easy_setopt(easy, CURLOPT_ERRORBUFFER, call->detail);
	lib->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	lib->easy_setopt(easy, CURLOPT_HEADERDATA, (void *)call);
	lib->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	lib->easy_setopt(easy, CURLOPT_WRITEDATA, (void *)call);
	lib->easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)(call->client->options.keep_ms / 1000));
	call->stream = r->stream;
	call->max_body = r->max_body;
	call->timeout_ms = r->timeout_ms;
	call->idle_ms = r->idle_ms;
}

struct http_client_call *http_client_start(struct http_client *c, const struct http_client_request *r,
					   void (*wake)(void *arg), void *arg, struct err *err)
{
	struct http_client_call *call = calloc(1, sizeof(*call));

	if (!call || timer_init(&call->timer, loop_base(c->loop), call_timed_out, call)) {
		free(call);
		err_set(err, ERR_MEMORY, "no memory for a request");
		return NULL;
	}
	call->client = c;
	call->wake = wake;
	call->arg = arg;
	if (http_client_check(&c->lib, r, &call->subject, err))
		goto fail;
	call->easy = c->lib.easy_init();
	if (!call->easy || http_client_setup(&c->lib, call->easy, r, &call->headers)) {
		err_set(err, ERR_MEMORY, "no memory for a request");
		goto fail;
	}
	attach(call, r);
	if (c->lib.multi_add_handle(c->multi, call->easy) != CURLM_OK) {
		err_set(err, ERR_MEMORY, "libcurl does not take the request");
		goto fail;
	}
	call->running = true;
	c->running++;
	timer_set(&call->timer, call->timeout_ms);
	return call;
fail:
	http_client_end(call);
	return NULL;
}

void http_client_end(struct http_client_call *call)
{
	if (!call)
		return;
	stop_call(call);
	if (call->easy)
		call->client->lib.easy_cleanup(call->easy);
	call->client->lib.slist_free_all(call->headers);
	timer_deinit(&call->timer);
	buf_deinit(&call->fields);
	buf_deinit(&call->body);
	free(call->subject);
	free(call);
}

bool http_client_ended(const struct http_client_call *call, const struct err **why)
{
	*why = !call->running && call->why.code ? &call->why : NULL;
	return !call->running;
}

bool http_client_sent(const struct http_client_call *call)
{
	return call->sent;
}

int http_client_status(const struct http_client_call *call)
{
	return call->status;
}

const struct buf *http_client_fields(const struct http_client_call *call)
{
	return &call->fields;
}

struct buf *http_client_body(struct http_client_call *call)
{
	return &call->body;
}

void http_client_took(struct http_client_call *call)
{
	if (!call->paused || call->body.len >= HIGH_WATER)
		return;
	call->paused = false;
	if (call->running)
		call->client->lib.easy_pause(call->easy, CURLPAUSE_CONT);
}

bool http_client_truncated(const struct http_client_call *call)
{
	return call->truncated;
}

/* ---- life of the client ---- */

struct http_client *http_client_new(struct loop *loop, const struct http_client_options *o,
				    struct err *err)
{
	struct http_client *c = calloc(1, sizeof(*c));
	const struct http_client_lib *lib;

	if (!c) {
		err_set(err, ERR_MEMORY, "no memory for the HTTP client");
		return NULL;
	}
	c->loop = loop;
	c->options = *o;
	lib = &c->lib;
	if (http_client_lib_open(&c->lib, err))
		goto fail;
	c->multi = lib->multi_init();
	if (!c->multi || timer_init(&c->timer, loop_base(loop), on_time, c)) {
		err_set(err, ERR_MEMORY, "no memory for the HTTP client");
		goto fail;
	}
	lib->multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
	lib->multi_setopt(c->multi, CURLMOPT_SOCKETDATA, (void *)c);
	lib->multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_time_wanted);
	lib->multi_setopt(c->multi, CURLMOPT_TIMERDATA, (void *)c);
	lib->multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)o->connections);
	lib->multi_setopt(c->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)o->host_connections);
	lib->multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)o->idle);
	lib->multi_setopt(c->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	return c;
fail:
	http_client_free(c);
	return NULL;
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	if (c->multi)
		c->lib.multi_cleanup(c->multi);
	timer_deinit(&c->timer);
	http_client_lib_close(&c->lib);
	free(c);
}

unsigned http_client_running(const struct http_client *c)
{
	return c->running;
}
