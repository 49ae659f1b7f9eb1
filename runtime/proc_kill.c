/* SPDX-License-Identifier: MIT */
/* proc_kill: one sweep reads the process table a few times and serves all jobs that wait, so that
 * many time limits at once cost little more than one. A process that was once found to belong to
 * a job stays so when its parent dies: it is remembered by pid and start time, which also keeps a
 * signal from hitting a process that got the number later. */
#include "proc_kill.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOOKS 20           /* rounds of stopping; a fork loop is caught in a few */
#define ENVIRON_BYTES (1 << 20)

struct process {
	pid_t pid, parent, group, session;
	unsigned long long start; /* clock ticks since boot */
	char state;
	struct proc_kill *job; /* to which it belongs, or NULL */
};

struct member {
	pid_t pid;
	unsigned long long start;
	struct proc_kill *job;
};

struct sweep {
	struct proc_kill *jobs;
	int proc;                /* descriptor of /proc */
	struct process *table;   /* sorted by pid */
	size_t count, cap;
	struct member *members;
	size_t member_count, member_cap;
	char *environ_text;
	unsigned long long oldest; /* start of the oldest job's child */
	char cgroup[4096];       /* ours, as /proc/PID/cgroup has it */
	pid_t ancestors[64];     /* ours: whoever of them is a subreaper takes orphans in */
	size_t nancestors;
	bool failed;             /* the table could not be read: nothing is known */
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- reading /proc ---- */

static ssize_t read_file(int proc, pid_t pid, const char *name, char *out, size_t cap)
{
	char path[32];
	size_t used = 0;
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (used + 1 < cap && (n = read(fd, out + used, cap - 1 - used)) > 0)
		used += (size_t)n;
	close(fd);
	out[used] = '\0';
	return n < 0 ? -1 : (ssize_t)used;
}

/* proc(5): pid (name) state parent group session ... the 22nd is the start. A name may hold
 * anything. */
static bool read_process(int proc, pid_t pid, struct process *p)
{
	char text[1024];
	const char *rest;
	int parent, group, session;

	if (read_file(proc, pid, "stat", text, sizeof(text)) <= 0)
		return false;
	rest = strrchr(text, ')');
	if (!rest || sscanf(rest + 1,
			    " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			    "%*d %llu",
			    &p->state, &parent, &group, &session, &p->start) != 5)
		return false;
	p->pid = pid;
	p->parent = parent;
	p->group = group;
	p->session = session;
	p->job = NULL;
	return true;
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = ((const struct process *)a)->pid, y = ((const struct process *)b)->pid;

	return (x > y) - (x < y);
}

static void *grow(void *list, size_t count, size_t *cap, size_t size)
{
	if (count < *cap)
		return list;
	*cap = *cap ? *cap * 2 : 256;
	return realloc(list, *cap * size);
}

static int read_table(struct sweep *s)
{
	DIR *dir = opendir("/proc");
	const struct dirent *e;

	s->count = 0;
	while (dir && (e = readdir(dir))) {
		struct process *more;
		long pid = strtol(e->d_name, NULL, 10);

		if (pid <= 0 || pid == getpid())
			continue;
		more = grow(s->table, s->count, &s->cap, sizeof(*more));
		if (!more) {
			s->cap = 0;
			free(s->table);
			s->table = NULL;
			break;
		}
		s->table = more;
		s->count += read_process(s->proc, (pid_t)pid, &s->table[s->count]);
	}
	if (dir)
		closedir(dir);
	if (!dir || !s->table)
		return -ERR_SYSTEM;
	qsort(s->table, s->count, sizeof(*s->table), by_pid);
	return 0;
}

/* ---- whose is it ---- */

static struct process *find(struct sweep *s, pid_t pid)
{
	struct process key = { .pid = pid };

	return bsearch(&key, s->table, s->count, sizeof(key), by_pid);
}

static struct member *find_member(struct sweep *s, const struct process *p)
{
	for (size_t i = 0; i < s->member_count; i++)
		if (s->members[i].pid == p->pid && s->members[i].start == p->start)
			return &s->members[i];
	return NULL;
}

static struct proc_kill *job_by_number(const struct sweep *s, const struct process *p)
{
	for (struct proc_kill *j = s->jobs; j; j = j->next)
		if (p->pid == j->pid || p->session == j->pid || p->group == j->pid)
			return j;
	return NULL;
}

/* *marked: it has some op id, or that cannot be read. */
static struct proc_kill *job_by_environment(struct sweep *s, const struct process *p, bool *marked)
{
	char want[160];
	ssize_t n;

