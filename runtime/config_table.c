/* SPDX-License-Identifier: MIT */
/* config_table: every setting, and conf/exed.conf made from it. Constant data; any thread. */
#include "config_table.h"

#include <string.h>

#include "buf.h"

#define RESTART SETTING_RESTART
#define SECONDS(n) ((int64_t)(n) * 1000)
#define HOURS(n) SECONDS((n) * 3600)
#define KIB(n) ((int64_t)(n) << 10)
#define MIB(n) ((int64_t)(n) << 20)
#define GIB(n) ((int64_t)(n) << 30)

static const char *const dialects[] = { "exed", "roller", "pansible", "mesos", NULL };
static const char *const roles[] = { "both", "api", "worker", NULL };
static const char *const levels[] = { "debug", "info", "warning", "error", NULL };
static const char *const checking[] = { "strict", "accept-new", "off", NULL };
static const char *const operations[] = { "execute", "facter", "service", "deploy", NULL };

/* section, key, kind, default, least, most, choices, flags, unit, reason */
const struct setting config_table[] = {
	{ "api", "listen_addr", CONFIG_STRING, "127.0.0.1", 0, 0, NULL, RESTART, "address",
	  "Loopback, so that nobody else can reach the API before access is settled." },
	{ "api", "listen_port", CONFIG_INTEGER, "16808", 0, 65535, NULL, RESTART, "TCP port",
	  "The port that clients know; 0 takes one that is free." },
	{ "api", "listen", CONFIG_LISTEN, NULL, 0, 0, dialects, RESTART,
	  "ADDRESS:PORT dialect,dialect or unix:/path ...; as often as wanted",
	  "Replaces listen_addr and listen_port: old clients keep their ports. IPv6 in brackets. "
	  "Without dialects: those of `dialects`. A unix socket is for exed's user and root only." },
	{ "api", "dialects", CONFIG_LIST, "exed", 0, 0, dialects, RESTART, "names",
	  "Which predecessors' clients are answered; each adds paths, so only what is used." },
	{ "api", "pid_file", CONFIG_PATH, NULL, 0, 0, NULL, RESTART, "file",
	  "For service managers that want one. A worker writes none." },
	{ "api", "state_alias", CONFIG_BOOLEAN, "false", 0, 0, NULL, 0, "true or false",
	  "Adds `state` beside `status` in a host's answer, for clients of early EXEd versions." },
	{ "api", "server_header", CONFIG_STRING, NULL, 0, 0, NULL, RESTART, "text",
	  "The Server header. Unset: exed and its version." },
	{ "api", "allowed_hosts", CONFIG_LIST, NULL, 0, 0, NULL, 0, "names and addresses",
	  "What a Host header may say, against DNS rebinding. Unset: localhost, the listening "
	  "addresses, and off loopback this machine's addresses and names." },
	{ "api", "token_file", CONFIG_PATH, NULL, 0, 0, NULL, 0, "file",
	  "Bearer tokens that let a client in, one a line: TOKEN, or NAME: TOKEN for a name in logs "
	  "and jobs. Others than its owner and group must not read it." },
	{ "api", "open", CONFIG_BOOLEAN, "false", 0, 0, NULL, 0, "true or false",
	  "Lets anybody in who reaches a listener that is not loopback." },
	{ "api", "tls_cert", CONFIG_PATH, NULL, 0, 0, NULL, 0, "PEM file",
	  "Certificate and chain; with tls_key every listener but unix sockets speaks TLS, 1.2 or "
	  "newer." },
	{ "api", "tls_key", CONFIG_PATH, NULL, 0, 0, NULL, 0, "PEM file",
	  "The certificate's private key." },
	{ "api", "tls_client_ca", CONFIG_PATH, NULL, 0, 0, NULL, 0, "PEM file",
	  "Only clients with a certificate of this authority are let in; its CN is their name. With "
	  "token_file both are asked for." },
	{ "api", "max_body", CONFIG_SIZE, "8m", KIB(1), GIB(1), NULL, 0, "bytes",
	  "A request's body is held in memory whole; 8 MiB hold 100,000 host names." },
	{ "api", "max_json_values", CONFIG_INTEGER, "250000", 1000, 100000000, NULL, 0, "values",
	  "In one body: each may take 200 bytes, however short it is. More than max_hosts." },
	{ "api", "max_header", CONFIG_SIZE, "16k", KIB(1), MIB(1), NULL, 0, "bytes",
	  "Request line and headers together; browsers and proxies stay below." },
	{ "api", "max_header_lines", CONFIG_INTEGER, "100", 8, 10000, NULL, 0, "lines",
	  "Header lines in a request." },
	{ "api", "max_hosts", CONFIG_INTEGER, "100000", 1, 10000000, NULL, 0, "hosts",
	  "Targets of one job, so that one request cannot fill the store. Lower: a guard against "
	  "an `all` by accident." },
	{ "api", "header_timeout", CONFIG_DURATION, "10s", SECONDS(1), HOURS(1), NULL, 0, "time",
	  "For all of a request's headers, however slowly they drip." },
	{ "api", "body_rate", CONFIG_SIZE, "1k", 1, GIB(1), NULL, 0, "bytes per second",
	  "The least a body must come at after its first 10 seconds." },
	{ "api", "idle_timeout", CONFIG_DURATION, "75s", SECONDS(1), HOURS(24), NULL, 0, "time",
	  "How long a connection is kept between two requests." },
	{ "api", "send_timeout", CONFIG_DURATION, "60s", SECONDS(1), HOURS(24), NULL, 0, "time",
	  "How often a client that is behind is judged; it is dropped when it is too slow." },
	{ "api", "send_rate", CONFIG_SIZE, "1k", 1, GIB(1), NULL, 0, "bytes per second",
	  "The least that a client must take of what waits for it, over send_timeout." },
	{ "api", "heartbeat", CONFIG_DURATION, "15s", SECONDS(1), HOURS(1), NULL, 0, "time",
	  "A stream on which nothing happens shows a sign of life so often: proxies give up after "
	  "30 s or more, and a dead client is noticed." },
	{ "api", "send_buffer", CONFIG_SIZE, "1m", KIB(16), GIB(1), NULL, 0, "bytes",
	  "What may wait for a slow client; beyond, its stream pauses." },
	{ "api", "handler_timeout", CONFIG_DURATION, "30s", SECONDS(1), HOURS(24), NULL, 0, "time",
	  "For an answer that is no stream and waits for no host; over it, 504." },
	{ "api", "max_connections", CONFIG_INTEGER, "4096", 1, 1000000, NULL, 0, "connections",
	  "From all clients; each holds a descriptor and some memory." },
	{ "api", "peer_connections", CONFIG_INTEGER, "64", 1, 1000000, NULL, 0, "connections",
	  "From one address, so that one client cannot take all. Loopback has no such limit." },

	{ "runner", "role", CONFIG_CHOICE, "both", 0, 0, roles, RESTART, NULL,
	  "What this node does: answer the API, run jobs, or both." },
	{ "runner", "executor", CONFIG_STRING, "ssh", 0, 0, NULL, 0, "name",
	  "Who does operations when a request names none; ssh needs nothing on hosts but sh." },
	{ "runner", "concurrency", CONFIG_INTEGER, "0", 0, 10000, NULL, SETTING_CORES,
	  "processes; 0: one per core",
	  "Parallelism of the executor's own tool (Ansible's forks)." },
	{ "runner", "processes", CONFIG_INTEGER, "16", 1, 1000, NULL, 0, "processes",
	  "Of executors whose plans have one process for many hosts, at once on a node; others wait." },
	{ "runner", "modules", CONFIG_PATH, "./modules", 0, 0, NULL, RESTART, "directory",
	  "Your tasks/, executors/ and handlers/. They come before those of the same name that "
	  "are shipped. It may be missing." },
	{ "runner", "redis_url", CONFIG_STRING, "embedded", 0, 0, NULL, SETTING_SECRET | RESTART,
	  "embedded, redis://[user:password@]host[:port][/db], unix:///path or rediss://",
	  "The job store. `embedded` is a private redis-server; nodes that share one share work." },
	{ "runner", "broker_url", CONFIG_STRING, NULL, 0, 0, NULL, SETTING_SECRET, "URL",
	  "Accepted for old files and not used: jobs go through Redis." },
	{ "runner", "settle_timeout", CONFIG_DURATION, "10m", 0, HOURS(168), NULL, 0, "time",
	  "How long a host that cannot be asked how an operation ended is asked again." },
	{ "runner", "drain_timeout", CONFIG_DURATION, "10s", 0, HOURS(24), NULL, 0, "time",
	  "How long SIGTERM lets running operations end; service managers wait longer than that." },

	{ "store", "dir", CONFIG_PATH, NULL, 0, 0, NULL, RESTART, "directory",
	  "Of the private redis-server, exed.sock and the node's lock. Unset: $STATE_DIRECTORY, "
	  "else /var/lib/exed as root, else exed in the user's state folder." },
	{ "store", "redis_server", CONFIG_STRING, "redis-server", 0, 0, NULL, RESTART, "program",
	  "What the private store runs; 7.0 or newer." },
	{ "store", "ttl", CONFIG_DURATION, "7d", SECONDS(60), HOURS(24 * 3650), NULL, 0, "time",
	  "How long an ended job, and its traces on hosts, are kept: a week to look back." },
	{ "store", "output_cap", CONFIG_SIZE, "1m", 0, GIB(1), NULL, 0, "bytes per stream and host",
	  "The first bytes are kept and the rest counted." },
	{ "store", "job_output", CONFIG_SIZE, "256m", KIB(64), GIB(1024), NULL, 0, "bytes",
	  "Output of one job over all hosts, so that one job cannot fill the store." },
	{ "store", "memory", CONFIG_SIZE, "1g", MIB(16), GIB(65536), NULL, RESTART, "bytes",
	  "All jobs together. Over 80% new jobs are refused, over 90% outputs are cut." },
	{ "store", "max_jobs", CONFIG_INTEGER, "10000", 1, 10000000, NULL, 0, "jobs",
	  "Kept at once; the oldest ended ones go first." },
	{ "store", "sync_jobs", CONFIG_INTEGER, "1000", 1, 10000000, NULL, 0, "jobs",
	  "Jobs of GET requests that are kept; their clients have their answers already." },
	{ "store", "sync_ttl", CONFIG_DURATION, "10m", SECONDS(1), HOURS(24 * 365), NULL, 0, "time",
	  "How long those are kept." },
	{ "store", "buffer", CONFIG_SIZE, "64m", MIB(1), GIB(64), NULL, RESTART, "bytes",
	  "Records that wait in memory while Redis is away; when full, reading from hosts "
	  "pauses." },
	{ "store", "node_timeout", CONFIG_DURATION, "10s", SECONDS(2), HOURS(1), NULL, RESTART, "time",
	  "How long a node must be silent before others take its work; it beats five times in "
	  "it." },
	{ "store", "allow_eviction", CONFIG_BOOLEAN, "false", 0, 0, NULL, RESTART, "true or false",
	  "Accept a Redis that may drop keys when it is full. Jobs can then be lost." },

	{ "ssh", "user", CONFIG_STRING, NULL, 0, 0, NULL, 0, "name",
	  "For hosts whose inventory names none. Unset: the user that exed runs as." },
	{ "ssh", "port", CONFIG_INTEGER, "22", 1, 65535, NULL, 0, "TCP port",
	  "For hosts whose inventory names none." },
	{ "ssh", "key", CONFIG_LIST, NULL, 0, 0, NULL, SETTING_PATHS, "files",
	  "Private keys, tried in this order. Unset: ~/.ssh/id_ed25519, id_ecdsa, id_rsa." },
	{ "ssh", "key_passphrase_file", CONFIG_PATH, NULL, 0, 0, NULL, 0, "file",
	  "Its first line opens encrypted keys; they are decrypted once, at start." },
	{ "ssh", "agent", CONFIG_STRING, NULL, 0, 0, NULL, 0, "socket, or none",
	  "ssh-agent to ask for signatures. Unset: $SSH_AUTH_SOCK." },
	{ "ssh", "known_hosts", CONFIG_PATH, NULL, 0, 0, NULL, 0, "file",
	  "Host keys. Unset: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts." },
	{ "ssh", "host_key_checking", CONFIG_CHOICE, "strict", 0, 0, checking, 0, NULL,
	  "strict: only known keys. accept-new: unknown hosts are added, changed keys refused. "
	  "off: anything, also an impostor." },
	{ "ssh", "connect_timeout", CONFIG_DURATION, "10s", 100, HOURS(1), NULL, 0, "time",
	  "From the first packet to the end of login; also the limit of a ping." },
	{ "ssh", "command_timeout", CONFIG_LIMITS,
	  "execute none, facter 60s, service 300s, deploy 1h", 0, HOURS(24 * 365), operations,
	  SETTING_NONE, "one time for all, or a time per operation",
	  "For requests that name none. A command may rightly take for ever; the others have a "
	  "usual length." },
	{ "ssh", "window", CONFIG_INTEGER, "500", 1, 100000, NULL, 0, "hosts",
	  "Of one job at once on one node; each costs about 60 KB and up to 128 KiB of output." },
	{ "ssh", "keep", CONFIG_DURATION, "60s", 0, HOURS(24), NULL, SETTING_NONE, "time",
	  "How long an idle connection stays open: the next job saves the handshake." },
	{ "ssh", "max_connections", CONFIG_INTEGER, "2000", 1, 1000000, NULL, RESTART, "connections",
	  "Of this node over all jobs, idle ones included; lowered to what descriptors allow." },
	{ "ssh", "max_sessions", CONFIG_INTEGER, "8", 1, 1000, NULL, 0, "sessions",
	  "Commands at once on one connection; sshd allows 10, and one is kept for kills." },
	{ "ssh", "fence_dir", CONFIG_STRING, NULL, 0, 0, NULL, 0, "directory on the hosts",
	  "Where an operation that must not run twice leaves its mark. It must survive a reboot; "
	  "outside of the home directory it must be the login user's, writable by nobody else and no "
	  "link, else nothing runs. Unset: .exed/ops in the home directory." },
	{ "ssh", "roles", CONFIG_PATH, "./roles", 0, 0, NULL, 0, "directory",
	  "Roles for deploy: each a directory with a deploy.sh, which is sent to the hosts and run "
	  "there. May be missing." },
	{ "ssh", "max_file", CONFIG_SIZE, "1g", 1, GIB(1024), NULL, 0, "bytes",
	  "Of a file that is sent, or of a directory's archive. It takes no memory, but room in the "
	  "hosts' file systems." },
	{ "ssh", "service_enable", CONFIG_BOOLEAN, "false", 0, 0, NULL, 0, "true or false",
	  "Starting a service also enables it at boot and stopping disables it, as EXEd did." },

	{ "runtime", "io_threads", CONFIG_INTEGER, "0", 0, 64, NULL, SETTING_CORES | RESTART,
	  "threads; 0: one per core", "They do SSH: key exchange and encryption use all cores." },
	{ "runtime", "resolver", CONFIG_LIST, NULL, 0, 0, NULL, SETTING_SERVERS | RESTART,
	  "addresses, with or without a port",
	  "DNS servers for names of hosts and of Redis, after /etc/hosts. Unset: those of "
	  "/etc/resolv.conf." },
	{ "runtime", "http_connections", CONFIG_INTEGER, "200", 1, 10000, NULL, RESTART, "connections",
	  "Of exed.http to other servers, at once; further requests wait for one." },
	{ "runtime", "http_host_connections", CONFIG_INTEGER, "20", 1, 10000, NULL, RESTART, "connections",
	  "Of these to one server, so that a task's fibers do not overrun it." },
	{ "runtime", "http_idle", CONFIG_INTEGER, "50", 1, 10000, NULL, RESTART, "connections",
	  "Of these kept open when nobody uses them." },
	{ "runtime", "http_keep", CONFIG_DURATION, "60s", SECONDS(1), HOURS(1), NULL, RESTART, "time",
	  "How old a kept one may be and still be used; servers mostly close them after 75 s." },
	{ "runtime", "lua_memory", CONFIG_SIZE, "512m", MIB(16), GIB(64), NULL, RESTART, "bytes",
	  "Of the node's Lua state, so that a broken handler cannot eat the machine." },
	{ "runtime", "lua_budget", CONFIG_INTEGER, "50000000", 100000, 100000000000, NULL, RESTART,
	  "instructions",
	  "That a handler may run between two waits (about half a second); over it, it is stopped "
	  "with its line. Its first 10 to 20 ms do not count." },
	{ "runtime", "executor_budget", CONFIG_INTEGER, "10000000", 100000, 100000000000, NULL, 0,
	  "instructions",
	  "Of one call into an executor's file (about a tenth of a second, in which the node does "
	  "nothing else); over it, the call is stopped with its line." },
	{ "runtime", "fibers", CONFIG_INTEGER, "20000", 16, 10000000, NULL, RESTART, "fibers",
	  "At once in the node; each request and slice has one." },

	{ "inventory", "path", CONFIG_PATH, "./hosts", 0, 0, NULL, 0, "file or directory",
	  "Hosts, groups and variables in Ansible's format: INI, YAML, an executable that prints "
	  "JSON, or a directory of these. Read again when it changes." },
	{ "inventory", "program_period", CONFIG_DURATION, "60s", SECONDS(1), HOURS(24 * 30), NULL,
	  0, "time", "How often an executable is asked again: some ask a slow service themselves." },
	{ "inventory", "program_timeout", CONFIG_DURATION, "30s", 100, HOURS(1), NULL, 0, "time",
	  "For one asking; then it is killed, and the last good inventory stays in force." },
	{ "inventory", "program_output", CONFIG_SIZE, "16m", KIB(1), GIB(1), NULL, 0, "bytes",
	  "That it may print: about 50,000 hosts with a few variables." },

	{ "tasks", "memory", CONFIG_SIZE, "256m", MIB(16), GIB(64), NULL, 0, "bytes",
	  "Of one task's process; over it the task fails, nothing else." },
	{ "tasks", "cpu_limit", CONFIG_DURATION, "10m", SECONDS(1), HOURS(24 * 30), NULL, 0, "time",
	  "Of the processor, for one task: it mostly waits." },
	{ "tasks", "time_limit", CONFIG_DURATION, "24h", SECONDS(1), HOURS(24 * 365), NULL, 0,
	  "time", "For a task whose file names none; over it the task is cancelled." },
	{ "tasks", "cleanup_limit", CONFIG_DURATION, "5m", SECONDS(1), HOURS(24), NULL, 0, "time",
	  "For what a task puts back after a cancel or a limit." },
	{ "tasks", "answer_limit", CONFIG_DURATION, "5s", 100, HOURS(1), NULL, 0, "time",
	  "That a task may compute between two answers before it counts as stuck." },
	{ "tasks", "secrets", CONFIG_PATH, NULL, 0, 0, NULL, 0, "directory",
	  "Secrets for job:secret(NAME): a file NAME each, that nobody but its owner may read; a line "
	  "break at its end is not part of it. systemd's LoadCredential= makes such a directory." },
	{ "tasks", "secret_key", CONFIG_PATH, NULL, 0, 0, NULL, 0, "file",
	  "Seals the secret arguments of a task in the store. Nodes that share a store need the same "
	  "file, of at least 32 random bytes, to take over each other's tasks that have some. Not set: "
	  "task_key in the state directory, made when it is missing." },
	{ "tasks", "local_commands", CONFIG_LIST, NULL, 0, 0, NULL, SETTING_ABSOLUTE,
	  "absolute paths", "What tasks may run on the node itself. Unset: nothing." },
	{ "tasks", "local_files", CONFIG_LIST, NULL, 0, 0, NULL, SETTING_ABSOLUTE,
	  "absolute paths", "Directories of the node that tasks may send files from, beside their own "
	  "tasks/files/NAME/. Unset: none." },

	{ "log", "log_level", CONFIG_CHOICE, "info", 0, 0, levels, 0, NULL,
	  "The least important lines that are written." },
	{ "log", "error_log", CONFIG_PATH, "-", 0, 0, NULL, SETTING_DASH, "file, or -",
	  "What happens. -: standard output, where a service manager collects it. Opened again at "
	  "SIGHUP." },
	{ "log", "access_log", CONFIG_PATH, "-", 0, 0, NULL, SETTING_DASH, "file, -, or none",
	  "One line per request: peer, who, method, path without its query, status, bytes, seconds, "
	  "jid." },

	{ "ansible", "workdir", CONFIG_PATH, ".", 0, 0, NULL, 0, "directory",
	  "Where the ansible executor runs; Ansible's own settings come from the environment." },
	{ "ansible", "playbooks", CONFIG_PATH, "playbooks", 0, 0, NULL, 0, "directory in workdir",
	  "With _deploy.yml, which takes _targets and _role." },
	{ "ansible", "processes", CONFIG_INTEGER, "4", 1, 1000, NULL, 0, "processes",
	  "Runs of Ansible at once on a node; others wait. Each takes 50 MiB and more." },
};

