/* SPDX-License-Identifier: MIT */
/* ssh_conn: what the files of the SSH client share, and no one else includes: the client of a
 * thread (ssh.c), a connection (ssh_conn.c, ssh_io.c, ssh_auth.c) and its channels (ssh_exec.c).
 *
 * Everything here belongs to one I/O thread. A connection is driven by conn_turn: from its socket's
 * event, from a timer, or from the client's list of kicked connections. Public functions never call
 * libssh2 themselves; they note what is wanted and kick the connection. So callbacks may call every
 * public function, and a connection is freed only at the end of its turn. */
#ifndef EXED_SSH_CONN_H
#define EXED_SSH_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <libssh2.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "buf.h"
#include "dns.h"
#include "known_hosts.h"
#include "ssh.h"
#include "ssh_agent.h"
#include "ssh_keys.h"
#include "ssh_pace.h"

/* Bytes read from one connection before the others of the thread get their turn. */
#define SSH_TURN_MAX (256u * 1024u)
/* The window a channel opens with. With SSH_READ_SIZE on top it bounds what one command can make us
 * hold: 128 KiB. */
#define SSH_WINDOW (112u * 1024u)
#define SSH_READ_SIZE (16u * 1024u)
/* Of a file, at once: what libssh2 puts into one packet. */
#define SSH_SEND_SIZE (32u * 1024u)
/* What may wait to be sent on a connection before stdin is not read further. */
#define SSH_OUT_MAX (64u * 1024u)
/* A connection with a running command that hears nothing for this long asks, and after this many
 * unanswered times is given up. */
#define SSH_ALIVE_MS 15000
#define SSH_ALIVE_TRIES 4
/* What an idle connection still has to say, the close of a channel that the host has closed already, waits so
 * long to go out with the next command, if it is no longer than this. */
#define SSH_OWE_MS 1000
#define SSH_OWE_MAX 128u
/* A session that lives longer than this gives back the memory that it does not use. */
#define SSH_TRIM_MS 200
/* Addresses of one name that are tried. */
#define SSH_ADDRESSES 8
#define SSH_BUCKETS 1024u

union ssh_address {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};

struct ssh_host {
	atomic_uint refs;
	char *name, *address, *user, *key, *password, *fence_dir, *become_user, *become_password;
	struct ssh_host *jump; /* through which it is reached, or NULL */
	struct ssh_become become; /* its user is NULL for none */
	int port;
	bool raw;
	unsigned hash;
	bool numeric; /* `at` is the address, but for a port that comes from the settings */
	union ssh_address at;
};

struct ssh_named_key {
	struct ssh_named_key *next;
	char *path;
	struct ssh_key *key; /* NULL: it could not be read, err says why */
	struct err err;
};

struct ssh_settings {
	atomic_uint refs;
	char *user;
	int port;
	struct ssh_key **keys; /* NULL-terminated */
	char *passphrase;
	char *agent; /* NULL: none */
	char *resolver; /* NULL: those of resolv.conf */
	struct known_hosts *known_hosts;
	enum ssh_checking checking;
	int64_t connect_timeout_ms, keep_ms;
	unsigned max_connections, max_sessions;
	pthread_mutex_t lock; /* guards named */
	struct ssh_named_key *named; /* keys of single hosts, read at their first use */
};

/* The key of a path that a host names, read at its first use and kept. Borrowed from the
 * settings. */
struct ssh_key *ssh_settings_key(struct ssh_settings *s, const char *path, struct err *err);

const char *ssh_host_address(const struct ssh_host *h);
/* Whether a connection made for a serves b. */
bool ssh_host_same(const struct ssh_host *a, const struct ssh_host *b);

struct ssh_conn;
struct ssh_exec;
struct ssh_auth;
struct ssh_tunnel;

TAILQ_HEAD(ssh_conns, ssh_conn);
TAILQ_HEAD(ssh_uses, ssh_use);
TAILQ_HEAD(ssh_execs, ssh_exec);
TAILQ_HEAD(ssh_tunnels, ssh_tunnel);

