/* SPDX-License-Identifier: MIT */
/* Tests of runtime/config*.c. `test_config --print` writes what conf/exed.conf must be. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "buf.h"
#include "config.h"
#include "config_table.h"
#include "support.h"

static char dir[64], file[96];

static int make_dir(void **state)
{
	(void)state;
	assert_true(support_make_dir(dir, sizeof(dir)));
	snprintf(file, sizeof(file), "%s/exed.conf", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(dir);
}

static void write_bytes(const char *text, size_t n)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	fclose(f);
}

static struct config *load(const char *text)
{
	struct err err = { 0 };
	struct config *c;

	write_bytes(text, strlen(text));
	c = config_load(file, &err);
	if (!c)
		fail_msg("%s", err.message);
	return c;
}

/* It must not load, and the message must be "FILE" + want. */
static void refuse(const char *text, const char *want)
{
	struct err err = { 0 };
	struct config *c;

	write_bytes(text, strlen(text));
	c = config_load(file, &err);
	assert_null(c);
	assert_int_equal(err.code, ERR_INVALID);
	if (!strncmp(err.message, file, strlen(file)))
		assert_string_equal(err.message + strlen(file), want);
	else
		assert_string_equal(err.message, want);
}

static void defaults_are_as_documented(void **state)
{
	struct config *c = load("");
	const struct config_listener *l;
	size_t n;

	(void)state;
	assert_string_equal(config_path(c), file);
	assert_null(config_warnings(c)[0]);
	assert_string_equal(config_str(c, "runner", "redis_url"), "embedded");
	assert_string_equal(config_str(c, "runner", "executor"), "ssh");
	assert_string_equal(config_str(c, "log", "log_level"), "info");
	assert_string_equal(config_str(c, "ssh", "host_key_checking"), "strict");
	assert_null(config_str(c, "api", "pid_file"));
	assert_int_equal(config_int(c, "ssh", "window"), 500);
	assert_int_equal(config_int(c, "runner", "concurrency"), sysconf(_SC_NPROCESSORS_ONLN));
	assert_int_equal(config_ms(c, "store", "ttl"), 7 * 86400000LL);
	assert_int_equal(config_bytes(c, "store", "memory"), 1LL << 30);
	assert_false(config_bool(c, "api", "open"));
	assert_int_equal(config_command_ms(c, "execute"), 0);
	assert_int_equal(config_command_ms(c, "facter"), 60000);
	assert_int_equal(config_command_ms(c, "service"), 300000);
	assert_int_equal(config_command_ms(c, "deploy"), 3600000);
	assert_false(config_given(c, "ssh", "window"));
	l = config_listeners(c, &n);
	assert_int_equal(n, 1);
	assert_string_equal(l->address, "127.0.0.1");
	assert_int_equal(l->port, 16808);
	assert_string_equal(l->dialects[0], "exed");
	assert_null(l->dialects[1]);
	assert_int_equal(config_check(c, NULL), 0);
	config_free(c);
}

static void a_file_of_exed_is_read(void **state)
{
	struct config *c = load("\xef\xbb\xbf[api_server]\r\n"
				"listen_addr = '0.0.0.0'  # all\r\n"
				"listen_port=\"8080\"\r\n"
				"pid_file = -\r\n"
				"[runner]\n"
				"; a comment\n"
				"  executor: \"ansible\" ; the old one\n"
				"concurrency = 12\n"
				"redis_url = redis://:p#w;d@127.0.0.1:6379/0 # the store\n"
				"broker_url = amqp://guest:guest@localhost:5672//\n"
				"[log]\n"
				"log_level = CRITICAL\n"
				"[ansible]\n"
				"workdir = \"/opt/a b # c\"\n");
	struct err err;

	(void)state;
	assert_string_equal(config_str(c, "api", "listen_addr"), "0.0.0.0");
	assert_int_equal(config_int(c, "api", "listen_port"), 8080);
	assert_null(config_str(c, "api", "pid_file"));
	assert_string_equal(config_str(c, "runner", "executor"), "ansible");
	assert_int_equal(config_int(c, "runner", "concurrency"), 12);
	assert_string_equal(config_str(c, "runner", "redis_url"),
			    "redis://:p#w;d@127.0.0.1:6379/0");
	assert_string_equal(config_str(c, "log", "log_level"), "error");
	assert_string_equal(config_str(c, "ansible", "workdir"), "/opt/a b # c");
	assert_string_equal(config_warnings(c)[0] + strlen(file),
			    ":10: [runner] broker_url is not needed: jobs go through Redis");
	assert_null(config_warnings(c)[1]);
	assert_int_equal(config_check(c, &err), -ERR_INVALID);
	assert_non_null(strstr(err.message, "token_file"));
	config_free(c);
}

