# SPDX-License-Identifier: MIT
"""Hosts that mean harm: each does one thing that no SSH server does. What it costs is its own record, within
its limits; hosts that are asked in the same job end as they always do, and memory stays bounded."""

import os
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support")]

from exedtest import Exed, Fleet  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

CHANGED, FAILED, UNREACHABLE = 5, 3, 4
GOOD = 10
CONNECT_S, COMMAND_S = 3, 4
# A kill asks the host, which has 10 s to answer; then nothing is known.
KILL_S = 11
LATER_S = 2  # so much later than usual a good host may end

FLOODS = "floods the connection with what nobody asked for"
PROTOCOL = "failed during the handshake: the host does not keep to the protocol"

# What a host does, its status, what its error says (None: nothing), and what is true in its record.
BEFORE_LOGIN = [
    ("flood", UNREACHABLE, "the host sent too much before its banner"),
    ("floodline", UNREACHABLE, "the host sent too much before its banner"),
    ("hang", UNREACHABLE, "silent before its banner for 3 s"),
    ("drip:0.5", UNREACHABLE, "timed out in handshake after 3 s"),
    ("drip:0.02", UNREACHABLE, PROTOCOL),
    ("ssh1", UNREACHABLE, "the host speaks only SSH-1"),
    ("nobanner", UNREACHABLE, r'no SSH server: it sent "220 mail.example ESMTP \?\[2J" and no banner within 3 s'),
    ("longbanner", UNREACHABLE, "the host sent too much before its banner"),
    ("bigpacket", UNREACHABLE, PROTOCOL),
    ("smallpacket", UNREACHABLE, PROTOCOL),
    ("garbage", UNREACHABLE, PROTOCOL),
    ("silentkex", UNREACHABLE, "timed out in handshake after 3 s"),
    ("ignores", UNREACHABLE, "the host sent too much before the end of the handshake"),
    ("closekex", UNREACHABLE, "the host closed the connection during the handshake"),
    ("badpoint", UNREACHABLE, r"Unable to exchange encryption keys \(-8\)"),
    ("reset", UNREACHABLE, "reset"),
    ("close", UNREACHABLE, "closed the connection before its banner"),
]
AT_LOGIN = [
    ("wrongkey", UNREACHABLE, "host key changed"),
    ("hangauth", UNREACHABLE, "timed out in login after 3 s"),
    ("closeauth", UNREACHABLE, "during login"),
    ("banners", UNREACHABLE, "the host sent too much before the end of the login"),
    ("morelogin", UNREACHABLE, "login refused"),
    ("goodbye", UNREACHABLE, "login"),
]
AFTER_LOGIN = [
    ("hangopen", UNREACHABLE, "the host opened no channel within 3 s"),
    ("refuseall", UNREACHABLE, "administratively prohibited"),
    ("globals", UNREACHABLE, FLOODS),
    ("opens", UNREACHABLE, FLOODS),
    ("unasked", UNREACHABLE, FLOODS),
    ("unasked:1", UNREACHABLE, FLOODS),
    ("closeexec", FAILED, "closed|ended|without an exit status"),
    ("hangexec", FAILED, None, "timed_out"),
    ("window0", FAILED, None, "timed_out"),
    ("never", FAILED, None, "timed_out"),
]
WHILE_RUNNING = [
    # Under a sanitizer the command's time may be over before there have been enough of them.
    ("rekeys", FAILED, "begins one key exchange after the other", "unknown") if SLOW == 1 else ("rekeys", FAILED, None),
    ("huge", FAILED, None, "timed_out", "truncated"),
    ("hugeerr", FAILED, None, "timed_out", "truncated"),
    ("overflow", FAILED, None, "timed_out", "truncated"),
    ("tiny", FAILED, None, "timed_out"),
    ("statuses", FAILED, None),
    ("cut", FAILED, "connection lost while running"),
    ("noexit", FAILED, "without an exit status"),
    ("afterclose", CHANGED, None),
    ("hurries", CHANGED, None),
    ("farewell", CHANGED, None),
    ("leaves:3", FAILED, None),
    ("leaves:2", FAILED, "the host ended the connection while running", "unknown"),
]
# Of the time that the simulator and the test itself may take from two cores under a sanitizer.
COMMAND = "sleep 0.5; echo hello"


