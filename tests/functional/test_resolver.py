# SPDX-License-Identifier: MIT
"""[runtime] resolver: names of SSH hosts and of Redis are asked of the servers that it names, after /etc/hosts;
what a name server does wrong costs only the hosts that need it, and their records say what it was."""

import os
import socket
import struct
import sys
import threading
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Redis, Sshd, wait_until  # noqa: E402

OK, UNREACHABLE, CHANGED = 1, 4, 5
A, AAAA = 1, 28
NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5


class NameServer:
    """Answers over UDP: names is {name: address, or what goes wrong}; other names are NXDOMAIN."""

    def __init__(self, names, address="127.0.0.1"):
        self.names, self.asked = dict(names), []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.at = "%s:%d" % self.socket.getsockname()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            query, peer = self.socket.recvfrom(4096)
            if not query:
                return
            for answer in self.answers(query):
                self.socket.sendto(answer, peer)

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()

    def answers(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        kind = struct.unpack(">H", query[at + 1:at + 3])[0]
        name, question = ".".join(labels), query[12:at + 5]
        self.asked.append((name, kind))
        what = self.names.get(name, NXDOMAIN)

        def answer(flags, records=(), number=None):
            head = number or query[:2]
            return head + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(
                b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, 4) + socket.inet_aton(r) for r in records)

        if what == "silent":
            return []
        if what == "garbage":
            return [b"\xff" * 5, os.urandom(40), query[:2] + os.urandom(60)]
        if what == "truncated":
            return [answer(0x8380)]
        if what == "cut":
            return [answer(0x8180, ["127.0.0.1"])[:-3]]
        if what == "forged":  # the right answer comes after one for another question
            other = bytes([query[0] ^ 1, query[1]])
            return [answer(0x8180, ["127.9.9.9"], other), answer(0x8180, [self.names["good.test"]])]
        if isinstance(what, int):
            return [answer(0x8180 | what)]
        return [answer(0x8180, [what] if kind == A else [])]


