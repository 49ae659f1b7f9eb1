# SPDX-License-Identifier: MIT
"""The end of a command by its time limit or by a cancel: what it started is gone from the host, or the record
says what is left. The host's own list of processes decides, not the record."""

import os
import shutil
import signal
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Fleet, Sshd, wait_until, with_marker  # noqa: E402
from exedtest.procs import command_line, end_pids  # noqa: E402

OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 1, 2, 3, 4, 5

# Each sleeps for @ seconds, a number that no other process has in its command line. $ODD is a copy of sleep
# whose name looks like fields of /proc/PID/stat.
ODD = "a) R 1 (b"
NASTY = {
    "plain": "sleep @",
    "a child": "sleep @; true",
    "a pipe": "sleep @ | cat | cat",
    "background": "sleep @ & sleep @ & wait",
    "trap TERM": "trap '' TERM INT HUP; while :; do sleep @; done",
    "double fork": "(sleep @ &) ; (sh -c 'sleep @ & exit' ) ; sleep @",
    "setsid": "setsid sleep @ & sleep @",
    "setsid, orphaned": "(setsid sh -c 'sleep @ & sleep @' </dev/null >/dev/null 2>&1 &) ; sleep @",
    "nohup": "nohup sleep @ >/dev/null 2>&1 & sleep @",
    "no environment": "env -i sleep @ & sleep @",
    "no environment at all": "exec env -i sleep @",
    "no environment, own session, orphaned, its output open": "(env -i setsid sh -c 'sleep @; true' &) ; sleep @",
    "no environment, own session": "env -i setsid sh -c 'sleep @; true' & sleep @",
    "stopped": "sleep @ & kill -STOP $!; sleep @",
    "starts new ones": "while :; do sleep @ & sleep 0.02; done",
    "starts new ones from the last": "f() { sleep @ & (sleep 0.05; f) & wait; }; f",
    "another name": "\"$ODD\" @ & (\"$ODD\" @ &) ; sleep @",
    "writes": "yes & sleep @",
    "closes its output": "exec >/dev/null 2>&1 </dev/null; sleep @",
    "many": "i=0; while [ $i -lt 60 ]; do sleep @ & i=$((i+1)); done; wait",
}


def one(exed, name, command, **fields):
    records = exed.records(exed.execute([name], command, **fields))
    assert list(records) == [name] and len(records[name]) == 1, records
    return records[name][0]


def odd_sleep(fixture):
    """Makes that copy; what a command needs to know where it is."""
    path = fixture.path(ODD)
    shutil.copy(shutil.which("sleep"), path)
    return "ODD='%s'; " % path


def left(sshd, number):
    """pids of what still has the number in its command line, or the host's mark in its environment."""
    return sorted(set(with_marker(number, environ=False)) | set(sshd.running(number)))


def put_away(find):
    """Ends what find() finds, also what goes on starting others."""
    for _ in range(200):
        pids = find()
        if not pids:
            return
        for sig in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                try:
                    os.kill(pid, sig)
                except ProcessLookupError:
                    pass
    raise AssertionError("still there: %s" % find())


