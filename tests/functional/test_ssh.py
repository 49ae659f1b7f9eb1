# SPDX-License-Identifier: MIT
"""SSH as exed speaks it, over its API and against real OpenSSH servers: who we are (keys, agent), who they
are (known_hosts), where they are (address, port, user of the inventory), with which algorithms, and over
how many connections."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Child, Exed, Fleet, Sshd, children_of, wait_until  # noqa: E402
from exedtest.procs import end_pids  # noqa: E402
from exedtest.sshd import make_key  # noqa: E402

OK, FAILED, UNREACHABLE, CHANGED = 1, 3, 4, 5
LOGIN = re.compile(r"Accepted publickey for (\S+) from \S+ port \d+ ssh2: (\S+)")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def host_line(host, **settings):
    """A line of an inventory that names no key, so that those of the configuration count."""
    words = ["%s=%s" % item for item in settings.items()]
    return " ".join([host.name, "ansible_host=" + host.address, "ansible_port=%d" % host.port] + words)


def inventory(fixture, lines):
    return fixture.write("other.ini", "[web]\n%s\n" % "\n".join(lines))


def one(exed, name, command="echo hello", **fields):
    """The one record of a command on a host."""
    records = exed.records(exed.execute([name], command, **fields))
    assert list(records) == [name] and len(records[name]) == 1, records
    return records[name][0]


def empty_home(fixture):
    """An environment without anybody's keys or agent."""
    home = fixture.path("home")
    os.makedirs(home, exist_ok=True)
    return {"HOME": home, "SSH_AUTH_SOCK": ""}


