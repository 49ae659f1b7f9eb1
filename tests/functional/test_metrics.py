# SPDX-License-Identifier: MIT
"""GET /metrics: its form, and that each number moves when the thing happens that it counts."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Redis, Sshd, status_kb, wait_until  # noqa: E402

NAME = r"[a-z_][a-z0-9_]*"
LABELS = r'\{%s="[^"\\\n]*"(?:,%s="[^"\\\n]*")*\}' % (NAME, NAME)
LINE = re.compile(r"(%s)(%s)? (-?[0-9.]+(?:e[+-]?[0-9]+)?)$" % (NAME, LABELS))
KINDS = {"counter", "gauge", "histogram"}


def parse(text):
    """{family: (kind, {labels: value})} of text in the format 0.0.4; AssertionError when it is not."""
    families, name = {}, None
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        words = line.split(" ", 3)
        if words[:2] == ["#", "HELP"]:
            name = words[2]
            assert name not in families and words[3], line
            families[name] = None
        elif words[:2] == ["#", "TYPE"]:
            assert words[2] == name and families[name] is None and words[3] in KINDS, line
            families[name] = (words[3], {})
        else:
            found = LINE.match(line)
            assert found, line
            kind, rows = families[name]
            tail = found.group(1)[len(name):]
            assert found.group(1).startswith(name) and tail in (
                ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)), line
            assert tail + (found.group(2) or "") not in rows, line
            rows[tail + (found.group(2) or "")] = float(found.group(3))
    for name, (kind, rows) in families.items():
        assert rows, name
        assert (kind == "counter") == name.endswith("_total"), name
        if kind == "histogram":
            check_histogram(name, rows)
    return families


def check_histogram(name, rows):
    series = {}
    for labels, value in rows.items():
        if labels.startswith("_bucket"):
            other, bound = re.match(r'_bucket\{(.*?),?le="([^"]*)"\}$', labels).groups()
            series.setdefault(other, []).append((float(bound.replace("+", "")), value))
    for other, buckets in series.items():
        assert buckets == sorted(buckets) and buckets[-1][0] == float("inf"), name
        assert [n for _, n in buckets] == sorted(n for _, n in buckets), name
        assert rows["_count" + ("{%s}" % other if other else "")] == buckets[-1][1], name


class Numbers:
    """All of them at one moment."""

    def __init__(self, exed):
        answer = exed.get("/metrics")
        assert answer.status == 200, answer
        self.text, self.families = answer.body, parse(answer.body)

    def __getitem__(self, key):
        """numbers["family"] or numbers['family{label="x"}']; 0 for a label that is not there yet."""
        name, brace, labels = key.partition("{")
        for tail in ("_count", "_sum"):
            if name.endswith(tail) and name not in self.families:
                return self.families[name[:-len(tail)]][1].get(tail + brace + labels, 0)
        return self.families[name][1].get(brace + labels, 0)

    def series(self):
        return sum(len(rows) for _, rows in self.families.values())


class Metrics(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(4, per_process=1)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.sshd.stop_host("web04")
        cls.redis = Redis()
        cls.addClassCleanup(cls.redis.stop)
        cls.redis.start()
        cls.exed = Exed(cls.sshd, {"runner": {"redis_url": cls.redis.url}})
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start()

    def numbers(self):
        return Numbers(self.exed)

    def moved(self, before, wanted):
        """Waits until each number is so much more than before; the record of a job is told a moment before
        everything of it is counted."""
        def right():
            now = self.numbers()
            return {key: now[key] - before[key] for key in wanted} == wanted
        try:
            wait_until(right, 10, "the numbers moved")
        except AssertionError:
            now = self.numbers()
            self.assertEqual({key: now[key] - before[key] for key in wanted}, wanted)

    def release(self):
        for host in self.sshd.hosts:
            open(os.path.join(host.dir, "go"), "w", encoding="utf-8").close()

    def hold(self):
        """A command that runs until release()."""
        for host in self.sshd.hosts:
            if os.path.exists(os.path.join(host.dir, "go")):
                os.unlink(os.path.join(host.dir, "go"))
        self.addCleanup(self.release)
        return 'while [ ! -e "$EXED_TEST_DIR/go" ]; do sleep .05; done'

    def test_its_form(self):
        answer = self.exed.get("/metrics")
        self.assertEqual(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertGreater(len(parse(answer.body)), 40)
        promtool = shutil.which("promtool")
        if promtool:
            checked = subprocess.run([promtool, "check", "metrics"], input=answer.body, text=True,
                                     capture_output=True, timeout=60, check=False)
            self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))
        self.assertEqual(self.exed.request("HEAD", "/metrics").status, 200)
        self.assertEqual(self.exed.post("/metrics", {}).status, 405)

    def test_it_obeys_the_listener(self):
        answer = self.exed.get("/metrics", headers={"Host": "elsewhere.example.net"})
        self.assertEqual(answer.status, 421)

    def test_a_job_counts(self):
        before = self.numbers()
        jid = self.exed.execute(["web0[1:4]", "nobody"], "echo hello; echo oh >&2")
        self.assertEqual(self.exed.wait_job(jid)["state"], 2)
        connected = before["exed_ssh_connected_total"] + before["exed_ssh_reused_total"]
        self.moved(before, {
            'exed_jobs_submitted_total{operation="execute"}': 1,
            'exed_jobs_submitted_total{operation="ping"}': 0,
            'exed_jobs_ended_total{result="failure"}': 1,
            'exed_jobs_ended_total{result="done"}': 0,
            'exed_records_total{status="changed"}': 3,
            'exed_records_total{status="unreachable"}': 1,
            'exed_records_total{status="no_match"}': 1,
            'exed_records_total{status="failed"}': 0,
            'exed_output_bytes_total{stream="stdout"}': 18,
            'exed_output_bytes_total{stream="stderr"}': 9,
            'exed_ssh_failures_total{phase="connect"}': 1,
            'exed_ssh_failures_total{phase="login"}': 0,
            "exed_sink_appended_total": 4,
            "exed_exec_seconds_count": 3,
            'exed_jobs{state="ended"}': 1,
            'exed_http_requests_total{handler="/execute",method="POST",status="201"}': 1,
            'exed_http_request_seconds_count{handler="/execute"}': 1,
        })
        now = self.numbers()
        self.assertEqual(now["exed_ssh_connected_total"] + now["exed_ssh_reused_total"], connected + 3)
        for step in ("connect", "handshake", "login"):
            self.assertEqual(now["exed_ssh_%s_seconds_count" % step], now["exed_ssh_connected_total"])
            self.assertGreater(now["exed_ssh_%s_seconds_sum" % step], 0)
        self.assertGreater(now['exed_redis_commands_total{result="ok"}'],
                           before['exed_redis_commands_total{result="ok"}'])
        self.assertGreater(now["exed_redis_seconds_sum"], before["exed_redis_seconds_sum"])
        for gauge in ("exed_sink_waiting_entries", "exed_sink_waiting_bytes", "exed_hosts_running",
                      "exed_hosts_waiting", 'exed_jobs{state="running"}'):
            self.assertEqual(now[gauge], 0, gauge)

    def test_operations_and_results_count_apart(self):
        self.exed.get("/ping?target=web01")
        before = self.numbers()
        self.exed.get("/ping?target=web01")
        self.moved(before, {
            'exed_jobs_submitted_total{operation="ping"}': 1, 'exed_jobs_ended_total{result="done"}': 1,
            'exed_records_total{status="ok"}': 1, "exed_exec_seconds_count": 0,
            "exed_ssh_reused_total": 1, "exed_ssh_connected_total": 0,
        })
        before = self.numbers()
        self.exed.wait_job(self.exed.execute(["nobody", "web01"], "exit 3"))
        self.moved(before, {'exed_records_total{status="failed"}': 1, 'exed_jobs_ended_total{result="failure"}': 1})

    def test_what_runs_and_waits_shows(self):
        jid = self.exed.execute(["web0[1:3]"], self.hold(), window=2)
        chunks = self.exed.follow(jid)
        next(chunks)
        wanted = {
            "exed_hosts_running": 2, "exed_hosts_waiting": 1, 'exed_jobs{state="running"}': 1,
            'exed_ssh_connections{state="busy"}': 2, "exed_followers": 1,
        }
        wait_until(lambda: all(self.numbers()[key] == n for key, n in wanted.items()), 10,
                   "two run, one waits, one follows")
        now = self.numbers()
        self.assertGreaterEqual(now["exed_slices_running"], 1)
        self.assertGreaterEqual(now["exed_fanouts"], 1)
        self.assertGreaterEqual(now["exed_http_open_requests"], 2)
        self.release()
        self.assertEqual(sum(1 for _ in chunks), 3)
        self.exed.wait_job(jid)
        wanted = dict.fromkeys(wanted, 0)
        wait_until(lambda: all(self.numbers()[key] == n for key, n in wanted.items()), 10, "all have ended")
        self.assertEqual(self.numbers()['exed_ssh_connections{state="idle"}'], 3)

    def test_labels_do_not_come_from_clients(self):
        self.exed.get("/nowhere")
        self.exed.request("DELETE", "/ping")
        self.exed.get("/jobs/none")
        before = self.numbers()
        for i in range(20):
            self.exed.get("/nowhere/%d" % i)
            self.exed.get("/jobs/none%d" % i)
            self.exed.request("DELETE", "/ping?x=%d" % i)
        now = self.numbers()
        self.assertEqual(now.series(), before.series())
        self.moved(before, {'exed_http_requests_total{handler="none",method="GET",status="404"}': 20,
                            'exed_http_requests_total{handler="/jobs/:jid",method="GET",status="404"}': 20,
                            'exed_http_requests_total{handler="/ping",method="DELETE",status="405"}': 20})
        self.assertNotIn("nowhere", now.text)

    def test_what_is_no_request_counts(self):
        before = self.numbers()
        self.exed.raw(b"GET / HTTP/1.1\r\n\r\n")
        self.moved(before, {"exed_http_bad_requests_total": 1})

    def test_a_client_that_leaves_counts(self):
        jid = self.exed.execute(["web01"], self.hold())
        before = self.numbers()
        with socket.create_connection(("127.0.0.1", self.exed.port)) as s:
            s.sendall(b"GET /jobs/%s?follow=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (
                jid.encode(), self.exed.port))
            s.recv(1)
        self.moved(before, {'exed_http_requests_total{handler="/jobs/:jid",method="GET",status="gone"}': 1})
        self.release()
        self.exed.wait_job(jid)

    def test_the_process(self):
        now = self.numbers()
        self.assertLess(abs(now["process_resident_memory_bytes"] - 1024 * status_kb(self.exed.pid, "VmRSS")), 8 << 20)
        self.assertLess(abs(now["process_open_fds"] - len(self.exed.fds())), 4)
        self.assertGreater(now["process_start_time_seconds"], 1e9)
        self.assertGreater(now["exed_lua_memory_bytes"], 100000)
        self.assertEqual(now["exed_inventory_hosts"], 4)
        self.assertEqual(now["exed_store_durable"], 1)
        self.assertIn('exed_build_info{version="', now.text)
        before = now["exed_loop_lag_seconds_count"]
        wait_until(lambda: self.numbers()["exed_loop_lag_seconds_count"] > before + 3, 10, "lag is measured")

    def test_z_a_store_that_is_away_shows(self):
        before = self.numbers()
        self.assertEqual(before["exed_store_up"], 1)
        self.redis.kill()
        wait_until(lambda: self.numbers()["exed_store_up"] == 0, 10, "the store is away")
        now = self.numbers()
        self.assertNotIn("exed_jobs", now.families)
        self.redis.start()
        wait_until(lambda: self.numbers()["exed_store_up"] == 1, 10, "the store is back")
        self.assertIn("exed_jobs", self.numbers().families)


class Many(unittest.TestCase):
    def test_scrapes_side_by_side(self):
        """Twenty at once, while nothing else is asked: each whole."""
        with Exed() as exed:
            found = []

            def scrape():
                found.append(len(Numbers(exed).families))
            threads = [threading.Thread(target=scrape) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len(found), 20)


if __name__ == "__main__":
    unittest.main()
