# SPDX-License-Identifier: MIT
"""exed at the shell: its options, what it says of wrong settings, and its exit codes.

0: ended as asked, 1: the node cannot go on, 2: wrong usage or configuration.
"""

import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import BUILD, Child, Exed, Redis, Sshd, free_port, wait_until, with_marker  # noqa: E402
from exedtest.procs import end_pids  # noqa: E402

PROGRAM = os.path.join(BUILD, "exed")


class Options(unittest.TestCase):
    def setUp(self):
        where = tempfile.TemporaryDirectory(prefix="exedtest-")
        self.addCleanup(where.cleanup)
        self.dir = where.name
        self.conf("web01\n", "hosts")

    def conf(self, text, name="exed.conf"):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def run_exed(self, *args, code=0, **env):
        """Runs it to its end; returns what it printed to stdout and to stderr."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EXED_")}
        done = subprocess.run([PROGRAM, *args], cwd=self.dir, env=dict(clean, **env), timeout=60,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout, done.stderr

    def test_help_names_every_option(self):
        for option in ("-h", "--help"):
            out, err = self.run_exed(option)
            for word in ("--conf", "--daemon", "--test", "--help", "--version", "worker", "--exe-conf"):
                self.assertIn(word, out)
            self.assertEqual(err, "")

    def test_version(self):
        for option in ("-v", "--version"):
            out, err = self.run_exed(option)
            self.assertRegex(out, r"\Aexed \d+\.\d+\.\d+\n\Z")
            self.assertEqual(err, "")

    def test_wrong_usage_is_explained_with_code_2(self):
        for args, word in ((["-x"], "'x'"), (["--nosuch"], "nosuch"), (["nosuch"], '"nosuch"'),
                           (["-c"], "'c'"), (["worker", "more"], '"worker"')):
            out, err = self.run_exed(*args, code=2)
            self.assertEqual(out, "")
            self.assertIn(word, err)
            self.assertIn("usage: exed", err)

    def test_t_checks_the_settings_and_starts_nothing(self):
        path = self.conf("[api]\nlisten_port = 1\n[store]\ndir = %s/state\n" % self.dir)
        for args in (["-t", "-c", path], ["-c", path, "--test"], ["--conf", path, "-t"],
                     ["-t", "--exe-conf", path], ["-t"]):
            out, err = self.run_exed(*args)
            self.assertRegex(out, r"exed\.conf: ok\n\Z")
            self.assertEqual(err, "")
        self.assertFalse(os.path.exists(os.path.join(self.dir, "state")))

    def test_t_names_the_line_of_what_a_setting_names_and_is_not_there(self):
        for text, code, words in (
                ("[runner]\n\nexecutor = foo\n", 2, (":3: [runner] executor: ", "'foo'", "local", "ssh")),
                ("[store]\nredis_server = /nosuch/redis\n", 2, (":2: [store] redis_server: ", "/nosuch/redis")),
                ("[store]\nredis_server = nosuchredis\n", 2, (":2: [store] redis_server: ", "PATH")),
                ("[store]\ndir = /etc/passwd\n", 2, (":2: [store] dir: ", "not a directory")),
                ("[inventory]\npath = /nosuch\n", 0, ("warning: ", ":2: [inventory] path: ", "/nosuch")),
                ("[tasks]\nsecrets = /nosuch\n", 0, ("warning: ", ":2: [tasks] secrets: ", "/nosuch"))):
            err = self.run_exed("-t", "-c", self.conf(text, "named.conf"), code=code)[1]
            self.assertEqual(err.count("\n"), 1, err)
            for word in words:
                self.assertIn(word, err)
        self.run_exed("-t", "-c", self.conf("[store]\nredis_server = /nosuch\n[runner]\n"
                                            "redis_url = redis://127.0.0.1:1\n", "named.conf"))

    def test_without_a_file_the_defaults_hold(self):
        self.assertIn("defaults", self.run_exed("-t")[0])

    def test_a_file_that_is_missing_is_named(self):
        for more in ([], ["-t"]):
            self.assertIn("/nosuch/exed.conf", self.run_exed("-c", "/nosuch/exed.conf", *more, code=2)[1])

    def test_wrong_settings_are_named_with_file_and_line(self):
        for text, words in (
                ("[api]\nlisten_prot = 1\n", (":2:", "`listen_prot`", "`listen_port`")),
                ("[apj]\nlisten_port = 1\n", ("[apj]", "[api]")),
                ("[ssh]\n\nwindow = many\n", (":3:", "[ssh] window", '"many"')),
                ("[ssh]\nwindow = 0\n", (":2:", "window")),
                ("[store]\nttl = soon\n", (":2:", "[store] ttl")),
                ("[ssh]\nhost_key_checking = maybe\n", (":2:", "host_key_checking")),
                ("[runner]\nredis_url = amqp://x\n", ("redis_url", "redis://")),
                ("[api]\nlisten = 0.0.0.0:0\n", ("0.0.0.0", "token_file", "open = true")),
                ("listen_port = 1\n", (":1:",))):
            path = self.conf(text, "wrong.conf")
            for more in (["-t"], []):
                out, err = self.run_exed("-c", path, *more, code=2)
                self.assertEqual(out, "")
                self.assertTrue(err.startswith("exed: "), err)
                self.assertEqual(err.count("\n"), 1, err)
                for word in words:
                    self.assertIn(word, err)

    def test_the_environment_counts_and_is_checked(self):
        self.assertIn("EXED_SSH_WINDOW", self.run_exed("-t", code=2, EXED_SSH_WINDOW="x")[1])
        self.run_exed("-t", EXED_SSH_WINDOW="7")
        err = self.run_exed("-t", EXED_SSH_WINDO="7")[1]
        self.assertRegex(err, r"warning: .*EXED_SSH_WINDO\b.*EXED_SSH_WINDOW")

    def test_settings_of_the_predecessor_are_taken(self):
        path = self.conf('[api_server]\nlisten_addr = "127.0.0.1"\nlisten_port = 16808\n'
                         "[runner]\nexecutor = 'ssh'\nbroker_url = amqp://guest:guest@localhost:5672//\n"
                         "[log]\nlog_level = debug\n[ansible]\nworkdir = .\nplaybooks = playbooks\n")
        out, err = self.run_exed("-t", "-c", path)
        self.assertIn("ok", out)
        self.assertRegex(err, r"\Aexed: warning: .*broker_url[^\n]*\n\Z")


class CannotStart(unittest.TestCase):
    """What stands in the way is said in one plain line, with exit code 1."""

    def refused(self, sections, *words):
        node = Exed(conf=sections)
        try:
            code, output = node.run_to_end(30)
            log = node.log()
        finally:
            node.stop()
        self.assertEqual(code, 1, output)
        self.assertNotIn("traceback", output)
        said = [line for line in output.splitlines() if line.startswith("exed: ")]
        self.assertEqual(len(said), 1, output)
        for word in words:
            self.assertIn(word, said[0])
            self.assertIn(word, log)

    def test_redis_server_is_missing(self):
        self.refused({"store": {"redis_server": "/nosuch/redis-server"}}, "/nosuch/redis-server")
        self.refused({"store": {"redis_server": "no-such-redis-server"}}, "no-such-redis-server")

    def test_redis_server_is_another_program(self):
        self.refused({"store": {"redis_server": "/bin/false"}}, "redis-server ended with exit code 1")

    def test_the_state_directory_cannot_be_made(self):
        with tempfile.NamedTemporaryFile() as f:
            self.refused({"store": {"dir": f.name + "/state"}}, f.name)
            self.refused({"store": {"dir": f.name}}, f.name, "not a directory")

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_the_state_directory_cannot_be_written(self):
        with tempfile.TemporaryDirectory() as where:
            os.chmod(where, 0o500)
            self.refused({"store": {"dir": where + "/state"}}, where)

    @unittest.skipUnless(os.geteuid() == 0, "only root can give a directory away")
    def test_the_state_directory_belongs_to_another_user(self):
        with tempfile.TemporaryDirectory() as where:
            os.chown(where, 65534, 65534)
            self.refused({"store": {"dir": where}}, where)

    def test_the_address_is_taken(self):
        with Exed() as first:
            self.refused({"api": {"listen": "127.0.0.1:%d" % first.port}}, "127.0.0.1:%d" % first.port)
            self.assertEqual(first.get("/healthz").status, 200)

    def test_an_outside_redis_that_is_too_careless(self):
        with Redis(maxmemory_policy="allkeys-lru") as redis:
            self.refused({"runner": {"redis_url": redis.url}}, "noeviction")


class Running(unittest.TestCase):
    def test_two_nodes_never_share_a_state_directory(self):
        with Exed() as first:
            second = Exed(store=first.state)
            try:
                code, output = second.run_to_end(20)
            finally:
                second.stop()
            self.assertEqual(code, 1, output)
            self.assertIn(first.state, output)
            self.assertIn(str(first.pid), output)
            self.assertEqual(first.get("/healthz").body["store"]["state"], "up")
            self.assertEqual(len(first.pids()), 2, "itself and its redis-server")

    def test_term_and_int_end_it_with_code_0_and_a_new_start_keeps_the_jobs(self):
        with Sshd(1) as hosts, Exed(hosts) as node:
            jid = node.execute(["web01"], "echo kept")
            before = node.wait_job(jid)
            self.assertEqual(node.term(), 0)
            node.start()
            self.assertEqual(node.job(jid), before)
            self.assertEqual(node._end(signal.SIGINT, 15), 0)
            node.start()
            self.assertEqual(node.get("/jobs").body, [jid])
            self.assertEqual(node.get("/healthz").body["node"]["incarnation"], 3)

    def test_a_worker_runs_the_jobs_of_an_api_node(self):
        """With the same file of settings, and beside it on one machine: the pid file is the API's."""
        with Sshd(1) as hosts, Redis() as redis:
            pid_file = redis.path("exed.pid")
            shared = {"runner": {"redis_url": redis.url, "role": "api"}, "ssh": {"agent": "none"},
                      "api": {"pid_file": pid_file}}
            with Exed(hosts, shared) as api:
                jid = api.execute(["web01"], "echo $PPID")
                worker = Exed(hosts, dict(shared, runner={"redis_url": redis.url}))
                port, conf = worker.port, worker.write_conf()
                worker.child = Child([PROGRAM, "worker", "--exe-conf", conf], worker.path("exed.log"),
                                     env=worker.environment(), cwd=worker.dir)
                try:
                    self.assertEqual(api.wait_job(jid)["state"], 0)
                    with self.assertRaises(ConnectionRefusedError):
                        worker.get("/healthz")
                    self.assertEqual(worker.port, port)
                finally:
                    worker.stop()
                with open(pid_file, encoding="utf-8") as f:
                    self.assertEqual(f.read(), "%d\n" % api.pid)

    def test_the_pid_file_is_there_while_it_runs(self):
        node = Exed()
        node.conf["api"]["pid_file"] = path = node.path("exed.pid")
        with node:
            with open(path, encoding="utf-8") as f:
                self.assertEqual(f.read(), "%d\n" % node.pid)
        self.assertFalse(os.path.exists(path))

    def test_d_goes_to_the_background_once_it_serves(self):
        node = Exed()
        node.conf["api"]["pid_file"] = path = node.path("exed.pid")
        try:
            done = subprocess.run([PROGRAM, "-d", "-c", node.write_conf()], env=node.environment(),
                                  cwd=node.dir, timeout=60, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout), (0, ""))
            wait_until(lambda: node.get("/healthz").status == 200, 10, "its store is there")
            with open(path, encoding="utf-8") as f:
                pid = int(f.read())
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not with_marker(node.dir, environ=False), 15, "it ends")
            self.assertFalse(os.path.exists(path))
        finally:
            end_pids(with_marker(node.dir, environ=False))
            node.stop()

    def test_d_without_a_log_is_warned_of(self):
        node = Exed(conf={"store": {"redis_server": "/nosuch/redis-server"}})
        node.conf["log"] = {}
        try:
            done = subprocess.run([PROGRAM, "-d", "-c", node.write_conf()], env=node.environment(),
                                  cwd=node.dir, timeout=60, capture_output=True, text=True)
        finally:
            node.stop()
        self.assertIn("warning: in the background nobody sees standard output", done.stderr)

    def test_d_says_why_it_cannot_start(self):
        node = Exed(conf={"store": {"redis_server": "/nosuch/redis-server"}})
        try:
            done = subprocess.run([PROGRAM, "-d", "-c", node.write_conf()], env=node.environment(),
                                  cwd=node.dir, timeout=60, capture_output=True, text=True)
        finally:
            node.stop()
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nosuch/redis-server", done.stderr)


