/* SPDX-License-Identifier: MIT */
/* log: formats a line in a local buffer and writes it with one write(2), so that lines of several
 * threads do not mix. The descriptors, and counts of what could not be written, are the only state;
 * log_open is called on the loop thread and swaps a descriptor in place with dup3, so writers never see
 * a closed one. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

/* Lines that could not be written, by log; it says so with the next one that can. */
struct losses {
	atomic_uint lines;
	atomic_int why; /* errno of the last one */
	atomic_bool cut; /* a line ends in its middle: the next one begins with a newline */
};

static struct {
	atomic_int level;
	atomic_int error_fd;
	atomic_int access_fd; /* -1: no access log */
	struct losses error_lost, access_lost;
} logs = { .level = LOG_INFO, .error_fd = STDERR_FILENO, .access_fd = -1 };

static const char *const level_names[] = { "debug", "info", "warning", "error" };

int log_file(const char *path, int *fd, struct err *err)
{
	*fd = STDOUT_FILENO;
	if (!strcmp(path, "-"))
		return 0;
	*fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
	if (*fd >= 0)
		return 0;
	if (errno == ENOENT)
		return err_set(err, ERR_SYSTEM, "cannot open log %s: its directory does not exist",
			       path);
	return err_errno(err, "cannot open log %s", path);
}

void log_discard(int fd)
{
	if (fd > STDERR_FILENO)
		close(fd);
}

/* Puts fd behind *slot, reusing the number it has so that a writer in another thread is safe. */
static void replace_fd(atomic_int *slot, int fd)
{
	int old = *slot;

	if (old <= STDERR_FILENO) {
		*slot = fd;
		return;
	}
	dup3(fd, old, O_CLOEXEC);
	if (fd > STDERR_FILENO)
		close(fd);
}

void log_use(int error_fd, int access_fd)
{
	int old = logs.access_fd;

	replace_fd(&logs.error_fd, error_fd);
	if (access_fd >= 0) {
		replace_fd(&logs.access_fd, access_fd);
		return;
	}
	logs.access_fd = -1;
	log_discard(old); /* only the loop thread writes it */
}

void log_set_level(enum log_level level)
{
	logs.level = (int)level;
}

int log_open(const char *error_path, const char *access_path, enum log_level level,
	     struct err *err)
{
	int error_fd = STDERR_FILENO, access_fd = -1;

	if (error_path && log_file(error_path, &error_fd, err))
		return -ERR_SYSTEM;
	if (access_path && log_file(access_path, &access_fd, err)) {
		log_discard(error_fd);
		return -ERR_SYSTEM;
	}
	log_set_level(level);
	log_use(error_fd, access_fd);
	return 0;
}

void log_close(void)
{
	int error_fd = logs.error_fd, access_fd = logs.access_fd;

	logs.error_fd = STDERR_FILENO;
	logs.access_fd = -1;
	logs.error_lost.lines = logs.access_lost.lines = 0;
	log_discard(error_fd);
	log_discard(access_fd);
}

enum log_level log_get_level(void)
{
	return (enum log_level)logs.level;
}

int log_level_parse(const char *name)
{
	for (int i = LOG_DEBUG; i < LOG_NONE; i++)
		if (!strcmp(name, level_names[i]))
			return i;
	return -1;
}

const char *log_quote(char *out, unsigned long cap, const void *data, unsigned long n)
{
	const unsigned char *s = data;
	unsigned long used = 0;

	for (unsigned long i = 0; i < n && used + 5 < cap; i++) {
		if (s[i] >= 0x20 && s[i] < 0x7f && s[i] != '\\' && s[i] != '"')
			out[used++] = (char)s[i];
		else
			used += (unsigned long)snprintf(out + used, 5, "\\x%02x", s[i]);
	}
	if (cap)
		out[used] = '\0';
	return out;
}

const char *log_value(char *out, unsigned long cap, const char *text)
{
	size_t n = strlen(text);

	if (n && n < cap && !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					       "0123456789-._~!$&()*+,;:@/%[]?#")])
		return strcpy(out, text);
	if (cap < 3)
		return strcpy(out, "");
	out[0] = '"';
	log_quote(out + 1, cap - 2, text, n);
	strcat(out, "\"");
	return out;
}

static size_t put_stamp(char *out, size_t cap)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(out + n, cap - n, ".%03ldZ ", ts.tv_nsec / 1000000);
}

/* Copies n bytes of text to out with what is not printable ASCII as \xNN; newline and tab, which
 * tracebacks are full of, as \n and \t. Returns how many of cap bytes were used. */
static size_t escape(char *out, size_t cap, const char *text, size_t n)
{
	size_t used = 0;

	for (size_t i = 0; i < n && used + 4 <= cap; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x20 && c < 0x7f)
			out[used++] = (char)c;
		else if (c == '\n' || c == '\t')
			used += (size_t)snprintf(out + used, 5, c == '\n' ? "\\n" : "\\t");
		else
			used += (size_t)snprintf(out + used, 5, "\\x%02x", c);
	}
	return used;
}

/* False when it was not written whole: a full disk must not stop the node, and trying again would hold
 * it up. */
static bool put_line(int fd, struct losses *lost, const char *line, size_t n)
{
	ssize_t done = write(fd, line, n);

	if (done == (ssize_t)n)
		return true;
	lost->why = done < 0 ? errno : ENOSPC;
	lost->cut = lost->cut || done > 0;
	return false;
}

/* Tells how many lines are missing here. False when that cannot be written either. */
static bool tell_losses(int fd, struct losses *lost)
{
	char line[256];
	unsigned lines = lost->lines;
	size_t n;

	if (!lines)
		return true;
	line[0] = '\n';
	n = 1 + put_stamp(line + 1, sizeof(line) - 1);
	n += (size_t)snprintf(line + n, sizeof(line) - n,
			      "warning log %u lines before this one were lost: %s\n", lines,
			      strerrordesc_np(lost->why));
	if (!put_line(fd, lost, lost->cut ? line : line + 1, lost->cut ? n : n - 1))
		return false;
	lost->cut = false;
	lost->lines -= lines;
	return true;
}

/* Writes the time, head (level and area, or nothing) and the message. */
static void emit(int fd, struct losses *lost, const char *head, const char *fmt, va_list ap)
{
	char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
	size_t len = (size_t)snprintf(text, sizeof(text), "%s", head), used; /* a head is short */
	int n;

	n = vsnprintf(text + len, sizeof(text) - len, fmt, ap);
	if (n > 0)
		len += (size_t)n < sizeof(text) - len ? (size_t)n : sizeof(text) - len - 1;
	used = put_stamp(line, sizeof(line));
	/* Kept free: the newline, and the NUL of the last escape. */
	used += escape(line + used, sizeof(line) - used - 2, text, len);
	line[used++] = '\n';
	if (!tell_losses(fd, lost) || !put_line(fd, lost, line, used))
		lost->lines++;
}

void log_write(enum log_level level, const char *area, const char *fmt, ...)
{
	char head[64];
	va_list ap;

	if ((int)level < logs.level || level >= LOG_NONE)
		return;
	snprintf(head, sizeof(head), "%s %s ", level_names[level], area);
	va_start(ap, fmt);
	emit(logs.error_fd, &logs.error_lost, head, fmt, ap);
	va_end(ap);
}

bool log_access_on(void)
{
	return logs.access_fd >= 0;
}

void log_access(const char *fmt, ...)
{
	va_list ap;

	if (logs.access_fd < 0)
		return;
	va_start(ap, fmt);
	emit(logs.access_fd, &logs.access_lost, "info access ", fmt, ap);
	va_end(ap);
}
