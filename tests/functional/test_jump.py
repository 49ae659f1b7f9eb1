# SPDX-License-Identifier: MIT
"""Jump hosts: others are reached through them and only so, over one connection; both ends' keys are checked;
what breaks on the way is said with the jump host's name. The logs of the sshds tell who was asked what."""

import hashlib
import os
import socket
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

OK, FAILED, UNREACHABLE, CHANGED = 1, 3, 4, 5
THREADS = 2


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def only_key(sshd, kind):
    """The sshd takes only this one of the keys. Before its start."""
    path = sshd.write("only", read(sshd.keys[kind] + ".pub"), 0o600)
    sshd.options.append("AuthorizedKeysFile " + path)


class Site:
    """Gates g01, g02 (each an sshd of its own, ECDSA key) and targets web01.. (Ed25519 key)."""

    def __init__(self, case, targets=3, gate_options=(), gates=1, known="both", conf=None):
        self.gate = Sshd(gates, options=["LogLevel DEBUG1", *gate_options], per_process=1, name="g")
        case.addCleanup(self.gate.stop)
        only_key(self.gate, "ecdsa")
        self.web = Sshd(targets, first="127.0.3.1")
        case.addCleanup(self.web.stop)
        only_key(self.web, "ed25519")
        files = {"gate": [self.gate], "web": [self.web], "both": [self.gate, self.web]}[known]
        self.known = self.web.write("all_known", "".join(read(s.known_hosts) for s in files))
        self.keys = [self.gate.keys["ecdsa"], self.web.keys["ed25519"]]
        self.case, self.conf, self.more = case, conf or {}, ""

    def start(self, jump="exed_jump=g01", more=""):
        """jump goes to the variables of all targets; more: further lines of the inventory."""
        self.gate.start()
        self.web.start()
        text = self.gate.inventory_text(self.gate.keys["ecdsa"]) + self.web.inventory_text()
        path = self.web.write("site.ini", text + "[web:vars]\n%s\n%s" % (jump, more))
        conf = {"inventory": {"path": path}, "runtime": {"io_threads": THREADS},
                "ssh": {"known_hosts": self.known, "key": self.web.key}}
        for section, keys in self.conf.items():
            conf.setdefault(section, {}).update(keys)
        self.exed = Exed(self.web, conf=conf)
        self.case.addCleanup(self.exed.stop)
        self.exed.start()
        return self

    def run(self, targets, command="echo $EXED_TEST_HOST", limit=60, **fields):
        records = self.exed.records(self.exed.execute(targets, command, **fields), timeout=limit)
        return {name: found[0] for name, found in records.items()}

    def logins(self):
        return self.gate.log().count("Accepted publickey")

    def opens(self):
        return self.gate.log().count("server_request_direct_tcpip: originator")


