# SPDX-License-Identifier: MIT
"""Jobs on many simulated hosts, some of which are bad: a record for each, the bad ones named, windows."""

import collections
import json
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import Exed, Fleet, wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

CONNECT = 2 * SLOW  # seconds
SPARE = 30 * SLOW  # seconds that everything else may take on a busy machine


def states(records):
    """How many records have each status."""
    return collections.Counter(record["status"] for record in records.values())


class Thousand(unittest.TestCase):
    """1,000 hosts, of which ten never answer and ten refuse."""

    @classmethod
    def setUpClass(cls):
        cls.bad = {"sim%04d" % i: "hang" if i % 100 else "refuse" for i in range(50, 1001, 50)}
        cls.fleet = Fleet(1000, cls.bad).start()
        cls.exed = Exed(cls.fleet, {"ssh": {"connect_timeout": CONNECT, "agent": "none"}}).start()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.exed.stop()
        finally:
            cls.fleet.stop()

    def setUp(self):
        self.fleet.reset()

    def check(self, records, stdout):
        self.assertEqual(sorted(records), self.fleet.names)
        self.assertEqual(states(records), {5: 980, 4: 20})
        for host, record in records.items():
            what = self.bad.get(host)
            if what == "hang":
                self.assertEqual(record, {"status": 4, "error": "silent before its banner for %d s" % CONNECT})
            elif what == "refuse":
                self.assertRegex(record["error"], r"^connection refused \(%s:\d+\)$"
                                 % self.fleet.address[host].replace(".", r"\."))
            else:
                self.assertEqual((record["rtc"], record["stdout"]), (0, stdout))

    def test_simulated_hosts_know_the_fence(self):
        hosts = [name for name in self.fleet.names if name not in self.bad][:20]
        job = self.exed.wait_job(self.exed.execute(hosts, "echo hello", fence=True))
        self.assertEqual({(record[0]["status"], record[0].get("stdout")) for record in job["return_data"].values()},
                         {(5, "hello\n")})

    def test_a_record_for_each_within_the_slowest_limit_and_what_the_rest_needs(self):
        start = time.monotonic()
        jid = self.exed.execute(["all"], "echo hello")
        records = {host: rows for host, rows in self.exed.records(jid, 60).items()}
        self.assertLess(time.monotonic() - start, CONNECT + SPARE)
        self.assertEqual({len(rows) for rows in records.values()}, {1})
        self.check({host: rows[0] for host, rows in records.items()}, "hello\n")
        job = self.exed.job(jid)
        self.assertEqual((job["state"], len(job["targets"])), (2, 1000))
        self.assertIn("20 of 1000", job["error"])
        self.check({host: rows[0] for host, rows in job["return_data"].items()}, "hello\n")
        ops = self.fleet.stats()["ops"]
        self.assertEqual((len(ops), set(ops.values())), (980, {1}))

    def test_a_sync_get_of_all(self):
        answer = self.exed.get("/execute?target=all&cmd=echo+sync", timeout=60)
        self.assertEqual(answer.status, 200)
        self.check(answer.body, "sync\n")

    def test_a_ping_of_all_runs_nothing(self):
        records = self.exed.get("/ping?target=sim*", timeout=60).body
        self.assertEqual(states(records), {1: 980, 4: 20})
        self.assertEqual(self.fleet.stats()["execs"], 0)

    def test_unknown_names_among_thousands(self):
        unknown = ["nosuch%04d" % i for i in range(2500)]
        jid = self.exed.execute(unknown[:1250] + ["sim0[100:149]"] + unknown[1250:], "true")
        job = self.exed.wait_job(jid)
        self.assertEqual(len(job["targets"]), 2550)
        found = states({host: rows[0] for host, rows in job["return_data"].items()})
        self.assertEqual(found, {-1: 2500, 5: 49, 4: 1})
        self.assertIn("2501 of 2550", job["error"])

    def test_a_request_s_window_holds_over_all_slices(self):
        self.exed.wait_job(self.exed.execute(["sim0[101:149]"], "true"))  # the connections are there
        for last, window in ((120, 1), (149, 5), (849, 40)):
            self.fleet.reset()
            jid = self.exed.execute(["sim0[101:%d]" % last], "sleep 0.05", window=window)
            self.assertEqual(len(self.exed.records(jid, 60)), last - 100)
            peak = self.fleet.stats(True)["execs_peak"]
            self.assertTrue(window / 2 <= peak <= window, "%d at once, window %d" % (peak, window))

    def test_cancel_skips_what_has_not_started(self):
        jid = self.exed.execute(["sim0[501:549]", "sim0[551:599]", "sim0[601:649]"], "sleep 300", window=4)
        wait_until(lambda: self.fleet.stats(True)["execs_now"] == 4, 10, "the window is full")
        self.exed.post("/jobs/%s/cancel" % jid)
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["error"]), (2, "cancelled"))
        records = {host: rows[0] for host, rows in job["return_data"].items()}
        self.assertEqual(states(records), {2: 143, 3: 4})
        stats = self.fleet.stats()
        self.assertEqual((len(stats["ops"]), stats["execs_now"]), (4, 0))

    def test_jobs_have_a_window_each(self):
        jids = [self.exed.execute(["sim0[%d01:%d49]" % (i, i)], "sleep 0.1", window=3) for i in (1, 2, 3)]
        for jid in jids:
            self.assertEqual(self.exed.wait_job(jid)["state"], 0)
        self.assertLessEqual(self.fleet.stats(True)["execs_peak"], 9)


