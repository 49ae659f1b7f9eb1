# SPDX-License-Identifier: MIT
"""Tasks whose node is killed or drained: they go on after its start, each host exactly once by its own file,
and what they had taken away is put back."""

import os
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import wait_until  # noqa: E402
from exedtest.tasks import DONE, FAILURE, HOSTS, WHOLE, OneNode, task_processes  # noqa: E402



class Lost(OneNode):
    def test_kill_and_restart_at_several_moments(self):
        for moment in (0.05, 0.3, 0.6, 1.0, 1.5):
            mark = self.mark()
            jid = self.submit("roll", mark=mark, work="sleep 0.4", size=2)
            time.sleep(moment)
            self.exed.kill9()
            self.exed.start()
            job = self.exed.wait_job(jid)
            self.check_whole(mark, job, moment)

    def test_a_drain_hands_the_task_on(self):
        mark = self.mark()
        jid = self.submit("roll", mark=mark, work="sleep 1", size=2)
        wait_until(lambda: any(self.lines(mark).values()), 20)
        self.exed.term()
        self.exed.start()
        self.check_whole(mark, self.exed.wait_job(jid))

    def test_cancel_while_the_node_is_dead_and_during_replay(self):
        mark = self.mark()
        jid = self.submit("roll", mark=mark, work="sleep 20", size=2)
        self.wait_work(mark, 2)
        self.exed.kill9()
        self.exed.start()
        self.exed.post("/jobs/%s/cancel" % jid)
        job = self.exed.wait_job(jid)
        self.assertEqual(job["state"], FAILURE)
        self.check_lines(mark, WHOLE, WHOLE)

    def test_a_question_waits_over_a_death(self):
        mark = self.mark()
        jid = self.submit("asks", mark=mark)
        self.wait_phase(jid, "waiting")
        self.exed.kill9()
        self.exed.start()
        self.wait_phase(jid, "waiting")
        self.exed.post("/jobs/%s/approve" % jid, {"approve": True, "note": "later"})
        self.assertEqual(self.exed.wait_job(jid)["state"], DONE)
        self.assertEqual(self.lines(mark), {name: ["later"] for name in self.names})

    def test_a_question_and_a_long_sleep_hold_no_process(self):
        mark = self.mark()
        question, sleep = self.submit("asks", "web01", mark=mark), self.submit(
            "sleeps", "web02", mark=mark, time=600)
        self.wait_phase(question, "waiting")
        wait_until(lambda: not task_processes(self.exed), 20, "no process is held")
        self.exed.post("/jobs/%s/approve" % question, {"approve": True, "note": "late"})
        self.assertEqual(self.exed.wait_job(question)["state"], DONE)
        self.assertEqual(self.lines(mark)["web01"], ["late"])
        self.assertEqual(self.lines(mark)["web02"], ["before"])
        self.exed.post("/jobs/%s/cancel" % sleep)
        self.assertEqual(self.exed.wait_job(sleep)["error"], "cancelled")
        self.assertEqual(self.lines(mark)["web02"], ["before"])

    def test_pause_of_an_operation_lasts_over_a_death(self):
        mark = self.mark()
        jid = self.exed.execute("all", "echo x >>$EXED_TEST_DIR/%s; sleep 1" % mark, window=1)
        wait_until(lambda: any(self.lines(mark).values()), 20)
        self.assertEqual(self.exed.post("/jobs/%s/pause" % jid).status, 200)
        wait_until(lambda: not self.exed.get("/jobs/%s?detail=1" % jid).body["running"], 10)
        ran = sum(map(len, self.lines(mark).values()))
        self.assertLess(ran, HOSTS)
        self.exed.kill9()
        self.exed.start()
        self.assertEqual(self.exed.job(jid)["phase"], "paused")
        time.sleep(1.5)  # in which it would have gone on
        self.assertEqual(sum(map(len, self.lines(mark).values())), ran)
        self.exed.post("/jobs/%s/resume" % jid)
        self.assertEqual(self.exed.wait_job(jid)["state"], DONE)
        self.assertEqual(self.lines(mark), {name: ["x"] for name in self.names})


if __name__ == "__main__":
    unittest.main()