static void units_are_understood(void **state)
{
	struct config *c = load("[ssh]\nkeep = none\nconnect_timeout = 1500ms\n"
				"command_timeout = service 5m, execute = 2h\n"
				"[store]\nttl = 2w\nnode_timeout = 90\nmemory = 64 MiB\n"
				"output_cap = 4096\njob_output = 2GB\n[api]\nopen = Yes\n"
				"[tasks]\ntime_limit = 3d\n");

	(void)state;
	assert_int_equal(config_ms(c, "ssh", "keep"), 0);
	assert_int_equal(config_ms(c, "ssh", "connect_timeout"), 1500);
	assert_int_equal(config_ms(c, "store", "ttl"), 14 * 86400000LL);
	assert_int_equal(config_ms(c, "store", "node_timeout"), 90000);
	assert_int_equal(config_ms(c, "tasks", "time_limit"), 3 * 86400000LL);
	assert_int_equal(config_bytes(c, "store", "memory"), 64 << 20);
	assert_int_equal(config_bytes(c, "store", "output_cap"), 4096);
	assert_int_equal(config_bytes(c, "store", "job_output"), 2LL << 30);
	assert_true(config_bool(c, "api", "open"));
	assert_int_equal(config_command_ms(c, "execute"), 7200000);
	assert_int_equal(config_command_ms(c, "facter"), 60000);
	config_free(c);
	c = load("[ssh]\ncommand_timeout = 30s\n");
	assert_int_equal(config_command_ms(c, "execute"), 30000);
	assert_int_equal(config_command_ms(c, "deploy"), 30000);
	config_free(c);
}

static void listeners_may_be_many(void **state)
{
	struct config *c = load("[api]\nlisten_port = 1\ndialects = exed, mesos\n"
				"listen = 127.0.0.1:16808\n"
				"listen = [::1]:8000 Roller, pansible\n"
				"listen = localhost:0 mesos\n");
	const struct config_listener *l;
	size_t n;

	(void)state;
	l = config_listeners(c, &n);
	assert_int_equal(n, 3);
	assert_int_equal(l[0].port, 16808);
	assert_string_equal(l[0].dialects[0], "exed");
	assert_string_equal(l[0].dialects[1], "mesos");
	assert_string_equal(l[1].address, "::1");
	assert_int_equal(l[1].port, 8000);
	assert_string_equal(l[1].dialects[0], "roller");
	assert_string_equal(l[1].dialects[1], "pansible");
	assert_null(l[1].dialects[2]);
	assert_string_equal(l[2].address, "localhost");
	assert_int_equal(l[2].port, 0);
	assert_string_equal(l[2].dialects[0], "mesos");
	assert_int_equal(config_check(c, NULL), 0);
	config_free(c);
}

/* Which listeners anybody may reach, and what is said of them. */
static void who_may_come_in_is_settled_off_loopback(void **state)
{
	static const char *const near[] = { "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1",
					    "LOCALHOST:1", "[::ffff:127.0.0.1]:1", "unix:/run/x" };
	static const char *const far[] = { "0.0.0.0:1", "[::]:1", "10.0.0.1:1", "web01:1",
					   "[::ffff:10.0.0.1]:1", "[fe80::1]:1", "0:1",
					   "localhost.example:1", "128.0.0.1:1" };
	char text[160];
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(near) / sizeof(*near); i++) {
		struct config *c;

		snprintf(text, sizeof(text), "[api]\nlisten = %s\n", near[i]);
		c = load(text);
		assert_int_equal(config_check(c, NULL), 0);
		config_free(c);
	}
	for (size_t i = 0; i < sizeof(far) / sizeof(*far); i++) {
		static const char *const ways[] = { "token_file = /t\n", "open = true\n",
						    "tls_cert = c\ntls_key = k\ntls_client_ca = a\n" };
		int n = snprintf(text, sizeof(text), "[api]\nlisten = 127.0.0.1:2\nlisten = %s\n",
				 far[i]);
		struct config *c = load(text);

		assert_int_equal(config_check(c, &err), -ERR_INVALID);
		assert_non_null(strstr(err.message, ":3: [api] listen: "));
		assert_non_null(strstr(err.message, "token_file"));
		assert_non_null(strstr(err.message, "tls_client_ca"));
		assert_non_null(strstr(err.message, "open = true"));
		config_free(c);
		for (size_t k = 0; k < 3; k++) {
			strcpy(text + n, ways[k]);
			c = load(text);
			assert_int_equal(config_check(c, &err), 0);
			config_free(c);
		}
	}
}

