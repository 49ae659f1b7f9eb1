# SPDX-License-Identifier: MIT
"""A paused task goes on with the source that was saved since, when it fits what the task has done; one that does
not is refused, and the job stays as it was."""

import os
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import wait_until  # noqa: E402
from exedtest.exedrun import LIMIT, PROGRAM, environment  # noqa: E402
from exedtest.tasks import DONE, RUNNING, OneNode, task_processes  # noqa: E402

TASK = """
local each = require "exed.each"
return {
  summary = "%(word)s", args = {
    mark = { "string", required = true }, gate = { "string", required = true }, %(more)s
  },
  run = function(job)
    local file = "$EXED_TEST_DIR/" .. job.args.mark
    each.window(job.hosts, { size = 2 }, function(host)
      job:defer(function() host:execute("echo restore >>" .. file) end)
      host:execute("echo %(first)s >>" .. file)
      host:execute(job.args.gate)
      host:execute("echo %(word)s >>" .. file)
    end)
    return "%(word)s"
  end,
}"""


class Current(OneNode):
    conf = {"tasks": {"answer_limit": "2s"}}
    more_tasks = {"told": "return { summary = 'nothing', args = {}, run = function() end }"}

    def save(self, word, first="first", more=""):
        self.save_text(TASK % {"word": word, "first": first, "more": more})
        wait_until(lambda: self.told().get("summary") == word, 20)

    def save_text(self, text):
        with open(self.exed.path("modules", "tasks", "told.lua"), "w", encoding="utf-8") as f:
            f.write(text)

    def told(self):
        return next(task for task in self.exed.get("/tasks").body if task["name"] == "told")

    def begin(self, mark):
        """A job with the source "old" that waits at the gate on two hosts, paused."""
        self.save("old")
        gate = self.gate(mark)
        jid = self.submit("told", mark=mark, gate=gate.work)
        wait_until(lambda: list(self.lines(mark).values()).count(["first"]) == 2, 20)
        wait_until(lambda: len(self.exed.get("/jobs/%s?detail=1" % jid).body["running"]) == 2, 20)
        self.assertEqual(self.exed.post("/jobs/%s/pause" % jid).status, 200)
        return jid, gate

    def resume(self, jid):
        return self.exed.post("/jobs/%s/resume" % jid, {"source": "current"})

    def check_end(self, jid, mark, word):
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["error"], job["value"]), (DONE, "", word))
        self.assertEqual(self.lines(mark), {name: ["first", word, "restore"] for name in self.names})
        wait_until(lambda: not task_processes(self.exed), 10, "no process of a run is left")

    def test_it_goes_on_with_what_was_saved_and_repeats_nothing(self):
        mark = self.mark()
        jid, gate = self.begin(mark)
        self.save("new", more="size = { 'integer', default = 3 },")
        answer = self.resume(jid)
        self.assertEqual((answer.status, answer.body), (200, {"jid": jid, "state": RUNNING}))
        gate.open()
        self.check_end(jid, mark, "new")

    def test_it_does_so_after_a_death_too(self):
        mark = self.mark()
        jid, gate = self.begin(mark)
        self.save("new")
        self.exed.kill9()
        self.exed.start()
        self.assertEqual(self.exed.job(jid)["phase"], "paused")
        self.assertEqual(self.resume(jid).status, 200)
        gate.open()
        self.check_end(jid, mark, "new")

    def test_a_source_that_does_not_fit_is_refused_and_the_job_stays_paused(self):
        mark = self.mark()
        jid, gate = self.begin(mark)
        self.save("new", first="other")
        answer = self.resume(jid)
        self.assertEqual(answer.status, 409)
        self.assertRegex(answer.body["message"], r"the current source of task told does not fit: version conflict at "
                         r"effect 1 \(/1/web01#1\): the journal has execute echo first .*, the code asks execute "
                         r"echo other ")
        for text, status, message in (
                (TASK.replace('required = true }, gate', 'required = true, secret = true }, gate')
                 % {"word": "more", "first": "first", "more": ""}, 409, "the argument mark is secret now, and was not"),
                ("return {", 400, r"task told does not load: .*told.lua:1"),
                (TASK % {"word": "more", "first": "first", "more": "must = { 'string', required = true },"},
                 409, "does not fit: 'must' is missing"),
                ("return { summary = 'x', args = {}, run = function() end }", 409, "the code asks outcome"),
                ("return { summary = 'x', args = {}, run = function() while true do end end }", 409,
                 r"took more than 2 s between two answers \(at .*told.lua:1\)")):
            self.save_text(text)
            answer = self.resume(jid)
            self.assertEqual(answer.status, status, text)
            self.assertRegex(answer.body["message"], message)
        self.assertEqual(self.exed.job(jid)["phase"], "paused")
        self.assertEqual(self.exed.post("/jobs/%s/resume" % jid).status, 200)
        gate.open()
        self.check_end(jid, mark, "old")

    def test_exed_run_says_so_too(self):
        mark = self.mark()
        jid, gate = self.begin(mark)
        self.save("new", first="other")
        self.assertIn("does not fit: version conflict at effect 1", self.exed_run(1, "resume", "--current", jid))
        self.save("new")
        self.assertIn("goes on", self.exed_run(0, "resume", "--current", jid))
        gate.open()
        self.check_end(jid, mark, "new")

    def exed_run(self, code, *args):
        done = subprocess.run([PROGRAM, "-c", self.exed.path("exed.conf"), *args], env=environment(), text=True,
                              capture_output=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout + done.stderr

    def test_what_cannot_go_on_so(self):
        mark = self.mark()
        jid, gate = self.begin(mark)
        self.exed.post("/jobs/%s/resume" % jid)
        answer = self.resume(jid)
        self.assertEqual((answer.status, "is not paused" in answer.body["message"]), (409, True))
        gate.open()
        self.check_end(jid, mark, "old")
        self.assertEqual(self.resume(jid).status, 409)
        self.assertEqual(self.resume("0" * 8).status, 404)
        plain = self.exed.execute("web01", "true")
        answer = self.resume(plain)
        self.assertEqual((answer.status, "is for jobs of tasks" in answer.body["message"]), (400, True))
        self.exed.wait_job(plain)
        self.assertEqual(self.exed.post("/jobs/%s/resume" % jid, {"source": "newest"}).status, 400)


if __name__ == "__main__":
    unittest.main()
