# SPDX-License-Identifier: MIT
"""Processes, ports and waiting: what the fixtures share."""

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import time

import scratch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.path.join(ROOT, os.environ.get("EXED_BUILD", "build"))  # of exed; may be a sanitizer's
SLOW = {"asan": 3, "tsan": 5}.get(os.environ.get("EXED_SANITIZER", ""), 1)  # limits are so much longer

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_live = []  # fixtures that have not been stopped


def wait_until(fn, limit=10.0, what=None, every=0.01):
    """Calls fn until it gives something true and returns that; AssertionError after `limit` seconds.

    What fn raises as AssertionError, OSError or ValueError counts as "not yet", and the last such error is
    named in the failure. `what` says in words what was waited for.
    """
    until = time.monotonic() + limit * SLOW
    last = None
    while True:
        try:
            value = fn()
            if value:
                return value
            last = "it gave %r" % (value,)
        except (AssertionError, OSError, ValueError) as e:
            last = "%s: %s" % (type(e).__name__, e)
        if time.monotonic() >= until:
            name = what or getattr(fn, "__name__", "it")
            raise AssertionError("after %g s still not: %s (%s)" % (limit * SLOW, name, last))
        time.sleep(every)


def free_port(address="127.0.0.1", addresses=None):
    """A TCP port that is free at that address, or at all of `addresses`."""
    addresses = addresses or [address]
    for _ in range(100):
        held = []
        try:
            port = 0
            for where in addresses:
                s = socket.socket()
                held.append(s)
                s.bind((where, port))
                port = s.getsockname()[1]
            return port
        except OSError:
            continue  # taken at another of the addresses: try the next one
        finally:
            for s in held:
                s.close()
    raise AssertionError("no port is free at all of %s" % ", ".join(addresses))


# ---- /proc ----

def _stat(pid):
    """The fields of /proc/PID/stat after the name: state, ppid, pgrp, ..."""
    with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
        return f.read().rpartition(")")[2].split()


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def alive(pid):
    """Whether the process runs; a zombie does not."""
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def children_of(pid):
    """pids of all descendants of a process that run."""
    parents = {}
    for each in _pids():
        try:
            fields = _stat(each)
        except OSError:
            continue
        if fields[0] not in "ZX":
            parents.setdefault(int(fields[1]), []).append(each)
    found, queue = [], [pid]
    while queue:
        more = parents.get(queue.pop(), [])
        found += more
        queue += more
    return found


def command_line(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return "?"


def with_marker(text, environ=True):
    """pids of running processes that have the text in their command line or in their environment.

    This process, its ancestors and processes that may not be read are not among them.
    """
    skip, pid = set(), os.getpid()
    while pid > 1:
        skip.add(pid)
        try:
            pid = int(_stat(pid)[1])
        except OSError:
            break
    needle, found = text.encode(), []
    for pid in _pids():
        if pid in skip or not alive(pid):
            continue
        for name in ("cmdline", "environ") if environ else ("cmdline",):
            try:
                with open("/proc/%d/%s" % (pid, name), "rb") as f:
                    if needle in f.read():
                        found.append(pid)
                        break
            except OSError:
                break
    return found


def status_kb(pid, field="VmRSS"):
    """A memory field of /proc/PID/status in KiB: VmRSS, RssAnon, VmHWM (the peak)."""
    with open("/proc/%d/status" % pid, encoding="utf-8") as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise AssertionError("no %s of process %d" % (field, pid))


def cpu_seconds(pid):
    """User and system time that a process has used, to 10 ms."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- children ----

def _die_with_parent():
    # The kernel sends it when the thread that forked ends: so fixtures are started from the main thread,
    # or from one that lives as long as they do.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _stop_all():
    for fixture in reversed(list(_live)):
        try:
            fixture.stop()
        except Exception as e:  # the others must be stopped all the same
            print("exedtest: %s: %s" % (type(fixture).__name__, e))


atexit.register(_stop_all)


class Fixture:
    """Has a directory of its own and is a context manager: subclasses have start() and stop()."""

    def __init__(self):
        self.dir, self._lock = scratch.make()
        _live.append(self)

    def __enter__(self):
        return self.start()

    def __exit__(self, *error):
        self.stop()

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text, mode=0o644):
        """Writes a file in the fixture's directory and returns its path."""
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def forget(self):
        """The last thing that stop does: removes the directory."""
        if self in _live:
            _live.remove(self)
        if self._lock is not None:
            scratch.remove(self.dir, self._lock)
            self._lock = None


class Child:
    """A child process that ends with us, its output in a file."""

    def __init__(self, command, log, env=None, cwd=None, stdout=None):
        self.command, self.log = command, log
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout or out, stderr=out,
                preexec_fn=_die_with_parent, start_new_session=True)
        self.pid = self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def output(self, last=8000):
        with open(self.log, "rb") as f:
            return f.read()[-last:].decode("utf-8", "replace")

    def check(self):
        """AssertionError with its output when it has ended."""
        if not self.running():
            raise EarlyEnd("%s ended with %d:\n%s"
                           % (os.path.basename(self.command[0]), self.popen.returncode, self.output()))
        return True

    def end(self, sig=signal.SIGTERM, limit=10.0):
        """Sends the signal, waits for the end (SIGKILL after the limit), returns the exit code.

        Raises AssertionError when the limit was passed.
        """
        if self.running():
            self.popen.send_signal(sig)
        try:
            return self.popen.wait(limit * SLOW)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError("%s did not end within %g s of signal %d:\n%s" % (
                os.path.basename(self.command[0]), limit * SLOW, sig, self.output())) from None
        finally:
            if self.popen.stdout:
                self.popen.stdout.close()


class EarlyEnd(Exception):
    """A process ended while something was awaited from it; not an AssertionError, so that no wait goes on."""


def end_pids(pids, limit=5.0):
    """SIGKILL to each pid that still runs, then waits for them to be gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until(lambda: not any(alive(pid) for pid in pids), limit, "processes %s ended" % pids)


class LeakCheck:
    """Fails when, at its end, this process has descendants or descriptors that it had not before.

        with LeakCheck(): ...
    """

    def __init__(self, limit=5.0):
        self.limit = limit

    @staticmethod
    def _fds():
        return len(os.listdir("/proc/self/fd"))

    def __enter__(self):
        self.fds, self.pids = self._fds(), set(children_of(os.getpid()))
        return self

    def __exit__(self, kind, *error):
        if kind is not None:
            return  # the first error counts
        wait_until(lambda: not self.left(), self.limit, "no process left: %s" % self.left())
        assert self._fds() <= self.fds, "%d descriptors, before %d" % (self._fds(), self.fds)

    def left(self):
        return ["%d %s" % (pid, command_line(pid))
                for pid in children_of(os.getpid()) if pid not in self.pids]
