# SPDX-License-Identifier: MIT
"""exed with its private redis-server and a job on 20 simulated hosts, with one call that fails."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import BUILD, Exed, Fleet, alive, with_marker  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

import stacks  # noqa: E402
from exec_run import DONE, HOSTS, OutOfMemory, count_runs, is_whole, sanitizer_options, take_reports  # noqa: E402

START = 40  # seconds until it answers or has ended
JOB = 40    # seconds until a job has ended
# It was ending by itself when it was told to: what it cannot do without had failed.
GAVE_UP = re.compile(r"the program ends|\[err\] evsig_cb|^/\S+\.lua:\d+: not enough memory$", re.M)
BROKEN = (OSError, http.client.HTTPException, ValueError)


class Ended(Exception):
    """The node ended by itself."""


# Not those that connections get. Several nodes start at once, so none is tried twice.
PORTS = iter(range(20000 + os.getpid() % 10000, 32000))


def own_port():
    for port in PORTS:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise AssertionError("no port is free")


class NodeRun:
    name = "node"

    def __init__(self):
        self.fleet = Fleet(HOSTS, lifetime=24 * 3600).start()
        self.program = os.path.join(BUILD, "torture-exed")
        self.port = own_port()

    def close(self):
        self.fleet.stop()

    def make_node(self, **env):
        # Answers without memory are not as the API's document says.
        node = Exed(self.fleet, program=self.program, env=env, judged=False, conf={
            "api": {"listen": "127.0.0.1:%d" % self.port},
            "ssh": {"known_hosts": self.fleet.known_hosts, "key": self.fleet.key, "user": self.fleet.user,
                    "connect_timeout": "5s", "command_timeout": "10s"},
            "store": {"node_timeout": "2s"}, "runtime": {"io_threads": 2}})
        node.port = self.port
        return node

    def count_calls(self):
        calls = self.fleet.path("calls")
        return calls, self.judge(self.make_node(TORTURE_CALLS=calls), must=True)

    def run(self, fault, show=False):
        """A run with that fault; returns the problems, and the stack of the call with them."""
        self.fleet.reset()
        stack = self.fleet.path("stack")
        found = self.judge(self.make_node(TORTURE_FAULT=fault, TORTURE_SHOW=stack), show=show)
        where = stacks.read(stack, self.program)
        if show:
            print(where)
        return found + [str(where)] if found else []

    # ---- one node's life ----

    def judge(self, node, must=False, show=False):
        problems = []
        node.extra_env.update(sanitizer_options(node.dir, node.extra_env.get("TORTURE_FAULT", "")))
        try:
            node.launch()
            try:
                jid = self.submit(node, problems)
                if jid:
                    problems += self.wait(node, jid)
                elif must:
                    problems.append("no job: %s" % node.log())
            except Ended:
                if must:
                    problems.append("it ended: %s" % node.log())
            problems += self.end(node, jid=getattr(node, "jid", None))
            if problems:
                problems.append("log: " + node.log(3000))
            if show:
                print(node.log())
        except OutOfMemory:
            return []
        finally:
            self.forget(node)
        return problems

    @staticmethod
    def forget(node):
        if node.child is not None:
            node._abandon()
        node.forget()

    def ask(self, node, fn, limit):
        """What fn() answers, asked again while no answer comes."""
        until = time.monotonic() + limit * SLOW
        while True:
            if not node.child.running():
                raise Ended()
            try:
                answer = fn()
            except BROKEN as e:
                answer = repr(e)
            if answer and not isinstance(answer, str):
                return answer
            if time.monotonic() > until:
                raise AssertionError("after %d s still: %s" % (limit * SLOW, answer))
            time.sleep(0.02)

    def submit(self, node, problems):
        """The jid of a job; None when the node says that it cannot take one."""
        node.jid = None

        def up():
            answer = node.get("/healthz", timeout=5)
            return answer if answer.status == 200 else "healthz: %d %s" % (answer.status, answer.body)

        def post():
            return node.post("/execute", {"targets": self.fleet.names, "cmd": "echo hello"}, timeout=10)

        try:
            self.ask(node, up, START)
            answer = self.ask(node, post, START)
        except AssertionError as e:
            problems.append(str(e))
            return None
        if answer.status == 201:
            node.jid = answer.body["jid"]
        elif answer.status == 404 and "cannot be read: not enough memory" in node.log():
            pass  # the inventory is read again in a second
        elif answer.status not in (500, 503):
            problems.append("POST /execute: %d %s" % (answer.status, answer.body))
        return node.jid

    def wait(self, node, jid, limit=JOB):
        """Problems of the job when it has ended."""
        def ended():
            answer = node.get("/jobs/%s?outputs=0" % jid, timeout=10)
            if answer.status != 200:
                return "GET /jobs: %d %s" % (answer.status, answer.body)
            return answer if answer.body["state"] != 1 else "the job runs: %s" % answer.body

        def whole():
            answer = node.get("/jobs/%s?outputs=1" % jid, timeout=10)
            return answer if answer.status == 200 else "GET /jobs: %d %s" % (answer.status, answer.body)

        try:
            self.ask(node, ended, limit)
            job = self.ask(node, whole, START).body
        except AssertionError as e:
            return [str(e)]
        return self.judge_job(job)

    def judge_job(self, job):
        problems = []
        runs, records = count_runs(self.fleet, 0), job.get("return_data") or {}
        for name in self.fleet.names:
            found, ran = records.get(name) or [], runs[name]
            record = found[0] if found else None
            if len(found) != 1:
                problems.append("%s has %d records" % (name, len(found)))
            elif record["status"] in DONE and (ran != 1 or not is_whole(record)):
                problems.append("%s ran %d times: %s" % (name, ran, record))
            elif ran > 1:
                problems.append("%s ran %d times: %s" % (name, ran, record))
        return problems[:3]

    def end(self, node, jid):
        """Ends the node, or looks at how it ended; a job that it had taken goes on in the next life."""
        problems = []
        if node.child.running():
            try:
                code = self.terminate(node)
            except AssertionError as e:
                return [str(e)] + self.leftovers(node)
            if code == -signal.SIGTERM and "listening on" not in node.log():
                code = 0  # it was not that far
            if code != 1 or not GAVE_UP.search(node.log()):
                return ["SIGTERM: exit code %d" % code] * bool(code) + self.leftovers(node)
        code = node.child.popen.returncode
        if code < 0 or code > 2 or code == 0:
            problems.append("it ended by itself with %d" % code)
        problems += self.leftovers(node)
        if not node.log().strip():
            problems.append("it ended without a message")
        if jid and not problems:
            problems += self.next_life(node, jid)
        return problems

    @staticmethod
    def terminate(node):
        """Ends it; returns its exit code. A signal may be lost: libevent's handler writes it to a pipe."""
        node.child.popen.send_signal(signal.SIGTERM)
        try:
            return node.child.popen.wait(5 * SLOW)
        except subprocess.TimeoutExpired:
            fault = node.extra_env.get("TORTURE_FAULT", "")
            lost = fault.startswith(("write:", "read:")) and "SIGTERM: ending" not in node.log()
        return node.child.end(sig=signal.SIGTERM if lost else 0, limit=20)

    def leftovers(self, node):
        until = time.monotonic() + 5 * SLOW
        left = with_marker(node.dir)
        while left and time.monotonic() < until:
            time.sleep(0.05)
            left = [pid for pid in with_marker(node.dir) if alive(pid)]
        return take_reports(node.dir) + (["left running: %s" % left] if left else [])

    def next_life(self, node, jid):
        for name in ("TORTURE_FAULT", "TORTURE_SHOW"):
            node.extra_env.pop(name, None)
        node.launch()
        try:
            problems = self.wait(node, jid)
        except Ended:
            return ["the next life ended: " + node.log()]
        return problems + self.end(node, None)