static void mapped_and_unix_addresses_are_told_apart(void **state)
{
	struct config *c = load("[api]\nlisten = [::ffff:127.0.0.2]:80 exed\n"
				"listen = unix:/run/exed.sock roller\n");
	const struct config_listener *l;
	size_t n;

	(void)state;
	l = config_listeners(c, &n);
	assert_string_equal(l[0].address, "127.0.0.2");
	assert_int_equal(l[0].port, 80);
	assert_string_equal(l[1].address, "unix:/run/exed.sock");
	assert_string_equal(l[1].dialects[0], "roller");
	config_free(c);
	refuse("[api]\nlisten_addr = 127.0.0.1:80\n",
	       ":2: [api] listen_addr: \"127.0.0.1:80\" will not do; want an address without a port, "
	       "such as 127.0.0.1 or ::1");
	c = load("[api]\nlisten_addr = [::1]\n");
	assert_string_equal(config_listeners(c, &n)->address, "::1");
	config_free(c);
}

static void collect(void *arg, const char *line)
{
	struct buf *b = arg;

	assert_true(!strncmp(line, file, strlen(file)) || !strncmp(line, "env", 3) ||
		    !strcmp(line, "and more") || *line == '[');
	buf_puts(b, *line == *file ? line + strlen(file) : line);
	buf_putc(b, '\n');
}

static void all_mistakes_are_told_at_once(void **state)
{
	static const char text[] = "[api]\nlisten_prot = 1\nlisten_port = x\nnonsense\n"
				   "[shs]\nwindow = 1\nkeep = 2\n[ssh\nuser = a\n"
				   "[ssh]\nwindow = 0\nport = 22\n[api]\ntls_key = k\n";
	struct buf b = { 0 };
	struct err err;

	(void)state;
	write_bytes(text, strlen(text));
	setenv("EXED_SSH_KEEP", "soon", 1);
	assert_null(config_read(file, collect, &b, &err));
	unsetenv("EXED_SSH_KEEP");
	assert_string_equal(buf_str(&b),
		":2: unknown key `listen_prot` in [api]; is it `listen_port`?\n"
		":3: [api] listen_port: \"x\" will not do; want a whole number, from 0 to 65535\n"
		":4: neither [section] nor key = value\n"
		":5: unknown section [shs]; is it [ssh]?\n"
		":8: a section needs a closing bracket\n"
		":11: [ssh] window: \"0\" will not do; want a whole number, from 1 to 100000\n"
		"environment variable EXED_SSH_KEEP: [ssh] keep: \"soon\" will not do; want a time "
		"such as 500ms, 90s, 5m, 4h or 2d or none, from 0 to 1d\n"
		":14: [api] tls_key needs [api] tls_cert beside it\n");
	assert_non_null(strstr(err.message, ":2: unknown key `listen_prot`"));
	buf_deinit(&b);
}

