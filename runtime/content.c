/* SPDX-License-Identifier: MIT */
/* content: see content.h. Text lives in a memfd, so that both kinds are a descriptor. Opening belongs to
 * the loop thread until it is posted, then to the I/O thread until it is done. */
#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Read for the checksum before other work of the thread gets its turn: about 3 ms of it. */
#define TURN_BYTES (1u << 20)
#define CHUNK (64u * 1024u)

struct content {
	atomic_uint refs;
	int fd;
	uint64_t size;
	char sha256[CONTENT_SHA256 + 1];
};

struct content *content_ref(struct content *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void content_unref(struct content *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

uint64_t content_size(const struct content *c)
{
	return c->size;
}

const char *content_sha256(const struct content *c)
{
	return c->sha256;
}

ssize_t content_read(const struct content *c, uint64_t offset, void *to, size_t n)
{
	ssize_t got;

	if (offset >= c->size)
		return 0;
	if (n > c->size - offset)
		n = (size_t)(c->size - offset);
	do
		got = pread(c->fd, to, n, (off_t)offset);
	while (got < 0 && errno == EINTR);
	return got;
}

int content_descriptor(const struct content *c)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static struct content *content_new(void)
{
	struct content *c = calloc(1, sizeof(*c));

	if (c) {
		c->refs = 1;
		c->fd = -1;
	}
	return c;
}

/* ---- the checksum ---- */

static int put_sha256(struct content *c, EVP_MD_CTX *hash)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (!EVP_DigestFinal_ex(hash, digest, &n) || n * 2 != CONTENT_SHA256)
		return -ERR_SYSTEM;
	for (unsigned i = 0; i < n; i++)
		snprintf(c->sha256 + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

static EVP_MD_CTX *hash_new(void)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();

	if (hash && !EVP_DigestInit_ex(hash, EVP_sha256(), NULL)) {
		EVP_MD_CTX_free(hash);
		return NULL;
	}
	return hash;
}

/* ---- text ---- */

static int write_all(int fd, const char *bytes, size_t n)
{
	while (n) {
		ssize_t put = write(fd, bytes, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return -ERR_SYSTEM;
		bytes += put;
		n -= (size_t)put;
	}
	return 0;
}

struct content *content_text(const void *bytes, size_t n, struct err *err)
{
	struct content *c = content_new();
	EVP_MD_CTX *hash = hash_new();

	if (!c || !hash || !EVP_DigestUpdate(hash, bytes, n) || put_sha256(c, hash)) {
		err_set(err, ERR_MEMORY, "no memory for %zu bytes to send", n);
		goto fail;
	}
	c->size = n;
	c->fd = memfd_create("exed-content", MFD_CLOEXEC);
	if (c->fd < 0 || write_all(c->fd, bytes, n)) {
		err_errno(err, "cannot hold what is to be sent");
		goto fail;
	}
	EVP_MD_CTX_free(hash);
	return c;
fail:
	EVP_MD_CTX_free(hash);
	content_unref(c);
	return NULL;
}

/* ---- files ---- */

struct content_open {
	struct work work;
	struct io *io;
	char *path;
	uint64_t max, at;
	struct content *content;
	EVP_MD_CTX *hash;
	char *chunk;
	struct err err;
	content_opened *opened;
	void *arg;
	atomic_bool dropped;
};

static void open_free(struct content_open *o)
{
	content_unref(o->content);
	EVP_MD_CTX_free(o->hash);
	free(o->chunk);
	free(o->path);
	free(o);
}

static void open_done(struct work *w)
{
	struct content_open *o = (struct content_open *)w;
	struct content *c = o->err.code ? NULL : o->content;

	if (!o->dropped) {
		o->content = c ? NULL : o->content;
		o->opened(o->arg, c, &o->err);
	}
	open_free(o);
}

/* O_NONBLOCK: a fifo would wait for somebody to write. */
static int open_file(struct content_open *o)
{
	struct content *c = o->content;
	struct stat st;

	c->fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (c->fd < 0) {
		int code = errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_SYSTEM;

		return err_set(&o->err, code, "%s: %s", o->path, strerror(errno));
	}
	if (fstat(c->fd, &st))
		return err_errno(&o->err, "cannot look at a file");
	if (!S_ISREG(st.st_mode))
		return err_set(&o->err, ERR_INVALID, "%s is no regular file", o->path);
	c->size = (uint64_t)st.st_size;
	if (c->size > o->max)
		return err_set(&o->err, ERR_LIMIT, "%s has %" PRIu64 " bytes, and at most %" PRIu64
			       " may be sent", o->path, c->size, o->max);
	return 0;
}

/* Some of the file; true when there is more. */
static bool hash_some(struct content_open *o)
{
	uint64_t until = o->at + TURN_BYTES;

	while (o->at < until && o->at < o->content->size) {
		ssize_t n = content_read(o->content, o->at, o->chunk, CHUNK);

		if (n <= 0) {
			err_set(&o->err, ERR_SYSTEM, "%s: %s", o->path,
				n ? strerror(errno) : "it became shorter while it was read");
			return false;
		}
		EVP_DigestUpdate(o->hash, o->chunk, (size_t)n);
		o->at += (uint64_t)n;
	}
	if (o->at < o->content->size)
		return true;
	if (put_sha256(o->content, o->hash))
		err_set(&o->err, ERR_SYSTEM, "%s: no checksum can be made", o->path);
	return false;
}

static void open_run(struct io *io, struct work *w);

/* By way of the loop thread, so that what else waits for this thread is not held up. */
static void open_again(struct work *w)
{
	struct content_open *o = (struct content_open *)w;

	w->done = open_done;
	if (o->dropped)
		open_done(w);
	else
		io_post(o->io, w);
}

static void open_run(struct io *io, struct work *w)
{
	struct content_open *o = (struct content_open *)w;

	if ((o->content->fd >= 0 || !open_file(o)) && hash_some(o))
		w->done = open_again;
	io_done(io, w);
}

struct content_open *content_open(struct io *io, const char *path, uint64_t max,
				  content_opened *opened, void *arg)
{
	struct content_open *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->io = io;
	o->path = strdup(path);
	o->max = max;
	o->content = content_new();
	o->hash = hash_new();
	o->chunk = malloc(CHUNK);
	o->opened = opened;
	o->arg = arg;
	if (!o->path || !o->content || !o->hash || !o->chunk) {
		open_free(o);
		return NULL;
	}
	o->work.run = open_run;
	o->work.done = open_done;
	io_post(io, &o->work);
	return o;
}

void content_open_drop(struct content_open *o)
{
	o->dropped = true;
}
