/* SPDX-License-Identifier: MIT */
/* http_listen: the listening sockets of a server: making them, accepting in batches, pausing when
 * there is no room. A listener belongs to its server. Loop thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "http_conn.h"
#include "log.h"

#define BACKLOG 1024
#define BATCH 64     /* connections accepted in one turn */
#define RETRY_MS 50  /* room may also come from elsewhere */

/* ---- accepting ---- */

void http_listen_pause(struct http_server *s)
{
	if (!s->paused)
		log_debug("http", "no room for more connections: accepting pauses");
	s->paused = true;
	for (struct http_listener *l = s->listeners; l; l = l->next)
		if (l->ev)
			event_del(l->ev);
	timer_set(&s->retry, RETRY_MS);
}

void http_listen_resume(struct http_server *s)
{
	if (!s->paused)
		return;
	s->paused = false;
	timer_stop(&s->retry);
	for (struct http_listener *l = s->listeners; l; l = l->next)
		if (l->ev)
			event_add(l->ev, NULL);
}

static void refuse(struct http_server *s, int fd, const char *why)
{
	s->counts.refused++;
	log_debug("http", "connection refused: %s", why);
	close(fd);
}

static void welcome(struct http_listener *l, int fd, const struct sockaddr *addr)
{
	struct http_server *s = l->server;
	struct http_peer *peer = NULL;

	s->counts.accepted++;
	if (!http_peers_loopback(addr) ||
	    (s->options.limit_loopback && addr->sa_family != AF_UNIX)) {
		peer = http_peers_take(&s->peers, addr, s->options.peer_connections);
		if (!peer) {
			refuse(s, fd, "this address has too many connections");
			return;
		}
	}
	if (!http_conn_new(l, fd, addr, peer))
		log_warn("http", "connection refused: out of memory");
}

/* accept4 failed; true: try the next one. */
static bool accept_failed(struct http_server *s)
{
	switch (errno) {
	case EAGAIN:
		return false;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		if (http_server_evict(s))
			return true;
		http_listen_pause(s);
		return false;
	default: /* that one connection broke before it was accepted */
		return true;
	}
}

static void accept_ready(evutil_socket_t listening, short what, void *arg)
{
	struct http_listener *l = arg;
	struct http_server *s = l->server;

	(void)what;
	for (int i = 0; i < BATCH && !s->paused; i++) {
		union {
			struct sockaddr any;
			struct sockaddr_storage room;
		} addr = { .any.sa_family = AF_UNSPEC };
		socklen_t len = sizeof(addr);
		int fd;

		if (s->counts.connections >= s->options.max_connections && !http_server_evict(s)) {
			http_listen_pause(s);
			break;
		}
		fd = accept4(listening, &addr.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (!accept_failed(s))
				break;
		} else if (fd >= s->fd_limit && !http_server_evict(s)) {
			refuse(s, fd, "descriptors are short");
			http_listen_pause(s);
		} else {
			welcome(l, fd, &addr.any);
		}
	}
}

/* ---- making a listener ---- */

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static int parse_port(const char *s, in_port_t *port)
{
	char *end;
	unsigned long n;

	if (!*s || s[strspn(s, "0123456789")])
		return -1;
	n = strtoul(s, &end, 10);
	if (n > 65535)
		return -1;
	*port = htons((in_port_t)n);
	return 0;
}

static int parse_unix(const char *path, union address *a, socklen_t *len, struct err *err)
{
	size_t n = strlen(path);

	if (!n || path[0] != '/' || n >= sizeof(a->un.sun_path))
		return err_set(err, ERR_INVALID,
			       "unix:%s: an absolute path of at most %zu bytes is expected", path,
			       sizeof(a->un.sun_path) - 1);
	a->un.sun_family = AF_UNIX;
	memcpy(a->un.sun_path, path, n + 1);
	*len = (socklen_t)sizeof(a->un);
	return 0;
}

/* Blocking; IPv4 is taken first. */
static int look_up(const char *name, in_port_t port, union address *a, socklen_t *len,
		   struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL, *best;
	int rc = getaddrinfo(name, NULL, &hints, &found);

	if (rc || !found)
		return err_set(err, ERR_INVALID, "cannot listen on %.100s: %s", name,
			       gai_strerror(rc ? rc : EAI_NONAME));
	best = found;
	for (struct addrinfo *i = found; i; i = i->ai_next)
		if (i->ai_family == AF_INET) {
			best = i;
			break;
		}
	memcpy(a, best->ai_addr, best->ai_addrlen);
	*len = best->ai_addrlen;
	if (a->any.sa_family == AF_INET)
		a->in.sin_port = port;
	else
		a->in6.sin6_port = port;
	freeaddrinfo(found);
	return 0;
}

