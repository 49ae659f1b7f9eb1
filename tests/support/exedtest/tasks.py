# SPDX-License-Identifier: MIT
"""What the tests of tasks share: tasks that write down on each host what they did there, and a node that has
them."""

import os
import unittest

from .exed import Exed
from .procs import children_of, command_line, wait_until
from .sshd import Sshd

DONE, RUNNING, FAILURE = 0, 1, 2
ANNOUNCE, OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 0, 1, 2, 3, 4, 5
HOSTS = 4
WHOLE = ["drain", "work", "restore"]  # what `roll` leaves in the file of a host

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
  summary = "sleeps for long",
  args = { mark = { "string", required = true }, time = { "duration", required = true } },
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
  load = function(job) job:call "loads_for_ever" end,
  gc = function() setmetatable({}, { __gc = function() while true do end end }) end,
}
return {
  summary = "misbehaves after a drain",
  args = { mark = { "string", required = true }, kind = { "string", required = true } },
  run = function(job)
    local file = "$EXED_TEST_DIR/" .. job.args.mark
    job:defer(function() job.hosts:execute("echo restore >>" .. file) end)
    job.hosts:execute("echo drain >>" .. file)
    kinds[job.args.kind](job)
  end,
}""",
    "needs": """
return {
  summary = "has arguments", max_hosts = 3, lock = "shared",
  args = {
    n = { "integer", required = true, min = 1, help = "how many" }, word = { "string", default = "w" },
  },
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


class Gate:
    """Work on hosts that lasts until it is let go, at most a minute."""

    def __init__(self, fixture, name):
        self.path = fixture.path("gate-" + name)
        self.work = "for i in $(seq 600); do [ -e %s ] && break; sleep 0.1; done" % self.path

    def open(self):
        with open(self.path, "w", encoding="utf-8"):
            pass


NEVER_LOADS = {"loads_for_ever": "while true do end"}


def add_tasks(exed, more=None):
    """Gives a node that has not started these tasks, and more of them."""
    where = exed.path("modules", "tasks")
    os.makedirs(where, mode=0o755, exist_ok=True)
    for name, text in dict(TASKS, **(more or {})).items():
        with open(os.path.join(where, name + ".lua"), "w", encoding="utf-8") as f:
            f.write(text)
    exed.conf.setdefault("runner", {})["modules"] = os.path.dirname(where)


def task_processes(exed):
    return [pid for pid in children_of(exed.pid) if "--task" in command_line(pid)]


class Hosts(unittest.TestCase):
    """Hosts that write down what was done to them."""

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(HOSTS)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.names = [host.name for host in cls.sshd.hosts]
        cls.numbers = iter(range(10000))

    def mark(self):
        return "mark%d" % next(self.numbers)

    def gate(self, mark):
        gate = Gate(self.sshd, mark)
        self.addCleanup(gate.open)
        return gate

    def lines(self, mark):
        """What the hosts' files say, {name: [word, ...]}."""
        return {host.name: host.read(mark).split() for host in self.sshd.hosts}

    def wait_work(self, mark, count):
        """Waits until so many hosts are being worked on."""
        wait_until(lambda: list(self.lines(mark).values()).count(["drain", "work"]) == count, 20)

    def check_lines(self, mark, *expected):
        """expected: for the first hosts, in order; none for the others. Or WHOLE for each."""
        expected = list(expected) + [[]] * (HOSTS - len(expected))
        self.assertEqual(list(self.lines(mark).values()), expected)

    def check_whole(self, mark, job, note=None):
        """Whether the job is Done and each host was drained, worked on and restored once."""
        self.assertEqual((job["state"], job["error"]), (DONE, ""), note)
        self.assertEqual(self.lines(mark), {name: WHOLE for name in self.names}, note)


class OneNode(Hosts):
    """One node for all tests of a class."""

    conf = {}
    more_tasks = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.exed = Exed(cls.sshd, cls.conf)
        add_tasks(cls.exed, cls.more_tasks)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start(limit=30)

    def tearDown(self):
        """A test that failed leaves no job to those after it."""
        if not self.exed.child:
            self.exed.start()
        for jid in self.exed.get("/jobs").body:
            if self.exed.job(jid, False)["state"] == RUNNING:
                self.exed.post("/jobs/%s/cancel" % jid)
                self.exed.wait_job(jid)

    def post(self, task, targets="all", **opts):
        return self.exed.post("/tasks", {"targets": targets, "taskname": task, "taskopts": opts})

    def submit(self, task, targets="all", **opts):
        answer = self.post(task, targets, **opts)
        self.assertEqual(answer.status, 201, answer.body)
        return answer.body["jid"]

    def steps(self, job):
        """{host: [(name, status), ...]} of a job's records."""
        return {host: [(r["name"], r["status"]) for r in records]
                for host, records in job["return_data"].items()}

    def wait_phase(self, jid, phase):
        return wait_until(lambda: self.exed.job(jid, False).get("phase") == phase
                          and self.exed.job(jid, False), 20, phase)
