/* SPDX-License-Identifier: MIT */
/* ssh_kill: the end of a command whose time is over or that was cancelled. A small script runs
 * on the host over a channel of its own (of this connection, or of a new one when the host
 * refuses another channel): it finds what belongs to the command, stops it, looks again, kills
 * it, and looks whether it is gone. Closing the channel alone would leave all of it alive. One
 * I/O thread. */
#include <stdlib.h>
#include <string.h>

#include "ssh_exec.h"

/* A host has this long to kill and to look; then nothing is known. */
#define KILL_MS 10000
/* After it, what the command still says has this long. */
#define AFTER_MS 1000
#define ANSWER_MAX 4096u

/* What the script does, in POSIX sh, with grep (or tr and grep) for what the shell cannot read:
 *   K  what belongs to the command: " 12 34 "
 *   E  what is never touched: the script and its ancestors
 *   T  sessions that belong to it
 *   L  all processes seen; P_n and S_n the parent and session of n
 *   w  not to stop first: sudo stops itself with what it runs, and only root could end it then
 * A process belongs to the command when it carries the op id in its environment, when its parent
 * belongs to it, or when it is in the session of one that does: sshd gives every command a
 * session of its own. (One that led here, too, would be the script's: a server that makes none.
 * It is left out.) /proc/n/stat is read by the shell itself; a process's name may hold blanks,
 * newlines and brackets, so what counts comes after the last ") ". */
static const char script[] =
	"exec 2>/dev/null;cd /proc||exit 1;K=' ';T=' ';E=' ';L=;"
	"st(){ l=;while IFS= read -r q;do l=$l$q;done<$1/stat||return 1;l=${l##*') '};"
	"set -- $l;z=$1 pp=$2 ss=$4;[ \"$ss\" ];};"
	"p=$$;while [ \"$p\" -gt 0 ]&&st $p;do E=\"$E$p \";p=$pp;done;"
	"grep -qszxF \"$o\" self/environ;if [ $? -gt 1 ];then "
	"mk(){ for f in [0-9]*;do tr '\\0' '\\n'<$f/environ|grep -qxF \"$o\"&&"
	"echo $f/environ;done;};"
	"else mk(){ grep -lszxF \"$o\" [0-9]*/environ;};fi;"
	"ad(){ case $E in *\" $1 \"*)return;;esac;K=\"$K$1 \";g=1;"
	"eval \"ss=\\$S_$1\";case $E in *\" $ss \"*);;*)T=\"$T$ss \";;esac;};"
	"sc(){ for p in [0-9]*;do eval \"pp=\\$P_$p\";[ \"$pp\" ]&&continue;"
	"st $p&&eval \"P_$p=$pp S_$p=$ss\"&&L=\"$L $p\";done;"
	"for p in $(mk);do p=${p%/*};case $K in *\" $p \"*);;*)ad $p;;esac;done;"
	"g=1;while [ \"$g\" ];do g=;for p in $L;do case $K in *\" $p \"*)continue;;esac;"
	"eval \"pp=\\$P_$p ss=\\$S_$p\";case $K in *\" $pp \"*|*\" $ss \"*)ad $p;continue;;esac;"
	"case $T in *\" $ss \"*)ad $p;;esac;done;done;};"
	"r=0;while [ $r -lt 20 ];do r=$((r+1));b=$K;sc;[ \"$K\" = \"$b\" ]&&break;"
	"[ \"$w\" ]||kill -STOP $K;done;"
	"r=0;while [ $r -lt 30 ];do r=$((r+1));[ \"$K\" = ' ' ]||kill -KILL $K;sc;a=0;n=0;"
	"for p in $K;do n=$((n+1));st $p&&[ \"$z\" != Z ]&&[ \"$z\" != X ]&&a=$((a+1));done;"
	"[ $a = 0 ]&&break;sleep .1||sleep 1;done;"
	"echo \"exed-kill $n $a\"\n";

struct ssh_kill {
	struct ssh_exec *x;      /* NULL: dropped */
	struct ssh_use *own;     /* a connection of its own */
	struct ssh_exec *runner; /* runs the script */
	bool moved;              /* to a connection of its own */
	struct ssh_command cmd;
	struct buf input, answer;
	struct event timer;
};

static void kill_run(struct ssh_kill *k, struct ssh_use *u);

static void kill_free(struct ssh_kill *k)
{
	event_del(&k->timer);
	buf_deinit(&k->input);
	buf_deinit(&k->answer);
	free(k);
}

/* The command's own end follows at once, or within AFTER_MS. */
static void kill_over(struct ssh_kill *k, int survivors)
{
	struct ssh_exec *x = k->x;

	event_del(&k->timer);
	if (!x || x->kill_over)
		return;
	x->kill_over = true;
	x->r.killed = true;
	x->r.survivors = survivors;
	x->r.killed_by = survivors < 0 ? "not verified" : "session, tree, op id";
	ssh_exec_pause(x, false);
	x->lingering = true;
	ssh_arm(&x->linger, AFTER_MS);
	conn_kick(x->conn);
}

/* ---- the script's channel ---- */

static void on_output(void *arg, enum ssh_stream stream, const char *data, size_t n)
{
	struct ssh_kill *k = arg;

	if (stream == SSH_STDOUT && k->answer.len + n <= ANSWER_MAX)
		buf_add(&k->answer, data, n);
}

/* "exed-kill 7 0": found, still alive. A profile may have printed something before it. */
static int answer_read(struct buf *answer)
{
	const char *s = buf_str(answer);
	unsigned found;
	int alive;

	s = s ? strstr(s, "exed-kill ") : NULL;
	return s && sscanf(s, "exed-kill %u %d", &found, &alive) == 2 ? alive : -1;
}

