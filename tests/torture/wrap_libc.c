/* SPDX-License-Identifier: MIT */
/* wrap_libc: the C library's functions, made to fail. A program's own definitions come before those of its
 * libraries, so that calls of libevent, hiredis, Lua and the others come here too. Must not be built with a
 * sanitizer's checks, since it is called before the sanitizer is ready; what it calls may be a sanitizer's. */
#undef _FILE_OFFSET_BITS /* fcntl and fcntl64 are two names here, both called */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "faults.h"

/* ---- memory ---- */

/* The sanitizer's where there is one; else the C library's. */
#pragma weak __interceptor_malloc
#pragma weak __interceptor_calloc
#pragma weak __interceptor_realloc
void *__interceptor_malloc(size_t n);
void *__interceptor_calloc(size_t n, size_t size);
void *__interceptor_realloc(void *old, size_t n);
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);

static uintptr_t hiredis_from, hiredis_to;

static int find_hiredis(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	if (!strstr(info->dlpi_name, "libhiredis"))
		return 0;
	hiredis_from = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		uintptr_t end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type == PT_LOAD && end > hiredis_to)
			hiredis_to = end;
	}
	return 1;
}

__attribute__((constructor(102))) static void look_for_hiredis(void)
{
	dl_iterate_phdr(find_hiredis, NULL);
}

/* Whose call it is, by the address to which it returns. */
#define CALLER() group_of((uintptr_t)__builtin_return_address(0))

static enum fault_function group_of(uintptr_t caller)
{
	return caller >= hiredis_from && caller < hiredis_to ? FAULT_hiredis_memory : FAULT_memory;
}

static bool refuse(enum fault_function group)
{
	int error;

	if (!fault_due(group, &error))
		return false;
	errno = ENOMEM;
	return true;
}

static void *allocate(size_t n)
{
	return __interceptor_malloc ? __interceptor_malloc(n) : __libc_malloc(n);
}

static void *reallocate(void *old, size_t n)
{
	return __interceptor_realloc ? __interceptor_realloc(old, n) : __libc_realloc(old, n);
}

void *malloc(size_t n)
{
	return refuse(CALLER()) ? NULL : allocate(n);
}

void *calloc(size_t n, size_t size)
{
	if (refuse(CALLER()))
		return NULL;
	return __interceptor_calloc ? __interceptor_calloc(n, size) : __libc_calloc(n, size);
}

void *realloc(void *old, size_t n)
{
	return n && refuse(CALLER()) ? NULL : reallocate(old, n);
}

static char *copy_text(const char *s, size_t n, enum fault_function group)
{
	char *copy = refuse(group) ? NULL : allocate(n + 1);

	if (copy) {
		memcpy(copy, s, n);
		copy[n] = '\0';
	}
	return copy;
}

char *strndup(const char *s, size_t max)
{
	return copy_text(s, strnlen(s, max), CALLER());
}

char *strdup(const char *s)
{
	return copy_text(s, strlen(s), CALLER());
}

static void *openssl_malloc(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return refuse(FAULT_openssl_memory) ? NULL : allocate(n);
}

static void *openssl_realloc(void *old, size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return n && refuse(FAULT_openssl_memory) ? NULL : reallocate(old, n);
}

static void openssl_free(void *block, const char *file, int line)
{
	(void)file;
	(void)line;
	free(block);
}

__attribute__((constructor(102))) static void take_openssl(void)
{
	CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free);
}

/* ---- calls that fail whole ---- */

