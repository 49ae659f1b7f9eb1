/* SPDX-License-Identifier: MIT */
/* ws: wslay between http's bytes and messages.
 *
 * Two contexts of wslay stand side by side: the one of events reads frames and answers pings and
 * closes by itself; the one of frames writes our messages, piece by piece, so that a long one is never
 * held whole. Both write whole frames at once into the same output, so they cannot mix; a pong between
 * two pieces of a message is allowed. The request is borrowed until the WebSocket is over. */
#include "ws.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "buf.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */
#define REASON_MAX 122 /* wslay takes fewer than 123 bytes */

struct ws {
	struct http_request *req; /* NULL: over */
	wslay_event_context_ptr in;
	wslay_frame_context_ptr out;
	struct ws_options options;
	ws_over_fn *over;
	void *arg;
	struct timer ping;
	int64_t heard_ms;
	const uint8_t *data; /* what ws_data was given and wslay has not taken */
	size_t len;
	struct buf frame; /* one of ours while it is made: it goes out in one write */
	bool in_message; /* the first piece of a message has gone */
	int rc;          /* of the last http_write */
};

void ws_options_init(struct ws_options *o)
{
	o->ping_ms = 15000;
	o->silence_ms = 60000;
	o->max_message = 4096;
}

/* ---- the end ---- */

void ws_detach(struct ws *ws)
{
	ws->req = NULL;
	timer_stop(&ws->ping);
}

void ws_free(struct ws *ws)
{
	if (!ws)
		return;
	timer_deinit(&ws->ping);
	buf_deinit(&ws->frame);
	if (ws->in)
		wslay_event_context_free(ws->in);
	if (ws->out)
		wslay_frame_context_free(ws->out);
	free(ws);
}

/* Tells the user, who may then only free it. */
static void end(struct ws *ws, int code, const char *why)
{
	ws_detach(ws);
	ws->over(ws->arg, code, why);
}

/* ---- out ---- */

/* Everything is taken, or the connection is being dropped: there is no part of a write. */
static ssize_t put(struct ws *ws, const uint8_t *data, size_t len)
{
	ws->rc = ws->req ? http_write(ws->req, data, len) : -ERR_CLOSED;
	return ws->rc < 0 ? -1 : (ssize_t)len;
}

static ssize_t make_frame(const uint8_t *data, size_t len, int flags, void *arg)
{
	struct ws *ws = arg;

	(void)flags;
	buf_add(&ws->frame, data, len);
	return ws->frame.failed ? -1 : (ssize_t)len;
}

static ssize_t send_event(wslay_event_context_ptr in, const uint8_t *data, size_t len, int flags,
			  void *arg)
{
	ssize_t n = put(arg, data, len);

	(void)flags;
	if (n < 0)
		wslay_event_set_error(in, WSLAY_ERR_CALLBACK_FAILURE);
	return n;
}

int ws_write(struct ws *ws, const void *data, size_t len, bool last)
{
	struct wslay_frame_iocb frame = {
		.fin = last,
		.opcode = ws->in_message ? WSLAY_CONTINUATION_FRAME : WSLAY_TEXT_FRAME,
		.payload_length = len,
		.data = data,
		.data_length = len,
	};

	if (!ws->req)
		return -ERR_CLOSED;
	buf_clear(&ws->frame);
	if (wslay_frame_send(ws->out, &frame) != (ssize_t)len)
		return -ERR_MEMORY;
	ws->in_message = !last;
	put(ws, (const uint8_t *)ws->frame.data, ws->frame.len);
	return ws->rc;
}

void ws_close(struct ws *ws, int code, const char *reason)
{
	struct http_request *req = ws->req;
	size_t n = strlen(reason);

	if (!req)
		return;
	/* Not in the middle of a character. */
	for (n = n > REASON_MAX ? REASON_MAX : n; n && ((unsigned char)reason[n] & 0xc0) == 0x80;)
		n--;
	wslay_event_queue_close(ws->in, (uint16_t)code, (const uint8_t *)reason, n);
	wslay_event_send(ws->in);
	ws_detach(ws);
	http_end(req);
}

static void ping(void *arg)
{
	struct ws *ws = arg;
	struct http_request *req = ws->req;
	struct wslay_event_msg frame = { .opcode = WSLAY_PING };

	/* Behind what waits for the client a ping would only make it more, and without one it need not be heard.
	 * Whether it takes what waits http sees to. */
	if (http_unsent(req))
		ws->heard_ms = loop_now_ms();
	if (loop_now_ms() - ws->heard_ms >= ws->options.silence_ms) {
		end(ws, WSLAY_CODE_ABNORMAL_CLOSURE, "the client does not answer pings");
		http_cut(req);
		return;
	}
	timer_set(&ws->ping, ws->options.ping_ms);
	if (!http_unsent(req) && !wslay_event_queue_msg(ws->in, &frame))
		wslay_event_send(ws->in);
}

/* ---- in ---- */