struct ssh_client {
	struct event_base *base;
	unsigned threads; /* that share max_connections */
	int alive_ms;     /* SSH_ALIVE_MS; tests have less patience */
	struct ssh_conns buckets[SSH_BUCKETS]; /* by hash of the host */
	struct ssh_conns idle;    /* oldest first */
	struct ssh_conns waiting; /* for a place in max_connections, first come first served */
	struct ssh_pace pace;     /* how many may be under way */
	struct event still;       /* asks again, though none has ended */
	struct ssh_conns kicked;  /* want a turn */
	struct ssh_conns thick;   /* sessions whose memory has not been trimmed yet, oldest first */
	struct event trim;        /* looks after thick */
	struct ssh_conns owing;   /* idle ones with something to send, oldest first */
	struct event pay;         /* looks after owing */
	struct ssh_uses late;     /* uses of ready connections that have to be told so */
	struct event soon;        /* runs kicked and late */
	struct ssh_client_counts counts;
	struct ssh_use *telling;  /* whose callback runs; NULL once it ended itself */
	unsigned uses;
	bool soon_set, stopping, ended;
	struct dns *dns;
	struct ssh_agent *agent;
	struct buf out;  /* lent to the connection whose turn it is */
	char *read_buf;  /* SSH_READ_SIZE: output on its way to the callback */
	char *send_buf;  /* SSH_SEND_SIZE: of a file on its way to a host; NULL until one is sent */
};

/* For tests and for ssh_client_of: a client on a base, which shares max_connections with others. */
struct ssh_client *ssh_client_new(struct event_base *base, unsigned threads);
/* Ends every use and command of it, and closes its connections. */
void ssh_client_free(struct ssh_client *c);

struct ssh_use {
	TAILQ_ENTRY(ssh_use) link; /* in conn->uses */
	TAILQ_ENTRY(ssh_use) late_link;
	struct ssh_conn *conn;
	const struct ssh_use_ops *ops;
	void *arg;
	struct event timer;
	int64_t limit_ms;
	bool reached, ready, late, warm;
	unsigned execs; /* running on it */
};

/* What a host has cost so far: ssh_guard.c. */
struct ssh_guard {
	const char *excess; /* what it does too much of: "the host ..."; ends the connection */
	uint64_t received, useless; /* bytes in all; since the last that were of use */
	int64_t useful_ms;
	size_t before;   /* bytes up to the end of the banner */
	char line[16];   /* the beginning of the present line before it; then of the banner */
	unsigned at;
	bool greeted;    /* its banner has come */
	bool choked;     /* not read, until it takes what we have sent */
	size_t held;     /* bytes that libssh2 has allocated */
	unsigned offers; /* of key exchanges, theirs and ours */
};

struct ssh_conn {
	TAILQ_ENTRY(ssh_conn) bucket_link, idle_link, kick_link, thick_link, owing_link;
	struct ssh_client *client;
	struct ssh_host *host;
	struct ssh_settings *settings;
	struct ssh_uses uses;

	enum ssh_phase phase;
	bool waiting;   /* for a place; nothing of it exists yet */
	bool counted;   /* has a place */
	bool idle, kicked, thick, owing;
	int64_t born_ms, owing_ms;
	int64_t step_us; /* when the current part of being made began (loop_tick_us) */
	struct ssh_login login;
	bool keep;      /* false: some use did not want it kept */
	bool closing;   /* broken or not needed: freed when its turn ends and nobody uses it */
	bool gone;      /* closed and out of all lists; only uses still hold it */
	struct err err; /* why, once closing */
	int busy;       /* turns it is in */

	int64_t limit_ms; /* to the end of login, of the use it is made for */

	/* ssh_conn.c: addresses */
	struct evdns_getaddrinfo_request *dns;
	bool dns_asking; /* inside evdns_getaddrinfo, which may answer at once */
	union ssh_address *at;
	unsigned n_at, next_at;
	bool connecting;
	struct event timer; /* one address's share of the time; idle: when it is dropped */

	/* ssh_io.c: bytes */
	int fd;
	struct event ev;
	bool starved;   /* libssh2 was told that there is nothing to read */
	bool drained;   /* nothing to read until the socket says so */
	bool hung_up;   /* the other side has closed: read on to its end */
	bool eof;       /* nothing more comes: what is there is handed on, then the turn ends it */
	bool farewell;  /* the host said so itself */
	bool yielded;   /* more to read, in a later turn */
	bool again;     /* something changed: go over the channels once more */
	bool dead;      /* the socket is not read or written any more */
	bool heard;     /* something came since the last look */
	int io_errno;
	int send_errno; /* sending has failed: once all is read, this is its end */
	size_t turn_bytes;
	struct ssh_guard guard;
	struct buf early; /* the first bytes, until the end of the handshake */
	size_t early_at;
	struct buf out;

