# SPDX-License-Identifier: MIT
"""Following jobs: what a follower gets, in which order, when it comes late, leaves, or is one of many."""

import base64
import json
import os
import queue
import socket
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import Exed, Sshd, wait_until  # noqa: E402

HOSTS = exed = None
WAIT = "until [ -e $EXED_TEST_DIR/%s ]; do sleep 0.03; done; echo $EXED_TEST_HOST went"


def setUpModule():
    global HOSTS, exed
    HOSTS = Sshd(10).start()
    exed = Exed(HOSTS, {"ssh": {"agent": "none"}}).start()


def tearDownModule():
    try:
        exed.stop()
    finally:
        HOSTS.stop()


def let_go(gate, host):
    """Lets a command end that waits on that host."""
    with open(os.path.join(HOSTS.host[host].dir, gate), "w", encoding="utf-8"):
        pass


def numbers(first, last):
    return "".join("%d\n" % i for i in range(first, last + 1))


class Follower(threading.Thread):
    """Follows a job in a thread: lines has what came, each line as soon as it is whole."""

    def __init__(self, jid, node=None):
        super().__init__(daemon=True)
        self.jid, self.node = jid, node or exed
        self.lines, self.data, self.error = queue.Queue(), b"", None
        self.start()

    def run(self):
        done = 0
        try:
            for _, chunk in self.node.follow_chunks(self.jid, 60):
                self.data += chunk
                *whole, rest = self.data[done:].split(b"\n")
                for line in whole:
                    self.lines.put(json.loads(line))
                done = len(self.data) - len(rest)
        except Exception as e:  # the test looks at it
            self.error = e
        self.lines.put(None)

    def next(self, limit=20):
        """The next line as JSON; None at the end."""
        return self.lines.get(timeout=limit)

    def end(self):
        """Waits for the end, which must be a good one; returns all bytes."""
        self.join(60)
        assert not self.is_alive(), "the stream of %s did not end" % self.jid
        assert self.error is None, repr(self.error)
        return self.data