class Settings(unittest.TestCase):
    """Settings of [api] that a client sees."""

    def test_server_header_state_alias_and_limits(self):
        with Sshd(3) as hosts, Exed(hosts, {"api": {
                "server_header": "0ops Api Server", "state_alias": True, "max_hosts": 2, "max_body": "1k",
                "allowed_hosts": "exed.example, 127.0.0.1"}}) as node:
            name = {"Host": "exed.example"}
            answer = node.get("/execute?target=web01&cmd=exit+1", headers=name)
            self.assertEqual(answer.headers["server"], "0ops Api Server")
            record = answer.body["web01"]
            self.assertEqual((record["status"], record["state"]), (3, 3))
            jid = answer.headers["exed-jid"]
            job = node.get("/jobs/%s?outputs=1" % jid, headers=name).body
            self.assertEqual(job["return_data"]["web01"][0]["state"], 3)
            self.assertEqual(node.get("/ping?target=all", headers=name).status, 400)
            long = node.post("/execute", {"targets": "web01", "cmd": "x" * 2000}, headers=name)
            self.assertEqual(long.status, 413)
            self.assertEqual(node.get("/target", headers={"Host": "localhost"}).status, 421)

    def test_without_them(self):
        with Sshd(1) as hosts, Exed(hosts) as node:
            answer = node.get("/ping?target=web01")
            self.assertRegex(answer.headers["server"], r"^exed/\d")
            self.assertEqual(answer.body["web01"], {"status": 1})

    def test_several_listeners(self):
        port = free_port()
        node = Exed()
        node.conf["api"]["listen"] = [node.conf["api"]["listen"], "127.0.0.1:%d exed" % port]
        with node:
            node.port, first = port, node.port
            self.assertEqual(node.get("/target").status, 200)
            node.port = first

    def test_a_token_lets_in(self):
        node = Exed()
        node.conf["api"]["token_file"] = node.write("tokens", "# ours\nsecret-token\n", 0o600)
        node.launch()
        try:
            wait_until(lambda: node.get("/target").status == 401, 15, "it serves")
            answer = node.get("/target")
            self.assertEqual(answer.headers["www-authenticate"], "Bearer")
            self.assertIn("message", answer.body)
            good = node.get("/target", headers={"Authorization": "Bearer secret-token"})
            self.assertEqual(good.status, 200)
            self.assertEqual(node.get("/target", headers={"Authorization": "Bearer x"}).status, 401)
        finally:
            node.stop()


if __name__ == "__main__":
    unittest.main()
