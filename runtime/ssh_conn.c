/* SPDX-License-Identifier: MIT */
/* ssh_conn: one connection from its first address to its end: resolve, connect, handshake, the
 * verdict on the host's key, login, and then the channels' turns. ssh_conn.h says how turns
 * work. One I/O thread. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"
#include "metrics.h"
#include "ssh_tunnel.h"

/* A peer that vanished is noticed by the kernel within 30 s: the first probe after 15 s of silence,
 * and bytes that stay unacknowledged for this long end the connection. */
#define TCP_IDLE_S 15
#define TCP_PROBE_S 5
#define TCP_PROBES 3
#define TCP_UNACKED_MS 30000
/* Of a limit, the share that the lookup of a name may take. */
#define RESOLVE_SHARE 2

static void on_event(evutil_socket_t fd, short what, void *arg);
static void on_timer(evutil_socket_t fd, short what, void *arg);
static void connect_next(struct ssh_conn *c);

struct ssh_conn *conn_new(struct ssh_client *client, struct ssh_host *h, struct ssh_settings *s)
{
	struct ssh_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->client = client;
	c->host = ssh_host_ref(h);
	c->settings = ssh_settings_ref(s);
	c->fd = -1;
	c->limit = s->max_sessions;
	TAILQ_INIT(&c->uses);
	TAILQ_INIT(&c->execs);
	evtimer_assign(&c->timer, client->base, on_timer, c);
	conn_exec_init(c);
	lane_init(c);
	return c;
}

static void conn_free(struct ssh_conn *c)
{
	conn_auth_free(c);
	free(c->at);
	ssh_host_unref(c->host);
	ssh_settings_unref(c->settings);
	free(c);
}

void conn_settle(struct ssh_conn *c)
{
	if (!c->closing || c->busy)
		return;
	if (!c->gone) {
		c->gone = true;
		event_del(&c->timer);
		if (c->dns)
			evdns_getaddrinfo_cancel(c->dns);
		c->dns = NULL;
		conn_exec_stop(c);
		lane_stop(c);
		conn_io_close(c);
		client_conn_gone(c);
	}
	/* A use that was told `ready` holds on to it until it is ended. */
	if (TAILQ_EMPTY(&c->uses) && !c->dns_asking)
		conn_free(c);
}

void conn_fail(struct ssh_conn *c, int code, const char *fmt, ...)
{
	va_list ap;

	if (c->closing)
		return;
	va_start(ap, fmt);
	err_vset(&c->err, code, fmt, ap);
	va_end(ap);
	log_debug("ssh", "%s: %s", ssh_host_name(c->host), c->err.message);
	if (c->phase < SSH_READY)
		metric_add(METRIC_FAILED_RESOLVE + c->phase, 1);
	c->closing = true;
	c->busy++;
	client_conn_failed(c);
	conn_exec_fail(c);
	lane_fail(c);
	c->busy--;
	conn_settle(c);
}

void conn_close(struct ssh_conn *c)
{
	c->closing = true;
	if (!c->err.code)
		err_set(&c->err, ERR_CLOSED, "the connection was closed");
	conn_settle(c);
}

/* ---- resolve and connect ---- */

static void set_port(union ssh_address *at, int port)
{
	if (at->sa.sa_family == AF_INET6)
		at->in6.sin6_port = htons((uint16_t)port);
	else
		at->in4.sin_port = htons((uint16_t)port);
}

int conn_port(const struct ssh_conn *c)
{
	return c->host->port ? c->host->port : c->settings->port;
}

static void on_resolved(int error, struct evutil_addrinfo *list, void *arg)
{
	struct ssh_conn *c = arg;
	struct evutil_addrinfo *ai;

	c->dns = NULL;
	c->dns_asking = false;
	for (ai = list; ai && c->n_at < SSH_ADDRESSES; ai = ai->ai_next) {
		union ssh_address *more = realloc(c->at, (c->n_at + 1) * sizeof(*more));

		if (!more)
			break;
		c->at = more;
		if (ai->ai_addrlen > sizeof(*more))
			continue;
		memset(&more[c->n_at], 0, sizeof(*more));
		memcpy(&more[c->n_at], ai->ai_addr, ai->ai_addrlen);
		set_port(&more[c->n_at++], conn_port(c));
	}
	if (list)
		evutil_freeaddrinfo(list);
	if (c->closing) {
		conn_settle(c);
		return;
	}
	event_del(&c->timer);
	if (!c->n_at) {
		conn_fail(c, ERR_NOT_FOUND, "no address for %s: %s", ssh_host_address(c->host),
			  dns_why(error));
		return;
	}
	c->phase = SSH_CONNECT;
	conn_kick(c);
}

