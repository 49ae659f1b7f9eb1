# SPDX-License-Identifier: MIT
"""What a test leaves fails it: each kind is left here on purpose, and must be found and named. And a node at rest
has as many fibers and waits after all kinds of work as before it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import BUILD, Exed, Fleet, Sshd, wait_until  # noqa: E402

LEFT = os.path.join(ROOT, "build", "support", "left.so")
DONE = 'print "1 passed, 0 failed"\n'
# A program that ends without waiting for what it runs, and leaves an event when the state is freed.
GIVEN_UP = """local fanout, timer = require "exed.fanout", require "exed.timer"
run = fanout.start({ transport = "local", command = "sleep 600600", verdict = { [0] = 1 }, group = "x" },
  { fanout.host { name = "a" } })
while #run:running() == 0 do timer.sleep(0.01) end
fanout.end_by(timer.now() - 1)
last = setmetatable({}, { __gc = function()
  print(#run:running())
  server = require("exed.http.server").new {}
  server:listen "127.0.0.1:0"
end })
"""
TASK = """return { summary = "one op on each host", run = function(job)
  require("exed.each").window(job.hosts, { size = 2 }, function(host) host:execute "true" end)
end }
"""


@unittest.skipIf("EXED_SANITIZER" in os.environ, "sanitizers are loaded first, and look themselves")
class Leave(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="exed-harness-")
        self.addCleanup(shutil.rmtree, self.dir)

    def run_lua(self, text):
        """What run.py makes of a Lua test file: (passed, failed, what it printed)."""
        path = os.path.join(self.dir, "x_test.lua")
        with open(path, "w", encoding="utf-8") as out:
            out.write(text + "\n" + DONE)
        out = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "run.py"), "--build", BUILD,
                              "--file", path, "lua"], capture_output=True, text=True, timeout=120,
                             check=False).stdout
        counts = re.search(r"^counts (\d+) (\d+)$", out, re.M)
        self.assertTrue(counts, out)
        return int(counts.group(1)), int(counts.group(2)), out

    def test_a_file_that_leaves_nothing_passes(self):
        passed, failed, out = self.run_lua(
            "local h = require('exed.fiber').spawn('x', function() require('exed.timer').sleep(9) end)\n"
            "h:cancel()")
        self.assertEqual((passed, failed), (1, 0), out)

    def test_a_fiber_fails_the_file_and_is_named_with_what_it_waits_for(self):
        passed, failed, out = self.run_lua(
            "local timer = require 'exed.timer'\n"
            "require('exed.fiber').spawn('forgotten', function()\n  timer.sleep(100)\nend)\ntimer.sleep(0)")
        self.assertEqual((passed, failed), (1, 1), out)
        self.assertRegex(out, r'fiber left: "forgotten" \(\S+x_test.lua:2\), now at \S+x_test.lua:3, '
                              r'waits in timer.sleep')

    def test_a_process_fails_the_file(self):
        passed, failed, out = self.run_lua("os.execute 'setsid sleep 600600 >/dev/null 2>&1 &'")
        self.assertEqual((passed, failed), (1, 1), out)
        self.assertRegex(out, r"it left running: \d+ sleep 600600")

    def test_a_descriptor_and_a_child_are_told_at_the_programs_end(self):
        env = dict(os.environ, LD_PRELOAD=LEFT, TMPDIR=self.dir)
        code = ("import os, subprocess as s\nos.open('/dev/zero', os.O_RDONLY)\n"
                "p = s.Popen(['sleep', '600600'], stdout=s.DEVNULL, stderr=s.DEVNULL)\nprint(p.pid)\np.returncode = 0\n")
        done = subprocess.run(["test_left", "-c", code], executable=sys.executable, env=env, text=True,
                              capture_output=True, timeout=60, check=False)
        os.kill(int(done.stdout), signal.SIGKILL)
        names = [name for name in os.listdir(self.dir) if name.startswith("sanitizer.left.")]
        self.assertEqual(len(names), 1, done)
        with open(os.path.join(self.dir, names[0]), encoding="utf-8") as f:
            text = f.read()
        self.assertRegex(text, r"test_left ended with descriptor \d+ open: /dev/zero\n")
        self.assertIn("test_left ended with child %s that runs\n" % done.stdout.strip(), text)

    def told(self):
        """What programs whose TMPDIR was self.dir have told."""
        text = ""
        for name in os.listdir(self.dir):
            if name.startswith("sanitizer.left."):
                with open(os.path.join(self.dir, name), encoding="utf-8") as f:
                    text += f.read()
        return text

    def test_a_program_that_gives_hosts_up_is_asked_too(self):
        script = os.path.join(self.dir, "x.lua")
        with open(script, "w", encoding="utf-8") as out:
            out.write(GIVEN_UP)
        done = subprocess.run([os.path.join(BUILD, "exed-run"), script], capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, LD_PRELOAD=LEFT, TMPDIR=self.dir), check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "0\n"), done)  # none runs any more
        lines = [line for line in self.told().splitlines() if "descriptor" not in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], r"^event left on the loop: \d+, to be read$")

    def test_a_node_that_gives_hosts_up_leaves_nothing(self):
        with Fleet(2, {"sim0001": "never", "sim0002": "hangexec"}) as fleet:
            env = {"LD_PRELOAD": LEFT, "TMPDIR": self.dir}
            with Exed(fleet, {"runner": {"drain_timeout": "100ms"}}, env=env) as exed:
                exed.execute(["all"], "sleep 600600")
                wait_until(lambda: fleet.stats()["execs"] == 2, 20, "both have the command")
                exed.term()  # neither answers a kill
        self.assertEqual(self.told(), "")

    def test_what_a_killed_run_has_left_is_removed_by_the_next(self):
        env = dict(os.environ, TMPDIR=self.dir)
        code = "import scratch, time\nprint(scratch.make()[0], flush=True)\ntime.sleep(600)"
        makers = [subprocess.Popen([sys.executable, "-c", code], env=env, text=True, stdout=subprocess.PIPE)
                  for _ in range(2)]
        paths = [maker.stdout.readline().strip() for maker in makers]
        try:
            makers[0].kill()
            makers[0].wait()
            os.mkdir(os.path.join(self.dir, "others"))
            os.symlink("others", os.path.join(self.dir, "exed.others"))
            os.symlink("others", os.path.join(self.dir, "exed.others.lock"))
            self.assertEqual([os.path.isdir(path) for path in paths], [True, True])
            subprocess.run([sys.executable, os.path.join(ROOT, "tests", "run.py"), "--only", "nothing", "lua"], env=env,
                           stdout=subprocess.DEVNULL, timeout=60, check=False)
            self.assertEqual([os.path.isdir(path) for path in paths], [False, True])
            self.assertTrue(os.path.isdir(os.path.join(self.dir, "exed.others")))
        finally:
            for maker in makers:
                maker.kill()
                maker.wait()
                maker.stdout.close()


class Rest(unittest.TestCase):
    def counts(self, exed):
        text = exed.get("/metrics").body
        return [int(re.search("^exed_%s (.*)$" % name, text, re.M).group(1)) for name in ("fibers", "waits")]

    def test_a_node_has_as_many_fibers_and_waits_after_its_work_as_before(self):
        with Sshd(3) as hosts:
            modules = hosts.path("modules")
            os.makedirs(modules + "/tasks")
            hosts.write("modules/tasks/one.lua", TASK)
            with Exed(hosts, {"runner": {"modules": modules}}) as exed:
                before = []
                for _ in range(5):  # what looks at files now and then may be at work
                    before.append(self.counts(exed))
                    time.sleep(0.1)
                before = [min(column) for column in zip(*before)]
                exed.wait_job(exed.execute(["all"], "echo hello"))
                self.assertEqual(exed.wait_job(exed.submit("/tasks", {"taskname": "one", "targets": ["all"]}))["state"], 0)
                cancelled = exed.execute(["all"], "sleep 600600")
                follower = exed.follow_chunks(cancelled)
                next(follower)
                follower.close()  # and leaves
                wait_until(lambda: len(hosts.running("600600")) >= 3, 20, "it runs")
                exed.post("/jobs/%s/cancel" % cancelled)
                exed.wait_job(cancelled)

                def is_at_rest():
                    now = self.counts(exed)
                    assert now[0] <= before[0] and now[1] <= before[1], (now, before)
                    return True

                wait_until(is_at_rest, 15, "the node is at rest")


if __name__ == "__main__":
    unittest.main()
