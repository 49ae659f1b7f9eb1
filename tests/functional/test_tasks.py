# SPDX-License-Identifier: MIT
"""Tasks through the API, on real sshd hosts whose commands write down what they did: order, putting back,
cancel, limits, approval, pause, and going on after kill -9, each host exactly once by its own file."""

import json
import os
import sys
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Redis, Sshd, children_of, wait_until  # noqa: E402
from exedtest.procs import SLOW, command_line  # noqa: E402

DONE, RUNNING, FAILURE = 0, 1, 2
ANNOUNCE, OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 0, 1, 2, 3, 4, 5
HOSTS = 4

# Each task writes lines into $EXED_TEST_DIR/MARK of the host: what happened there, in order.
TASKS = {
    "roll": """
local each = require "exed.each"
return {
  summary = "drain, work, restore",
  args = {
    mark = { "string", required = true }, size = { "count", default = 1 },
    work = { "string", default = "true" }, bad = { "string", default = "" },
    max_failed = { "count", default = 0 },
  },
  run = function(job)
    local file = "$EXED_TEST_DIR/" .. job.args.mark
    each.window(job.hosts, { size = job.args.size, max_failed = job.args.max_failed }, function(host)
      job:defer(function() host:execute("echo restore >>" .. file, { step = "restore" }) end)
      host:execute("echo drain >>" .. file, { step = "drain" })
      host:execute("echo work >>" .. file .. "; " .. job.args.work, { step = "work" })
      if host.name == job.args.bad then host:fail("this one is bad") end
    end)
    return { hosts = #job.hosts }
  end,
}""",
    "says": """
return {
  summary = "announces", args = {},
  run = function(job)
    job:say("hello to %d", #job.hosts)
    job.hosts[1]:say("to one")
    job.hosts[1]:execute "echo out"
    job.hosts[1]:record("FAILED", "first thought")
    job.hosts[1]:record("OK", "is fine")
  end,
}""",
    "asks": """
return {
  summary = "waits for a person", args = { mark = { "string", required = true } },
  run = function(job)
    local yes = job:await_approval { message = "go on?", timeout = "1m" }
    job.hosts:execute("echo " .. yes.note .. " >>$EXED_TEST_DIR/" .. job.args.mark)
    return yes
  end,
}""",
    "sleeps": """
return {
  summary = "sleeps for long", args = { mark = { "string", required = true }, time = { "duration", required = true } },
  run = function(job)
    job.hosts:execute("echo before >>$EXED_TEST_DIR/" .. job.args.mark)
    job:sleep(job.args.time)
    job.hosts:execute("echo after >>$EXED_TEST_DIR/" .. job.args.mark)
  end,
}""",
    "bad": """
local kinds = {
  loop = function() while true do end end,
  pcall = function() while true do pcall(function() while true do end end) end end,
  xpcall = function() while true do xpcall(function() while true do end end, function() end) end end,
  coroutine = function() coroutine.wrap(function() while true do end end)() end,
  memory = function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end,
  recursion = function() local function f() return 1 + f() end f() end,
  pattern = function() return ("x"):rep(60):find(".-.-.-.-.-.-.-.-b") end,
  move = function() table.move({}, 1, 1 << 62, 2) end,
}
return {
  summary = "misbehaves after a drain",
  args = { mark = { "string", required = true }, kind = { "string", required = true } },
  run = function(job)
    local file = "$EXED_TEST_DIR/" .. job.args.mark
    job:defer(function() job.hosts:execute("echo restore >>" .. file) end)
    job.hosts:execute("echo drain >>" .. file)
    kinds[job.args.kind]()
  end,
}""",
    "loads_for_ever": "while true do end",
    "needs": """
return {
  summary = "has arguments", max_hosts = 3, lock = "shared",
  args = { n = { "integer", required = true, min = 1, help = "how many" }, word = { "string", default = "w" } },
  run = function(job) return { n = job.args.n, who = job.who } end,
}""",
    "floods": """
return {
  summary = "prints and asks more than anybody wants", args = {},
  run = function(job)
    for i = 1, 100000 do print(("x"):rep(100) .. i) end
    for _ = 1, 200000 do job:say("x") end
  end,
}""",
}