static void resolve(struct ssh_conn *c)
{
	struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
					.ai_protocol = IPPROTO_TCP};
	struct evdns_base *dns = client_dns(c->client, c->settings);
	struct evdns_getaddrinfo_request *asked;

	if (!dns) {
		conn_fail(c, ERR_MEMORY, "out of memory");
		return;
	}
	ssh_arm(&c->timer, c->limit_ms / RESOLVE_SHARE + 1);
	c->dns_asking = true;
	/* It may answer before it returns, and then returns NULL. */
	asked = evdns_getaddrinfo(dns, ssh_host_address(c->host), NULL, &hints, on_resolved, c);
	if (c->dns_asking)
		c->dns = asked;
}

static int socket_open(struct ssh_conn *c, const union ssh_address *at)
{
	const int on = 1, idle = TCP_IDLE_S, probe = TCP_PROBE_S, probes = TCP_PROBES;
	const unsigned unacked = TCP_UNACKED_MS;

	c->fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -ERR_SYSTEM;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe, sizeof(probe));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked, sizeof(unacked));
	/* Edge-triggered and never changed: one system call for the life of the connection. */
	event_assign(&c->ev, c->client->base, c->fd,
		     EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST, on_event, c);
	return 0;
}

static void socket_drop(struct ssh_conn *c)
{
	if (c->fd < 0)
		return;
	event_del(&c->ev);
	close(c->fd);
	c->fd = -1;
}

/* Whether a connect fails for a reason of this node. */
static int connect_code(int error)
{
	switch (error) {
	case EMFILE:
	case ENFILE: return ERR_LIMIT;
	case ENOMEM:
	case ENOBUFS: return ERR_MEMORY;
	case EACCES:
	case EPERM:
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT: return ERR_SYSTEM;
	default: return ERR_UNREACHABLE;
	}
}

/* The last address has all the time that is left; the others share. */
static void connect_failed(struct ssh_conn *c, int error)
{
	char address[80];

	socket_drop(c);
	if (c->next_at < c->n_at) {
		connect_next(c);
		return;
	}
	conn_say_address(&c->at[c->n_at - 1], address, sizeof(address));
	conn_fail(c, connect_code(error), "%s (%s)", conn_say_errno(error), address);
}

/* A connection is made step by step; each takes its time. */
static void end_step(struct ssh_conn *c, enum metric_time step)
{
	int64_t now = loop_tick_us();

	metric_observe(step, now - c->step_us);
	c->step_us = now;
	ssh_pace_step(&c->client->pace, &c->login, now);
}

static void handshake_start(struct ssh_conn *c)
{
	event_del(&c->timer);
	end_step(c, METRIC_TIME_CONNECT);
	c->phase = SSH_HANDSHAKE;
	if (conn_io_open(c))
		conn_fail(c, ERR_MEMORY, "out of memory");
}

static void connect_next(struct ssh_conn *c)
{
	const union ssh_address *at = &c->at[c->next_at++];
	socklen_t len = at->sa.sa_family == AF_INET6 ? sizeof(at->in6) : sizeof(at->in4);

	if (socket_open(c, at)) {
		c->next_at = c->n_at; /* other addresses need a descriptor as well */
		connect_failed(c, errno);
		return;
	}
	if (!connect(c->fd, &at->sa, len)) {
		event_add(&c->ev, NULL);
		handshake_start(c);
		return;
	}
	if (errno != EINPROGRESS) {
		connect_failed(c, errno);
		return;
	}
	event_add(&c->ev, NULL);
	c->connecting = true;
	if (c->next_at < c->n_at)
		ssh_arm(&c->timer, c->limit_ms / (c->n_at + 1) + 1);
}

static void connect_check(struct ssh_conn *c)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int error = 0;

	/* The cheap question first: an event may also come from a socket that still connects. */
	if (!getpeername(c->fd, (struct sockaddr *)&peer, &len)) {
		c->connecting = false;
		handshake_start(c);
		return;
	}
	len = sizeof(error);
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (!error)
		return;
	c->connecting = false;
	connect_failed(c, error);
}

static void connect_start(struct ssh_conn *c)
{
	if (!c->n_at && c->host->numeric) {
		c->at = malloc(sizeof(*c->at));
		if (!c->at) {
			conn_fail(c, ERR_MEMORY, "out of memory");
			return;
		}
		*c->at = c->host->at;
		set_port(c->at, conn_port(c));
		c->n_at = 1;
	}
	connect_next(c);
}

static void tunnel_check(struct ssh_conn *c)
{
	if (!c->tunnel)
		tunnel_start(c);
	else if (tunnel_is_open(c->tunnel))
		handshake_start(c);
}

/* ---- handshake and the host's key ---- */

