/* SPDX-License-Identifier: MIT */
/* redis_files: configuration, password, lock and log of the private redis-server. The server holds
 * redis.lock by a descriptor that it inherits: so the lock is free exactly when the server is
 * gone, even when the exed that started it was killed. No state but the caller's struct. */
#include "redis_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "buf.h"

#define LOG_MOST (10 << 20) /* bytes; a longer log is emptied at the next start */
#define LOG_LOOK (64 << 10) /* bytes at the end of the log that are looked at */
#define ROOM (256 << 10)    /* bytes; a server that has not so much is full at its next large write */

/* ---- paths ---- */

static int join(char *out, const char *dir, const char *name, struct err *err)
{
	if (snprintf(out, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
		return err_set(err, ERR_INVALID, "state directory: the path is too long");
	return 0;
}

static int is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* Looks for the program as the shell would. */
static int find_server(struct redis_files *f, const char *name, struct err *err)
{
	const char *path = getenv("PATH"), *end;

	if (strchr(name, '/')) {
		snprintf(f->server, sizeof(f->server), "%s", name);
		if (is_program(name))
			return 0;
		return err_set(err, ERR_NOT_FOUND, "[store] redis_server: %.150s is not a program", name);
	}
	for (path = path ? path : "/usr/bin:/bin"; *path; path = *end ? end + 1 : end) {
		end = path + strcspn(path, ":");
		snprintf(f->server, sizeof(f->server), "%.*s/%s", (int)(end - path), path, name);
		if (end > path && is_program(f->server))
			return 0;
	}
	return err_set(err, ERR_NOT_FOUND,
		       "%.60s is not in PATH: install it (Debian: apt install redis-server), or set "
		       "[store] redis_server, or redis_url to a redis that runs elsewhere", name);
}

static int check_socket(const struct redis_files *f, struct err *err)
{
	size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	if (strlen(f->socket) <= most)
		return 0;
	return err_set(err, ERR_INVALID,
		       "state directory: the path of its redis.sock has %zu bytes and may have %zu: set "
		       "[store] dir to a shorter one", strlen(f->socket), most);
}

/* ---- small files ---- */

/* Writes the file anew, 0600, so that it is never seen half. */
static int write_file(const char *path, const void *data, size_t len, struct err *err)
{
	char fresh[PATH_MAX + 8];
	ssize_t n;
	int fd;

	snprintf(fresh, sizeof(fresh), "%s.new", path);
	unlink(fresh);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, "cannot write %.150s", fresh);
	n = write(fd, data, len);
	if (n != (ssize_t)len || fsync(fd)) {
		if (n >= 0 && n != (ssize_t)len)
			errno = ENOSPC;
		err_errno(err, "cannot write %.150s", fresh);
		close(fd);
		unlink(fresh);
		return -ERR_SYSTEM;
	}
	close(fd);
	if (rename(fresh, path))
		return err_errno(err, "cannot write %.150s", path);
	return 0;
}

static int read_password(struct redis_files *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, f->password, sizeof(f->password) - 1);
	close(fd);
	f->password[n > 0 ? n : 0] = '\0';
	return strspn(f->password, "0123456789abcdef") == sizeof(f->password) - 1 ? 0 : -1;
}

static int make_password(struct redis_files *f, struct err *err)
{
	unsigned char random[(sizeof(f->password) - 1) / 2];
	char path[PATH_MAX];
	int rc = join(path, f->dir, "redis.password", err);

	if (rc || !read_password(f, path))
		return rc;
	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_errno(err, "no random bytes for a password");
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(f->password + 2 * i, 3, "%02x", random[i]);
	return write_file(path, f->password, strlen(f->password), err);
}

/* "name value", the value quoted as redis.conf wants it. */
static void put_text(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, "%s \"", name);
	for (const char *c = value; *c; c++) {
		if (*c == '"' || *c == '\\')
			buf_printf(b, "\\%c", *c);
		else if ((unsigned char)*c < ' ')
			buf_printf(b, "\\x%02x", (unsigned)*c);
		else
			buf_putc(b, *c);
	}
	buf_puts(b, "\"\n");
}

