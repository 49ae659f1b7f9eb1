# SPDX-License-Identifier: MIT
"""deploy on real sshd hosts: roles/NAME is sent and its deploy.sh is run there, once, with its variables as data."""

import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402

OK, FAILED, CHANGED = 1, 3, 5
DONE, FAILURE = 0, 2

SHOW = """#!/bin/sh
printf '%s|' "$@"
cat conf/file
printf '%s|%s|%s|%s\\n' "$server_name" "$upstreams" "$n" "$on"
[ -z "$secret" ] || tr '\\0' '\\n' </proc/$$/cmdline | grep -c "$secret"
[ -z "$secret" ] || for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f 2>/dev/null | grep -F "$secret"; done
exit ${code:-0}
"""
ONCE = """
echo x >>"$EXED_TEST_DIR/runs"
while [ ! -e "$EXED_TEST_DIR/go" ]; do sleep .05; done
"""


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)


class Deploy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(3)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.exed = Exed(cls.sshd, {"store": {"node_timeout": "2s"}})
        cls.roles = cls.exed.path("roles")
        cls.exed.conf["ssh"]["roles"] = cls.roles
        write(os.path.join(cls.roles, "nginx", "deploy.sh"), SHOW, 0o755)
        write(os.path.join(cls.roles, "nginx", "conf", "file"), "of the role\n")
        write(os.path.join(cls.roles, "once", "deploy.sh"), ONCE)
        write(os.path.join(cls.roles, "empty", "other"), "x")
        write(os.path.join(cls.roles, "open", "deploy.sh"), "x", 0o666)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start(limit=30)

    def post(self, **body):
        return self.exed.post("/deploy", dict({"targets": "all"}, **body))

    def run_job(self, **body):
        answer = self.post(**body)
        self.assertEqual(answer.status, 201, answer.body)
        return self.exed.wait_job(answer.body["jid"])

    def test_a_role_is_run_with_its_files_variables_and_tags(self):
        job = self.run_job(role="nginx", partial=["reconfig", "it's $(id) 100%s"], extra_vars={
            "upstreams": ["127.0.0.1:8080"], "server_name": "exe.0ops.io '$(id)'\nx", "n": 3, "on": True})
        self.assertEqual((job["state"], job["operate"]), (DONE, "deploy"), job["return_data"])
        self.assertEqual(job["operate_args"]["role"], "nginx")
        self.assertEqual(set(job["return_data"]), {host.name for host in self.sshd.hosts})
        text = ("reconfig|it's $(id) 100%s|of the role\n"
                "exe.0ops.io '$(id)'\nx|[\"127.0.0.1:8080\"]|3|true\n")
        for records in job["return_data"].values():
            self.assertEqual(len(records), 1)
            self.assertEqual((records[0]["status"], records[0]["name"], records[0]["return_data"]),
                             (CHANGED, "nginx", text))
        self.assertEqual([name for name in os.listdir("/tmp") if name.startswith(".exed-" + job["taskid"])], [])

    def test_exit_codes_are_statuses(self):
        for code, status, state in ((10, OK, DONE), (7, FAILED, FAILURE)):
            job = self.run_job(targets="web01", role="nginx", extra_vars={"code": code})
            self.assertEqual((job["state"], job["return_data"]["web01"][0]["status"]), (state, status))

    def test_a_variable_may_have_the_name_of_one_that_exed_uses(self):
        names = ["dest", "dir", "e", "end", "n", "op", "p", "s", "sha256", "t", "x"]
        write(os.path.join(self.roles, "names", "deploy.sh"), "printf '%%s|' %s\n" % " ".join('"$%s"' % n for n in names))
        job = self.run_job(targets="web01", role="names", extra_vars={name: "my " + name for name in names})
        record = job["return_data"]["web01"][0]
        self.assertEqual((record["status"], record["return_data"]), (CHANGED, "".join("my %s|" % n for n in names)))

    def test_a_value_is_in_no_command_line_and_no_log(self):
        job = self.run_job(targets="web01", role="nginx", extra_vars={"secret": "hunter2zzz"})
        said = job["return_data"]["web01"][0]["return_data"]
        self.assertTrue(said.endswith("|||\n0\n"), said)
        self.assertNotIn("hunter2zzz", self.exed.log(100000))

    def test_what_is_wrong_is_refused_at_once(self):
        for body, why in (
                ({}, "role should be string types"),
                ({"role": ["nginx"]}, "role should be string types"),
                ({"role": "nosuch"}, "there is no role nosuch"),
                ({"role": "../nginx"}, "no name of a role"),
                ({"role": "empty"}, "deploy.sh"),
                ({"role": "open"}, "others than its owner can write it"),
                ({"role": "nginx", "partial": [1]}, "partial should be string list or omitted"),
                ({"role": "nginx", "extra_vars": [1]}, "extra vars should be an json object or omitted"),
                ({"role": "nginx", "extra_vars": {"a-b": 1}}, "'a-b' is no name of a variable"),
                ({"role": "nginx", "extra_vars": {"LD_PRELOAD": "x"}}, "LD_PRELOAD"),
                ({"role": "nginx", "extra_vars": {"x_r": "x"}}, "x_r"),
                ({"role": "nginx", "lock": "none"}, "lock of deploy")):
            answer = self.post(**body)
            self.assertEqual(answer.status, 400, (body, answer.body))
            self.assertIn(why, answer.body["message"])

    def test_a_role_that_was_edited_is_not_sent_to_the_rest_of_a_job(self):
        """A node dies while the first host runs it, and the next one finds another role."""
        script = os.path.join(self.roles, "edited", "deploy.sh")
        write(script, ONCE.replace("runs", "edits").replace("/go", "/on"))
        first, *others = self.sshd.hosts
        jid = self.post(role="edited", window=1).body["jid"]
        wait_until(lambda: first.read("edits"), 20, "it runs")
        self.exed.kill9()
        write(script, "echo another >>$EXED_TEST_DIR/edits")
        self.exed.start(limit=30)
        write(os.path.join(first.dir, "on"), "")
        job = self.exed.wait_job(jid)
        self.assertEqual(job["state"], FAILURE)
        self.assertEqual((job["return_data"][first.name][0]["status"], first.read("edits")), (CHANGED, "x\n"))
        for host in others:
            self.assertEqual(job["return_data"][host.name][0]["status"], FAILED)
            self.assertIn("has changed since this job first sent it", job["return_data"][host.name][0]["error"])
            self.assertEqual(host.read("edits"), "")

    def test_a_node_that_is_killed_finds_it_running_and_it_is_run_once(self):
        host = self.sshd.hosts[2]
        answer = self.post(targets=host.name, role="once")
        jid = answer.body["jid"]
        wait_until(lambda: host.read("runs"), 20, "it runs")
        self.exed.kill9()
        self.exed.start(limit=30)
        write(os.path.join(host.dir, "go"), "")
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["return_data"][host.name][0]["status"]), (DONE, CHANGED))
        self.assertEqual(host.read("runs"), "x\n")


if __name__ == "__main__":
    unittest.main()
