/* SPDX-License-Identifier: MIT */
/* tokens: keeps names and SHA-256 digests; the tokens themselves are wiped once they were read. */
#include "tokens.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIGEST 32
#define NAME_MAX_BYTES 64
#define FILE_MAX_BYTES (1 << 20)

struct token {
	unsigned char digest[DIGEST];
	char name[NAME_MAX_BYTES + 1];
};

struct tokens {
	struct token *list;
	size_t count;
};

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

static int digest(const char *token, size_t n, unsigned char out[DIGEST])
{
	unsigned size;

	return EVP_Digest(token, n, out, &size, EVP_sha256(), NULL) ? 0 : -ERR_MEMORY;
}

/* Letters and digits, and what more allows. */
static size_t span(const char *text, const char *more)
{
	size_t n = 0, part;

	do {
		part = strspn(text + n, letters);
		part += strspn(text + n + part, more);
		n += part;
	} while (part);
	return n;
}

static bool is_token(const char *text)
{
	size_t n = span(text, "-._~+/");

	return n && !text[n + strspn(text + n, "=")];
}

/* Cuts "NAME: TOKEN" in two. *name is NULL when there is none. */
static const char *split(char *line, const char **name, const char **token)
{
	char *colon = strchr(line, ':');

	*name = NULL;
	*token = line;
	if (colon) {
		*colon++ = '\0';
		*name = line;
		*token = colon + strspn(colon, " \t");
		if (!*line || line[span(line, "-._@")] || colon - line > NAME_MAX_BYTES)
			return "a name has letters, digits and -._@, at most 64 of them";
	}
	if (!is_token(*token))
		return "want TOKEN or NAME: TOKEN; a token has letters, digits and -._~+/";
	return NULL;
}

static int add(struct tokens *t, const char *name, const char *token)
{
	struct token *list = realloc(t->list, (t->count + 1) * sizeof(*list)), *new;

	if (!list)
		return -ERR_MEMORY;
	t->list = list;
	new = &list[t->count];
	if (digest(token, strlen(token), new->digest))
		return -ERR_MEMORY;
	if (name)
		snprintf(new->name, sizeof(new->name), "%s", name);
	else
		snprintf(new->name, sizeof(new->name), "token-%02x%02x%02x%02x", new->digest[0],
			 new->digest[1], new->digest[2], new->digest[3]);
	for (size_t i = 0; i < t->count; i++)
		if (!memcmp(list[i].digest, new->digest, DIGEST))
			return -ERR_INVALID;
	t->count++;
	return 0;
}

/* One line, which it changes. */
static int read_line(struct tokens *t, char *line, const char *path, int number, struct err *err)
{
	const char *name, *token, *why;
	size_t n;
	int rc;

	line += strspn(line, " \t");
	n = strlen(line);
	while (n && strchr(" \t\r", line[n - 1]))
		line[--n] = '\0';
	if (!n || *line == '#')
		return 0;
	why = split(line, &name, &token);
	if (why)
		return err_set(err, ERR_INVALID, "%.160s:%d: %s", path, number, why);
	rc = add(t, name, token);
	if (rc == -ERR_INVALID)
		return err_set(err, ERR_INVALID, "%.160s:%d: this token stands there already", path,
			       number);
	return rc ? err_set(err, ERR_MEMORY, "no memory for tokens") : 0;
}

static int read_lines(struct tokens *t, char *text, const char *path, struct err *err)
{
	int number = 1, rc = 0;

	for (char *line = text, *next; line && !rc; line = next, number++) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		rc = read_line(t, line, path, number, err);
	}
	if (!rc && !t->count)
		rc = err_set(err, ERR_INVALID, "%.160s: has no token", path);
	return rc;
}

static int check_rights(int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_errno(err, "%.160s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_INVALID, "%.160s: is not a file", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(err, ERR_REFUSED, "%.160s: belongs to uid %u; want root or uid %u",
			       path, (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & 027)
		return err_set(err, ERR_REFUSED,
			       "%.160s: has mode %04o, others may read or change it; chmod 600 (or "
			       "640)", path, (unsigned)st.st_mode & 07777);
	if (st.st_size > FILE_MAX_BYTES)
		return err_set(err, ERR_LIMIT, "%.160s: is larger than 1 MiB", path);
	return 0;
}

/* The file's bytes, ended by NUL, in memory of cap bytes. */
static char *read_file(const char *path, size_t *cap, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = NULL;
	ssize_t n;

	*cap = FILE_MAX_BYTES + 1;
	if (fd < 0) {
		err_errno(err, "%.160s", path);
		return NULL;
	}
	if (check_rights(fd, path, err))
		goto out;
	text = calloc(1, *cap);
	n = text ? read(fd, text, *cap - 1) : -1;
	if (n < 0) {
		err_errno(err, "%.160s", path);
		free(text);
		text = NULL;
	} else if (memchr(text, '\0', (size_t)n)) {
		err_set(err, ERR_INVALID, "%.160s: has a NUL byte", path);
		OPENSSL_cleanse(text, *cap);
		free(text);
		text = NULL;
	}
out:
	close(fd);
	return text;
}

struct tokens *tokens_read(const char *path, struct err *err)
{
	struct tokens *t;
	size_t cap;
	char *text = read_file(path, &cap, err);

	if (!text)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		err_set(err, ERR_MEMORY, "no memory for tokens");
	if (t && read_lines(t, text, path, err)) {
		tokens_free(t);
		t = NULL;
	}
	OPENSSL_cleanse(text, cap);
	free(text);
	return t;
}

void tokens_free(struct tokens *t)
{
	if (t)
		free(t->list);
	free(t);
}

const char *tokens_find(const struct tokens *t, const char *token, size_t n)
{
	unsigned char given[DIGEST];
	const char *name = NULL;

	if (digest(token, n, given))
		return NULL;
	for (size_t i = 0; i < t->count; i++)
		if (!CRYPTO_memcmp(given, t->list[i].digest, DIGEST))
			name = t->list[i].name;
	return name;
}
