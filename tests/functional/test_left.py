# SPDX-License-Identifier: MIT
"""What was started on a host is settled before the host is free again: its connection breaks, its fence's
shell is killed, its kill is not answered, its job is stopped meanwhile. The hosts' own files and processes
say what happened; the lease says how long it was held."""

import os
import signal
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402
from exedtest.procs import children_of, command_line, end_pids  # noqa: E402

SKIPPED, FAILED, CHANGED = 2, 3, 5
RAN = "echo x >>$EXED_TEST_DIR/ran; "
GO = "while [ ! -e $EXED_TEST_DIR/go ]; do sleep .05; done; "


class Left(unittest.TestCase):
    def setUp(self):
        self.sshd = self.enterContext(Sshd(2, per_process=1))
        self.exed = self.enterContext(Exed(self.sshd, {
            "runner": {"settle_timeout": "60s"}, "ssh": {"connect_timeout": "5s"}}))
        self.host = self.sshd.host["web01"]

    def start(self, command, **fields):
        jid = self.exed.execute(["web01"], RAN + command, **fields)
        wait_until(lambda: self.host.read("ran"), 10, "it runs")
        return jid

    def go(self):
        with open(os.path.join(self.host.dir, "go"), "w", encoding="utf-8"):
            pass

    def record(self, jid):
        record, = self.exed.wait_job(jid)["return_data"]["web01"]
        self.assertEqual(self.host.read("ran"), "x\n", "not once")
        self.assertEqual(self.exed.get("/leases").body, [])
        return record

    def cut(self):
        """Ends the sshd processes of the host's connections, and not what they started."""
        end_pids([pid for pid in self.sshd.sessions() if command_line(pid).startswith("sshd: ")])

    def is_held(self, jid):
        """The job goes on, and nobody else may change the host."""
        self.assertEqual(self.exed.job(jid)["state"], 1)
        answer = self.exed.post("/execute", {"targets": ["web01"], "cmd": "true", "lock": "exclusive"})
        self.assertEqual((answer.status, answer.body.get("holders")), (409, {"web01": [jid]}), answer)

    def wrapper(self, jid):
        """The pid of the fence's shell."""
        with open(os.path.join(self.host.dir, ".exed", "ops", jid + ".0.0.1", "pid"), encoding="utf-8") as f:
            return int(f.read().split()[0])

    def settled_after(self, jid, seconds=3):
        """It is still held after a while, in which it was asked more than once."""
        time.sleep(seconds)
        self.is_held(jid)


class Connection(Left):
    def test_a_fenced_op_whose_connection_breaks_is_joined(self):
        jid = self.start("echo one; " + GO + "echo two; exit 3", fence=True, lock="exclusive")
        self.cut()
        self.settled_after(jid)
        self.go()
        record = self.record(jid)
        self.assertEqual((record["status"], record["rtc"], record["stdout"]), (FAILED, 3, "one\ntwo\n"), record)
        self.assertNotIn("unknown", record)

    def test_a_plain_op_whose_connection_breaks_is_waited_for(self):
        jid = self.start("echo one; " + GO)
        self.cut()
        self.settled_after(jid)
        self.go()
        record = self.record(jid)
        self.assertEqual((record["status"], record["unknown"], record["survivors"]), (FAILED, True, 0), record)
        self.assertIn("connection lost while running", record["error"])
        self.assertEqual(record["stdout"], "one\n")

    def test_a_plain_op_whose_host_is_gone_does_not_hold_up_its_job(self):
        jid = self.start("sleep 600600")
        self.sshd.stop_host("web01")
        record = self.record(jid)
        self.assertEqual((record["status"], record["unknown"]), (FAILED, True), record)
        self.assertNotIn("survivors", record)
        self.assertIn("and the host cannot be asked: ", record["error"])
        end_pids(self.sshd.running())

    def test_a_fenced_op_whose_host_comes_back_after_a_reboot_has_died(self):
        jid = self.start("sleep 600600", fence=True)
        self.sshd.stop_host("web01")
        end_pids(self.sshd.running())
        self.settled_after(jid)
        self.sshd.start_host("web01")
        record = self.record(jid)
        self.assertEqual((record["status"], record["unknown"], record["survivors"]), (FAILED, True, 0), record)
        self.assertIn("died", record["error"])

    def test_a_node_that_is_stopped_while_it_asks_begins_nothing_anew(self):
        """Its permission to start has lapsed each time; that of the op is used up."""
        self.exed.term()
        self.exed.conf["store"]["node_timeout"] = "2s"
        self.exed.start()
        for fields in {}, {"fence": True}:
            jid = self.start("echo one; " + GO, **fields)
            self.cut()
            for n in range(6):
                time.sleep(0.1 + 0.35 * n)
                os.kill(self.exed.pid, signal.SIGSTOP)
                time.sleep(1.5)
                os.kill(self.exed.pid, signal.SIGCONT)
            self.go()
            self.assertEqual(self.record(jid)["stdout"], "one\n")
            for name in "ran", "go":
                os.unlink(os.path.join(self.host.dir, name))

    def test_a_cancel_ends_what_is_waited_for(self):
        for fields in {}, {"fence": True}:
            jid = self.start("sleep 600600", **fields)
            self.cut()
            self.settled_after(jid)
            self.assertEqual(self.exed.post("/jobs/%s/cancel" % jid).status, 200)
            record = self.record(jid)
            self.assertEqual((record["status"], record["killed"], record["survivors"]), (FAILED, True, 0), record)
            self.assertEqual(self.sshd.running("600600"), [])
            os.unlink(os.path.join(self.host.dir, "ran"))


