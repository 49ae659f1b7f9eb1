# SPDX-License-Identifier: MIT
"""Names and texts from clients and inventories: none becomes an option of a program or a word of a shell,
unless it is the command itself. Every nasty one here would leave a file behind."""

import json
import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support")]

from exedtest import BUILD, Exed, Sshd  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

CHANGED, FAILED, NO_MATCH = 5, 3, -1
CANARY = os.path.join(os.environ.get("TMPDIR", "/tmp"), "exed-canary-%d" % os.getpid())
TOUCH = "touch " + CANARY

# What a shell, ssh, an option parser, a path, a terminal or Redis would read as something else.
NASTY = [
    "-oProxyCommand=" + TOUCH, "-o ProxyCommand=" + TOUCH, "--help", "-", "--", "-e", "$(%s)" % TOUCH,
    "`%s`" % TOUCH, "; %s;" % TOUCH, "| %s" % TOUCH, "& %s &" % TOUCH, "\n%s\n" % TOUCH, "' ; %s ; '" % TOUCH,
    '" ; %s ; "' % TOUCH, "$IFS", "~root", "../../etc/passwd", "/etc/passwd", "@/etc/passwd", "%s%n%p", "\\",
    "a\\\n%s" % TOUCH, "\x1b[2J", "\u202eten", "*", "exed:job:*", "{}", "", ".", "..", "a" * 5000,
]

sshd = exed = None


def setUpModule():
    global sshd, exed
    sshd = Sshd(2).start()
    exed = Exed(sshd, {"ssh": {"agent": "none"}}).start()


def tearDownModule():
    try:
        exed.stop()
    finally:
        sshd.stop()


class Canary(unittest.TestCase):
    def tearDown(self):
        left = os.path.exists(CANARY)
        if left:
            os.unlink(CANARY)
        self.assertFalse(left, "something ran %s" % TOUCH)


class Names(Canary):
    def only(self, status, answer, nasty):
        self.assertIn(answer.status, status, "%r: %s" % (nasty, answer.body))
        if answer.body:
            self.assertNotRegex(json.dumps(answer.body, ensure_ascii=False), r"[\x00-\x1f\x7f]")

    def test_targets(self):
        for nasty in NASTY:
            for text in (nasty, "web01 " + nasty, "web01" + nasty):
                if text in ("*", "web01*", "web01", "web01 ", "web01..", "web01."):
                    continue
                with self.subTest(text):
                    answer = exed.post("/execute", {"targets": [text], "cmd": "true", "lock": "none"})
                    self.only((201, 400, 404), answer, text)
                    if answer.status == 201:  # a comma or blanks may stand around a name that is known
                        for name, [record] in exed.records(answer.body["jid"]).items():
                            self.assertTrue(name in sshd.host or record["status"] == NO_MATCH, record)

    def test_service_names(self):
        for nasty in NASTY + ["@", ":x", "a/b", "nginx.service/../x", "a" * 256, "\u00e9"]:
            with self.subTest(nasty):
                answer = exed.post("/service", {"targets": ["web01"], "name": nasty, "state": 0})
                self.only((400,), answer, nasty)
                self.assertEqual(answer.body["message"], "bad service name or state")

    def test_other_fields(self):
        for field in ("executor", "lock", "priority", "window", "timeout", "max_hosts", "fence"):
            for nasty in NASTY:
                with self.subTest(field, nasty=nasty):
                    body = {"targets": ["web01"], "cmd": "true", field: nasty}
                    self.only((400,), exed.post("/execute", body), nasty)

    def test_jids_and_paths(self):
        for nasty in NASTY:
            coded = "".join("%%%02x" % byte for byte in nasty.encode())
            for path in ("/jobs/%s", "/jobs/%s/cancel", "/%s", "/target/%s"):
                with self.subTest(path % nasty):
                    method = "POST" if "cancel" in path else "GET"
                    answer = exed.request(method, path % coded)
                    known = nasty in ("", ".")
                    self.only((400, 404, 414) + ((200, 405) if known else ()), answer, nasty)

    def test_header_values(self):
        """What a header says goes nowhere but into the job and the log."""
        for nasty in NASTY:
            if not re.fullmatch(r"[\x20-\x7e]*", nasty):
                continue
            headers = {"Idempotency-Key": nasty, "User-Agent": nasty, "Last-Event-ID": nasty, "Accept": nasty}
            body = {"targets": ["web01"], "cmd": "echo header", "lock": "none"}
            with self.subTest(nasty):
                answer = exed.post("/execute", body, headers=headers)
                self.only((201, 400, 431), answer, nasty)
                if answer.status == 201:
                    self.assertEqual(exed.wait_job(answer.body["jid"])["return_data"]["web01"][0]["stdout"],
                                     "header\n")

    def test_the_command_itself_is_never_an_option(self):
        for executor in ("ssh", "local"):
            for command in ("-x", "+x", "-c true", "--", "- ", "-e '%s'" % TOUCH):
                with self.subTest(command, executor=executor):
                    jid = exed.execute(["web01"], command, executor=executor)
                    [record] = exed.wait_job(jid)["return_data"]["web01"]
                    self.assertEqual((record["status"], record["rtc"]), (FAILED, 127), record)

    def test_logs_have_no_control_bytes(self):
        exed.get("/%1b%5b2J%0a")
        exed.get("/target?pattern=%1b%5b2J")
        for path in (exed.access_log, exed.error_log):
            with open(path, "rb") as f:
                self.assertNotRegex(f.read(), rb"[\x00-\x09\x0b-\x1f\x7f]")


