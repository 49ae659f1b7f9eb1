# SPDX-License-Identifier: MIT
"""A node dies in the middle of a fenced job on real hosts. What its hosts' own files say must agree with
the records: each ran exactly once, whoever went on with the job, and a job that was stopped meanwhile
starts nothing more."""

import os
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Redis, Sshd, wait_until  # noqa: E402

COMMAND = ("echo x >> $EXED_TEST_DIR/ran; case $EXED_TEST_HOST in *1) ;; *) sleep %d;; esac; "
           "echo done; echo x >> $EXED_TEST_DIR/ended")


class Settle(unittest.TestCase):
    def setUp(self):
        self.sshd = self.enter(Sshd(20))
        self.redis = self.enter(Redis(appendonly="yes", appendfsync="always"))

    def enter(self, fixture):
        fixture.__enter__()
        self.addCleanup(fixture.__exit__, None, None, None)
        return fixture

    def node(self, role="both", **runner):
        conf = {"runner": dict(runner, redis_url="redis://127.0.0.1:%d" % self.redis.port, role=role),
                "store": {"node_timeout": "2s"}}
        return self.enter(Exed(self.sshd, conf=conf))

    def count(self, name):
        return [len(host.read(name).split()) for host in self.sshd.hosts]

    def start(self, api, seconds):
        jid = api.execute("all", COMMAND % seconds, window=10, fence=True)
        wait_until(lambda: sum(self.count("ran")) >= 12, 20)
        return jid

    def test_another_node_joins_what_runs_and_every_host_runs_once(self):
        other, owner = self.node("api"), self.node("worker")
        jid = self.start(other, 4)
        owner.kill9()
        self.node("worker")
        job = other.wait_job(jid, 60)
        self.assertEqual(job["state"], 0, job["error"])
        self.assertEqual({h: r[0]["status"] for h, r in job["return_data"].items()},
                         {h.name: 5 for h in self.sshd.hosts})
        self.assertTrue(all(len(r) == 1 and r[0]["stdout"] == "done\n"
                            for r in job["return_data"].values()))
        self.assertEqual(self.count("ran"), [1] * 20)
        self.assertEqual(self.count("ended"), [1] * 20)
        self.assertEqual(other.get("/leases").body, [])

    def test_a_node_that_is_stopped_leaves_fenced_commands_to_the_next(self):
        api, worker = self.node("api"), self.node("worker", drain_timeout="1s")
        jid = self.start(api, 6)
        self.assertEqual(worker.term(), 0)
        self.assertLess(sum(self.count("ended")), 20)
        self.node("worker")
        job = api.wait_job(jid, 60)
        self.assertEqual((job["state"], job["error"]), (0, ""))
        self.assertEqual(self.count("ran"), [1] * 20)
        self.assertEqual(self.count("ended"), [1] * 20)

    def test_a_job_stopped_after_its_node_died_starts_nothing_more(self):
        api, worker = self.node("api"), self.node("worker")
        jid = self.start(api, 30)
        time.sleep(0.5)  # the quick hosts end; nothing depends on how many do
        worker.kill9()
        self.assertEqual(api.post("/jobs/%s/cancel" % jid).status, 200)
        self.assertEqual(api.get("/jobs/" + jid).body["state"], 1)
        self.node("worker")
        job = api.wait_job(jid, 60)
        self.assertEqual((job["state"], job["error"]), (2, "cancelled"))
        ran, ended = self.count("ran"), self.count("ended")
        for i, host in enumerate(self.sshd.hosts):
            [record] = job["return_data"][host.name]
            with self.subTest(host.name, record=record):
                if record["status"] == 5:
                    self.assertEqual((ran[i], ended[i]), (1, 1))
                elif record["status"] == 2:
                    self.assertEqual((ran[i], ended[i]), (0, 0))
                else:
                    self.assertEqual((record["status"], record["cancelled"]), (3, True))
                    self.assertEqual((record["survivors"], ran[i], ended[i]), (0, 1, 0))
        self.assertEqual(api.get("/leases").body, [])


if __name__ == "__main__":
    unittest.main()
