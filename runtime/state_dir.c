/* SPDX-License-Identifier: MIT */
/* state_dir: a lock file with the holder's pid. The lock is flock's, so that it goes with the
 * process, however that ends. No state. */
#include "state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_dirs(const char *path, struct err *err)
{
	char part[PATH_MAX];
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(part))
		return err_set(err, ERR_INVALID, "state directory: the path is empty or too long");
	memcpy(part, path, len + 1);
	for (char *at = part + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		if (mkdir(part, 0700) && errno != EEXIST)
			return err_errno(err, "cannot make directory %s", part);
		*at = '/';
	}
	if (mkdir(part, 0700) && errno != EEXIST)
		return err_errno(err, "cannot make directory %s", part);
	return 0;
}

static int check_owner(const char *path, struct stat *st, struct err *err)
{
	if (stat(path, st))
		return err_errno(err, "cannot look at state directory %s", path);
	if (!S_ISDIR(st->st_mode))
		return err_set(err, ERR_INVALID, "state directory %s is not a directory", path);
	if (st->st_uid != geteuid())
		return err_set(err, ERR_REFUSED,
			       "state directory %s belongs to uid %u, and exed runs as uid %u", path,
			       (unsigned)st->st_uid, (unsigned)geteuid());
	return 0;
}

static int check_dir(const char *path, struct err *err)
{
	struct stat st;
	int rc = check_owner(path, &st, err);

	if (rc)
		return rc;
	if ((st.st_mode & 077) && chmod(path, 0700))
		return err_errno(err, "cannot take others' rights from state directory %s", path);
	if (access(path, W_OK | X_OK))
		return err_errno(err, "state directory %s cannot be written", path);
	return 0;
}

static int refuse(int fd, const char *path, struct err *err)
{
	char pid[16];
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? n : 0] = '\0';
	pid[strcspn(pid, "\n")] = '\0';
	return err_set(err, ERR_REFUSED,
		       "state directory %s is in use by exed with pid %s: end that one, or give this "
		       "one another [store] dir", path, *pid ? pid : "?");
}

static int write_pid(int fd, const char *file, struct err *err)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
		return err_errno(err, "cannot write %s", file);
	return 0;
}

int state_dir_open(const char *path, struct err *err)
{
	char file[PATH_MAX];
	int fd, rc;

	rc = make_dirs(path, err);
	if (!rc)
		rc = check_dir(path, err);
	if (rc)
		return rc;
	if (snprintf(file, sizeof(file), "%s/lock", path) >= (int)sizeof(file))
		return err_set(err, ERR_INVALID, "state directory: the path is too long");
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, "cannot open %s", file);
	if (flock(fd, LOCK_EX | LOCK_NB))
		rc = errno == EWOULDBLOCK ? refuse(fd, path, err) : err_errno(err, "cannot lock %s", file);
	else
		rc = write_pid(fd, file, err);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

static bool is_missing(const char *path, struct stat *st)
{
	return stat(path, st) && (errno == ENOENT || errno == ENOTDIR);
}

/* Whether the nearest directory above the path that there is can take a new one. */
static int check_parent(const char *path, struct err *err)
{
	char part[PATH_MAX];
	struct stat st;
	char *slash = part;

	if (!*path || strlen(path) >= sizeof(part))
		return err_set(err, ERR_INVALID, "state directory: the path is empty or too long");
	strcpy(part, path);
	while (slash && is_missing(part, &st)) {
		slash = strrchr(part, '/');
		if (!slash)
			strcpy(part, ".");
		else
			slash[slash == part] = '\0';
	}
	if (stat(part, &st))
		return err_errno(err, "cannot make directory %s in %s", path, part);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_INVALID, "cannot make directory %s: %s is not a directory", path,
			       part);
	if (faccessat(AT_FDCWD, part, W_OK | X_OK, AT_EACCESS))
		return err_errno(err, "cannot make directory %s in %s", path, part);
	return 0;
}

int state_dir_check(const char *path, struct err *err)
{
	struct stat st;
	int rc;

	if (is_missing(path, &st))
		return check_parent(path, err);
	rc = check_owner(path, &st, err);
	if (!rc && faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS))
		rc = err_errno(err, "state directory %s cannot be written", path);
	return rc;
}