static void a_thousand_mistakes_are_not_told_one_by_one(void **state)
{
	struct buf text = { 0 }, b = { 0 };
	size_t lines = 0;
	struct err err;

	(void)state;
	buf_puts(&text, "[api]\n");
	for (int i = 0; i < 1000; i++)
		buf_puts(&text, "x = 1\n");
	write_bytes(text.data, text.len);
	assert_null(config_read(file, collect, &b, &err));
	for (const char *p = buf_str(&b); (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 21);
	assert_non_null(strstr(b.data, "\nand more\n"));
	buf_deinit(&b);
	buf_deinit(&text);
}

static void keys_may_be_written_in_any_case(void **state)
{
	struct config *c = load("[api]\nListen_Port = 1\n[ssh]\nUSER = Me\n");

	(void)state;
	assert_int_equal(config_int(c, "api", "listen_port"), 1);
	assert_string_equal(config_str(c, "ssh", "user"), "Me");
	config_free(c);
}

static void what_needs_a_restart_is_kept_and_named(void **state)
{
	struct config *old = load("[api]\nlisten = 127.0.0.1:1\nmax_hosts = 5\n"
				  "[runner]\nrole = api\n[store]\nbuffer = 2m\n");
	struct config *fresh = load("[api]\nlisten = 127.0.0.1:2\nlisten = 127.0.0.1:3\n"
				    "max_hosts = 6\n[runner]\nrole = both\nmodules = /m\n");
	struct buf b = { 0 };
	size_t n;

	(void)state;
	assert_int_equal(config_keep(fresh, old, collect, &b), 0);
	assert_string_equal(buf_str(&b), "[api] listen needs a restart\n"
					 "[runner] role needs a restart\n"
					 "[runner] modules needs a restart\n"
					 "[store] buffer needs a restart\n");
	config_free(old);
	assert_int_equal(config_listeners(fresh, &n)->port, 1);
	assert_int_equal(n, 1);
	assert_int_equal(config_int(fresh, "api", "max_hosts"), 6);
	assert_string_equal(config_str(fresh, "runner", "role"), "api");
	assert_string_equal(config_str(fresh, "runner", "modules"), "./modules");
	assert_int_equal(config_bytes(fresh, "store", "buffer"), 2 << 20);
	buf_clear(&b);
	old = load("[api]\nlisten = 127.0.0.1:1\n[runner]\nrole = api\n[store]\nbuffer = 2m\n");
	assert_int_equal(config_keep(old, fresh, collect, &b), 0);
	assert_int_equal(b.len, 0);
	config_free(old);
	config_free(fresh);
	buf_deinit(&b);
}

static void lists_may_be_repeated(void **state)
{
	const char *const *items;
	struct config *c;
	size_t n;

	(void)state;
	setenv("HOME", "/home/me", 1);
	c = load("[ssh]\nkey = ~/.ssh/a, /k/b\nkey = c\nknown_hosts = ~/kh\n"
		 "[tasks]\nlocal_commands = /bin/true\n");
	items = config_list(c, "ssh", "key", &n);
	assert_int_equal(n, 3);
	assert_string_equal(items[0], "/home/me/.ssh/a");
	assert_string_equal(items[1], "/k/b");
	assert_string_equal(items[2], "c");
	assert_null(items[3]);
	assert_string_equal(config_str(c, "ssh", "known_hosts"), "/home/me/kh");
	items = config_list(c, "api", "allowed_hosts", &n);
	assert_int_equal(n, 0);
	assert_null(items[0]);
	config_free(c);
}

static void mistakes_are_named_with_their_line(void **state)
{
	(void)state;
	refuse("[ssh]\n\n# x\nwindw = 3\n", ":4: unknown key `windw` in [ssh]; is it `window`?");
	refuse("[sssh]\nwindow = 3\n", ":1: unknown section [sssh]; is it [ssh]?");
	refuse("[celery]\nx = 3\n",
	       ":1: unknown section [celery]; there are api, runner, store, ssh, runtime, "
	       "inventory, tasks, log and ansible");
	refuse("[api]\nwindow = 3\n", ":2: `window` is not a key of [api] but of [ssh]");
	refuse("[api]\nabsolutely_else = 3\n", ":2: unknown key `absolutely_else` in [api]; "
					     "conf/exed.conf shows all of them");
	refuse("window = 3\n", ":1: a setting before the first [section]; is it in [api]?");
	refuse("[ssh]\nwindow = many\n",
	       ":2: [ssh] window: \"many\" will not do; want a whole number, from 1 to 100000");
	refuse("[ssh]\nwindow = 0\n",
	       ":2: [ssh] window: \"0\" will not do; want a whole number, from 1 to 100000");
	refuse("[ssh]\nwindow =\n",
	       ":2: [ssh] window: \"\" will not do; want a whole number, from 1 to 100000");
	refuse("[ssh]\nwindow = 99999999999999999999\n",
	       ":2: [ssh] window: \"99999999999999999999\" will not do; want a whole number, from "
	       "1 to "
	       "100000");
	refuse("[ssh]\nkeep = 5 minutes\n", ":2: [ssh] keep: \"5 minutes\" will not do; want a "
					    "time such as 500ms, 90s, 5m, 4h or "
					    "2d or none, from 0 to 1d");
	refuse("[store]\nmemory = 1x\n", ":2: [store] memory: \"1x\" will not do; want a size such "
					 "as 4096, 64k, 8m or 1g, from 16m to 64t");
	refuse("[api]\nopen = maybe\n",
	       ":2: [api] open: \"maybe\" will not do; want true or false");
	refuse("[ssh]\nhost_key_checking = lax\n", ":2: [ssh] host_key_checking: \"lax\" will not "
						   "do; want one of strict, accept-new, off");
	refuse("[api]\ndialects = exed,x\n", ":2: [api] dialects: \"exed,x\" will not do; want "
					     "some of exed, roller, pansible, mesos");
	refuse("[tasks]\nlocal_commands = true\n", ":2: [tasks] local_commands: \"true\" will not "
						   "do; want a comma list of absolute paths");
	refuse("[ssh]\ncommand_timeout = ping 3s\n",
	       ":2: [ssh] command_timeout: \"ping 3s\" will not do; want one time for all, or a "
	       "time "
	       "per operation: `execute none, facter 60s, service 5m, deploy 1h`");
}

static void texts_without_their_form_are_refused(void **state)
{
	(void)state;
	refuse("[api]\nserver_header = a\x01z\n",
	       ":2: [api] server_header will not do; want letters, digits and signs of ASCII");
	refuse("[api]\nserver_header = \xc3\xa9\n",
	       ":2: [api] server_header will not do; want letters, digits and signs of ASCII");
	refuse("[api]\nallowed_hosts = a.example, http://b\n",
	       ":2: [api] allowed_hosts will not do; want names and addresses alone, as in "
	       "`exed.example.net, 10.0.0.5, [::1]`");
	refuse("[api]\nallowed_hosts = a b\n",
	       ":2: [api] allowed_hosts will not do; want names and addresses alone, as in "
	       "`exed.example.net, 10.0.0.5, [::1]`");
	refuse("[ssh]\nuser = -oProxyCommand=x\n",
	       ":2: [ssh] user will not do; want letters, digits and _ . @ + $ \\ -, and no - at its "
	       "start");
	refuse("[ssh]\nuser = a b\n",
	       ":2: [ssh] user will not do; want letters, digits and _ . @ + $ \\ -, and no - at its "
	       "start");
	refuse("[ssh]\nfence_dir = ops\n",
	       ":2: [ssh] fence_dir will not do; want an absolute path, ~/... or $HOME/... on the "
	       "hosts");
	refuse("[api]\nlisten = 127.0.0.1:80\nlisten = [::1]:80\nlisten = 127.0.0.1:80 exed\n",
	       ":4: [api] listen: it is there already; give one line all its dialects");
	refuse("[api]\nlisten = unix:/a\nlisten = unix:/a\n",
	       ":3: [api] listen: it is there already; give one line all its dialects");
}

static void texts_with_their_form_are_taken(void **state)
{
	(void)state;
	config_free(load("[api]\nserver_header = exed (any) 1.0, x\n"
			 "allowed_hosts = a-b.example, 10.0.0.5:80, [::1]:80\n"
			 "listen = 127.0.0.1:0\nlisten = 127.0.0.1:0\nlisten = 127.0.0.1:80\n"
			 "[ssh]\nuser = AD\\me@x.y$\nfence_dir = ~/ops\n"));
	config_free(load("[ssh]\nfence_dir = $HOME/ops\n"));
	config_free(load("[ssh]\nfence_dir = /var/lib/ops\n"));
}

static void broken_lines_are_refused(void **state)
{
	struct err err;

	(void)state;
	refuse("[ssh]\nwindow\n", ":2: neither [section] nor key = value");
	refuse("[ssh\nwindow = 3\n", ":1: a section needs a closing bracket");
	refuse("[ssh] window = 3\n", ":1: something stands behind the section's name");
	refuse("[ssh]\nuser = \"a\n", ":2: [ssh] user: a quote is not closed, or something stands "
				      "behind it");
	refuse("[ssh]\nuser = \"a\" b\n", ":2: [ssh] user: a quote is not closed, or something "
					  "stands behind it");
	write_bytes("[ssh]\nuser = a\0b\n", 17);
	assert_null(config_load(file, &err));
	assert_string_equal(err.message + strlen(file), ":2: a NUL byte; this is no text file");
	refuse("[api]\nlisten = ::1:80\n",
	       ":2: [api] listen: \"::1:80\" will not do; want ADDRESS:PORT and perhaps dialects, "
	       "as in "
	       "`127.0.0.1:16808 exed` or `[::1]:8000 roller,pansible`, or unix:/path; "
	       "the dialects are exed, roller, pansible, mesos");
	refuse("[api]\nlisten = [::1]:80 what\n",
	       ":2: [api] listen: \"[::1]:80 what\" will not do; want ADDRESS:PORT and perhaps "
	       "dialects, as in `127.0.0.1:16808 exed` or `[::1]:8000 roller,pansible`, or "
	       "unix:/path; the dialects are exed, roller, pansible, mesos");
}

static void bad_addresses_are_refused(void **state)
{
	static const char *const bad[] = { "80",     ":80",    "a:",    "a:x", "a:65536",
					   "[::1:80", "[x]:80", "a:80,b:81", "a:80 ,", ",",
					   "a:80 exed mesos", "unix:x", "unix:", "unix:/x what" };
	char text[64];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(text, sizeof(text), "[api]\nlisten = %s\n", bad[i]);
		write_bytes(text, strlen(text));
		if (config_load(file, NULL))
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

/* Values are never cut: inih alone would end this at 200 bytes. */
static void long_lines_are_whole_or_refused(void **state)
{
	size_t n = 60000;
	char *text = malloc(80000);
	struct err err;
	struct config *c;

	(void)state;
	memcpy(text, "[ssh]\nkey = /", 13);
	memset(text + 13, 'k', n);
	strcpy(text + 13 + n, "\nport = 23\n");
	c = load(text);
	assert_int_equal(strlen(config_list(c, "ssh", "key", NULL)[0]), n + 1);
	assert_int_equal(config_int(c, "ssh", "port"), 23);
	config_free(c);
	memset(text + 13, 'k', 70000);
	write_bytes(text, 70000);
	assert_null(config_load(file, &err));
	assert_string_equal(err.message + strlen(file), ":2: this line is longer than 65533 bytes");
	free(text);
}

static void a_key_given_twice_is_warned_of(void **state)
{
	struct config *c = load("[ssh]\nwindow = 3\nwindow = 4\n");

	(void)state;
	assert_int_equal(config_int(c, "ssh", "window"), 4);
	assert_string_equal(config_warnings(c)[0] + strlen(file),
			    ":3: `window` is given again; line 2 does not count");
	config_free(c);
}

static void secrets_are_in_no_message(void **state)
{
	struct err err;

	(void)state;
	write_bytes("[runner]\nredis_url = http://:hunter2@h\n", 39);
	assert_null(config_load(file, &err));
	assert_null(strstr(err.message, "hunter2"));
	assert_non_null(strstr(err.message, "redis_url"));
	assert_null(strstr(err.message, "http"));
}

static void tls_settings_go_together(void **state)
{
	struct config *c;

	(void)state;
	refuse("[api]\ntls_cert = a\n", ":2: [api] tls_cert needs [api] tls_key beside it");
	refuse("[api]\n\ntls_key = a\n", ":3: [api] tls_key needs [api] tls_cert beside it");
	refuse("[api]\ntls_client_ca = a\n",
	       ":2: [api] tls_client_ca needs [api] tls_cert and tls_key");
	c = load("[api]\ntls_cert = a\ntls_key = b\ntls_client_ca = c\nlisten = 10.0.0.1:80\n");
	assert_int_equal(config_check(c, NULL), 0);
	config_free(c);
}

static void the_environment_wins(void **state)
{
	struct config *c;
	struct err err;

	(void)state;
	setenv("EXED_SSH_WINDOW", "77", 1);
	setenv("EXED_SSH_WINDWO", "78", 1);
	setenv("EXED_API_LISTEN", "127.0.0.1:1 exed;[::1]:2", 1);
	setenv("EXED_OP", "a.0.0.0", 1);
	setenv("EXED_TEST_X", "1", 1);
	setenv("EXED_QUITE_ELSEWHERE", "1", 1);
	c = load("[ssh]\nwindow = 3\n[api]\nlisten = 127.0.0.9:9\n");
	assert_int_equal(config_int(c, "ssh", "window"), 77);
	assert_true(config_given(c, "ssh", "window"));
	assert_int_equal(config_listeners(c, &(size_t){ 0 })[1].port, 2);
	assert_string_equal(config_warnings(c)[0],
			    "unknown environment variable EXED_SSH_WINDWO; is "
			    "it EXED_SSH_WINDOW?");
	assert_string_equal(config_warnings(c)[1],
			    "unknown environment variable EXED_QUITE_ELSEWHERE");
	assert_null(config_warnings(c)[2]);
	config_free(c);
	setenv("EXED_SSH_WINDOW", "x", 1);
	assert_null(config_load(file, &err));
	assert_string_equal(err.message,
			    "environment variable EXED_SSH_WINDOW: [ssh] window: \"x\" will "
			    "not do; want a whole number, from 1 to 100000");
	unsetenv("EXED_SSH_WINDOW");
	unsetenv("EXED_SSH_WINDWO");
	unsetenv("EXED_API_LISTEN");
	unsetenv("EXED_QUITE_ELSEWHERE");
	unsetenv("EXED_OP");
	unsetenv("EXED_TEST_X");
}

static void only_a_named_file_must_be_there(void **state)
{
	struct err err;
	struct config *c;
	char here[4096];

	(void)state;
	assert_null(config_load("/nowhere/exed.conf", &err));
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_string_equal(err.message, "there is no file /nowhere/exed.conf");
	assert_null(config_load(dir, &err));
	assert_int_equal(err.code, ERR_SYSTEM);
	unlink(file);
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(dir), 0);
	c = config_load(NULL, &err);
	assert_non_null(c);
	assert_null(config_path(c));
	config_free(c);
	write_bytes("[ssh]\nwindow = 8\n", 17);
	c = config_load(NULL, &err);
	assert_int_equal(config_int(c, "ssh", "window"), 8);
	config_free(c);
	assert_int_equal(chdir(here), 0);
}

static void keep_foreign(void *arg, const struct config_item *item)
{
	if (!strcmp(item->section, "roller") && !strcmp(item->key, "CORS_ORIGIN"))
		snprintf(arg, 64, "%s", item->text);
}

static void other_dialects_keys_are_kept(void **state)
{
	struct config *c = load("[roller]\nCORS_ORIGIN = https://tools\nTASK_NAMES = a\n"
				"[pansible]\nPORT = :5757\n");
	char found[64] = "";

	(void)state;
	config_each(c, keep_foreign, found);
	assert_string_equal(found, "https://tools");
	config_free(c);
}

static void keep_executor(void *arg, const struct config_item *item)
{
	if (!strcmp(item->section, "executor my_own-1") && !strcmp(item->key, "url") && item->secret)
		snprintf(arg, 64, "%s", item->text);
}

static void settings_of_executors_are_kept(void **state)
{
	struct config *c = load("[executor my_own-1]\nurl = \"http://x # y\"\n[ssh]\nwindow = 9\n");
	char found[64] = "";

	(void)state;
	config_each(c, keep_executor, found);
	assert_string_equal(found, "http://x # y");
	assert_int_equal(config_int(c, "ssh", "window"), 9);
	config_free(c);
	refuse("[executor aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\nx = 1\n",
	       ":1: a section's name has at most 49 bytes");
	refuse("[executor a b]\nx = 1\n",
	       ":1: unknown section [executor a b]; there are api, runner, store, ssh, runtime, "
	       "inventory, tasks, log and ansible");
}

/* ---- conf/exed.conf ---- */

static void shipped_path(char *out, size_t cap)
{
	char exe[4096], *slash;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(n > 0);
	exe[n] = '\0';
	/* build/unit/test_config or build/asan/unit/test_config: go up to where conf/ is. */
	while ((slash = strrchr(exe, '/'))) {
		*slash = '\0';
		snprintf(out, cap, "%s/conf/exed.conf", exe);
		if (!access(out, R_OK))
			return;
	}
	snprintf(out, cap, "conf/exed.conf");
}

static char *read_shipped(size_t *n)
{
	char path[4200], *text;
	struct stat st;
	FILE *f;

	shipped_path(path, sizeof(path));
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &st), 0);
	*n = (size_t)st.st_size;
	text = calloc(1, *n + 1);
	assert_int_equal(fread(text, 1, *n, f), *n);
	fclose(f);
	return text;
}

