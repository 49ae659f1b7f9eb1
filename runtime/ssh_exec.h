/* SPDX-License-Identifier: MIT */
/* ssh_exec: a command on a channel, as ssh_exec.c and ssh_kill.c see it, and no one else. One
 * I/O thread. */
#ifndef EXED_SSH_EXEC_H
#define EXED_SSH_EXEC_H

#include "ssh_conn.h"

enum exec_state {
	EXEC_WAIT,    /* for its turn */
	EXEC_OPENING, /* its channel */
	EXEC_REQUEST, /* channel open; the exec request goes out and is answered */
	EXEC_RUN,
};

struct ssh_kill; /* the end of a command that runs, ssh_kill.c */

struct ssh_exec {
	TAILQ_ENTRY(ssh_exec) link; /* conn->execs */
	struct ssh_conn *conn;
	struct ssh_use *use;
	const struct ssh_command *cmd;
	const struct ssh_exec_ops *ops;
	void *arg;
	struct ssh_result r;
	enum exec_state state;
	bool reserved;      /* kills another; jumps the queue, beyond max_sessions */
	bool paused;
	bool input_started, input_done;
	bool withheld;      /* the script's line was not given away whole, and will not be */
	bool out_ended, err_ended;
	bool exit_seen;     /* an exit status has come */
	bool lingering;
	int64_t sent_ms;    /* when its request went out */
	bool kill_over;
	unsigned refused;   /* how often the host refused its channel */
	LIBSSH2_CHANNEL *ch;
	uint32_t id;        /* libssh2's number of it; UINT32_MAX when unknown */
	struct buf line;    /* the exec request */
	struct buf head;    /* goes to stdin before the input */
	uint64_t written;   /* of head, input and content */
	struct err broken;  /* why it cannot be sent */
	struct event limit, linger, cancel;
	struct ssh_kill *kill;
};

/* ---- ssh_channel.c ---- */

/* Goes on with the opening of a channel, or begins with the next; true when something moved. */
bool channel_open_step(struct ssh_conn *c);
void channel_close(struct ssh_conn *c, LIBSSH2_CHANNEL *ch); /* NULL is none */
void channels_reap(struct ssh_conn *c); /* frees those that the host has closed as well */

/* ---- ssh_exec.c ---- */

struct ssh_exec *exec_new(struct ssh_use *u, const struct ssh_command *cmd, bool reserved,
			  const struct ssh_exec_ops *ops, void *arg);
void exec_end(struct ssh_exec *x); /* tells the result and frees x */
void exec_break(struct ssh_exec *x, int code, const char *why); /* ends it with an error */
void exec_free(struct ssh_exec *x);
void exec_linger(struct ssh_exec *x);

/* ---- ssh_kill.c ---- */

void exec_timers_init(struct ssh_exec *x); /* limit and linger */
void kill_drop(struct ssh_kill *k);        /* x ends before it */

#endif
