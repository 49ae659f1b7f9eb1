# SPDX-License-Identifier: MIT
"""Tasks on two nodes that share a store: another node takes over, the store is away for a while, and a source
that was changed behind its job's back stops it."""

import json
import os
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Redis, wait_until  # noqa: E402
from exedtest.tasks import FAILED, FAILURE, SKIPPED, Hosts, add_tasks, task_processes  # noqa: E402


class Nodes(Hosts):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.redis = Redis()
        cls.addClassCleanup(cls.redis.stop)
        cls.redis.start()
        cls.nodes = []
        for _ in range(2):
            node = Exed(cls.sshd, {"runner": {"redis_url": cls.redis.url}, "store": {"node_timeout": "2s"}})
            add_tasks(node)
            cls.addClassCleanup(node.stop)
            cls.nodes.append(node.start(limit=30))

    def setUp(self):
        for node in self.nodes:
            if not node.child:
                node.start(limit=30)

    def begin(self, mark, work):
        """A job of which two hosts are being worked on; returns its jid, its node and the other one."""
        jid = self.nodes[0].submit("/tasks", {"targets": "all", "taskname": "roll", "taskopts": {
            "mark": mark, "work": work, "size": 2}})
        self.wait_work(mark, 2)
        # A file that is being checked has such a process too, but not for long.
        owner = wait_until(lambda: self.with_process()[1:] == [] and self.with_process(), 20)[0]
        return jid, owner, next(node for node in self.nodes if node is not owner)

    def with_process(self):
        return [node for node in self.nodes if task_processes(node)]

    def test_another_node_takes_a_task_over(self):
        gate = self.gate("taken")
        jid, owner, other = self.begin("taken", gate.work)
        owner.kill9()
        gate.open()
        self.check_whole("taken", other.wait_job(jid, 40))

    def test_the_store_is_away_in_the_middle(self):
        gate = self.gate("away")
        jid, owner, _ = self.begin("away", gate.work)
        self.redis.pause()
        gate.open()
        time.sleep(6)  # longer than a beat, an answer limit and a command
        self.redis.resume()
        self.check_whole("away", owner.wait_job(jid, 60))

    def test_a_source_that_asks_something_else_stops_and_names_the_hosts(self):
        gate = self.gate("conflict")
        jid, owner, other = self.begin("conflict", gate.work)
        other.kill9()
        owner.kill9()
        sha = json.loads(self.redis.ask("HGET", "exed:job:" + jid, "pins"))["sources"]
        text = self.redis.ask("GET", "exed:src:" + sha)
        self.redis.ask("SET", "exed:src:" + sha, text.replace(b"echo work", b"echo other"))
        self.addCleanup(self.redis.ask, "SET", "exed:src:" + sha, text)  # other jobs have the same source
        gate.open()
        owner.start(limit=30)
        other.start(limit=30)
        job = owner.wait_job(jid, 40)
        self.assertEqual(job["state"], FAILURE)
        self.assertRegex(job["error"], r"version conflict at effect \d+ \(/1/web0[12]#2\): the journal has "
                         r"execute echo work .*, the code asks execute echo other .*; "
                         r"between start and end: web01, web02$")
        self.assertEqual([len(lines) for lines in self.lines("conflict").values()], [2, 2, 0, 0])
        self.assertEqual([job["return_data"][name][-1]["status"] for name in self.names],
                         [FAILED, FAILED, SKIPPED, SKIPPED])


if __name__ == "__main__":
    unittest.main()
