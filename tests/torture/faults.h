/* SPDX-License-Identifier: MIT */
/* faults: makes one chosen call of one function fail, in a program that is linked with wrap_libc.c and
 * wrap_ssh2.c. Any thread.
 *
 * The environment says which, and is taken away at start, so that no child inherits it:
 *   TORTURE_FAULT=NAME:N:TIMES:ERROR   the N-th call of NAME (from 1) fails, and TIMES - 1 after it.
 *                                      ERROR is what the call fails with: an errno, for a libssh2 function
 *                                      its own (negative) code, 0 for "only one byte goes".
 *   TORTURE_CALLS=FILE                 at the end of the program a line `NAME COUNT` per function, and a
 *                                      line `NAME @N` for each call that came from a new place.
 *   TORTURE_SHOW=FILE                  the stack of each call that is made to fail, addresses only. */
#ifndef TORTURE_FAULTS_H
#define TORTURE_FAULTS_H

#include <stdbool.h>

/* A function, or a group that is counted together. memory is malloc, calloc, realloc, strdup and strndup,
 * but for those of two libraries: OpenSSL loses what it holds when memory is refused, and hiredis 0.14 goes
 * on as if it had got it. */
#define FAULT_FUNCTIONS(X) \
	X(memory) X(openssl_memory) X(hiredis_memory) \
	X(socket) X(socketpair) X(connect) X(bind) X(listen) X(accept4) X(shutdown) \
	X(getsockopt) X(setsockopt) X(getsockname) X(getpeername) \
	X(send) X(recv) X(sendto) X(recvfrom) X(sendmsg) X(read) X(write) X(readv) X(writev) \
	X(epoll_create1) X(epoll_ctl) X(epoll_wait) X(poll) X(eventfd) X(timerfd_create) \
	X(pipe2) X(fcntl) X(open) X(fork) X(posix_spawn) X(posix_spawnp) X(pthread_create) \
	X(libssh2_session_init_ex) X(libssh2_session_method_pref) X(libssh2_session_handshake) \
	X(libssh2_session_hostkey) X(libssh2_session_banner_get) X(libssh2_session_disconnect_ex) \
	X(libssh2_session_free) X(libssh2_userauth_publickey) X(libssh2_userauth_list) \
	X(libssh2_channel_open_ex) X(libssh2_channel_process_startup) X(libssh2_channel_read_ex) \
	X(libssh2_channel_write_ex) X(libssh2_channel_send_eof) X(libssh2_channel_wait_closed) \
	X(libssh2_channel_free) X(libssh2_channel_get_exit_signal) X(libssh2_keepalive_send)

enum fault_function {
#define FAULT_ENUM(name) FAULT_##name,
	FAULT_FUNCTIONS(FAULT_ENUM)
#undef FAULT_ENUM
	FAULT_COUNT
};

/* Whether calls of it are counted: a task's sandbox does not allow what looking at a descriptor takes. */
bool fault_watched(enum fault_function f);
/* Counts a call. True: it has to fail, with *error. */
bool fault_due(enum fault_function f, int *error);

#endif