static ssize_t receive(wslay_event_context_ptr in, uint8_t *data, size_t len, int flags, void *arg)
{
	struct ws *ws = arg;
	size_t n = len < ws->len ? len : ws->len;

	(void)flags;
	if (!n) {
		wslay_event_set_error(in, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	memcpy(data, ws->data, n);
	ws->data += n;
	ws->len -= n;
	return (ssize_t)n;
}

/* Of a frame that breaks the rules for frames wslay says nothing to the client. */
static void refuse_frame(struct ws *ws)
{
	const uint8_t code[2] = { WSLAY_CODE_PROTOCOL_ERROR >> 8, WSLAY_CODE_PROTOCOL_ERROR & 0xff };
	struct wslay_frame_iocb frame = {
		.fin = 1, .opcode = WSLAY_CONNECTION_CLOSE, .payload_length = sizeof(code),
		.data = code, .data_length = sizeof(code),
	};

	buf_clear(&ws->frame);
	if (wslay_frame_send(ws->out, &frame) == (ssize_t)sizeof(code))
		put(ws, (const uint8_t *)ws->frame.data, ws->frame.len);
}

/* What the client's close frame says, or what there was against its bytes. */
static void end_reading(struct ws *ws, bool refused)
{
	struct http_request *req = ws->req;
	bool by_client = !refused && wslay_event_get_close_received(ws->in);
	int code = refused     ? WSLAY_CODE_PROTOCOL_ERROR
		   : by_client ? wslay_event_get_status_code_received(ws->in)
			       : wslay_event_get_status_code_sent(ws->in);

	if (refused)
		refuse_frame(ws);
	end(ws, code, by_client ? "the client closed it" : "the client broke the protocol");
	http_end(req);
}

void ws_data(struct ws *ws, const void *data, size_t len)
{
	int rc;

	if (!ws->req)
		return;
	ws->heard_ms = loop_now_ms();
	ws->data = data;
	ws->len = len;
	rc = wslay_event_recv(ws->in);
	/* Pongs, and the answer to a close. When the client is not reading, http drops it. */
	if (!rc)
		rc = wslay_event_send(ws->in);
	ws->len = 0;
	if (ws->rc >= 0 && (rc || !wslay_event_get_read_enabled(ws->in)))
		end_reading(ws, rc != 0);
}

/* ---- the beginning ---- */

/* A key is 16 bytes in base64: 22 characters and "==". */
static bool key_ok(const char *key)
{
	static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	return key && strlen(key) == 24 && strspn(key, set) == 22 && !strcmp(key + 22, "==");
}

/* The value of a field that is there once; NULL otherwise. name: in lower case. */
static const char *only_header(const struct http_request *req, const char *name)
{
	const char *found, *value, *only = NULL;
	unsigned count = 0;

	for (unsigned i = 0; (found = http_request_field(req, i, &value)); i++)
		if (!strcmp(found, name)) {
			only = value;
			count++;
		}
	return count == 1 ? only : NULL;
}

static int make_answer(struct buf *b, const char *key, struct err *err)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	char text[24 + sizeof(GUID)];

	memcpy(text, key, 24);
	memcpy(text + 24, GUID, sizeof(GUID));
	if (!EVP_Digest(text, strlen(text), sum, &n, EVP_sha1(), NULL))
		return err_set(err, ERR_SYSTEM, "no SHA-1");
	buf_base64(b, sum, n);
	buf_putc(b, '\0');
	return b->failed ? err_set(err, ERR_MEMORY, "out of memory") : 0;
}

static struct ws *make(struct loop *loop, struct http_request *req, const struct ws_options *o)
{
	static const struct wslay_event_callbacks events = {
		.recv_callback = receive, .send_callback = send_event,
	};
	static const struct wslay_frame_callbacks frames = { .send_callback = make_frame };
	struct ws *ws = calloc(1, sizeof(*ws));

	if (!ws)
		return NULL;
	ws->req = req;
	ws->options = *o;
	ws->heard_ms = loop_now_ms();
	if (timer_init(&ws->ping, loop_base(loop), ping, ws) ||
	    wslay_event_context_server_init(&ws->in, &events, ws) ||
	    wslay_frame_context_init(&ws->out, &frames, ws)) {
		ws_free(ws);
		return NULL;
	}
	wslay_event_config_set_max_recv_msg_length(ws->in, o->max_message);
	return ws;
}

struct ws *ws_accept(struct loop *loop, struct http_request *req, const struct ws_options *o,
		     ws_over_fn *over, void *arg, struct err *err)
{
	const char *key = only_header(req, "sec-websocket-key");
	struct http_pair fields[2] = { { "Upgrade", "websocket" }, { "Sec-WebSocket-Accept", NULL } };
	struct buf b = { 0 };
	struct ws *ws = NULL;

	if (!key_ok(key)) {
		err_set(err, ERR_INVALID, "Sec-WebSocket-Key: 16 bytes in base64 are expected, once");
		return NULL;
	}
	if (make_answer(&b, key, err))
		goto out;
	ws = make(loop, req, o);
	if (!ws) {
		err_set(err, ERR_MEMORY, "out of memory for a WebSocket");
		goto out;
	}
	fields[1].value = b.data;
	if (http_upgrade(req, fields, 2, err)) {
		ws_free(ws);
		ws = NULL;
		goto out;
	}
	ws->over = over;
	ws->arg = arg;
	timer_set(&ws->ping, o->ping_ms);
out:
	buf_deinit(&b);
	return ws;
}
