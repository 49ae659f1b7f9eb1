/* SPDX-License-Identifier: MIT */
/* known_hosts: index and verdicts; a line is read in known_hosts_entry.c.
 *
 * Entries live in one array and never move after the parse. Those with plain names are found by a
 * hash of the name; those with hashed names or patterns stand in two lists that are walked once per
 * name that is looked up: the result (which entries apply) is kept in `names`. A hashed entry
 * stands for one name, so once it has matched it is not tried again.
 *
 * One mutex guards everything: a lookup that is kept costs a hash and a few compares. */
#include "known_hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "known_hosts_entry.h"

/* Which entries apply to a name; `known` when worked out in full. */
struct name {
	struct name *next;
	char *text;
	bool known;
	struct known_entry **entries;
	size_t n;
};

struct known_hosts {
	pthread_mutex_t lock;
	char **files;
	struct known_entry **all; /* owned */
	size_t n_all;
	struct known_entry **hashed, **patterns; /* those that need a walk */
	size_t n_hashed, n_patterns;
	struct name **names;
	size_t n_names, n_slots;
};

/* Grows a list of pointers by one; its room doubles at powers of two. */
static int list_add(void *list, size_t *n, void *item)
{
	void ***at = list;

	if (!(*n & (*n - 1))) {
		void **more = realloc(*at, (*n ? *n * 2 : 1) * sizeof(*more));

		if (!more)
			return -ERR_MEMORY;
		*at = more;
	}
	(*at)[(*n)++] = item;
	return 0;
}

static uint64_t text_hash(const char *s)
{
	uint64_t h = 1469598103934665603u; /* FNV-1a */

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211u;
	return h;
}

static int names_grow(struct known_hosts *kh)
{
	size_t slots = kh->n_slots ? kh->n_slots * 2 : 256;
	struct name **table = calloc(slots, sizeof(*table));

	if (!table)
		return -ERR_MEMORY;
	for (size_t i = 0; i < kh->n_slots; i++) {
		while (kh->names[i]) {
			struct name *m = kh->names[i];
			size_t to = text_hash(m->text) & (slots - 1);

			kh->names[i] = m->next;
			m->next = table[to];
			table[to] = m;
		}
	}
	free(kh->names);
	kh->names = table;
	kh->n_slots = slots;
	return 0;
}

/* The entry of the index for a name, made when there is none. NULL when memory is out. */
static struct name *name_of(struct known_hosts *kh, const char *text)
{
	struct name *m;
	size_t slot;

	if (kh->n_names >= kh->n_slots && names_grow(kh))
		return NULL;
	slot = text_hash(text) & (kh->n_slots - 1);
	for (m = kh->names[slot]; m; m = m->next)
		if (!strcmp(m->text, text))
			return m;
	m = calloc(1, sizeof(*m));
	if (!m || !(m->text = strdup(text))) {
		free(m);
		return NULL;
	}
	m->next = kh->names[slot];
	kh->names[slot] = m;
	kh->n_names++;
	return m;
}

/* ---- reading ---- */

/* Puts an entry where lookups will find it. Takes it. */
static int entry_index(struct known_hosts *kh, struct known_entry *e)
{
	char *name, *at;
	int rc;

	if (list_add(&kh->all, &kh->n_all, e)) {
		known_entry_free(e);
		return -ERR_MEMORY;
	}
	if (!e->names)
		return list_add(&kh->hashed, &kh->n_hashed, e);
	if (strpbrk(e->names, "*?!"))
		return list_add(&kh->patterns, &kh->n_patterns, e);
	name = strdup(e->names);
	if (!name)
		return -ERR_MEMORY;
	rc = 0;
	for (char *one = strtok_r(name, ",", &at); one && !rc; one = strtok_r(NULL, ",", &at)) {
		struct name *m = name_of(kh, one);

		rc = m ? list_add(&m->entries, &m->n, e) : -ERR_MEMORY;
	}
	free(name);
	return rc;
}