static int write_conf(const struct redis_files *f, long long memory, struct err *err)
{
	struct buf b = { 0 };
	int rc;

	buf_puts(&b, "# Written by exed at each start; changes are lost.\n"
		     "port 0\ndaemonize no\nsupervised no\ndatabases 1\nunixsocketperm 600\n");
	put_text(&b, "unixsocket", f->socket);
	put_text(&b, "requirepass", f->password);
	put_text(&b, "dir", f->dir);
	put_text(&b, "logfile", f->log);
	buf_puts(&b, "save \"\"\nappendonly yes\nappendfsync always\nno-appendfsync-on-rewrite no\n"
		     "aof-use-rdb-preamble yes\n"
		     /* Outputs are most of what the file is written anew with: compressing them costs more CPU
		      * than all else that Redis does with them, and each rewrite copies what is kept. A larger
		      * file is rewritten less often, and read longer at a start: 35 ms of CPU a megabyte. */
		     "rdbcompression no\nauto-aof-rewrite-min-size 128mb\n"
		     /* A write that was cut was not acknowledged; that something was cut is said. */
		     "aof-load-truncated yes\n"
		     "maxmemory-policy noeviction\n");
	buf_printf(&b, "maxmemory %lld\n", memory);
	rc = b.failed ? err_set(err, ERR_MEMORY, "not enough memory")
		      : write_file(f->conf, b.data, b.len, err);
	buf_deinit(&b);
	return rc;
}

int redis_files_init(struct redis_files *f, const char *dir, const char *server, long long memory,
		     struct err *err)
{
	int rc;

	memset(f, 0, sizeof(*f));
	f->lock = -1;
	if (!realpath(dir, f->dir))
		return err_errno(err, "state directory %.150s", dir);
	rc = join(f->socket, f->dir, "redis.sock", err);
	if (!rc)
		rc = join(f->conf, f->dir, "redis.conf", err);
	if (!rc)
		rc = join(f->log, f->dir, "redis.log", err);
	if (!rc)
		rc = check_socket(f, err);
	if (!rc)
		rc = find_server(f, server ? server : "redis-server", err);
	if (!rc)
		rc = make_password(f, err);
	if (!rc)
		rc = write_conf(f, memory, err);
	return rc;
}

void redis_files_deinit(struct redis_files *f)
{
	if (f->lock >= 0)
		close(f->lock);
	f->lock = -1;
	explicit_bzero(f->password, sizeof(f->password));
}

int redis_files_lock(struct redis_files *f, struct err *err)
{
	char path[PATH_MAX];
	int rc;

	if (f->lock >= 0)
		return 0;
	rc = join(path, f->dir, "redis.lock", err);
	if (rc)
		return rc;
	f->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->lock < 0)
		return err_errno(err, "cannot open %.150s", path);
	if (!flock(f->lock, LOCK_EX | LOCK_NB))
		return 0;
	rc = errno == EWOULDBLOCK
		? err_set(err, ERR_AWAY, "the redis-server of a former exed still runs in %.120s", f->dir)
		: err_errno(err, "cannot lock %.150s", path);
	close(f->lock);
	f->lock = -1;
	return rc;
}

/* ---- the log ---- */

/* The newest file of those that writes go to: its name ends in a number that grows. */
static void note_aof(struct redis_files *f)
{
	char path[PATH_MAX + 32];
	struct dirent *e;
	struct stat st;
	DIR *d;

	f->aof[0] = '\0';
	snprintf(path, sizeof(path), "%s/appendonlydir", f->dir);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (strstr(e->d_name, ".incr.aof") && strlen(e->d_name) < sizeof(f->aof) &&
		    strverscmp(e->d_name, f->aof) > 0 && !fstatat(dirfd(d), e->d_name, &st, 0)) {
			strcpy(f->aof, e->d_name);
			f->aof_size = st.st_size;
		}
	if (d)
		closedir(d);
}

