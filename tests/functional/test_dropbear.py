# SPDX-License-Identifier: MIT
"""A second friendly server: what works with OpenSSH's sshd works with dropbear."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support")]

from exedtest import Child, Exed, free_port, wait_until  # noqa: E402
from exedtest.procs import Fixture, with_marker  # noqa: E402
from exedtest.sshd import kept_key  # noqa: E402

OK, CHANGED, FAILED = 1, 5, 3
DROPBEAR = shutil.which("dropbear", path="/usr/sbin:/usr/bin:/sbin:/bin")

# dropbear reads authorized_keys in the user's home only; this gives it another one.
HOME_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pwd.h>
#include <stdlib.h>
struct passwd *getpwnam(const char *name)
{
	struct passwd *(*real)(const char *) = (struct passwd *(*)(const char *))dlsym(RTLD_NEXT, "getpwnam");
	struct passwd *p = real(name);

	if (p && getenv("DROPBEAR_HOME")) {
		p->pw_dir = getenv("DROPBEAR_HOME");
		p->pw_shell = "/bin/sh";
	}
	return p;
}
"""


class Dropbear(Fixture):
    """dropbear at 127.0.0.1, one host: the same attributes that Exed takes from an Sshd."""

    def __init__(self):
        super().__init__()
        self.port, self.user = free_port(), getpass.getuser()
        self.home = self.path("home")
        os.makedirs(os.path.join(self.home, ".ssh"), mode=0o700)
        self.key = kept_key(self.path("ed25519"), "ed25519")
        shutil.copy(self.key + ".pub", os.path.join(self.home, ".ssh", "authorized_keys"))
        os.chmod(os.path.join(self.home, ".ssh", "authorized_keys"), 0o600)
        self.child = None

    def start(self):
        library, source, host_key = self.path("home.so"), self.write("home.c", HOME_SOURCE), self.path("host")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        said = subprocess.run(["dropbearkey", "-t", "ed25519", "-f", host_key], check=True, capture_output=True)
        public = next(line for line in said.stdout.decode().splitlines() if line.startswith("ssh-"))
        self.known_hosts = self.write("known_hosts", "[127.0.0.1]:%d %s\n" % (
            self.port, " ".join(public.split()[:2])))
        self.inventory = self.write("hosts.ini", "bear ansible_host=127.0.0.1 ansible_port=%d\n" % self.port)
        env = dict(os.environ, LD_PRELOAD=library, DROPBEAR_HOME=self.home)
        self.child = Child([DROPBEAR, "-F", "-E", "-p", "127.0.0.1:%d" % self.port, "-r", host_key,
                            "-P", self.path("pid")], self.path("dropbear.log"), env=env)
        wait_until(self.answers, 10, "dropbear answers")
        return self

    def answers(self):
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            return s.recv(4) == b"SSH-"

    def stop(self):
        if self.child:
            self.child.end()
            self.child = None
        self.forget()


@unittest.skipUnless(DROPBEAR, "dropbear is not installed")
class Friendly(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bear = Dropbear().start()
        os.makedirs(cls.bear.path("roles", "r"))
        cls.bear.write("roles/r/deploy.sh", "wc -c <file\n")
        cls.bear.write("roles/r/file", "x" * 3000000)
        cls.exed = Exed(cls.bear, {"ssh": {"agent": "none", "roles": cls.bear.path("roles")}}).start()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.exed.stop()
        finally:
            cls.bear.stop()

    def run_one(self, cmd, **options):
        [record] = self.exed.wait_job(self.exed.execute(["bear"], cmd, **options))["return_data"]["bear"]
        return record

    def test_ping(self):
        self.assertEqual(self.exed.get("/ping?target=bear").body, {"bear": {"status": OK}})

    def test_a_command_with_output_and_exit_code(self):
        record = self.run_one("echo out; echo err >&2; exit 3")
        self.assertEqual((record["status"], record["rtc"], record["stdout"], record["stderr"]),
                         (FAILED, 3, "out\n", "err\n"))

    def test_a_script_on_stdin(self):
        record = self.run_one("printf '%s|' 'a\\b' \"$HOME\" !\nread -r x || echo end of input")
        self.assertEqual((record["status"], record["stdout"]),
                         (CHANGED, "a\\b|%s|!|end of input\n" % self.bear.home))

    def test_long_output(self):
        record = self.run_one("head -c 5000000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2")
        self.assertEqual((record["status"], record["stdout_bytes"], record.get("truncated")),
                         (CHANGED, 5000000, True))
        self.assertEqual(record["stdout"], "x" * (1 << 20))
        self.assertEqual(record["stderr"], "y" * 300000)

    def test_many_at_once_keep_their_output_and_exit_code(self):
        """dropbear mixes up commands that end together on one connection: they go one after the other."""
        jids = [self.exed.execute(["bear"], "echo %d" % i, lock="none") for i in range(30)]
        records = [self.exed.wait_job(jid)["return_data"]["bear"][0] for jid in jids]
        self.assertEqual([r.get("stdout") for r in records], ["%d\n" % i for i in range(30)], records)

    def test_a_fence(self):
        record = self.run_one("echo x >> $HOME/ran; cat $HOME/ran", fence=True)
        self.assertEqual((record["status"], record["stdout"]), (CHANGED, "x\n"))

    def test_files_are_sent(self):
        [record] = self.exed.wait_job(self.exed.submit("/deploy", {"targets": ["bear"], "role": "r"}))["return_data"]["bear"]
        self.assertEqual((record["status"], record["return_data"]), (CHANGED, "3000000\n"), record)

    def test_a_time_limit_kills(self):
        record = self.run_one("sleep 314159 & sleep 314159", timeout=1)
        self.assertEqual((record["timed_out"], record["killed"], record["survivors"]), (True, True, 0), record)
        self.assertEqual(with_marker("314159", environ=False), [])

    def test_a_signal(self):
        record = self.run_one("kill -TERM $$")
        self.assertEqual((record["status"], record["rtc"]), (FAILED, 143), record)


if __name__ == "__main__":
    unittest.main()
