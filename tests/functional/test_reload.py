# SPDX-License-Identifier: MIT
"""Plugins that are saved while the node runs: live within seconds, broken ones leave the last good version in
force with their error, jobs finish on the version that they began with, and what others can write is refused."""

import json
import os
import sys
import tempfile
import unittest
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, wait_until  # noqa: E402

TASK = """
local words = require "lib.words"
return { summary = "%s", args = {}, run = function(job)
  job:sleep(%s)
  return words.say "%s"
end }
"""


class Reload(unittest.TestCase):
    def setUp(self):
        found = tempfile.TemporaryDirectory()
        self.addCleanup(found.cleanup)
        self.dir = found.name
        self.inventory = self.path("hosts")
        self.write("hosts", "here ansible_connection=local\n")
        os.makedirs(self.path("modules/tasks/lib"))
        os.makedirs(self.path("modules/handlers/exed"))
        self.write("modules/tasks/lib/words.lua", "return { say = function(text) return text .. '!' end }\n")
        self.task("one")
        self.exed = Exed(conf={"inventory": {"path": self.inventory},
                               "runner": {"modules": self.path("modules")}})
        self.addCleanup(self.exed.stop)
        self.exed.start()

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, rename=False):
        """As an editor does: in place, or beside it and renamed."""
        path = self.path(name + ".new" if rename else name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        if rename:
            os.rename(path, self.path(name))

    def task(self, word, sleep="0", rename=False):
        self.write("modules/tasks/told.lua", TASK % (word, sleep, word), rename)

    def told(self):
        return next(one for one in self.exed.get("/tasks").body if one["name"] == "told")

    def wait_for(self, **fields):
        wait_until(lambda: all(self.told().get(name) == value for name, value in fields.items()), 20)

    def value(self, jid):
        return self.exed.wait_job(jid).get("error"), self.exed.get("/jobs/" + jid).body["state"]

    def test_a_task_that_is_saved_is_live(self):
        self.wait_for(summary="one")
        for word, rename in (("two", False), ("three", True)):
            self.task(word, rename=rename)
            self.wait_for(summary=word, error=None)

    def test_one_that_does_not_load_leaves_the_last_good_version_in_force(self):
        self.write("modules/tasks/told.lua", "return {\n  summary = 1 +\n}\n")
        wait_until(lambda: self.told().get("error"), 20)
        told = self.told()
        self.assertEqual(told["summary"], "one")
        self.assertIn("told.lua:3:", told["error"])
        self.assertEqual(self.value(self.exed.submit("/tasks", {"targets": "here", "taskname": "told"})),
                         ("", 0))
        self.assertEqual(self.exed.get("/healthz").body["status"], "degraded")
        self.task("four")
        self.wait_for(summary="four", error=None)

    def test_one_that_never_ends_at_load_keeps_no_other_waiting(self):
        for word in ("one ahead", "two ahead", "three ahead"):  # a slow machine may miss it once
            self.write("modules/tasks/endless.lua", "while true do end -- %s\n" % word)
            self.task(word)
            self.wait_for(summary=word)
            endless = [one for one in self.exed.get("/tasks").body if one["name"] == "endless"]
            if endless and endless[0].get("loading"):
                break
        else:
            self.fail("a file that never ends at load was waited for")

    def test_a_module_of_lib_makes_its_tasks_new(self):
        self.write("modules/tasks/lib/words.lua", "return 1 +\n")
        wait_until(lambda: "words.lua:" in (self.told().get("error") or ""), 20)

    def test_a_job_that_runs_ends_on_its_version(self):
        self.task("old", sleep="4")
        self.wait_for(summary="old")
        jid = self.exed.submit("/tasks", {"targets": "here", "taskname": "told"})
        self.write("modules/tasks/told.lua", "return { summary = 'new', args = {}, "
                   "run = function(job) job:abort 'the new one' end }\n")
        self.wait_for(summary="new")
        self.assertEqual(self.exed.job(jid)["state"], 1)
        self.assertEqual(self.value(jid), ("", 0))

    def test_a_file_that_others_can_write_is_refused_with_the_reason(self):
        os.chmod(self.path("modules/tasks/told.lua"), 0o666)
        wait_until(lambda: "chmod go-w" in (self.told().get("error") or ""), 20)
        os.chmod(self.path("modules/tasks/told.lua"), 0o644)
        self.wait_for(error=None)
        os.chmod(self.path("modules/tasks"), 0o777)
        self.task("five")
        wait_until(lambda: "chmod go-w" in (self.told().get("error") or ""), 20)

    def test_a_task_that_is_taken_away_is_gone(self):
        os.unlink(self.path("modules/tasks/told.lua"))
        wait_until(lambda: not [one for one in self.exed.get("/tasks").body if one["name"] == "told"], 20)
        answer = self.exed.post("/tasks", {"targets": "here", "taskname": "told"})
        self.assertEqual(answer.status, 404)

    def test_handlers_come_and_go_too(self):
        self.assertEqual(self.exed.get("/mine").status, 404)
        self.write("modules/handlers/exed/mine.lua", "return { type = 'handler', path = '/mine', methods = {"
                   " GET = { summary = 'mine', run = function(req) return 200, { word = 'hello' } end } } }\n")
        wait_until(lambda: self.exed.get("/mine").status == 200, 20)
        self.write("modules/handlers/exed/mine.lua", "return {")
        wait_until(lambda: "mine.lua" in str(self.exed.get("/healthz").body.get("degraded")), 20)
        self.assertEqual(self.exed.get("/mine").body, {"word": "hello"})
        self.write("modules/handlers/exed/mine.lua", "return { type = 'handler', path = '/mine/:jid', methods = {"
                   " GET = { summary = 'follow', run = function(req) return req:stream(req.params.jid) end } } }\n")
        wait_until(lambda: self.exed.get("/mine").status == 404, 20)
        jid = self.exed.submit("/tasks", {"targets": "here", "taskname": "told"})
        self.exed.wait_job(jid, 60)
        followed = []
        for path in ("/mine/" + jid, "/jobs/%s?follow=1" % jid):
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.exed.port, path), timeout=60) as answer:
                followed.append(answer.read())
        self.assertEqual(followed[0], followed[1])
        self.assertEqual(json.loads(followed[0].split(b"\n")[0])["taskid"], jid)
        self.assertEqual(self.exed.get("/mine/none").status, 404)
        os.unlink(self.path("modules/handlers/exed/mine.lua"))
        wait_until(lambda: self.exed.get("/mine").status == 404, 20)


if __name__ == "__main__":
    unittest.main()
