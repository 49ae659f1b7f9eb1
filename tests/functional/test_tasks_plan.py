# SPDX-License-Identifier: MIT
"""rolling_restart on 40 real hosts in racks, strict, with one host that does not come back: by the hosts' own
logs exactly the hosts of the plan up to that one are touched, in its order, and each is put back."""

import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd  # noqa: E402
from exedtest.tasks import CHANGED, FAILED, FAILURE, SKIPPED  # noqa: E402

RACKS = 5
BAD = 12  # its place in the plan, from 0
STAMP = "date +%%s%%N >>$EXED_TEST_DIR/%s"
SYSTEMCTL = """#!/bin/sh
d=${0%/*}/..
case $1 in
restart) date +%s%N >>"$d/restarted"; ! test -e "$d/bad" ;;
is-active) echo active ;;
show) ;;
esac
"""


class Plan(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(40)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        for host in cls.sshd.hosts:
            os.makedirs(os.path.join(host.dir, "bin"), exist_ok=True)
            path = os.path.join(host.dir, "bin", "systemctl")
            with open(path, "w", encoding="utf-8") as f:
                f.write(SYSTEMCTL)
            os.chmod(path, 0o755)
        racks = "".join("%s rack=r%d\n" % (host.name, i * RACKS // 40) for i, host in enumerate(cls.sshd.hosts))
        with open(cls.sshd.inventory, "a", encoding="utf-8") as f:
            f.write("\n[racked]\n" + racks)
        cls.exed = Exed(cls.sshd)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start()

    def request(self, **more):
        return dict({"targets": "all", "taskname": "rolling_restart", "taskopts": {
            "service": "svc", "size": 8, "strict": True, "max_failed": 0, "canary": 2, "settle": 0,
            "health": "true", "drain": STAMP % "drained", "restore": STAMP % "restored"}}, **more)

    def stamps(self, what):
        """[host name], in the order in which the hosts noted it; each has noted it once."""
        found = []
        for host in self.sshd.hosts:
            lines = host.read(what).split()
            self.assertLessEqual(len(lines), 1, host.name)
            found += [(int(line), host.name) for line in lines]
        return [name for _, name in sorted(found)]

    def test_exactly_the_planned_hosts_are_touched_in_the_order_of_the_plan(self):
        answer = self.exed.post("/tasks", self.request(dry_run=True))
        self.assertEqual(answer.status, 200, answer.body)
        plan = [step["host"] for step in answer.body["plan"]["steps"] if step.get("step") == "drain"]
        self.assertEqual(sorted(plan), [host.name for host in self.sshd.hosts])
        self.assertNotEqual(plan, sorted(plan), "neighbours are of different racks")
        self.assertEqual(self.stamps("drained"), [])

        bad = self.sshd.host[plan[BAD]]
        with open(os.path.join(bad.dir, "bad"), "w", encoding="utf-8"):
            pass
        job = self.exed.wait_job(self.exed.submit("/tasks", self.request()), 60)
        self.assertEqual(job["state"], FAILURE)
        self.assertIn("max_failed", job["error"])
        touched = plan[:BAD + 1]
        for what in ("drained", "restarted", "restored"):
            self.assertEqual(self.stamps(what), touched, what)
        outcomes = {host: records[-1]["status"] for host, records in job["return_data"].items()}
        self.assertEqual([outcomes[name] for name in plan],
                         BAD * [CHANGED] + [FAILED] + (39 - BAD) * [SKIPPED])


if __name__ == "__main__":
    unittest.main()
