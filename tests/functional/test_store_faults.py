# SPDX-License-Identifier: MIT
"""The job store when it is not as it should be: an outside Redis that cannot be used is refused with the reason
and an exit code, one that goes away is waited for, files that are damaged are named and never reset, and
what is kept stays within its bounds and leaves no key behind."""

import glob
import os
import socket
import stat
import sys
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Fleet, Redis, Sshd, free_port, wait_until  # noqa: E402
from exedtest.redis import RedisClient  # noqa: E402

OK, FAILED, UNREACHABLE, CHANGED = 1, 3, 4, 5
SECRET = "a-password-for-nobody-else"


def outside(url, **store):
    return {"runner": {"redis_url": url}, "store": store}


def keys(exed):
    """Every key of the embedded store."""
    with open(os.path.join(exed.state, "redis.password"), encoding="utf-8") as f:
        password = f.read().strip()
    with RedisClient(os.path.join(exed.state, "redis.sock"), password) as client:
        return sorted(key.decode() for key in client("KEYS", "*"))


class OldRedis:
    """Answers as a Redis of another version would, as far as exed asks."""

    def __init__(self, version):
        self.info = "redis_version:%s\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n" % version
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "redis://127.0.0.1:%d/0" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def serve(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(peer,), daemon=True).start()

    def answer(self, peer):
        with peer:
            while data := peer.recv(65536):
                if b"INFO" in data:
                    peer.sendall(b"$%d\r\n%s\r\n" % (len(self.info), self.info.encode()))
                else:
                    peer.sendall(b"+OK\r\n")


