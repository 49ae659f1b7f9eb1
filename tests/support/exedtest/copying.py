# SPDX-License-Identifier: MIT
"""Files that are sent to hosts, and hosts that are slow to take them."""

import glob
import os


def write(path, data, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


def stalled_dd(host, begun, go, eats=0):
    """The host says when a file comes, of which it loses so many bytes, and waits; returns the path of its dd."""
    return write(os.path.join(host.dir, "bin", "dd"), (
        "#!/bin/sh\ncase $* in *if=*) exec /bin/dd \"$@\";; esac\n"
        "/bin/dd bs=1 count=%d of=/dev/null 2>/dev/null; echo >%s\n"
        "while [ ! -e %s ]; do sleep .05; done; exec /bin/dd \"$@\"\n" % (eats, begun, go)).encode(), 0o755)


def sparse(path, size):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def left(directory):
    """Temporary files of copies."""
    return glob.glob(os.path.join(directory, ".exed-*"))