class Through(unittest.TestCase):
    def test_many_hosts_through_one_jump_host_need_one_login_there_on_each_thread(self):
        site = Site(self, 20, conf={"ssh": {"max_connections": 12, "max_sessions": 2}}).start()
        records = site.run(["web"])
        self.assertEqual(len(records), 20)
        for name, record in records.items():
            self.assertEqual((record["status"], record["stdout"]), (CHANGED, name + "\n"), record)
        self.assertLessEqual(site.logins(), THREADS, site.gate.log())
        self.assertEqual(site.opens(), 20)
        for host in site.web.hosts:
            self.assertIn("target %s port %d" % (host.address, host.port), site.gate.log())

    def test_what_is_warm_is_used_again(self):
        site = Site(self, 4).start()
        site.run(["web"])
        logins, opens = site.logins(), site.opens()
        records = site.run(["web"])
        self.assertEqual({r["status"] for r in records.values()}, {CHANGED})
        self.assertEqual((site.logins(), site.opens()), (logins, opens))

    def test_bytes_are_the_same_at_both_ends(self):
        site = Site(self, 4).start()
        data = "0123456789abcde\n" * 1800
        for record in site.run(["web"], "sha256sum <<'END'\n%sEND\n" % data).values():
            self.assertEqual(record["stdout"].split()[0],
                             hashlib.sha256(data.encode()).hexdigest(), record)
        n = 900000
        for record in site.run(["web"], "yes 0123456 | head -c %d" % n).values():
            self.assertEqual(record["stdout"], "0123456\n" * (n // 8))

    def test_options_for_ssh_name_the_jump_host_as_well(self):
        for form in ("-J g01", "-o ProxyJump=g01", "-oProxyJump=g01", "-o 'ProxyJump g01' -o Foo=bar",
                     "-J %s@%s:%d"):
            with self.subTest(form=form):
                site = Site(self, 2)
                gate = site.gate.hosts[0]
                if "%s" in form:
                    form = form % (site.gate.user, gate.address, gate.port)
                    site.conf = {"ssh": {"key": site.keys}}
                site.start("ansible_ssh_common_args=\"%s\"" % form)
                records = site.run(["web"])
                self.assertEqual({r["status"] for r in records.values()}, {CHANGED}, records)
                self.assertEqual(site.opens(), 2)
                if "Foo" in form:
                    self.assertRegex(site.exed.log(), r"site.ini:\d+: ansible_ssh_common_args: not understood, "
                                                      "and left out: -o Foo=bar")

    def test_two_jump_hosts_one_behind_the_other(self):
        for jump, more in (("exed_jump=g01,g02", ""), ("exed_jump=g02", "[g]\ng02 exed_jump=g01\n")):
            with self.subTest(jump=jump):
                site = Site(self, 3, gates=2).start(jump, more)
                records = site.run(["web"])
                self.assertEqual({r["status"] for r in records.values()}, {CHANGED}, records)
                first, second = (site.gate.children[i].output(1 << 20) for i in (0, 1))
                self.assertIn("target %s port" % site.gate.hosts[1].address, first)
                self.assertNotIn("target 127.0.3.", first)
                self.assertEqual(second.count("target 127.0.3."), 3)

    def test_a_host_is_not_its_own_jump_host(self):
        site = Site(self, 1).start(more="[all:vars]\nexed_jump=g01\n")
        records = site.run(["all"])
        self.assertEqual({r["status"] for r in records.values()}, {CHANGED}, records)
        self.assertEqual(site.opens(), 1)

    def test_a_time_limit_ends_what_runs_behind_a_jump_host(self):
        site = Site(self, 2).start()
        for record in site.run(["web"], "sleep 4711.5", timeout=1).values():
            self.assertEqual([record.get(key) for key in ("status", "timed_out", "killed", "survivors")],
                             [FAILED, True, True, 0], record)
        self.assertEqual(site.web.running("4711.5"), [])

    def test_the_connection_to_the_jump_host_goes_when_nobody_needs_it(self):
        site = Site(self, 3, conf={"ssh": {"keep": "1s"}}).start()
        site.run(["web"])
        self.assertGreater(len(site.gate.sessions()), 0)
        wait_until(lambda: not site.web.sessions() and not site.gate.sessions(), 10 * SLOW, "all are closed")
        self.assertEqual({r["status"] for r in site.run(["web"]).values()}, {CHANGED})


class Broken(unittest.TestCase):
    def one(self, site, name="web01", **fields):
        record = site.run([name], **fields)[name]
        self.assertEqual(record["status"], UNREACHABLE, record)
        return record["error"]

    def test_a_jump_host_that_forwards_nothing(self):
        site = Site(self, 1, ["PermitOpen none"]).start()
        self.assertRegex(self.one(site), "jump host g01: refuses to connect to 127.0.3.1 port .*(prohibited|failed)")
        self.assertEqual(site.run(["g01"])["g01"]["status"], CHANGED)

    def test_a_target_that_is_down_is_said_by_the_jump_host_and_others_go_on(self):
        site = Site(self, 3).start(more="[web]\ndown ansible_host=127.0.3.1 ansible_port=1\n")
        records = site.run(["web"])
        self.assertRegex(records.pop("down")["error"],
                         "jump host g01: cannot connect to 127.0.3.1 port 1: .*(refused|failed)")
        self.assertEqual({r["status"] for r in records.values()}, {CHANGED}, records)

    def test_the_keys_of_both_hosts_are_checked(self):
        site = Site(self, 1, known="web").start()
        self.assertRegex(self.one(site), r"jump host g01: .*127\.0\.1\.1.*")
        self.assertEqual(site.logins(), 0)
        site = Site(self, 1, known="gate").start()
        text = self.one(site)
        self.assertIn("127.0.3.1", text)
        self.assertNotIn("jump host", text)
        self.assertEqual(site.web.log().count("Accepted"), 0)

    def test_a_login_that_the_jump_host_refuses(self):
        site = Site(self, 1)
        site.start("exed_jump=%s@%s:%d" % (site.gate.user, site.gate.hosts[0].address, site.gate.port))
        self.assertRegex(self.one(site), "jump host 127.0.1.1: login refused for user .*id_ed25519")

    def test_a_jump_host_that_is_down(self):
        site = Site(self, 2).start()
        site.gate.stop_host("g01")
        for record in site.run(["web"]).values():
            self.assertEqual(record["status"], UNREACHABLE)
            self.assertRegex(record["error"], "jump host g01: connection refused")

    def test_a_jump_host_that_goes_takes_all_that_runs_through_it(self):
        site = Site(self, 4).start()
        jid = site.exed.execute(["web"], "echo here; sleep 300")
        wait_until(lambda: len(site.web.running("sleep 300")) >= 4, 20 * SLOW, "all run")
        site.gate.stop_host("g01")
        for name, found in site.exed.records(jid, timeout=60).items():
            self.assertIn("jump host g01: connection lost", str(found[-1]), name)
        site.gate.start_host("g01")
        records = site.run(["web"])
        self.assertEqual({r["status"] for r in records.values()}, {CHANGED}, records)

    def test_targets_that_do_not_answer_hold_up_no_others(self):
        """Connections to a socket whose queue is full get no answer at all."""
        with socket.socket() as deaf:
            deaf.bind(("127.0.3.99", 0))
            deaf.listen(0)
            port = deaf.getsockname()[1]
            fill = []
            for _ in range(4):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(("127.0.3.99", port))
                fill.append(s)
                self.addCleanup(s.close)
            lines = ["a_deaf%d ansible_host=127.0.3.99 ansible_port=%d" % (i, port) for i in range(4)]
            site = Site(self, 6, conf={"ssh": {"connect_timeout": "6s"}})
            site.start(more="[web]\n%s\n" % "\n".join(lines))
            deaf_names = ["a_deaf%d" % i for i in range(4)]
            jid = site.exed.execute(deaf_names, "true")
            wait_until(lambda: site.opens() >= 1, 10 * SLOW, "the jump host is asked for them")
            began = time.monotonic()
            names = [host.name for host in site.web.hosts]
            records = site.run(names)
            self.assertLess(time.monotonic() - began, 5 * SLOW)
            self.assertEqual({r["status"] for r in records.values()}, {CHANGED}, records)
            for name, found in site.exed.records(jid, timeout=60).items():
                self.assertEqual(found[0]["status"], UNREACHABLE, name)
                self.assertRegex(found[0]["error"], "jump host g01")
            self.assertEqual({r["status"] for r in site.run(names).values()}, {CHANGED})

    def test_jump_hosts_in_a_circle_are_refused(self):
        site = Site(self, 2, gates=2).start(more="[g]\ng01 exed_jump=g02\ng02 exed_jump=g01\n")
        self.assertIn("jump hosts go in a circle", self.one(site))
        self.assertEqual(site.logins(), 0)
        self.assertRegex(site.exed.log(), r"site.ini:\d+: .*the jump hosts go in a circle")


if __name__ == "__main__":
    unittest.main()