def shut_port():
    """A UDP port of 127.0.0.1 at which nobody is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % s.getsockname()[1]


class Resolver(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(1)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()

    def server(self, names=None, **options):
        host = self.sshd.hosts[0]
        server = NameServer(dict({"good.test": host.address}, **(names or {})), **options)
        self.addCleanup(server.stop)
        return server

    def node(self, names, *servers, timeout="10s"):
        """An exed with hosts h1, h2, ... that have these names for addresses."""
        host = self.sshd.hosts[0]
        lines = ["h%d ansible_host=%s ansible_port=%d ansible_user=%s" % (
            i + 1, name, host.port, self.sshd.user) for i, name in enumerate(names)]
        with open(self.sshd.known_hosts, encoding="utf-8") as f:
            keys = [line.split(" ", 1)[1] for line in f]
        known = self.sshd.write("known_names", "".join(
            "[%s]:%d %s" % (name, host.port, key) for name in names for key in keys))
        exed = Exed(self.sshd, conf={
            "inventory": {"path": self.sshd.write("named.ini", "\n".join(lines) + "\n")},
            "ssh": {"known_hosts": known, "key": self.sshd.key, "connect_timeout": timeout},
            "runtime": {"resolver": list(servers)}})
        self.addCleanup(exed.stop)
        return exed.start()

    def errors(self, exed, count):
        answer = exed.get("/ping?target=all").body
        return [(answer["h%d" % (i + 1)]["status"], answer["h%d" % (i + 1)].get("error"))
                for i in range(count)]

    def test_names_are_asked_of_the_servers_that_are_named(self):
        server = self.server()
        exed = self.node(["good.test"], server.at)
        self.assertEqual(self.errors(exed, 1), [(OK, None)])
        self.assertIn(("good.test", A), server.asked)

    def test_bad_names_and_answers_are_told_apart(self):
        names = {"broken.test": SERVFAIL, "cut.test": "cut", "long.test": "truncated", "v6.test": "silent",
                 "garbage.test": "garbage", "empty.test": 0}
        server = self.server(names)
        asked = ["good.test", "missing.test", "empty.test", "long.test", "garbage.test", "broken.test",
                 "cut.test"]
        exed = self.node(asked, server.at, timeout="20s")
        found = dict(zip(asked, self.errors(exed, len(asked))))
        self.assertEqual(found.pop("good.test"), (OK, None))
        self.assertEqual({status for status, _ in found.values()}, {UNREACHABLE}, found)
        for name, (_, error) in found.items():
            self.assertIn("no address for %s: " % name, error)
        self.assertIn("there is no such name", found["missing.test"][1])
        for name in ("empty.test", "long.test", "garbage.test", "broken.test", "cut.test"):
            self.assertRegex(found[name][1], "name servers", name)

    def test_an_answer_to_another_question_is_not_believed(self):
        server = self.server({"forged.test": "forged"})
        exed = self.node(["forged.test"], server.at)
        self.assertEqual(self.errors(exed, 1), [(OK, None)])

    def test_the_next_server_is_asked_when_one_is_silent_or_gone(self):
        silent, good = self.server({"good.test": "silent"}), self.server(address="127.0.0.2")
        for first in (silent.at, shut_port()):
            exed = self.node(["good.test"], first, good.at, timeout="20s")
            self.assertEqual(self.errors(exed, 1), [(OK, None)], first)
        self.assertIn(("good.test", A), silent.asked + good.asked)

    def test_silence_costs_its_hosts_half_their_time_and_others_nothing(self):
        server = self.server({"slow.test": "silent"})
        exed = self.node(["slow.test", "127.0.1.1"], server.at, timeout="2s")
        slow, fast = self.errors(exed, 2)
        self.assertEqual(fast, (OK, None))
        self.assertEqual(slow[0], UNREACHABLE)
        self.assertRegex(slow[1], "slow.test|name")
        jid = exed.execute("h2", "true")
        self.assertEqual(exed.records(jid)["h2"][0]["status"], CHANGED)

    def test_the_hosts_file_comes_first(self):
        server = self.server({"localhost": "127.9.9.9"})
        host = self.sshd.hosts[0]
        exed = self.node(["localhost"], server.at)
        answer = exed.get("/ping?target=h1").body["h1"]
        # It went to 127.0.0.1, where nothing listens at that port, and asked nobody.
        self.assertIn("127.0.0.1:%d" % host.port, answer["error"])
        self.assertEqual([name for name, _ in server.asked if name == "localhost"], [])

    def test_redis_is_found_by_the_same_servers(self):
        redis = Redis()
        self.addCleanup(redis.stop)
        redis.start()
        server = self.server({"redis.test": "127.0.0.1"})
        exed = Exed(self.sshd, conf={
            "runner": {"redis_url": "redis://redis.test:%d" % redis.port},
            "runtime": {"resolver": [server.at]}})
        self.addCleanup(exed.stop)
        exed.start()
        self.assertIn("redis.test", [name for name, _ in server.asked])
        self.assertEqual(exed.records(exed.execute("web01", "true"))["web01"][0]["status"], CHANGED)

    def test_a_redis_without_a_name_says_so(self):
        server = self.server()
        exed = Exed(self.sshd, conf={"runner": {"redis_url": "redis://nobody.test:6379"},
                                     "runtime": {"resolver": [server.at]}})
        self.addCleanup(exed.stop)
        exed.launch()
        wait_until(lambda: "there is no such name" in exed.log(), 15, "the log says it")
        exed.kill9()

    def test_what_is_no_address_is_refused_at_start(self):
        exed = Exed(self.sshd, conf={"runtime": {"resolver": "dns.example.net"}})
        self.addCleanup(exed.stop)
        code, output = exed.run_to_end()
        self.assertEqual(code, 2)
        self.assertRegex(output, r"exed.conf:\d+: .*resolver.*addresses such as 10.0.0.2")


if __name__ == "__main__":
    unittest.main()
