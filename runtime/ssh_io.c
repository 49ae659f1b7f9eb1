/* SPDX-License-Identifier: MIT */
/* ssh_io: the bytes of a connection, between its socket and libssh2, and libssh2's session itself.
 *
 * libssh2 gets its own send and receive functions. Sending always succeeds for it: the bytes go to
 * c->out and are sent once at the end of the turn, so that packets written in one turn share one
 * system call, and no libssh2 call is ever stuck half-way through a packet. What an idle connection has left
 * to say goes with the next command, when there is one soon. Receiving says EAGAIN
 * also at the end of the stream: what came before it is worked off first, then conn_turn looks at
 * c->eof. One I/O thread. */
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"
#include "ssh_tunnel.h"

/* Room for the host's banner and its key exchange offer: kept for messages, and read at one go
 * although libssh2 asks for the banner byte by byte. */
#define EARLY_SIZE 4096u

/* Cheapest first where both sides have them; no SHA-1, no CBC, no DSA. Names that this libssh2 does
 * not know it leaves out by itself. A whole connection and login takes a fifth less over nistp256 than
 * over curve25519, if libssh2 is patched as ours is (tools/libssh2-ecdh.patch); one that is not takes a
 * tenth more, and 1.11.1 loses 2 KB of memory at each exchange over a NIST curve. */
#ifdef LIBSSH2_NIST_CHEAP
#define KEX_FIRST "ecdh-sha2-nistp256,curve25519-sha256,curve25519-sha256@libssh.org"
#else
#define KEX_FIRST "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256"
#endif
const char *const ssh_methods_kex =
	KEX_FIRST ",ecdh-sha2-nistp384,ecdh-sha2-nistp521,"
		  "diffie-hellman-group14-sha256,diffie-hellman-group16-sha512,"
		  "diffie-hellman-group18-sha512,diffie-hellman-group-exchange-sha256";
const char *const ssh_methods_cipher =
	"aes128-gcm@openssh.com,aes128-ctr,aes256-gcm@openssh.com,aes256-ctr,aes192-ctr,"
	"chacha20-poly1305@openssh.com";
const char *const ssh_methods_mac =
	"hmac-sha2-256-etm@openssh.com,hmac-sha2-256,hmac-sha2-512-etm@openssh.com,hmac-sha2-512";

static const struct {
	unsigned type;
	const char *methods;
} host_keys[] = {
	{KNOWN_HOSTS_ECDSA_256, "ecdsa-sha2-nistp256"},
	{KNOWN_HOSTS_ED25519, "ssh-ed25519"},
	{KNOWN_HOSTS_RSA, "rsa-sha2-256,rsa-sha2-512"},
	{KNOWN_HOSTS_ECDSA_384, "ecdsa-sha2-nistp384"},
	{KNOWN_HOSTS_ECDSA_521, "ecdsa-sha2-nistp521"},
};

/* ---- what libssh2 calls ---- */

/* Everything that libssh2 allocates for a session is kept in a list and freed with it: some
 * versions forget keys of unused MACs, and a session that cannot be freed in the usual way
 * leaves nothing. */
struct block {
	LIST_ENTRY(block) link;
	max_align_t data[];
};

static LIBSSH2_ALLOC_FUNC(io_alloc)
{
	struct ssh_conn *c = *abstract;
	struct block *b = malloc(sizeof(*b) + count);

	if (!b)
		return NULL;
	c->guard.held += malloc_usable_size(b);
	LIST_INSERT_HEAD(&c->blocks, b, link);
	return b->data;
}

static LIBSSH2_REALLOC_FUNC(io_realloc)
{
	struct ssh_conn *c = *abstract;
	struct block *b;

	if (!ptr)
		return io_alloc(count, abstract);
	b = (struct block *)((char *)ptr - sizeof(*b));
	LIST_REMOVE(b, link);
	c->guard.held -= malloc_usable_size(b);
	ptr = realloc(b, sizeof(*b) + count);
	if (ptr)
		b = ptr;
	c->guard.held += malloc_usable_size(b);
	LIST_INSERT_HEAD(&c->blocks, b, link);
	return ptr ? b->data : NULL;
}