class Died(Left):
    def test_what_a_killed_fence_has_left_is_waited_for(self):
        jid = self.start(GO + "echo x >>$EXED_TEST_DIR/ended", fence=True)
        os.kill(self.wrapper(jid), signal.SIGKILL)
        self.settled_after(jid)
        self.go()
        record = self.record(jid)
        self.assertEqual((record["status"], record["unknown"], record["survivors"]), (FAILED, True, 0), record)
        self.assertIn("died: it was started and left no exit code", record["error"])
        self.assertEqual(self.host.read("ended"), "x\n")

    def test_what_it_has_left_is_waited_for_by_the_next_owner(self):
        jid = self.start("echo out; " + GO + "echo x >>$EXED_TEST_DIR/ended", fence=True)
        wrapper = self.wrapper(jid)
        self.exed.kill9()
        os.kill(wrapper, signal.SIGKILL)
        self.exed.start()
        self.settled_after(jid)
        self.go()
        record = self.record(jid)
        self.assertEqual((record["status"], record["unknown"], record["survivors"]), (FAILED, True, 0), record)
        self.assertEqual(record["stdout"], "out\n")
        self.assertEqual(self.host.read("ended"), "x\n")


class Unverified(Left):
    def test_a_fenced_op_is_killed_when_its_host_answers_again(self):
        jid = self.start("sleep 600600", fence=True, timeout="3s")
        daemons = [pid for pid in self.sshd.sessions() + [child.pid for child in self.sshd.children.values()]
                   if "sshd" in command_line(pid)]
        for pid in daemons:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(16)  # longer than its limit, and a kill's
        self.is_held(jid)
        for pid in daemons:
            os.kill(pid, signal.SIGCONT)
        record = self.record(jid)
        self.assertEqual((record["status"], record["rtc"], record["timed_out"], record["killed"], record["survivors"]),
                         (FAILED, 124, True, True, 0), record)
        self.assertEqual(self.sshd.running("600600"), [])


class Stopped(Left):
    def test_a_job_stopped_while_a_host_cannot_be_asked(self):
        """Its op runs there, and nobody knows; it is killed when the host answers, not forgotten."""
        for fields in {}, {"fence": True}:
            jid = self.start("sleep 600600", **fields)
            self.exed.kill9()
            child = self.sshd.children.pop(0)
            sessions = [pid for pid in children_of(child.pid) if command_line(pid).startswith("sshd: ")]
            child.end()
            end_pids(sessions)
            self.exed.start()
            time.sleep(1)
            self.assertEqual(self.exed.post("/jobs/%s/cancel" % jid).status, 200)
            time.sleep(2)
            self.is_held(jid)
            self.assertEqual(len(self.sshd.running("600600")) > 0, True)
            self.sshd.start_host("web01")
            record = self.record(jid)
            self.assertEqual((record["status"], record["killed"], record["survivors"]), (FAILED, True, 0), record)
            self.assertEqual(self.sshd.running("600600"), [])
            os.unlink(os.path.join(self.host.dir, "ran"))


if __name__ == "__main__":
    unittest.main()
