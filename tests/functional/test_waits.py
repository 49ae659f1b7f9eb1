# SPDX-License-Identifier: MIT
"""wait_up and wait_down on real hosts: by ssh, at a port, by ping; in scripts and in tasks of a node."""

import json
import os
import socket
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402
from exedtest.exedrun import LIMIT, OnHosts  # noqa: E402
from exedtest.sshd import kept_key  # noqa: E402

# wait.lua OP VIA TIMEOUT PATTERN: a line of JSON for each host.
SCRIPT = """local hosts, json = require "exed.hosts", require "exed.json"
local records = hosts.match(arg[4])["wait_" .. arg[1]](hosts.match(arg[4]),
  { via = arg[2], timeout = tonumber(arg[3]), check = false })
for _, r in ipairs(records) do
  print(json.encode { host = r.host.name, status = r.status, error = r.error, seconds = r.seconds,
    boot = r.boot })
end"""


TASK = """return { summary = "waits", args = {}, run = function(job)
  local host = job.hosts[1]
  local first = host:wait_up()
  job:say "is up"
  host:wait_down { timeout = 90 }
  job:say "is down"
  local again = host:wait_up { timeout = 90 }
  return { same = first.boot == again.boot and #first.boot == 36, seconds = again.seconds }
end }"""


# Nobody ends this wait but its time.
PATIENT = """return { summary = "waits in vain", args = {}, run = function(job)
  return job.hosts[1]:wait_down { timeout = 6, check = false }.seconds
end }"""

COUNT = """return { summary = "counts", args = { clear = { "boolean", default = false } }, run = function(job)
  local host, other = job.hosts[1], job.hosts[2]
  if job.args.clear then return { host:tally("seen", { clear = true }), other:tally "seen" } end
  return { host:tally "seen", host:tally("seen", { add = true }), other:tally("seen", { add = true }),
    host:tally("seen", { within = "1s" }) }
end }"""


