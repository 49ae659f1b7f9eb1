/* SPDX-License-Identifier: MIT */
/* setup: opens what a configuration names, and swaps it with what is in force. Loop thread. */
#include "setup.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "log.h"
#include "redis.h"
#include "runtime.h"
#include "ssh.h"
#include "tls.h"
#include "tokens.h"

#define CERTIFICATE_DAYS 14 /* that a certificate is good for, below which it is warned of */

struct opening {
	struct setup *s;
	const struct config *c;
	config_report_fn *report, *warn;
	void *arg;
	int rc;
};

/* "WHERE THE SETTING COMES FROM: message" */
static void tell(struct opening *o, config_report_fn *fn, const char *section, const char *key,
		 const char *message)
{
	char where[256], line[640];

	config_where(o->c, section, key, where, sizeof(where));
	snprintf(line, sizeof(line), "%s: %s", where, message);
	fn(o->arg, line);
}

static void fail(struct opening *o, const char *section, const char *key, const struct err *err)
{
	tell(o, o->report, section, key, err->message);
	o->rc = -ERR_INVALID;
}

/* ---- access ---- */

static void check_access(struct opening *o)
{
	const char *url = config_str(o->c, "runner", "redis_url");
	struct redis_address address;
	struct err err;

	if (config_check(o->c, &err)) {
		o->report(o->arg, err.message);
		o->rc = -ERR_INVALID;
	}
	if (!strcmp(url, "embedded"))
		return;
	if (redis_address_parse(&address, url, &err)) {
		static const char own[] = "redis_url: "; /* the setting is named already */
		bool named = !strncmp(err.message, own, strlen(own));

		memmove(err.message, err.message + (named ? strlen(own) : 0),
			strlen(err.message) + 1 - (named ? strlen(own) : 0));
		fail(o, "runner", "redis_url", &err);
	} else {
		redis_address_deinit(&address);
	}
}

static void open_tokens(struct opening *o)
{
	const char *path = config_str(o->c, "api", "token_file");
	struct err err;

	if (!path)
		return;
	o->s->tokens = tokens_read(path, &err);
	if (!o->s->tokens)
		fail(o, "api", "token_file", &err);
}

/* Which of the three settings names the file that a message begins with. */
static const char *tls_setting(const struct config *c, const char *message)
{
	static const char *const keys[] = { "tls_client_ca", "tls_key", "tls_cert" };

	for (size_t i = 0; i < 3; i++) {
		const char *path = config_str(c, "api", keys[i]);
		size_t n = path ? strlen(path) : 0;

		if (n && !strncmp(message, path, n) && message[n] == ':')
			return keys[i];
	}
	return "tls_cert";
}

static void open_tls(struct opening *o)
{
	const char *cert = config_str(o->c, "api", "tls_cert"), *key = config_str(o->c, "api", "tls_key");
	char line[160];
	struct err err;
	int days;

	if (!cert || !key)
		return;
	o->s->tls = tls_context_new(cert, key, config_str(o->c, "api", "tls_client_ca"), &err);
	if (!o->s->tls) {
		fail(o, "api", tls_setting(o->c, err.message), &err);
		return;
	}
	days = tls_context_days(o->s->tls);
	if (days >= CERTIFICATE_DAYS)
		return;
	snprintf(line, sizeof(line), days < 0 ? "this certificate has ended" :
		 "this certificate ends in %d days", days);
	tell(o, o->warn, "api", "tls_cert", line);
}

/* ---- ssh ---- */

/* Which setting names the file that a message is about. */
static const char *ssh_setting(const struct config *c, const char *message)
{
	static const char *const keys[] = { "known_hosts", "key_passphrase_file" };

	for (size_t i = 0; i < 2; i++) {
		const char *path = config_str(c, "ssh", keys[i]);

		if (path && strstr(message, path))
			return keys[i];
	}
	return "key";
}

/* The items of a list as one text, for free(); NULL when there are none, or memory is out. */
static char *join(const struct config *c, const char *section, const char *key)
{
	struct buf b = { 0 };
	size_t n;
	const char *const *items = config_list(c, section, key, &n);

	for (size_t i = 0; i < n; i++)
		buf_printf(&b, "%s%s", i ? "," : "", items[i]);
	return n ? buf_take(&b, &n) : NULL;
}

