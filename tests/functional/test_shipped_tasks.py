# SPDX-License-Identifier: MIT
"""The shipped scripts and tasks on real hosts, and what a plugin's author gets: stubs, luacheck's settings."""

import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402
from exedtest.exedrun import LIMIT, OnHosts  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


# What stands before the host's own programs in its PATH: nothing here may reach this machine's reboot.
PROGRAMS = {
    "cat": 'case $1 in /proc/sys/kernel/random/boot_id) set -- "$EXED_TEST_DIR/boot" ;; esac; exec /bin/cat "$@"',
    "sync": "exit 0",
    "reboot": 'echo reboot >>"$EXED_TEST_DIR/resets"; %s',
    "shutdown": 'echo shutdown >>"$EXED_TEST_DIR/resets"; %s',
}
BOOTS = 'echo 22222222-2222-2222-2222-222222222222 >"$EXED_TEST_DIR/boot"'


class Shipped(OnHosts):
    @classmethod
    def setUpClass(cls):
        cls.hosts = Sshd(4, per_process=1).start()

    def test_facts_report_has_a_line_for_each_host(self):
        self.hosts.stop_host("web04")
        try:
            out = self.run_text(os.path.join(ROOT, "tasks/scripts/facts_report.lua"), "web*")[0].splitlines()
        finally:
            self.hosts.start_host("web04")
        self.assertEqual(out[0].split(), ["HOST", "SYSTEM", "KERNEL", "CPUS", "GIB"])
        self.assertEqual([line.split()[0] for line in out[1:5]], ["web01", "web02", "web03", "web04"])
        for line in out[1:4]:
            self.assertIn(" %s " % os.uname().release, line)
            self.assertEqual(int(line.split()[-2]), os.cpu_count())
        self.assertRegex(out[4], r"^web04 +UNREACHABLE: connection refused")
        self.assertEqual(out[5], "4 hosts, 3 answered, 1 did not")

    def test_the_task_that_the_readme_writes_is_checked_tested_and_run(self):
        with open(os.path.join(ROOT, "tasks/README.md"), encoding="utf-8") as f:
            blocks = re.findall(r"```lua\n(.*?)```", f.read(), re.S)
        self.write("exed-run.conf", self.settings() + "[runner]\nmodules = %s\n" % self.path("modules"))
        self.task("free_disk", blocks[0])
        self.task("free_disk_test", blocks[1])
        self.assertIn("1 file: 0 errors, 0 warnings", self.run_text("--check", "modules/tasks/free_disk.lua")[1])
        self.assertIn("2 passed, 0 failed", self.run_text("--test")[0])
        out, said = self.run_text("free_disk", "web*", "--dry-run")
        self.assertIn(" 0:00:11  web04  df: execute df --output=pcent /\n== web[01-04] (4 hosts): changed: 100 % in "
                      "use, before 100 %\n", out)
        self.assertIn("12 steps, nothing was touched", said)
        self.assertRegex(self.run_text("free_disk", "web*", "--limit", "99", "--command", "true")[0],
                         r"== web\[01-04\] \(4 hosts\): ok: \d+ % in use\n")

    def test_a_post_of_a_task_carries_a_key_of_its_own(self):
        seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                seen.append((body, self.headers["Idempotency-Key"]))
                self.send_response(201)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.write("exed-run.conf", self.settings() + "[runner]\nmodules = %s\n" % self.path("modules"))
        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            self.task("posts", """local http = require "exed.http"
return { summary = "posts", args = {}, run = function()
  for _, word in ipairs { "a", "b" } do
    assert(http.post("http://127.0.0.1:%d/", { body = word }).status == 201)
  end
end }""" % server.server_port)
            try:
                self.run_text("posts", "web01")
            finally:
                server.shutdown()
                thread.join()
        self.assertEqual([body for body, _ in seen], ["a", "b"])
        self.assertEqual(len({key for _, key in seen if key}), 2, seen)

    def make_bootable(self, name, reboot, shutdown):
        host = self.hosts.host[name]
        os.makedirs(os.path.join(host.dir, "bin"), exist_ok=True)
        for program, text in PROGRAMS.items():
            path = os.path.join(host.dir, "bin", program)
            with open(path, "w", encoding="utf-8") as f:
                f.write("#!/bin/sh\n%s\n" % (text.replace("%s", reboot if program == "reboot" else shutdown)))
            os.chmod(path, 0o755)
        with open(os.path.join(host.dir, "boot"), "w", encoding="utf-8") as f:
            f.write("11111111-1111-1111-1111-111111111111\n")
        return host

    def resets(self, name):
        path = os.path.join(self.hosts.host[name].dir, "resets")
        return self.hosts.host[name].read("resets").split() if os.path.exists(path) else []

    def test_reboot_escalation_by_ssh(self):
        """A host counts as rebooted when it has another boot; a node that dies resets no host twice."""
        hosts = [self.make_bootable("web02", BOOTS, "exit 1"), self.make_bootable("web03", "exit 1", BOOTS),
                 self.make_bootable("web04", "sleep 2; " + BOOTS, "exit 1")]
        with Exed(self.hosts, {"ssh": {"agent": "none"}}) as exed:
            found = exed.records(exed.execute(
                [host.name for host in hosts], "for p in reboot shutdown sync; do command -v $p; done"))
            for host in hosts:
                self.assertEqual(found[host.name][0]["stdout"], "".join(
                    "%s/bin/%s\n" % (host.dir, name) for name in ("reboot", "shutdown", "sync")), "not its own")

            def begin(names):
                return exed.submit("/tasks", {"targets": names, "taskname": "reboot_escalation", "taskopts": {
                    "methods": ["ssh"], "down": "3s", "size": len(names)}})

            def outcome(jid, name):
                return exed.wait_job(jid, LIMIT)["return_data"][name][-1]["return_data"]

            last = begin(["web04"])
            wait_until(lambda: self.resets("web04"), LIMIT, "it is reset")
            exed.kill9()
            exed.start()
            jid = begin(["web02", "web03"])
            self.assertEqual(outcome(jid, "web02"), "rebooted by ssh")
            self.assertEqual(outcome(jid, "web03"), "rebooted by ssh")
            self.assertEqual(outcome(last, "web04"), "rebooted by ssh")
        self.assertEqual([self.resets(name) for name in ("web02", "web03", "web04")],
                         [["reboot"], ["reboot", "shutdown"], ["reboot"]])

    def test_reboot_escalation_hands_off_what_was_reset_in_vain(self):
        """The reset does nothing, so the host stays up."""
        args = {"methods": ["command"], "command": "/bin/true", "down": "1s", "max_resets": 2}
        with Exed(self.hosts, {"ssh": {"agent": "none"}, "tasks": {"local_commands": ["/bin/true"]}}) as exed:
            plan = exed.post("/tasks", {"targets": ["web01"], "taskname": "reboot_escalation", "taskopts": args,
                                        "dry_run": True}).body["plan"]
            self.assertEqual([step["step"] for step in plan["steps"]], ["look", "command", "down", "up"])
            said = []
            for _ in range(3):
                answer = exed.post("/tasks", {"targets": ["web01"], "taskname": "reboot_escalation",
                                              "taskopts": args})
                job = exed.wait_job(answer.body["jid"], LIMIT)
                said.append(job["return_data"]["web01"][-1]["return_data"])
        self.assertEqual(said[:2], ["no method worked: command"] * 2)
        self.assertEqual(said[2], "handed off to people: reset 2 times within 24 h, and none helped")


