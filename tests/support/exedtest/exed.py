# SPDX-License-Identifier: MIT
"""exed as a fixture: its configuration, its process, and a client of its API."""

import collections
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import time

from . import openapi
from .procs import (BUILD, SLOW, Child, EarlyEnd, Fixture, alive, children_of, command_line, cpu_seconds,
                    end_pids, free_port, status_kb, wait_until, with_marker)

Answer = collections.namedtuple("Answer", "status headers body")  # headers: lower case; body: JSON or text
_REPORTS = {"ASAN_OPTIONS": "", "TSAN_OPTIONS": "", "UBSAN_OPTIONS": "print_stacktrace=1:"}


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class KeyTwice(RuntimeError):
    """An answer has a key twice in one object (two records of one host), which json.loads would not show."""


def _unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = sorted(key for key, n in collections.Counter(key for key, _ in pairs).items() if n > 1)
        raise KeyTwice("an answer has twice: %s" % ", ".join(keys[:20]))
    return found


def _parse(raw, headers):
    text = raw.decode("utf-8", "replace")
    if "json" in headers.get("content-type", "") and text and "ndjson" not in headers["content-type"]:
        return json.loads(text, object_pairs_hook=_unique)
    return text


class Exed(Fixture):
    """One exed node with a state directory of its own.

    hosts: an Sshd or a Fleet, from which inventory, known_hosts, key and user are taken.
    conf: {section: {key: value}} over the defaults made here; a list is written as several lines, None
    leaves a key out. store=DIR uses a state directory that somebody else owns (two nodes, a restart).
    args: further arguments; env: further environment; program: another binary than $EXED_BUILD/exed.
    judged=False: its answers are not held against the API's document.
    """

    def __init__(self, hosts=None, conf=None, store=None, args=(), env=None, program=None, judged=True):
        super().__init__()
        self.port = free_port()
        self.state = store or self.path("state")
        os.makedirs(self.state, mode=0o700, exist_ok=True)
        self.judged = judged
        self.error_log, self.access_log = self.path("error.log"), self.path("access.log")
        self.program = program or os.path.join(BUILD, "exed")
        self.args, self.extra_env, self.child = list(args), dict(env or {}), None
        self.conf = {
            "api": {"listen": "127.0.0.1:%d" % self.port},
            "store": {"dir": self.state},
            "log": {"error_log": self.error_log, "access_log": self.access_log},
            "inventory": {}, "ssh": {},
        }
        if hosts is not None:
            self.conf["inventory"]["path"] = hosts.inventory
            self.conf["ssh"] = {"known_hosts": hosts.known_hosts, "key": hosts.key, "user": hosts.user}
        for section, keys in (conf or {}).items():
            self.conf.setdefault(section, {}).update(keys)

    # ---- the process ----

    def write_conf(self):
        lines = []
        for section, keys in self.conf.items():
            lines.append("[%s]" % section)
            for key, value in keys.items():
                values = value if isinstance(value, (list, tuple)) else [value]
                lines += ["%s = %s" % (key, _value(v)) for v in values if v is not None]
            lines.append("")
        return self.write("exed.conf", "\n".join(lines))

    def environment(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith("EXED_")}
        for name, more in _REPORTS.items():
            if "log_path=" not in env.get(name, ""):
                env[name] = "%slog_path=%s:%s" % (
                    more, self.path("sanitizer"), env.get(name, ""))
        env.update(self.extra_env)
        return env

    def launch(self):
        """Starts the process and does not wait until it answers."""
        assert os.access(self.program, os.X_OK), "%s is missing: run `make`" % self.program
        self.child = Child([self.program, "-c", self.write_conf(), *self.args], self.path("exed.log"),
                           env=self.environment(), cwd=self.dir)
        return self

    def start(self, limit=10.0):
        """Starts it (again) and waits until GET /healthz answers (a worker: until it says that it has
        registered); shows its log when it ends early."""
        lives = self.log().count(" incarnation=")
        self.launch()

        def answers():
            self.child.check()
            if self.conf.get("runner", {}).get("role") == "worker":
                return self.log().count(" incarnation=") > lives
            return self.get("/healthz", timeout=2).status == 200

        try:
            wait_until(answers, limit, "GET /healthz answers 200")
        except (AssertionError, EarlyEnd) as e:
            log = self.log()
            self._abandon()
            raise AssertionError("exed did not start: %s\n%s" % (e, log)) from None
        return self

    def run_to_end(self, limit=10.0):
        """Starts it and waits for it to end by itself (a bad configuration); returns (exit code, output)."""
        self.launch()
        try:
            code = self.child.popen.wait(limit * SLOW)
        except Exception:
            self._abandon()
            raise
        output = self.child.output()
        self.child = None
        return code, output

    def _abandon(self):
        pids = self.pids()
        self.child.popen.kill()
        self.child.popen.wait()
        self.child = None
        end_pids(pids)

    @property
    def pid(self):
        return self.child.pid

    def pids(self):
        """The node and all its children that run: its redis-server, tasks, local commands."""
        return [pid for pid in [self.pid] + children_of(self.pid) if alive(pid)]

    def redis_pid(self):
        """The embedded redis-server, or None."""
        for pid in children_of(self.pid):
            if "redis-server" in command_line(pid):
                return pid
        return None

    def _end(self, sig, limit):
        below = children_of(self.pid)
        code = self.child.end(sig, limit)
        self.child = None

        def left():
            found = {pid for pid in below if alive(pid)} | set(with_marker(self.state, environ=False))
            return ["%d %s" % (pid, command_line(pid)) for pid in sorted(found)]

        try:
            wait_until(lambda: not left(), 5)
        except AssertionError:
            names = left()
            end_pids([int(name.split()[0]) for name in names])
            raise AssertionError("exed left running: %s" % "; ".join(names)) from None
        return code

    def kill9(self):
        """SIGKILL, and waits until its children are gone too. start() goes on with the same state."""
        return self._end(signal.SIGKILL, 5)

    def term(self, limit=15.0):
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM, limit)

    def stop(self):
        """Ends it and checks what a good end leaves: exit code 0, no process, no sanitizer report."""
        try:
            if self.child is not None:
                ended = self.child.popen.poll()
                code = self.term() if ended is None else ended
                assert code == 0, "exed ended with %d\n%s" % (code, self.log())
            reports = []
            for path in sorted(glob.glob(self.path("sanitizer*"))):
                with open(path, encoding="utf-8", errors="replace") as f:
                    reports.append(f.read())
            assert not any(reports), "sanitizer:\n" + "\n".join(reports)[:20000]
        finally:
            if self.child is not None:
                self._abandon()
            self.forget()

    def __exit__(self, kind, *error):
        if kind is None:
            self.stop()
            return
        print(self.log())  # the test has failed: its error counts, the log helps
        try:
            self.stop()
        except AssertionError as e:
            print("exedtest: %s" % e)

    def log(self, last=8000):
        """The end of what it printed and of its error log."""
        text = self.child.output(last) if self.child else ""
        if os.path.exists(self.error_log):
            with open(self.error_log, "rb") as f:
                text += f.read()[-last:].decode("utf-8", "replace")
        return text

    # ---- what it costs ----

    def rss_kb(self):
        """Resident memory of the node itself, without its redis-server."""
        return status_kb(self.pid, "VmRSS")

    def peak_rss_kb(self):
        return status_kb(self.pid, "VmHWM")

    def cpu_s(self):
        """CPU seconds used so far by the node and its children that run (its redis-server)."""
        return sum(cpu_seconds(pid) for pid in self.pids())

    def fds(self):
        """{descriptor: what it is} of the node."""
        found = {}
        where = "/proc/%d/fd" % self.pid
        for name in os.listdir(where):
            try:
                found[int(name)] = os.readlink(os.path.join(where, name))
            except OSError:
                pass  # closed while we looked
        return found

    # ---- its API ----

    def request(self, method, path, body=None, headers=None, timeout=30.0):
        """One request on a connection of its own -> Answer. A body that is not text or bytes goes as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        elif body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            low = {name.lower(): value for name, value in answer.getheaders()}
            found = Answer(answer.status, low, _parse(answer.read(), low))
        finally:
            connection.close()
        if self.judged:
            openapi.check(method, path, *self.documented(found))
        return found

    def documented(self, answer):
        """What openapi.check takes of an answer."""
        return (*answer, "modules" in self.conf.get("runner", {}))

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.request("POST", path, body, **options)

    def delete(self, path, **options):
        return self.request("DELETE", path, **options)

    def raw(self, data, limit=10.0, shut=False):
        """Sends the bytes and returns all that comes back until the peer closes or the limit."""
        with socket.create_connection(("127.0.0.1", self.port), limit * SLOW) as s:
            s.sendall(data)
            if shut:
                s.shutdown(socket.SHUT_WR)
            parts, until = [], time.monotonic() + limit * SLOW
            while True:
                s.settimeout(max(0.01, until - time.monotonic()))
                try:
                    part = s.recv(65536)
                except (socket.timeout, ConnectionResetError):
                    break
                if not part:
                    break
                parts.append(part)
            return b"".join(parts)

    # ---- jobs ----

    def submit(self, path, body, **options):
        """POST that must be answered 201; returns the jid."""
        answer = self.post(path, body, **options)
        assert answer.status == 201, "POST %s: %d %s" % (path, answer.status, answer.body)
        return answer.body["jid"]

    def execute(self, targets, cmd, **fields):
        """POST /execute; returns the jid."""
        return self.submit("/execute", dict(fields, targets=targets, cmd=cmd))

    def job(self, jid, outputs=True):
        answer = self.get("/jobs/%s?outputs=%d" % (jid, outputs))
        assert answer.status == 200, "GET /jobs/%s: %d %s" % (jid, answer.status, answer.body)
        return answer.body

    def wait_job(self, jid, limit=30.0):
        """Waits until the job has ended (state 0 or 2); returns its object with outputs."""
        wait_until(lambda: self.job(jid, outputs=False)["state"] != 1, limit, "job %s ended" % jid, 0.03)
        return self.job(jid)

    def follow_chunks(self, jid, timeout=30.0, query="follow=1&outputs=1", headers=None):
        """Follows a job and yields (monotonic time, chunk) as they come, bytes. A stream that is cut
        before its last chunk raises ConnectionError; silence longer than `timeout` raises TimeoutError."""
        lines = ["GET /jobs/%s?%s HTTP/1.1" % (jid, query), "Host: 127.0.0.1:%d" % self.port]
        lines += ["%s: %s" % item for item in (headers or {}).items()]
        with socket.create_connection(("127.0.0.1", self.port), timeout * SLOW) as s:
            s.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            f = s.makefile("rb")
            status = f.readline()
            assert b" 200 " in status, status + f.read(2000)
            head = []
            while True:
                line = f.readline()
                if line in (b"\r\n", b""):
                    break
                head.append(line.lower().replace(b" ", b""))
            assert b"transfer-encoding:chunked\r\n" in head, head
            while True:
                size = f.readline()
                if not size.endswith(b"\r\n"):
                    raise ConnectionError("the stream was cut")
                n = int(size.split(b";")[0], 16)
                data = f.read(n + 2)
                if len(data) != n + 2:
                    raise ConnectionError("the stream was cut")
                if n == 0:
                    return
                yield time.monotonic(), data[:n]

    def follow(self, jid, timeout=30.0, query="follow=1&outputs=1"):
        """Follows a job: yields the JSON of each line, first the job object, then {host: record}."""
        rest, number = b"", 0
        for _, chunk in self.follow_chunks(jid, timeout, query):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                value = json.loads(line)
                if self.judged:
                    openapi.check_line(number, value)
                number += 1
                yield value
        assert not rest, "the stream ended in the middle of a line: %r" % rest[:200]

    def records(self, jid, timeout=30.0):
        """Follows a job to its end; returns {host: [records]} as they came."""
        found = {}
        for number, line in enumerate(self.follow(jid, timeout)):
            if number:
                for host, record in line.items():
                    found.setdefault(host, []).append(record)
        return found

    def keep(self, where):
        """Copies the fixture's directory (configuration, logs, state) to look at after a failure."""
        shutil.copytree(self.dir, where, ignore=shutil.ignore_patterns("*.sock"))