static void the_shipped_file_is_the_table(void **state)
{
	struct buf b = { 0 };
	size_t n;
	char *text = read_shipped(&n);

	(void)state;
	config_print(&b);
	assert_string_equal(text, buf_str(&b));
	buf_deinit(&b);
	free(text);
}

static void keep_item(void *arg, const struct config_item *item)
{
	struct config_item **next = arg;

	*(*next)++ = *item;
}

/* With every `#key = default` made a setting, the file loads and says what holds without it. */
static void its_defaults_are_the_defaults(void **state)
{
	struct config_item plain[256], set[256], *end = plain;
	size_t n, settings = 0;
	char *text = read_shipped(&n);
	struct config *a = load(text), *b;

	(void)state;
	assert_true(config_table_size < 256);
	for (char *p = text; (p = strstr(p, "\n#")); p++) {
		if (p[2] != ' ' && p[2] != '\n') {
			p[1] = ' ';
			settings++;
		}
	}
	assert_int_equal(settings, config_table_size);
	b = load(text);
	config_each(a, keep_item, &end);
	assert_int_equal(end - plain, config_table_size);
	end = set;
	config_each(b, keep_item, &end);
	for (size_t i = 0; i < config_table_size; i++) {
		assert_true(config_given(b, set[i].section, set[i].key));
		assert_int_equal(plain[i].number, set[i].number);
		assert_int_equal(plain[i].count, set[i].count);
		if (plain[i].text)
			assert_string_equal(plain[i].text, set[i].text);
		else
			assert_null(set[i].text);
		for (size_t k = 0; k < plain[i].count; k++)
			assert_string_equal(plain[i].items[k], set[i].items[k]);
	}
	config_free(a);
	config_free(b);
	free(text);
}

