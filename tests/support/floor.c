/* SPDX-License-Identifier: MIT */

/*
 * floor: the least that one thread needs to run a command on N hosts with libssh2. It is what the
 * cost of exed is measured against, so it does nothing but connect, log in, run and read: no
 * inventory, no known_hosts, no retry, no record.
 *
 * The private key is read and decrypted once; a signature callback signs for all connections. The host
 * key is compared with the first one seen, which costs next to nothing. One epoll loop drives a window
 * of non-blocking sessions; each host is a small state machine (step) that is called when its socket
 * is ready and goes as far as it can.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libssh2.h>
#include <netinet/tcp.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum phase { CONNECT, HANDSHAKE, AUTH, OPEN, EXEC, READ, CLOSE, DONE };

struct host {
	int fd;
	enum phase phase;
	uint32_t addr; /* host byte order */
	uint32_t events;
	int round; /* commands finished */
	double deadline;
	LIBSSH2_SESSION *session;
	LIBSSH2_CHANNEL *channel;
	const char *error;
};

struct totals {
	int ok, failed;
	uint64_t bytes;
	double wall_s, cpu_s;
};

static struct {
	const char *user, *key_path, *command;
	uint32_t base;
	int port, hosts, window, warm, timeout_s, verbose;
} opt = {.user = "root", .base = 0x7f010001, .hosts = 100, .window = 100, .timeout_s = 30};

static EVP_PKEY *key;
static unsigned char public_blob[256];
static size_t public_len;
static unsigned char host_key[1024];
static size_t host_key_len;
static int epfd, live, rounds;
static struct totals total;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_now(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what)
{
	fprintf(stderr, "floor: %s\n", what);
	exit(2);
}

/* ---- the key ---- */

static unsigned char *put_string(unsigned char *at, const void *data, size_t n)
{
	uint32_t len = htonl((uint32_t)n);

	memcpy(at, &len, 4);
	memcpy(at + 4, data, n);
	return at + 4 + n;
}

/* Reads a PEM file (PKCS#8 or SEC1) with an ECDSA P-256 or ed25519 key and makes its public blob. */
static void load_key(void)
{
	FILE *f = fopen(opt.key_path, "r");
	unsigned char raw[128], *end = public_blob;
	size_t n = sizeof(raw);

	if (!f || !(key = PEM_read_PrivateKey(f, NULL, NULL, NULL)))
		die("cannot read the key: it must be PEM, without a passphrase");
	fclose(f);
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519) {
		if (EVP_PKEY_get_raw_public_key(key, raw, &n) != 1)
			die("no public key");
		end = put_string(end, "ssh-ed25519", 11);
	} else {
		EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
					       "uncompressed");
		if (EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, raw, sizeof(raw),
						    &n) != 1 ||
		    n != 65)
			die("the key is neither ECDSA P-256 nor ed25519");
		end = put_string(end, "ecdsa-sha2-nistp256", 19);
		end = put_string(end, "nistp256", 8);
	}
	end = put_string(end, raw, n);
	public_len = (size_t)(end - public_blob);
}

/* An ASN.1 ECDSA signature as the two numbers that SSH wants, each with a leading 0 if needed. */
static int ecdsa_to_ssh(const unsigned char *der, size_t der_len, unsigned char *out, size_t *out_len)
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)der_len);
	unsigned char number[40], *end = out;

	if (!sig)
		return -1;
	for (int i = 0; i < 2; i++) {
		const BIGNUM *bn = i ? ECDSA_SIG_get0_s(sig) : ECDSA_SIG_get0_r(sig);

		number[0] = 0;
		int n = BN_bn2bin(bn, number + 1);
		int high = n > 0 && number[1] & 0x80;

		end = put_string(end, number + !high, (size_t)(n + high));
	}
	ECDSA_SIG_free(sig);
	*out_len = (size_t)(end - out);
	return 0;
}