static void on_reached(void *arg)
{
	(void)arg;
}

static void on_ready(void *arg, bool warm)
{
	struct ssh_kill *k = arg;

	(void)warm;
	kill_run(k, k->own);
}

static void on_failed(void *arg, enum ssh_phase phase, const struct err *err)
{
	struct ssh_kill *k = arg;

	(void)phase;
	(void)err;
	k->own = NULL;
	kill_over(k, -1);
}

static void kill_move(struct ssh_kill *k)
{
	static const struct ssh_use_ops ops = {on_reached, on_ready, on_failed};
	struct ssh_conn *c = k->x->conn;

	k->moved = true;
	k->own = ssh_use_start(c->client, c->host, c->settings, KILL_MS, true, &ops, k);
	if (!k->own)
		kill_over(k, -1);
}

static void on_end(void *arg, const struct ssh_result *r)
{
	struct ssh_kill *k = arg;

	k->runner = NULL;
	if (k->own) {
		ssh_use_end(k->own, false);
		k->own = NULL;
	}
	if (!k->x) {
		kill_free(k);
		return;
	}
	if (r->err.code == ERR_REFUSED && !k->moved)
		kill_move(k);
	else
		kill_over(k, answer_read(&k->answer));
}

static void kill_run(struct ssh_kill *k, struct ssh_use *u)
{
	static const struct ssh_exec_ops ops = {.output = on_output, .end = on_end};

	k->runner = exec_new(u, &k->cmd, true, &ops, k);
	if (!k->runner)
		kill_over(k, -1);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	kill_over(arg, -1);
}

/* ---- the command's side ---- */

void kill_drop(struct ssh_kill *k)
{
	k->x->kill = NULL;
	k->x = NULL;
	event_del(&k->timer);
	if (k->runner) {
		struct ssh_conn *own = k->own ? k->runner->conn : NULL;

		/* on_end does the rest. A connection of the script's own must outlive exec_end. */
		if (own)
			own->busy++;
		exec_end(k->runner);
		if (own) {
			own->busy--;
			conn_settle(own);
		}
		return;
	}
	if (k->own)
		ssh_use_end(k->own, false);
	kill_free(k);
}

static int kill_start(struct ssh_exec *x)
{
	struct ssh_kill *k = calloc(1, sizeof(*k));
	const struct ssh_become *become = x->cmd->become;

	if (!k)
		return -ERR_MEMORY;
	k->x = x;
	x->kill = k;
	evtimer_assign(&k->timer, x->conn->client->base, on_timer, k);
	ssh_arm(&k->timer, KILL_MS);
	buf_printf(&k->input, "o='EXED_OP=%s';w=%s;", x->cmd->op_id,
		   become && strcmp(become->user, "root") ? "1" : "");
	buf_puts(&k->input, script);
	k->cmd.command = "exec sh -c 'IFS= read -r s; eval \"$s\"'";
	k->cmd.become = become;
	k->cmd.input = k->input.data;
	k->cmd.input_len = k->input.len;
	if (k->input.failed)
		kill_over(k, -1);
	else if (x->conn->requesting)
		kill_move(k); /* a request that was not answered holds up the next one */
	else
		kill_run(k, x->use);
	return 0;
}

/* Ends it as far as that can be done; the result follows. */
static void exec_stop(struct ssh_exec *x)
{
	if (x->kill || x->kill_over)
		return;
	event_del(&x->limit);
	event_del(&x->linger); /* it must not end x before the kill has its answer */
	if (!x->r.sent || x->reserved) {
		/* Nothing runs yet, or it is the killer itself. */
		err_set(&x->r.err, ERR_CANCELLED, "cancelled before it started");
		exec_end(x);
		return;
	}
	if (!x->cmd->op_id || ssh_host_raw(x->conn->host)) {
		x->r.survivors = -1;
		x->r.killed_by = "closed, not verified";
		exec_end(x);
	} else if (kill_start(x)) {
		x->r.survivors = -1;
		x->r.killed_by = "not verified";
		exec_end(x);
	}
}

static void on_limit(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_exec *x = arg;
	struct ssh_conn *c = x->conn;

	(void)fd;
	(void)what;
	if (x->exit_seen)
		return; /* it has ended in time; its children's output has a limit of its own */
	x->r.timed_out = true;
	c->busy++;
	exec_stop(x);
	c->busy--;
	conn_kick(c);
	conn_settle(c);
}

static void on_linger(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_exec *x = arg;
	struct ssh_conn *c = x->conn;

	(void)fd;
	(void)what;
	c->busy++;
	exec_linger(x);
	c->busy--;
	conn_kick(c);
	conn_settle(c);
}

/* Deferred, because the result must not come from inside the call. */
static void on_cancel(evutil_socket_t fd, short what, void *arg)
{
	struct ssh_exec *x = arg;
	struct ssh_conn *c = x->conn;

	(void)fd;
	(void)what;
	c->busy++;
	exec_stop(x);
	c->busy--;
	conn_kick(c);
	conn_settle(c);
}

void ssh_exec_cancel(struct ssh_exec *x)
{
	if (x->r.cancelled)
		return;
	x->r.cancelled = true;
	event_active(&x->cancel, EV_TIMEOUT, 0);
}

void exec_timers_init(struct ssh_exec *x)
{
	struct event_base *base = x->conn->client->base;

	evtimer_assign(&x->limit, base, on_limit, x);
	evtimer_assign(&x->linger, base, on_linger, x);
	evtimer_assign(&x->cancel, base, on_cancel, x);
}
