/* SPDX-License-Identifier: MIT */
/* ssh_say: why a connection failed, in words that a person understands. Text that comes from the
 * host is cut short and freed of control bytes. One I/O thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ssh_tunnel.h"

const char *ssh_phase_name(enum ssh_phase p)
{
	static const char *const names[] = {
		[SSH_RESOLVE] = "resolve", [SSH_CONNECT] = "connect",
		[SSH_HANDSHAKE] = "handshake", [SSH_HOST_KEY] = "host key",
		[SSH_LOGIN] = "login", [SSH_READY] = "ready",
	};

	return names[p];
}

const char *conn_say_errno(int e)
{
	switch (e) {
	case ECONNREFUSED: return "connection refused";
	case EHOSTUNREACH: return "no route to the host";
	case ENETUNREACH: return "no route to its network";
	case ETIMEDOUT: return "no answer";
	case ECONNRESET:
	case EPIPE: return "connection reset";
	case EMFILE:
	case ENFILE: return "out of file descriptors";
	default: return strerror(e);
	}
}

void conn_say_address(const union ssh_address *at, char *out, size_t cap)
{
	char text[INET6_ADDRSTRLEN] = "?";

	if (at->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &at->in6.sin6_addr, text, sizeof(text));
		snprintf(out, cap, "[%s]:%d", text, ntohs(at->in6.sin6_port));
	} else {
		inet_ntop(AF_INET, &at->in4.sin_addr, text, sizeof(text));
		snprintf(out, cap, "%s:%d", text, ntohs(at->in4.sin_port));
	}
}

/* A printable copy of n bytes. */
static void say_bytes(char *out, size_t cap, const char *bytes, size_t n)
{
	size_t i;

	for (i = 0; i < n && i + 1 < cap; i++)
		out[i] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '?';
	out[i] = '\0';
}

/* Bytes before the first line's end; the data has no NUL at its end. */
static size_t first_line(const char *data, size_t n)
{
	size_t len = 0;

	while (len < n && data[len] != '\r' && data[len] != '\n')
		len++;
	return len;
}

/* Whether the host began with something that is no banner; a printable copy of its first line. */
static bool say_greeting(const struct ssh_conn *c, char *out, size_t cap)
{
	size_t n = c->early.len;

	if (c->guard.greeted || !n || !memcmp(c->early.data, "SSH-", n < 4 ? n : 4))
		return false;
	say_bytes(out, cap, c->early.data, first_line(c->early.data, n));
	return true;
}

void conn_say_timeout(const struct ssh_conn *c, int64_t limit_ms, struct err *err)
{
	double s = (double)limit_ms / 1000;
	char text[128];

	if (c->phase == SSH_CONNECT && c->tunnel) {
		tunnel_say_timeout(c->tunnel, limit_ms, err);
		return;
	}
	switch (c->phase) {
	case SSH_RESOLVE:
		err_set(err, ERR_TIMEOUT, "no address for %s within %g s",
			ssh_host_address(c->host), s);
		break;
	case SSH_CONNECT:
		err_set(err, ERR_TIMEOUT, "no answer to connecting within %g s", s);
		break;
	case SSH_LOGIN:
		conn_auth_tried(c, text, sizeof(text));
		err_set(err, ERR_TIMEOUT, "timed out in login after %g s (%s)", s, text);
		break;
	default:
		if (say_greeting(c, text, sizeof(text)))
			err_set(err, ERR_PROTOCOL, "no SSH server: it sent \"%.64s\" and no banner within %g s",
				text, s);
		else if (c->guard.received)
			err_set(err, ERR_TIMEOUT, "timed out in handshake after %g s", s);
		else
			err_set(err, ERR_TIMEOUT, "silent before its banner for %g s", s);
	}
}

/* ---- no common algorithm ---- */

struct offer {
	const unsigned char *at, *end;
	bool bad; /* a list is longer than what is there, or no list of names */
};

static size_t offer_next(struct offer *o, const char **list)
{
	size_t n, left;

	if (o->end - o->at < 4) {
		o->bad = true;
		return 0;
	}
	n = (size_t)o->at[0] << 24 | (size_t)o->at[1] << 16 | (size_t)o->at[2] << 8 | o->at[3];
	o->at += 4;
	left = (size_t)(o->end - o->at);
	if (n > left) {
		o->bad = true;
		n = left;
	}
	*list = (const char *)o->at;
	for (size_t i = 0; i < n; i++)
		o->bad |= o->at[i] <= 0x20 || o->at[i] >= 0x7f;
	o->at += n;
	return n;
}

static bool list_has(const char *list, const char *word, size_t n)
{
	for (;;) {
		size_t len = strcspn(list, ",");

		if (len == n && !memcmp(list, word, n))
			return true;
		if (!list[len])
			return false;
		list += len + 1;
	}
}

static bool lists_meet(const char *mine, const char *theirs, size_t n)
{
	while (n) {
		const char *comma = memchr(theirs, ',', n);
		size_t len = comma ? (size_t)(comma - theirs) : n;

		if (list_has(mine, theirs, len))
			return true;
		theirs += len + (comma != NULL);
		n -= len + (comma != NULL);
	}
	return false;
}

