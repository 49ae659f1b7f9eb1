# SPDX-License-Identifier: MIT
"""A sample of the calls that `make torture` makes fail; the same one each time, as far as a program with
threads makes the same calls. A problem counts when it comes twice."""

import os
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest.procs import SLOW  # noqa: E402

LIMIT = 120  # seconds


@unittest.skipIf(os.environ.get("EXED_SANITIZER") == "tsan", "the programs are not built with it")
class Torture(unittest.TestCase):
    def sample(self, scenario, runs, seconds):
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "tests", "torture", "torture.py"), "--scenario", scenario,
             "--sample", str(runs), "--seconds", str(seconds), "--seed", "1",
             "--confirm"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT * SLOW, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn(" 0 with problems", done.stdout)

    def test_exed_run_exec(self):
        self.sample("exec", 40, 15)

    def test_node_with_a_job(self):
        self.sample("node", 10, 15)


if __name__ == "__main__":
    unittest.main()
