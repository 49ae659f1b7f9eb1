# SPDX-License-Identifier: MIT
"""Settings as a user meets them: exed -t, SIGHUP, the logs, and the service manager."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import BUILD, Exed, Sshd, wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

PROGRAM = os.path.join(BUILD, "exed")


def hup(node):
    """Sends SIGHUP and waits for what it says of it; returns the lines that came."""
    with open(node.error_log, encoding="utf-8") as f:
        before = f.read().count("SIGHUP")

    def lines():
        with open(node.error_log, encoding="utf-8") as f:
            text = f.read()
        rest = text.split("SIGHUP")[before + 1:]
        return rest[-1].splitlines() if rest else []

    os.kill(node.pid, signal.SIGHUP)
    wait_until(lambda: any(" node the settings are " in line for line in lines()), 10, "SIGHUP is done")
    return lines()[1:]


class Check(unittest.TestCase):
    """exed -t looks at all that the settings name, and touches none of it."""

    def setUp(self):
        where = tempfile.TemporaryDirectory(prefix="exedtest-")
        self.addCleanup(where.cleanup)
        self.dir = where.name
        self.write("hosts", "web01\n")

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def check(self, text, code):
        self.write("exed.conf", text)
        before = self.all_files()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EXED_")}
        done = subprocess.run([PROGRAM, "-t"], cwd=self.dir, env=dict(clean, HOME=self.dir), timeout=60,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertEqual(self.all_files(), before)
        self.assertEqual(done.stdout, "" if code else "exed.conf: ok\n")
        return done.stderr

    def all_files(self):
        return sorted(os.path.join(where, name) for where, dirs, names in os.walk(self.dir)
                      for name in names + dirs)

    def test_all_mistakes_of_all_kinds_are_told_at_once(self):
        said = self.check("[api]\nlisten_prot = 1\n[ssh]\nwindow = x\n[lgo]\nx = 1\n", 2)
        self.assertEqual([line.split(": ", 2)[1] for line in said.splitlines()],
                         ["exed.conf:2", "exed.conf:4", "exed.conf:5"])

    def test_each_file_is_looked_at(self):
        for section, key, value, words in (
                ("api", "token_file", "/nosuch", "No such file"),
                ("ssh", "key", "/nosuch/id", "/nosuch/id"),
                ("ssh", "key", self.write("id", "no key\n"), "id"),
                ("ssh", "key_passphrase_file", "/nosuch/pass", "/nosuch/pass"),
                ("log", "error_log", "/nosuch/dir/error.log", "/nosuch/dir/error.log"),
                ("log", "access_log", "/nosuch/dir/access.log", "/nosuch/dir/access.log"),
                ("log", "error_log", self.dir, self.dir),
                ("runner", "redis_url", "redis://host:x/0", "redis_url"),
                ("ssh", "known_hosts", self.dir, self.dir)):
            said = self.check("[%s]\n%s = %s\n" % (section, key, value), 2)
            self.assertRegex(said, r"\Aexed: exed\.conf:2: \[%s\] [a-z_]+: [^\n]*\n\Z" % section)
            self.assertIn(words, said)

    def test_a_file_is_no_directory(self):
        for section, key in (("runner", "modules"), ("ssh", "roles"), ("tasks", "secrets")):
            said = self.check("[%s]\n%s = hosts\n" % (section, key), 2)
            self.assertEqual(said, "exed: exed.conf:2: [%s] %s: hosts is no directory\n" % (section, key))

    def test_the_inventory_and_the_plugins_are_loaded(self):
        self.write("hosts", "[web\nweb01\n")
        self.write("modules/executors/mine.lua", "return {")
        self.write("modules/handlers/exed/other.lua", "return { type = 'handler' }")
        said = self.check("[runner]\nexecutor = shh\n", 2)
        for words in ("[inventory] path: ", "hosts:1", "mine.lua:1:", "other.lua", "no executor"):
            self.assertIn(words, said)
        self.assertTrue(all(line.startswith("exed: ") for line in said.splitlines()), said)

    def test_settings_of_executors_are_asked_for(self):
        self.write("hosts", "web01\n")
        self.write("modules/executors/mine.lua", """return { type = "executor", summary = "x", operations = {},
          settings = { size = { "integer", default = 1 } },
          check = function(settings) if settings.size > 5 then return nil, "too large for me" end return true end }""")
        for text, words in (("[executor mine]\nsize = many\n", "[executor mine] 'size' must be a whole number"),
                            ("[executor mine]\nsiez = 3\n", "[executor mine] unknown field 'siez', did you mean 'size'?"),
                            ("[executor mine]\nsize = 6\n", "mine.lua: too large for me"),
                            ("[executor main]\nsize = 3\n", "[executor main]: there is no executor 'main'")):
            self.assertIn(words, self.check(text, 2))
        self.check("[executor mine]\nsize = 3\n", 0)

    def test_the_state_directory_could_be_made_and_written(self):
        for path, words in (
                ("hosts", "state directory hosts is not a directory"),
                ("hosts/state", "cannot make directory hosts/state"),
                (self.dir + "/hosts/a/b", "cannot make directory %s/hosts/a/b" % self.dir)):
            said = self.check("[store]\ndir = %s\n" % path, 2)
            self.assertTrue(said.startswith("exed: exed.conf:2: [store] dir: "), said)
            self.assertIn(words, said)
        os.mkdir(self.dir + "/there", 0o755)
        for path in ("there", "there/state", "new", self.dir + "/one/two/three"):
            self.assertEqual(self.check("[store]\ndir = %s\n" % path, 0), "")

    @unittest.skipUnless(os.geteuid() == 0, "needs root to give a directory away")
    def test_the_state_directory_of_another_user_is_a_warning(self):
        os.mkdir(self.dir + "/there")
        os.chown(self.dir + "/there", 12345, 12345)
        self.assertIn("exed: warning: exed.conf:2: [store] dir: state directory there belongs to uid 12345",
                      self.check("[store]\ndir = there\n", 0))

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_the_state_directory_of_which_the_parent_is_not_ours(self):
        os.mkdir(self.dir + "/shut", 0o500)
        said = self.check("[store]\ndir = shut/state\n", 2)
        self.assertIn("cannot make directory shut/state in shut: Permission denied", said)

    def test_what_is_odd_is_a_warning(self):
        os.remove(os.path.join(self.dir, "hosts"))
        said = self.check("[ssh]\nknown_hosts = ./kh\n[api]\nlisten = 127.0.0.1:1\nlisten_port = 2\n"
                          "open = true\n[log]\nlog_level = info\nlog_level = debug\n", 0)
        for words in ("exed.conf:2: [ssh] known_hosts: ", "exed.conf:5: [api] listen_port does not count",
                      "exed.conf:9: `log_level` is given again; line 8", "there is no ./hosts yet"):
            self.assertIn(words, said)
        self.assertTrue(all(line.startswith("exed: warning: ") for line in said.splitlines()), said)

    def test_an_unreadable_file_is_named(self):
        os.mkdir(self.dir + "/conf.d")
        done = subprocess.run([PROGRAM, "-t", "-c", self.dir + "/conf.d"], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn(self.dir + "/conf.d", done.stderr)


class Reload(unittest.TestCase):
    def test_what_can_change_changes_and_what_cannot_is_named(self):
        with Sshd(2) as hosts, Exed(hosts) as node:
            other = node.write("other-hosts", open(hosts.inventory, encoding="utf-8").read()
                               .replace("web02", "db02"))
            node.conf["api"].update(max_hosts=1, allowed_hosts="exed.example,127.0.0.1", max_body="1k",
                                    pid_file=node.path("pid"))
            node.conf["runner"] = {"role": "api"}
            node.conf["inventory"]["path"] = other
            node.conf["store"]["memory"] = "900m"
            node.write_conf()
            said = "\n".join(hup(node))
            for name in ("[api] pid_file", "[runner] role", "[store] memory"):
                self.assertIn(name + " needs a restart", said)
            self.assertEqual(said.count("restart"), 3, said)
            self.assertEqual(sorted(node.get("/target").body), ["db02", "web01"])
            self.assertEqual(node.get("/target", headers={"Host": "exed.example"}).status, 200)
            self.assertEqual(node.get("/target", headers={"Host": "localhost"}).status, 421)
            self.assertEqual(node.get("/ping?target=all").status, 400)
            self.assertEqual(node.post("/ping", {"targets": ["x" * 2000]}).status, 413)
            self.assertEqual(node.get("/healthz").body["node"]["role"], "both")
            self.assertEqual(node.wait_job(node.execute("web01", "echo on"))["state"], 0)
            self.assertFalse(os.path.exists(node.path("pid")))
            node.conf["api"]["allowed_hosts"] = "127.0.0.1"
            node.conf["log"]["log_level"] = "error"
            node.write_conf()
            os.kill(node.pid, signal.SIGHUP)
            wait_until(lambda: node.get("/target", headers={"Host": "exed.example"}).status == 421, 10,
                       "it is read again")
            with open(node.error_log, encoding="utf-8") as f:
                self.assertEqual(f.read().count("in force"), 1)

    def test_a_broken_file_changes_nothing(self):
        with Sshd(1) as hosts, Exed(hosts) as node:
            before = node.get("/target", headers={"Host": "localhost"}).status
            node.conf["api"]["allowed_hosts"] = "127.0.0.1"
            node.conf["ssh"]["key"] = "/nosuch/key"
            node.conf["log"]["error_log"] = node.path("elsewhere.log")
            node.write_conf()
            said = "\n".join(hup(node))
            self.assertRegex(said, r"error config \S+exed\.conf:\d+: \[ssh\] key: .*/nosuch/key")
            self.assertIn("former ones stay", said)
            self.assertEqual(node.get("/target", headers={"Host": "localhost"}).status, before)
            self.assertEqual(node.wait_job(node.execute("web01", "true"))["state"], 0)
            node.write("exed.conf", "[api]\nlisten_prot = 1\n[ssh]\nwindow = x\n")
            said = "\n".join(hup(node))
            self.assertRegex(said, r"exed\.conf:2: unknown key `listen_prot`")
            self.assertRegex(said, r"exed\.conf:4: \[ssh\] window")
            os.remove(node.path("exed.conf"))
            self.assertIn("there is no file", "\n".join(hup(node)))
            self.assertEqual(node.wait_job(node.execute("web01", "true"))["state"], 0)

    def test_known_hosts_and_keys_are_read_again(self):
        with Sshd(1) as hosts, Exed(hosts) as node:
            self.assertEqual(node.get("/ping?target=web01").body["web01"]["status"], 1)
            node.conf["ssh"].update(known_hosts=node.write("empty", ""), keep="none")
            node.write_conf()
            hup(node)
            wait_until(lambda: node.get("/ping?target=web01").body["web01"]["status"] == 4, 10,
                       "the host is not known any more")
            node.conf["ssh"]["known_hosts"] = hosts.known_hosts
            node.write_conf()
            hup(node)
            self.assertEqual(node.get("/ping?target=web01").body["web01"]["status"], 1)

    def test_keys_and_known_hosts_that_change_are_read_without_asking(self):
        with Sshd(1) as hosts:
            node = Exed(hosts)
            with open(hosts.known_hosts, encoding="utf-8") as f:
                known = f.read()
            path, key = node.write("kh", ""), node.path("late-key")
            with open(hosts.inventory, encoding="utf-8") as f:
                inventory = f.read().replace(hosts.key, key)
            node.conf["inventory"]["path"] = node.write("hosts", inventory)
            node.conf["ssh"].update(known_hosts=path, keep="none", key=None, agent="none")
            node.extra_env["HOME"] = node.dir

            def answer():
                return node.get("/ping?target=web01").body["web01"]

            with node:
                self.assertIn("no entry for", answer()["error"])
                node.write("kh", known)
                wait_until(lambda: "late-key" in answer().get("error", ""), 10, "the host is known")
                with open(hosts.key, encoding="utf-8") as f:
                    node.write("late-key", f.read(), 0o600)
                wait_until(lambda: answer()["status"] == 1, 10, "the key is there")
                node.write("kh", "")
                wait_until(lambda: "no entry for" in answer().get("error", ""), 10, "it is unknown again")
                self.assertIn("/kh has changed", node.log())

    def test_open_connections_and_running_jobs_go_on(self):
        with Sshd(1) as hosts, Exed(hosts) as node:
            jid = node.execute("web01", "while [ ! -e %s ]; do sleep 0.05; done; echo done"
                               % node.path("go"))
            stream = node.follow(jid)
            next(stream)
            for _ in range(5):
                hup(node)
            node.write("go", "")
            records = list(stream)
            self.assertEqual(records[-1]["web01"]["stdout"], "done\n")

    def test_an_off_loopback_listener_cannot_lose_its_guard(self):
        node = Exed()
        node.conf["api"].update(listen="0.0.0.0:%d" % node.port,
                                token_file=node.write("tokens", "s3cret\n", 0o600))
        node.launch()
        try:
            wait_until(lambda: self.status(node) == 401, 15, "it serves")
            del node.conf["api"]["token_file"]
            node.write_conf()
            self.assertIn("is not loopback", "\n".join(hup(node)))
            self.assertEqual(self.status(node), 401)
        finally:
            node.stop()

    def status(self, node):
        node.child.check()
        try:
            return node.get("/target").status
        except ConnectionRefusedError:
            return None


class Logs(unittest.TestCase):
    def test_logrotate_s_way(self):
        with Exed() as node:
            node.get("/target")
            os.rename(node.access_log, node.access_log + ".1")
            os.rename(node.error_log, node.error_log + ".1")
            os.kill(node.pid, signal.SIGHUP)
            wait_until(lambda: os.path.exists(node.error_log) and
                       "in force" in open(node.error_log, encoding="utf-8").read(), 10, "it is opened anew")
            node.get("/jobs")
            wait_until(lambda: "path=/jobs" in open(node.access_log, encoding="utf-8").read(), 10,
                       "the new file has the line")
            self.assertNotIn("path=/jobs", open(node.access_log + ".1", encoding="utf-8").read())
            self.assertEqual(os.stat(node.error_log).st_mode & 0o7, 0)

    def test_both_are_on_standard_output_at_first(self):
        node = Exed()
        node.conf["log"] = {}
        with node:
            node.get("/target")
            wait_until(lambda: " info access peer=127.0.0.1:" in node.log(), 5, "the access log is there")
            for line in node.log().splitlines():
                self.assertRegex(line, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
                                       r"(debug|info|warning|error) \S+ \S")

    def test_none_turns_the_access_log_off(self):
        node = Exed()
        node.conf["log"] = {"access_log": "none"}
        with node:
            node.get("/target")
            node.term()
            self.assertNotIn("peer=", node.log())
            self.assertFalse(os.path.exists(node.path("none")))

    def test_a_log_s_directory_that_is_missing_is_named(self):
        for key in ("error_log", "access_log"):
            node = Exed(conf={"log": {key: "/nosuch/dir/x.log"}})
            self.addCleanup(node.stop)
            code, output = node.run_to_end()
            self.assertEqual(code, 2, output)
            self.assertRegex(output, r"exed\.conf:\d+: \[log\] %s: cannot open log /nosuch/dir/x\.log: "
                                     r"its directory does not exist\n\Z" % key)


class Manager(unittest.TestCase):
    """systemd's side of sd_notify: a datagram socket."""

    def setUp(self):
        self.node = Exed()
        self.addCleanup(self.node.stop)
        self.path = self.node.path("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(self.path)
        self.socket.settimeout(20 * SLOW)
        self.node.extra_env["NOTIFY_SOCKET"] = self.path

    def until(self, word):
        """The datagrams up to the one that has that word."""
        got = []
        while not got or word not in got[-1]:
            got.append(self.socket.recv(4096).decode())
        return got

    def test_it_is_told_of_ready_reload_and_stop(self):
        self.node.start()
        self.assertIn("READY=1", self.until("READY=1")[0])
        os.kill(self.node.pid, signal.SIGHUP)
        said = self.until("READY=1")
        match = re.search(r"^RELOADING=1\nMONOTONIC_USEC=(\d+)$", said[0], re.M)
        self.assertTrue(match, said)
        with open("/proc/uptime", encoding="ascii") as f:
            self.assertLess(int(match.group(1)) / 1e6, float(f.read().split()[0]) + 1)
        os.kill(self.node.pid, signal.SIGTERM)
        self.until("STOPPING=1")
        self.assertEqual(self.node.child.popen.wait(30), 0)

    def test_no_child_may_speak_for_it(self):
        self.node.extra_env.update(WATCHDOG_USEC="200000")
        self.node.start()
        with open("/proc/%d/environ" % self.node.redis_pid(), "rb") as f:
            self.assertNotIn(b"NOTIFY_SOCKET", f.read())

    def test_the_watchdog_is_fed_by_the_loop_and_starves_with_it(self):
        self.node.extra_env.update(WATCHDOG_USEC="400000")
        self.node.launch()
        self.until("READY=1")
        for _ in range(5):
            self.until("WATCHDOG=1")
        os.kill(self.node.pid, signal.SIGSTOP)
        try:
            self.socket.settimeout(2)
            with self.assertRaises(TimeoutError):
                while True:  # what was sent before
                    self.socket.recv(4096)
        finally:
            os.kill(self.node.pid, signal.SIGCONT)
        self.socket.settimeout(20 * SLOW)
        self.until("WATCHDOG=1")

    def test_an_abstract_socket_will_do_and_one_that_is_gone_harms_nobody(self):
        name = "exedtest-%d" % os.getpid()
        other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(other.close)
        other.bind("\0" + name)
        other.settimeout(20 * SLOW)
        self.node.extra_env["NOTIFY_SOCKET"] = "@" + name
        self.node.start()
        self.assertIn(b"READY=1", other.recv(4096))
        other.close()
        hup(self.node)
        self.assertEqual(self.node.get("/healthz").status, 200)


if __name__ == "__main__":
    unittest.main()
