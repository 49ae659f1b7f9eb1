# SPDX-License-Identifier: MIT
"""Commands as another user: sudo on the host is asked as the inventory says, gets its password on stdin and
nowhere else, and what runs below it is killed through it. sudo is a stand-in on the hosts' path."""

import json
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402

OK, FAILED, UNREACHABLE, CHANGED = 1, 3, 4, 5
PASSWORD = "s3cret pa'ss\\w!rd"

# Asks for the password when there is a file of that name, at most three times.
SUDO = r"""#!/bin/sh
d=${0%/*}/..
printf '%s\n' "$*" >>"$d/asked"
want=
[ "$1" = -H ] || exit 2
shift
[ -f "$d/password" ] && read -r want <"$d/password"
case $1 in
-n) [ -z "$want" ] || { echo 'sudo: a password is required' >&2; exit 1; }; shift ;;
-S)
  shift 3
  n=0
  while [ -n "$want" ]; do
    IFS= read -r p || { echo 'sudo: no password was provided' >&2; exit 1; }
    [ "$p" = s3cret\ pa\'ss\\w\!rd ] && break
    n=$((n + 1))
    [ $n -lt 3 ] || { echo 'sudo: 3 incorrect password attempts' >&2; exit 1; }
  done ;;
esac
BECAME=$2
export BECAME
shift 2
"$@"
"""


class Become(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(5)
        cls.addClassCleanup(cls.sshd.stop)
        for host in cls.sshd.hosts:
            os.makedirs(os.path.join(host.dir, "bin"))
            path = os.path.join(host.dir, "bin", "sudo")
            with open(path, "w", encoding="utf-8") as f:
                f.write(SUDO)
            os.chmod(path, 0o755)
        cls.sshd.start()
        more = [{"ansible_become": True},
                {"ansible_become": "yes", "ansible_become_user": "app", "ansible_become_password": PASSWORD},
                {"ansible_become": True, "ansible_become_method": "su"},
                {"ansible_become_user": "app"},
                {"ansible_become": True, "ansible_become_user": "app", "ansible_become_pass": "wrong"}]
        hosts = {host.name: dict(own, ansible_host=host.address, ansible_port=host.port)
                 for host, own in zip(cls.sshd.hosts, more)}
        inventory = cls.sshd.write("become.json", json.dumps({"all": {"hosts": hosts}}))
        cls.exed = Exed(cls.sshd, conf={"inventory": {"path": inventory}, "log": {"log_level": "debug"}})
        cls.exed.conf["ssh"]["roles"] = cls.sshd.path("roles")
        os.makedirs(cls.sshd.path("roles", "r"))
        cls.sshd.write("roles/r/deploy.sh", "echo $BECAME; wc -c <file\n")
        cls.sshd.write("roles/r/file", "x" * 200000)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start()

    def one(self, name, command, **fields):
        records = self.exed.records(self.exed.execute([name], command, **fields))
        return records[name][0]

    def need_password(self, name, needed=True):
        if needed:
            path = os.path.join(self.sshd.host[name].dir, "password")
            with open(path, "w", encoding="utf-8") as f:
                f.write("yes\n")
            self.addCleanup(os.unlink, path)

    def test_commands_run_as_the_other_user(self):
        for command in ("echo $BECAME", "echo $BECAME # not \\ plain!"):
            record = self.one("web01", command)
            self.assertEqual((record["status"], record["stdout"], record["stderr"]), (CHANGED, "root\n", ""))
            self.assertEqual(self.one("web04", command)["stdout"], "\n")
        self.assertEqual(self.sshd.host["web04"].read("asked"), "")
        self.assertTrue(self.sshd.host["web01"].read("asked").startswith("-H -n -u root "))
        self.assertEqual(self.one("web01", "exit 7")["rtc"], 7)

    def test_the_password_goes_to_sudo_and_nowhere_else(self):
        for needed in (False, True):
            self.need_password("web02", needed)
            for command in ("echo $BECAME; cat; env", "echo $BECAME # not \\ plain!\ncat; env"):
                record = self.one("web02", command)
                self.assertEqual((record["status"], record["stdout"].splitlines()[0]), (CHANGED, "app"), record)
                self.assertNotIn("s3cret", record["stdout"] + record["stderr"])
        self.assertNotIn("s3cret", self.sshd.host["web02"].read("asked"))
        self.assertNotIn("s3cret", self.exed.log(1 << 20))

    def test_what_is_sent_goes_to_the_other_user_behind_the_password(self):
        for needed in (False, True):
            self.need_password("web02", needed)
            job = self.exed.wait_job(self.exed.submit("/deploy", {"targets": ["web02"], "role": "r"}))
            record = job["return_data"]["web02"][0]
            self.assertEqual((record["status"], record["return_data"]), (CHANGED, "app\n200000\n"), record)

    def test_what_sudo_refuses_has_failed_with_its_words(self):
        self.need_password("web05")
        record = self.one("web05", "echo ran")
        self.assertEqual((record["status"], record["stdout"]), (FAILED, ""))
        self.assertIn("sudo: no password was provided", record["stderr"])
        record = self.one("web05", "echo not \\ plain!")
        self.assertIn("sudo: 3 incorrect password attempts", record["stderr"])
        self.need_password("web01")
        record = self.one("web01", "echo ran")
        self.assertEqual((record["status"], record["stdout"]), (FAILED, ""))
        self.assertIn("a password is required", record["stderr"])
        for name, words in (("web01", "sudo: a password is required"), ("web05", "sudo: 3 incorrect password")):
            record = self.one(name, "echo ran", fence=True)
            self.assertEqual((record["status"], "unknown" in record, "rtc" in record), (FAILED, False, False), record)
            self.assertIn(words, record["error"])

    def test_another_way_to_become_is_told_and_not_taken(self):
        record = self.one("web03", "echo ran")
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("ansible_become", record["error"])
        self.assertEqual(self.exed.get("/ping?target=web03").body["web03"]["status"], OK)

    def test_a_service_is_changed_as_the_other_user(self):
        self.need_password("web02")
        path = os.path.join(self.sshd.host["web02"].dir, "bin", "systemctl")
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\nd=${0%/*}/..\ncase $1 in\nis-active) [ -f \"$d/up\" ] ;;\n"
                    "start) echo \"$BECAME $*\" >\"$d/up\" ;;\nesac\n")
        os.chmod(path, 0o755)
        for status in (CHANGED, OK):
            answer = self.exed.get("/service?target=web02&name=web&state=0")
            self.assertEqual((answer.status, answer.body["web02"]["status"]), (200, status), answer.body)
        self.assertEqual(self.sshd.host["web02"].read("up"), "app start web\n")

    def test_what_runs_below_sudo_is_killed_through_it(self):
        self.need_password("web02")
        for name in ("web01", "web02"):
            before = len(self.sshd.host[name].read("asked").splitlines())
            record = self.one(name, "setsid sleep 611 & sleep 612", timeout=1)
            self.assertEqual((record["status"], record["timed_out"], record["killed"], record["survivors"]),
                             (FAILED, True, True, 0), record)
            self.assertEqual(len(self.sshd.host[name].read("asked").splitlines()), before + 2)
            wait_until(lambda: not self.sshd.running("sleep\0" + "61"), 5, "nothing of it runs")


if __name__ == "__main__":
    unittest.main()