static int line_read(struct known_hosts *kh, char *line, int file, int number)
{
	struct known_entry *e;
	int rc = known_entry_read(line, &e);

	if (rc || !e)
		return rc;
	e->file = file;
	e->line = number;
	return entry_index(kh, e);
}

static int file_read(struct known_hosts *kh, int index, struct err *err)
{
	FILE *f = fopen(kh->files[index], "re");
	char *line = NULL;
	size_t cap = 0;
	int rc = 0;

	if (!f)
		return errno == ENOENT || errno == ENOTDIR ?
			       0 : err_errno(err, "known_hosts: %s", kh->files[index]);
	errno = 0;
	for (int number = 1; !rc && getline(&line, &cap, f) >= 0; number++)
		rc = line_read(kh, line, index, number);
	if (rc)
		err_set(err, ERR_MEMORY, "out of memory");
	else if (ferror(f))
		rc = err_errno(err, "known_hosts: %s", kh->files[index]);
	free(line);
	fclose(f);
	return rc;
}

struct known_hosts *known_hosts_new(const char *const *files, struct err *err)
{
	struct known_hosts *kh = calloc(1, sizeof(*kh));
	size_t n = 0;
	int rc = 0;

	if (!kh) {
		err_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&kh->lock, NULL);
	while (files[n])
		n++;
	kh->files = calloc(n + 1, sizeof(*kh->files));
	for (size_t i = 0; kh->files && !rc && i < n; i++) {
		kh->files[i] = strdup(files[i]);
		rc = kh->files[i] ? file_read(kh, (int)i, err) : -ERR_MEMORY;
	}
	if (kh->files && !rc)
		return kh;
	if (!kh->files || rc == -ERR_MEMORY)
		err_set(err, ERR_MEMORY, "out of memory");
	known_hosts_free(kh);
	return NULL;
}

void known_hosts_free(struct known_hosts *kh)
{
	if (!kh)
		return;
	for (size_t i = 0; i < kh->n_all; i++)
		known_entry_free(kh->all[i]);
	for (size_t i = 0; i < kh->n_slots; i++) {
		while (kh->names[i]) {
			struct name *m = kh->names[i];

			kh->names[i] = m->next;
			free(m->text);
			free(m->entries);
			free(m);
		}
	}
	for (size_t i = 0; kh->files && kh->files[i]; i++)
		free(kh->files[i]);
	free(kh->files);
	free(kh->all);
	free(kh->hashed);
	free(kh->patterns);
	free(kh->names);
	pthread_mutex_destroy(&kh->lock);
	free(kh);
}

/* ---- looking up ---- */

/* Every entry that applies to a name, worked out at the first time it is asked for. */
static struct name *name_lookup(struct known_hosts *kh, const char *text)
{
	struct name *m = name_of(kh, text);
	size_t len = strlen(text), i;

	if (!m || m->known)
		return m;
	for (i = 0; i < kh->n_patterns; i++)
		if (known_entry_matches(kh->patterns[i], text) &&
		    list_add(&m->entries, &m->n, kh->patterns[i]))
			return NULL;
	for (i = 0; i < kh->n_hashed; i++) {
		struct known_entry *e = kh->hashed[i];

		if (e->spent || !known_entry_hashed(e, text, len))
			continue;
		e->spent = true;
		if (list_add(&m->entries, &m->n, e))
			return NULL;
	}
	m->known = true;
	return m;
}

/* The form that names have in the file: host, or [host]:port when the port is not 22. */
static void name_format(char *out, size_t cap, const char *host, int port)
{
	if (port == 22)
		snprintf(out, cap, "%s", host);
	else
		snprintf(out, cap, "[%s]:%d", host, port);
	known_lower(out);
}