class Limits(unittest.TestCase):
    def test_nasty_commands_are_gone_after_their_limit(self):
        names = list(NASTY)
        numbers = {name: str(600000 + os.getpid() % 10000 * 30 + n) for n, name in enumerate(names)}
        with Sshd(len(names)) as sshd, Exed(sshd) as exed:
            odd = odd_sleep(sshd)
            hosts = dict(zip(names, sshd.hosts))

            def start(name):
                return exed.execute([hosts[name].name], odd + NASTY[name].replace("@", numbers[name]),
                                    timeout=0.5 if "new ones" in name else 1.5)

            def check(name, jid):
                record = exed.records(jid, timeout=60)[hosts[name].name][0]
                self.assertEqual([record.get(field) for field in (
                    "status", "rtc", "timed_out", "killed", "survivors")], [FAILED, 124, True, True, 0], record)
                self.assertIn("session", record["killed_by"])
                wait_until(lambda: not left(sshd, numbers[name]), 2, "all are gone")

            # A few at once: all these hosts are one machine, whose processes each kill has to look through.
            for first in range(0, len(names), 6):
                jids = {name: start(name) for name in names[first:first + 6]}
                for name, jid in jids.items():
                    with self.subTest(command=name):
                        try:
                            check(name, jid)
                        finally:
                            put_away(lambda key=name: left(sshd, numbers[key]))

    def test_one_without_a_trace_is_told_as_possible(self):
        """It has no environment, no parent, a session of its own, and gave its output back."""
        with Sshd(1) as sshd:
            path = sshd.write("more.ini", sshd.inventory_text() + "here ansible_connection=local\n")
            with Exed(sshd, {"inventory": {"path": path}}) as exed:
                for name, number in (("web01", "31415926"), ("here", "31415927")):
                    try:
                        record = one(exed, name, "(env -i setsid sleep %s >/dev/null 2>&1 </dev/null &) ; sleep 600"
                                     % number, timeout=1.5)
                        self.assertEqual([record.get(field) for field in (
                            "status", "rtc", "killed", "survivors")], [FAILED, 124, True, 0], record)
                        self.assertGreaterEqual(record["survivors_unknown"], 1, record)
                        self.assertEqual(len(with_marker(number, environ=False)), 1)
                    finally:
                        put_away(lambda key=number: with_marker(key, environ=False))

    def test_a_command_that_ended_in_time_is_not_killed_for_its_children(self):
        for cmd in ("sleep 300301 & echo x", "yes & exit 0"):
            with self.subTest(cmd=cmd), Sshd(1) as sshd:
                path = sshd.write("more.ini", sshd.inventory_text() + "here ansible_connection=local\n")
                with Exed(sshd, {"inventory": {"path": path}}) as exed:
                    records = exed.records(exed.execute(["all"], "EXED_TEST_MARK=%s; export EXED_TEST_MARK; %s"
                                                        % (sshd.marker, cmd), timeout=1))
                    end_pids(sshd.running())
                for name in ("web01", "here"):
                    record = records[name][0]
                    self.assertEqual([record.get(field) for field in (
                        "status", "rtc", "output_open", "timed_out", "killed")],
                                     [CHANGED, 0, True, None, None], record)

    def test_what_it_said_before_its_limit_is_kept(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            record = one(exed, "web01", "echo out; echo err >&2; sleep 300300", timeout=1)
            self.assertEqual((record["stdout"], record["stderr"]), ("out\n", "err\n"))
            record = one(exed, "web01", "while :; do echo 0123456789; done", timeout=1)
            self.assertIs(record["truncated"], True)
            self.assertEqual(record["stdout"], ("0123456789\n" * 100000)[:1024 * 1024])
            self.assertEqual((record["timed_out"], record["survivors"]), (True, 0))

    def test_the_limit_of_the_configuration(self):
        with Sshd(1) as sshd, Exed(sshd, {"ssh": {"command_timeout": "execute 1s"}}) as exed:
            self.assertIs(one(exed, "web01", "sleep 300300").get("timed_out"), True)
            self.assertEqual(one(exed, "web01", "sleep 2; echo x", timeout="30s")["stdout"], "x\n")

    def test_the_connection_serves_on_after_a_kill(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            jids = [exed.execute(["web01"], "sleep 300300", timeout=1), exed.execute(["web01"], "sleep 2; echo x")]
            self.assertIs(exed.records(jids[0])["web01"][0]["timed_out"], True)
            record = exed.records(jids[1])["web01"][0]
            self.assertEqual((record["status"], record["stdout"]), (CHANGED, "x\n"), record)
            self.assertEqual(one(exed, "web01", "echo y")["stdout"], "y\n")

    def test_a_kill_touches_no_other_command_of_the_host(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            jids = [exed.execute(["web01"], "sleep 3; echo alive") for _ in range(3)]
            self.assertEqual(one(exed, "web01", "sleep 300300 & sleep 300300", timeout=1)["survivors"], 0)
            for jid in jids:
                self.assertEqual(exed.records(jid)["web01"][0]["stdout"], "alive\n")

    def test_a_raw_host_says_that_nothing_was_verified(self):
        with Sshd(1) as sshd:
            with open(sshd.inventory, encoding="utf-8") as f:
                path = sshd.write("raw.ini", f.read().replace("web01 ", "web01 exed_shell=raw "))
            with Exed(sshd, {"inventory": {"path": path}}) as exed:
                record = one(exed, "web01", "sleep 31", timeout=1)
            self.assertEqual((record["status"], record["rtc"], record["timed_out"]), (FAILED, 124, True))
            self.assertEqual((record["killed"], record["killed_by"]), (False, "closed, not verified"), record)
            self.assertNotIn("survivors", record)

    def test_a_host_that_cannot_be_asked_any_more(self):
        """The kill's script does not run there; the record comes within its limit and does not say 0."""
        with Sshd(1) as sshd, Exed(sshd) as exed:
            jid = exed.execute(["web01"], "echo x; sleep 300300", timeout=2)
            wait_until(lambda: sshd.running("300300"), 10, "it runs")
            daemons = [pid for pid in sshd.sessions() + [child.pid for child in sshd.children.values()]
                       if "sshd" in command_line(pid)]
            for pid in daemons:
                os.kill(pid, signal.SIGSTOP)  # the connection is there, and nothing answers
            began = time.monotonic()
            record = exed.records(jid, timeout=60)["web01"][0]
            self.assertLess(time.monotonic() - began, 30)
            for pid in daemons:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual([record.get(field) for field in ("status", "timed_out", "killed", "killed_by", "survivors")],
                             [FAILED, True, False, "not verified", None], record)
            end_pids(sshd.running("300300"))

    def test_local_commands(self):
        numbers = {name: str(700000 + os.getpid() % 10000 * 30 + n) for n, name in enumerate(NASTY)}
        with Sshd(1) as sshd:
            path = sshd.write("local.ini", "here ansible_connection=local\n")
            with Exed(sshd, {"inventory": {"path": path}}) as exed:
                odd = odd_sleep(sshd)
                for name, cmd in NASTY.items():
                    def find(number=numbers[name]):
                        return with_marker(number, environ=False)

                    with self.subTest(command=name):
                        try:
                            record = one(exed, "here", odd + cmd.replace("@", numbers[name]), timeout=0.7)
                            self.assertEqual([record.get(field) for field in (
                                "status", "rtc", "timed_out", "survivors")], [FAILED, 124, True, 0], record)
                            wait_until(lambda gone=find: not gone(), 2, "all are gone")
                        finally:
                            put_away(find)


class Cancel(unittest.TestCase):
    def test_running_hosts_are_killed_and_the_others_are_skipped(self):
        with Sshd(6) as sshd, Exed(sshd) as exed:
            jid = exed.execute(["all"], "echo x >>$EXED_TEST_DIR/ran; sleep 300300", window=2)
            wait_until(lambda: sum(bool(host.read("ran")) for host in sshd.hosts) == 2, 10, "two run")
            answer = exed.post("/jobs/%s/cancel" % jid)
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(answer.body["jid"], jid)
            records = exed.records(jid)
            self.assertEqual(sorted(records), sorted(sshd.host))
            for name, host in sshd.host.items():
                self.assertEqual(len(records[name]), 1)
                record = records[name][0]
                if host.read("ran"):
                    self.assertEqual((record["status"], record.get("cancelled")), (FAILED, True), record)
                    self.assertEqual(record["survivors"], 0, record)
                else:
                    self.assertEqual(record["status"], SKIPPED, record)
                    self.assertNotIn("rtc", record)
            job = exed.job(jid)
            self.assertEqual((job["state"], job["error"]), (2, "cancelled"))
            self.assertEqual(sshd.running("300300"), [])
            self.assertEqual(sum(host.read("ran") == "x\n" for host in sshd.hosts), 2)

    def test_a_cancel_while_hosts_are_connected_to(self):
        rules = {"sim%04d" % n: "hang" for n in range(1, 31)}
        with Fleet(60, rules) as fleet, Exed(fleet, {"ssh": {"connect_timeout": "60s"}}) as exed:
            jid = exed.execute(["all"], "sleep 30")
            wait_until(lambda: fleet.stats()["execs_now"] == 30, 15, "the good ones run")
            self.assertEqual(exed.post("/jobs/%s/cancel" % jid).status, 200)
            records = exed.records(jid)
            self.assertEqual(len(records), 60)
            for name in fleet.names:
                record = records[name][0]
                if name in rules:
                    self.assertEqual(record["status"], SKIPPED, record)
                else:
                    self.assertEqual((record["status"], record.get("cancelled")), (FAILED, True), record)
            self.assertEqual(exed.job(jid)["state"], 2)
            wait_until(lambda: fleet.stats()["connections_now"] <= 30, 5, "no connection to the others stays")
            self.assertEqual(fleet.stats()["execs_now"], 0)

    def test_what_cannot_be_cancelled(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            jid = exed.execute(["web01"], "true")
            exed.wait_job(jid)
            self.assertEqual(exed.post("/jobs/%s/cancel" % jid).status, 409)
            unknown = "00000000-0000-4000-8000-000000000000"
            self.assertEqual(exed.post("/jobs/%s/cancel" % unknown).status, 404)

    def test_the_hosts_are_free_for_the_next_job(self):
        with Sshd(2) as sshd, Exed(sshd, {"ssh": {"window": 2}}) as exed:
            jid = exed.execute(["all"], "sleep 300300")
            wait_until(lambda: len(sshd.running("300300")) >= 2, 10, "both run")
            exed.post("/jobs/%s/cancel" % jid)
            self.assertEqual(one(exed, "web01", "echo next")["stdout"], "next\n")
            self.assertEqual(exed.wait_job(jid)["state"], 2)

    def test_a_cancel_asked_twice_and_a_deleted_job(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            jid = exed.execute(["web01"], "sleep 300300")
            wait_until(lambda: sshd.running("300300"), 10, "it runs")
            self.assertEqual(exed.delete("/jobs/" + jid).status, 400)
            self.assertEqual(exed.post("/jobs/%s/cancel" % jid).status, 200)
            self.assertIn(exed.post("/jobs/%s/cancel" % jid).status, (200, 409))
            self.assertEqual(exed.wait_job(jid)["state"], 2)
            self.assertEqual(exed.delete("/jobs/" + jid).status, 204)
            self.assertEqual(exed.get("/jobs/" + jid).status, 404)


if __name__ == "__main__":
    unittest.main()