class Keys(unittest.TestCase):
    """Keys in files."""

    def convert(self, sshd, key, name, form):
        """A copy of a key with a passphrase, in another format of private keys."""
        path = sshd.path(name)
        shutil.copy(key, path)
        os.chmod(path, 0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-m", form, "-P", sshd.passphrase, "-N", sshd.passphrase,
                        "-f", path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return path

    def test_every_type_and_format_logs_in_each_with_its_own_key(self):
        with Sshd(8) as sshd:
            keys = [sshd.keys[kind] for kind in sorted(sshd.keys)]
            keys.append(self.convert(sshd, sshd.keys["rsa_pass"], "id_pem", "PEM"))
            keys.append(self.convert(sshd, sshd.keys["ecdsa_pass"], "id_pkcs8", "PKCS8"))
            lines = [host_line(host, ansible_ssh_private_key_file=key)
                     for host, key in zip(sshd.hosts, keys)]
            secret = sshd.write("passphrase", sshd.passphrase + "\n", 0o600)
            conf = {"ssh": {"key": None, "key_passphrase_file": secret, "agent": "none"},
                    "inventory": {"path": inventory(sshd, lines)}}
            with Exed(sshd, conf) as exed:
                records = exed.records(exed.execute(["all"], "echo $EXED_TEST_HOST"))
            for host in sshd.hosts:
                self.assertEqual(records[host.name][0].get("stdout"), host.name + "\n", records[host.name])
            kinds = sorted(kind for _, kind in LOGIN.findall(sshd.log()))
            self.assertEqual(kinds, ["ECDSA"] * 3 + ["ED25519"] * 2 + ["RSA"] * 3)

    def test_keys_of_the_configuration_are_tried_in_their_order(self):
        with Sshd(1) as sshd:
            conf = {"ssh": {"key": [sshd.wrong_key, sshd.keys["rsa"]], "agent": "none"},
                    "inventory": {"path": inventory(sshd, [host_line(sshd.hosts[0])])}}
            with Exed(sshd, conf) as exed:
                self.assertEqual(one(exed, "web01")["stdout"], "hello\n")
            self.assertEqual(LOGIN.findall(sshd.log()), [(sshd.user, "RSA")])

    def test_a_refused_key_is_named_and_nothing_runs(self):
        with Sshd(1) as sshd:
            lines = [host_line(sshd.hosts[0], ansible_ssh_private_key_file=sshd.wrong_key)]
            conf = {"ssh": {"key": None, "agent": "none"},
                    "inventory": {"path": inventory(sshd, lines)}}
            with Exed(sshd, conf) as exed:
                record = one(exed, "web01", "echo x >>$EXED_TEST_DIR/ran")
                self.assertEqual(record["status"], UNREACHABLE)
                self.assertIn("id_wrong", record["error"])
                self.assertNotIn("rtc", record)
                self.assertEqual(exed.get("/ping?target=web01").body["web01"]["status"], UNREACHABLE)
            self.assertEqual(sshd.hosts[0].read("ran"), "")
            self.assertEqual(LOGIN.findall(sshd.log()), [])
            self.assertIn("authenticating user", sshd.log())

    def test_a_key_that_cannot_be_used_is_named(self):
        with Sshd(4) as sshd:
            broken = sshd.write("id_broken", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", 0o600)
            keys = [sshd.path("id_none"), sshd.keys["ed25519_pass"], broken, sshd.key]
            lines = [host_line(host, ansible_ssh_private_key_file=key)
                     for host, key in zip(sshd.hosts, keys)]
            conf = {"ssh": {"key": None, "agent": "none"},
                    "inventory": {"path": inventory(sshd, lines)}}
            with Exed(sshd, conf) as exed:
                records = exed.records(exed.execute(["all"], "true"))
            for host, key in list(zip(sshd.hosts, keys))[:3]:
                record = records[host.name][0]
                self.assertEqual(record["status"], UNREACHABLE, record)
                self.assertIn(os.path.basename(key), record["error"])
            self.assertIn("no passphrase", records["web02"][0]["error"])
            self.assertEqual(records["web04"][0]["status"], CHANGED)

    def test_a_named_key_that_is_missing_or_locked_stops_the_start(self):
        with Sshd(1) as sshd:
            wrong = sshd.write("passphrase", "not this one\n", 0o600)
            for conf in ({"key": sshd.path("id_none")}, {"key": sshd.keys["rsa_pass"]},
                         {"key": sshd.keys["rsa_pass"], "key_passphrase_file": wrong},
                         {"key": sshd.keys["ecdsa_pass"], "key_passphrase_file": sshd.path("nofile")}):
                exed = Exed(sshd, {"ssh": conf})
                code, output = exed.run_to_end()
                exed.stop()
                self.assertEqual(code, 2, output)
                self.assertIn(os.path.basename(conf.get("key_passphrase_file", conf["key"]))
                              if "nofile" in str(conf) else os.path.basename(conf["key"]), output)

    def test_without_any_key_the_record_says_so(self):
        with Sshd(1) as sshd:
            conf = {"ssh": {"key": None, "agent": "none"},
                    "inventory": {"path": inventory(sshd, [host_line(sshd.hosts[0])])}}
            with Exed(sshd, conf, env=empty_home(sshd)) as exed:
                record = one(exed, "web01")
            self.assertEqual(record["status"], UNREACHABLE)
            self.assertRegex(record["error"], "no .*key")


class Agent(unittest.TestCase):
    """Keys that an ssh-agent has."""

    def setUp(self):
        self.sshd = Sshd(2)
        self.addCleanup(self.sshd.stop)
        self.sshd.start()
        self.socket = self.sshd.path("agent.sock")
        self.agent = Child(["ssh-agent", "-D", "-a", self.socket], self.sshd.path("agent.log"))
        self.addCleanup(self.end_agent)
        wait_until(lambda: os.path.exists(self.socket), 5, "the agent listens")
        self.conf = {"ssh": {"key": None, "agent": self.socket},
                     "inventory": {"path": inventory(self.sshd, [host_line(h) for h in self.sshd.hosts])}}

    def end_agent(self):
        if self.agent.running():
            os.kill(self.agent.pid, signal.SIGCONT)
            self.agent.end(signal.SIGKILL)

    def add(self, *keys):
        env = dict(os.environ, SSH_AUTH_SOCK=self.socket)
        subprocess.run(["ssh-add", "-q", *keys], env=env, check=True, stdin=subprocess.DEVNULL)

    def test_the_agent_signs_for_all_key_types(self):
        for kind in ("rsa", "ecdsa", "ed25519"):
            subprocess.run(["ssh-add", "-q", "-D"], env=dict(os.environ, SSH_AUTH_SOCK=self.socket),
                           check=True, stderr=subprocess.DEVNULL)
            self.add(self.sshd.keys[kind])
            with Exed(self.sshd, self.conf, env=empty_home(self.sshd)) as exed:
                self.assertEqual(one(exed, "web01")["stdout"], "hello\n")
                self.assertEqual(one(exed, "web02")["stdout"], "hello\n")
            self.assertEqual(LOGIN.findall(self.sshd.log())[-1][1], kind.upper())

    def test_the_agent_of_the_environment_is_found(self):
        self.add(self.sshd.wrong_key, self.sshd.key)
        env = dict(empty_home(self.sshd), SSH_AUTH_SOCK=self.socket)
        with Exed(self.sshd, dict(self.conf, ssh={"key": None}), env=env) as exed:
            self.assertEqual(one(exed, "web01")["stdout"], "hello\n")

    def test_an_agent_without_the_right_key_is_named(self):
        self.add(self.sshd.wrong_key)
        with Exed(self.sshd, self.conf, env=empty_home(self.sshd)) as exed:
            record = one(exed, "web01")
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("agent", record["error"])

    def test_an_agent_that_does_not_answer_costs_its_hosts_limit_only(self):
        self.add(self.sshd.key)
        lines = [host_line(self.sshd.hosts[0]),
                 host_line(self.sshd.hosts[1], ansible_ssh_private_key_file=self.sshd.key)]
        conf = dict(self.conf, inventory={"path": inventory(self.sshd, lines)})
        conf["ssh"] = dict(conf["ssh"], connect_timeout="2s")
        os.kill(self.agent.pid, signal.SIGSTOP)
        with Exed(self.sshd, conf, env=empty_home(self.sshd)) as exed:
            records = exed.records(exed.execute(["all"], "true"))
        self.assertEqual(records["web02"][0]["status"], CHANGED, records)
        self.assertEqual(records["web01"][0]["status"], UNREACHABLE, records)
        self.assertRegex(records["web01"][0]["error"], "login.*agent|agent.*(answer|time)")

    def test_an_agent_that_is_gone_is_named(self):
        self.agent.end(signal.SIGKILL)
        with Exed(self.sshd, self.conf, env=empty_home(self.sshd)) as exed:
            record = one(exed, "web01")
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("agent", record["error"])


class HostKeys(unittest.TestCase):
    """Whom known_hosts lets us talk to."""

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(13)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.public = {path.rpartition("_")[2]: " ".join(read(path + ".pub").split()[:2])
                      for path in cls.sshd.host_keys}
        cls.stranger = " ".join(read(make_key(cls.sshd.path("host_stranger"), "ed25519") + ".pub")
                                .split()[:2])

    def at(self, number):
        host = self.sshd.hosts[number - 1]
        return "[%s]:%d" % (host.address, host.port)

    def run_with(self, known_hosts, targets, checking="strict", times=1):
        conf = {"ssh": {"known_hosts": known_hosts, "host_key_checking": checking}}
        with Exed(self.sshd, conf) as exed:
            command = "echo x >>$EXED_TEST_DIR/ran; echo hello"
            jids = [exed.execute(targets, command) for _ in range(times)]
            return [exed.records(jid) for jid in jids][-1]

    def setUp(self):
        for host in self.sshd.hosts:
            if host.read("ran"):
                os.unlink(os.path.join(host.dir, "ran"))
        self.before = len(self.sshd.log())

    def assert_nothing_sent(self, name):
        """No command ran, and no login was tried: the server heard of no user."""
        self.assertEqual(self.sshd.host[name].read("ran"), "")
        log = self.sshd.log()[self.before:]
        self.assertNotIn("authenticating user", log)
        self.assertNotIn("Accepted", log)

    def test_forms_of_entries(self):
        """What each host's lines say, and whether it may be talked to."""
        line, good = [], {}

        def host(number, accepted, *lines):
            line.extend(text % self.at(number) if "%s" in text else text for text in lines)
            good[self.sshd.hosts[number - 1].name] = accepted

        host(1, True, "%s " + self.public["ed25519"])
        host(2, True, "%s " + self.public["rsa"])
        host(3, True, "%s " + self.public["ecdsa"])
        host(4, True, "%s " + self.stranger, "%s " + self.public["ed25519"])
        host(5, True, "[127.0.1.?5]:1," + "%s,10.0.0.1 " + self.public["ed25519"])
        host(6, True, "[127.0.1.6*]:%d " % self.sshd.port + self.public["ed25519"])
        host(7, False, "[127.0.1.7*]:%d,!%s " % (self.sshd.port, self.at(7)) + self.public["ed25519"])
        host(8, False, "127.0.1.8 " + self.public["ed25519"])
        host(9, False, "@cert-authority %s " + self.public["ed25519"])
        host(10, False, "web10 " + self.public["ed25519"])
        host(11, False, "[127.0.1.11]:1 " + self.public["ed25519"])
        host(12, True, "# a comment", "", "nonsense", "%s ssh-ed25519 not/base64!",
             "%s " + self.public["ecdsa"] + " a comment")
        host(13, True, "\t%s\t" + self.public["ed25519"].replace(" ", "\t"))
        path = self.sshd.write("kh_forms", "\n".join(line) + "\n")
        records = self.run_with(path, ["all"])
        for name, accepted in good.items():
            with self.subTest(host=name):
                record = records[name][0]
                self.assertEqual(record["status"], CHANGED if accepted else UNREACHABLE, record)
                self.assertEqual(self.sshd.host[name].read("ran"), "x\n" if accepted else "")
                if not accepted:
                    self.assertIn("host key unknown", record["error"])

    def test_an_unknown_host_gets_no_login(self):
        path = self.sshd.write("kh_none", "%s %s\n" % (self.at(2), self.public["ed25519"]))
        record = self.run_with(path, ["web01"])["web01"][0]
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("host key unknown", record["error"])
        self.assertIn("kh_none", record["error"])
        self.assertIn(self.at(1), record["error"])
        self.assertIn("Connection", self.sshd.log()[self.before:])  # it was there
        self.assert_nothing_sent("web01")

    def test_a_missing_known_hosts_file_is_an_empty_one(self):
        record = self.run_with(self.sshd.path("kh_missing"), ["web01"])["web01"][0]
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("host key unknown", record["error"])
        self.assert_nothing_sent("web01")

    def test_a_changed_key_names_file_and_line_and_gets_no_login(self):
        path = self.sshd.write("kh_changed", "# first\n\n%s %s\n" % (self.at(1), self.stranger))
        for checking in ("strict", "accept-new"):
            record = self.run_with(path, ["web01"], checking)["web01"][0]
            self.assertEqual(record["status"], UNREACHABLE)
            self.assertRegex(record["error"], r"changed.*kh_changed:3\b")
            self.assert_nothing_sent("web01")
        self.assertEqual(read(path), "# first\n\n%s %s\n" % (self.at(1), self.stranger))

    def test_a_revoked_key_is_refused_whatever_else_is_said(self):
        lines = ["%s %s" % (self.at(1), self.public[kind]) for kind in sorted(self.public)]
        lines += ["@revoked %s %s" % ("*" if kind == "rsa" else self.at(1), self.public[kind])
                  for kind in sorted(self.public)]
        path = self.sshd.write("kh_revoked", "\n".join(lines) + "\n")
        for checking in ("strict", "accept-new", "off"):
            record = self.run_with(path, ["web01"], checking)["web01"][0]
            self.assertEqual(record["status"], UNREACHABLE)
            self.assertRegex(record["error"], r"revoked.*kh_revoked:[456]\b")
            self.assert_nothing_sent("web01")

    def test_hashed_names(self):
        path = self.sshd.write("kh_hashed", "%s %s\n%s %s\n" % (
            self.at(1), self.public["ed25519"], self.at(2), self.stranger))
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        self.assertEqual(read(path).count("|1|"), 2)
        records = self.run_with(path, ["web01", "web02", "web03"])
        self.assertEqual(records["web01"][0]["status"], CHANGED)
        self.assertRegex(records["web02"][0]["error"], r"changed.*kh_hashed:2\b")
        self.assertIn("unknown", records["web03"][0]["error"])

    def test_accept_new_adds_one_line_that_openssh_understands(self):
        path = self.sshd.write("kh_new", "# ours\n")
        records = self.run_with(path, ["web[01:03]"], "accept-new", times=4)
        for name in ("web01", "web02", "web03"):
            self.assertEqual(records[name][0]["status"], CHANGED, records)
        lines = read(path).splitlines()
        self.assertEqual(lines[0], "# ours")
        self.assertEqual(sorted(line.split()[0] for line in lines[1:]), [self.at(n) for n in (1, 2, 3)])
        self.assertEqual(self.run_with(path, ["web02"])["web02"][0]["status"], CHANGED)
        host = self.sshd.hosts[2]
        subprocess.run(["ssh", "-F", "none", "-i", self.sshd.key, "-p", str(host.port), "-o", "BatchMode=yes",
                        "-o", "UserKnownHostsFile=" + path, "-o", "GlobalKnownHostsFile=/dev/null",
                        "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlgorithms=" +
                        ("ssh-ed25519" if "ed25519" in lines[1] else "ecdsa-sha2-nistp256"),
                        "%s@%s" % (self.sshd.user, host.address), "true"], check=True,
                       stdin=subprocess.DEVNULL, capture_output=True)

    def test_accept_new_makes_the_file(self):
        path = self.sshd.path("kh_made")
        self.assertEqual(self.run_with(path, ["web01"], "accept-new")["web01"][0]["status"], CHANGED)
        self.assertTrue(read(path).startswith(self.at(1) + " "))

    def test_accept_new_that_cannot_write_lets_nobody_in(self):
        path = self.sshd.path("no", "such", "directory")
        record = self.run_with(path, ["web01"], "accept-new")["web01"][0]
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn(path, record["error"])
        self.assert_nothing_sent("web01")

    def test_off_takes_unknown_and_changed_keys_and_writes_nothing(self):
        text = "%s %s\n" % (self.at(1), self.stranger)
        path = self.sshd.write("kh_off", text)
        records = self.run_with(path, ["web01", "web02"], "off")
        for name in ("web01", "web02"):
            self.assertEqual(records[name][0]["status"], CHANGED)
        self.assertEqual(read(path), text)


class Addresses(unittest.TestCase):
    """Where a host is and as whom we come: the inventory's word over the configuration's."""

    def known(self, sshd, names):
        return sshd.write("known_names", "\n".join(
            "%s %s" % (",".join(names), " ".join(read(key + ".pub").split()[:2]))
            for key in sshd.host_keys) + "\n")

    def test_each_host_has_its_own_port_user_and_key(self):
        with Sshd(1) as one_port, Sshd(1, name="web", first="127.0.2.1") as other_port:
            lines = ["web01 ansible_host=127.0.1.1 ansible_port=%d ansible_user=%s"
                     % (one_port.port, one_port.user),
                     "web02 ansible_host=127.0.2.1 ansible_user=%s ansible_ssh_private_key_file=%s"
                     % (other_port.user, other_port.keys["rsa"]),
                     "web03 ansible_host=127.0.1.1 ansible_port=%d ansible_user=nobody-at-all"
                     % one_port.port]
            known = one_port.write("known_both", read(one_port.known_hosts) + read(other_port.known_hosts))
            conf = {"ssh": {"key": one_port.key, "port": other_port.port, "known_hosts": known,
                            "agent": "none"}, "inventory": {"path": inventory(one_port, lines)}}
            with Exed(one_port, conf) as exed:
                records = exed.records(exed.execute(["all"], "echo $EXED_TEST_DIR"))
            self.assertEqual(records["web01"][0].get("stdout"), one_port.hosts[0].dir + "\n", records)
            self.assertEqual(records["web02"][0].get("stdout"), other_port.hosts[0].dir + "\n", records)
            self.assertEqual(records["web03"][0]["status"], UNREACHABLE, records)
            self.assertIn("nobody-at-all", one_port.log())
            self.assertEqual(LOGIN.findall(other_port.log()), [(other_port.user, "RSA")])

    def test_ipv6(self):
        sshd = Sshd(1)
        self.addCleanup(sshd.stop)
        sshd.options.append("ListenAddress [::1]:%d" % sshd.port)
        try:
            sshd.start()
            wait_until(lambda: "listening on ::1" in sshd.log(), 2)
        except AssertionError:
            self.skipTest("this machine has no address ::1")
        lines = ["six ansible_host=::1 ansible_port=%d" % sshd.port]
        conf = {"ssh": {"known_hosts": self.known(sshd, ["[::1]:%d" % sshd.port])},
                "inventory": {"path": inventory(sshd, lines)}}
        with Exed(sshd, conf) as exed:
            self.assertEqual(one(exed, "six", "echo $SSH_CONNECTION")["stdout"].split()[2], "::1")
        conf["ssh"]["known_hosts"] = sshd.known_hosts
        with Exed(sshd, conf) as exed:
            self.assertIn("[::1]:%d" % sshd.port, one(exed, "six")["error"])

    def test_a_name_is_looked_up_and_its_key_is_under_the_name(self):
        with Sshd(1, first="127.0.0.1") as sshd:
            lines = ["web01 ansible_host=localhost ansible_port=%d" % sshd.port,
                     "localhost ansible_connection=ssh ansible_port=%d" % sshd.port]
            conf = {"ssh": {"known_hosts": self.known(sshd, ["[LocalHost]:%d" % sshd.port])},
                    "inventory": {"path": inventory(sshd, lines)}}
            with Exed(sshd, conf) as exed:
                records = exed.records(exed.execute(["all"], "echo $EXED_TEST_HOST"))
                self.assertEqual(records["web01"][0].get("stdout"), "web01\n", records)
                self.assertEqual(records["localhost"][0].get("stdout"), "web01\n", records)
            conf["ssh"]["known_hosts"] = sshd.known_hosts  # has the address, not the name
            with Exed(sshd, conf) as exed:
                self.assertIn("unknown", one(exed, "web01")["error"])


class Families(Sshd):
    """Each host has an sshd of its own with lines of its own."""

    def __init__(self, lines):
        super().__init__(len(lines), per_process=1)
        self.lines = lines

    def _config(self, index, hosts):
        self.options = self.lines[index]
        return super()._config(index, hosts)


class Algorithms(unittest.TestCase):
    def test_servers_with_one_family_each(self):
        families = {
            "gcm": ["Ciphers aes256-gcm@openssh.com"], "gcm128": ["Ciphers aes128-gcm@openssh.com"],
            "chacha20": ["Ciphers chacha20-poly1305@openssh.com"],
            "ctr": ["Ciphers aes192-ctr"],
            "etm256": ["Ciphers aes256-ctr", "MACs hmac-sha2-256-etm@openssh.com"],
            "etm512": ["Ciphers aes128-ctr", "MACs hmac-sha2-512-etm@openssh.com"],
            "mac": ["Ciphers aes128-ctr", "MACs hmac-sha2-256"],
            "rsa host key": ["HostKeyAlgorithms rsa-sha2-512"],
            "rsa256 host key": ["HostKeyAlgorithms rsa-sha2-256"],
            "ed25519 host key": ["HostKeyAlgorithms ssh-ed25519"],
            "ecdsa host key": ["HostKeyAlgorithms ecdsa-sha2-nistp256"],
            "curve25519": ["KexAlgorithms curve25519-sha256"],
            "nistp521": ["KexAlgorithms ecdh-sha2-nistp521"],
            "group14": ["KexAlgorithms diffie-hellman-group14-sha256"],
            "group16": ["KexAlgorithms diffie-hellman-group16-sha512"],
            "group exchange": ["KexAlgorithms diffie-hellman-group-exchange-sha256"],
            "rsa user keys": ["PubkeyAcceptedAlgorithms rsa-sha2-512"],
        }
        with Families(list(families.values())) as sshd:
            lines = [host_line(host, ansible_ssh_private_key_file=sshd.keys["rsa"]) for host in sshd.hosts]
            conf = {"ssh": {"connect_timeout": "30s"}, "inventory": {"path": inventory(sshd, lines)}}
            with Exed(sshd, conf) as exed:
                # Enough output for a few packets of every size under each cipher.
                records = exed.records(exed.execute(["all"], "seq 1 20000; echo end >&2"), timeout=60)
        expected = "".join("%d\n" % n for n in range(1, 20001))
        for host, name in zip(sshd.hosts, families):
            with self.subTest(family=name):
                record = records[host.name][0]
                self.assertEqual(record["status"], CHANGED, record)
                self.assertEqual(record["stdout"], expected)
                self.assertEqual(record["stderr"], "end\n")

    def test_nothing_in_common_is_said(self):
        with Families([["KexAlgorithms sntrup761x25519-sha512@openssh.com"], ["Ciphers 3des-cbc"]]) as sshd:
            with Exed(sshd) as exed:
                records = exed.records(exed.execute(["all"], "true"))
            self.assertEqual(records["web01"][0]["status"], UNREACHABLE)
            self.assertRegex(records["web01"][0]["error"], "no common algorithm.*key exchange.*sntrup761")
            self.assertEqual(records["web02"][0]["status"], UNREACHABLE)
            self.assertRegex(records["web02"][0]["error"], "no common algorithm.*cipher.*3des-cbc")


class Connections(unittest.TestCase):
    def test_the_next_job_takes_the_connection_of_the_last(self):
        with Sshd(3) as sshd, Exed(sshd) as exed:
            for _ in range(4):
                records = exed.records(exed.execute(["all"], "true"))
                self.assertEqual({r[0]["status"] for r in records.values()}, {CHANGED})
            exed.get("/ping?target=all")
            self.assertEqual(len(LOGIN.findall(sshd.log())), 3)

    def test_the_close_of_a_channel_goes_ahead_of_the_next_one_and_soon_by_itself(self):
        with Fleet(1, {"sim0001": "sessions:1"}) as fleet, Exed(fleet) as exed:
            for _ in range(5):
                self.assertEqual(one(exed, "sim0001")["status"], CHANGED)
            stats = fleet.stats()
            self.assertEqual((stats["connections"], stats["execs"], stats["channels_refused"]), (1, 5, 0))
            wait_until(lambda: fleet.stats(True)["channels_now"] == 0, 20, "the last channel is closed")
            self.assertEqual(fleet.stats(True)["connections_now"], 1)

    def test_keep_0_closes_them(self):
        with Sshd(1) as sshd, Exed(sshd, {"ssh": {"keep": "0"}}) as exed:
            for n in (1, 2):
                one(exed, "web01")
                wait_until(lambda: not sshd.sessions(), 5, "the connection is closed")
                self.assertEqual(len(LOGIN.findall(sshd.log())), n)

    def test_an_idle_connection_is_closed_after_keep(self):
        with Sshd(1) as sshd, Exed(sshd, {"ssh": {"keep": "1s"}}) as exed:
            one(exed, "web01")
            self.assertTrue(sshd.sessions())
            wait_until(lambda: not sshd.sessions(), 10, "the connection is closed")

    def test_no_more_than_max_connections(self):
        with Fleet(30) as fleet, Exed(fleet, {"ssh": {"max_connections": 10}}) as exed:
            jid = exed.execute(["all"], "sleep 60")
            # One place is kept for small sync requests.
            seen = wait_until(lambda: (stats := fleet.stats())["execs_now"] >= 9 and stats, 20, "nine run")
            self.assertLessEqual(seen["connections"], 10)
            exed.post("/jobs/%s/cancel" % jid)
            exed.wait_job(jid)
            # A host may see the next connection before the end of one of another, so these are not counted.
            records = exed.records(exed.execute(["all"], "true"))
            self.assertEqual({r[0]["status"] for r in records.values()}, {CHANGED})
            self.assertEqual(len(records), 30)

    def test_a_restarted_host_gets_a_new_connection_and_the_command_once(self):
        with Sshd(2, per_process=1) as sshd, Exed(sshd) as exed:
            command = "echo x >>$EXED_TEST_DIR/ran"
            exed.records(exed.execute(["all"], command))
            sshd.stop_host("web01")
            record = one(exed, "web01", command)
            self.assertEqual(record["status"], UNREACHABLE, record)
            self.assertIn("refused", record["error"])
            sshd.start_host("web01")
            records = exed.records(exed.execute(["all"], command))
            self.assertEqual({r[0]["status"] for r in records.values()}, {CHANGED})
            self.assertEqual(sshd.host["web01"].read("ran"), "x\nx\n")
            self.assertEqual(len(LOGIN.findall(sshd.children[0].output(1 << 20))), 1)
            self.assertEqual(len(LOGIN.findall(sshd.children[1].output(1 << 20))), 1)

    def test_a_connection_that_dies_before_the_command_starts_costs_nothing(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            one(exed, "web01")
            # The session is held, so that the next command's channel cannot be opened; then it dies.
            sessions = sshd.sessions()
            for pid in sessions:
                os.kill(pid, signal.SIGSTOP)
            jid = exed.execute(["web01"], "echo x >>$EXED_TEST_DIR/ran")
            wait_until(lambda: [row for row in exed.get("/jobs/%s?detail=1" % jid).body["running"]
                                if row["phase"] in ("running", "starting")],
                       5, "the host is asked: %s" % exed.get("/jobs/%s?detail=1" % jid).body)
            for pid in sessions:
                os.kill(pid, signal.SIGKILL)
            record = exed.records(jid)["web01"]
            self.assertEqual([r["status"] for r in record], [CHANGED], record)
            self.assertEqual(sshd.hosts[0].read("ran"), "x\n")
            self.assertEqual(len(LOGIN.findall(sshd.log())), 2)

    def test_a_connection_that_dies_while_the_command_runs_is_not_tried_again(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            one(exed, "web01")
            jid = exed.execute(["web01"], "echo x >>$EXED_TEST_DIR/ran; echo said; sleep 60")
            wait_until(lambda: sshd.hosts[0].read("ran"), 10, "it runs")
            children = [child.pid for child in sshd.children.values()]
            for pid in [p for child in children for p in children_of(child)]:
                if "sshd" in read("/proc/%d/comm" % pid):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(1)
            self.assertEqual(exed.job(jid)["state"], 1)  # what it left runs, and is waited for
            end_pids(sshd.running())
            record = exed.records(jid)["web01"]
            self.assertEqual(len(record), 1)
            self.assertEqual(record[0]["status"], FAILED)
            self.assertIs(record[0].get("unknown"), True, record)
            self.assertIn("connection lost", record[0]["error"])
            self.assertEqual(record[0]["survivors"], 0, record)
            self.assertEqual(record[0]["stdout"], "said\n")
            self.assertEqual(one(exed, "web01")["stdout"], "hello\n")
            self.assertEqual(sshd.hosts[0].read("ran"), "x\n")

    def test_more_commands_than_the_host_allows_sessions(self):
        with Sshd(1, options=["MaxSessions 2"]) as sshd, Exed(sshd) as exed:
            jids = [exed.execute(["web01"], "echo x >>$EXED_TEST_DIR/ran; sleep 0.3; echo done")
                    for _ in range(6)]
            for jid in jids:
                record = exed.records(jid)["web01"][0]
                self.assertEqual((record["status"], record.get("stdout")), (CHANGED, "done\n"), record)
            self.assertEqual(sshd.hosts[0].read("ran"), "x\n" * 6)
            self.assertEqual(len(LOGIN.findall(sshd.log())), 1)

    def test_a_kill_where_the_host_allows_one_session(self):
        with Sshd(1, options=["MaxSessions 1"]) as sshd, Exed(sshd) as exed:
            jids = [exed.execute(["web01"], "sleep 300", timeout=1),
                    exed.execute(["web01"], "echo next")]
            record = exed.records(jids[0])["web01"][0]
            self.assertIs(record.get("timed_out"), True, record)
            self.assertEqual(record.get("survivors"), 0, record)
            self.assertEqual(exed.records(jids[1])["web01"][0].get("stdout"), "next\n")
            self.assertEqual(sshd.running("sleep 300"), [])

    def test_one_connection_carries_max_sessions_at_once(self):
        with Fleet(1) as fleet, Exed(fleet, {"ssh": {"max_sessions": 3}}) as exed:
            jids = [exed.execute(["all"], "sleep 0.3") for _ in range(7)]
            for jid in jids:
                self.assertEqual(exed.wait_job(jid)["state"], 0)
            stats = fleet.stats()
            self.assertLessEqual(stats["execs_peak"], 3)
            self.assertGreater(stats["execs_peak"], 1)
            self.assertEqual(stats["connections"], 1)
            self.assertEqual(stats["execs"], 7)


class Ping(unittest.TestCase):
    def test_ping_logs_in_and_runs_nothing(self):
        with Sshd(2) as sshd:
            lines = [host_line(sshd.hosts[0], ansible_ssh_private_key_file=sshd.key),
                     host_line(sshd.hosts[1], ansible_ssh_private_key_file=sshd.wrong_key)]
            conf = {"ssh": {"key": None, "agent": "none"}, "inventory": {"path": inventory(sshd, lines)}}
            with Exed(sshd, conf) as exed:
                answer = exed.get("/ping?target=all")
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.body["web01"], {"status": OK})
                self.assertEqual(answer.body["web02"]["status"], UNREACHABLE)
                jid = exed.submit("/ping", {"targets": ["web01"]})
                self.assertEqual(exed.wait_job(jid)["return_data"], {"web01": [{"status": OK}]})
            self.assertEqual(len(LOGIN.findall(sshd.log())), 1)
            self.assertNotIn("Starting session", sshd.log())

    def test_many_at_once_ping_a_host_over_one_login(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            found = []

            def ping():
                found.append(exed.get("/ping?target=web01").body)

            threads = [threading.Thread(target=ping) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(found, [{"web01": {"status": OK}}] * 8)
            self.assertEqual(len(LOGIN.findall(sshd.log())), 1)


if __name__ == "__main__":
    unittest.main()
