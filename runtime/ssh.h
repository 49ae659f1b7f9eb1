/* SPDX-License-Identifier: MIT */
/* ssh: connections to hosts and commands on them, over libssh2, asynchronously.
 *
 * Two kinds of data cross threads, both immutable once made and counted atomically: struct ssh_host
 * (whom to reach) and struct ssh_settings (how). Everything else belongs to one I/O thread and is
 * called on it only. A host is always served by the same thread (ssh_host_hash), so that its warm
 * connection is found again. */
#ifndef EXED_SSH_H
#define EXED_SSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>

#include "err.h"
#include "pool.h"

struct content;
struct loop;

/* ---- whom and how: any thread ---- */

struct ssh_host;

struct ssh_host_spec {
	const char *name;    /* in the inventory; for messages */
	const char *address; /* IPv4, IPv6 or a name; NULL: name */
	int port;            /* 0: the settings' port */
	const char *user;    /* NULL: the settings' user */
	const char *key;     /* identity file; NULL: the settings' keys and the agent */
	const char *password; /* for the login, tried after the keys; NULL: none */
	bool raw;            /* exed_shell = raw: bytes as given, no EXED_OP, no verified kill */
	const char *fence_dir; /* directory of the fences there; NULL: the plan's */
	const char *become;    /* who runs commands there, by sudo; NULL: who logs in */
	const char *become_password; /* for sudo; NULL: it asks for none */
	struct ssh_host *jump; /* through which it is reached; NULL: directly. A reference is taken */
};
/* Copies everything else. NULL when memory is out. */
struct ssh_host *ssh_host_new(const struct ssh_host_spec *spec);
struct ssh_host *ssh_host_ref(struct ssh_host *h);
void ssh_host_unref(struct ssh_host *h);
unsigned ssh_host_hash(const struct ssh_host *h);
const char *ssh_host_name(const struct ssh_host *h);
bool ssh_host_raw(const struct ssh_host *h);
const char *ssh_host_fence_dir(const struct ssh_host *h); /* or NULL */

struct ssh_become { const char *user, *password; }; /* password NULL: none is needed */
/* Valid as long as h; NULL when commands run as who logs in. */
const struct ssh_become *ssh_host_become(const struct ssh_host *h);

enum ssh_checking { SSH_CHECK_STRICT, SSH_CHECK_ACCEPT_NEW, SSH_CHECK_OFF };

struct ssh_options { /* [ssh] of the configuration; strings are copied */
	const char *user;             /* NULL: the user exed runs as */
	int port;                     /* 22 */
	const char *const *keys;      /* identity files, NULL-terminated; NULL: ~/.ssh/id_* */
	const char *key_passphrase_file; /* its first line opens encrypted keys; NULL: none */
	const char *agent;            /* socket of ssh-agent; NULL: $SSH_AUTH_SOCK; "": none */
	const char *resolver;         /* name servers, as dns_new takes them; NULL: resolv.conf's */
	const char *known_hosts;      /* NULL: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts */
	enum ssh_checking checking;
	int64_t connect_timeout_ms;   /* to the end of login */
	int64_t keep_ms;              /* how long an idle connection is kept; 0: not */
	unsigned max_connections;     /* on this node, idle ones included */
	unsigned max_sessions;        /* channels of one connection */
};

struct ssh_settings;
/* Reads and decrypts keys and parses known_hosts, here and never again. A default key that is
 * missing is no error; one that was named is, with its path. Blocking (files, key decryption):
 * at start and reload. */
struct ssh_settings *ssh_settings_new(const struct ssh_options *o, struct err *err);
struct ssh_settings *ssh_settings_ref(struct ssh_settings *s);
void ssh_settings_unref(struct ssh_settings *s);

/* ---- connections: on the host's I/O thread ---- */

/* The client of a thread, made at its first use; ends with the thread. NULL when memory is out. */
struct ssh_client *ssh_client_of(struct io *io);

struct ssh_use; /* one caller's use of a connection */

enum ssh_phase { SSH_RESOLVE, SSH_CONNECT, SSH_HANDSHAKE, SSH_HOST_KEY, SSH_LOGIN, SSH_READY };
const char *ssh_phase_name(enum ssh_phase p); /* "resolve", "connect", ... */

