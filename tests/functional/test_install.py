# SPDX-License-Identifier: MIT
"""`make install` and `make uninstall`: what is installed runs with nothing of the sources in reach."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import BUILD, ROOT, Exed, Sshd  # noqa: E402


def make(*args):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "-C", ROOT, "BUILD=" + BUILD, *args], env=env, capture_output=True,
                          text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of(top):
    return sorted(os.path.relpath(os.path.join(where, name), top)
                  for where, _, names in os.walk(top) for name in names)


class Install(unittest.TestCase):
    def setUp(self):
        where = tempfile.TemporaryDirectory(prefix="exedtest-")
        self.addCleanup(where.cleanup)
        self.dir = where.name

    def test_it_runs_from_where_it_was_moved_to(self):
        """DESTDIR is where a package is put together: it must hold no path of it, nor of the sources."""
        staged, final = self.dir + "/staged", self.dir + "/final"
        make("install", "DESTDIR=" + staged, "PREFIX=/opt/exed")
        shutil.move(staged + "/opt/exed", final)
        for name in files_of(final):
            if name.startswith("bin/"):
                continue
            with open(os.path.join(final, name), "rb") as f:
                text = f.read()
            self.assertNotIn(staged.encode(), text, name)
            self.assertNotIn(ROOT.encode(), text, name)
        wanted = [os.path.join(top, name) for top in ("lua", "executors", "tasks")
                  for name in files_of(os.path.join(ROOT, top)) if not name.endswith("_test.lua")]
        self.assertEqual(files_of(final + "/share/exed"), sorted(wanted + ["conf/luacheckrc"]))
        with Sshd(1) as hosts:
            node = Exed(hosts, program=final + "/bin/exed")
            with node:
                jid = node.execute("web01", "echo installed")
                self.assertEqual(node.wait_job(jid)["return_data"]["web01"][0]["stdout"], "installed\n")
                opened = [os.path.realpath("/proc/%d/cwd" % node.pid)]
                with open("/proc/%d/maps" % node.pid, encoding="utf-8") as f:
                    opened += [line.split()[-1] for line in f if "/" in line]
                opened += node.fds().values()
                self.assertFalse([path for path in opened if path.startswith(ROOT + "/")
                                  and not path.startswith(self.dir)
                                  and path != os.environ.get("LD_PRELOAD")], opened)

    def test_settings_are_kept_and_uninstall_leaves_only_them(self):
        etc = self.dir + "/usr/local/etc/exed"
        make("install", "DESTDIR=" + self.dir)
        self.assertEqual(os.stat(self.dir + "/usr/local/bin/exed").st_mode & 0o777, 0o755)
        with open(etc + "/exed.conf", "w", encoding="utf-8") as f:
            f.write("[ssh]\nwindow = 7\n")
        os.remove(etc + "/hosts")
        make("install", "DESTDIR=" + self.dir)
        with open(etc + "/exed.conf", encoding="utf-8") as f:
            self.assertEqual(f.read(), "[ssh]\nwindow = 7\n")
        self.assertTrue(os.path.exists(etc + "/hosts"))
        self.assertIn(etc, make("uninstall", "DESTDIR=" + self.dir))
        self.assertEqual(files_of(self.dir), ["usr/local/etc/exed/exed.conf", "usr/local/etc/exed/hosts"])

    def test_under_usr_the_settings_are_in_etc(self):
        make("install", "DESTDIR=" + self.dir, "PREFIX=/usr")
        self.assertTrue(os.path.exists(self.dir + "/etc/exed/exed.conf"))
        with open(self.dir + "/usr/lib/systemd/system/exed.service", encoding="utf-8") as f:
            unit = f.read()
        self.assertIn("ExecStart=/usr/bin/exed ", unit)
        self.assertIn("WorkingDirectory=/etc/exed\n", unit)
        self.assertNotIn("/usr/local", unit)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd-analyze")
    def test_the_unit_is_sound(self):
        make("install", "PREFIX=" + self.dir, "SYSCONFDIR=" + self.dir + "/etc")
        unit = self.dir + "/lib/systemd/system/exed.service"
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True,
                              timeout=120, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=25", unit],
                              capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-300:] + done.stderr)

    def test_the_shipped_settings_pass_their_own_test(self):
        make("install", "PREFIX=" + self.dir + "/p", "SYSCONFDIR=" + self.dir + "/etc")
        env = {name: value for name, value in os.environ.items() if not name.startswith("EXED_")}
        done = subprocess.run([self.dir + "/p/bin/exed", "-t", "-c", "exed.conf"], env=env,
                              cwd=self.dir + "/etc/exed", capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "exed.conf: ok\n", ""))

    def test_what_was_unpacked_with_a_loose_umask_works(self):
        make("install", "PREFIX=" + self.dir + "/p", "SYSCONFDIR=" + self.dir + "/etc")
        subprocess.run(["chmod", "-R", "g+w", self.dir + "/p"], check=True)
        for words in (["exed", "-t"], ["exed-run", "rolling_restart", "--help"]):
            done = subprocess.run([self.dir + "/p/bin/" + words[0], *words[1:]], cwd=self.dir + "/etc/exed",
                                  capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
