/* SPDX-License-Identifier: MIT */
/* proc_spawn: posix_spawn, which is safe in a process with threads (no code of ours runs between
 * fork and exec), copies no page tables and tells why an exec failed. No state; loop thread. */
#include "proc_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content.h"

extern char **environ;

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- environment ---- */

static bool same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return !strncmp(a, b, n) && b[n] == '=';
}

static bool is_given(const struct proc_spawn *s, const char *entry)
{
	for (size_t i = 0; s->env && s->env[i]; i++)
		if (same_name(entry, s->env[i]))
			return true;
	return false;
}

static size_t count(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* A list of borrowed entries. `op` is "EXED_OP=..." or NULL. */
static const char **make_environment(const struct proc_spawn *s, const char *op)
{
	const char *const *outer = s->clean ? NULL : (const char *const *)environ;
	const char **env = malloc((count(outer) + count(s->env) + 2) * sizeof(*env));
	size_t n = 0;

	if (!env)
		return NULL;
	/* First, so that a search for it ends soon. */
	if (op)
		env[n++] = op;
	for (size_t i = 0; outer && outer[i]; i++)
		if (strncmp(outer[i], "EXED_", 5) != 0 && !is_given(s, outer[i]))
			env[n++] = outer[i];
	for (size_t i = 0; s->env && s->env[i]; i++)
		if (!op || !same_name(op, s->env[i]))
			env[n++] = s->env[i];
	env[n] = NULL;
	return env;
}

/* ---- attributes and descriptors ---- */

static int set_attributes(posix_spawnattr_t *attr)
{
	sigset_t all, none;

	sigfillset(&all);
	sigemptyset(&none);
	if (posix_spawnattr_setsigdefault(attr, &all) || posix_spawnattr_setsigmask(attr, &none))
		return -ERR_MEMORY;
	return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF |
						      POSIX_SPAWN_SETSIGMASK)
		       ? -ERR_MEMORY
		       : 0;
}

static int set_actions(posix_spawn_file_actions_t *fa, const struct proc_spawn *s,
		       const int theirs[3])
{
	int rc;

	if (theirs[0] >= 0)
		rc = posix_spawn_file_actions_adddup2(fa, theirs[0], 0);
	else
		rc = posix_spawn_file_actions_addopen(fa, 0, "/dev/null", O_RDONLY, 0);
	rc = rc ? rc : posix_spawn_file_actions_adddup2(fa, theirs[1], 1);
	rc = rc ? rc : posix_spawn_file_actions_adddup2(fa, theirs[2], 2);
	/* After the others: one of theirs may be a 3, and is of no more use then. */
	if (s->channel)
		rc = rc ? rc : posix_spawn_file_actions_adddup2(fa, s->channel, 3);
	rc = rc ? rc : posix_spawn_file_actions_addclosefrom_np(fa, s->channel ? 4 : 3);
	if (!rc && s->cwd)
		rc = posix_spawn_file_actions_addchdir_np(fa, s->cwd);
	return rc ? -ERR_MEMORY : 0;
}

/* Numbers from 3 on: a dup2 onto 0 to 2 must not hit an end that is still needed. */
static int move_up(int *fd)
{
	int up;

	if (*fd > STDERR_FILENO)
		return 0;
	up = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (up < 0)
		return -ERR_SYSTEM;
	close(*fd);
	*fd = up;
	return 0;
}

static int open_pipes(bool input, int ours[3], int theirs[3], struct err *err)
{
	for (int i = input ? 0 : 1; i < 3; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC))
			return err_errno(err, "cannot make a pipe");
		ours[i] = ends[i == 0];
		theirs[i] = ends[i != 0];
		if (move_up(&theirs[i]) || fcntl(ours[i], F_SETFL, O_NONBLOCK))
			return err_errno(err, "cannot make a pipe");
	}
	return 0;
}

static int open_content(const struct content *c, int *fd, struct err *err)
{
	if (!c)
		return 0;
	*fd = content_descriptor(c);
	return *fd < 0 || move_up(fd) ? err_errno(err, "cannot open what is to be sent") : 0;
}

/* ---- */

static int explain(const struct proc_spawn *s, int rc, struct err *err)
{
	struct stat st;
	int code = ERR_SYSTEM;

	if (s->cwd && (stat(s->cwd, &st) || !S_ISDIR(st.st_mode)))
		return err_set(err, ERR_NOT_FOUND, "there is no directory %s", s->cwd);
	if (rc == ENOENT || rc == ENOTDIR)
		code = ERR_NOT_FOUND;
	else if (rc == EACCES || rc == EPERM || rc == ENOEXEC)
		code = ERR_REFUSED;
	return err_set(err, code, "cannot run %.128s: %s", s->argv[0], strerrordesc_np(rc));
}

static int start(const struct proc_spawn *s, const char **env, const int theirs[3], pid_t *pid,
		 struct err *err)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int rc;

	if (posix_spawn_file_actions_init(&fa))
		return err_set(err, ERR_MEMORY, "no memory to run %.128s", s->argv[0]);
	if (posix_spawnattr_init(&attr)) {
		posix_spawn_file_actions_destroy(&fa);
		return err_set(err, ERR_MEMORY, "no memory to run %.128s", s->argv[0]);
	}
	if (set_attributes(&attr) || set_actions(&fa, s, theirs)) {
		rc = err_set(err, ERR_MEMORY, "no memory to run %.128s", s->argv[0]);
	} else {
		rc = posix_spawnp(pid, s->argv[0], &fa, &attr, (char *const *)s->argv,
				  (char *const *)env);
		if (rc)
			rc = explain(s, rc, err);
	}
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return rc;
}

int proc_spawn(const struct proc_spawn *s, pid_t *pid, int fds[3], struct err *err)
{
	int theirs[3] = { -1, -1, -1 };
	char *op = NULL;
	const char **env = NULL;
	int rc = -ERR_MEMORY;

	fds[0] = fds[1] = fds[2] = -1;
	if (s->op_id && asprintf(&op, "EXED_OP=%s", s->op_id) < 0)
		op = NULL;
	if (!s->op_id || op)
		env = make_environment(s, op);
	if (!env)
		err_set(err, ERR_MEMORY, "no memory to run %.128s", s->argv[0]);
	else if (!(rc = open_pipes(s->input, fds, theirs, err)) &&
		 !(rc = open_content(s->content, &theirs[0], err)))
		rc = start(s, env, theirs, pid, err);
	for (int i = 0; i < 3; i++) {
		close_fd(&theirs[i]);
		if (rc)
			close_fd(&fds[i]);
	}
	free(env);
	free(op);
	return rc;
}
