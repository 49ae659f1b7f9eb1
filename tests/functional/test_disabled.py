# SPDX-License-Identifier: MIT
"""Hosts that are out of service (exed_disabled): each operation skips them with their reason and does nothing
to them, which is no failure. The logs of the sshd tell that nobody came."""

import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402

DONE, FAILURE = 0, 2
OK, SKIPPED, CHANGED = 1, 2, 5
REASON = "disabled in the inventory: the disk is being replaced"


class Disabled(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(2)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.text = cls.sshd.inventory_text().replace(
            "web02 ", "web02 exed_disabled='the disk is being replaced' ") + (
            "[here]\nnear ansible_connection=local\nfar ansible_connection=local exed_disabled=yes\n")
        cls.path = cls.sshd.write("disabled.ini", cls.text)
        cls.exed = Exed(cls.sshd, conf={"inventory": {"path": cls.path}})
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start()

    def came(self):
        return self.sshd.log().count("Connection from")

    def test_each_operation_skips_them_with_their_reason(self):
        before = self.came()
        for path in ("/ping?target=web02", "/execute?target=web02&cmd=true",
                     "/service?target=web02&name=x&state=0"):
            answer = self.exed.get(path)
            self.assertEqual((answer.status, answer.body),
                             (200, {"web02": {"status": SKIPPED, "error": REASON}}), path)
        for path, fields in (("/ping", {}), ("/execute", {"cmd": "true", "fence": True}),
                             ("/service", {"name": "x", "state": "started"})):
            jid = self.exed.submit(path, dict(fields, targets="web02"))
            self.assertEqual(self.exed.records(jid)["web02"], [{"status": SKIPPED, "error": REASON}], path)
        self.assertEqual(self.came(), before)

    def test_it_is_no_failure_and_others_are_not_held_up(self):
        jid = self.exed.execute("all", "echo here")
        records = {name: (found[0]["status"], found[0].get("error"))
                   for name, found in self.exed.records(jid).items()}
        self.assertEqual(records, {
            "web01": (CHANGED, None), "web02": (SKIPPED, REASON),
            "near": (CHANGED, None), "far": (SKIPPED, "disabled in the inventory")})
        self.assertEqual(self.exed.get("/jobs/" + jid).body["state"], DONE)

    def test_the_local_executor_skips_them_too(self):
        mark = os.path.join(self.sshd.dir, "ran")
        jid = self.exed.execute(["web01", "web02"], "echo x >>" + mark, executor="local")
        records = self.exed.records(jid)
        self.assertEqual([records[name][0]["status"] for name in ("web01", "web02")], [CHANGED, SKIPPED])
        with open(mark, encoding="utf-8") as f:
            self.assertEqual(f.read(), "x\n")

    def test_a_host_that_is_put_back_runs_again(self):
        self.addCleanup(self.set_inventory, self.text, SKIPPED)
        self.set_inventory(self.text.replace("exed_disabled='the disk is being replaced'", ""), OK)

    def set_inventory(self, text, status):
        with open(self.path, "w", encoding="utf-8") as f:
            f.write(text)
        wait_until(lambda: self.exed.get("/ping?target=web02").body["web02"]["status"] == status, 10)


if __name__ == "__main__":
    unittest.main()