class Inventories(Canary):
    """An inventory with an entry that is not right is refused, with file and line; what is taken does no
    harm when a command runs."""

    VARIABLES = ["ansible_host", "ansible_port", "ansible_user", "ansible_become_user", "exed_fence_dir",
                 "exed_jump", "ansible_connection", "exed_shell", "ansible_ssh_private_key_file",
                 "ansible_ssh_common_args", "ansible_ssh_extra_args", "exed_disabled"]
    ARGS = ["-o ProxyCommand='%s'" % TOUCH, "-oProxyCommand='%s'" % TOUCH, "-F " + CANARY,
            "-o LocalCommand='%s' -o PermitLocalCommand=yes" % TOUCH, "-J '-oProxyCommand=%s'" % TOUCH]

    def entries(self):
        """(host, its line) with one nasty text each."""
        one_line = [nasty for nasty in NASTY + self.ARGS if nasty and "\n" not in nasty]
        for i, variable in enumerate(self.VARIABLES):
            for j, nasty in enumerate(one_line):
                host = "bad%d-%d" % (i, j)
                where = "ansible_host=127.0.0.1 ansible_port=1" if variable != "ansible_host" else ""
                quoted = nasty.replace("\\", "\\\\").replace('"', '\\"')
                yield host, '%s %s ansible_become=true %s="%s"' % (host, where, variable, quoted)
        for nasty in one_line:
            if not re.match(r"[\[#;]", nasty):
                yield nasty, nasty

    def test_each_is_refused_with_its_line_or_does_no_harm(self):
        taken, refused = [], 0
        path = exed.write("nasty.ini", "")
        for host, line in self.entries():
            exed.write("nasty.ini", "web01\n%s\n" % line)
            ran = subprocess.run([os.path.join(BUILD, "exed-run"), "hosts", "-i", path, "all"],
                                 stdin=subprocess.DEVNULL, capture_output=True, timeout=20 * SLOW)
            said = (ran.stdout + ran.stderr).decode()
            with self.subTest(line):
                self.assertNotRegex(said, r"[\x00-\x09\x0b-\x1f\x7f]")
                if ran.returncode:
                    self.assertIn("nasty.ini:2: ", said)
                    refused += 1
                else:
                    self.assertRegex(host, r"^[A-Za-z0-9_.][A-Za-z0-9_.-]*$")
                    taken.append(line)
        print("%d entries are refused, %d are taken" % (refused, len(taken)))
        self.assertGreater(refused, 100)
        self.run_on("\n".join(taken) + "\n")

    def run_on(self, text):
        node = Exed(sshd, {"ssh": {"agent": "none", "connect_timeout": "3s"}})
        node.conf["inventory"]["path"] = node.write("taken.ini", "%s ansible_host=%s ansible_port=%d\n%s" % (
            sshd.hosts[0].name, sshd.hosts[0].address, sshd.port, text))
        with node:
            names = node.get("/target").body
            for fence in (False, True):
                jid = node.execute(names, "echo ran", timeout=5, fence=fence)
                records = node.wait_job(jid, 60)["return_data"]
                self.assertEqual(records["web01"][0]["status"], CHANGED)
                for name, [record] in records.items():
                    self.assertTrue(name == "web01" or record["status"] != CHANGED, record)


if __name__ == "__main__":
    unittest.main()