class Outside(unittest.TestCase):
    """An outside Redis by redis_url."""

    def refused(self, conf, *words):
        with Sshd(1) as sshd:
            exed = Exed(sshd, conf)
            code, output = exed.run_to_end(20)
            output += exed.log()
            exed.stop()
        self.assertNotIn(SECRET, output)
        for word in words:
            self.assertIn(word, output)
        self.assertIn(code, (1, 2), output)
        return code

    def works(self, url, **store):
        with Sshd(1) as sshd, Exed(sshd, outside(url, **store)) as exed:
            jid = exed.execute(["web01"], "echo hello")
            self.assertEqual(exed.records(jid)["web01"][0]["stdout"], "hello\n")
            self.assertIsNone(exed.redis_pid())
            health = exed.get("/healthz").body
            full = health["store"]["durability"] == "full"
            self.assertEqual(health["status"], "ok" if full else "degraded")
            self.assertEqual(health["degraded"], [] if full else ["durability: " + health["store"]["durability"]])
            exed.term()
            self.assertNotIn(SECRET, exed.log())
            exed.start()  # the same Redis has it all
            self.assertEqual(exed.job(jid)["state"], 0)
            self.assertEqual(exed.job(jid)["return_data"]["web01"][0]["stdout"], "hello\n")
        return health["store"]["durability"]

    def test_over_tcp_with_a_password(self):
        with Redis(password=SECRET) as redis:
            self.assertEqual(self.works(redis.url), "full")

    def test_over_tcp_with_a_user_and_another_database(self):
        with Redis() as redis:
            redis.ask("ACL", "SETUSER", "exed", "on", ">" + SECRET, "~*", "&*", "+@all")
            url = "redis://exed:%s@127.0.0.1:%d/3" % (SECRET, redis.port)
            self.assertEqual(self.works(url), "full")
            self.assertEqual(redis.ask("KEYS", "*"), [])  # database 0

    def test_over_a_unix_socket(self):
        with Redis() as redis:
            self.assertEqual(self.works(redis.unix_url), "full")

    def test_less_durability_is_said(self):
        with Redis(appendfsync="everysec") as redis:
            self.assertIn("degraded: appendfsync is everysec", self.works(redis.url))

    def test_no_persistence_is_said(self):
        with Redis(appendonly="no") as redis:
            self.assertIn("degraded: appendonly is off", self.works(redis.url))

    def test_a_wrong_password(self):
        with Redis(password="another") as redis:
            url = "redis://:%s@127.0.0.1:%d" % (SECRET, redis.port)
            self.refused(outside(url), "check user and password")

    def test_eviction(self):
        with Redis(maxmemory_policy="allkeys-lru") as redis:
            self.refused(outside(redis.url), "allkeys-lru", "allow_eviction")
            self.works(redis.url, allow_eviction=True)

    def test_cluster_mode(self):
        with Redis(cluster_enabled="yes", cluster_port=free_port()) as redis:
            self.refused(outside(redis.url), "cluster")

    def test_without_the_right_to_load_functions(self):
        with Redis() as redis:
            redis.ask("ACL", "SETUSER", "poor", "on", ">" + SECRET, "~*", "&*", "+@all", "-function")
            url = "redis://poor:%s@127.0.0.1:%d" % (SECRET, redis.port)
            self.refused(outside(url), "+function|load")
            # Who has them loaded already needs no right to.
            self.works("redis://127.0.0.1:%d" % redis.port)
            self.works(url)

    def test_without_the_right_to_info(self):
        with Redis() as redis:
            redis.ask("ACL", "SETUSER", "poor", "on", ">" + SECRET, "~*", "&*", "+@all", "-info")
            self.refused(outside("redis://poor:%s@127.0.0.1:%d" % (SECRET, redis.port)), "+info")

    def test_an_old_version(self):
        for version in ("6.2.14", "5.0.7"):
            with OldRedis(version) as redis:
                self.refused(outside(redis.url), version, "7.0")

    def test_urls_that_cannot_be(self):
        for url in ("http://127.0.0.1:6379", "redis://127.0.0.1:99999", "redis://127.0.0.1/x", "unix:relative",
                    "redis://", "redis://user@127.0.0.1:1:2"):
            with self.subTest(url=url):
                self.refused(outside(url), "redis_url")

    def test_away_at_start_and_there_later(self):
        redis = Redis()
        self.addCleanup(redis.stop)
        with Sshd(1) as sshd:
            exed = Exed(sshd, outside(redis.url))
            self.addCleanup(exed.stop)
            exed.launch()
            wait_until(lambda: exed.get("/healthz", timeout=2).status == 503, 20, "it serves without its store")
            answer = exed.post("/execute", {"targets": ["web01"], "cmd": "true"})
            self.assertEqual(answer.status, 503)
            self.assertIn("retry-after", answer.headers)
            self.assertIn("away", answer.body["message"])
            self.assertEqual(exed.get("/jobs").status, 503)
            self.assertEqual(exed.get("/target").body, ["web01"])  # needs no store
            redis.start()
            wait_until(lambda: exed.get("/healthz").status == 200, 20, "it is there")
            self.assertEqual(exed.wait_job(exed.execute(["web01"], "true"))["state"], 0)
            exed.stop()

    def test_away_in_the_middle_of_a_job(self):
        with Redis() as redis, Fleet(60) as fleet, Exed(fleet, outside(redis.url)) as exed:
            jid = exed.execute(["all"], "sleep 0.5; echo hello", window=10)
            wait_until(lambda: fleet.stats()["execs"] > 15, 10, "it runs")
            redis.kill()
            wait_until(lambda: exed.get("/healthz").status == 503, 10, "it is missed")
            began = time.monotonic()
            answer = exed.post("/execute", {"targets": ["all"], "cmd": "true"})
            self.assertEqual(answer.status, 503)
            self.assertNotIn("jid", answer.body)  # it is certain that there is no such job
            self.assertLess(time.monotonic() - began, 5)
            wait_until(lambda: fleet.stats()["execs_now"] == 0, 10, "what ran has ended")
            count = fleet.stats()["execs"]
            time.sleep(1)
            self.assertEqual(fleet.stats()["execs"], count)  # nothing starts without its mark
            self.assertLess(count, 60)
            redis.start()
            self.assertEqual(exed.wait_job(jid)["state"], 0)
            records = exed.records(jid)
            self.assertEqual({name: [r["stdout"] for r in found] for name, found in records.items()},
                             {name: ["hello\n"] for name in fleet.names})
            self.assertFalse([op for op, n in fleet.stats()["ops"].items() if n > 1])

    def test_killed_while_many_ask_for_jobs(self):
        """Jobs that are asked for at once are made in one call; each client is answered for its own."""
        with Redis() as redis, Fleet(10) as fleet, Exed(fleet, outside(redis.url)) as exed:
            answers, stop = [], threading.Event()

            def ask(number):
                while not stop.is_set():
                    answers.append(exed.post("/ping", {"targets": fleet.names[number % 10]}, timeout=30))

            def made():
                return sum(answer.status == 201 for answer in list(answers))

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
            for thread in threads:
                thread.start()
            try:
                for _ in range(2):
                    before = made()
                    wait_until(lambda least=before + 60: made() > least, 30, "jobs are made")
                    redis.kill()
                    redis.start()
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            self.assertEqual({answer.status for answer in answers} - {201, 503}, set())
            accepted = [answer.body["jid"] for answer in answers if answer.status == 201]
            unsure = {answer.body["jid"] for answer in answers if answer.status == 503 and "jid" in answer.body}
            self.assertEqual(len(accepted), len(set(accepted)))
            stored = {jid.decode() for jid in redis.ask("ZRANGE", "exed:jobs:all", 0, -1)}
            self.assertEqual(set(accepted) - stored, set())
            self.assertEqual(stored - set(accepted) - unsure, set())
            self.assertEqual({exed.wait_job(jid)["state"] for jid in stored}, {0})

    def test_emptied_under_our_hands(self):
        """FLUSHALL by somebody: what ran is lost, and the node goes on."""
        with Redis() as redis, Sshd(1) as sshd, Exed(sshd, outside(redis.url)) as exed:
            exed.execute(["web01"], "sleep 1")
            redis.ask("FLUSHALL")
            wait_until(lambda: exed.post("/execute", {"targets": ["web01"], "cmd": "true"}).status == 201, 20,
                       "jobs are taken again")
            self.assertEqual(exed.wait_job(exed.execute(["web01"], "true"))["state"], 0)


