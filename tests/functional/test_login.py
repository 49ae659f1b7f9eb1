# SPDX-License-Identifier: MIT
"""Logins by user certificate (a real sshd that trusts their authority) and by password (a server that tells each
try). A password goes only where the inventory gives one, once, and to nobody whose host key was refused."""

import os
import signal
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402
from exedtest.procs import Child, Fixture  # noqa: E402
from exedtest.sshd import kept_key, make_key  # noqa: E402

OK, UNREACHABLE, CHANGED = 1, 4, 5
LOGINS = os.path.join(ROOT, "build", "support", "logins")
PASSWORD = "pa ss'w\\0rd-of-no-use"


def ping(exed, name):
    return exed.get("/ping?target=" + name).body[name]


class Certificates(unittest.TestCase):
    """The hosts know no key, only who may sign certificates."""

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(1)
        cls.addClassCleanup(cls.sshd.stop)
        cls.authority = kept_key(cls.sshd.path("ca"), "ed25519")
        cls.sshd.options += ["AuthorizedKeysFile none", "TrustedUserCAKeys " + cls.authority + ".pub",
                             "LogLevel VERBOSE"]
        cls.sshd.start()

    def key(self, name, kind="ed25519"):
        return make_key(self.sshd.path(name), kind)

    def certify(self, key, *options, principal=None):
        subprocess.run(["ssh-keygen", "-q", "-s", self.authority, "-I", "exedtest", "-n",
                        principal or self.sshd.user, *options, key + ".pub"], check=True,
                       stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return key

    def conf(self, key=None, **ssh):
        host = self.sshd.hosts[0]
        text = "web01 ansible_host=%s ansible_port=%d ansible_user=%s\n" % (
            host.address, host.port, self.sshd.user)
        return {"ssh": dict({"key": key, "agent": "none"}, **ssh),
                "inventory": {"path": self.sshd.write("plain.ini", text)}}

    def ping_with(self, key, **ssh):
        with Exed(self.sshd, self.conf(key, **ssh)) as exed:
            return ping(exed, "web01")

    def test_each_type_of_key_logs_in_with_its_certificate(self):
        for kind in ("ed25519", "ecdsa", "rsa"):
            record = self.ping_with(self.certify(self.key("user_" + kind, kind)))
            self.assertEqual(record["status"], OK, (kind, record))
            self.assertIn("%s-CERT" % kind.upper(),
                          self.sshd.log())

    def test_without_its_certificate_a_key_is_refused(self):
        record = self.ping_with(self.key("bare"))
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("tried bare", record["error"])

    def test_the_plain_key_is_tried_after_its_certificate(self):
        record = self.ping_with(self.certify(self.key("stranger"), principal="somebody-else"))
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("tried stranger-cert.pub, stranger", record["error"])

    def test_a_certificate_that_has_expired_is_called_so(self):
        record = self.ping_with(self.certify(self.key("old"), "-V", "20200101:20200102"))
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("old-cert.pub (expired)", record["error"])
        record = self.ping_with(self.certify(self.key("early"), "-V", "20900101:20900102"))
        self.assertIn("early-cert.pub (not valid yet)", record["error"])

    def test_a_certificate_that_is_not_the_keys_is_named(self):
        key, other = self.key("mine"), self.certify(self.key("other"))
        os.replace(other + "-cert.pub", key + "-cert.pub")
        self.assertIn("mine-cert.pub: it was made for another key", self.ping_with(key)["error"])
        with open(key + "-cert.pub", "w", encoding="utf-8") as f:
            f.write("ssh-ed25519-cert-v01@openssh.com AAAA\n")
        self.assertIn("it is not a certificate", self.ping_with(key)["error"])
        self.certify(key, "-h")
        self.assertIn("it is a host's certificate", self.ping_with(key)["error"])

    def test_the_agents_certificates_are_used(self):
        socket = self.sshd.path("agent.sock")
        agent = Child(["ssh-agent", "-D", "-a", socket], self.sshd.path("agent.log"))
        self.addCleanup(agent.end, signal.SIGKILL)
        wait_until(lambda: os.path.exists(socket), 5, "the agent listens")
        env = dict(os.environ, SSH_AUTH_SOCK=socket)
        for kind in ("ed25519", "rsa"):
            key = self.certify(self.key("agents_" + kind, kind))
            subprocess.run(["ssh-add", "-q", key], env=env, check=True, stdin=subprocess.DEVNULL)
            with Exed(self.sshd, self.conf(agent=socket), env={"HOME": self.sshd.path("empty")}) as exed:
                self.assertEqual(ping(exed, "web01")["status"], OK)
            subprocess.run(["ssh-add", "-q", "-D"], env=env, check=True, stderr=subprocess.DEVNULL)


class Server(Fixture):
    """The server of tests/support/logins on a free port, with its own host key."""

    def __init__(self, *flags):
        super().__init__()
        self.flags = flags
        self.host_key = kept_key(self.path("host_ed25519"), "ed25519")
        self.child = None

    def start(self):
        assert os.access(LOGINS, os.X_OK), "%s is missing: run `make support`" % LOGINS
        self.log = self.path("logins.log")
        with open(self.log, "wb") as out:
            self.child = Child([LOGINS, "-host-key", self.host_key, *self.flags], self.path("errors"),
                               stdout=out)
        self.port = int(wait_until(lambda: self.lines("ready"), 10, "the server listens")[0])
        with open(self.host_key + ".pub", encoding="utf-8") as f:
            self.public = " ".join(f.read().split()[:2])
        return self

    def lines(self, kind):
        with open(self.log, encoding="utf-8") as f:
            return [line.split(" ", 1)[1].strip() for line in f if line.startswith(kind + " ")]

    def tries(self):
        """[(method, result)] of the connections so far."""
        return [tuple(line.split()[1:]) for line in self.lines("try")]

    def stop(self):
        if self.child:
            self.child.end()
        self.forget()


class Passwords(unittest.TestCase):
    def serve(self, *flags):
        server = Server("-password", PASSWORD, *flags)
        self.addCleanup(server.stop)
        return server.start()

    def node(self, server, variables=None, known=None, keys=True):
        """An exed whose host `box` is the server, with the password in its inventory unless told otherwise."""
        variables = {"ansible_password": PASSWORD} if variables is None else variables
        text = "all:\n  hosts:\n    box:\n      ansible_host: 127.0.0.1\n      ansible_port: %d\n" % server.port
        for name, value in variables.items():
            text += "      %s: '%s'\n" % (name, value.replace("'", "''"))
        known_hosts = server.write("known_hosts", "[127.0.0.1]:%d %s\n" % (
            server.port, known or server.public))
        ssh = {"known_hosts": known_hosts, "user": "operator", "agent": "none",
               "key": kept_key(server.path("id_user"), "ed25519") if keys else None}
        home = server.path("home")
        os.makedirs(home, exist_ok=True)
        exed = Exed(conf={"inventory": {"path": server.write("hosts.yml", text)}, "ssh": ssh,
                          "log": {"log_level": "debug"}}, env={"HOME": home})
        self.addCleanup(exed.stop)
        return exed.start()

    def assert_secret(self, exed, *answers):
        """The password is in none of the answers, no log, and no environment or command line."""
        with open("/proc/%d/environ" % exed.pid, "rb") as f:
            texts = [f.read().decode("utf-8", "replace")]
        texts += [repr(a) for a in answers]
        texts += [repr(exed.get(path).body) for path in ("/healthz", "/jobs?detail=1&all=1", "/hosts")]
        for pid in exed.pids():
            with open("/proc/%d/cmdline" % pid, "rb") as f:
                texts.append(f.read().decode("utf-8", "replace"))
        texts.append(exed.log(1 << 20))
        for text in texts:
            self.assertNotIn("w\\0rd-of", text)
            self.assertNotIn("w\\\\0rd-of", text)

    def test_the_password_lets_in_by_either_method(self):
        for method in ("password", "keyboard-interactive"):
            for variable in ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password"):
                server = self.serve("-methods", method)
                exed = self.node(server, {variable: PASSWORD})
                record = exed.records(exed.execute("box", "true"))["box"][0]
                self.assertEqual((record["status"], record["stdout"]), (CHANGED, "ok\n"), record)
                self.assertEqual(server.tries()[-1], (method, "ok"))
                self.assert_secret(exed, record)

    def test_a_wrong_password_is_sent_once(self):
        for method in ("password", "keyboard-interactive"):
            server = self.serve("-methods", method + ",publickey")
            exed = self.node(server, {"ansible_password": PASSWORD + "x"})
            record = ping(exed, "box")
            self.assertEqual(record["status"], UNREACHABLE)
            self.assertRegex(record["error"], "login refused for user operator: tried id_user, the password")
            self.assertEqual([t for t in server.tries() if t[0] == method], [(method, "refused")])
            self.assert_secret(exed, record)

    def test_a_host_that_takes_both_gets_it_by_one(self):
        server = self.serve("-methods", "password,keyboard-interactive")
        self.assertEqual(ping(self.node(server, {"ansible_password": "no"}), "box")["status"], UNREACHABLE)
        self.assertEqual(server.lines("answers"), [])
        self.assertEqual([t for t in server.tries() if t[0] == "password"], [("password", "refused")])

    def test_keys_come_first_where_the_host_takes_keys(self):
        server = self.serve("-methods", "publickey,password")
        self.assertEqual(ping(self.node(server), "box")["status"], OK)
        self.assertEqual([m for m, _ in server.tries() if m != "none"], ["publickey", "password"])

    def test_without_a_key_the_host_is_asked_what_it_takes(self):
        server = self.serve("-methods", "password")
        self.assertEqual(ping(self.node(server, keys=False), "box")["status"], OK)
        self.assertEqual(server.tries(), [("none", "refused"), ("password", "ok")])

    def test_without_a_password_none_is_sent(self):
        server = self.serve("-methods", "publickey,password,keyboard-interactive")
        record = ping(self.node(server, {}), "box")
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertNotIn("password", [m for m, _ in server.tries()])
        self.assertEqual(server.lines("answers"), [])

    def test_a_host_that_takes_no_password_gets_none(self):
        server = self.serve("-methods", "publickey")
        record = ping(self.node(server), "box")
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertEqual({m for m, _ in server.tries()} - {"none"}, {"publickey"})
        server = self.serve("-methods", "password")
        record = ping(self.node(server, {}), "box")
        self.assertIn("the host takes password only", record["error"])

    def test_prompts_for_anything_else_are_not_answered(self):
        for prompts, rounds, answers in (("Password: |Token: ", 1, ["[0 0]"]), ("+Name: ", 1, ["[0]"]),
                                         ("Password: ", 2, ["[%d]" % len(PASSWORD), "[0]"])):
            server = self.serve("-methods", "keyboard-interactive", "-prompts", prompts, "-rounds",
                                str(rounds))
            record = ping(self.node(server), "box")
            self.assertEqual(record["status"], UNREACHABLE)
            self.assertIn("asked for more than the password", record["error"])
            self.assertEqual([line.split(" ", 1)[1] for line in server.lines("answers")], answers)

    def test_nothing_goes_to_a_host_whose_key_is_refused(self):
        server = self.serve("-methods", "password")
        other = make_key(server.path("other"), "ed25519")
        with open(other + ".pub", encoding="utf-8") as f:
            known = " ".join(f.read().split()[:2])
        record = ping(self.node(server, known=known), "box")
        self.assertEqual(record["status"], UNREACHABLE)
        self.assertIn("changed", record["error"])
        self.assertEqual(server.tries(), [])

    def test_a_template_is_no_password(self):
        server = self.serve("-methods", "password")
        exed = self.node(server, {"ansible_password": "{{ vault_password }}"})
        self.assertEqual(ping(exed, "box")["status"], UNREACHABLE)
        self.assertEqual([m for m, _ in server.tries() if m == "password"], [])
        self.assertIn("ansible_password: templates are not evaluated", exed.log())


if __name__ == "__main__":
    unittest.main()