	*marked = true;
	/* What is older than every child of ours cannot have its mark; most processes are. */
	if (p->start < s->oldest || p->state == 'Z')
		return NULL;
	n = read_file(s->proc, p->pid, "environ", s->environ_text, ENVIRON_BYTES);
	for (struct proc_kill *j = s->jobs; j && n > 0; j = j->next) {
		if (!*j->op_id)
			continue;
		snprintf(want, sizeof(want), "EXED_OP=%s", j->op_id);
		for (const char *e = s->environ_text; e < s->environ_text + n; e += strlen(e) + 1)
			if (!strcmp(e, want))
				return j;
	}
	*marked = n < 0;
	for (const char *e = s->environ_text; e < s->environ_text + n; e += strlen(e) + 1)
		*marked = *marked || !strncmp(e, "EXED_OP=", 8);
	return NULL;
}

/* Whom init, or who stands in for it, has taken in. */
static bool is_orphan(struct sweep *s, const struct process *p)
{
	bool found = p->parent == 1 || (p->parent != getpid() && !find(s, p->parent));

	for (size_t i = 0; i < s->nancestors && !found; i++)
		found = p->parent == s->ancestors[i];
	return found && p->start >= s->oldest && p->state != 'Z';
}

static struct proc_kill *job_by_output(struct sweep *s, const struct process *p)
{
	struct proc_kill *found = NULL;
	const struct dirent *e;
	char path[48], text[64];
	unsigned long inode;
	ssize_t n;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%d/fd", (int)p->pid);
	fd = openat(s->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && !found && (e = readdir(dir))) {
		n = readlinkat(dirfd(dir), e->d_name, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		if (sscanf(text, "pipe:[%lu]", &inode) != 1)
			continue;
		for (struct proc_kill *j = s->jobs; j && !found; j = j->next)
			if (inode && (inode == j->output[0] || inode == j->output[1]))
				found = j;
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return found;
}

/* Whether an orphan may be ours: it runs as we do, where we do. */
static bool is_like_us(struct sweep *s, const struct process *p)
{
	char path[32], text[sizeof(s->cgroup)];
	struct stat st;

	snprintf(path, sizeof(path), "%d", (int)p->pid);
	return !fstatat(s->proc, path, &st, 0) && st.st_uid == geteuid() &&
	       read_file(s->proc, p->pid, "cgroup", text, sizeof(text)) >= 0 &&
	       !strcmp(text, s->cgroup);
}

/* Those that bear no trace of any op, for each job that is as old as they are or older. */
static void count_possible(struct sweep *s)
{
	bool marked;

	for (size_t i = 0; i < s->count; i++) {
		const struct process *p = &s->table[i];

		if (p->job || !is_orphan(s, p) || job_by_environment(s, p, &marked) || marked ||
		    !is_like_us(s, p))
			continue;
		for (struct proc_kill *j = s->jobs; j; j = j->next)
			j->possible += p->start >= j->start;
	}
}

/* Children of what belongs to a job, and theirs. */
static void follow_parents(struct sweep *s)
{
	bool more = true;

	while (more) {
		more = false;
		for (size_t i = 0; i < s->count; i++) {
			struct process *p = &s->table[i], *parent;

			if (p->job || !(parent = find(s, p->parent)) || !parent->job)
				continue;
			p->job = parent->job;
			more = true;
		}
	}
}

static void assign(struct sweep *s)
{
	for (size_t i = 0; i < s->count; i++) {
		struct process *p = &s->table[i];
		const struct member *m = find_member(s, p);

		p->job = m ? m->job : job_by_number(s, p);
	}
	follow_parents(s);
	for (size_t i = 0; i < s->count; i++) {
		struct process *p = &s->table[i];
		bool marked;

		if (!p->job)
			p->job = job_by_environment(s, p, &marked);
		if (!p->job && is_orphan(s, p))
			p->job = job_by_output(s, p);
	}
	follow_parents(s);
}

static int look(struct sweep *s)
{
	if (s->failed || read_table(s)) {
		s->failed = true;
		return -ERR_SYSTEM;
	}
	assign(s);
	return 0;
}

/* ---- signals ---- */

/* Sends it only while the number still means the same process. */
static void send(struct sweep *s, const struct process *p, int sig)
{
	struct process now;
	int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);

	if (read_process(s->proc, p->pid, &now) && now.start == p->start) {
		if (fd < 0)
			kill(p->pid, sig);
		else
			syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
	}
	if (fd >= 0)
		close(fd);
}

static bool lives(const struct process *p)
{
	return p->job && p->state != 'Z' && p->state != 'X';
}

static int remember(struct sweep *s, const struct process *p)
{
	struct member *more = grow(s->members, s->member_count, &s->member_cap, sizeof(*more));

	if (!more) {
		s->member_cap = s->member_count;
		s->failed = true;
		return -ERR_MEMORY;
	}
	s->members = more;
	s->members[s->member_count++] = (struct member){ p->pid, p->start, p->job };
	return 0;
}

/* Stops what is new, so that it can neither fork nor run away; returns how many. */
static size_t stop_new(struct sweep *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->count; i++) {
		const struct process *p = &s->table[i];

		if (!lives(p) || find_member(s, p) || remember(s, p))
			continue;
		send(s, p, SIGSTOP);
		n++;
	}
	return n;
}

/* Kills what lives, and counts it per job. */
static size_t kill_living(struct sweep *s)
{
	size_t n = 0;

	for (struct proc_kill *j = s->jobs; j; j = j->next)
		j->survivors = 0;
	for (size_t i = 0; i < s->count; i++) {
		const struct process *p = &s->table[i];

		if (!lives(p))
			continue;
		if (!find_member(s, p))
			remember(s, p);
		send(s, p, SIGKILL);
		p->job->survivors++;
		n++;
	}
	return n;
}

static void pause_ms(long ms)
{
	const struct timespec ts = { 0, ms * 1000000 };

	nanosleep(&ts, NULL);
}

static void read_ancestors(struct sweep *s)
{
	struct process p = { .parent = getppid() };

	while (p.parent > 1 && s->nancestors < sizeof(s->ancestors) / sizeof(*s->ancestors)) {
		s->ancestors[s->nancestors++] = p.parent;
		if (!read_process(s->proc, p.parent, &p))
			break;
	}
}

static int begin(struct sweep *s, struct proc_kill *jobs)
{
	s->jobs = jobs;
	s->proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->environ_text = malloc(ENVIRON_BYTES);
	s->oldest = ~0ULL;
	if (s->proc < 0 || !s->environ_text)
		return -ERR_SYSTEM;
	for (struct proc_kill *j = jobs; j; j = j->next) {
		struct process p;

		/* Not to be read: the child is older than anything that it started, so take all. */
		p.start = 0;
		read_process(s->proc, j->pid, &p);
		j->start = p.start;
		j->possible = 0;
		if (p.start < s->oldest)
			s->oldest = p.start;
	}
	read_file(s->proc, getpid(), "cgroup", s->cgroup, sizeof(s->cgroup));
	read_ancestors(s);
	return 0;
}

void proc_kill_now(struct proc_kill *list, int64_t limit_ms)
{
	struct sweep s = { .proc = -1 };
	int64_t until = now_ms() + limit_ms;
	long wait = 1;

	if (begin(&s, list))
		s.failed = true;
	for (int i = 0; i < LOOKS && !look(&s) && stop_new(&s); i++)
		;
	/* One more look each time: what it kills is seen dead only then. */
	while (!look(&s) && kill_living(&s) && now_ms() < until) {
		pause_ms(wait);
		wait = wait < 50 ? wait * 2 : 50;
	}
	count_possible(&s);
	for (struct proc_kill *j = list; s.failed && j; j = j->next) {
		kill(-j->pid, SIGKILL);
		j->survivors = j->possible = -1;
	}
	if (s.proc >= 0)
		close(s.proc);
	free(s.table);
	free(s.members);
	free(s.environ_text);
}
