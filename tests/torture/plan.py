# SPDX-License-Identifier: MIT
"""Which calls are made to fail, and with what."""

import errno
import itertools

FIRST = 300  # each of the first calls of a function
STEP = 97    # and then each 97th

MANY = 50    # "one byte" and the like for so many calls in a row
AGAIN = 5    # "again": where edges are waited for, each of these holds a host up to its time limit
SHORT = 0

# What can become of a call: (error, how often). 0: only one byte goes. Each n takes the next one.
BYTES = [(errno.ECONNRESET, 1), (errno.EAGAIN, AGAIN), (SHORT, MANY), (errno.EINTR, 1)]
ERRORS = {
    "memory": [(errno.ENOMEM, 1), (errno.ENOMEM, 1), (errno.ENOMEM, 2), (errno.ENOMEM, 20)],
    "openssl_memory": [(errno.ENOMEM, 1), (errno.ENOMEM, 2), (errno.ENOMEM, 20)],
    "socket": [(errno.EMFILE, 1), (errno.ENOBUFS, 3)],
    "connect": [(errno.ECONNREFUSED, 1), (errno.ENETUNREACH, 1), (errno.EADDRNOTAVAIL, 3)],
    "bind": [(errno.EADDRINUSE, 1)],
    "listen": [(errno.EADDRINUSE, 1)],
    "accept4": [(errno.EMFILE, 1), (errno.ECONNABORTED, 1), (errno.EMFILE, 5)],
    "shutdown": [(errno.ENOTCONN, 1)],
    "getpeername": [(errno.ENOTCONN, 1)],
    "send": [(errno.EPIPE, 1)] + BYTES,
    "recv": BYTES,
    "read": BYTES,
    "write": [(errno.EPIPE, 1)] + BYTES,
    "readv": BYTES,
    "writev": [(errno.EPIPE, 1)] + BYTES,
    "sendmsg": [(errno.ENOBUFS, 1)],
    "sendto": [(errno.ENOBUFS, 1)],
    "recvfrom": [(errno.ECONNREFUSED, 1)],
    "epoll_ctl": [(errno.ENOMEM, 1), (errno.ENOSPC, 1)],
    "epoll_wait": [(errno.EINTR, 1), (errno.EINTR, MANY)],
    "poll": [(errno.EINTR, 1)],
    "fork": [(errno.EAGAIN, 1)],
    "posix_spawn": [(errno.EAGAIN, 1)],
    "posix_spawnp": [(errno.EAGAIN, 1)],
    "pthread_create": [(errno.EAGAIN, 1)],
    "fcntl": [(errno.EINVAL, 1)],
    "libssh2_session_handshake": [(-13, 1), (-6, 1), (-5, 1)],
    "libssh2_session_free": [(-6, 1), (-37, 5)],
    "libssh2_userauth_publickey": [(-18, 1), (-6, 1), (-19, 1), (-7, 1)],
    "libssh2_channel_open_ex": [(-21, 1), (-6, 1), (-7, 1)],
    "libssh2_channel_process_startup": [(-22, 1), (-6, 1), (-7, 1)],
    "libssh2_channel_read_ex": [(-6, 1), (-43, 1), (-12, 1)],
    "libssh2_channel_free": [(-6, 1), (-37, 1)],
}
LIBC = [(errno.EMFILE, 1)]
ALLOC = [(-6, 1), (-7, 1)]  # LIBSSH2_ERROR_ALLOC, LIBSSH2_ERROR_SOCKET_SEND


def errors_of(name):
    return ERRORS.get(name) or (ALLOC if name.startswith("libssh2_") else LIBC)


def read_calls(path):
    """({function: calls}, {function: [n of each call from a new place]})"""
    counts, places = {}, {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            name, number = line.split()
            if number.startswith("@"):
                places.setdefault(name, []).append(int(number[1:]))
            elif int(number):
                counts[name] = int(number)
    return counts, places


# Left out unless they are asked for by name. hiredis 0.14 does not look whether it was given memory, nor
# does OpenSSL 3.0 while it gets ready: the program is then ended by signal 11.
LEFT_OUT = ("hiredis_memory", "openssl_memory")


def make_plan(counts, places, names, rng):
    """The faults, as NAME:N:TIMES:ERROR, in an order of chance."""
    plan = []
    for name, count in sorted(counts.items()):
        if name not in names if names else name in LEFT_OUT:
            continue
        calls = set(range(1, min(FIRST, count) + 1))
        calls.update(range(FIRST + rng.randrange(STEP), count + 1, STEP))
        calls.update(places.get(name, []))
        turns = itertools.cycle(errors_of(name))
        for _ in range(rng.randrange(len(errors_of(name)))):
            next(turns)
        plan += ["%s:%d:%d:%d" % (name, n, times, error)
                 for n, (error, times) in zip(sorted(calls), turns)]
    rng.shuffle(plan)
    return plan
