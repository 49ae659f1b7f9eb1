# SPDX-License-Identifier: MIT
"""exed-run exec on 20 simulated hosts, with one call that fails."""

import collections
import glob
import json
import os
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import BUILD, Fleet  # noqa: E402
from exedtest.procs import SLOW, alive, children_of  # noqa: E402

import stacks  # noqa: E402

HOSTS = 20
LIMIT = 60  # seconds for a run; the limits of connecting, of the command and of its kill are below that
DONE = (1, 5)  # status: ok, changed
WRITES = ("send:", "write:", "writev:", "poll:")  # where writing its own output can fail
SANITIZER_ENDED = ("__asan::AsanThread::ThreadStart", "AddressSanitizer: CHECK failed")


def sanitizer_options(where, fault=""):
    """The environment in which sanitizers write their reports into the directory."""
    report = "log_path=%s/sanitizer:exitcode=99" % where
    # libssh2 loses a host's key when it is refused memory at the wrong moment.
    name = "openssl.supp" if "memory:" in fault else "lsan.supp"
    rules = os.path.join(ROOT, "tests", "torture", name)
    return {"ASAN_OPTIONS": report + ":detect_leaks=1:allocator_may_return_null=1",
            "UBSAN_OPTIONS": report + ":print_stacktrace=1",
            "LSAN_OPTIONS": "suppressions=%s:print_suppressions=0" % rules}


class OutOfMemory(Exception):
    """The sanitizer itself was refused memory, and gave up: the run says nothing."""


def take_reports(where):
    """The sanitizers' reports in the directory, which are removed."""
    found = []
    for path in sorted(glob.glob(where + "/sanitizer*")):
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()[:6000]
        os.unlink(path)
        if any(sign in text for sign in SANITIZER_ENDED):
            raise OutOfMemory()
        found.append(text)
    return found


def count_runs(fleet, first):
    """{host: how often its op ran there}. An op id ends in the number of the host in the job, counted
    from first, and the try; what else is run there, to look what an op left, has none."""
    runs = collections.Counter()
    for op, times in (fleet.stats()["ops"] or {}).items():
        runs[fleet.names[int(op.split(".")[2]) - first]] += times
    return runs


def is_whole(record):
    """Whether it has what the command said, or says that it has not."""
    return record.get("stdout") == "hello\n" or record.get("truncated") is True


class ExecRun:
    name = "exec"

    def __init__(self):
        self.fleet = Fleet(HOSTS, lifetime=24 * 3600).start()
        self.program = os.path.join(BUILD, "torture-exed-run")
        self.conf = self.fleet.write("exed.conf", "\n".join((
            "[ssh]", "known_hosts = %s" % self.fleet.known_hosts, "connect_timeout = 5s",
            "command_timeout = 10s", "[runtime]", "io_threads = 2", "")))

    def close(self):
        self.fleet.stop()

    def environment(self, **more):
        return dict(os.environ, **sanitizer_options(self.fleet.dir, more.get("TORTURE_FAULT", "")), **more)

    def start(self, env):
        """-> (exit code or None when it did not end, stdout, stderr, what it left running)"""
        child = subprocess.Popen(
            [self.program, "-c", self.conf, "exec", "-i", self.fleet.inventory, "--json", "-f", "7", "all",
             "--", "echo", "hello"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = child.communicate(timeout=LIMIT * SLOW)
            code = child.returncode
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)
            out, err = child.communicate()
            code = None
        left = [pid for pid in children_of(os.getpid()) if alive(pid) and self.is_ours(pid, child.pid)]
        return code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), left

    @staticmethod
    def is_ours(pid, session):
        try:
            return os.getsid(pid) == session
        except ProcessLookupError:
            return False

    def count_calls(self):
        calls = self.fleet.path("calls")
        return calls, self.judge(self.start(self.environment(TORTURE_CALLS=calls)), must=True)

    def run(self, fault, show=False):
        """A run with that fault; returns the problems, and the stack of the call with them."""
        self.fleet.reset()
        stack = self.fleet.path("stack")
        result = self.start(self.environment(TORTURE_FAULT=fault, TORTURE_SHOW=stack))
        where = stacks.read(stack, self.program)
        if show:
            print(where, result[1], result[2], "exit code %s" % result[0], sep="\n")
        try:
            problems = self.judge(result, fault=fault)
        except OutOfMemory:
            return []
        return problems + [str(where)] if problems else []

    # ---- what must hold ----

    def judge(self, result, must=False, fault=""):
        code, out, err, left = result
        problems = take_reports(self.fleet.dir)
        if left:
            problems.append("left running: %s" % left)
        if code is None:
            return problems + ["it did not end within %d s" % (LIMIT * SLOW), err[-2000:]]
        if must and code != 0:
            problems.append("exit code %d: %s" % (code, err[-2000:]))
        execs = count_runs(self.fleet, 1)
        if code in (1, 2) and not execs and not out:
            # An error before anything started.
            return problems if err.strip() else problems + ["exit code %d and no message" % code]
        if code == 1 and "memory:" in fault and "not enough memory" in err:
            return problems  # it could not even say what it knew, and said so
        if code not in (0, 1, 2):
            problems.append("exit code %d: %s" % (code, err[-2000:]))
        elif code == 2:
            problems.append("it could not start, and %d hosts ran it: %s" % (len(execs), err[-2000:]))
        else:
            problems += self.judge_records(code, out, err, execs, fault)
        return problems

    def judge_records(self, code, out, err, execs, fault):
        problems, seen, good = [], collections.Counter(), 0
        for line in out.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                problems.append("no JSON: %r" % line[:200])
                continue
            name = record["host"]
            seen[name] += 1
            ran = execs[name]
            if record["status"] in DONE:
                good += 1
                if ran != 1 or not is_whole(record):
                    problems.append("%s ran %d times: %s" % (name, ran, line))
            elif not (record.get("error") or record.get("timed_out")):
                problems.append("no reason: " + line)
            if ran > 1:
                problems.append("%s ran %d times" % (name, ran))
        lost = [name for name in self.fleet.names if seen[name] == 0]
        if fault.startswith(WRITES) and code == 1 and "its output is not read any more" in err:
            lost = []  # its own output failed, and it said so
        twice = [name for name in seen if seen[name] > 1]
        if lost or twice:
            problems.append("exit code %d; no record: %s; two: %s; %s" % (
                code, " ".join(lost), " ".join(twice), err[-1500:]))
        elif code == 0 and good < HOSTS or code == 1 and good == HOSTS and "memory:" not in fault:
            problems.append("exit code %d with %d good hosts: %s" % (code, good, err[-1500:]))
        return problems