#define REAL(name) \
	static __typeof__(&name) real; \
	if (!real) \
		*(void **)&real = dlsym(RTLD_NEXT, #name)

#define WRAP(type, name, group, params, args) \
	type name params \
	{ \
		int error; \
		REAL(name); \
		if (fault_due(FAULT_##group, &error)) { \
			errno = error; \
			return -1; \
		} \
		return real args; \
	}

/* Those that return the error itself. */
#define WRAP_RC(name, params, args) \
	int name params \
	{ \
		int error; \
		REAL(name); \
		return fault_due(FAULT_##name, &error) ? error : real args; \
	}

WRAP(int, socket, socket, (int domain, int type, int protocol), (domain, type, protocol))
WRAP(int, socketpair, socketpair, (int domain, int type, int protocol, int fds[2]),
     (domain, type, protocol, fds))
WRAP(int, connect, connect, (int fd, const struct sockaddr *to, socklen_t n), (fd, to, n))
WRAP(int, bind, bind, (int fd, const struct sockaddr *at, socklen_t n), (fd, at, n))
WRAP(int, listen, listen, (int fd, int backlog), (fd, backlog))
WRAP(int, accept4, accept4, (int fd, struct sockaddr *from, socklen_t *n, int flags),
     (fd, from, n, flags))
WRAP(int, shutdown, shutdown, (int fd, int how), (fd, how))
WRAP(int, getsockopt, getsockopt, (int fd, int level, int name, void *value, socklen_t *n),
     (fd, level, name, value, n))
WRAP(int, setsockopt, setsockopt, (int fd, int level, int name, const void *value, socklen_t n),
     (fd, level, name, value, n))
WRAP(int, getsockname, getsockname, (int fd, struct sockaddr *name, socklen_t *n), (fd, name, n))
WRAP(int, getpeername, getpeername, (int fd, struct sockaddr *name, socklen_t *n), (fd, name, n))
WRAP(int, epoll_create1, epoll_create1, (int flags), (flags))
WRAP(int, epoll_ctl, epoll_ctl, (int ep, int op, int fd, struct epoll_event *e), (ep, op, fd, e))
WRAP(int, epoll_wait, epoll_wait, (int ep, struct epoll_event *e, int n, int timeout),
     (ep, e, n, timeout))
WRAP(int, poll, poll, (struct pollfd *fds, nfds_t n, int timeout), (fds, n, timeout))
int eventfd(unsigned initial, int flags);
WRAP(int, eventfd, eventfd, (unsigned initial, int flags), (initial, flags))
int timerfd_create(clockid_t clock, int flags);
WRAP(int, timerfd_create, timerfd_create, (clockid_t clock, int flags), (clock, flags))
WRAP(int, pipe2, pipe2, (int fds[2], int flags), (fds, flags))
WRAP(pid_t, fork, fork, (void), ())
WRAP_RC(posix_spawn, (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		      const posix_spawnattr_t *attr, char *const argv[], char *const env[]),
	(pid, path, actions, attr, argv, env))
WRAP_RC(posix_spawnp, (pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const env[]),
	(pid, file, actions, attr, argv, env))
WRAP_RC(pthread_create, (pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg),
	(thread, attr, fn, arg))

#define WRAP_OPEN(name) \
	int name(const char *path, int flags, ...) \
	{ \
		int error; \
		mode_t mode; \
		va_list ap; \
		REAL(name); \
		va_start(ap, flags); \
		mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0; \
		va_end(ap); \
		if (fault_due(FAULT_open, &error)) { \
			errno = error; \
			return -1; \
		} \
		return real(path, flags, mode); \
	}
WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_FCNTL(name) \
	int name(int fd, int what, ...) \
	{ \
		int error; \
		void *arg; \
		va_list ap; \
		REAL(name); \
		va_start(ap, what); \
		arg = va_arg(ap, void *); \
		va_end(ap); \
		if (fault_due(FAULT_fcntl, &error)) { \
			errno = error; \
			return -1; \
		} \
		return real(fd, what, arg); \
	}
WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)

/* ---- calls that move bytes: of sockets and pipes only ---- */

static bool is_left_alone(enum fault_function f, int fd)
{
	struct stat st;

	return !fault_watched(f) || fstat(fd, &st) || !(S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode));
}

/* short_args: the same call for one byte. */
#define WRAP_BYTES(name, params, args, short_args) \
	ssize_t name params \
	{ \
		int error; \
		REAL(name); \
		if (is_left_alone(FAULT_##name, fd) || !fault_due(FAULT_##name, &error)) \
			return real args; \
		if (!error) \
			return real short_args; \
		errno = error; \
		return -1; \
	}

#define ONE_OF(n) ((n) > 0 ? 1 : (n))

WRAP_BYTES(send, (int fd, const void *data, size_t n, int flags), (fd, data, n, flags),
	   (fd, data, ONE_OF(n), flags))
WRAP_BYTES(recv, (int fd, void *data, size_t n, int flags), (fd, data, n, flags),
	   (fd, data, ONE_OF(n), flags))
WRAP_BYTES(sendto, (int fd, const void *data, size_t n, int flags, const struct sockaddr *to,
		    socklen_t len), (fd, data, n, flags, to, len), (fd, data, n, flags, to, len))
WRAP_BYTES(recvfrom, (int fd, void *data, size_t n, int flags, struct sockaddr *from, socklen_t *len),
	   (fd, data, n, flags, from, len), (fd, data, n, flags, from, len))
WRAP_BYTES(sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags), (fd, m, flags))
WRAP_BYTES(read, (int fd, void *data, size_t n), (fd, data, n), (fd, data, ONE_OF(n)))
WRAP_BYTES(write, (int fd, const void *data, size_t n), (fd, data, n), (fd, data, ONE_OF(n)))

static struct iovec one_of(const struct iovec *iov, int n)
{
	struct iovec one = { 0 };

	for (int i = 0; i < n && !one.iov_len; i++)
		one = (struct iovec){ iov[i].iov_base, ONE_OF(iov[i].iov_len) };
	return one;
}

WRAP_BYTES(readv, (int fd, const struct iovec *iov, int n), (fd, iov, n),
	   (fd, (struct iovec[]){ one_of(iov, n) }, 1))
WRAP_BYTES(writev, (int fd, const struct iovec *iov, int n), (fd, iov, n),
	   (fd, (struct iovec[]){ one_of(iov, n) }, 1))
