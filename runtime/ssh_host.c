/* SPDX-License-Identifier: MIT */
/* ssh_host: whom to reach and how: struct ssh_host and struct ssh_settings, both immutable once
 * made (but for the keys of single hosts, under a mutex) and counted atomically. Any thread. */
#include <arpa/inet.h>
#include <net/if.h>
#include <pthread.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "ssh_conn.h"

/* ---- hosts ---- */

static unsigned hash_text(unsigned h, const char *s)
{
	for (; s && *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u; /* FNV-1a */
	return (h ^ 0xff) * 16777619u;
}

/* 10.0.0.7, ::1, fe80::1%eth0: no name service is asked for them. */
static bool address_parse(const char *text, union ssh_address *at)
{
	char bare[INET6_ADDRSTRLEN];
	const char *zone = strchr(text, '%');
	size_t n = zone ? (size_t)(zone - text) : strlen(text);

	memset(at, 0, sizeof(*at));
	if (inet_pton(AF_INET, text, &at->in4.sin_addr) == 1) {
		at->sa.sa_family = AF_INET;
		return true;
	}
	if (n >= sizeof(bare))
		return false;
	memcpy(bare, text, n);
	bare[n] = '\0';
	if (inet_pton(AF_INET6, bare, &at->in6.sin6_addr) != 1)
		return false;
	at->sa.sa_family = AF_INET6;
	at->in6.sin6_scope_id = zone ? if_nametoindex(zone + 1) : 0;
	return true;
}

static bool copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

struct ssh_host *ssh_host_new(const struct ssh_host_spec *spec)
{
	struct ssh_host *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	atomic_init(&h->refs, 1);
	if (!copy(&h->name, spec->name) || !copy(&h->address, spec->address) ||
	    !copy(&h->user, spec->user) || !copy(&h->key, spec->key) ||
	    !copy(&h->password, spec->password) ||
	    !copy(&h->fence_dir, spec->fence_dir) || !copy(&h->become_user, spec->become) ||
	    !copy(&h->become_password, spec->become_password)) {
		ssh_host_unref(h);
		return NULL;
	}
	h->jump = spec->jump ? ssh_host_ref(spec->jump) : NULL;
	h->port = spec->port;
	h->raw = spec->raw;
	h->become = (struct ssh_become){ h->become_user, h->become_password };
	h->numeric = address_parse(ssh_host_address(h), &h->at);
	h->hash = hash_text(2166136261u, ssh_host_address(h));
	h->hash = hash_text(h->hash, h->user);
	h->hash = (h->hash ^ (unsigned)h->port) * 16777619u;
	if (h->jump)
		h->hash = (h->hash ^ h->jump->hash) * 16777619u;
	return h;
}

struct ssh_host *ssh_host_ref(struct ssh_host *h)
{
	atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
	return h;
}

/* The memory of a secret, given back without it. */
static void secret_free(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

void ssh_host_unref(struct ssh_host *h)
{
	if (!h || atomic_fetch_sub(&h->refs, 1) > 1)
		return;
	ssh_host_unref(h->jump);
	free(h->name);
	free(h->address);
	free(h->user);
	free(h->key);
	free(h->fence_dir);
	free(h->become_user);
	secret_free(h->password);
	secret_free(h->become_password);
	free(h);
}

unsigned ssh_host_hash(const struct ssh_host *h)
{
	return h->hash;
}

const char *ssh_host_name(const struct ssh_host *h)
{
	return h->name;
}

bool ssh_host_raw(const struct ssh_host *h)
{
	return h->raw;
}

const struct ssh_become *ssh_host_become(const struct ssh_host *h)
{
	return h->become.user ? &h->become : NULL;
}

const char *ssh_host_fence_dir(const struct ssh_host *h)
{
	return h->fence_dir;
}

const char *ssh_host_address(const struct ssh_host *h)
{
	return h->address ? h->address : h->name;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

bool ssh_host_same(const struct ssh_host *a, const struct ssh_host *b)
{
	if (a == b)
		return true;
	if (!a || !b || !ssh_host_same(a->jump, b->jump))
		return false;
	return a->hash == b->hash && a->port == b->port && a->raw == b->raw &&
	       same_text(ssh_host_address(a), ssh_host_address(b)) &&
	       same_text(a->user, b->user) && same_text(a->key, b->key) &&
	       same_text(a->password, b->password);
}

/* ---- settings ---- */

/* "~/x" and NULL-safe; the result is the caller's. */
static char *home_path(const char *path)
{
	const char *home = getenv("HOME");
	struct buf b = {0};
	struct passwd *pw;
	size_t n;

	if (strncmp(path, "~/", 2))
		return strdup(path);
	if (!home || !*home) {
		pw = getpwuid(getuid());
		home = pw ? pw->pw_dir : "";
	}
	buf_printf(&b, "%s%s", home, path + 1);
	return buf_take(&b, &n);
}

/* The first line of a file, without its newline. */
static int passphrase_read(struct ssh_settings *s, const char *path, struct err *err)
{
	FILE *f = fopen(path, "re");
	size_t cap = 0;
	ssize_t n;

	if (!f)
		return err_errno(err, "key_passphrase_file %s", path);
	n = getline(&s->passphrase, &cap, f);
	fclose(f);
	if (n <= 0)
		return err_set(err, ERR_INVALID, "key_passphrase_file %s: empty", path);
	s->passphrase[strcspn(s->passphrase, "\r\n")] = '\0';
	return 0;
}

static int key_add(struct ssh_settings *s, size_t *n, struct ssh_key *k, struct err *err)
{
	struct ssh_key **more = realloc(s->keys, (*n + 2) * sizeof(*more));

	if (!more) {
		ssh_key_unref(k);
		return err_set(err, ERR_MEMORY, "out of memory");
	}
	s->keys = more;
	more[(*n)++] = k;
	more[*n] = NULL;
	return 0;
}

/* Whether a path stands in the list before `at` too: opening a key with a passphrase again costs as much again,
 * and a host would be asked twice. */
static bool is_again(const char *const *paths, const char *const *at)
{
	const char *const *first = paths;

	while (strcmp(*first, *at) != 0)
		first++;
	return first != at;
}

/* The usual ones may be missing or of no use to us; one that was named must do. */
static int keys_read(struct ssh_settings *s, const char *const *named, struct err *err)
{
	static const char *const usual[] = {"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa",
					    "~/.ssh/id_rsa", NULL};
	const char *const *const paths = named ? named : usual;
	size_t n = 0;
	int rc = 0;

	s->keys = calloc(1, sizeof(*s->keys));
	if (!s->keys)
		return err_set(err, ERR_MEMORY, "out of memory");
	for (const char *const *at = paths; !rc && *at; at++) {
		char *path;
		struct err why = {0};
		struct ssh_key *k;

		if (is_again(paths, at))
			continue;
		path = home_path(*at);
		k = path ? ssh_key_read(path, s->passphrase, &why) : NULL;
		free(path);
		if (k) {
			rc = key_add(s, &n, k, err);
		} else if (named) {
			*err = why;
			rc = -why.code;
		} else if (why.code != ERR_NOT_FOUND) {
			log_info("ssh", "%s", why.message);
		}
	}
	return rc;
}

static int known_hosts_read(struct ssh_settings *s, const char *named, struct err *err)
{
	char *own = home_path(named ? named : "~/.ssh/known_hosts");
	const char *files[] = {own, named ? NULL : "/etc/ssh/ssh_known_hosts", NULL};

	if (own)
		s->known_hosts = known_hosts_new(files, err);
	else
		err_set(err, ERR_MEMORY, "out of memory");
	free(own);
	return s->known_hosts ? 0 : -ERR_SYSTEM;
}

static bool user_set(struct ssh_settings *s, const char *user)
{
	struct passwd *pw = user ? NULL : getpwuid(getuid());

	s->user = strdup(user ? user : pw ? pw->pw_name : "root");
	return s->user != NULL;
}

static void ssh_once(void)
{
	libssh2_init(0); /* not thread-safe by itself; a second call elsewhere does nothing */
}

struct ssh_settings *ssh_settings_new(const struct ssh_options *o, struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct ssh_settings *s = calloc(1, sizeof(*s));
	struct err why = {0};
	const char *agent;

	pthread_once(&once, ssh_once);
	if (!s)
		goto memory;
	atomic_init(&s->refs, 1);
	pthread_mutex_init(&s->lock, NULL);
	s->port = o->port ? o->port : 22;
	s->checking = o->checking;
	s->connect_timeout_ms = o->connect_timeout_ms;
	s->keep_ms = o->keep_ms;
	s->max_connections = o->max_connections ? o->max_connections : 1;
	s->max_sessions = o->max_sessions ? o->max_sessions : 1;
	agent = o->agent ? o->agent : getenv("SSH_AUTH_SOCK");
	if (!user_set(s, o->user) || !copy(&s->agent, agent && *agent ? agent : NULL) ||
	    !copy(&s->resolver, o->resolver))
		goto memory;
	if (o->key_passphrase_file && passphrase_read(s, o->key_passphrase_file, &why))
		goto fail;
	if (keys_read(s, o->keys, &why) || known_hosts_read(s, o->known_hosts, &why))
		goto fail;
	return s;
memory:
	err_set(&why, ERR_MEMORY, "out of memory");
fail:
	ssh_settings_unref(s);
	if (err)
		*err = why;
	return NULL;
}

struct ssh_settings *ssh_settings_ref(struct ssh_settings *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void ssh_settings_unref(struct ssh_settings *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	for (size_t i = 0; s->keys && s->keys[i]; i++)
		ssh_key_unref(s->keys[i]);
	while (s->named) {
		struct ssh_named_key *n = s->named;

		s->named = n->next;
		ssh_key_unref(n->key);
		free(n->path);
		free(n);
	}
	secret_free(s->passphrase);
	free(s->keys);
	free(s->user);
	free(s->agent);
	free(s->resolver);
	known_hosts_free(s->known_hosts);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct ssh_key *ssh_settings_key(struct ssh_settings *s, const char *path, struct err *err)
{
	struct ssh_named_key *n;
	char *real;

	pthread_mutex_lock(&s->lock);
	for (n = s->named; n && strcmp(n->path, path); n = n->next)
		;
	if (n)
		goto out;
	n = calloc(1, sizeof(*n));
	if (!n || !(n->path = strdup(path))) {
		free(n);
		n = NULL;
		err_set(err, ERR_MEMORY, "out of memory");
		goto out;
	}
	/* A small local file, once: shorter than a trip to another thread and back. */
	real = home_path(path);
	n->key = real ? ssh_key_read(real, s->passphrase, &n->err) : NULL;
	free(real);
	n->next = s->named;
	s->named = n;
out:
	pthread_mutex_unlock(&s->lock);
	if (n && !n->key && err)
		*err = n->err;
	return n ? n->key : NULL;
}