class Tasks(unittest.TestCase):
    conf = {"tasks": {"answer_limit": "2s", "memory": "64M", "cleanup_limit": "20s"}}

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(HOSTS)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.exed = Exed(cls.sshd, dict(cls.conf, runner={}))
        cls.modules(cls.exed)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start(limit=30)
        cls.numbers = iter(range(10000))

    def tearDown(self):
        """A test that failed leaves no job to those after it."""
        if not self.exed.child:
            self.exed.start()
        for jid in self.exed.get("/jobs").body:
            if self.exed.job(jid, False)["state"] == RUNNING:
                self.exed.post("/jobs/%s/cancel" % jid)
                self.exed.wait_job(jid)

    @staticmethod
    def modules(exed):
        where = exed.path("modules", "tasks")
        os.makedirs(where, mode=0o755, exist_ok=True)
        for name, text in TASKS.items():
            with open(os.path.join(where, name + ".lua"), "w", encoding="utf-8") as f:
                f.write(text)
        exed.conf["runner"]["modules"] = os.path.dirname(where)

    def mark(self):
        return "mark%d" % next(self.numbers)

    def post(self, task, targets="all", **opts):
        return self.exed.post("/tasks", {"targets": targets, "taskname": task, "taskopts": opts})

    def submit(self, task, targets="all", **opts):
        answer = self.post(task, targets, **opts)
        self.assertEqual(answer.status, 201, answer.body)
        return answer.body["jid"]

    def lines(self, mark):
        return {host.name: host.read(mark).split() for host in self.sshd.hosts}

    def names(self, job):
        return {host: [(r["name"], r["status"]) for r in records] for host, records in job["return_data"].items()}

    def wait_phase(self, jid, phase):
        return wait_until(lambda: self.exed.job(jid, False).get("phase") == phase and self.exed.job(jid, False),
                          20, phase)

    # ---- running ----

    def test_steps_outcomes_and_value(self):
        mark = self.mark()
        job = self.exed.wait_job(self.submit("roll", mark=mark, work="echo out", size=2))
        self.assertEqual((job["state"], job["error"], job["value"]), (DONE, "", {"hosts": HOSTS}))
        self.assertEqual(self.lines(mark), {h.name: ["drain", "work", "restore"] for h in self.sshd.hosts})
        for host, names in self.names(job).items():
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
        first, *others = [h.name for h in self.sshd.hosts]
        self.assertEqual([(r["name"], r["status"], r["return_data"]) for r in job["return_data"][first]], [
            ("says", ANNOUNCE, "hello to %d" % HOSTS), ("says", ANNOUNCE, "to one"),
            ("execute", CHANGED, "out\n"), ("says", OK, "is fine")])
        for host in others:
            self.assertEqual(self.names(job)[host], [("says", ANNOUNCE), ("says", SKIPPED)])
        chunks = list(self.exed.follow(jid))[1:]
        self.assertEqual(set(chunks[0]), {h.name for h in self.sshd.hosts})
        self.assertEqual([list(chunk) for chunk in chunks[1:4]], [[first]] * 3)
        raw = self.exed.raw(("GET /jobs/%s?outputs=1 HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" % jid).encode(), 5)
        self.assertEqual(raw.count(b'"%s":[' % first.encode()), 1, "one key for a host")

    def test_a_failed_host_is_put_back_and_stops_the_others(self):
        mark = self.mark()
        jid = self.submit("roll", mark=mark, bad=self.sshd.hosts[1].name)
        job = self.exed.wait_job(jid)
        self.assertEqual(job["state"], FAILURE)
        self.assertIn("max_failed", job["error"])
        whole = ["drain", "work", "restore"]
        self.assertEqual(list(self.lines(mark).values()), [whole, whole, [], []])
        self.assertEqual([self.names(job)[h.name][-1] for h in self.sshd.hosts],
                         [("roll", CHANGED), ("roll", FAILED), ("roll", SKIPPED), ("roll", SKIPPED)])

    def test_a_target_that_is_not_in_the_inventory(self):
        job = self.exed.wait_job(self.submit("roll", ["web01", "nosuch"], mark=self.mark()))
        self.assertEqual(job["state"], FAILURE)
        self.assertIn("1 of 2 targets are not in the inventory", job["error"])
        self.assertEqual([r["status"] for r in job["return_data"]["nosuch"]], [-1])

    # ---- requests ----

    def test_list(self):
        for path in ("/tasks", "/task"):
            tasks = {task["name"]: task for task in self.exed.get(path).body}
            self.assertEqual((tasks["needs"]["type"], tasks["needs"]["summary"]), ("task", "has arguments"))
            self.assertEqual([arg["name"] for arg in tasks["needs"]["args"]], ["n", "word"])
            self.assertIn("rolling_restart", tasks)
            self.assertIn("loads_for_ever.lua:1", tasks["loads_for_ever"]["error"])

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
        jid = self.submit("roll", "web01", mark=self.mark(), work="sleep 2")
        answer = self.post("roll", ["web01", "web02"], mark=self.mark())
        self.assertEqual((answer.status, answer.body["holders"]), (409, {"web01": [jid]}))
        self.assertEqual(self.exed.wait_job(jid)["state"], DONE)
        wait_until(lambda: self.exed.get("/leases").body == [], 5)

    # ---- people ----

    def test_cancel_puts_back(self):
        mark = self.mark()
        jid = self.submit("roll", mark=mark, work="sleep 60", size=2)
        wait_until(lambda: list(self.lines(mark).values()).count(["drain", "work"]) == 2, 20)
        running = self.exed.get("/jobs/%s?detail=1" % jid).body["running"]
        self.assertEqual({one["host"] for one in running}, {"web01", "web02"})
        self.assertEqual(self.exed.post("/jobs/%s/cancel" % jid).status, 200)
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["error"]), (FAILURE, "cancelled"))
        whole = ["drain", "work", "restore"]
        self.assertEqual(list(self.lines(mark).values()), [whole, whole, [], []])
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
        jid = self.submit("roll", mark=mark, work="sleep 1.5")
        wait_until(lambda: "work" in self.lines(mark)["web01"], 20)
        self.assertEqual(self.exed.post("/jobs/%s/pause" % jid).status, 200)
        job = self.wait_phase(jid, "paused")
        self.assertTrue(job["paused"])
        wait_until(lambda: "restore" in self.lines(mark)["web01"], 10, "what was drained is put back")
        before = self.lines(mark)
        self.assertNotIn("restore", before["web03"])
        time.sleep(1)  # in which the next step would have been taken
        self.assertEqual(self.lines(mark), before)
        self.assertEqual(self.exed.post("/jobs/%s/resume" % jid).status, 200)
        self.assertEqual(self.exed.wait_job(jid)["state"], DONE)
        self.assertEqual(self.lines(mark), {h.name: ["drain", "work", "restore"] for h in self.sshd.hosts})

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
        self.assertEqual(self.lines(mark), {h.name: ["x"] for h in self.sshd.hosts})

    # ---- what tasks must not do ----

    def test_bad_tasks_end_by_themselves_and_put_back(self):
        for kind in ("loop", "pcall", "xpcall", "coroutine", "memory", "recursion", "pattern", "move"):
            mark, slowest, over = self.mark(), [0.0], threading.Event()

            def look(slowest=slowest, over=over):
                while not over.is_set():
                    began = time.monotonic()
                    self.exed.get("/healthz")
                    slowest[0] = max(slowest[0], time.monotonic() - began)
                    time.sleep(0.02)

            looker = threading.Thread(target=look)
            looker.start()
            try:
                began = time.monotonic()
                job = self.exed.wait_job(self.submit("bad", mark=mark, kind=kind), 60)
            finally:
                over.set()
                looker.join()
            print("%s: %.1f s, %s; slowest answer %.2f s" % (
                kind, time.monotonic() - began, job["error"], slowest[0]), flush=True)
            self.assertEqual(job["state"], FAILURE, kind)
            self.assertEqual(self.lines(mark), {h.name: ["drain", "restore"] for h in self.sshd.hosts}, kind)
            if kind not in ("pattern", "move"):
                self.assertIn("bad.lua:", job["error"], kind)
            self.assertLess(slowest[0], 2 * SLOW, "the node answers meanwhile")

    def test_a_flood_ends_its_own_job(self):
        jid = self.submit("floods", "web01")
        wait_until(lambda: self.exed.job(jid, False)["state"] != RUNNING, 120)
        job = self.exed.job(jid, False)
        self.assertEqual(job["state"], FAILURE)
        # Whichever comes first: how fast it may count depends on the machine.
        self.assertRegex(job["error"], "more than 100000 effects|more than 2 s between two answers")
        self.assertLess(os.path.getsize(self.exed.error_log), 10 << 20)

    # ---- death ----

    def test_kill_and_restart_at_several_moments(self):
        for moment in (0.05, 0.3, 0.6, 1.0, 1.5):
            mark = self.mark()
            jid = self.submit("roll", mark=mark, work="sleep 0.4", size=2)
            time.sleep(moment)
            self.exed.kill9()
            self.exed.start()
            job = self.exed.wait_job(jid)
            self.assertEqual((job["state"], job["error"]), (DONE, ""), moment)
            self.assertEqual(self.lines(mark), {h.name: ["drain", "work", "restore"] for h in self.sshd.hosts}, moment)

    def test_a_drain_hands_the_task_on(self):
        mark = self.mark()
        jid = self.submit("roll", mark=mark, work="sleep 1", size=2)
        wait_until(lambda: any(self.lines(mark).values()), 20)
        self.exed.term()
        self.exed.start()
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["error"]), (DONE, ""))
        self.assertEqual(self.lines(mark), {h.name: ["drain", "work", "restore"] for h in self.sshd.hosts})

    def test_cancel_while_the_node_is_dead_and_during_replay(self):
        mark = self.mark()
        jid = self.submit("roll", mark=mark, work="sleep 20", size=2)
        wait_until(lambda: list(self.lines(mark).values()).count(["drain", "work"]) == 2, 20)
        self.exed.kill9()
        self.exed.start()
        self.exed.post("/jobs/%s/cancel" % jid)
        job = self.exed.wait_job(jid)
        self.assertEqual(job["state"], FAILURE)
        whole = ["drain", "work", "restore"]
        self.assertEqual(list(self.lines(mark).values()), [whole, whole, [], []])

    def test_a_question_waits_over_a_death(self):
        mark = self.mark()
        jid = self.submit("asks", mark=mark)
        self.wait_phase(jid, "waiting")
        self.exed.kill9()
        self.exed.start()
        self.wait_phase(jid, "waiting")
        self.exed.post("/jobs/%s/approve" % jid, {"approve": True, "note": "later"})
        self.assertEqual(self.exed.wait_job(jid)["state"], DONE)
        self.assertEqual(self.lines(mark), {h.name: ["later"] for h in self.sshd.hosts})

    def processes(self):
        return [pid for pid in children_of(self.exed.pid) if "--task" in command_line(pid)]

    def test_a_question_and_a_long_sleep_hold_no_process(self):
        mark = self.mark()
        question, sleep = self.submit("asks", "web01", mark=mark), self.submit(
            "sleeps", "web02", mark=mark, time=600)
        self.wait_phase(question, "waiting")
        wait_until(lambda: not self.processes(), 20, "no process is held")
        self.exed.post("/jobs/%s/approve" % question, {"approve": True, "note": "late"})
        self.assertEqual(self.exed.wait_job(question)["state"], DONE)
        self.assertEqual(self.lines(mark)["web01"], ["late"])
        self.assertEqual(self.lines(mark)["web02"], ["before"])
        self.exed.post("/jobs/%s/cancel" % sleep)
        self.assertEqual(self.exed.wait_job(sleep)["error"], "cancelled")
        self.assertEqual(self.lines(mark)["web02"], ["before"])


