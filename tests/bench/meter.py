# SPDX-License-Identifier: MIT
"""What things cost: CPU of daemons and of process trees, memory, wall time.

CPU time is what is compared: on a machine that others use, too, wall time says little.
"""

import ctypes
import os
import resource
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest.procs import children_of, status_kb  # noqa: E402

_PR_SET_CHILD_SUBREAPER = 36
_TICK = os.sysconf("SC_CLK_TCK")


def adopt_orphans():
    """From now on what our children leave running becomes ours, so that its CPU is counted."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cpu_of(pid):
    """CPU seconds of a process, to the nanosecond, and of its children that have ended, to 10 ms."""
    own = time.clock_gettime(~pid << 3 | 2)  # the clock of a process: clock_getcpuclockid(3)
    with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return own + (int(fields[13]) + int(fields[14])) / _TICK


class Cpu:
    """CPU that daemons (and their children) use between two moments: with Cpu(pids) as cpu: ...; cpu.s"""

    def __init__(self, pids):
        self.pids, self.s, self.wall_s = list(pids), 0.0, 0.0

    def __enter__(self):
        self.start, self.began = {pid: cpu_of(pid) for pid in self.pids}, time.monotonic()
        return self

    def __exit__(self, *error):
        self.wall_s = time.monotonic() - self.began
        self.each = {pid: self._now(pid) - self.start[pid] for pid in self.pids}
        self.s = sum(self.each.values())

    @staticmethod
    def _now(pid):
        try:
            return cpu_of(pid)
        except OSError:
            return 0.0  # it has ended: all that it used is in its parent's figure now


class Ran:
    """A command that has ended: code, output, cpu_s and peak_kb of its whole tree, wall_s."""

    def __init__(self, command, env=None, cwd=None, limit=170.0, data=None):
        before, began = _children(), time.monotonic()
        done = subprocess.run(command, env=env, cwd=cwd, timeout=limit, input=data, check=False,
                              stdin=None if data is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _reap()
        self.wall_s, self.cpu_s = time.monotonic() - began, _children() - before
        self.code = done.returncode
        self.output = done.stdout.decode("utf-8", "replace")
        self.errors = done.stderr.decode("utf-8", "replace")

    def check(self):
        assert self.code == 0, "ended with %d: %s" % (self.code, (self.errors + self.output)[-2000:])
        return self


def _children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reap():
    """Takes in orphans that have ended. Popen's own children are not touched: they are still running."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def tree_kb(pid, field="VmRSS"):
    """A memory field summed over a process and its descendants."""
    total = 0
    for each in [pid] + children_of(pid):
        try:
            total += status_kb(each, field)
        except (OSError, AssertionError):
            pass  # it has ended
    return total


def resident_kb(pids):
    """Resident memory of several processes; a page of a file that more than one of them has counts once."""
    own, files = 0, {}
    for pid in pids:
        mine, name = {}, ""
        with open("/proc/%d/smaps" % pid, encoding="utf-8", errors="replace") as f:
            for line in f:
                words = line.split()
                if "-" in words[0]:
                    name = words[5] if len(words) > 5 else ""
                elif words[0] == "Rss:":
                    mine[name] = mine.get(name, 0) + int(words[1])
                elif words[0] == "Anonymous:":
                    mine[name] -= int(words[1])
                    own += int(words[1])
        for name, kb in mine.items():
            files[name] = max(files.get(name, 0), kb)
    return own + sum(files.values())