void redis_files_prepare(struct redis_files *f)
{
	struct stat st;

	unlink(f->socket);
	note_aof(f);
	f->log_start = 0;
	if (stat(f->log, &st))
		return;
	if (st.st_size > LOG_MOST && !truncate(f->log, 0))
		return;
	f->log_start = st.st_size;
}

/* The log of this start, at most its last LOG_LOOK bytes, as a string; NULL when there is none. */
static char *read_log(const struct redis_files *f)
{
	int fd = open(f->log, O_RDONLY | O_CLOEXEC);
	char *text = malloc(LOG_LOOK + 1);
	struct stat st;
	ssize_t n = -1;
	off_t from = f->log_start;

	if (fd >= 0 && text && !fstat(fd, &st)) {
		if (st.st_size - from > LOG_LOOK)
			from = st.st_size - LOG_LOOK;
		n = pread(fd, text, LOG_LOOK, from);
	}
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	return text;
}

/* Calls fn for each line's message: what follows "PID:ROLE date time LEVEL ", and for lines that
 * redis writes before it has a log's form (a bad configuration), the line. */
static void each_line(char *text, void (*fn)(void *arg, char level, const char *message), void *arg)
{
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char level = '#';
		const char *message = line;
		char *mark = strpbrk(line, "#*-.");

		while (mark && !(mark > line && mark[-1] == ' ' && mark[1] == ' '))
			mark = strpbrk(mark + 1, "#*-.");
		if (mark && strchr(line, ':')) {
			level = *mark;
			message = mark + 2;
		}
		fn(arg, level, message);
	}
}

struct finding {
	const struct redis_files *files;
	char *out;
	size_t cap;
};

static void find_complaint(void *arg, char level, const char *message)
{
	struct finding *f = arg;

	if (level == '#' && strncmp(message, "WARNING", 7))
		snprintf(f->out, f->cap, "%s", message);
}

void redis_files_complaint(const struct redis_files *f, char *out, size_t cap)
{
	struct finding found = { f, out, cap };
	char *text = read_log(f);

	*out = '\0';
	if (text)
		each_line(text, find_complaint, &found);
	free(text);
}

/* 0 or an errno. Tried by writing: a quota is seen by nothing else. */
static int try_room(int fd)
{
	static const char zeros[16 << 10];

	for (size_t n = 0; n < ROOM; n += sizeof(zeros)) {
		ssize_t written = write(fd, zeros, sizeof(zeros));

		if (written != (ssize_t)sizeof(zeros))
			return written < 0 ? errno : ENOSPC;
	}
	return fdatasync(fd) ? errno : 0;
}

void redis_files_room(const struct redis_files *f, char *out, size_t cap)
{
	char path[PATH_MAX + 16];
	int fd, why;

	*out = '\0';
	snprintf(path, sizeof(path), "%s/redis.room", f->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	why = fd < 0 ? errno : try_room(fd);
	if (fd >= 0)
		close(fd);
	unlink(path);
	if (why)
		snprintf(out, cap, "no room in %.150s: %s", f->dir, strerror(why));
}

/* "!!! Truncating the AOF NAME at offset N !!!" */
static void find_cut(void *arg, char level, const char *message)
{
	struct finding *f = arg;
	char name[64], offset[24];
	long long size;

	(void)level;
	if (sscanf(message, "!!! Truncating the AOF %63s at offset %23[0-9]", name, offset) != 2)
		return;
	size = strcmp(name, f->files->aof) ? 0 : f->files->aof_size - atoll(offset);
	if (size > 0)
		snprintf(f->out, f->cap, "%s was cut at its tail: its last %lld bytes were no whole write and "
			 "have been dropped", name, size);
	else
		snprintf(f->out, f->cap, "%s was cut at its tail: what followed byte %s was no whole write and "
			 "has been dropped", name, offset);
}

void redis_files_cut(const struct redis_files *f, char *out, size_t cap)
{
	struct finding found = { f, out, cap };
	char *text = read_log(f);

	*out = '\0';
	if (text)
		each_line(text, find_cut, &found);
	free(text);
}