class Waits(OnHosts):
    @classmethod
    def setUpClass(cls):
        cls.hosts = Sshd(4, per_process=1).start()

    def wait(self, *args, **env):
        self.write("wait.lua", SCRIPT)
        lines = self.run_text("wait.lua", *[str(arg) for arg in args], **env)[0].splitlines()
        return {record["host"]: record for record in map(json.loads, lines)}

    def boot(self):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
            return f.read().strip()

    def test_by_ssh_a_host_that_answers_is_up_and_tells_its_boot(self):
        found = self.wait("up", "ssh", 30, "web[01:02]")
        for name in ("web01", "web02"):
            self.assertEqual((found[name]["status"], found[name]["boot"]), ("OK", self.boot()), found)
            self.assertGreaterEqual(found[name]["seconds"], 0)
        record = self.wait("down", "ssh", 0.5, "web01")["web01"]
        self.assertEqual((record["status"], record["error"]), ("FAILED", "not down within 0.5 s"))

    def test_a_host_that_does_not_answer_is_down_and_comes_up_again(self):
        self.hosts.stop_host("web03")
        try:
            for via in ("ssh", "tcp:%d" % self.hosts.host["web03"].port):
                self.assertEqual(self.wait("down", via, 30, "web03")["web03"]["status"], "OK", via)
                record = self.wait("up", via, 0.5, "web03")["web03"]
                self.assertEqual(record["status"], "FAILED", via)
                self.assertIn("not up within 0.5 s", record["error"], via)
        finally:
            self.hosts.start_host("web03")
        for via in ("ssh", "tcp:%d" % self.hosts.host["web03"].port):
            self.assertEqual(self.wait("up", via, 30, "web03")["web03"]["status"], "OK", via)

    def test_by_ping_the_program_says_it(self):
        for code, up, down in ((0, "OK", "FAILED"), (1, "FAILED", "OK"), (2, "UNREACHABLE", "UNREACHABLE")):
            path = self.write("bin/ping", '#!/bin/sh\necho "$@" >>%s/asked\necho "cannot" >&2\nexit %d\n'
                              % (self.dir, code))
            os.chmod(path, 0o755)
            env = {"PATH": os.path.dirname(path) + ":" + os.environ["PATH"]}
            self.assertEqual(self.wait("up", "icmp", 0.5, "web01", **env)["web01"]["status"], up)
            record = self.wait("down", "icmp", 0.5, "web01", **env)["web01"]
            self.assertEqual(record["status"], down, record)
        self.assertIn("ping: cannot", record["error"])
        self.assertIn("-- " + self.hosts.host["web01"].address, self.read("asked"))

    def test_a_missing_ping_is_said(self):
        self.write("bin/none", "")
        record = self.wait("up", "icmp", 30, "web01", PATH=self.path("bin"))["web01"]
        self.assertEqual(record["status"], "FAILED")
        self.assertIn("ping", record["error"])

    def not_down(self, lines, via="ssh", known=None):
        """The error of wait_down on the one host of an inventory; it must not say that it is down."""
        self.write("other.ini", "[web]\n%s\n" % lines)
        self.write("exed-run.conf", "[store]\ndir = %s/state\n[inventory]\npath = %s\n[ssh]\nknown_hosts = %s\n"
                   "agent = none\n" % (self.dir, self.path("other.ini"), known or self.hosts.known_hosts))
        record = self.wait("down", via, 0.5, "all")["one"]
        self.assertEqual(record["status"], "UNREACHABLE", record)
        self.assertIn("not known to be down within 0.5 s: ", record["error"])
        return record["error"]

    def test_a_host_that_does_not_let_us_in_is_not_down(self):
        host, key = self.hosts.host["web01"], kept_key(self.path("other"), "ed25519")
        line = "one ansible_host=%s ansible_port=%d ansible_user=%s ansible_ssh_private_key_file=" % (
            host.address, host.port, self.hosts.user)
        self.assertIn("login refused", self.not_down(line + key))
        self.assertIn("host key unknown", self.not_down(line + self.hosts.key, known=self.write("known", "")))

    def test_the_line_of_a_wait_says_why_it_ended(self):
        self.task("look", 'return { summary = "looks", args = {}, run = function(job)\n'
                  'job.hosts:wait_down { timeout = 0.5 } end }')
        self.write("exed-run.conf", self.settings() + "[runner]\nmodules = %s\n" % self.path("modules"))
        said = self.run_text("look", "web01", code=1)[1]
        self.assertIn("web01: wait_down: failed: not down within 0.5 s", said)

    def test_a_host_whose_name_has_no_address_is_not_down(self):
        for via in ("ssh", "tcp:22"):
            self.assertIn("no address", self.not_down("one ansible_host=nowhere.invalid", via))

    def test_a_server_that_is_there_and_speaks_no_ssh_is_not_down(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def answer():
                while True:
                    try:
                        other = server.accept()[0]
                    except OSError:
                        return
                    other.sendall(b"220 mail\r\n")
                    other.close()

            thread = threading.Thread(target=answer)
            thread.start()
            line = "one ansible_host=127.0.0.1 ansible_port=%d" % server.getsockname()[1]
            try:
                self.assertIn("no SSH server", self.not_down(line))
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()

    def test_a_task_waits_for_the_end_and_the_return_of_a_host(self):
        with tempfile.TemporaryDirectory(prefix="exedtest-") as modules:
            os.makedirs(os.path.join(modules, "tasks"))
            for name, text in (("waits", TASK), ("count", COUNT), ("patient", PATIENT)):
                with open(os.path.join(modules, "tasks", name + ".lua"), "w", encoding="utf-8") as f:
                    f.write(text)
            with Exed(self.hosts, {"ssh": {"agent": "none"}, "runner": {"modules": modules}}) as exed:
                self.follow_one(exed)
                self.count(exed)
                self.resume(exed)

    def resume(self, exed):
        """A wait that goes on after the death of its node counts from when it was asked."""
        answer = exed.post("/tasks", {"targets": ["web01"], "taskname": "patient"})
        jid = answer.body["jid"]

        def entries():
            return exed.get("/jobs/%s/journal" % jid).body["entries"]

        wait_until(lambda: time.time() > entries()[0]["ask"]["at"] + 3 if entries() else False, LIMIT, "it waits")
        exed.kill9()
        exed.start()
        job = exed.wait_job(jid, LIMIT)
        asked, answered = entries()[0]["ask"]["at"], [one["at"] for one in entries() if "ans" in one][0]
        self.assertGreater(job["value"], answered - asked - 2, "it was begun anew")

    def count(self, exed):
        """What is noted of a host is known to the next job."""
        def run(**args):
            answer = exed.post("/tasks", {"targets": ["web01", "web02"], "taskname": "count", "taskopts": args})
            job = exed.wait_job(answer.body["jid"], LIMIT)
            self.assertEqual(job["state"], 0, job)
            return job["value"]

        self.assertEqual(run()[:3], [0, 1, 1])
        self.assertEqual(run()[:3], [1, 2, 2])
        self.assertEqual(run(clear=True), [0, 2])
        self.assertEqual(run()[:3], [0, 1, 3])

    def follow_one(self, exed):
        answer = exed.post("/tasks", {"targets": ["web04"], "taskname": "waits", "taskopts": {}})
        jid = answer.body["jid"]

        def said(text):
            return text in json.dumps(exed.job(jid))

        wait_until(lambda: said("is up"), LIMIT, "the host was up")
        self.hosts.stop_host("web04")
        try:
            wait_until(lambda: said("is down"), LIMIT, "the host was down")
        finally:
            self.hosts.start_host("web04")
        wait_until(lambda: exed.job(jid)["state"] != 1, LIMIT, "the task ends")
        job = exed.job(jid)
        self.assertEqual((job["state"], job["value"]["same"]), (0, True), job)
        steps = [row for row in exed.job(jid, outputs=True)["return_data"]["web04"] if "seconds" in row]
        self.assertEqual([(row["name"], row["status"]) for row in steps],
                         [("wait_up", 1), ("wait_down", 1), ("wait_up", 1)], steps)


if __name__ == "__main__":
    unittest.main()