class Hostile(unittest.TestCase):
    def setUp(self):
        self.fleet = self.enter(Fleet(GOOD + 20))
        self.good, self.bad = self.fleet.names[:GOOD], self.fleet.names[GOOD:]
        self.exed = self.enter(Exed(self.fleet, {"ssh": {"connect_timeout": "%ds" % CONNECT_S, "keep": "0"}}))

    def enter(self, fixture):
        fixture.__enter__()
        self.addCleanup(fixture.__exit__, None, None, None)
        return fixture

    def run_on(self, hosts, **options):
        """Runs the command; {host: (seconds until its record was there, record)}."""
        start, found = time.monotonic(), {}
        jid = self.exed.execute(hosts, COMMAND, timeout=COMMAND_S, **options)
        for line in self.exed.follow(jid, timeout=90):
            for host, record in line.items():
                if host in hosts:
                    self.assertNotIn(host, found)
                    found[host] = (time.monotonic() - start, record)
        self.assertEqual(sorted(found), sorted(hosts))
        return found

    def check(self, cases):
        names = dict(zip(self.bad, cases))
        usual = max(seconds for seconds, _ in self.run_on(self.good).values())
        memory, cpu = self.exed.peak_rss_kb(), self.exed.cpu_s()
        self.fleet.rule(*["%s=%s" % (name, case[0]) for name, case in names.items()])
        found = self.run_on([name for pair in zip(self.good, names) for name in pair] +
                            self.good[len(names):] + list(names)[len(self.good):])
        slowest = max(found[name][0] for name in self.good)
        print("%d hostile hosts: good ones %.2f s, usually %.2f s; peak memory %d MB more, %.1f s of CPU" % (
            len(names), slowest, usual, (self.exed.peak_rss_kb() - memory) // 1024, self.exed.cpu_s() - cpu))
        self.assertLess(slowest, usual + LATER_S * SLOW)
        if SLOW == 1:  # a sanitizer keeps freed memory
            self.assertLess(self.exed.peak_rss_kb() - memory, 48 * 1024)
        for name in self.good:
            self.assertEqual((found[name][1]["status"], found[name][1]["stdout"]), (CHANGED, "hello\n"))
        for name, (behaviour, status, error, *true) in names.items():
            with self.subTest(behaviour):
                seconds, record = found[name]
                self.assertEqual(record["status"], status, record)
                if error:
                    self.assertRegex(record["error"], error)
                for field in true:
                    self.assertIs(record.get(field), True, record)
                limit = CONNECT_S + COMMAND_S + KILL_S
                self.assertLess(seconds, (limit + LATER_S) * SLOW)
                self.assertNotRegex(record.get("error", ""), r"[\x00-\x1f\x7f]")
        return found

    def test_before_the_login(self):
        self.check(BEFORE_LOGIN)
        self.assertEqual(set(self.fleet.stats()["address_logins"]),
                         {self.fleet.address[name] for name in self.good})

    def test_at_the_login(self):
        self.check(AT_LOGIN)

    def test_after_the_login(self):
        self.check(AFTER_LOGIN)

    def test_while_a_command_runs(self):
        found = self.check(WHILE_RUNNING)
        # What came with the close and the end of the connection, in one segment, is whole.
        for name in ("hurries", "farewell"):
            record = found[self.bad[[case[0] for case in WHILE_RUNNING].index(name)]][1]
            self.assertEqual((record["rtc"], record["stdout"], record["stderr"]),
                             (0, 1500 * "all work and no play\n", "error\n"), name)

    def test_ten_of_all_sorts_among_ten_good_ones(self):
        self.check([BEFORE_LOGIN[0], BEFORE_LOGIN[2], BEFORE_LOGIN[3], BEFORE_LOGIN[8], AT_LOGIN[0],
                    AT_LOGIN[3], AFTER_LOGIN[2], AFTER_LOGIN[8], WHILE_RUNNING[0], WHILE_RUNNING[3]])


class HostKeys(unittest.TestCase):
    """No byte of a login goes to a host whose key is not the known one."""

    def test_no_login_where_the_key_is_another_or_known_for_another_port(self):
        with Fleet(6, {"sim0002": "wrongkey"}) as fleet:
            known = fleet.write("known", self.lines(fleet))
            with Exed(fleet, {"ssh": {"known_hosts": known, "agent": "none"}}) as exed:
                records = exed.records(exed.execute(["all"], "true"))
            asked = fleet.stats()["address_logins"]
        self.assertEqual({name: records[name][0]["status"] for name in fleet.names},
                         dict.fromkeys(fleet.names, UNREACHABLE) | {"sim0001": CHANGED})
        self.assertEqual(list(asked), [fleet.address["sim0001"]])
        for name, error in [("sim0002", "host key changed"), ("sim0003", "host key unknown"),
                            ("sim0004", "host key unknown"), ("sim0005", "revoked"), ("sim0006", "host key unknown")]:
            with self.subTest(name):
                self.assertRegex(records[name][0]["error"], error)

    @staticmethod
    def lines(fleet):
        """known_hosts with: the key; the key, but the host has another; the key under another port; the key
        under port 22; the key revoked; nothing."""
        with open(fleet.known_hosts, encoding="utf-8") as f:
            keys = [line.split(None, 1)[1] for line in f if line.strip()]
        names = ["[%s]:%d" % (fleet.address[name], fleet.port) for name in fleet.names]
        patterns = [names[0], names[1], "[%s]:%d" % (fleet.address["sim0003"], fleet.port % 65535 + 1),
                    fleet.address["sim0004"], "@revoked " + names[4]]
        return "".join("%s %s" % (pattern, key) for pattern in patterns for key in keys)


if __name__ == "__main__":
    unittest.main()