class Form(unittest.TestCase):
    def test_first_the_job_then_a_chunk_for_each_record_and_the_end_with_the_job(self):
        jid = exed.execute(["web[01:03]", "nosuch"], WAIT % "form")
        follower = Follower(jid)
        first = follower.next()
        self.assertEqual(set(first), {"targets", "operate", "operate_args", "startat", "state", "taskid",
                                      "error", "return_data", "phase"})
        self.assertEqual((first["state"], first["return_data"], first["targets"]),
                         (1, {}, ["web01", "web02", "web03", "nosuch"]))
        self.assertEqual(list(follower.next()), ["nosuch"])
        for host in ("web02", "web03", "web01"):  # the order of finishing, not that of the targets
            self.assertTrue(follower.lines.empty())
            let_go("form", host)
            line = follower.next()
            self.assertEqual(list(line), [host])
            self.assertEqual((line[host]["status"], line[host]["stdout"]), (5, host + " went\n"))
        self.assertIsNone(follower.next())
        follower.end()
        self.assertEqual(exed.job(jid)["state"], 2)

    def test_each_line_is_one_chunk(self):
        jid = exed.execute(["web[01:10]"], "echo x")
        exed.wait_job(jid)
        chunks = [chunk for _, chunk in exed.follow_chunks(jid)]
        self.assertEqual(len(chunks), 11)
        for chunk in chunks:
            self.assertTrue(chunk.endswith(b"}\n") and chunk.count(b"\n") == 1, chunk)
            json.loads(chunk)

    def test_a_late_follower_gets_everything(self):
        jid = exed.execute(["web[01:10]"], "echo late $EXED_TEST_HOST")
        early = Follower(jid).end().split(b"\n")
        wait_until(lambda: exed.job(jid)["state"] == 0, 10)
        late = Follower(jid).end().split(b"\n")
        self.assertEqual(late[1:], early[1:])
        first = json.loads(late[0])
        self.assertEqual((first["state"], first["return_data"]), (0, {}))
        self.assertEqual(len(late), 12)

    def test_follow_needs_no_outputs_and_a_boolean_says_it(self):
        jid = exed.execute(["web01"], "echo x")
        exed.wait_job(jid)
        for query in ("follow=1", "follow=True&outputs=0", "follow=yes"):
            lines = list(exed.follow(jid, query=query))
            self.assertEqual(lines[1]["web01"]["stdout"], "x\n", query)
        self.assertEqual(exed.get("/jobs/%s?follow=0" % jid).body["return_data"], {})

    def test_a_client_of_http_1_0_gets_the_lines_until_the_close(self):
        jid = exed.execute(["web01"], "echo old")
        answer = exed.raw(("GET /jobs/%s?follow=1 HTTP/1.0\r\nHost: localhost\r\n\r\n" % jid).encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertNotIn(b"transfer-encoding", head.lower())
        lines = [json.loads(line) for line in body.splitlines()]
        self.assertEqual((len(lines), lines[1]["web01"]["stdout"]), (2, "old\n"))

    def test_the_connection_is_good_for_another_request(self):
        jid = exed.execute(["web01"], "echo again")
        request = "GET /jobs/%s?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n" % jid
        last = "GET /target?pattern=web07 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = exed.raw((request + request + last).encode())
        self.assertEqual(answer.count(b"HTTP/1.1 200 OK\r\n"), 3)
        self.assertEqual(answer.count(b"\r\n0\r\n\r\n"), 2)
        self.assertTrue(answer.endswith(b'["web07"]'), answer[-200:])

    def test_lines_come_while_the_command_runs(self):
        jid = exed.execute(["web04"], "echo one; echo bad >&2; " + WAIT % "lines", lines=True)
        follower = Follower(jid)
        follower.next()
        seen = {}
        while len(seen) < 2:
            line = follower.next()["web04"]
            self.assertEqual((set(line), line["offset"]), ({"lines", "stream", "offset"}, 0))
            seen[line["stream"]] = line["lines"]
        self.assertEqual(seen, {"stdout": "one\n", "stderr": "bad\n"})
        self.assertEqual(exed.job(jid)["state"], 1)
        let_go("lines", "web04")
        self.assertEqual(follower.next()["web04"], {"lines": "web04 went\n", "stream": "stdout", "offset": 4})
        record = follower.next()["web04"]
        self.assertEqual((record["status"], record["stdout"], record["stderr"]),
                         (5, "one\nweb04 went\n", "bad\n"))
        follower.end()


class LongOutput(unittest.TestCase):
    def record(self, cmd, node=None, **fields):
        """The record as a follower gets it, in one line; the job object must have the same one."""
        node = node or exed
        jid = node.execute(["web01"], cmd, **fields)
        follower = Follower(jid, node)
        lines = follower.end().split(b"\n")
        self.assertEqual(len(lines), 3, "one line for the job, one for the record")
        record = json.loads(lines[1])["web01"]
        self.assertEqual(node.job(jid)["return_data"]["web01"], [record])
        return record

    def test_a_long_output_is_one_line_and_exact(self):
        record = self.record("seq 1 40000; seq 40001 70000 >&2; exit 3")
        self.assertEqual((record["status"], record["rtc"]), (3, 3))
        self.assertTrue(record["stdout"] == numbers(1, 40000), "stdout differs")
        self.assertTrue(record["stderr"] == numbers(40001, 70000), "stderr differs")
        self.assertFalse({"truncated", "stdout_b64", "stderr_b64"} & set(record))

    def test_characters_are_not_cut_between_parts(self):
        record = self.record("printf x; yes \u00e9\u20ac | head -n 40000")
        self.assertTrue(record["stdout"] == "x" + "\u00e9\u20ac\n" * 40000, "stdout differs")
        self.assertNotIn("stdout_b64", record)

    def test_long_bytes_that_are_not_utf8(self):
        record = self.record(r"printf '\302'; yes | head -c 100000 | tr y '\377'")
        raw = b"\xc2" + b"\xff\n" * 50000
        self.assertTrue(base64.b64decode(record["stdout_b64"]) == raw, "stdout_b64 differs")
        self.assertTrue(record["stdout"] == "\ufffd" + "\ufffd\n" * 50000, "stdout differs")

    def test_bytes_in_pieces_of_any_size_stay_whole(self):
        jid = exed.execute(["web10"], r"printf 'ab\377\n'; %s; printf 'b\376cd\303\251'" % (WAIT % "odd"),
                           lines=True)
        follower = Follower(jid)
        follower.next()
        piece = follower.next()["web10"]
        self.assertEqual(base64.b64decode(piece["lines_b64"]), b"ab\xff\n")
        let_go("odd", "web10")
        record = json.loads(follower.end().splitlines()[-1])["web10"]
        self.assertEqual(base64.b64decode(record["stdout_b64"]), b"ab\xff\nweb10 went\nb\xfecd\xc3\xa9")
        self.assertEqual(record["stdout"], "ab\ufffd\nweb10 went\nb\ufffdcd\u00e9")

    def test_at_the_border_between_whole_and_parts(self):
        for size in (32767, 32768, 32769, 65536):
            record = self.record("yes abcdefg | head -c %d" % size)
            self.assertTrue(record["stdout"] == ("abcdefg\n" * 8193)[:size], size)

    def test_a_sync_get_has_it_too(self):
        answer = exed.get("/execute?target=web01,web02&cmd=seq+1+40000")
        self.assertEqual(answer.status, 200)
        for host in ("web01", "web02"):
            self.assertTrue(answer.body[host]["stdout"] == numbers(1, 40000), "stdout differs")

    def test_over_the_cap_the_first_bytes_are_kept_and_all_are_counted(self):
        for cap in (5000, 100000):
            with Exed(HOSTS, {"store": {"output_cap": cap}, "ssh": {"agent": "none"}}) as node:
                record = self.record("seq 1 40000; seq 1 10 >&2", node)
                self.assertEqual((record["status"], record["rtc"], record["truncated"]), (5, 0, True))
                self.assertTrue(record["stdout"] == numbers(1, 40000)[:cap], "stdout differs at %d" % cap)
                self.assertEqual(record["stdout_bytes"], len(numbers(1, 40000)))
                self.assertEqual(record["stderr"], numbers(1, 10))


class Many(unittest.TestCase):
    def test_twenty_followers_get_the_same_bytes(self):
        jid = exed.execute(["web[01:10]"], "seq 1 3000; " + WAIT % "many")
        followers = [Follower(jid) for _ in range(20)]
        self.assertEqual({follower.next()["state"] for follower in followers}, {1})
        for i in range(1, 11):
            let_go("many", "web%02d" % i)
        data = [follower.end() for follower in followers]
        self.assertEqual(data[0].count(b"\n"), 11)
        self.assertEqual([one == data[0] for one in data], [True] * 20)

    def test_a_follower_that_leaves_disturbs_nobody_and_leaves_nothing(self):
        before = len(exed.fds())
        jid = exed.execute(["web05"], WAIT % "leave")
        stays = Follower(jid)
        stays.next()
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", exed.port), 20) as s:
                s.sendall(("GET /jobs/%s?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n" % jid).encode())
                self.assertIn(b"200 OK", s.recv(4096))
        let_go("leave", "web05")
        self.assertEqual(stays.next()["web05"]["stdout"], "web05 went\n")
        stays.end()
        wait_until(lambda: len(exed.fds()) <= before + 1, 10, "the connections are closed")

    def test_a_client_of_a_sync_get_that_leaves_does_not_stop_the_job(self):
        cmd = "touch $EXED_TEST_DIR/begun; " + WAIT % "sync"
        query = cmd.replace(" ", "+").replace(";", "%3B")
        with socket.create_connection(("127.0.0.1", exed.port), 20) as s:
            s.sendall(("GET /execute?target=web06&cmd=%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % query)
                      .encode())
            path = os.path.join(HOSTS.host["web06"].dir, "begun")
            wait_until(lambda: os.path.exists(path), 20, "the command runs")
        jid = exed.get("/jobs?all=1").body[-1]
        self.assertEqual(exed.job(jid)["state"], 1)
        let_go("sync", "web06")
        job = exed.wait_job(jid)
        self.assertEqual((job["state"], job["return_data"]["web06"][0]["stdout"]), (0, "web06 went\n"))

    def test_followers_of_several_jobs_at_once(self):
        jids = [exed.execute(["web[01:10]"], "echo %d" % i) for i in range(8)]
        followers = [Follower(jid) for jid in jids]
        for i, follower in enumerate(followers):
            lines = follower.end().splitlines()
            found = [record["stdout"] for line in lines[1:] for record in json.loads(line).values()]
            self.assertEqual(found, ["%d\n" % i] * 10)

    def test_a_cancelled_job_ends_its_stream(self):
        jid = exed.execute(["web07", "web08"], "sleep 304", window=1)
        follower = Follower(jid)
        follower.next()
        wait_until(lambda: HOSTS.running("sleep 304"), 10, "it runs")
        exed.post("/jobs/%s/cancel" % jid)
        ended = [follower.next(), follower.next()]
        self.assertEqual(sorted(record["status"] for one in ended for record in one.values()), [2, 3])
        self.assertIsNone(follower.next())
        follower.end()

    def end_node_under(self, **fields):
        """A follower of a job that runs on a node which ends meanwhile."""
        settings = {"ssh": {"agent": "none"}, "runner": {"drain_timeout": "100ms"}}
        with Exed(HOSTS, settings) as node:
            follower = Follower(node.execute(["web09"], WAIT % "ends", **fields), node)
            follower.next()
            wait_until(lambda: HOSTS.running("ends"), 10, "it runs")
            self.assertEqual(node.term(), 0)
            follower.join(20)
        let_go("ends", "web09")
        wait_until(lambda: not HOSTS.running("ends"), 10, "the command is gone")
        os.unlink(os.path.join(HOSTS.host["web09"].dir, "ends"))
        return follower

    def test_a_node_that_ends_cuts_the_stream_of_a_job_that_goes_on_without_a_last_chunk(self):
        follower = self.end_node_under(fence=True)
        self.assertIsInstance(follower.error, (ConnectionError, ValueError))

    def test_a_job_that_ends_with_its_node_ends_its_stream(self):
        follower = self.end_node_under()
        record = json.loads(follower.end().splitlines()[-1])["web09"]
        self.assertEqual((record["status"], record["cancelled"]), (3, True))


if __name__ == "__main__":
    unittest.main()
