# SPDX-License-Identifier: MIT
"""Three rounds of each chaos suite (tests/chaos, `make chaos`), with a new seed each time: it is shown when
something fails."""

import os
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest.procs import SLOW  # noqa: E402

ROUNDS = 3
LIMIT = 150  # seconds for one suite


class Chaos(unittest.TestCase):
    def rounds(self, suite):
        # Over the limit it is killed, and with it what it started: its children end with their parent.
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "tests", "chaos", "chaos.py"), "--suite", suite,
             "--rounds", str(ROUNDS)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT * SLOW, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(done.stdout.count(": ok\n"), ROUNDS, done.stdout)

    def test_nodes_killed(self):
        self.rounds("nodes")

    def test_redis_killed(self):
        self.rounds("redis")

    def test_nodes_stopped(self):
        self.rounds("stop")

    def test_redis_clock_moved(self):
        self.rounds("clock")

    def test_followers_that_drop_and_come_back(self):
        self.rounds("followers")

    def test_nodes_killed_in_the_middle_of_tasks(self):
        self.rounds("tasks")


if __name__ == "__main__":
    unittest.main()
