/* SPDX-License-Identifier: MIT */
/* ssh_fixture: see the header. Everything it makes lies in one directory; it ends its own
 * processes by their number. */
#include "ssh_fixture.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop.h"
#include "ssh_conn.h"
#include "support.h"

/* ---- sshd ---- */

static int port_free(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&at, len) || getsockname(fd, (struct sockaddr *)&at, &len))
		at.sin_port = 0;
	close(fd);
	return ntohs(at.sin_port);
}

static bool sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool sh(const char *fmt, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return !system(command);
}

static char keys_dir[64]; /* of the sshd that was started first and still runs */

static bool keys_make(struct sshd *d)
{
	snprintf(d->key, sizeof(d->key), "%s/id_ed25519", d->dir);
	snprintf(d->other, sizeof(d->other), "%s/id_other", d->dir);
	snprintf(d->rsa, sizeof(d->rsa), "%s/id_rsa", d->dir);
	snprintf(d->ecdsa, sizeof(d->ecdsa), "%s/id_ecdsa", d->dir);
	snprintf(d->locked, sizeof(d->locked), "%s/id_locked", d->dir);
	snprintf(d->known_hosts, sizeof(d->known_hosts), "%s/known_hosts", d->dir);
	snprintf(d->log, sizeof(d->log), "%s/log", d->dir);
	/* Keys take long to make: a second sshd has those of the first. */
	if (!*keys_dir && !sh("cd %s && for t in ed25519 ecdsa; do "
			      "ssh-keygen -q -t $t -N '' -f host_$t && "
			      "ssh-keygen -q -t $t -N '' -f id_$t || exit 1; done; "
			      "ssh-keygen -q -t ed25519 -N '' -f id_other && "
			      "ssh-keygen -q -t rsa -b 2048 -N '' -f id_rsa && "
			      "ssh-keygen -q -t ed25519 -a 1 -N 'a secret' -f id_locked && "
			      "echo 'a secret' > passphrase && "
			      "cat id_ed25519.pub id_ecdsa.pub id_rsa.pub id_locked.pub "
			      "> authorized",
			      d->dir))
		return false;
	if (*keys_dir &&
	    !sh("cd %s && cp -p host_* id_* passphrase authorized %s", keys_dir, d->dir))
		return false;
	if (!*keys_dir)
		strcpy(keys_dir, d->dir);
	return sh("cd %s && for h in 127.0.0.1 127.0.0.2 ::1 localhost; do "
		  "for t in ed25519 ecdsa; do "
		  "echo \"[$h]:%d $(cut -d' ' -f1,2 host_$t.pub)\"; done; done > known_hosts",
		  d->dir, d->port);
}

static bool config_write(const struct sshd *d, const char *extra)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/config", d->dir);
	f = fopen(path, "w");
	if (!f)
		return false;
	/* sshd takes the first of what is said twice, so `extra` wins. */
	fprintf(f, "%s\nPort %d\nListenAddress 127.0.0.1\nListenAddress 127.0.0.2\nListenAddress ::1\n"
		"HostKey %s/host_ed25519\nHostKey %s/host_ecdsa\nAuthorizedKeysFile %s/authorized\n"
		"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
		"KbdInteractiveAuthentication no\nMaxStartups 100\nLogLevel DEBUG1\n"
		/* Nobody's own profile is read: it may print, or take its time. */
		"SetEnv SHLVL=3 HOME=%s\n",
		extra, d->port, d->dir, d->dir, d->dir, d->dir);
	fclose(f);
	return true;
}

static bool answers(int port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ok = !connect(fd, (struct sockaddr *)&at, sizeof(at));
	close(fd);
	return ok;
}

bool sshd_start(struct sshd *d, const char *extra)
{
	struct passwd *pw = getpwuid(getuid());
	char config[128];

	memset(d, 0, sizeof(*d));
	d->port = port_free();
	snprintf(d->user, sizeof(d->user), "%s", pw ? pw->pw_name : "root");
	if (!support_make_dir(d->dir, sizeof(d->dir)) || !keys_make(d) || !config_write(d, extra))
		return false;
	if (!getuid())
		mkdir("/run/sshd", 0755); /* sshd wants it there when root starts it */
	snprintf(config, sizeof(config), "%s/config", d->dir);
	d->pid = fork();
	if (!d->pid) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		execl("/usr/sbin/sshd", "/usr/sbin/sshd", "-D", "-f", config, "-E", d->log, NULL);
		_exit(127);
	}
	for (int i = 0; i < 500; i++) {
		if (answers(d->port))
			return true;
		if (waitpid(d->pid, NULL, WNOHANG))
			break;
		usleep(10000);
	}
	return false;
}

void sshd_stop(struct sshd *d)
{
	if (d->pid > 0) {
		kill(d->pid, SIGTERM);
		waitpid(d->pid, NULL, 0);
	}
	if (*d->dir)
		sh("rm -r %s", d->dir);
	if (!strcmp(keys_dir, d->dir))
		*keys_dir = '\0';
}

bool sshd_logged(const struct sshd *d, const char *text)
{
	return sh("grep -qF -- '%s' %s", text, d->log);
}

