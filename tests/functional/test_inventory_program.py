# SPDX-License-Identifier: MIT
"""A node whose inventory is a directory with an executable in it: what that prints is the inventory, it runs beside
the loop with limits, and what goes wrong with it leaves the last good inventory in force."""

import json
import os
import sys
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, wait_until  # noqa: E402

PROGRAM = r"""#!/bin/sh
d=%s
echo run >>"$d/runs"
env >"$d/env"
. "$d/does"
"""


class Program(unittest.TestCase):
    def setUp(self):
        self.exed = Exed(conf={"inventory": {"program_period": "1s", "program_timeout": "3s",
                                             "program_output": "64k"}},
                         env={"SECRET_OF_EXED": "x", "EXED_TEST_UNUSED": "x"})
        self.addCleanup(self.exed.stop)
        self.dir = self.exed.path("inv")
        os.makedirs(os.path.join(self.dir, "group_vars"))
        self.exed.conf["inventory"]["path"] = self.dir
        self.does("echo '%s'" % self.document("p1"))
        self.put("inv/run", PROGRAM % self.exed.dir, 0o755)
        self.put("inv/static", "[fixed]\ns1\n")

    def put(self, name, text, mode=0o644):
        path = self.exed.path(name)
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path + ".new", mode)
        os.replace(path + ".new", path)

    def does(self, shell):
        self.put("does", shell + "\n")

    @staticmethod
    def document(*hosts):
        return json.dumps({"made": {"hosts": hosts}, "_meta": {"hostvars": {}}})

    def targets(self):
        return sorted(self.exed.get("/target?pattern=all").body)

    def error(self):
        return self.exed.get("/healthz").body["inventory"].get("error", "")

    def runs(self):
        with open(self.exed.path("runs"), encoding="utf-8") as f:
            return len(f.readlines())

    def test_what_it_prints_is_followed(self):
        self.exed.start()
        self.assertEqual(self.targets(), ["p1", "s1"])
        self.does("echo '%s'" % self.document("p1", "p2"))
        wait_until(lambda: self.targets() == ["p1", "p2", "s1"], 10)
        with open(self.exed.path("env"), encoding="utf-8") as f:
            names = {line.split("=")[0] for line in f}
        self.assertLessEqual(names, {"PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"})

    def test_files_beside_it_are_followed_too(self):
        self.exed.start()
        self.put("inv/more", "[fixed]\ns2\n")
        wait_until(lambda: "s2" in self.targets(), 10)
        os.unlink(os.path.join(self.dir, "more"))
        wait_until(lambda: "s2" not in self.targets(), 10)
        self.put("inv/group_vars/made.yml", "a: [\n")
        wait_until(lambda: "group_vars/made.yml:" in self.error(), 10)
        self.assertEqual(self.targets(), ["p1", "s1"])

    def test_a_failure_leaves_the_last_good_one_and_is_told(self):
        self.exed.start()
        for does, want in (("echo no token >&2; exit 3", "inv/run: ended with code 3: no token"),
                           ("sleep 60", "inv/run: did not end within 3 s"),
                           ("head -c 200000 /dev/zero", "inv/run: printed more than 65536 bytes"),
                           ("echo nothing", "is no JSON object")):
            self.does(does)
            wait_until(lambda w=want: w in self.error(), 15, want)
            self.assertEqual(self.targets(), ["p1", "s1"])
        self.does("echo '%s'" % self.document("p3"))
        wait_until(lambda: self.targets() == ["p3", "s1"] and not self.error(), 10)

    def test_one_that_others_may_write_to_is_not_run(self):
        self.put("inv/run", PROGRAM % self.exed.dir, 0o777)
        self.exed.start()
        self.assertIn("others than its owner may write to it", self.error())
        self.assertFalse(os.path.exists(self.exed.path("runs")))
        self.put("inv/run", PROGRAM % self.exed.dir, 0o755)
        wait_until(lambda: self.targets() == ["p1", "s1"], 10)

    def test_the_api_answers_while_it_runs(self):
        self.exed.start()
        self.does("sleep 2; echo '%s'" % self.document("late"))
        before, slowest, over = self.runs(), [0.0], threading.Event()

        def ask():
            while not over.is_set():
                since = time.monotonic()
                self.exed.get("/healthz")
                slowest[0] = max(slowest[0], time.monotonic() - since)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            wait_until(lambda: "late" in self.targets(), 20)
        finally:
            over.set()
            thread.join()
        self.assertGreater(self.runs(), before)
        self.assertLess(slowest[0], 2.0, "an answer waited for the program, which sleeps for 2 s")

    def test_it_is_not_run_more_often_than_its_period(self):
        self.exed.conf["inventory"]["program_period"] = "1h"
        self.exed.start()
        self.put("inv/more", "[fixed]\ns2\n")
        wait_until(lambda: "s2" in self.targets(), 10)
        self.put("inv/run", PROGRAM % self.exed.dir + "# changed\n", 0o755)
        self.put("inv/more", "[fixed]\ns3\n")
        wait_until(lambda: "s3" in self.targets(), 10)
        self.assertEqual(self.runs(), 1)


if __name__ == "__main__":
    unittest.main()