static void asking_for_what_is_not_there_aborts(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	for (int i = 0; i < 2; i++) {
		pid = fork();
		if (!pid) {
			struct config *c = load("");

			fclose(stderr);
			signal(SIGABRT, SIG_DFL);
			if (i)
				config_bool(c, "ssh", "window");
			else
				config_int(c, "ssh", "windows");
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
}

static int print(void)
{
	struct buf b = { 0 };

	config_print(&b);
	fwrite(b.data, 1, b.len, stdout);
	buf_deinit(&b);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_as_documented),
		cmocka_unit_test(a_file_of_exed_is_read),
		cmocka_unit_test(units_are_understood),
		cmocka_unit_test(listeners_may_be_many),
		cmocka_unit_test(who_may_come_in_is_settled_off_loopback),
		cmocka_unit_test(mapped_and_unix_addresses_are_told_apart),
		cmocka_unit_test(all_mistakes_are_told_at_once),
		cmocka_unit_test(a_thousand_mistakes_are_not_told_one_by_one),
		cmocka_unit_test(keys_may_be_written_in_any_case),
		cmocka_unit_test(what_needs_a_restart_is_kept_and_named),
		cmocka_unit_test(lists_may_be_repeated),
		cmocka_unit_test(mistakes_are_named_with_their_line),
		cmocka_unit_test(texts_without_their_form_are_refused),
		cmocka_unit_test(texts_with_their_form_are_taken),
		cmocka_unit_test(broken_lines_are_refused),
		cmocka_unit_test(bad_addresses_are_refused),
		cmocka_unit_test(long_lines_are_whole_or_refused),
		cmocka_unit_test(a_key_given_twice_is_warned_of),
		cmocka_unit_test(secrets_are_in_no_message),
		cmocka_unit_test(tls_settings_go_together),
		cmocka_unit_test(the_environment_wins),
		cmocka_unit_test(only_a_named_file_must_be_there),
		cmocka_unit_test(other_dialects_keys_are_kept),
		cmocka_unit_test(settings_of_executors_are_kept),
		cmocka_unit_test(the_shipped_file_is_the_table),
		cmocka_unit_test(its_defaults_are_the_defaults),
		cmocka_unit_test(asking_for_what_is_not_there_aborts),
	};

	if (argc > 1 && !strcmp(argv[1], "--print"))
		return print();
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