static int parse_address(const char *text, union address *a, socklen_t *len, struct err *err)
{
	const char *colon = strrchr(text, ':');
	char host[256];
	size_t n = colon ? (size_t)(colon - text) : 0;
	in_port_t port;

	memset(a, 0, sizeof(*a));
	if (!strncmp(text, "unix:", 5))
		return parse_unix(text + 5, a, len, err);
	if (!n || n >= sizeof(host) || parse_port(colon + 1, &port))
		goto bad;
	snprintf(host, sizeof(host), "%.*s", (int)n, text);
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = port;
		*len = sizeof(a->in6);
		if (inet_pton(AF_INET6, host + 1, &a->in6.sin6_addr) == 1)
			return 0;
		goto bad;
	}
	a->in.sin_family = AF_INET;
	a->in.sin_port = port;
	*len = sizeof(a->in);
	if (!strcasecmp(host, "localhost"))
		strcpy(host, "127.0.0.1");
	if (inet_pton(AF_INET, host, &a->in.sin_addr) == 1)
		return 0;
	if (!strpbrk(host, ":[]/ \t") && host[strspn(host, "0123456789.")])
		return look_up(host, port, a, len, err);
bad:
	return err_set(err, ERR_INVALID,
		       "%.100s: ADDRESS:PORT, [ADDRESS]:PORT or unix:/PATH is expected", text);
}

/* A socket that its process left behind is taken away; one that somebody answers on is not. */
static int clear_path(const union address *a, struct err *err)
{
	const char *path = a->un.sun_path;
	struct stat st;
	int fd, rc;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_errno(err, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, ERR_REFUSED, "%s is there and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, "socket");
	rc = connect(fd, &a->any, sizeof(a->un));
	if (rc && errno == ECONNREFUSED && !unlink(path))
		rc = 0;
	else
		rc = err_set(err, ERR_REFUSED, "%s is in use", path);
	close(fd);
	return rc;
}

static int set_options(int fd, int family, struct err *err)
{
	const int on = 1, idle_s = 60;

	if (family == AF_UNIX) /* what bind makes has this mode from its first moment on */
		return fchmod(fd, 0600) ? err_errno(err, "fchmod") : 0;
	/* Accepted sockets inherit all but the first. A client whose machine has gone is noticed by the
	 * kernel when we have nothing to say to it. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		return err_errno(err, "setsockopt");
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)))
		return err_errno(err, "setsockopt");
	return 0;
}

static int open_socket(struct http_listener *l, const char *text, struct err *err)
{
	union address a;
	socklen_t len = 0;
	int rc = parse_address(text, &a, &len, err);

	if (!rc && a.any.sa_family == AF_UNIX)
		rc = clear_path(&a, err);
	if (rc)
		return rc;
	l->fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return err_errno(err, "%.100s: socket", text);
	rc = set_options(l->fd, a.any.sa_family, err);
	if (rc)
		return rc;
	if (bind(l->fd, &a.any, len))
		return err_errno(err, "cannot listen on %.100s", text);
	if (a.any.sa_family == AF_UNIX) {
		l->path = strdup(a.un.sun_path);
		return l->path ? 0 : err_set(err, ERR_MEMORY, "out of memory");
	}
	if (getsockname(l->fd, &a.any, &len))
		return err_errno(err, "getsockname");
	l->port = ntohs(a.any.sa_family == AF_INET ? a.in.sin_port : a.in6.sin6_port);
	return 0;
}

int http_server_listen(struct http_server *s, const char *address, const char *tag,
		       struct err *err)
{
	struct http_listener *l = calloc(1, sizeof(*l));
	int rc = -ERR_MEMORY;

	if (!l)
		return err_set(err, ERR_MEMORY, "out of memory");
	l->server = s;
	l->fd = -1;
	l->tag = strdup(tag ? tag : "");
	if (!l->tag) {
		err_set(err, ERR_MEMORY, "out of memory");
		goto fail;
	}
	rc = open_socket(l, address, err);
	if (rc)
		goto fail;
	if (listen(l->fd, BACKLOG)) {
		rc = err_errno(err, "cannot listen on %.100s", address);
		goto fail;
	}
	l->ev = event_new(loop_base(s->loop), l->fd, EV_READ | EV_PERSIST, accept_ready, l);
	if (!l->ev || (!s->paused && event_add(l->ev, NULL))) {
		rc = err_set(err, ERR_MEMORY, "out of memory");
		goto fail;
	}
	l->next = s->listeners;
	s->listeners = l;
	return 0;
fail:
	http_listen_free(l);
	return rc;
}

void http_listen_close(struct http_listener *l)
{
	if (l->ev)
		event_free(l->ev);
	l->ev = NULL;
	if (l->path && l->fd >= 0)
		unlink(l->path);
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

void http_listen_free(struct http_listener *l)
{
	http_listen_close(l);
	free(l->path);
	free(l->tag);
	free(l);
}