/* The host's key exchange offer (RFC 4253, 7.1), which stands unencrypted behind its banner. */
static bool offer_find(const struct ssh_conn *c, struct offer *o)
{
	const unsigned char *s = (const unsigned char *)c->early.data;
	const unsigned char *end = s + c->early.len;

	while (s && end - s > 4 && memcmp(s, "SSH-", 4)) {
		s = memchr(s, '\n', (size_t)(end - s));
		s = s ? s + 1 : NULL;
	}
	s = s && s < end ? memchr(s, '\n', (size_t)(end - s)) : NULL;
	if (!s || end - s < 1 + 6 + 16 || s[6] != 20)
		return false;
	o->at = s + 1 + 6 + 16; /* length, padding, type, cookie */
	o->end = end;
	o->bad = false;
	return true;
}

static bool say_methods(const struct ssh_conn *c, struct err *err)
{
	const struct {
		const char *what, *mine;
	} lists[] = {
		{"key exchange", ssh_methods_kex},
		{"host key", "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
			     "ssh-ed25519,rsa-sha2-256,rsa-sha2-512"},
		{"cipher", ssh_methods_cipher},
		{"cipher", ssh_methods_cipher},
		{"MAC", ssh_methods_mac},
		{"MAC", ssh_methods_mac},
	};
	struct offer o;
	const char *list = NULL;
	char theirs[160];

	if (!offer_find(c, &o))
		return false;
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		size_t n = offer_next(&o, &list);

		if (o.bad)
			return false;
		if (!n || lists_meet(lists[i].mine, list, n))
			continue;
		say_bytes(theirs, sizeof(theirs), list, n);
		err_set(err, ERR_REFUSED, "no common algorithm: for %s the host has only %s",
			lists[i].what, theirs);
		return true;
	}
	return false;
}

/* ---- the end of a connection ---- */

static const char *when(const struct ssh_conn *c)
{
	if (c->phase == SSH_LOGIN)
		return "during login";
	if (c->phase == SSH_READY)
		return TAILQ_EMPTY(&c->execs) && TAILQ_EMPTY(&c->tunnels) ? "while nothing ran" : "while running";
	return c->guard.received ? "during the handshake" : "before its banner";
}

void conn_fail_eof(struct ssh_conn *c)
{
	char line[64], tried[128];

	if (c->phase == SSH_READY && c->farewell) {
		conn_fail(c, ERR_UNREACHABLE, "the host ended the connection %s", when(c));
	} else if (c->phase == SSH_READY) {
		conn_fail(c, ERR_UNREACHABLE, "connection lost %s: %s", when(c),
			  c->io_errno ? conn_say_errno(c->io_errno) : "closed by the host");
	} else if (c->phase == SSH_LOGIN) {
		conn_auth_tried(c, tried, sizeof(tried));
		conn_fail(c, ERR_UNREACHABLE, "the host %s the connection during login (%s)",
			  c->io_errno ? "reset" : "closed", tried);
	} else if (say_greeting(c, line, sizeof(line))) {
		conn_fail(c, ERR_PROTOCOL, "no SSH server: it sent \"%s\" and %s", line,
			  c->io_errno ? "reset" : "closed");
	} else {
		conn_fail(c, c->io_errno == ETIMEDOUT ? ERR_UNREACHABLE : ERR_REFUSED,
			  "the host %s the connection %s", c->io_errno ? "reset" : "closed", when(c));
	}
}

void conn_fail_ssh(struct ssh_conn *c, int rc)
{
	struct err err;
	char *text = NULL, safe[128], tried[128];

	if (c->phase < SSH_LOGIN && say_methods(c, &err)) {
		conn_fail(c, err.code, "%s", err.message);
		return;
	}
	if (c->phase < SSH_LOGIN && rc != LIBSSH2_ERROR_ALLOC && say_greeting(c, safe, sizeof(safe))) {
		conn_fail(c, ERR_PROTOCOL, "no SSH server: it sent \"%.64s\"", safe);
		return;
	}
	if (c->phase < SSH_LOGIN && rc == LIBSSH2_ERROR_SOCKET_NONE) {
		conn_fail(c, ERR_PROTOCOL, "failed %s: the host does not keep to the protocol", when(c));
		return;
	}
	libssh2_session_last_error(c->session, &text, NULL, 0);
	say_bytes(safe, sizeof(safe), text ? text : "", text ? strlen(text) : 0);
	if (rc == LIBSSH2_ERROR_SOCKET_DISCONNECT && c->phase == SSH_LOGIN) {
		conn_auth_tried(c, tried, sizeof(tried));
		conn_fail(c, ERR_REFUSED, "the host ended the login (%s)", tried);
	} else if (rc == LIBSSH2_ERROR_SOCKET_DISCONNECT) {
		conn_fail(c, c->phase == SSH_READY ? ERR_UNREACHABLE : ERR_REFUSED,
			  "the host ended the connection %s", when(c));
	} else if (c->phase == SSH_READY) {
		conn_fail(c, ERR_UNREACHABLE, "connection lost %s: %s (%d)", when(c), safe, rc);
	} else {
		conn_fail(c, rc == LIBSSH2_ERROR_SOCKET_RECV || rc == LIBSSH2_ERROR_SOCKET_SEND ?
				     ERR_UNREACHABLE : ERR_PROTOCOL,
			  "failed %s: %s (%d)", when(c), safe, rc);
	}
}
