# SPDX-License-Identifier: MIT
"""What becomes of jobs and clients when Redis, its disk, or this machine's descriptors fail. Clients get a
success that is true or a 503 with Retry-After; the node stays up; what was accepted ends, and the hosts'
own files say that nothing ran twice."""

import glob
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from contextlib import ExitStack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
sys.path.insert(0, os.path.join(ROOT, "tests", "chaos"))

from common import Hosts, make_node, taken_over  # noqa: E402
from exedtest import Exed, Fleet, Redis, Sshd, wait_until  # noqa: E402
from exedtest.procs import BUILD, SLOW  # noqa: E402

CHANGED = 5
# Takes minutes: `make slow`.
slow = unittest.skipUnless(os.environ.get("EXED_TEST_SLOW"), "EXED_TEST_SLOW is not set")
RUN = "echo $EXED_OP $EXED_TEST_NODE $(date +%s%N) >>$EXED_TEST_DIR/ran; "


class Proxy:
    """A TCP proxy that can stop forwarding: its connections stay open, and nothing comes any more."""

    def __init__(self, port):
        self.to, self.pairs, self.dead, self.ending = port, {}, [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = "redis://127.0.0.1:%d/0" % self.port
        self.accepting = True
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ending = True
        self.thread.join()
        for s in [self.listener, *self.pairs, *self.dead]:
            s.close()

    def go_quiet(self, accepting):
        """All connections become half open. accepting: whether new ones work."""
        with self.lock:
            self.dead += list(self.pairs)
            self.pairs, self.accepting = {}, accepting

    def connect(self):
        near, _ = self.listener.accept()
        if not self.accepting:
            self.dead.append(near)
            return
        far = socket.create_connection(("127.0.0.1", self.to))
        self.pairs[near], self.pairs[far] = far, near

    def forward(self, source):
        target = self.pairs.get(source)
        if not target:
            return
        try:
            data = source.recv(65536)
            if data:
                target.sendall(data)
                return
        except OSError:
            pass
        for s in (source, target):
            del self.pairs[s]
            s.close()

    def serve(self):
        while not self.ending:
            with self.lock:
                sources = [self.listener, *self.pairs]
            ready = select.select(sources, [], [], 0.1)[0]
            with self.lock:
                for source in ready:
                    if source is self.listener:
                        self.connect()
                    else:
                        self.forward(source)


class Case(unittest.TestCase):
    def setUp(self):
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.jids, self.unsure = [], []

    def hosts_and_nodes(self, url, nodes=2, n=8):
        self.hosts = self.stack.enter_context(Hosts(n))
        self.nodes = [self.stack.enter_context(make_node(self.hosts, i, url)) for i in range(nodes)]
        return self.nodes[0]

    def execute(self, node, cmd="sleep 0.4; echo done", **fields):
        jid = node.execute(["all"], RUN + cmd, **fields)
        self.jids.append(jid)
        return jid

    def runs(self, jid):
        return sum(len(runs) for (which, _), runs in self.hosts.ran().items() if which == jid)

    def is_refused(self, node, limit=25, word=None):
        """A POST is answered 503 with Retry-After; a job that it names may have come to be."""
        began = time.monotonic()
        answer = node.post("/execute", {"targets": ["all"], "cmd": RUN + "true"}, timeout=limit)
        self.assertLess(time.monotonic() - began, limit * SLOW)
        self.assertEqual(answer.status, 503, answer)
        self.assertIn("retry-after", answer.headers)
        if word:
            self.assertIn(word, answer.body["message"])
        return answer

    def accepted(self, node):
        answer = node.post("/execute", {"targets": ["all"], "cmd": RUN + "echo done"}, timeout=25)
        if answer.status == 201:
            return answer.body["jid"]
        self.assertEqual(answer.status, 503, answer)
        self.assertIn("retry-after", answer.headers)
        if "jid" in answer.body:
            self.unsure.append(answer.body["jid"])
        return None

    def all_well(self, node, limit=40, state=0):
        """Every job ended, each host ran it exactly once, nobody was thought dead, and new jobs work."""
        # A connection that nobody answers on is found out by the first who asks: one is refused, then.
        self.jids.append(wait_until(lambda: self.accepted(node), limit, "a job is accepted"))
        exist = [jid for jid in self.unsure if node.get("/jobs/" + jid).status == 200]
        for jid in self.jids + exist:
            job = node.wait_job(jid, limit)
            self.assertEqual(job["state"], state, job)
            self.assertEqual(sorted(job["return_data"]), sorted(self.hosts.host))
            for name, found in job["return_data"].items():
                self.assertEqual([record["status"] for record in found], [CHANGED], (name, found))
                self.assertEqual(found[0]["stdout"], "done\n")
                self.assertEqual(len(self.hosts.ran().get((jid, name), ())), 1, name)
        self.assertEqual(node.get("/leases").body, [])
        for one in self.nodes:
            self.assertTrue(one.child.running())
            self.assertEqual(taken_over(one), set())


class Away(Case):
    def test_killed_and_started_again(self):
        with Redis() as redis:
            node = self.hosts_and_nodes(redis.url)
            for _ in range(3):
                jid = self.execute(node, window=2)
                wait_until(lambda j=jid: self.runs(j) >= 2, 10, "it runs")
                redis.kill()
                self.is_refused(node)
                self.assertEqual(node.get("/healthz").status, 503)
                redis.start()
                wait_until(lambda: node.get("/healthz").status == 200, 10, "the node has its store")
            self.all_well(node)

    def away_for(self, seconds):
        with Redis() as redis:
            node = self.hosts_and_nodes(redis.url)
            self.execute(node, "sleep 3; echo done", window=6)
            late = self.execute(node, "sleep 1; echo done", window=2)
            wait_until(lambda: self.runs(self.jids[0]) >= 6 and self.runs(late) >= 2, 10, "they run")
            redis.kill()
            began = time.monotonic()
            self.is_refused(node)
            time.sleep(2)
            before = self.runs(late)
            while time.monotonic() < began + seconds:
                self.is_refused(self.nodes[1])
                time.sleep(2)
            self.assertEqual(self.runs(late), before)  # no bit, no start
            redis.start()
            self.all_well(node)  # what ended meanwhile has its record, with its output

    def test_away_for_ten_seconds(self):
        self.away_for(10)

    @slow
    def test_away_for_a_minute(self):
        self.away_for(60)

    def test_a_node_ends_in_time_while_redis_is_away(self):
        with Redis() as redis:
            hosts = self.hosts = self.stack.enter_context(Hosts(6))
            node = make_node(hosts, 0, redis.url, {"runner": {"drain_timeout": "2s"}}).start()
            self.stack.callback(node.stop)
            self.nodes = [node]
            jid = node.execute(["all"], RUN + "sleep 0.4", window=2)
            wait_until(lambda: self.runs(jid) >= 2, 10, "it runs")
            redis.kill()
            time.sleep(0.6)  # records wait, and started bits are asked for
            began = time.monotonic()
            self.assertEqual(node.term(20), 0)
            self.assertLess(time.monotonic() - began, (2 + 5 + 1) * SLOW)
            redis.start()
            node.start()
            records = node.wait_job(jid)["return_data"]
            self.assertEqual(sorted(records), sorted(hosts.host))
            for name, found in records.items():
                runs = len(hosts.ran().get((jid, name), ()))
                self.assertEqual(len(found), 1, name)
                if found[0]["status"] == CHANGED:
                    self.assertEqual(runs, 1, name)
                else:
                    self.assertTrue(found[0].get("unknown"), found)
                    self.assertLessEqual(runs, 1, name)

    def test_a_node_starts_while_redis_is_away(self):
        with Redis() as redis:
            redis.kill()
            hosts = self.hosts = self.stack.enter_context(Hosts(3))
            node = make_node(hosts, 0, redis.url)
            self.nodes = [node]
            self.stack.callback(node.stop)
            node.launch()
            wait_until(lambda: node.get("/healthz").status == 503, 20, "it answers, without a store")
            self.is_refused(node)
            redis.start()
            self.all_well(node)

    def test_half_open_connections(self):
        with Redis() as redis, Proxy(redis.port) as proxy:
            node = self.hosts_and_nodes(proxy.url, nodes=1)
            jid = self.execute(node, "sleep 0.5; echo done", window=2)
            wait_until(lambda: self.runs(jid) >= 2, 10, "it runs")
            proxy.go_quiet(accepting=True)
            self.all_well(node)

    def test_half_open_connections_and_nobody_answers(self):
        with Redis() as redis, Proxy(redis.port) as proxy:
            node = self.hosts_and_nodes(proxy.url, nodes=1)
            jid = self.execute(node, "sleep 0.5; echo done", window=2)
            wait_until(lambda: self.runs(jid) >= 2, 10, "it runs")
            proxy.go_quiet(accepting=False)
            self.is_refused(node)
            wait_until(lambda: node.get("/healthz").status == 503, 20, "it says that its store is away")
            proxy.go_quiet(accepting=True)
            self.all_well(node)


class Odd(Case):
    def test_out_of_memory(self):
        with Redis() as redis:
            node = self.hosts_and_nodes(redis.url)
            jid = self.execute(node, "sleep 1; echo done", window=2)
            wait_until(lambda: self.runs(jid) >= 2, 10, "it runs")
            redis.ask("CONFIG", "SET", "maxmemory", "1mb")
            self.is_refused(node)
            self.assertEqual(node.wait_job(jid)["state"], 0)
            self.assertEqual(node.get("/healthz").status, 200)
            redis.ask("CONFIG", "SET", "maxmemory", "0")
            self.all_well(node)

    def test_read_only(self):
        with Redis() as redis:
            node = self.hosts_and_nodes(redis.url)
            jid = self.execute(node, "sleep 0.4; echo done", window=2)
            wait_until(lambda: self.runs(jid) >= 2, 10, "it runs")
            redis.ask("REPLICAOF", "127.0.0.1", "1")
            self.is_refused(node)
            time.sleep(3)  # longer than node_timeout
            redis.ask("REPLICAOF", "NO", "ONE")
            self.all_well(node)

    def test_slow(self):
        with Redis(enable_debug_command="yes") as redis:
            node = self.hosts_and_nodes(redis.url)
            jid = self.execute(node, window=2)
            wait_until(lambda: self.runs(jid) >= 2, 10, "it runs")
            for pause in ("DEBUG SLEEP 3", "CLIENT PAUSE 3000 ALL", "DEBUG SLEEP 1"):
                with redis.client() as client:
                    client(*pause.split())
                self.execute(node, window=2)
            self.all_well(node)

    def test_stopped_for_longer_than_node_timeout(self):
        with Redis() as redis:
            node = self.hosts_and_nodes(redis.url)
            jid = self.execute(node, window=2)
            wait_until(lambda: self.runs(jid) >= 2, 10, "it runs")
            redis.pause()
            try:
                self.is_refused(node, 30)
            finally:
                redis.resume()
            self.all_well(node)

    def test_functions_flushed(self):
        with Redis() as redis:
            node = self.hosts_and_nodes(redis.url)
            for _ in range(3):
                # It may have been away for a moment because of the flush before.
                wait_until(lambda: node.get("/healthz").status == 200, 10, "it can take jobs")
                jid = self.execute(node, window=2)
                wait_until(lambda j=jid: self.runs(j) >= 2, 10, "it runs")
                redis.ask("FUNCTION", "FLUSH", "SYNC")
                answer = node.post("/execute", {"targets": ["web01"], "cmd": "true"})
                self.assertIn(answer.status, (201, 503), answer)
                if answer.status == 503:
                    self.assertIn("retry-after", answer.headers)
            self.all_well(node)


class Files(Case):
    def tail_of(self, node):
        found = glob.glob(os.path.join(node.state, "appendonlydir", "*.incr.aof"))
        return max(found, key=lambda path: int(path.split(".")[-3]))

    def cut_by(self, lengths):
        node = self.hosts_and_nodes(None, nodes=1, n=3)
        for cut in lengths:
            for _ in range(3):
                node.wait_job(self.execute(node, "echo done"))
            kept = self.jids[-2:-1]
            node.kill9()
            with open(self.tail_of(node), "r+b") as f:
                f.truncate(f.seek(0, os.SEEK_END) - cut)
            if os.path.exists(node.error_log):
                os.unlink(node.error_log)
            node.start(30)
            self.assertRegex(node.log(1 << 20), r"(?i)(truncat|cut|tail|incomplete)", "cut by %d" % cut)
            listed = node.get("/jobs").body
            for jid in self.jids[:-1]:
                self.assertIn(jid, listed, "cut by %d" % cut)
            for jid in self.jids:
                if jid in listed:
                    self.assertEqual(node.wait_job(jid)["state"], 0)
            for jid in kept:
                self.assertEqual(len(node.job(jid)["return_data"]), 3)
        self.all_well(node)

    def test_the_file_is_cut_at_its_tail(self):
        self.cut_by((1, 2, 17, 60, 111, 200))

    @slow
    def test_the_file_is_cut_at_its_tail_by_any_length(self):
        self.cut_by(range(1, 201))

    def test_a_full_disk_under_the_private_redis(self):
        where = tempfile.mkdtemp(prefix="exedtest-")
        self.stack.callback(shutil.rmtree, where, ignore_errors=True)
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "exedtest", where],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if made.returncode:
            self.skipTest("a file system of its own cannot be mounted here")
        # Lazily, should something still look at it; what is stopped first is stopped by then.
        self.stack.callback(subprocess.run, ["umount", "-l", where], check=False)
        self.hosts = self.stack.enter_context(Hosts(3))
        node = Exed(self.hosts, store=os.path.join(where, "state"))
        self.nodes = [self.stack.enter_context(node)]
        before = node.execute(["all"], RUN + "echo done")
        node.wait_job(before)
        filler = os.path.join(where, "filler")
        out = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while os.write(out, b"\0" * 4096):
                pass
        except OSError:
            pass
        finally:
            os.close(out)
        # One of them is the first that finds no room; from then on all are refused until there is some.
        refused = 0
        for _ in range(30):
            answer = node.post("/execute", {"targets": ["web01"], "cmd": "echo " + "x" * 4000}, timeout=25)
            self.assertIn(answer.status, (201, 503), answer)
            if answer.status == 201:
                self.jids.append(answer.body["jid"])
            else:
                self.assertIn("retry-after", answer.headers)
                refused += 1
                if refused == 3:
                    break
        self.assertEqual(refused, 3)
        self.assertTrue(node.child.running())
        # What is wrong is told, not what follows from it.
        self.assertIn("No space left on device", answer.body["message"])
        self.assertIn("No space left on device", node.log(1 << 20))
        os.unlink(filler)
        wait_until(lambda: node.get("/healthz").status == 200, 60, "it is back")
        for jid in [before] + self.jids:
            self.assertEqual(node.wait_job(jid, 60)["state"], 0)
        self.jids = []
        self.all_well(node)