class Window(unittest.TestCase):
    def test_the_window_of_the_settings_holds_for_each_job(self):
        with Fleet(600) as fleet, Exed(fleet, {"ssh": {"window": 25, "agent": "none"}}) as exed:
            job = exed.wait_job(exed.execute(["all"], "sleep 0.05"), 60)
            self.assertEqual(job["state"], 0, job["error"])
            stats = fleet.stats(True)
            self.assertEqual(stats["execs"], 600)
            self.assertTrue(12 <= stats["execs_peak"] <= 25, stats["execs_peak"])
            fleet.reset()
            exed.records(exed.execute(["all"], "sleep 0.01", window=60), 60)
            self.assertLessEqual(fleet.stats(True)["execs_peak"], 60)


# What a host does -> status and a pattern for the reason.
BEHAVIOURS = {
    "hang": (4, "^silent before its banner for %d s$" % CONNECT),
    "slowbanner:30": (4, "^silent before its banner for %d s$" % CONNECT),
    "refuse": (4, "^connection refused "),
    "reset": (4, "connection reset |reset the connection before its banner"),
    "close": (4, "closed the connection before its banner"),
    "flood": (4, "too much before its banner"),
    "floodline": (4, "too much before its banner"),
    "wrongkey": (4, r"^host key changed: .*known_hosts:\d+ "),
    "hangauth": (4, "^timed out in login after %d s" % CONNECT),
    "closeauth": (4, "closed the connection during login"),
    "denykey": (4, "^login refused for user "),
    "closeexec": (3, "connection lost while running"),
    "cut": (3, "connection lost while running"),
    "noexit": (3, "without an exit status"),
}


class Bad(unittest.TestCase):
    def test_each_bad_host_has_a_record_with_a_reason(self):
        rules = {"sim%04d" % (2 * i + 1): what for i, what in enumerate(BEHAVIOURS)}
        with Fleet(2 * len(rules), rules) as fleet, \
                Exed(fleet, {"ssh": {"connect_timeout": CONNECT, "agent": "none"}}) as exed:
            jid = exed.execute(["all"], "echo hello")
            records = {host: rows[0] for host, rows in exed.wait_job(jid)["return_data"].items()}
            self.assertEqual(sorted(records), fleet.names)
            for host, record in records.items():
                with self.subTest(rules.get(host, "good")):
                    if host not in rules:
                        self.assertEqual((record["status"], record["stdout"]), (5, "hello\n"))
                        continue
                    status, reason = BEHAVIOURS[rules[host]]
                    self.assertEqual(record["status"], status, record)
                    self.assertRegex(record["error"], reason)
                    self.assertEqual("started" in record, status == 3, record)
                    self.assertEqual(record.get("unknown", False), status == 3, record)
            ops = fleet.stats()["ops"]
            self.assertLessEqual(max(ops.values()), 1, json.dumps(ops))

    def test_hosts_that_allow_few_sessions_make_jobs_wait_not_fail(self):
        with Fleet(3, {"sim0001": "sessions:1", "sim0002": "sessions:3"}) as fleet, Exed(fleet) as exed:
            jids = [exed.execute(["all"], "sleep 0.05") for _ in range(20)]
            for jid in jids:
                self.assertEqual(exed.wait_job(jid, 60)["state"], 0)
            self.assertEqual(set(fleet.stats()["ops"].values()), {1})
            self.assertEqual(fleet.stats()["connections_peak"], 3)

    def test_cancel_waits_for_no_connection(self):
        with Fleet(3, {"sim0001": "hang", "sim0002": "hangauth"}) as fleet, \
                Exed(fleet, {"ssh": {"connect_timeout": "200s"}}) as exed:
            jid = exed.execute(["all"], "sleep 300")
            wait_until(lambda: fleet.stats(True)["execs_now"] == 1, 10, "one of them runs it")
            running = exed.get("/jobs/%s?detail=1" % jid).body["running"]
            self.assertEqual({one["host"]: one["phase"] for one in running},
                             {"sim0001": "connect", "sim0002": "login", "sim0003": "running"})
            exed.post("/jobs/%s/cancel" % jid)
            records = {host: rows[0] for host, rows in exed.wait_job(jid)["return_data"].items()}
            self.assertEqual(records["sim0001"], {"status": 2, "error": "cancelled"})
            self.assertEqual(records["sim0002"], {"status": 2, "error": "cancelled"})
            self.assertEqual((records["sim0003"]["status"], records["sim0003"]["cancelled"]), (3, True))
            self.assertEqual(fleet.stats(True)["execs_now"], 0)

    def test_a_host_that_never_answers_the_command_costs_its_limit(self):
        with Fleet(4, {"sim0002": "hangexec"}) as fleet, Exed(fleet) as exed:
            records = exed.get("/execute?target=all&cmd=echo+x&timeout=1", timeout=60).body
            self.assertEqual(states(records), {5: 3, 3: 1})
            self.assertEqual((records["sim0002"]["rtc"], records["sim0002"]["timed_out"]), (124, True))


if __name__ == "__main__":
    unittest.main()
