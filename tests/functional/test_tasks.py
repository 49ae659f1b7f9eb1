# SPDX-License-Identifier: MIT
"""Tasks through the API, on real sshd hosts whose commands write down what they did: requests, steps and
outcomes, putting back, cancel, approval, pause."""

import os
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import wait_until  # noqa: E402
from exedtest.tasks import (  # noqa: E402
    ANNOUNCE, CHANGED, DONE, FAILED, FAILURE, HOSTS, NEVER_LOADS, OK, RUNNING, SKIPPED, WHOLE, OneNode)



class Tasks(OneNode):
    more_tasks = NEVER_LOADS

    # ---- running ----

    def test_steps_outcomes_and_value(self):
        mark = self.mark()
        job = self.exed.wait_job(self.submit("roll", mark=mark, work="echo out", size=2))
        self.check_whole(mark, job)
        self.assertEqual(job["value"], {"hosts": HOSTS})
        for host, names in self.steps(job).items():
            self.assertEqual(names, [("drain", CHANGED), ("work", CHANGED), ("restore", CHANGED),
                                     ("roll", CHANGED)], host)
            work = job["return_data"][host][1]
            self.assertEqual((work["return_data"], work["stdout"], work["rtc"]), ("out\n", "out\n", 0))
        self.assertEqual(job["operate"], "task")
        self.assertEqual(job["operate_args"], {"taskname": "roll", "tasktype": "task", "taskopts": {
            "mark": mark, "work": "echo out", "size": 2}})

    def test_an_announcement_is_told_of_every_target_and_the_last_outcome_counts(self):
        jid = self.submit("says")
        job = self.exed.wait_job(jid)
        first, *others = self.names
        self.assertEqual([(r["name"], r["status"], r["return_data"]) for r in job["return_data"][first]], [
            ("says", ANNOUNCE, "hello to %d" % HOSTS), ("says", ANNOUNCE, "to one"),
            ("execute", CHANGED, "out\n"), ("says", OK, "is fine")])
        for host in others:
            self.assertEqual(self.steps(job)[host], [("says", ANNOUNCE), ("says", SKIPPED)])
        chunks = list(self.exed.follow(jid))[1:]
        self.assertEqual(set(chunks[0]), set(self.names))
        self.assertEqual([list(chunk) for chunk in chunks[1:4]], [[first]] * 3)
        raw = self.exed.raw(("GET /jobs/%s?outputs=1 HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" % jid).encode(), 5)
        self.assertEqual(raw.count(b'"%s":[' % first.encode()), 1, "one key for a host")

    def test_a_failed_host_is_put_back_and_stops_the_others(self):
        mark = self.mark()
        jid = self.submit("roll", mark=mark, bad=self.names[1])
        job = self.exed.wait_job(jid)
        self.assertEqual(job["state"], FAILURE)
        self.assertIn("max_failed", job["error"])
        self.check_lines(mark, WHOLE, WHOLE)
        self.assertEqual([self.steps(job)[name][-1] for name in self.names],
                         [("roll", CHANGED), ("roll", FAILED), ("roll", SKIPPED), ("roll", SKIPPED)])

    def test_a_target_that_is_not_in_the_inventory(self):
        job = self.exed.wait_job(self.submit("roll", ["web01", "nosuch"], mark=self.mark()))
        self.assertEqual(job["state"], FAILURE)
        self.assertIn("1 of 2 targets are not in the inventory", job["error"])
        self.assertEqual([r["status"] for r in job["return_data"]["nosuch"]], [-1])

    # ---- requests ----

    def loaded(self, path):
        """{name: task}, when none is being loaded any more."""
        tasks = self.exed.get(path).body
        return not any(task.get("loading") for task in tasks) and {task["name"]: task for task in tasks}

    def test_list(self):
        for path in ("/tasks", "/task"):
            tasks = wait_until(lambda path=path: self.loaded(path), 20)
            self.assertEqual((tasks["needs"]["type"], tasks["needs"]["summary"]), ("task", "has arguments"))
            self.assertEqual([arg["name"] for arg in tasks["needs"]["args"]], ["n", "word"])
            self.assertIn("rolling_restart", tasks)
            # The thread sanitizer holds the signal back by which a process is asked where it stands.
            place = "" if os.environ.get("EXED_SANITIZER") == "tsan" else ":1"
            self.assertIn("loads_for_ever.lua" + place, tasks["loads_for_ever"]["error"])

    def test_what_is_wrong_with_a_request(self):
        one = {"targets": "web01", "taskname": "needs", "taskopts": {"n": 1}}
        for change, status, text in (
                ({"targets": ""}, 400, "no target(s) given"),
                ({"targets": "nosuch"}, 404, "no hosts match that target"),
                ({"taskname": None}, 400, "bad task params"),
                ({"taskname": 7}, 400, "bad task params"),
                ({"taskopts": [1]}, 400, "extra opts for task handler should be an json object"),
                ({"taskopts": "x"}, 400, "extra opts for task handler should be an json object"),
                ({"taskname": "neds"}, 404, "needs"),
                ({"tasktype": "script"}, 404, "of type script"),
                ({"taskopts": {}}, 400, "n"),
                ({"taskopts": {"n": 0}}, 400, "n"),
                ({"taskopts": {"n": 1, "wrd": "x"}}, 400, "word"),
                ({"taskname": "loads_for_ever"}, 400, "does not load"),
                ({"targets": "all"}, 400, "max_hosts of task needs, 3"),
                ({"lock": "none"}, 400, "may not be less than shared"),
                ({"max_hosts": 0}, 400, "max_hosts")):
            body = {key: value for key, value in {**one, **change}.items() if value is not None}
            answer = self.exed.post("/tasks", body)
            self.assertEqual(answer.status, status, (change, answer.body))
            self.assertIn(text, answer.body["message"], change)

    def test_state_by_jid_and_idempotency(self):
        body = {"targets": "web01", "taskname": "needs", "tasktype": "task", "taskopts": {"n": 3}}
        key = {"Idempotency-Key": "k%d" % time.monotonic_ns()}
        first = self.exed.post("/tasks", body, headers=key)
        again = self.exed.post("/tasks", body, headers=key)
        self.assertEqual((first.status, again.status), (201, 201))
        self.assertEqual((again.body, again.headers["idempotent-replay"]), (first.body, "true"))
        other = self.exed.post("/tasks", {**body, "taskopts": {"n": 4}}, headers=key)
        self.assertEqual(other.status, 422)
        job = self.exed.wait_job(first.body["jid"])
        self.assertEqual(job["value"]["n"], 3)
        answer = self.exed.post("/task", {"jid": first.body["jid"]})
        self.assertEqual((answer.status, answer.body), (200, {"jid": first.body["jid"], "state": DONE}))
        self.assertEqual(self.exed.post("/tasks", {"jid": "00000000-0000-4000-8000-000000000000"}).status, 404)

    def test_leases(self):
        gate = self.gate(self.mark())
        jid = self.submit("roll", "web01", mark=self.mark(), work=gate.work)
        answer = self.post("roll", ["web01", "web02"], mark=self.mark())
        self.assertEqual((answer.status, answer.body["holders"]), (409, {"web01": [jid]}))
        gate.open()
        self.assertEqual(self.exed.wait_job(jid)["state"], DONE)
        wait_until(lambda: self.exed.get("/leases").body == [], 5)

    # ---- people ----

    def test_cancel_puts_back(self):
        mark = self.mark()
        jid = self.submit("roll", mark=mark, work="sleep 60", size=2)
        self.wait_work(mark, 2)
        running = self.exed.get("/jobs/%s?detail=1" % jid).body["running"]
        self.assertEqual({one["host"] for one in running}, {"web01", "web02"})
        self.assertEqual(self.exed.post("/jobs/%s/cancel" % jid).status, 200)
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["error"]), (FAILURE, "cancelled"))
        self.check_lines(mark, WHOLE, WHOLE)
        self.assertTrue(job["return_data"]["web01"][1]["cancelled"])

    def test_approval(self):
        mark = self.mark()
        jid = self.submit("asks", mark=mark)
        job = self.wait_phase(jid, "waiting")
        self.assertEqual((job["waiting"]["message"], job["waiting"]["by"]), ("go on?", None))
        self.assertEqual(self.exed.post("/jobs/%s/approve" % jid, {}).status, 400)
        answer = self.exed.post("/jobs/%s/approve" % jid, {"approve": True, "note": "sure"})
        self.assertEqual((answer.status, answer.body), (200, {"jid": jid, "state": RUNNING}))
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["value"]["note"], job["value"]["who"]), (DONE, "sure", "127.0.0.1"))
        self.assertEqual(self.lines(mark)["web01"], ["sure"])
        self.assertEqual(self.exed.post("/jobs/%s/approve" % jid, {"approve": True}).status, 409)
        denied = self.submit("asks", mark=mark)
        self.wait_phase(denied, "waiting")
        self.exed.post("/jobs/%s/approve" % denied, {"approve": False, "note": "no"})
        job = self.exed.wait_job(denied)
        self.assertEqual(job["state"], FAILURE)
        self.assertIn("said no: no", job["error"])

    def test_verbs_of_jobs_that_are_not_there(self):
        for verb, body in (("pause", None), ("resume", None), ("approve", {"approve": True}), ("cancel", None)):
            answer = self.exed.post("/jobs/00000000-0000-4000-8000-000000000000/" + verb, body)
            self.assertEqual(answer.status, 404, verb)
        jid = self.exed.execute("web01", "true")
        self.exed.wait_job(jid)
        for verb, body in (("pause", None), ("resume", None), ("approve", {"approve": True})):
            self.assertEqual(self.exed.post("/jobs/%s/%s" % (jid, verb), body).status, 409, verb)

    def test_pause_and_resume_of_a_task(self):
        mark = self.mark()
        gate = self.gate(mark)
        jid = self.submit("roll", mark=mark, work=gate.work)
        self.wait_work(mark, 1)
        self.assertEqual(self.exed.post("/jobs/%s/pause" % jid).status, 200)
        job = self.wait_phase(jid, "paused")
        self.assertTrue(job["paused"])
        time.sleep(0.5)  # in which the node hears of it
        gate.open()
        wait_until(lambda: "restore" in self.lines(mark)["web01"], 10, "what was drained is put back")
        before = self.lines(mark)
        self.assertNotIn("restore", before["web03"])
        time.sleep(1)  # in which the next step would have been taken
        self.assertEqual(self.lines(mark), before)
        self.assertEqual(self.exed.post("/jobs/%s/resume" % jid).status, 200)
        self.check_whole(mark, self.exed.wait_job(jid))


if __name__ == "__main__":
    unittest.main()
