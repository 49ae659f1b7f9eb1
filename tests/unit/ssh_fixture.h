/* SPDX-License-Identifier: MIT */
/* ssh_fixture: a private OpenSSH sshd on a free port, keys, a known_hosts file, and one call
 * that runs a command through the SSH client and says all that came of it. */
#ifndef EXED_TEST_SSH_FIXTURE_H
#define EXED_TEST_SSH_FIXTURE_H

#include <event2/event.h>
#include <sys/types.h>

#include "buf.h"
#include "ssh.h"

struct sshd {
	char dir[64];
	char known_hosts[96], log[96];
	char key[96];   /* ed25519, may log in */
	char other[96]; /* may not */
	char rsa[96], ecdsa[96], locked[96]; /* may; locked has the passphrase "a secret" */
	char user[64];
	int port;
	pid_t pid;
};

/* Starts it; extra lines go to the end of its configuration. False when it does not come up. */
bool sshd_start(struct sshd *d, const char *extra);
void sshd_stop(struct sshd *d); /* and its sessions; removes its directory */
/* Whether its log has this text by now. */
bool sshd_logged(const struct sshd *d, const char *text);

/* Settings that fit it; change what a test is about, then ssh_settings_new. */
struct ssh_options sshd_options(const struct sshd *d);

struct fixture {
	struct event_base *base;
	struct ssh_client *client;
};
void fixture_open(struct fixture *f);
void fixture_close(struct fixture *f);
/* Turns the loop until *flag is at least n; fails the test when it is not within 30 s. */
void fixture_turn(struct fixture *f, const int *flag, int n);
void fixture_turn_ms(struct fixture *f, int64_t ms);

/* One use and one command on it. Fill the first part, run_start, fixture_turn on `over`. */
struct run {
	const char *address; /* NULL: 127.0.0.1 */
	int port;            /* 0: the settings' */
	const char *host_key; /* identity file of the host */
	bool raw, fresh, keep, refuse_start;
	unsigned starts;      /* so often it may start, then no more; 0: always */
	int64_t limit_ms;     /* to connect; 0: the settings' */
	struct ssh_command command;
	void (*on_output)(struct run *r); /* after each piece */
	void (*on_ready)(struct run *r);  /* instead of starting the command */

	struct fixture *f;
	struct ssh_host *host;
	struct ssh_use *use;
	struct ssh_exec *exec;
	char op_id[32];
	int over, reached, ready, warm;
	bool failed;
	enum ssh_phase phase;
	struct err err;       /* why it failed */
	struct ssh_result result;
	struct buf out, errs;
	unsigned most_sessions; /* seen while output came */
	int pieces;             /* of output */
	unsigned start_asked;
};
void run_start(struct fixture *f, struct ssh_settings *s, struct run *r);
void run_command(struct run *r); /* for on_ready */
void run_free(struct run *r);
/* run_start and fixture_turn. */
void run_now(struct fixture *f, struct ssh_settings *s, struct run *r);
/* Turns the loop until it has printed a line; fails the test when it does not within 30 s. */
void run_wait_line(struct run *r);
/* The n-th number (from 0) that it printed; fails the test when it is no process's number. */
int run_pid(struct run *r, int n);

#endif
