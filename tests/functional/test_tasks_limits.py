# SPDX-License-Identifier: MIT
"""Tasks that misbehave, after they have drained a host: each ends its own job within its limits, with the
line where it can be known, puts back what it had taken, and the node answers meanwhile."""

import os
import sys
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402
from exedtest.tasks import FAILURE, NEVER_LOADS, OK, RUNNING, OneNode  # noqa: E402



class Limits(OneNode):
    conf = {"tasks": {"answer_limit": "2s", "memory": "64M", "cleanup_limit": "20s"}}
    more_tasks = NEVER_LOADS

    def look(self, over, found):
        """Asks for a login on a host again and again: (its status, seconds)."""
        while not over.is_set():
            began = time.monotonic()
            answer = self.exed.get("/ping?target=web04").body
            found.append((answer["web04"]["status"], time.monotonic() - began))
            time.sleep(0.05)

    def check_bad(self, kind, jid, mark, host):
        job = self.exed.wait_job(jid, 60)
        print("%s: %s" % (kind, job["error"]), flush=True)
        self.assertEqual(job["state"], FAILURE, kind)
        self.assertEqual(self.lines(mark)[host], ["drain", "restore"], kind)
        if kind not in ("pattern", "move"):
            self.assertRegex(job["error"], r"(bad|loads_for_ever)\.lua:\d", kind)

    def test_bad_tasks_end_by_themselves_and_put_back(self):
        kinds = ["loop", "pcall", "xpcall", "coroutine", "memory", "recursion", "pattern", "move", "gc", "load"]
        over, found = threading.Event(), []
        looker = threading.Thread(target=self.look, args=(over, found))
        looker.start()
        try:
            while kinds:  # two at a time: each burns a processor until its limit
                begun = []
                for host in self.names[:2]:
                    if kinds:
                        kind, mark = kinds.pop(0), self.mark()
                        begun.append((kind, self.submit("bad", host, mark=mark, kind=kind), mark, host))
                for one in begun:
                    self.check_bad(*one)
        finally:
            over.set()
            looker.join()
        slowest = max(seconds for _, seconds in found)
        print("%d answers, the slowest after %.2f s" % (len(found), slowest), flush=True)
        self.assertEqual({status for status, _ in found}, {OK})
        self.assertGreater(len(found), 20, "it was asked until the end")
        self.assertLess(slowest, 2 * SLOW, "the node answers meanwhile")

    def test_one_that_never_ends_at_load_is_refused(self):
        answer = self.post("loads_for_ever")
        self.assertEqual(answer.status, 400)
        self.assertRegex(answer.body["message"], r"loads_for_ever\.lua:1: took more than \d+ s to load")

    def test_a_flood_ends_its_own_job(self):
        jid = self.submit("floods", "web01")
        wait_until(lambda: self.exed.job(jid, False)["state"] != RUNNING, 120)
        job = self.exed.job(jid, False)
        self.assertEqual(job["state"], FAILURE)
        # Whichever comes first: how fast it may count depends on the machine.
        self.assertRegex(job["error"], "more than 100000 effects|more than 2 s between two answers")
        self.assertLess(os.path.getsize(self.exed.error_log), 10 << 20)


if __name__ == "__main__":
    unittest.main()