class Logs(unittest.TestCase):
    """A log that cannot be written costs its lines and nothing else."""

    def idle_cpu(self, exed):
        began, before = time.monotonic(), exed.cpu_s()
        time.sleep(2)
        return (exed.cpu_s() - before) / (time.monotonic() - began)

    def test_logs_on_a_device_that_is_always_full(self):
        with Sshd(2) as sshd, Exed(sshd, {"log": {"error_log": "/dev/full", "access_log": "/dev/full",
                                                  "log_level": "debug"}}) as exed:
            for _ in range(5):
                self.assertEqual(exed.wait_job(exed.execute(["all"], "echo x"))["state"], 0)
            self.assertEqual(exed.get("/healthz").status, 200)
            self.assertLess(self.idle_cpu(exed), 0.5)  # a loop that tries again would take a core

    def test_logs_that_reach_the_limit_of_a_file_and_have_room_again(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            def read_again():
                """Makes the node say something."""
                nonlocal hosts
                hosts += 1
                with open(sshd.inventory, "a", encoding="utf-8") as f:
                    f.write("more%d ansible_host=127.0.0.1\n" % hosts)
                wait_until(lambda: len(exed.get("/target").body) == hosts, 10, "it was read again")

            hosts = 1
            with open(exed.error_log, "ab") as f:
                f.truncate(1 << 20)
            none = resource.RLIM_INFINITY
            resource.prlimit(exed.pid, resource.RLIMIT_FSIZE, (1 << 20, none))
            for _ in range(3):
                read_again()
                self.assertEqual(exed.wait_job(exed.execute(["web01"], "echo x"))["state"], 0)
            resource.prlimit(exed.pid, resource.RLIMIT_FSIZE, (none, none))
            read_again()
            self.assertRegex(exed.log(), r"[3-9] lines before this one were lost: File too large\n.* hosts, read again")
            self.assertEqual(exed.wait_job(exed.execute(["web01"], "echo x"))["state"], 0)


class Descriptors(unittest.TestCase):
    def test_a_limit_too_low_for_the_window(self):
        with Fleet(500) as fleet:
            limited = fleet.write("limited", "#!/bin/sh\nulimit -n 300\nexec %s \"$@\"\n"
                                  % os.path.join(BUILD, "exed"), 0o755)
            with Exed(fleet, {"ssh": {"window": 500}}, program=limited) as exed:
                self.assertRegex(exed.log(1 << 20), "max_connections.*descriptor|descriptor.*max_connections")
                jids = [exed.execute(["all"], "sleep 0.3; echo done") for _ in range(2)]
                for jid in jids:
                    self.assertEqual(exed.wait_job(jid, 60)["state"], 0)
                    self.assertEqual(len(exed.job(jid)["return_data"]), 500)
                self.assertEqual([n for n in fleet.stats()["ops"].values() if n > 1], [])

    def test_clients_are_answered_however_few_there_are(self):
        """Warm connections to hosts take none of the descriptors that clients need."""
        for limit in (48, 100):
            with self.subTest(limit), Fleet(100) as fleet:
                limited = fleet.write("limited", "#!/bin/sh\nulimit -n %d\nexec %s \"$@\"\n"
                                      % (limit, os.path.join(BUILD, "exed")), 0o755)
                with Exed(fleet, {"runtime": {"io_threads": 2}}, program=limited) as exed:
                    self.assertIn("max_connections is lowered", exed.log(1 << 20))
                    for _ in range(3):
                        job = exed.wait_job(exed.execute(["all"], "echo done"), 60)
                        self.assertEqual((job["state"], len(job["return_data"])), (0, 100))


if __name__ == "__main__":
    unittest.main()