	LIBSSH2_SESSION *session;
	LIST_HEAD(, block) blocks; /* what libssh2 has allocated */
	struct ssh_auth *auth;

	/* ssh_exec.c: channels */
	struct ssh_execs execs;  /* of all uses, oldest first */
	struct ssh_exec *opening; /* libssh2 opens one at a time */
	bool opening_orphan;      /* whoever wanted the channel is gone */
	struct ssh_exec *requesting; /* libssh2 mixes up the answers to two exec requests */
	bool stuck;               /* an exec request was never answered: no other can be sent */
	struct ssh_chan *closing_chans;
	unsigned channels;        /* open, opening or closing */
	unsigned limit;           /* of this host, lowered when it refuses */
	uint32_t opened_id;       /* libssh2's number of the channel that was opened last */
	struct event alive;
	unsigned quiet;           /* looks in a row that heard nothing */
	bool held;                /* the host refused its only channel: not before `retry` */
	bool alone;               /* a kill counts on it that no other command starts: ssh_kill.c */
	bool let_go;              /* a command was left running on it that may bear no op id */
	bool out_full;            /* input waits for `out` to be sent */
	struct event retry;
	struct event open_limit;  /* for the channel that is being opened */

	/* ssh_tunnel.c: in place of fd, for a host behind a jump host */
	struct ssh_tunnel *tunnel;

	/* ssh_lane.c: a connection to a jump host, for tunnels only */
	bool lane;
	struct ssh_tunnels tunnels; /* that wait for their turn or are open */
	struct ssh_tunnel *opening_tunnel;
	unsigned refusal;           /* why the last one was not opened: RFC 4254, 5.1 */
	char refusal_text[96];
	struct event more;          /* one more lane, when some wait for long */
	struct event again_soon;    /* held is over */
};

/* (Re)starts a timer. */
static inline void ssh_arm(struct event *ev, int64_t ms)
{
	const struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	/* Without memory for it: a limit that comes early is better than none. */
	if (event_add(ev, &tv))
		event_active(ev, EV_TIMEOUT, 0);
}

/* ---- ssh_conn.c ---- */

struct ssh_conn *conn_new(struct ssh_client *c, struct ssh_host *h, struct ssh_settings *s);
void conn_start(struct ssh_conn *c);   /* goes out to the host; c has a place */
void conn_kick(struct ssh_conn *c);    /* a turn soon, or one more round of this one */
void conn_turn(struct ssh_conn *c);
/* Broken: err goes to every use that waits and every command that runs. Freed at the end of the
 * turn. */