/* libssh2 has no way to ask whether an exit status has come (0 is also its value before), nor
 * which number a channel has. Both stand in packets that it frees after use, unchanged: they are
 * read here on their way out. */
static LIBSSH2_FREE_FUNC(io_free)
{
	struct ssh_conn *c = *abstract;
	const unsigned char *packet = ptr;
	struct block *b;

	if (!ptr)
		return;
	b = (struct block *)((char *)ptr - sizeof(*b));
	c->guard.held -= malloc_usable_size(b);
	if (c->phase == SSH_READY && *packet == 20)
		guard_freed(c, packet, malloc_usable_size(b) - sizeof(*b));
	if (c->phase == SSH_READY && (*packet == 91 || *packet == 92 || *packet == 98)) {
		size_t n = malloc_usable_size(b) - sizeof(*b);

		if (n >= 17 && *packet != 92)
			conn_exec_packet(c, packet, n);
		else if (n >= 17 && c->opening_tunnel)
			lane_packet(c, packet, n);
	}
	if (c->phase == SSH_LOGIN && *packet == 51)
		conn_auth_packet(c, packet, malloc_usable_size(b) - sizeof(*b));
	LIST_REMOVE(b, link);
	free(b);
}

void *conn_io_alloc(struct ssh_conn *c, size_t n)
{
	void *abstract = c;

	return io_alloc(n, &abstract);
}

static ssize_t starve(struct ssh_conn *c)
{
	c->starved = true;
	return -EAGAIN;
}

/* One recv. A short one means that the socket (or tunnel) is empty, unless the other side has closed. */
static ssize_t io_read(struct ssh_conn *c, void *data, size_t n)
{
	ssize_t got;

	if (c->drained || c->eof || !guard_may_read(c))
		return starve(c);
	if (c->turn_bytes > SSH_TURN_MAX) {
		c->yielded = true;
		return starve(c);
	}
	do
		got = c->tunnel ? tunnel_recv(c->tunnel, data, n) : recv(c->fd, data, n, 0);
	while (got < 0 && errno == EINTR);
	if (got > 0) {
		c->turn_bytes += (size_t)got;
		c->heard = true;
		c->drained = (size_t)got < n && !c->hung_up && !c->send_errno;
		guard_got(c, data, (size_t)got);
		return got;
	}
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		c->drained = true;
		if (!c->send_errno)
			return starve(c);
		errno = c->send_errno;
	}
	c->eof = true;
	c->io_errno = got < 0 ? errno : 0;
	return starve(c);
}

static LIBSSH2_RECV_FUNC(io_recv)
{
	struct ssh_conn *c = *abstract;
	size_t have = c->early.len - c->early_at;

	(void)socket;
	(void)flags;
	if (c->dead)
		return 0;
	if (c->guard.excess)
		return starve(c); /* conn_turn ends it */
	if (!have && c->early.len < c->early.cap) {
		ssize_t got = io_read(c, c->early.data + c->early.len,
				      c->early.cap - c->early.len);

		if (got < 0)
			return got;
		c->early.len += (size_t)got;
		have = (size_t)got;
	}
	if (!have)
		return io_read(c, buffer, length);
	if (length > have)
		length = have;
	memcpy(buffer, c->early.data + c->early_at, length);
	c->early_at += length;
	return (ssize_t)length;
}

static LIBSSH2_SEND_FUNC(io_send)
{
	struct ssh_conn *c = *abstract;

	(void)socket;
	(void)flags;
	if (c->dead || c->eof)
		return (ssize_t)length;
	if (!c->out.data) {
		c->out = c->client->out;
		memset(&c->client->out, 0, sizeof(c->client->out));
	}
	buf_add(&c->out, buffer, length);
	return c->out.failed ? -ENOMEM : (ssize_t)length;
}