static int sign(LIBSSH2_SESSION *session, unsigned char **sig, size_t *sig_len,
		const unsigned char *data, size_t data_len, void **abstract)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int is_ec = EVP_PKEY_get_base_id(key) == EVP_PKEY_EC;
	unsigned char made[160];
	size_t n = sizeof(made);
	int rc = -1;

	(void)session;
	(void)abstract;
	*sig = malloc(160);
	if (*sig && EVP_DigestSignInit(ctx, NULL, is_ec ? EVP_sha256() : NULL, NULL, key) == 1 &&
	    EVP_DigestSign(ctx, made, &n, data, data_len) == 1) {
		if (is_ec) {
			rc = ecdsa_to_ssh(made, n, *sig, sig_len);
		} else {
			memcpy(*sig, made, n);
			*sig_len = n;
			rc = 0;
		}
	}
	EVP_MD_CTX_free(ctx);
	return rc;
}

/* ---- one host ---- */

/* The first host key seen is taken as the right one of all: the simulator has one for all. */
static int check_host_key(LIBSSH2_SESSION *session)
{
	size_t n;
	int type;
	const char *seen = libssh2_session_hostkey(session, &n, &type);

	if (!seen || n > sizeof(host_key))
		return -1;
	if (!host_key_len) {
		memcpy(host_key, seen, n);
		host_key_len = n;
	}
	return n == host_key_len && !memcmp(seen, host_key, n) ? 0 : -1;
}

static int session_new(struct host *h)
{
	LIBSSH2_SESSION *s = libssh2_session_init_ex(NULL, NULL, NULL, h);

	if (!s)
		return -1;
	h->session = s;
	libssh2_session_set_blocking(s, 0);
	/* The cheapest first: these were measured. Those that this libssh2 has not are left out. */
	libssh2_session_method_pref(s, LIBSSH2_METHOD_KEX, "ecdh-sha2-nistp256,curve25519-sha256");
	libssh2_session_method_pref(s, LIBSSH2_METHOD_HOSTKEY, "ecdsa-sha2-nistp256,ssh-ed25519");
	for (int i = 0; i < 2; i++)
		libssh2_session_method_pref(s, i ? LIBSSH2_METHOD_CRYPT_SC : LIBSSH2_METHOD_CRYPT_CS,
					    "aes128-gcm@openssh.com,aes128-ctr");
	return 0;
}