class Private(unittest.TestCase):
    """The redis-server of our own."""

    def ends(self, exed, *words):
        code, output = exed.run_to_end(30)
        output += exed.log()
        for word in words:
            self.assertIn(word, output)
        self.assertIn(code, (1, 2), output)

    def test_files_and_socket_are_ours_alone(self):
        with Exed() as exed:
            self.assertEqual(stat.S_IMODE(os.stat(exed.state).st_mode), 0o700)
            for name in ("redis.sock", "redis.password"):
                mode = stat.S_IMODE(os.stat(os.path.join(exed.state, name)).st_mode)
                self.assertEqual(mode & 0o077, 0, name)
            with open(os.path.join(exed.state, "redis.password"), encoding="utf-8") as f:
                password = f.read().strip()
            with open("/proc/%d/cmdline" % exed.redis_pid(), "rb") as f:
                self.assertNotIn(password.encode(), f.read())
            self.assertNotIn(password, exed.log())

    def test_no_such_server(self):
        exed = Exed(conf={"store": {"redis_server": "no-such-redis-server"}})
        self.ends(exed, "no-such-redis-server")
        exed.stop()

    def test_a_server_that_is_too_old(self):
        exed = Exed()
        exed.conf["store"]["redis_server"] = exed.write(
            "redis-old", "#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0 malloc=x bits=64 build=0'\n"
            "case $* in *-v*) exit 0;; esac\nexit 1\n", 0o755)
        self.ends(exed, "6.0.16")
        exed.stop()

    def test_a_state_directory_that_is_none(self):
        exed = Exed()
        exed.conf["store"]["dir"] = exed.write("file", "")
        self.ends(exed, exed.conf["store"]["dir"])
        exed.stop()

    def append_only_files(self, exed):
        return [path for path in glob.glob(os.path.join(exed.state, "**", "*.aof"), recursive=True)
                if ".incr." in path]

    def test_a_file_cut_at_its_tail_loses_the_tail_only_and_is_said(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            jids = [exed.execute(["web01"], "echo %d" % n) for n in range(3)]
            for jid in jids:
                exed.wait_job(jid)
            exed.kill9()
            path, = self.append_only_files(exed)
            size = os.stat(path).st_size
            os.truncate(path, size - 7)
            exed.start()
            self.assertEqual(sorted(exed.get("/jobs").body), sorted(jids))
            self.assertRegex(exed.log(), "(cut|truncated|tail)")
            for jid in jids:
                self.assertEqual(exed.wait_job(jid)["return_data"]["web01"][0]["rtc"], 0)

    def test_a_file_damaged_in_the_middle_stops_the_start_and_stays(self):
        with Sshd(1) as sshd:
            exed = Exed(sshd)
            self.addCleanup(exed.stop)
            exed.start()
            for n in range(3):
                exed.wait_job(exed.execute(["web01"], "echo %d" % n))
            exed.term()
            path, = self.append_only_files(exed)
            with open(path, "r+b") as f:
                f.seek(os.stat(path).st_size * 9 // 10)  # the jobs; before them are the functions
                f.write(b"\xff" * 64)
                f.seek(0)
                before = f.read()
            self.ends(exed, "appendonly.aof", "Bad file format")
            with open(path, "rb") as f:
                self.assertEqual(f.read(), before)
            exed.stop()


class Bounds(unittest.TestCase):
    def test_max_jobs_keeps_the_newest_and_refuses_when_all_run(self):
        with Sshd(1) as sshd, Exed(sshd, {"store": {"max_jobs": 5}}) as exed:
            jids = []
            for n in range(8):
                jids.append(exed.execute(["web01"], "echo %d" % n))
                exed.wait_job(jids[-1])
            wait_until(lambda: len(exed.get("/jobs").body) <= 5, 15, "the oldest are gone")
            self.assertEqual(exed.get("/jobs").body, jids[-len(exed.get("/jobs").body):])
            running, refused = [], None
            for n in range(30):
                answer = exed.post("/execute", {"targets": ["web01"], "cmd": "sleep 300300"})
                if answer.status != 201:
                    refused = answer
                    break
                running.append(answer.body["jid"])
            self.assertEqual(len(running), 5)
            self.assertEqual(refused.status, 503)
            self.assertIn("store full", refused.body["message"])
            self.assertIn("retry-after", refused.headers)
            for jid in running:
                exed.post("/jobs/%s/cancel" % jid)
            for jid in running:
                self.assertEqual(exed.wait_job(jid)["state"], 2)

    def test_jobs_older_than_ttl_leave_nothing_and_running_ones_stay(self):
        week, day = 7 * 86400 * 1000000, 86400 * 1000000
        with Redis() as redis, Sshd(2) as sshd, Exed(sshd, outside(redis.url)) as exed:

            def sweep(now):
                """The node's own sweep, as if it were later."""
                while redis.ask("FCALL", "exed_1_sweep", 0, now, week, 1000, day, 10000)[1]:
                    pass

            jids = [exed.execute(["web01", "nowhere"], "echo x; yes | head -c 200000") for _ in range(3)]
            jids.append(exed.submit("/ping", {"targets": ["all"]}))
            for jid in jids:
                exed.wait_job(jid)
            running = exed.execute(["web02"], "sleep 3; echo done")
            now = int(time.time() * 1000000)
            sweep(now + week - day)
            self.assertEqual(sorted(exed.get("/jobs").body), sorted(jids + [running]))
            sweep(now + week + day)
            self.assertEqual(exed.get("/jobs").body, [running])
            found = [key.decode() for key in redis.ask("KEYS", "*")]
            self.assertEqual([key for key in found if any(jid in key for jid in jids)], [])
            for jid in jids:
                self.assertEqual(exed.get("/jobs/" + jid).status, 404)
            self.assertEqual(exed.records(running)["web02"][0]["stdout"], "done\n")

    def test_deleted_jobs_leave_no_keys(self):
        with Sshd(3) as sshd, Exed(sshd) as exed:
            kept = exed.execute(["web01"], "echo kept")
            jids = [exed.execute(["all"], "yes | head -c 300000; yes | head -c 100000 >&2"),
                    exed.execute(["web01", "nobody"], "exit 3"),
                    exed.submit("/ping", {"targets": ["all"]}),
                    exed.submit("/execute", {"targets": ["all"], "cmd": "true"},
                                headers={"Idempotency-Key": "once"})]
            for jid in jids + [kept]:
                exed.wait_job(jid)
                exed.records(jid)
            for jid in jids:
                self.assertEqual(exed.delete("/jobs/" + jid).status, 204)
                self.assertEqual(exed.get("/jobs/" + jid).status, 404)
                self.assertEqual(exed.delete("/jobs/" + jid).status, 404)
            self.assertEqual(exed.get("/jobs").body, [kept])
            found = keys(exed)
            for jid in jids:
                self.assertEqual([key for key in found if jid in key], [])
            self.assertTrue([key for key in found if kept in key])
            self.assertNotIn("exed:leases", found)  # all have ended

    def test_jobs_of_get_requests_are_kept_for_a_while_only(self):
        with Sshd(1) as sshd, Exed(sshd, {"store": {"sync_jobs": 2}}) as exed:
            jids = [exed.get("/execute?target=web01&cmd=true").headers["exed-jid"] for _ in range(5)]
            wait_until(lambda: len(exed.get("/jobs?all=1").body) <= 2, 20, "the older ones are gone")
            self.assertEqual(exed.get("/jobs?all=1").body, jids[-2:])
            self.assertEqual(exed.get("/jobs").body, [])
            self.assertEqual([key for key in keys(exed) if any(jid in key for jid in jids[:3])], [])

    def test_output_of_a_job_is_bounded(self):
        with Sshd(4) as sshd, Exed(sshd, {"store": {"job_output": "1m"}}) as exed:
            jid = exed.execute(["all"], "yes | head -c 900000", window=1)
            records = exed.records(jid)
            total = sum(len(r[0]["stdout"]) for r in records.values())
            self.assertLess(total, 2300000)
            self.assertGreater(total, 900000)
            for name in sshd.host:
                record = records[name][0]
                self.assertEqual((record["status"], record["rtc"]), (CHANGED, 0))
                if len(record["stdout"]) < 900000:
                    self.assertIs(record["truncated"], True)
                    self.assertEqual(record["stdout_bytes"], 900000)

    def test_a_full_store_refuses_new_jobs_and_ends_the_old(self):
        with Sshd(2) as sshd, Exed(sshd, {"store": {"memory": "20m", "job_output": "256m"}}) as exed:
            jids, refused = [], None
            for _ in range(60):
                answer = exed.post("/execute", {"targets": ["all"], "cmd": "yes | head -c 1000000"})
                if answer.status != 201:
                    refused = answer
                    break
                jids.append(answer.body["jid"])
                exed.wait_job(jids[-1])
            self.assertIsNotNone(refused, "it never became full")
            self.assertEqual(refused.status, 503)
            self.assertIn("store full", refused.body["message"])
            for jid in jids:
                self.assertEqual(exed.job(jid, outputs=False)["state"], 0)
                self.assertEqual(exed.delete("/jobs/" + jid).status, 204)
            wait_until(lambda: exed.post("/execute", {"targets": ["all"], "cmd": "true"}).status == 201, 20,
                       "there is room again")

    def test_a_store_that_fills_refuses_jobs_first_and_then_cuts_outputs(self):
        size, cut = 2000000, 4096
        with Sshd(24) as sshd, Exed(sshd, {"store": {"memory": "40m", "output_cap": "4m"}}) as exed:
            long = exed.execute(["all"], "echo x >$EXED_TEST_DIR/ran; yes | head -c %d; "
                                "while [ ! -e $EXED_TEST_DIR/go ]; do sleep .02; done" % size, window=1, timeout=60)
            small, refused, hosts = [], None, sshd.hosts
            for host, following in zip(hosts, hosts[1:]):
                wait_until(lambda h=host: h.read("ran"), 20, "it runs")
                with open(os.path.join(host.dir, "go"), "w", encoding="utf-8"):
                    pass
                wait_until(lambda h=following: h.read("ran"), 20, "it has ended")
                answer = exed.post("/execute", {"targets": [host.name], "cmd": "true"})
                self.assertIn(answer.status, (201, 503), answer)
                if answer.status == 201:
                    self.assertIsNone(refused, "taken again in a store that has not become emptier")
                    small.append(answer.body["jid"])
                elif not refused:
                    refused = answer
                    self.assertFalse([name for name, found in exed.job(long)["return_data"].items()
                                      if found[0].get("truncated")], "outputs were cut before jobs were refused")
            with open(os.path.join(hosts[-1].dir, "go"), "w", encoding="utf-8"):
                pass
            self.assertIn("store full", refused.body["message"])
            self.assertIn("retry-after", refused.headers)
            job = exed.wait_job(long)
            self.assertEqual((job["state"], job["error"]), (0, ""))
            done = {name: found[0] for name, found in job["return_data"].items()}
            lengths = {name: len(record["stdout"]) for name, record in done.items()}
            for name, record in done.items():
                self.assertEqual((record["status"], record["rtc"]), (CHANGED, 0), name)
                if lengths[name] < size:
                    self.assertEqual((record["truncated"], record["stdout_bytes"]), (True, size), name)
            self.assertEqual(lengths[min(lengths)], size)
            self.assertEqual(lengths[max(lengths)], cut)
            self.assertEqual(exed.get("/healthz").status, 200)
            self.assertEqual(exed.delete("/jobs/" + long).status, 204)
            wait_until(lambda: exed.post("/execute", {"targets": ["web01"], "cmd": "true"}).status == 201, 20,
                       "there is room again")
            for jid in small:
                self.assertEqual(exed.wait_job(jid)["state"], 0)


if __name__ == "__main__":
    unittest.main()