/* Exactly one of ready and failed is called, never from inside ssh_use_start. */
struct ssh_use_ops {
	/* The host's key is accepted and login begins (new connection), or a warm connection was
	 * found: the moment to ask for the started bit. Called once, before ready. */
	void (*reached)(void *arg);
	void (*ready)(void *arg, bool warm);
	/* No connection: err says why, for people ("host key for 10.0.0.7 changed:
	 * known_hosts:12"). The use is over; ssh_use_end must not be called. */
	void (*failed)(void *arg, enum ssh_phase phase, const struct err *err);
};

/* Asks for a connection to h, kept or new, by `limit_ms` from now. fresh: not a kept one. */
struct ssh_use *ssh_use_start(struct ssh_client *c, struct ssh_host *h, struct ssh_settings *s,
			      int64_t limit_ms, bool fresh, const struct ssh_use_ops *ops,
			      void *arg);
/* Gives it back: kept warm when `keep` and it is sound, else closed. Ends it at any time before
 * failed was called, also while it is being made (ops are not called any more). No exec may be
 * running. */
void ssh_use_end(struct ssh_use *u, bool keep);

struct ssh_client_counts { unsigned connections, idle, connecting, sessions; };
struct ssh_client_counts ssh_client_counts(const struct ssh_client *c);

/* ---- commands: ssh_exec.c, on the host's I/O thread ---- */

enum ssh_stream { SSH_STDOUT = 1, SSH_STDERR = 2 };

struct ssh_command { /* borrowed until end is called */
	const char *command;    /* text for sh; no NUL */
	const char *op_id;      /* EXED_OP; NULL for none */
	const void *input;      /* stdin, then end of file */
	size_t input_len;
	struct content *content; /* comes after the input; or NULL. A local command takes one of both */
	_Atomic uint64_t *sent;  /* kept up to date: bytes of content that have been given away, over ssh
				  * only; or NULL */
	const char *const *env; /* "NAME=value", NULL-terminated, or NULL */
	const char *cwd;        /* or NULL */
	const struct ssh_become *become; /* or NULL; not with a raw host */
	int64_t limit_ms;       /* from the exec request; <= 0: none */
};

#define KILLED_BY "session, tree, op id, output"
#define KILL_UNVERIFIED "not verified"

struct ssh_result {
	bool sent;          /* the exec request went out: the command may have started */
	bool exited;        /* `code` is its exit code */
	int code;
	char signal[16];    /* without SIG: "KILL"; empty when none */
	bool timed_out;
	bool cancelled;
	bool killed;        /* a kill was tried, and the host was looked at after it */
	bool looked;        /* not killed, but looked for: `survivors` counts */
	int survivors;      /* processes left then; -1: not verified */
	int possible;       /* others that may be its and bear no trace of it; <= 0: none, or not looked */
	const char *killed_by; /* static; NULL: no kill was tried. KILLED_BY, KILL_UNVERIFIED */
	bool output_open;   /* ended, but a child kept the output open for 2 s */
	struct err err;     /* code 0 when the command ended by itself, else what broke */
};

struct ssh_exec_ops {
	/* n bytes as they come, byte-exact; the data is valid during the call. */
	void (*output)(void *arg, enum ssh_stream stream, const char *data, size_t n);
	/* It is over. Called exactly once, not from inside ssh_exec_start; the ssh_exec is freed
	 * after. */
	void (*end)(void *arg, const struct ssh_result *r);
	/* Asked right before the exec request is sent, and again before the line with the command,
	 * where that goes to the host's shell by itself; false: it is not sent, and the command ends
	 * with code ERR_CANCELLED and sent false. May be NULL. */
	bool (*may_start)(void *arg);
	/* It is being killed: over its limit, or cancelled. May be NULL. */
	void (*killing)(void *arg);
	/* All of its stdin has been given away, or it reads no more. Over ssh only. May be NULL. */
	void (*input_over)(void *arg);
};

struct ssh_exec;
/* Opens a channel on a ready use (waits its turn within max_sessions) and runs the command. NULL
 * when memory is out. */
struct ssh_exec *ssh_exec_start(struct ssh_use *u, const struct ssh_command *cmd,
				const struct ssh_exec_ops *ops, void *arg);
void ssh_exec_pause(struct ssh_exec *x, bool pause); /* stop and go on reading its output */
/* Kills what runs on the host and looks whether it is gone (at most 10 s), then calls end with
 * `cancelled`. Before the exec request went out it only takes it back. */
void ssh_exec_cancel(struct ssh_exec *x);

#endif
