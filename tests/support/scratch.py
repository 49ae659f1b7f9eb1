# SPDX-License-Identifier: MIT
"""Directories of tests. Who makes one holds a lock on it while it lives, so what a killed process has left can be
told from what is in use, and the next run of the tests removes it."""

import fcntl
import glob
import os
import shutil
import tempfile

_PREFIX = "exed."


def _lock(path):
    """A descriptor that holds the lock on a directory of ours; None when there is none to be had."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid == os.getuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.isdir(path):  # and was not removed meanwhile
                return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return None


def make():
    """A new directory and a descriptor, to be closed when the directory is removed."""
    while True:
        path = tempfile.mkdtemp(prefix=_PREFIX)
        fd = _lock(path)
        if fd is not None:  # else it was taken for a stale one before it was locked
            return path, fd


def remove_stale():
    """Removes the directories whose makers do not run any more."""
    for path in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), _PREFIX + "*")):
        fd = _lock(path)
        if fd is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(fd)