struct ssh_options sshd_options(const struct sshd *d)
{
	static const char *keys[2];

	keys[0] = d->key;
	return (struct ssh_options){
		.user = d->user,
		.port = d->port,
		.keys = keys,
		.agent = "",
		.known_hosts = d->known_hosts,
		.connect_timeout_ms = 10000,
		.keep_ms = 60000,
		.max_connections = 100,
		.max_sessions = 8,
	};
}

/* ---- the client ---- */

void fixture_open(struct fixture *f)
{
	f->base = event_base_new();
	assert_non_null(f->base);
	f->client = ssh_client_new(f->base, 1);
	assert_non_null(f->client);
}

void fixture_close(struct fixture *f)
{
	ssh_client_free(f->client);
	event_base_free(f->base);
}

void fixture_turn_ms(struct fixture *f, int64_t ms)
{
	const struct timeval tv = {ms / 1000, ms % 1000 * 1000};

	event_base_loopexit(f->base, &tv);
	event_base_dispatch(f->base);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

void fixture_turn(struct fixture *f, const int *flag, int n)
{
	const struct timeval tick = {0, 50000};
	struct event *ev = event_new(f->base, -1, EV_PERSIST, on_tick, NULL);
	int64_t until = loop_now_ms() + 30000;

	event_add(ev, &tick);
	while (*flag < n && loop_now_ms() < until)
		event_base_loop(f->base, EVLOOP_ONCE);
	event_free(ev);
	if (*flag < n)
		fail_msg("it does not end");
}

/* ---- runs ---- */

static void on_output(void *arg, enum ssh_stream stream, const char *data, size_t n)
{
	struct run *r = arg;
	unsigned sessions = ssh_client_counts(r->f->client).sessions;

	if (sessions > r->most_sessions)
		r->most_sessions = sessions;
	buf_add(stream == SSH_STDOUT ? &r->out : &r->errs, data, n);
	r->pieces++;
	if (r->on_output)
		r->on_output(r);
}

static void on_end(void *arg, const struct ssh_result *result)
{
	struct run *r = arg;

	r->result = *result;
	r->exec = NULL;
	ssh_use_end(r->use, r->keep);
	r->use = NULL;
	r->over++;
}

static bool may_start(void *arg)
{
	struct run *r = arg;

	return !r->refuse_start && (!r->starts || ++r->start_asked <= r->starts);
}

void run_command(struct run *r)
{
	static const struct ssh_exec_ops ops = {on_output, on_end, may_start, NULL, NULL};

	/* Not the same in tests that run at the same time: each kills what carries its own. */
	snprintf(r->op_id, sizeof(r->op_id), "test%d.0.1.1", getpid());
	if (!r->command.op_id)
		r->command.op_id = r->op_id;
	r->exec = ssh_exec_start(r->use, &r->command, &ops, r);
	assert_non_null(r->exec);
}

static void on_reached(void *arg)
{
	struct run *r = arg;

	assert_int_equal(r->ready, 0);
	r->reached++;
}

static void on_ready(void *arg, bool warm)
{
	struct run *r = arg;

	assert_int_equal(r->reached, 1);
	r->ready++;
	r->warm = warm;
	if (r->on_ready)
		r->on_ready(r);
	else
		run_command(r);
}

static void on_failed(void *arg, enum ssh_phase phase, const struct err *err)
{
	struct run *r = arg;

	r->failed = true;
	r->phase = phase;
	r->err = *err;
	r->use = NULL;
	r->over++;
}

void run_start(struct fixture *f, struct ssh_settings *s, struct run *r)
{
	static const struct ssh_use_ops ops = {on_reached, on_ready, on_failed};
	const struct ssh_host_spec spec = {.name = r->address ? r->address : "127.0.0.1",
					   .port = r->port, .key = r->host_key, .raw = r->raw};

	if (!r->command.command)
		r->command.command = "true";
	r->f = f;
	r->host = ssh_host_new(&spec);
	assert_non_null(r->host);
	r->use = ssh_use_start(f->client, r->host, s, r->limit_ms, r->fresh, &ops, r);
	assert_non_null(r->use);
	assert_int_equal(r->over + r->reached + r->ready, 0);
}

void run_now(struct fixture *f, struct ssh_settings *s, struct run *r)
{
	run_start(f, s, r);
	fixture_turn(f, &r->over, 1);
}

void run_wait_line(struct run *r)
{
	for (int i = 0; i < 3000 && !r->over; i++) {
		if (r->out.len && memchr(r->out.data, '\n', r->out.len))
			return;
		fixture_turn_ms(r->f, 10);
	}
	fail_msg("it prints nothing");
}

int run_pid(struct run *r, int n)
{
	const char *s = buf_str(&r->out);
	char *end;
	long pid = 0;

	for (int i = 0; i <= n; i++, s = end) {
		pid = strtol(s, &end, 10);
		if (end == s || pid <= 1) /* 0 and -1 would mean many processes to kill() */
			fail_msg("no process number in: %s", buf_str(&r->out));
	}
	return (int)pid;
}

void run_free(struct run *r)
{
	ssh_host_unref(r->host);
	buf_deinit(&r->out);
	buf_deinit(&r->errs);
}