const size_t config_table_size = sizeof(config_table) / sizeof(*config_table);

/* ---- conf/exed.conf ---- */

static const char *const head[] = {
	("exed.conf: every setting of exed, with its unit, the reason for its default, and the "
	"default itself, commented out. Relative paths are taken from the directory that exed is "
	"started in."),
	("A value may stand in quotes. A comment begins with # or ; at the start of a line or after "
	"a blank. Times: 90 (seconds), 500ms, 90s, 5m, 4h, 2d. Sizes: 65536 (bytes), 64k, 8m, 1g. "
	"Lists are separated by commas, or given by several lines. `none` turns a limit off where "
	"that is allowed."),
	("The environment wins over this file: EXED_SSH_WINDOW=100 sets window in [ssh]. An unknown "
	"section or key is an error. `exed -t` checks the file and the files that it names. SIGHUP "
	"reads it again; what is marked \"Restart.\" needs one."),
};

static const struct {
	const char *section, *text;
} intros[] = {
	{ "api", "The HTTP API. [api_server] is another name for this section." },
	{ "runner", "This node, and where jobs are kept." },
	{ "store", "The job store and its bounds." },
	{ "ssh", "How hosts are reached. The inventory overrides user, port and key per host." },
	{ "runtime", "The program itself." },
	{ "inventory", "Which hosts there are." },
	{ "tasks", "Limits of tasks; each runs in a process of its own." },
	{ "log", "Logs. Control bytes are escaped and secrets are never written." },
	{ "ansible", "The ansible executor. Settings of your own executors stand in sections of theirs, "
		     "[executor NAME]." },
};