static void open_ssh(struct opening *o, unsigned max_connections)
{
	const struct config *c = o->c;
	size_t nkeys;
	const char *const *keys = config_list(c, "ssh", "key", &nkeys);
	const char *checking = config_str(c, "ssh", "host_key_checking");
	const char *agent = config_str(c, "ssh", "agent");
	const char *known = config_str(c, "ssh", "known_hosts");
	char *resolver = join(c, "runtime", "resolver");
	struct ssh_options options = {
		.user = config_str(c, "ssh", "user"),
		.port = (int)config_int(c, "ssh", "port"),
		.keys = nkeys ? keys : NULL,
		.key_passphrase_file = config_str(c, "ssh", "key_passphrase_file"),
		.agent = agent && !strcmp(agent, "none") ? "" : agent,
		.resolver = resolver,
		.known_hosts = known,
		.checking = !strcmp(checking, "strict")	      ? SSH_CHECK_STRICT
			    : !strcmp(checking, "accept-new") ? SSH_CHECK_ACCEPT_NEW
							      : SSH_CHECK_OFF,
		.connect_timeout_ms = config_ms(c, "ssh", "connect_timeout"),
		.keep_ms = config_ms(c, "ssh", "keep"),
		.max_connections = max_connections,
		.max_sessions = (unsigned)config_int(c, "ssh", "max_sessions"),
	};
	struct err err;

	o->s->ssh = ssh_settings_new(&options, &err);
	free(resolver);
	if (!o->s->ssh)
		fail(o, "ssh", ssh_setting(c, err.message), &err);
	if (known && options.checking == SSH_CHECK_STRICT && access(known, R_OK))
		tell(o, o->warn, "ssh", "known_hosts",
		     "there is no such file yet, so no host's key is known");
}

/* ---- logs ---- */

/* Whether a log could be opened, without making it. */
static int try_log(const char *path, struct err *err)
{
	char copy[4096];
	struct stat st;

	if (!strcmp(path, "-"))
		return 0;
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return err_set(err, ERR_INVALID, "%s is a directory", path);
	if (!access(path, W_OK))
		return 0;
	snprintf(copy, sizeof(copy), "%s", path);
	if (!access(path, F_OK) || access(dirname(copy), W_OK | X_OK))
		return err_errno(err, "cannot write %s", path);
	return 0;
}

static void open_log(struct opening *o, const char *key, enum setup_kind kind, int *fd)
{
	const char *path = config_str(o->c, "log", key);
	struct err err;

	if (!strcmp(path, "none") && !strcmp(key, "access_log"))
		return;
	if (kind == SETUP_TEST ? try_log(path, &err) : log_file(path, fd, &err))
		fail(o, "log", key, &err);
}

/* ---- all of it ---- */

int setup_open(struct setup *s, struct config *config, enum setup_kind kind,
	       unsigned max_connections, config_report_fn *report, config_report_fn *warn, void *arg)
{
	struct opening o = { .s = s, .c = config, .report = report, .warn = warn, .arg = arg };

	*s = (struct setup){ .config = config, .error_fd = -1, .access_fd = -1 };
	if (kind != SETUP_SCRIPT) {
		check_access(&o);
		open_tokens(&o);
		open_tls(&o);
		open_log(&o, "error_log", kind, &s->error_fd);
		open_log(&o, "access_log", kind, &s->access_fd);
	}
	open_ssh(&o, max_connections);
	return o.rc;
}

int setup_renew_ssh(struct runtime *rt, config_report_fn *report, config_report_fn *warn, void *arg)
{
	struct setup s = { .error_fd = -1, .access_fd = -1 };
	struct opening o = { .s = &s, .c = rt->config, .report = report, .warn = warn, .arg = arg };

	open_ssh(&o, rt->max_connections);
	if (o.rc)
		return o.rc;
	ssh_settings_unref(rt->ssh);
	rt->ssh = s.ssh;
	return 0;
}

void setup_use(struct setup *s, struct runtime *rt)
{
	struct setup old = { .config = rt->config, .ssh = rt->ssh, .tokens = rt->tokens,
			     .tls = rt->tls, .error_fd = -1, .access_fd = -1 };

	if (s->error_fd >= 0)
		log_use(s->error_fd, s->access_fd);
	log_set_level((enum log_level)log_level_parse(config_str(s->config, "log", "log_level")));
	rt->config = s->config;
	rt->ssh = s->ssh;
	rt->tokens = s->tokens;
	rt->tls = s->tls;
	*s = old;
	setup_close(s);
}

void setup_close(struct setup *s)
{
	log_discard(s->error_fd);
	log_discard(s->access_fd);
	tokens_free(s->tokens);
	tls_context_unref(s->tls);
	ssh_settings_unref(s->ssh);
	config_free(s->config);
	*s = (struct setup){ .error_fd = -1, .access_fd = -1 };
}
