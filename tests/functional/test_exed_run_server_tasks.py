# SPDX-License-Identifier: MIT
"""exed-run NAME by an exed that answers, and what it knows of the job afterwards."""

import json
import os
import re
import signal
import socket
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import Exed, wait_until  # noqa: E402
from exedtest.exedrun import LIMIT, ROLL, OnHosts  # noqa: E402


class Server(OnHosts):
    """With an exed that answers at its socket."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modules = tempfile.TemporaryDirectory(prefix="exedtest-")
        cls.put("roll", ROLL)
        cls.exed = Exed(cls.hosts, {"ssh": {"agent": "none"}, "runner": {"modules": cls.modules.name}}).start()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.exed.stop()
        finally:
            super().tearDownClass()
            cls.modules.cleanup()

    def setUp(self):
        super().setUp()
        self.conf = self.exed.path("exed.conf")

    @classmethod
    def put(cls, name, text):
        path = os.path.join(cls.modules.name, "tasks", name + ".lua")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def known(self, name, text):
        """A task that the server knows."""
        self.put(name, text)
        wait_until(lambda: any(task["name"] == name and task.get("summary") for task in self.exed.get("/tasks").body),
                   20, "the task is live")

    def jid_of(self, err):
        return re.search(r"job ([0-9a-f-]{36})", err).group(1)

    def test_it_looks_the_same_as_without_one(self):
        out, err = self.run_text("roll", "web[01:03]", "--word", "yes")
        alone = self.run_text("roll", "web[01:03]", "--word", "yes", "--alone")
        self.assertEqual(out, alone[0])
        self.assertEqual(re.sub(r"exed-run: job [0-9a-f-]{36}\n", "", err), alone[1])
        self.assertEqual(self.log("web02"), ["drain", "yes none", "restore"] * 2)
        job = self.exed.job(self.jid_of(err), outputs=False)
        self.assertEqual((job["state"], job["operate_args"]["taskopts"]), (0, {"word": "yes"}))

    def test_a_failure_is_the_exit_code(self):
        out, err = self.run_text("roll", "web", "--bad", "web02", code=1)
        self.assertIn("exed-run: web02: work: failed: exit code 7\n", err)
        self.assertIn("== web02 (1 host): failed: work: exit code 7\n", out)
        self.assertRegex(out, r"== web\[03-04\] \(2 hosts\): skipped: 1 of 4 hosts failed")

    def test_its_tasks_and_their_flags_are_those_of_the_server(self):
        elsewhere = self.settings() + "[runner]\nmodules = %s/none\n" % self.dir
        conf = self.write("elsewhere.conf", elsewhere.replace(self.dir + "/state", self.exed.state))
        self.assertRegex(self.run_text("--list", conf=conf)[0], r"(?m)^roll +rolls$")
        self.assertNotIn("rolls", self.run_text("--list", "--alone", conf=conf)[0])
        self.assertIn("--max-failed COUNT", self.run_text("roll", "--help", conf=conf)[0])
        self.assertIn("did you mean 'size'", self.run_text("roll", "--siez", "1", "web", conf=conf, code=2)[1])
        self.assertIn("no verb and no task 'rol', did you mean 'roll'", self.run_text("rol", "web", conf=conf, code=2)[1])
        self.assertIn("names no host", self.run_text("roll", "--alone", "web09", code=2)[1])

    def test_detach_prints_the_jid(self):
        jid = self.run_text("roll", "-d", "web01")[0].strip()
        self.assertEqual(self.exed.wait_job(jid)["state"], 0)

    def test_json_is_what_the_server_sends(self):
        rows = [json.loads(line) for line in self.run_text("roll", "--json", "web01")[0].splitlines()]
        self.assertEqual(rows[0]["job"]["operate_args"]["taskname"], "roll")
        self.assertEqual(rows[-1]["end"]["state"], 0)

    def test_ctrl_c_cancels_the_job_and_waits_for_its_end(self):
        self.known("long", """return { summary = "x", run = function(job)
          job:defer(function() job.hosts:execute("echo restore >>$EXED_TEST_DIR/log") end)
          job.hosts:execute("echo drain >>$EXED_TEST_DIR/log; exec sleep 1000")
        end }""")
        child = self.start("long", "web01")
        wait_until(lambda: self.log("web01")[-1:] == ["drain"], 30, "it runs")
        child.send_signal(signal.SIGINT)
        err = child.communicate(timeout=LIMIT)[1]
        self.assertEqual(child.returncode, 130, err)
        self.assertEqual(self.log("web01"), ["drain", "restore"])
        job = self.exed.job(self.jid_of(err), outputs=False)
        self.assertEqual((job["state"], job["error"]), (2, "cancelled"))

    def test_without_an_answer_at_the_socket_it_is_run_here(self):
        self.task("roll", ROLL)
        conf = self.write("away.conf", self.settings())
        self.assertIn("job done", self.run_text("roll", "web01", conf=conf)[1])
        with socket.socket(socket.AF_UNIX) as listener:
            os.makedirs(self.path("state"), mode=0o700)
            listener.bind(self.path("state/exed.sock"))  # nobody listens
            out, err = self.run_text("roll", "web01", conf=conf)
        self.assertIn("no exed answers at its socket, so this is done without one", err)
        self.assertIn("== web01 (1 host): changed", out)
        self.assertIn("no exed answers", self.run_text("roll", "web01", "-s", "http://127.0.0.1:1", conf=conf, code=2)[1])

    def test_the_journal_tells_each_effect(self):
        jid = self.run_text("roll", "-d", "web01", "--no-loud")[0].strip()
        self.exed.wait_job(jid)
        lines = self.run_text("journal", jid)[0].splitlines()
        self.assertEqual(lines[0].split(), ["N", "AT", "PATH", "ASKED", "ANSWERED", "AFTER"])
        clock = r"\d\d:\d\d:\d\d"
        for line, wanted in zip(lines[1:], (
                r"1 +%s +/1/web01#1 +web01: drain: execute echo drain >>\$EXED_TEST_DIR/log +changed +\d+\.\d s" % clock,
                r"2 +%s +/1/web01#2 +web01: work: execute .*\.\.\. +changed +\d+\.\d s" % clock,
                r"3 +%s +/1/web01#3 +web01: restore: execute .* +changed +\d+\.\d s" % clock,
                r"4 +%s +/1/web01#4 +web01: outcome CHANGED" % clock)):
            self.assertRegex(line, r"\A%s\Z" % wanted)
        self.assertEqual(len(lines), 5)
        entries = [json.loads(line) for line in self.run_text("journal", "--json", jid)[0].splitlines()]
        self.assertEqual([entry["id"] for entry in entries], list(range(1, len(entries) + 1)))

    def test_the_journal_of_the_api_comes_in_pages(self):
        jid = self.run_text("roll", "-d", "web")[0].strip()
        self.exed.wait_job(jid)
        whole = self.exed.get("/jobs/%s/journal" % jid).body
        found, after = [], 0
        while after < whole["last"]:
            page = self.exed.get("/jobs/%s/journal?after=%d&count=3" % (jid, after)).body
            self.assertLessEqual(len(page["entries"]), 3)
            found += page["entries"]
            after = page["entries"][-1]["id"]
        self.assertEqual(found, whole["entries"])
        start = self.exed.get("/jobs/%s/journal?start=1&count=1" % jid).body["start"]
        self.assertEqual((start["name"], start["args"]["word"], len(start["hosts"])), ("roll", "work", 4))
        other = self.exed.execute(["web01"], "true")
        for path, status in (("/jobs/%s/journal" % ("0" * 8), 404), ("/jobs/%s/journal" % other, 400),
                             ("/jobs/%s/journal?count=0" % jid, 400), ("/jobs/%s/journal?nosuch=1" % jid, 400)):
            self.assertEqual(self.exed.get(path).status, status, path)
        self.assertIn("no task", self.run_text("journal", other, code=1)[1])

    def test_replay_says_whether_another_source_fits(self):
        jid = self.run_text("roll", "-d", "web[01:02]")[0].strip()
        self.exed.wait_job(jid)
        for change, code, said in (
                (("rolls", "rolls on"), 0, "x.lua fits: it replays all 9 effects, then it ends well"),
                (('step = "drain"', 'step = "take away"'), 1,
                 "x.lua does not fit: version conflict at effect 2 (/1/web01#1): the journal has execute echo drain"),
                (("rolling %d", "rolling on %d"), 1, "version conflict at effect 1 (#1)"),
                (('default = "work"', "required = true"), 0, "fits"),
                (("return { extra", "job.hosts:ping() return { extra"), 0,
                 "then it asks #10 (#2): web[01-02]: ping"),
                (("word = {", "more = { 'integer', required = true }, word = {"), 1, "'more' is missing"),
                (("summary", "sumary"), 1, "x.lua does not load")):
            self.assertIn(change[0], ROLL)
            self.write("x.lua", ROLL.replace(*change))
            out = self.run_text("--replay", jid, "x.lua", code=code)[0]
            self.assertIn(said, out)
        self.assertEqual(self.log("web01"), ["drain", "work none", "restore"])
        self.write("x.lua", ROLL)
        self.assertIn("no such jid", self.run_text("--replay", "0" * 8, "x.lua", code=1)[1])

    def test_replay_has_long_output_too(self):
        text = """return { summary = "x", run = function(job)
          local out = job.hosts[1]:execute("head -c 100000 /dev/zero | tr '\\\\0' x").stdout
          if #out == 65536 and not out:find "[^x]" then job:say "%s" end
        end }"""
        self.known("wide", text % "seen")
        jid = self.run_text("wide", "-d", "web01")[0].strip()
        self.exed.wait_job(jid)
        self.write("x.lua", text % "seen")
        self.assertIn("x.lua fits: it replays all 3 effects", self.run_text("--replay", jid, "x.lua")[0])
        self.write("x.lua", text % "other")
        self.assertIn("at effect 2 (#2)", self.run_text("--replay", jid, "x.lua", code=1)[0])

    def test_a_question_is_answered_and_jobs_are_held(self):
        self.known("asks", """return { summary = "x", run = function(job)
          local said = job:await_approval { message = "go on?", timeout = "60s" }
          job:say("agreed: %s", said.note)
        end }""")
        for word, code, end in ((["--note", "fine"], 0, "-- agreed: fine"), (["--no"], 1, "said no")):
            child = self.start("asks", "web01")
            jid = self.jid_of(child.stderr.readline())
            wait_until(lambda: self.exed.job(jid, outputs=False).get("phase") == "waiting", 30, "it asks")
            self.run_text("pause", jid)
            self.assertEqual(self.exed.job(jid, outputs=False)["phase"], "paused")
            self.run_text("resume", jid)
            self.run_text("approve", *word, jid)
            out, err = child.communicate(timeout=LIMIT)
            self.assertEqual(child.returncode, code, err)
            self.assertIn(end, out + err)
        for verb in ("approve", "pause", "resume"):
            self.assertIn("no such jid", self.run_text(verb, "0" * 8, code=1)[1])
            self.assertIn("has ended", self.run_text(verb, jid, code=1)[1])
            self.assertIn("jid is wanted" if verb == "approve" else "which job?", self.run_text(verb, code=2)[1])

    def test_a_dry_run_touches_nothing_and_is_no_job(self):
        out, err = self.run_text("roll", "web", "--size", "2", "--dry-run")
        self.assertEqual(out, self.run_text("roll", "web", "--size", "2", "--dry-run", "--alone")[0])
        self.assertIn(" 0:00:03  web[03-04]  drain: execute echo drain", out)
        self.assertEqual(err, "exed-run: dry run done: 12 steps, nothing was touched\n")
        jids = self.exed.get("/jobs").body
        answer = self.exed.post("/tasks", {"taskname": "roll", "targets": ["web01", "nosuch"], "dry_run": True,
                                           "taskopts": {"word": "x"}})
        self.assertEqual(answer.status, 200, answer.body)
        plan = answer.body["plan"]
        self.assertEqual((plan["state"], plan["no_match"], plan["seconds"]), (2, ["nosuch"], 3))
        self.assertEqual(plan["outcomes"], {"web01": {"status": "CHANGED"}})
        self.assertEqual([(step.get("step"), step["at"]) for step in plan["steps"]],
                         [(None, 0), ("drain", 0), ("work", 1), ("restore", 2)])
        self.assertEqual(plan["value"], {"extra": {}})
        self.assertEqual(self.exed.get("/jobs").body, jids)
        self.assertEqual([self.log(host.name) for host in self.hosts.hosts], [[]] * 4)
        for body, status in (({"taskopts": {"size": "x"}}, 400), ({"targets": "nosuch*"}, 404),
                             ({"dryrun": True}, 400)):
            answer = self.exed.post("/tasks", dict({"taskname": "roll", "targets": "web", "dry_run": True}, **body))
            self.assertEqual(answer.status, status, answer.body)
        self.assertIn("no host is called nosuch", self.run_text("roll", "web01,nosuch", "--dry-run", code=1)[1])

    def test_a_dry_run_of_a_bad_task_ends(self):
        self.known("loops", 'return { summary = "x", run = function(job) job:say "on" while true do end end }')
        self.known("aborts", 'return { summary = "x", run = function(job) job:abort "not so" end }')
        self.known("hangs", 'return { summary = "x", run = function(job) coroutine.yield() end }')
        out, err = self.run_text("aborts", "web01", "--dry-run", code=1)
        self.assertIn("dry run failure: 0 steps, nothing was touched (not so)", err)
        err = self.run_text("loops", "web01", "--dry-run", code=1)[1]
        self.assertIn("took more than", err)
        self.assertIn("loops.lua:1", err)
        self.run_text("hangs", "web01", "--dry-run", code=1)
        self.assertEqual(self.exed.get("/ping?target=web01").status, 200)

    def test_a_dry_run_knows_the_last_facts(self):
        self.known("facts", """return { summary = "x", run = function(job)
          job:say("%s", job.hosts[1]:facter().facts.kernel_release or "made up")
        end }""")
        self.assertIn("-- made up", self.run_text("facts", "web04", "--dry-run")[0])
        jid = self.exed.submit("/facter", {"targets": ["web01", "web04"]})
        self.exed.wait_job(jid)
        self.assertIn("-- " + os.uname().release, self.run_text("facts", "web04", "--dry-run")[0])


if __name__ == "__main__":
    unittest.main()