@unittest.skipUnless(shutil.which("luacheck"), "luacheck is in the packages for lint")
class Luacheck(unittest.TestCase):
    """conf/luacheckrc, copied to where an author has his plugins."""

    def setUp(self):
        where = tempfile.TemporaryDirectory(prefix="exedtest-")
        self.addCleanup(where.cleanup)
        self.dir = where.name
        for name in ("tasks", "executors"):
            shutil.copytree(os.path.join(ROOT, name), os.path.join(self.dir, name))
        shutil.copytree(os.path.join(ROOT, "lua/handlers"), os.path.join(self.dir, "handlers"))
        shutil.copy(os.path.join(ROOT, "conf/luacheckrc"), os.path.join(self.dir, ".luacheckrc"))

    def check(self):
        done = subprocess.run(["luacheck", "--no-color", "."], cwd=self.dir, capture_output=True, text=True,
                              timeout=LIMIT, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_what_is_shipped_has_no_warning(self):
        code, out = self.check()
        self.assertEqual(code, 0, out)
        self.assertIn("tasks/rolling_restart.lua", out)

    def test_what_plugins_have_not_got_is_one(self):
        text = 'print(os.time(), io, os.getenv "x", math.random(), math.floor(2))\n'
        for name in ("tasks/bad.lua", "tasks/lib/bad.lua", "tasks/bad_test.lua", "handlers/exed/bad.lua"):
            with open(os.path.join(self.dir, name), "w", encoding="utf-8") as f:
                f.write(text)
        out = self.check()[1]
        for name, count in (("tasks/bad.lua", 4), ("tasks/lib/bad.lua", 4), ("handlers/exed/bad.lua", 2)):
            self.assertRegex(out, r"%s +%d warnings" % (name, count))
        self.assertRegex(out, r"tasks/bad_test.lua +OK")


if __name__ == "__main__":
    unittest.main()