#define WIDTH 98

/* Words of text as comment lines of at most WIDTH columns. */
static void print_text(struct buf *b, const char *text)
{
	size_t column = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column && column + 1 + n > WIDTH) {
			buf_putc(b, '\n');
			column = 0;
		}
		if (!column) {
			buf_putc(b, '#');
			column = 1;
		}
		buf_putc(b, ' ');
		buf_add(b, text, n);
		column += 1 + n;
		text += n + (text[n] == ' ');
	}
	buf_putc(b, '\n');
}

static void print_setting(struct buf *b, const struct setting *s)
{
	struct buf line = { 0 };

	buf_printf(&line, "%s: ", s->key);
	if (s->unit)
		buf_puts(&line, s->unit);
	for (size_t i = 0; !s->unit && s->of[i]; i++)
		buf_printf(&line, "%s%s", i ? ", " : "", s->of[i]);
	buf_printf(&line, ". %s%s", s->reason, s->flags & SETTING_RESTART ? " Restart." : "");
	buf_putc(b, '\n');
	if (buf_str(&line))
		print_text(b, line.data);
	else
		b->failed = true;
	buf_printf(b, "#%s =%s%s\n", s->key, s->otherwise ? " " : "",
		   s->otherwise ? s->otherwise : "");
	buf_deinit(&line);
}

void config_print(struct buf *b)
{
	const char *section = "";

	for (size_t i = 0; i < sizeof(head) / sizeof(*head); i++) {
		if (i)
			buf_puts(b, "#\n");
		print_text(b, head[i]);
	}
	for (size_t i = 0; i < config_table_size; i++) {
		const struct setting *s = &config_table[i];

		if (strcmp(section, s->section)) {
			section = s->section;
			buf_putc(b, '\n');
			for (size_t k = 0; k < sizeof(intros) / sizeof(*intros); k++)
				if (!strcmp(intros[k].section, section))
					print_text(b, intros[k].text);
			buf_printf(b, "[%s]\n", section);
		}
		print_setting(b, s);
	}
}