const char *known_hosts_type_name(const void *key, size_t len, char *out, size_t cap)
{
	const unsigned char *k = key;
	size_t n = len >= 4 ? (size_t)k[2] << 8 | k[3] : 0;

	if (n + 4 > len)
		n = 0;
	snprintf(out, cap, "%.*s", (int)n, (const char *)k + 4);
	if (!strncmp(out, "ecdsa-sha2-", 11))
		return "ecdsa";
	if (!strncmp(out, "ssh-", 4))
		return out + 4;
	return out;
}

static unsigned key_type(const struct known_entry *e)
{
	if (known_entry_is(e, "ssh-ed25519"))
		return KNOWN_HOSTS_ED25519;
	if (known_entry_is(e, "ecdsa-sha2-nistp256"))
		return KNOWN_HOSTS_ECDSA_256;
	if (known_entry_is(e, "ecdsa-sha2-nistp384"))
		return KNOWN_HOSTS_ECDSA_384;
	if (known_entry_is(e, "ecdsa-sha2-nistp521"))
		return KNOWN_HOSTS_ECDSA_521;
	return known_entry_is(e, "ssh-rsa") ? KNOWN_HOSTS_RSA : KNOWN_HOSTS_OTHER;
}

unsigned known_hosts_types(struct known_hosts *kh, const char *host, int port)
{
	char text[1100];
	struct name *m;
	unsigned types = 0;

	name_format(text, sizeof(text), host, port);
	pthread_mutex_lock(&kh->lock);
	m = name_lookup(kh, text);
	for (size_t i = 0; m && i < m->n; i++)
		if (m->entries[i]->mark == KNOWN_PLAIN)
			types |= key_type(m->entries[i]);
	pthread_mutex_unlock(&kh->lock);
	return types;
}

/* Which line to name for a changed key: one of the same type, else any. */
static const struct known_entry *entry_closest(const struct name *m, const void *key, size_t len)
{
	const struct known_entry *best = NULL;
	char mine[64], theirs[64];

	known_hosts_type_name(key, len, mine, sizeof(mine));
	for (size_t i = 0; i < m->n; i++) {
		const struct known_entry *e = m->entries[i];

		if (e->mark != KNOWN_PLAIN)
			continue;
		known_hosts_type_name(e->key, e->key_len, theirs, sizeof(theirs));
		if (!strcmp(mine, theirs))
			return e;
		if (!best)
			best = e;
	}
	return best;
}

static enum known_hosts_verdict say_changed(struct known_hosts *kh, const struct known_entry *e,
					    const char *text, const void *key, size_t len,
					    struct err *why)
{
	char mine[64], theirs[64];
	const char *a = known_hosts_type_name(key, len, mine, sizeof(mine));
	const char *b = known_hosts_type_name(e->key, e->key_len, theirs, sizeof(theirs));

	if (!strcmp(mine, theirs))
		err_set(why, ERR_REFUSED, "host key changed: %s:%d has another %s key for %s",
			kh->files[e->file], e->line, a, text);
	else
		err_set(why, ERR_REFUSED,
			"host key changed: the host shows %s, %s:%d has %s for %s", a,
			kh->files[e->file], e->line, b, text);
	return KNOWN_HOSTS_CHANGED;
}

static enum known_hosts_verdict say_unknown(struct known_hosts *kh, const char *text,
					    struct err *why)
{
	if (!kh->files[0])
		err_set(why, ERR_REFUSED, "host key unknown: no known_hosts file for %s", text);
	else
		err_set(why, ERR_REFUSED, "host key unknown: no entry for %s in %s%s%s", text,
			kh->files[0], kh->files[1] ? " and " : "",
			kh->files[1] ? kh->files[1] : "");
	return KNOWN_HOSTS_UNKNOWN;
}

