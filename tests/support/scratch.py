# SPDX-License-Identifier: MIT
"""Directories of tests. Who makes one holds a lock beside it while it lives, so what a killed process has left can be
told from what is in use, and the next run of the tests removes it. The lock is not on the directory itself: that is
one that tests may send files to, which is done under a lock on it."""

import fcntl
import glob
import os
import shutil
import tempfile

_PREFIX, _LOCK = "exed.", ".lock"


def _hold(lock):
    """A descriptor that holds a lock file of ours; None when there is none to be had."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid == os.getuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(lock):  # and was not removed meanwhile
                return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return None


def make():
    """A new directory and a descriptor, both for remove."""
    while True:
        fd, lock = tempfile.mkstemp(prefix=_PREFIX, suffix=_LOCK)
        os.close(fd)
        fd = _hold(lock)
        if fd is not None:  # else it was taken for a stale one before it was held
            path = lock[:-len(_LOCK)]
            os.mkdir(path, 0o700)
            return path, fd


def remove(path, fd):
    shutil.rmtree(path, ignore_errors=True)
    try:
        os.remove(path + _LOCK)
    except FileNotFoundError:
        pass  # it was in a directory that is gone
    os.close(fd)


def remove_stale():
    """Removes the directories whose makers do not run any more."""
    for lock in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), _PREFIX + "*" + _LOCK)):
        fd = _hold(lock)
        if fd is not None:
            remove(lock[:-len(_LOCK)], fd)