static int host_open(struct host *h)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
	int one = 1;

	to.sin_addr.s_addr = htonl(h->addr);
	h->deadline = now() + opt.timeout_s;
	h->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (h->fd < 0)
		return -1;
	setsockopt(h->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(h->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		return -1;
	h->phase = CONNECT;
	h->events = EPOLLOUT;
	struct epoll_event ev = {.events = h->events, .data.ptr = h};
	return epoll_ctl(epfd, EPOLL_CTL_ADD, h->fd, &ev);
}

static void host_close(struct host *h)
{
	if (h->channel)
		libssh2_channel_free(h->channel);
	if (h->session)
		libssh2_session_free(h->session);
	if (h->fd >= 0)
		close(h->fd);
	h->channel = NULL;
	h->session = NULL;
	h->fd = -1;
}

static int fail(struct host *h, const char *why)
{
	h->error = why;
	return -1;
}

/* Reads both streams until there is no more of either. Reading one may find what is the other's, and then the
 * socket, which is empty, will not say so. */
static int read_all(struct host *h)
{
	char data[32768];
	unsigned long queued;

	do {
		for (int stream = 0; stream < 2; stream++) {
			ssize_t n;

			while ((n = libssh2_channel_read_ex(h->channel, stream, data, sizeof(data))) > 0)
				total.bytes += (uint64_t)n;
			if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
				return fail(h, "read");
		}
		libssh2_channel_window_read_ex(h->channel, &queued, NULL);
	} while (queued);
	return libssh2_channel_eof(h->channel) ? 0 : LIBSSH2_ERROR_EAGAIN;
}

static int do_connect(struct host *h)
{
	int err = 0;
	socklen_t n = sizeof(err);

	if (getsockopt(h->fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0 || err)
		return fail(h, "connect");
	return session_new(h) < 0 ? fail(h, "memory") : 0;
}

static int do_close(struct host *h)
{
	int rc = libssh2_channel_close(h->channel);

	if (rc == LIBSSH2_ERROR_EAGAIN)
		return rc;
	if (rc == 0 && libssh2_channel_get_exit_status(h->channel) != 0)
		return fail(h, "exit status");
	libssh2_channel_free(h->channel);
	h->channel = NULL;
	return 0;
}

/* Does what the phase asks for: 0 done, LIBSSH2_ERROR_EAGAIN wait, other values failed. */
static int phase_run(struct host *h)
{
	int rc;

	switch (h->phase) {
	case CONNECT:
		return do_connect(h);
	case HANDSHAKE:
		rc = libssh2_session_handshake(h->session, h->fd);
		return rc == 0 ? check_host_key(h->session) : rc;
	case AUTH:
		return libssh2_userauth_publickey(h->session, opt.user, public_blob, public_len, sign,
						  NULL);
	case OPEN:
		h->channel = libssh2_channel_open_session(h->session);
		return h->channel ? 0 : libssh2_session_last_errno(h->session);
	case EXEC:
		return libssh2_channel_exec(h->channel, opt.command);
	case READ:
		return read_all(h);
	case CLOSE:
		return do_close(h);
	default:
		return 0;
	}
}

static void watch(struct host *h)
{
	int want = h->session ? libssh2_session_block_directions(h->session) : 0;
	uint32_t events = EPOLLIN;

	if (want & LIBSSH2_SESSION_BLOCK_OUTBOUND)
		events = EPOLLOUT | (want & LIBSSH2_SESSION_BLOCK_INBOUND ? EPOLLIN : 0u);
	if (events == h->events)
		return;
	struct epoll_event ev = {.events = events, .data.ptr = h};
	h->events = events;
	epoll_ctl(epfd, EPOLL_CTL_MOD, h->fd, &ev);
}

static void finish(struct host *h, int ok)
{
	struct in_addr a = {htonl(h->addr)};

	live--;
	h->round++;
	if (ok) {
		total.ok++;
	} else {
		total.failed++;
		if (opt.verbose)
			fprintf(stderr, "floor: %s: %s\n", inet_ntoa(a), h->error ? h->error : "?");
	}
	if (!ok || h->round == rounds) {
		host_close(h);
		h->phase = DONE;
	}
}

static void step(struct host *h)
{
	static const char *const names[] = {"connect", "handshake", "auth", "open", "exec", "read",
					    "close"};

	for (;;) {
		int rc = phase_run(h);

		if (rc == LIBSSH2_ERROR_EAGAIN) {
			watch(h);
			return;
		}
		if (rc != 0) {
			if (!h->error)
				h->error = names[h->phase];
			finish(h, 0);
			return;
		}
		if (h->phase == CLOSE) {
			h->phase = OPEN;
			finish(h, 1);
			return;
		}
		h->phase++;
	}
}

/* ---- a round over all hosts ---- */

static void start(struct host *h)
{
	live++;
	h->deadline = now() + opt.timeout_s;
	h->error = NULL;
	if (h->session) {
		step(h);
	} else if (host_open(h) < 0) {
		h->error = "connect";
		finish(h, 0);
	}
}

static void expire(struct host *hosts, int started, int round)
{
	double t = now();

	for (int i = 0; i < started; i++) {
		struct host *h = &hosts[i];

		if (h->phase != DONE && h->round == round && h->deadline < t) {
			h->error = "time limit";
			finish(h, 0);
		}
	}
}

static struct totals run_round(struct host *hosts, int round)
{
	double began = now(), cpu = cpu_now(), swept = began;
	int next = 0;
	struct epoll_event events[256];

	memset(&total, 0, sizeof(total));
	while (next < opt.hosts || live > 0) {
		while (next < opt.hosts && live < opt.window) {
			struct host *h = &hosts[next++];

			if (h->phase != DONE)
				start(h);
		}
		int n = epoll_wait(epfd, events, 256, 500);

		for (int i = 0; i < n; i++) {
			struct host *h = events[i].data.ptr;

			if (h->phase != DONE && h->round == round)
				step(h);
		}
		if (now() - swept > 0.5) {
			expire(hosts, next, round);
			swept = now();
		}
	}
	total.wall_s = now() - began;
	total.cpu_s = cpu_now() - cpu;
	return total;
}

static void report(const char *name, const struct totals *t, int runs)
{
	printf("\"%s\": {\"runs\": %d, \"ok\": %d, \"failed\": %d, \"wall_s\": %.4f, \"cpu_s\": %.4f, "
	       "\"cpu_ms_per_host\": %.4f, \"bytes\": %llu",
	       name, runs, t->ok, t->failed, t->wall_s, t->cpu_s, t->cpu_s * 1e3 / runs,
	       (unsigned long long)t->bytes);
	if (t->bytes > 1 << 20)
		printf(", \"cpu_ms_per_mib\": %.3f", t->cpu_s * 1e3 / ((double)t->bytes / (1 << 20)));
	printf("}");
}

static void parse(int argc, char **argv)
{
	static const char usage[] = "usage: floor -p PORT -k KEYFILE [-n HOSTS] [-w WINDOW] [-b FIRST] "
				    "[-u USER]\n             [-warm ROUNDS] [-t SECONDS] [-v] -- COMMAND\n";
	struct in_addr a;
	int i;

	for (i = 1; i + 1 < argc && strcmp(argv[i], "--"); i += 2) {
		const char *name = argv[i], *value = argv[i + 1];

		if (!strcmp(name, "-v")) {
			opt.verbose = 1;
			i--;
		} else if (!strcmp(name, "-p"))
			opt.port = atoi(value);
		else if (!strcmp(name, "-n"))
			opt.hosts = atoi(value);
		else if (!strcmp(name, "-w"))
			opt.window = atoi(value);
		else if (!strcmp(name, "-t"))
			opt.timeout_s = atoi(value);
		else if (!strcmp(name, "-warm"))
			opt.warm = atoi(value);
		else if (!strcmp(name, "-u"))
			opt.user = value;
		else if (!strcmp(name, "-k"))
			opt.key_path = value;
		else if (!strcmp(name, "-b") && inet_aton(value, &a))
			opt.base = ntohl(a.s_addr);
		else
			die(usage);
	}
	if (i + 2 != argc || strcmp(argv[i], "--") || !opt.key_path || opt.port <= 0 || opt.hosts <= 0 ||
	    opt.window <= 0 || opt.warm < 0 || opt.base >> 24 != 127)
		die(usage);
	opt.command = argv[i + 1];
}

int main(int argc, char **argv)
{
	struct rlimit files;
	struct rusage usage;
	struct totals cold, warm = {0};

	parse(argc, argv);
	alarm(600); /* a host that floods before its banner keeps libssh2 from ever returning */
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	struct host *hosts = calloc((size_t)opt.hosts, sizeof(*hosts));
	if (!hosts || libssh2_init(0))
		die("no memory");
	load_key();
	epfd = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < opt.hosts; i++) {
		hosts[i].fd = -1;
		hosts[i].addr = opt.base + (uint32_t)i;
	}
	rounds = 1 + opt.warm;
	cold = run_round(hosts, 0);
	for (int i = 1; i < rounds; i++) {
		struct totals t = run_round(hosts, i);

		warm.ok += t.ok;
		warm.failed += t.failed;
		warm.bytes += t.bytes;
		warm.wall_s += t.wall_s;
		warm.cpu_s += t.cpu_s;
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"libssh2\": \"%s\", \"hosts\": %d, \"window\": %d, ", libssh2_version(0), opt.hosts,
	       opt.window);
	report("cold", &cold, opt.hosts);
	if (opt.warm) {
		printf(", ");
		report("warm", &warm, opt.hosts * opt.warm);
	}
	printf(", \"peak_rss_kb\": %ld}\n", usage.ru_maxrss);
	free(hosts);
	EVP_PKEY_free(key);
	libssh2_exit();
	return cold.failed || warm.failed;
}