class SharedStore(unittest.TestCase):
    """Two nodes on one Redis."""

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(HOSTS)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.redis = Redis()
        cls.addClassCleanup(cls.redis.stop)
        cls.redis.start()
        cls.nodes = []
        for _ in range(2):
            node = Exed(cls.sshd, {"runner": {"redis_url": cls.redis.url}, "store": {"node_timeout": "2s"}})
            Tasks.modules(node)
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
        wait_until(lambda: list(self.lines(mark).values()).count(["drain", "work"]) == 2, 20)
        for node, other in (self.nodes, self.nodes[::-1]):
            if any("--task" in command_line(pid) for pid in children_of(node.pid)):
                return jid, node, other
        self.fail("no node runs the task")

    def lines(self, mark):
        return {host.name: host.read(mark).split() for host in self.sshd.hosts}

    def test_another_node_takes_a_task_over(self):
        jid, owner, other = self.begin("taken", "sleep 1")
        owner.kill9()
        try:
            job = other.wait_job(jid, 40)
        finally:
            owner.start(limit=30)
        self.assertEqual((job["state"], job["error"]), (DONE, ""))
        self.assertEqual(self.lines("taken"), {h.name: ["drain", "work", "restore"] for h in self.sshd.hosts})

    def test_the_store_is_away_in_the_middle(self):
        jid, owner, _ = self.begin("away", "sleep 1")
        self.redis.pause()
        time.sleep(6)  # longer than a beat, an answer limit and a command
        self.redis.resume()
        job = owner.wait_job(jid, 60)
        self.assertEqual((job["state"], job["error"]), (DONE, ""))
        self.assertEqual(self.lines("away"), {h.name: ["drain", "work", "restore"] for h in self.sshd.hosts})

    def test_a_source_that_asks_something_else_stops_and_names_the_hosts(self):
        jid, owner, other = self.begin("conflict", "sleep 3")
        other.kill9()
        owner.kill9()
        sha = json.loads(self.redis.ask("HGET", "exed:job:" + jid, "pins"))["sources"]
        text = self.redis.ask("GET", "exed:src:" + sha)
        self.redis.ask("SET", "exed:src:" + sha, text.replace(b"echo work", b"echo other"))
        owner.start(limit=30)
        other.start(limit=30)
        job = owner.wait_job(jid, 40)
        self.assertEqual(job["state"], FAILURE)
        self.assertRegex(job["error"], r"version conflict at effect \d+ \(/1/web0[12]#2\): the journal has execute "
                         r"echo work .*, the code asks execute echo other .*; between start and end: web01, web02$")
        self.assertEqual([len(lines) for lines in self.lines("conflict").values()], [2, 2, 0, 0])
        self.assertEqual([job["return_data"][h.name][-1]["status"] for h in self.sshd.hosts],
                         [FAILED, FAILED, SKIPPED, SKIPPED])


if __name__ == "__main__":
    unittest.main()
