# SPDX-License-Identifier: MIT
"""Tries the fixtures themselves: `python3 -m exedtest.selftest` in tests/support, or `-v` for names."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from . import Child, Fleet, LeakCheck, Redis, Sshd, alive, children_of, free_port, wait_until
from .exed import Exed

# A stand-in for exed that answers /healthz, follows with two chunks and starts one child.
FAKE = """#!/usr/bin/env python3
import http.server, os, re, signal, subprocess, sys
text = open(sys.argv[2]).read()
port = int(re.search(r"listen = 127.0.0.1:([0-9]+)", text)[1])
state = re.search(r"dir = (.*)", text)[1]
signal.signal(signal.SIGTERM, lambda *a: (child.terminate(), child.wait(), os._exit(CODE)))
child = subprocess.Popen(["sleep", "60"])
LEAK and subprocess.Popen(["sh", "-c", "sleep 60; : " + state], start_new_session=True)
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        if "follow" in self.path:
            self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for part in (b'{"state": 1}\\n{"web', b'01": {"status": 1}}\\n', b""):
                self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(part), part))
        else:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "12"); self.end_headers()
            self.wfile.write(b'{"state": 0}')
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201); self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "13"); self.end_headers()
        self.wfile.write(b'{"jid": "xy"}')
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), H).serve_forever()
"""


def ssh(hosts, address, port, *command, key=None, stdin=None, limit=20, options=()):
    """Runs the ssh client; returns (exit code, stdout, stderr), bytes."""
    words = ["ssh", "-F", "none", "-i", key or hosts.key, "-p", str(port), "-l", hosts.user,
             "-o", "UserKnownHostsFile=" + hosts.known_hosts, "-o", "GlobalKnownHostsFile=/dev/null",
             "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
             "-o", "IdentityAgent=none", "-o", "ConnectTimeout=5", *options, address, *command]
    done = subprocess.run(words, input=stdin or b"", capture_output=True, timeout=limit)
    return done.returncode, done.stdout, done.stderr


class Procs(unittest.TestCase):
    def test_wait_until_fails_with_the_last_error(self):
        with self.assertRaisesRegex(AssertionError, "still not: the moon.*no cheese"):
            def look():
                raise ValueError("no cheese")
            wait_until(look, 0.05, "the moon")

    def test_free_port_can_be_bound(self):
        s = socket.socket()
        s.bind(("127.0.0.1", free_port()))
        s.close()

    def test_leak_check_sees_a_process_and_a_descriptor(self):
        left = None
        with self.assertRaisesRegex(AssertionError, "sleep 30"):
            with LeakCheck(0.1):
                left = subprocess.Popen(["sleep", "30"])
        left.kill()
        left.wait()
        fd = None
        with self.assertRaisesRegex(AssertionError, "descriptors"):
            with LeakCheck(0.1):
                fd = os.open("/dev/null", os.O_RDONLY)
        os.close(fd)
        with LeakCheck(0.1):
            pass

    def test_a_child_dies_with_its_parent(self):
        program = ("import sys, time; sys.path.insert(0, %r)\nfrom exedtest import Child\n"
                   "print(Child(['sleep', '60'], '/dev/null').pid, flush=True); time.sleep(60)"
                   % os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        pid = int(parent.stdout.readline())
        self.assertTrue(alive(pid))
        parent.kill()
        parent.wait()
        parent.stdout.close()
        wait_until(lambda: not alive(pid), 5, "the child ended")

    def test_a_child_that_ignores_term_is_killed_and_named(self):
        with tempfile.NamedTemporaryFile() as log:
            child = Child(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], log.name)
            wait_until(lambda: "ready" in child.output(), 5)
            with self.assertRaisesRegex(AssertionError, "sh did not end"):
                child.end(limit=0.2)
            self.assertFalse(alive(child.pid))


class SshdTest(unittest.TestCase):
    def test_login_per_host_directory_and_cleanup(self):
        with LeakCheck(), Sshd(20) as hosts:
            first, last = hosts.hosts[0], hosts.hosts[-1]
            self.assertEqual((last.name, last.address), ("web20", "127.0.1.20"))
            code, out, err = ssh(hosts, last.address, last.port,
                                 "echo $EXED_TEST_HOST; echo x >>$EXED_TEST_DIR/ran; exit 7")
            self.assertEqual((code, out), (7, b"web20\n"), err)
            self.assertEqual((last.read("ran"), first.read("ran")), ("x\n", ""))
            for kind in ("ecdsa", "rsa"):
                code, _, err = ssh(hosts, first.address, first.port, "true", key=hosts.keys[kind])
                self.assertEqual(code, 0, err)
            code, _, err = ssh(hosts, first.address, first.port, "true", key=hosts.wrong_key)
            self.assertEqual(code, 255)
            self.assertIn(b"Permission denied", err)
            ssh(hosts, first.address, first.port, "setsid sleep 77 >/dev/null 2>&1 </dev/null &")
            left = wait_until(lambda: hosts.running("sleep\0" "77"), 5, "the sleep is seen")
        self.assertFalse([pid for pid in left if alive(pid)])
        self.assertFalse(os.path.exists(hosts.dir))

    def test_inventory_is_what_ansible_reads(self):
        with Sshd(2) as hosts:
            try:
                done = subprocess.run(["ansible-inventory", "-i", hosts.inventory, "--host", "web02"],
                                      capture_output=True, timeout=60, check=True)
            except FileNotFoundError:
                self.skipTest("ansible is not installed")
            self.assertIn(b'"ansible_host": "127.0.1.2"', done.stdout)

    def test_one_host_can_be_stopped_and_started(self):
        with Sshd(2, per_process=1, host_options={"web02": ["ForceCommand echo forced"]}) as hosts:
            a, b = hosts.hosts
            self.assertEqual(ssh(hosts, b.address, b.port, "true")[1], b"forced\n")
            hosts.stop_host("web01")
            self.assertIn(b"refused", ssh(hosts, a.address, a.port, "true")[2])
            self.assertEqual(ssh(hosts, b.address, b.port, "true")[0], 0)
            hosts.start_host("web01")
            self.assertEqual(ssh(hosts, a.address, a.port, "true")[0], 0)


class FleetTest(unittest.TestCase):
    def test_commands_and_counters(self):
        op = "01234567-89ab-4cde-8fab-0123456789ab.0.3.1"
        with LeakCheck(), Fleet(300) as fleet:
            at = fleet.address["sim0257"]
            self.assertEqual(at, "127.1.1.1")

            def run(command, stdin=None):
                return ssh(fleet, at, fleet.port, command, stdin=stdin)

            plain = "exec env EXED_OP=%s /bin/sh -c 'echo a '\\''b  c'\\'' >&2; exit 7'" % op
            self.assertEqual(run(plain), (7, b"", b"a b  c\n"))
            script = b"A='b c'; export A; exec /bin/sh -c 'printenv A; cat'\nmore\0\xff"
            self.assertEqual(run("exec sh -c 'IFS= read -r s && eval \"$s\"'", script)[:2],
                             (0, b"b c\nmore\0\xff"))
            script = (b"n=${IFS#??};n=${n%\"${n#?}\"};export A='x y';cd '/tmp'||exit 126;"
                      b"eval 'unset n s;''printenv A'\"$n\"'exit 4'\n")
            self.assertEqual(run("exec env EXED_OP='%s' sh -c 'IFS= read -r s && eval \"$s\"'" % op, script)[:2],
                             (4, b"x y\n"))
            self.assertEqual(len(run("output 1000001")[1]), 1000001)
            self.assertEqual(len(run("stderr 70000")[2]), 70000)
            data = os.urandom(3 << 20)
            self.assertEqual(run("cat", data)[1], data)
            self.assertEqual(run("kill -9 $$")[0], 255)
            self.assertEqual(run("false && echo no || echo $?")[1], b"1\n")
            self.assertEqual(run("nosuch")[0], 127)
            stats = fleet.stats()
            self.assertEqual((stats["logins"], stats["execs"]), (9, 9))
            self.assertEqual(stats["ops"], {op: 2})
            self.assertEqual(stats["address_execs"], {at: 9})
            self.assertEqual(stats["commands"]["cat"], 2)
            self.assertEqual(stats["unknown"], ["nosuch "])
            fleet.reset()
            self.assertEqual(fleet.stats()["execs"], 0)

    def test_algorithms_keys_and_new_keys_on_the_way(self):
        flags = ["-host-keys", "ecdsa,ed25519,rsa", "-any-key", "-ciphers",
                 "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr",
                 "-macs", "hmac-sha2-256,hmac-sha2-512,hmac-sha2-256-etm@openssh.com,"
                 "hmac-sha2-512-etm@openssh.com"]
        tries = [["Ciphers=" + name] for name in flags[4].split(",")]
        tries += [["Ciphers=aes128-ctr", "MACs=" + name] for name in flags[6].split(",")]
        tries += [["KexAlgorithms=" + name] for name in ("ecdh-sha2-nistp256", "curve25519-sha256")]
        tries += [["HostKeyAlgorithms=" + name] for name in (
            "ecdsa-sha2-nistp256", "ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512")]
        data = os.urandom(1 << 20)
        with Fleet(1, flags=flags) as fleet, Sshd(1) as keys:
            at = fleet.address["sim0001"]
            for options in tries:
                with self.subTest(options):
                    words = [word for option in options for word in ("-o", option)]
                    self.assertEqual(ssh(fleet, at, fleet.port, "echo hi", options=words)[1], b"hi\n")
            for kind in ("ed25519", "ecdsa", "rsa"):
                self.assertEqual(ssh(fleet, at, fleet.port, "true", key=keys.keys[kind])[0], 0, kind)
            for cipher in ("aes128-gcm@openssh.com", "aes128-ctr"):
                words = ["-o", "RekeyLimit=100K", "-o", "Ciphers=" + cipher]
                self.assertEqual(ssh(fleet, at, fleet.port, "cat", options=words, stdin=data)[1], data)

    def test_a_stranger_cannot_log_in(self):
        with Fleet(1) as fleet, Sshd(1) as keys:
            code, _, err = ssh(fleet, fleet.address["sim0001"], fleet.port, "true", key=keys.key)
            self.assertEqual(code, 255)
            self.assertIn(b"Permission denied", err)
            # It is counted when the connection has ended, which the client does not wait for.
            wait_until(lambda: fleet.stats()["login_failures"] == 1, 10)

    def test_it_answers_at_loopback_addresses_only(self):
        own = [line.split()[3].split("/")[0] for line in subprocess.run(
            ["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=False).stdout.splitlines()]
        with Fleet(1) as fleet:
            for address in own:
                if not address.startswith("127."):
                    with self.assertRaises(OSError), socket.create_connection(
                            (address, fleet.port), 2) as s:
                        s.settimeout(2)
                        assert s.recv(10), "closed at once"

    def test_broken_hosts(self):
        rules = {"sim0001": "refuse", "sim0002": "reset", "sim0003": "denykey", "sim0004": "wrongkey",
                 "sim0005": "closeauth", "sim0006": "closeexec", "sim0007": "noexit", "sim0008": "hang",
                 "sim0009": "blackhole", "sim0010": "slowbanner:0.3", "sim0011": "flood",
                 "127.1.0.12/30": "close", "sim0013": "ok"}
        if not Fleet.can_blackhole():
            del rules["sim0009"]
        says = {"sim0001": b"refused", "sim0002": b"reset", "sim0003": b"Permission denied",
                "sim0004": b"HAS CHANGED", "sim0005": b"losed", "sim0006": b"losed", "sim0007": b"",
                "sim0008": b"timed out", "sim0009": b"timed out", "sim0011": b"",
                "sim0012": b"losed"}
        with Fleet(14, rules) as fleet:
            with open(fleet.inventory, encoding="utf-8") as f:
                ports = dict(zip(fleet.names, [int(line.split("ansible_port=")[1])
                                               for line in f if "ansible_port" in line]))
            results = {}

            def one(name):
                results[name] = ssh(fleet, fleet.address[name], ports[name], "true")

            threads = [threading.Thread(target=one, args=(name,)) for name in fleet.names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for name, text in says.items():
                if name not in rules and name != "sim0012":
                    continue
                self.assertEqual(results[name][0], 255, name)
                self.assertIn(text, results[name][2], name)
            for name in ("sim0010", "sim0013"):
                self.assertEqual(results[name][0], 0, name)

    def test_kill_script_ends_an_op_and_rules_change(self):
        op = "01234567-89ab-4cde-8fab-0123456789ab.0.0.1"
        with Fleet(2) as fleet:
            at, result = fleet.address["sim0001"], []
            thread = threading.Thread(target=lambda: result.append(ssh(
                fleet, at, fleet.port, "exec env EXED_OP=%s /bin/sh -c 'sleep 60'" % op)))
            thread.start()
            wait_until(lambda: fleet.stats()["execs_now"] == 1, 5, "it sleeps")
            kill = "for p in /proc/[0-9]*; do grep -q %s $p/environ && kill -9 ${p##*/}; done; echo exed-kill 1 0" % op
            self.assertEqual(ssh(fleet, at, fleet.port, kill)[0], 0)
            thread.join()
            self.assertEqual((result[0][0], fleet.stats()["kill_scripts"]), (255, 1))
            fleet.rule("sim0001=denykey")
            self.assertEqual(ssh(fleet, at, fleet.port, "true")[0], 255)
            fleet.rule("clear")
            self.assertEqual(ssh(fleet, at, fleet.port, "true")[0], 0)

    def test_round_trip_time(self):
        with Fleet(1, flags=["-rtt", "50"]) as fleet:
            began = time.monotonic()
            self.assertEqual(ssh(fleet, fleet.address["sim0001"], fleet.port, "echo hi")[1], b"hi\n")
            self.assertGreater(time.monotonic() - began, 0.05 * 6)  # TCP, kex, auth, channel


class RedisTest(unittest.TestCase):
    def test_data_lives_through_kill(self):
        with LeakCheck(), Redis(password="secret") as redis:
            self.assertEqual(redis.ask("SET", "a", "b"), b"OK")
            redis.kill()
            redis.start()
            self.assertEqual(redis.ask("GET", "a"), b"b")
            self.assertEqual(redis.ask("CONFIG", "GET", "appendfsync")[1], b"always")


class ExedTest(unittest.TestCase):
    def fake(self, code=0, leak=0):
        with tempfile.NamedTemporaryFile("w", prefix="exedtest-fake", delete=False) as f:
            f.write("CODE, LEAK = %d, %d\n" % (code, leak) + FAKE.split("\n", 1)[1])
        self.addCleanup(os.unlink, f.name)
        with open(f.name, encoding="utf-8") as text:
            body = text.read()
        with open(f.name, "w", encoding="utf-8") as out:
            out.write("#!%s\n" % sys.executable + body)
        os.chmod(f.name, 0o755)
        return f.name

    def test_start_follow_and_end(self):
        with LeakCheck(), Exed(program=self.fake(), judged=False) as exed:
            self.assertEqual(exed.get("/x").body, {"state": 0})
            self.assertEqual(exed.execute(["web01"], "true"), "xy")
            self.assertEqual(exed.wait_job("xy"), {"state": 0})
            self.assertEqual(list(exed.follow("xy")), [{"state": 1}, {"web01": {"status": 1}}])
            self.assertEqual(len(list(exed.follow_chunks("xy"))), 2)
            self.assertEqual(exed.records("xy"), {"web01": [{"status": 1}]})
            self.assertIn(b"200 OK", exed.raw(b"GET / HTTP/1.0\r\n\r\n"))
            self.assertGreater(exed.rss_kb(), 1000)
            self.assertGreater(exed.cpu_s(), 0)
            self.assertIn(0, exed.fds())
            self.assertEqual(len(children_of(exed.pid)), 1)

    def test_a_bad_exit_code_fails(self):
        with self.assertRaisesRegex(AssertionError, "ended with 3"):
            with Exed(program=self.fake(code=3), judged=False):
                pass

    def test_a_process_left_behind_fails_and_is_ended(self):
        with LeakCheck():
            with self.assertRaisesRegex(AssertionError, "left running: .*sleep 60"):
                with Exed(program=self.fake(leak=1), judged=False):
                    pass

    def test_a_sanitizer_report_fails(self):
        with self.assertRaisesRegex(AssertionError, "heap-use-after-free"):
            with Exed(program=self.fake(), judged=False) as exed:
                exed.write("sanitizer.123", "heap-use-after-free")

    def test_an_early_end_shows_the_log(self):
        exed = Exed(program="/bin/cat", args=["/nosuch/file"])
        with self.assertRaisesRegex(AssertionError, "did not start: cat ended with 1"):
            exed.start()
        exed.stop()
        exed = Exed(program="/bin/cat", args=["/nosuch/file"])
        self.assertEqual(exed.run_to_end()[0], 1)
        exed.stop()


if __name__ == "__main__":
    unittest.main(module="exedtest.selftest")
