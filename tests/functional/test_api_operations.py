# SPDX-License-Identifier: MIT
"""What clients of EXEd ask of operations, tasks and jobs: each case of compat/exed_operations.json, on real sshd
hosts with stand-ins for a service manager."""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support"), HERE]

import compat  # noqa: E402
from exedtest import Exed, Sshd, free_port, wait_until  # noqa: E402
from test_service import SYSTEMCTL, program  # noqa: E402

FILES = {
    "modules/tasks/says.lua": """
return {
  summary = "says a word", lock = "shared", args = { word = { "string", default = "nothing" } },
  run = function(job)
    job:say("%s", job.args.word)
    job.hosts[1]:record("OK", "said")
  end,
}""",
    "roles/nginx/deploy.sh": "#!/bin/sh\necho \"$* $server_name\"\n",
}
JOBS = {
    "TASK": ("/tasks", {"targets": "web01,web02", "taskname": "says", "taskopts": {"word": "hello"}}),
    "SERVICE": ("/service", {"targets": "web01", "name": "cron", "state": 2}),
    "STARTED": ("/service", {"targets": "web01", "name": "cron", "state": 0}),
    "STOPPED": ("/service", {"targets": "web01", "name": "cron", "state": 1}),
    "DEPLOY": ("/deploy", {"targets": "web01", "role": "nginx", "partial": ["reconfig"],
                           "extra_vars": {"server_name": "x"}}),
    "EXECUTE": ("/execute", {"targets": "web01", "cmd": "true"}),
    "NOMATCH": ("/ping", {"targets": ["web01", "nosuch"]}),
}


def is_tasks(got):
    return {"says", "code_release"} <= {one["name"] for one in got} and all(one["type"] == "task" for one in got)


class Operations(unittest.TestCase):
    checks = {
        "<int>": lambda got: type(got) is int,
        "<facts>": lambda got: isinstance(got, dict) and got["kernel"] == "Linux",
        "<tasks>": is_tasks,
        "<objects>": lambda got: isinstance(got, list) and all(isinstance(one, dict) for one in got),
    }

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(2)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        for host in cls.sshd.hosts:
            program(host.dir, "systemctl", SYSTEMCTL)
        cls.exed = Exed(cls.sshd, {"ssh": {"connect_timeout": "5s"}})
        for name, text in FILES.items():
            path = cls.exed.path(name)
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        cls.exed.conf["ssh"]["roles"] = cls.exed.path("roles")
        cls.exed.conf["runner"] = {"modules": cls.exed.path("modules")}
        text = cls.sshd.inventory_text() + "\n[shut]\nshut01 ansible_host=127.0.1.1 ansible_port=%d\n" % (
            free_port("127.0.1.1"))
        cls.exed.conf["inventory"]["path"] = cls.exed.write("hosts.ini", text)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start(limit=30)
        cls.jids = {}
        for name, (path, body) in JOBS.items():
            cls.jids[name] = cls.exed.submit(path, body)
            cls.exed.wait_job(cls.jids[name])
            cls.wait_leases()

    @classmethod
    def wait_leases(cls):
        """A host that a case before has still got is no reason to answer this one 409."""
        wait_until(lambda: cls.exed.get("/leases").body == [], 20, "all leases are given back")

    def setUp(self):
        self.wait_leases()

    def port(self):
        return self.exed.port

    def name(self, name):
        return self.jids[name]


compat.add_tests(Operations, "exed_operations")


if __name__ == "__main__":
    unittest.main()