void conn_fail(struct ssh_conn *c, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int conn_port(const struct ssh_conn *c);
void conn_idle(struct ssh_conn *c);    /* nobody uses it: drops it after `keep` */
void conn_close(struct ssh_conn *c);   /* not needed any more */
void conn_settle(struct ssh_conn *c);  /* frees it when it is closing and nobody needs it */

/* ---- ssh.c, called by ssh_conn.c ---- */

void client_conn_reached(struct ssh_conn *c);
void client_conn_ready(struct ssh_conn *c);
void client_conn_failed(struct ssh_conn *c); /* with c->err */
void client_conn_gone(struct ssh_conn *c);   /* takes it out of all lists, gives its place back */
void client_conn_thick(struct ssh_conn *c);  /* has a new session */
void client_soon(struct ssh_client *c);
/* As ssh_use_start, for a lane: it takes its place at once, for those that wait for it have theirs.
 * more: one that is not there yet. */
struct ssh_use *client_lane_use(struct ssh_client *c, struct ssh_host *h, struct ssh_settings *s,
				int64_t limit_ms, bool more, const struct ssh_use_ops *ops,
				void *arg);
/* The lanes to the same jump host, itself among them, that are not closing: the one after `last`,
 * the first for NULL; NULL at the end. */
struct ssh_conn *client_lane_next(struct ssh_conn *lane, struct ssh_conn *last);
void client_use_move(struct ssh_use *u, struct ssh_conn *to); /* a ready one to a ready connection */
/* Made at the first name, with the servers that the settings name; NULL: out of memory. */
struct evdns_base *client_dns(struct ssh_client *c, const struct ssh_settings *s);
struct ssh_agent *client_agent(struct ssh_client *c, const char *path);

/* ---- ssh_io.c ---- */

int conn_io_open(struct ssh_conn *c);   /* session and preferences for the connected socket */
void conn_io_close(struct ssh_conn *c); /* says goodbye, frees the session, closes the socket */
void conn_io_sent(struct ssh_conn *c, size_t n); /* n bytes of c->out are on their way */
void conn_io_flush(struct ssh_conn *c); /* sends what libssh2 wrote; broken: sets send_errno */
/* Whether what c has to send may wait (SSH_OWE_MS): then it is seen to. */
bool conn_io_owe(struct ssh_conn *c);
void conn_io_paid(struct ssh_conn *c);  /* nothing waits any more */
void client_io_init(struct ssh_client *c);
void conn_io_trim(struct ssh_conn *c);  /* gives back the session's untouched pages */
void *conn_io_alloc(struct ssh_conn *c, size_t n); /* memory that libssh2 will free */
/* Repeats a libssh2 call until it is done or really has to wait: it may say EAGAIN although it
 * was not told that there is nothing to read, and would then never be called again. */
#define CONN_CALL(c, rc, call)                                                                     \
	do {                                                                                       \
		int tries_left = 64;                                                               \
		do {                                                                               \
			(c)->starved = false;                                                      \
			(rc) = (call);                                                             \
		} while ((rc) == LIBSSH2_ERROR_EAGAIN && !(c)->starved && --tries_left);           \
	} while (0)
extern const char *const ssh_methods_kex, *const ssh_methods_cipher, *const ssh_methods_mac;

/* ---- ssh_guard.c: bounds on what a host costs ---- */

bool guard_may_read(struct ssh_conn *c);
void guard_got(struct ssh_conn *c, const char *data, size_t n); /* n bytes that were read */
void guard_useful(struct ssh_conn *c); /* something came that was waited for */
/* A packet of n bytes or more, which libssh2 frees after its use. */
void guard_freed(struct ssh_conn *c, const unsigned char *packet, size_t n);
void guard_judge(struct ssh_conn *c); /* ends the connection when there is an excess */

/* ---- ssh_say.c: messages for people ---- */

/* Whether a libssh2 call says no more than that nothing comes any more. Other calls of the turn may still
 * find what came before. */
static inline bool conn_is_over(const struct ssh_conn *c, int rc)
{
	return c->eof && (rc == LIBSSH2_ERROR_SOCKET_DISCONNECT ||
			  rc == LIBSSH2_ERROR_BAD_USE /* a request that failed so before */);
}
/* conn_fail for a libssh2 call that failed: closed, reset, no common algorithm, or libssh2's
 * text. */
void conn_fail_ssh(struct ssh_conn *c, int rc);
/* conn_fail for a socket that ended (c->eof). */
void conn_fail_eof(struct ssh_conn *c);
/* The message for a use whose limit passed in the phase that c is in. */
void conn_say_timeout(const struct ssh_conn *c, int64_t limit_ms, struct err *err);
/* "10.0.0.7:22", "[::1]:2222" */
void conn_say_address(const union ssh_address *at, char *out, size_t cap);
const char *conn_say_errno(int e); /* "connection refused", "no route to the host" */

/* ---- ssh_auth.c ---- */

/* One step of the login: LIBSSH2_ERROR_EAGAIN, 0 when logged in, else negative and conn_fail was
 * called. */
int conn_auth_step(struct ssh_conn *c);
void conn_auth_free(struct ssh_conn *c);
/* The host refused what was tried (a USERAUTH_FAILURE that libssh2 has done with): it says what it
 * would take. */
void conn_auth_packet(struct ssh_conn *c, const unsigned char *packet, size_t n);
/* "tried id_ed25519, agent:me@here", or that there was none. */
void conn_auth_tried(const struct ssh_conn *c, char *out, size_t cap);

/* ---- ssh_exec.c, ssh_channel.c ---- */

void conn_exec_init(struct ssh_conn *c);
void conn_exec_step(struct ssh_conn *c);  /* every channel that can go on */
void conn_exec_fail(struct ssh_conn *c);  /* ends every command with c->err */
void conn_exec_stop(struct ssh_conn *c);  /* forgets its channels; before the session goes */
/* A packet that libssh2 has done with: type 91 (channel opened) or 98 (channel request). */
void conn_exec_packet(struct ssh_conn *c, const unsigned char *packet, size_t n);

#endif