/* The host ends the connection: the end of the stream, though its socket may stay open. */
static LIBSSH2_DISCONNECT_FUNC(io_disconnect)
{
	struct ssh_conn *c = *abstract;

	(void)session;
	(void)reason;
	(void)message;
	(void)message_len;
	(void)language;
	(void)language_len;
	c->eof = c->farewell = true;
}

/* ---- for the connection ---- */

void conn_io_sent(struct ssh_conn *c, size_t n)
{
	buf_drop(&c->out, n);
	if (c->out.len || !c->out.data)
		return;
	if (c->client->out.data) {
		buf_deinit(&c->out);
	} else {
		c->client->out = c->out;
		memset(&c->out, 0, sizeof(c->out));
	}
}

void conn_io_flush(struct ssh_conn *c)
{
	size_t sent = 0;
	ssize_t n;

	conn_io_paid(c);
	if (c->tunnel && c->out.len) {
		tunnel_send(c->tunnel);
		return;
	}
	while (sent < c->out.len) {
		n = send(c->fd, c->out.data + sent, c->out.len - sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
			/* What came before the break is found by reading, now and not at an event: there
			 * is none when only sending fails. */
			sent = c->out.len;
			c->send_errno = errno;
			c->drained = false;
			c->yielded = true;
		}
		if (n < 0)
			break;
		sent += (size_t)n;
	}
	conn_io_sent(c, sent);
}

static void pay_arm(struct ssh_client *client)
{
	if (!TAILQ_EMPTY(&client->owing) && !event_pending(&client->pay, EV_TIMEOUT, NULL))
		ssh_arm(&client->pay, SSH_OWE_MS);
}

static void on_pay(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_client *client = arg;
	int64_t now = loop_now_ms();
	struct ssh_conn *c;

	(void)fd;
	(void)what;
	while ((c = TAILQ_FIRST(&client->owing)) && now - c->owing_ms >= SSH_OWE_MS)
		conn_io_flush(c);
	pay_arm(client);
}

void client_io_init(struct ssh_client *client)
{
	TAILQ_INIT(&client->owing);
	evtimer_assign(&client->pay, client->base, on_pay, client);
}

/* A packet of its own is a third of those of a command, and wakes the host once more. A host that takes only one
 * channel gets the close at once: it may need a moment before it takes the next. */
bool conn_io_owe(struct ssh_conn *c)
{
	struct buf own = {0};

	if (!c->idle || c->tunnel || c->lane || c->closing_chans || c->limit < 2 ||
	    c->out.len > SSH_OWE_MAX)
		return false;
	if (c->owing)
		return true;
	if (buf_reserve(&own, SSH_OWE_MAX))
		return false;
	buf_add(&own, c->out.data, c->out.len);
	conn_io_sent(c, c->out.len); /* the buffer is lent */
	c->out = own;
	c->owing = true;
	c->owing_ms = loop_now_ms();
	TAILQ_INSERT_TAIL(&c->client->owing, c, owing_link);
	pay_arm(c->client);
	return true;
}

void conn_io_paid(struct ssh_conn *c)
{
	if (c->owing)
		TAILQ_REMOVE(&c->client->owing, c, owing_link);
	c->owing = false;
}

/* A session is 80 KB, most of it two packet buffers of which little is ever used, and libssh2 has
 * written zeros over all of it. A page of zeros can be given back: private memory reads as zeros
 * again when it is touched next (madvise(2), MADV_DONTNEED). */
void conn_io_trim(struct ssh_conn *c)
{
	static const char zeros[4096];
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at, end;

	if (!c->session || page != sizeof(zeros))
		return;
	at = ((uintptr_t)c->session + page - 1) & ~(page - 1);
	end = (uintptr_t)c->session - sizeof(struct block);
	end += malloc_usable_size((void *)end);
	while (at + page <= end) {
		uintptr_t from = at;

		for (; at + page <= end && !memcmp((const void *)at, zeros, page); at += page)
			;
		if (at > from)
			madvise((void *)from, at - from, MADV_DONTNEED);
		else
			at += page;
	}
}