static enum known_hosts_verdict check_locked(struct known_hosts *kh, const char *text,
					     const void *key, size_t len, struct err *why)
{
	struct name *m = name_lookup(kh, text);
	const struct known_entry *e, *found = NULL;

	if (!m) {
		err_set(why, ERR_MEMORY, "out of memory");
		return KNOWN_HOSTS_UNKNOWN;
	}
	for (size_t i = 0; i < m->n; i++) {
		e = m->entries[i];
		if (e->key_len != len || memcmp(e->key, key, len))
			continue;
		if (e->mark == KNOWN_REVOKED) {
			err_set(why, ERR_REFUSED, "host key revoked: %s:%d",
				kh->files[e->file], e->line);
			return KNOWN_HOSTS_REVOKED;
		}
		found = e;
	}
	if (found)
		return KNOWN_HOSTS_OK;
	e = entry_closest(m, key, len);
	if (e)
		return say_changed(kh, e, text, key, len, why);
	return say_unknown(kh, text, why);
}

enum known_hosts_verdict known_hosts_check(struct known_hosts *kh, const char *host, int port,
					   const void *key, size_t len, struct err *why)
{
	char text[1100];
	enum known_hosts_verdict v;

	name_format(text, sizeof(text), host, port);
	pthread_mutex_lock(&kh->lock);
	v = check_locked(kh, text, key, len, why);
	pthread_mutex_unlock(&kh->lock);
	return v;
}

/* ---- adding ---- */

static int file_open(const char *path)
{
	int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	char *dir;

	if (fd >= 0 || errno != ENOENT)
		return fd;
	dir = strdup(path);
	if (dir && !mkdir(dirname(dir), 0700))
		fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	free(dir);
	return fd;
}

/* One write with O_APPEND, so that other programs that add to the file do not mix with it. */
static int file_append(const char *path, struct buf *line, struct err *err)
{
	int fd = file_open(path), rc = 0;
	char last = '\n';
	off_t end;

	if (fd < 0)
		return err_errno(err, "host key unknown, and it cannot be added: %s", path);
	end = lseek(fd, 0, SEEK_END);
	if (end > 0 && pread(fd, &last, 1, end - 1) != 1)
		last = '\n';
	if (last == '\n')
		buf_drop(line, 1); /* the newline that was put in front for the other case */
	if (write(fd, line->data, line->len) != (ssize_t)line->len)
		rc = err_errno(err, "host key unknown, and it cannot be added: %s", path);
	close(fd);
	return rc;
}

static int add_locked(struct known_hosts *kh, const char *text, const void *key, size_t len,
		      struct err *why)
{
	struct buf line = {0};
	struct known_entry *e = calloc(1, sizeof(*e));
	struct name *m = name_of(kh, text);
	char type[64];
	int rc = -ERR_MEMORY;

	known_hosts_type_name(key, len, type, sizeof(type));
	buf_printf(&line, "\n%s %s ", text, type);
	buf_base64(&line, key, len);
	buf_putc(&line, '\n');
	if (!e || !m || line.failed)
		goto out;
	e->names = strdup(text);
	e->key = malloc(len);
	if (!e->names || !e->key)
		goto out;
	memcpy(e->key, key, len);
	e->key_len = len;
	rc = file_append(kh->files[0], &line, why);
	if (rc)
		goto out;
	rc = list_add(&kh->all, &kh->n_all, e);
	if (rc)
		goto out;
	rc = list_add(&m->entries, &m->n, e);
	e = NULL;
out:
	if (rc == -ERR_MEMORY)
		err_set(why, ERR_MEMORY, "out of memory");
	known_entry_free(e);
	buf_deinit(&line);
	return rc;
}

enum known_hosts_verdict known_hosts_add(struct known_hosts *kh, const char *host, int port,
					 const void *key, size_t len, struct err *why)
{
	char text[1100];
	enum known_hosts_verdict v;

	name_format(text, sizeof(text), host, port);
	pthread_mutex_lock(&kh->lock);
	v = check_locked(kh, text, key, len, why);
	if (v == KNOWN_HOSTS_UNKNOWN && kh->files[0] && !add_locked(kh, text, key, len, why))
		v = KNOWN_HOSTS_OK;
	pthread_mutex_unlock(&kh->lock);
	return v;
}