static void host_key_check(struct ssh_conn *c)
{
	struct known_hosts *kh = c->settings->known_hosts;
	const char *host = ssh_host_address(c->host);
	enum known_hosts_verdict v;
	struct err why = {0};
	const char *key;
	size_t len = 0;

	key = libssh2_session_hostkey(c->session, &len, NULL);
	if (!key) {
		conn_fail(c, ERR_PROTOCOL, "the host showed no key");
		return;
	}
	v = known_hosts_check(kh, host, conn_port(c), key, len, &why);
	if (v == KNOWN_HOSTS_UNKNOWN && c->settings->checking == SSH_CHECK_ACCEPT_NEW)
		v = known_hosts_add(kh, host, conn_port(c), key, len, &why);
	/* `off` is about keys that are not known; a revoked one is known to be bad. */
	if (v == KNOWN_HOSTS_OK ||
	    (c->settings->checking == SSH_CHECK_OFF && v != KNOWN_HOSTS_REVOKED)) {
		end_step(c, METRIC_TIME_HANDSHAKE);
		c->phase = SSH_LOGIN;
		client_conn_reached(c);
		return;
	}
	conn_fail(c, ERR_REFUSED, "%s", why.message);
}

static void handshake(struct ssh_conn *c)
{
	int rc;

	CONN_CALL(c, rc, libssh2_session_handshake(c->session,
						   c->tunnel ? tunnel_fd(c->tunnel) : c->fd));
	if (c->guard.excess)
		return; /* the turn ends it */
	if (rc == 0) {
		c->phase = SSH_HOST_KEY;
		host_key_check(c);
	} else if (rc != LIBSSH2_ERROR_EAGAIN) {
		conn_fail_ssh(c, rc);
	}
}

/* Commands that end at the same time on one connection lose their exit status or output with dropbear
 * (2022.83: one in six, with OpenSSH's client, too). */
static void mind_server(struct ssh_conn *c)
{
	static const char dropbear[] = "SSH-2.0-dropbear";
	const char *banner = libssh2_session_banner_get(c->session);

	if (banner && !strncmp(banner, dropbear, sizeof(dropbear) - 1))
		c->limit = 1;
}

static void login(struct ssh_conn *c)
{
	if (c->early.cap && c->early_at == c->early.len) {
		buf_deinit(&c->early);
		c->early_at = 0;
	}
	if (conn_auth_step(c) != 0)
		return;
	conn_auth_free(c);
	end_step(c, METRIC_TIME_LOGIN);
	c->phase = SSH_READY;
	guard_useful(c);
	mind_server(c);
	client_conn_ready(c);
}

/* ---- turns ---- */

/* As far as it goes now. */
static void conn_advance(struct ssh_conn *c)
{
	if (c->phase == SSH_RESOLVE && !c->dns_asking) {
		if (c->host->numeric || c->host->jump)
			c->phase = SSH_CONNECT; /* a jump host looks names up itself */
		else
			resolve(c);
	}
	if (!c->closing && c->phase == SSH_CONNECT) {
		if (c->host->jump)
			tunnel_check(c);
		else if (c->connecting)
			connect_check(c);
		else
			connect_start(c);
	}
	if (!c->closing && c->phase == SSH_HANDSHAKE)
		handshake(c);
	if (!c->closing && c->phase == SSH_LOGIN)
		login(c);
	if (!c->closing && c->phase == SSH_READY) {
		if (c->lane)
			lane_step(c);
		else
			conn_exec_step(c);
	}
	guard_judge(c);
	if (!c->closing && c->eof)
		conn_fail_eof(c);
}

void conn_turn(struct ssh_conn *c)
{
	c->busy++;
	if (c->tunnel)
		c->drained = false; /* its bytes come with a kick */
	c->yielded = false;
	c->turn_bytes = 0;
	do {
		c->again = false;
		if (c->closing)
			conn_exec_fail(c);
		else
			conn_advance(c);
	} while (c->again && !c->closing);
	if (!c->closing && c->out.data && !conn_io_owe(c))
		conn_io_flush(c);
	if (c->guard.choked && !c->out.len)
		c->yielded = true; /* it is read again */
	if (c->out_full && c->out.len < SSH_OUT_MAX) {
		c->out_full = false;
		c->yielded = true; /* room for more input */
	}
	c->busy--;
	if (c->yielded && !c->closing)
		conn_kick(c);
	conn_settle(c);
}

/* An idle connection is not read: what a host sends unasked waits there until the next use. Only
 * its end matters. */
static void idle_event(struct ssh_conn *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK);

	if (c->hung_up || !n || (n < 0 && errno != EAGAIN && errno != EINTR))
		conn_close(c);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_conn *c = arg;

	(void)fd;
	if (what & (EV_READ | EV_CLOSED))
		c->drained = false;
	if (what & EV_CLOSED)
		c->hung_up = true;
	if (c->idle && !c->closing_chans)
		idle_event(c);
	else
		conn_turn(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_conn *c = arg;
	struct err err;

	(void)fd;
	(void)what;
	if (c->idle) {
		conn_close(c);
		return;
	}
	if (c->phase == SSH_RESOLVE) {
		conn_say_timeout(c, c->limit_ms / RESOLVE_SHARE, &err);
		conn_fail(c, err.code, "%s", err.message);
	} else if (c->connecting) {
		c->busy++;
		c->connecting = false;
		connect_failed(c, ETIMEDOUT);
		c->busy--;
		conn_kick(c);
	}
}

void conn_idle(struct ssh_conn *c)
{
	ssh_arm(&c->timer, c->settings->keep_ms);
}