/* The types that are known for the host come first: with another one it would look unknown. */
static int prefer_host_keys(struct ssh_conn *c, unsigned known)
{
	struct buf b = {0};
	int rc = LIBSSH2_ERROR_ALLOC;

	for (int want = 1; want >= 0; want--)
		for (size_t i = 0; i < sizeof(host_keys) / sizeof(*host_keys); i++)
			if (!!(known & host_keys[i].type) == want)
				buf_printf(&b, "%s%s", b.len ? "," : "", host_keys[i].methods);
	if (buf_str(&b))
		rc = libssh2_session_method_pref(c->session, LIBSSH2_METHOD_HOSTKEY, b.data);
	buf_deinit(&b);
	return rc;
}

int conn_io_open(struct ssh_conn *c)
{
	const struct {
		int method;
		const char *names;
	} prefer[] = {
		{LIBSSH2_METHOD_KEX, ssh_methods_kex},
		{LIBSSH2_METHOD_CRYPT_CS, ssh_methods_cipher},
		{LIBSSH2_METHOD_CRYPT_SC, ssh_methods_cipher},
		{LIBSSH2_METHOD_MAC_CS, ssh_methods_mac},
		{LIBSSH2_METHOD_MAC_SC, ssh_methods_mac},
	};
	unsigned known = 0;
	int rc = 0;

	c->session = libssh2_session_init_ex(io_alloc, io_free, io_realloc, c);
	if (!c->session || buf_reserve(&c->early, EARLY_SIZE))
		return -ERR_MEMORY;
#if LIBSSH2_VERSION_NUM >= 0x010b01
	libssh2_session_callback_set2(c->session, LIBSSH2_CALLBACK_RECV,
				      (libssh2_cb_generic *)io_recv);
	libssh2_session_callback_set2(c->session, LIBSSH2_CALLBACK_SEND,
				      (libssh2_cb_generic *)io_send);
	libssh2_session_callback_set2(c->session, LIBSSH2_CALLBACK_DISCONNECT,
				      (libssh2_cb_generic *)io_disconnect);
#else
	libssh2_session_callback_set(c->session, LIBSSH2_CALLBACK_RECV, (void *)io_recv);
	libssh2_session_callback_set(c->session, LIBSSH2_CALLBACK_SEND, (void *)io_send);
	libssh2_session_callback_set(c->session, LIBSSH2_CALLBACK_DISCONNECT, (void *)io_disconnect);
#endif
	libssh2_session_set_blocking(c->session, 0);
	client_conn_thick(c);
	if (c->settings->checking != SSH_CHECK_OFF)
		known = known_hosts_types(c->settings->known_hosts, ssh_host_address(c->host),
					  conn_port(c));
	for (size_t i = 0; !rc && i < sizeof(prefer) / sizeof(*prefer); i++)
		rc = libssh2_session_method_pref(c->session, prefer[i].method, prefer[i].names);
	if (!rc)
		rc = prefer_host_keys(c, known);
	return rc ? -ERR_SYSTEM : 0;
}

void conn_io_close(struct ssh_conn *c)
{
	struct block *b;

	if (c->session && c->phase >= SSH_LOGIN && !c->eof) {
		libssh2_session_disconnect(c->session, "done");
		conn_io_flush(c);
	}
	c->dead = true; /* libssh2 waits for no answer any more */
	if (c->session) {
		/* EAGAIN here would only mean that it waits for the close of a channel. */
		for (int i = 0; i < 64 && libssh2_session_free(c->session); i++)
			;
		c->session = NULL;
	}
	while ((b = LIST_FIRST(&c->blocks))) {
		LIST_REMOVE(b, link);
		free(b);
	}
	if (c->fd >= 0) {
		event_del(&c->ev);
		close(c->fd);
		c->fd = -1;
	}
	conn_io_paid(c);
	tunnel_drop(c);
	buf_deinit(&c->early);
	buf_deinit(&c->out);
}
