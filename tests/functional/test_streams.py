# SPDX-License-Identifier: MIT
"""Following in the forms that show ids: NDJSON, Server-Sent Events, WebSocket; positions; lines; clients
that are slow, gone or rude."""

import asyncio
import json
import os
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import Exed, Redis, Sshd, wait_until  # noqa: E402
from exedtest.streams import FORMS, Cut, Follow, Refused, follow_all  # noqa: E402

HOSTS = REDIS = exed = other = None
WAIT = "until [ -e $EXED_TEST_DIR/%s ]; do sleep 0.03; done; echo $EXED_TEST_HOST went"
TYPES = {"ndjson": "application/x-ndjson", "sse": "text/event-stream"}
LONG = "seq 1 40000"


def setUpModule():
    global HOSTS, REDIS, exed, other
    HOSTS = Sshd(10).start()
    REDIS = Redis().start()
    conf = {"ssh": {"agent": "none"}, "runner": {"redis_url": REDIS.url}, "api": {"heartbeat": "1s"}}
    exed, other = (Exed(HOSTS, conf).start() for _ in range(2))


def tearDownModule():
    for fixture in (other, exed, REDIS, HOSTS):
        fixture.stop()


def let_go(gate, host):
    with open(os.path.join(HOSTS.host[host].dir, gate), "w", encoding="utf-8"):
        pass


def run(coroutine, limit=60):
    return asyncio.run(asyncio.wait_for(coroutine, limit))


def ended_job(targets=("web[01:10]",), cmd="echo $EXED_TEST_HOST", **fields):
    jid = exed.execute(list(targets), cmd, **fields)
    exed.wait_job(jid)
    return jid


def payloads(items):
    return [item.data for item in items if item.kind == "entry"]


class Forms(unittest.TestCase):
    def test_each_form_has_the_job_its_entries_with_ids_and_the_end(self):
        jid = ended_job()
        plain = follow_all(exed.port, jid, "chunked")
        for form in FORMS:
            items = follow_all(exed.port, jid, form)
            self.assertEqual([item.kind for item in items], ["job"] + ["entry"] * 10 + ["end"], form)
            self.assertEqual([item.id for item in items], [None] + list(range(1, 12)), form)
            self.assertEqual([item.data for item in items[:-1]], [item.data for item in plain], form)
            self.assertEqual(json.loads(items[-1].data), {"state": 0, "error": ""}, form)

    def test_a_failed_job_says_so_at_its_end(self):
        jid = ended_job(["web01"], "false")
        for form in FORMS:
            end = json.loads(follow_all(exed.port, jid, form)[-1].data)
            self.assertEqual((end["state"], end["error"]),
                             (2, "1 of 1 targets did not return without error"), form)

    def test_a_long_record_is_one_entry_and_exact(self):
        jid = ended_job(["web01"], LONG)
        want = "".join("%d\n" % i for i in range(1, 40001))
        for form in FORMS:
            entry = payloads(follow_all(exed.port, jid, form))
            self.assertEqual(len(entry), 1)
            self.assertTrue(json.loads(entry[0])["web01"]["stdout"] == want, form)

    def test_headers_of_the_forms(self):
        jid = ended_job(["web01"])
        for form, kind in TYPES.items():
            answer = exed.get("/jobs/%s?follow=1" % jid, headers={"Accept": kind})
            self.assertEqual((answer.headers["content-type"], answer.headers["cache-control"],
                              answer.headers["vary"]), (kind, "no-store", "Accept"), form)

    def test_the_accept_header_chooses_by_quality(self):
        jid = ended_job(["web01"])
        json_, nd, sse = "application/json", "application/x-ndjson", "text/event-stream"
        for header, want in (
                (None, json_), ("*/*", json_), ("", json_), ("text/html", json_), ("application/*", json_),
                (sse, sse), ("TEXT/Event-Stream", sse), ("text/*", sse), (nd + ";q=0.5, " + sse, sse),
                (nd + ", " + sse + ";q=0.9", nd), (json_ + ", " + nd, json_), (nd + " ; q=0.2 , */*;q=0.1", nd),
                (json_ + ";q=0, */*", nd), (nd + ";q=0, application/*;q=0.1", json_),
                (sse + ";q=0, text/*, " + nd + ";q=0.1", nd), (sse + ";charset=utf-8", sse),
                (nd + ";q=7", json_), (nd + ";q=0.0001, " + sse + ";q=0.001", sse), (", ,;;q=", json_)):
            headers = {"Accept": header} if header is not None else {}
            lines = ["%s: %s\r\n" % item for item in headers.items()]
            answer = exed.raw(("GET /jobs/%s?follow=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n"
                               % (jid, "".join(lines))).encode()).decode()
            self.assertIn("\r\nContent-Type: %s\r\n" % want, answer, header)

    def test_what_there_is_comes_at_once_and_the_rest_as_it_happens(self):
        async def watch(form):
            jid = exed.execute(["web01", "web02"], WAIT % ("live" + form))
            async with Follow(exed.port, jid, form) as f:
                self.assertEqual((await f.next()).kind, "job")
                for number, host in enumerate(("web02", "web01"), 1):
                    let_go("live" + form, host)
                    item = await f.next()
                    while item.kind == "beat":
                        item = await f.next()
                    self.assertEqual((item.id, list(json.loads(item.data))), (number, [host]))
                self.assertEqual([item.kind for item in await f.all()], ["end"])
        for form in FORMS:
            run(watch(form))

    def test_signs_of_life(self):
        async def watch(form):
            jid = exed.execute(["web03"], WAIT % ("beat" + form))
            async with Follow(exed.port, jid, form) as f:
                await f.next()
                if form == "ws":
                    reading = asyncio.ensure_future(f.next())
                    while f.pings < 2:
                        await asyncio.sleep(0.05)
                    let_go("beat" + form, "web03")
                    self.assertEqual((await reading).kind, "entry")
                    return
                self.assertEqual([(await f.next()).kind for _ in range(2)], ["beat", "beat"])
                let_go("beat" + form, "web03")
        for form in FORMS:
            run(watch(form))


class Positions(unittest.TestCase):
    def test_a_client_goes_on_after_any_id_on_any_node(self):
        jid = ended_job(["web[01:09]", "web10"], "echo x; [ $EXED_TEST_HOST != web10 ] || " + LONG)
        for form in FORMS:
            whole = follow_all(exed.port, jid, form)
            ids = [item.id for item in whole if item.id]
            for after in [1] + ids:
                if form == "sse" and after == ids[-1]:
                    continue
                items = follow_all(other.port, jid, form, after)
                want = [item for item in whole if item.id and (item.id > after or item.kind == "end")]
                self.assertEqual(items, want, "%s after %d" % (form, after))
            self.assertEqual(follow_all(other.port, jid, form, 0), whole)

    def test_the_chunked_form_takes_a_position_too(self):
        jid = ended_job()
        whole = follow_all(exed.port, jid, "chunked")
        self.assertEqual(follow_all(other.port, jid, "chunked", 0), whole)
        self.assertEqual(follow_all(other.port, jid, "chunked", 4), whole[5:])
        self.assertEqual(follow_all(other.port, jid, "chunked", 10), [])

    def test_a_running_job_is_gone_on_with(self):
        async def watch(form):
            jid = exed.execute(["web04", "web05"], WAIT % ("on" + form))
            async with Follow(exed.port, jid, form) as f:
                await f.next()
                let_go("on" + form, "web04")
                first = await f.next()
            async with Follow(other.port, jid, form, first.id) as f:
                let_go("on" + form, "web05")
                items = [item for item in await f.all() if item.kind != "beat"]
            self.assertEqual([(item.kind, item.id) for item in items], [("entry", 2), ("end", 3)])
            self.assertEqual(list(json.loads(items[0].data)), ["web05"])
        for form in FORMS:
            run(watch(form))

    def test_an_event_source_that_has_the_end_gets_204(self):
        jid = ended_job()
        for node in (exed, other):
            answer = node.get("/jobs/%s?follow=1" % jid,
                              headers={"Accept": "text/event-stream", "Last-Event-ID": "11"})
            self.assertEqual((answer.status, answer.body), (204, ""))
        # The header is the newer one; an empty one is none.
        got = exed.get("/jobs/%s?follow=1&from=3" % jid,
                       headers={"Accept": "text/event-stream", "Last-Event-ID": "9"}).body
        self.assertEqual((got.count("\nid: "), got.count("id: 10\ndata: {")), (2, 1))
        got = exed.get("/jobs/%s?follow=1&from=8" % jid,
                       headers={"Accept": "text/event-stream", "Last-Event-ID": ""}).body
        self.assertIn("id: 9\ndata: {", got)

    def test_a_bad_position_is_400_and_names_the_field(self):
        jid = ended_job()
        for value, form in (("12", "ndjson"), ("99999999999999", "sse"), ("-1", "ndjson"), ("x", "chunked"),
                            ("1.5", "ndjson"), ("12", "ws"), ("", "sse"), ("99999999999999999999", "ndjson")):
            with self.assertRaises(Refused, msg=value) as caught:
                follow_all(exed.port, jid, form, query="follow=1&from=" + value)
            self.assertEqual(caught.exception.status, 400, value)
            self.assertIn("from", json.loads(caught.exception.body)["message"])
        for value in ("x", "-3", "12", "99999999999999999999"):
            with self.assertRaises(Refused, msg=value) as caught:
                follow_all(exed.port, jid, "sse", headers={"Last-Event-ID": value})
            self.assertEqual(caught.exception.status, 400, value)
            self.assertIn("Last-Event-ID", json.loads(caught.exception.body)["message"])
        self.assertEqual(exed.get("/jobs/%s?from=1" % jid).status, 400)

    def test_a_position_that_was_trimmed_is_410(self):
        jid = ended_job()
        stream = "exed:job:%s:results" % jid
        rows = [field for _, fields in REDIS.ask("XRANGE", stream, "-", "+") for field in fields]
        REDIS.ask("DEL", stream)
        REDIS.ask("XADD", stream, "10-0", *rows[10:])
        for form in FORMS + ("chunked",):
            with self.assertRaises(Refused, msg=form) as caught:
                follow_all(exed.port, jid, form, 2)
            self.assertEqual((caught.exception.status, json.loads(caught.exception.body)["message"]),
                             (410, "entries 3 to 5 are not kept any more"), form)
            self.assertEqual(len(payloads(follow_all(exed.port, jid, form, 5))[-5:]), 5, form)
        REDIS.ask("DEL", stream)
        with self.assertRaises(Refused) as caught:
            follow_all(exed.port, jid, "ndjson", 5)
        self.assertEqual(caught.exception.status, 410)

    def test_no_such_job_is_404(self):
        for form in FORMS:
            with self.assertRaises(Refused) as caught:
                follow_all(exed.port, "00000000-0000-4000-8000-000000000000", form)
            self.assertEqual(caught.exception.status, 404)


class WebSockets(unittest.TestCase):
    def refused(self, node=None, form="ws", **headers):
        with self.assertRaises(Refused) as caught:
            follow_all((node or exed).port, self.jid, form,
                       headers={name.replace("_", "-"): value for name, value in headers.items()})
        return caught.exception

    def setUp(self):
        self.jid = ended_job(["web01"])

    def listens(self, node):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", node.port)) == 0

    def test_the_upgrade_obeys_the_rules_of_any_request(self):
        self.assertEqual(self.refused(Origin="http://evil.example").status, 403)
        self.assertEqual(self.refused(Sec_Fetch_Site="cross-site").status, 403)
        self.assertEqual(self.refused(Host="evil.example").status, 421)
        own = {"Origin": "http://127.0.0.1:%d" % exed.port}
        self.assertEqual(follow_all(exed.port, self.jid, "ws", headers=own)[-1].kind, "end")
        path = exed.write("tokens", "secret-token\n", 0o600)
        node = Exed(HOSTS, {"ssh": {"agent": "none"}, "runner": {"redis_url": REDIS.url},
                            "api": {"token_file": path}}).launch()
        try:
            wait_until(lambda: "incarnation=" in node.log(), 10)
            wait_until(lambda: self.listens(node), 10)
            self.assertEqual(self.refused(node).status, 401)
            self.assertEqual(self.refused(node, Authorization="Bearer wrong").status, 401)
            items = follow_all(node.port, self.jid, "ws", headers={"Authorization": "Bearer secret-token"})
            self.assertEqual(items[-1].kind, "end")
        finally:
            node.stop()

    def test_a_wrong_upgrade_is_refused(self):
        answer = self.refused(Sec_WebSocket_Version="8")
        self.assertEqual((answer.status, answer.headers["sec-websocket-version"]), (426, "13"))
        self.assertEqual(self.refused(Sec_WebSocket_Version=None).status, 426)
        for key in (None, "", "x", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA=",
                    "!AAAAAAAAAAAAAAAAAAAAA=="):
            self.assertEqual(self.refused(Sec_WebSocket_Key=key).status, 400, key)
        answer = exed.raw(b"GET /jobs/%s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: "
                          b"websocket\r\nSec-WebSocket-Version: 13\r\n%s\r\n" % (
                              self.jid.encode(), 2 * b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"))
        self.assertIn(b" 400 Bad Request\r\n", answer)
        # Without the word in Connection, or for another protocol, it is a plain request.
        for headers in ({"Connection": "keep-alive"}, {"Upgrade": "h2c"}):
            items = follow_all(exed.port, self.jid, "ndjson", headers=dict(
                {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}, **headers))
            self.assertEqual(items[-1].kind, "end")
        answer = exed.raw(b"GET /jobs/%s HTTP/1.0\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: "
                          b"websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
                          b"AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % self.jid.encode())
        self.assertIn(b" 400 Bad Request\r\n", answer)

    def test_ping_is_answered_and_the_close_codes_are_right(self):
        async def talk(act, want, gate):
            jid = exed.execute(["web06"], WAIT % gate)
            async with Follow(exed.port, jid, "ws") as f:
                await f.next()
                act(f)
                try:
                    while await f.next():
                        pass
                except Cut:
                    pass
                self.assertEqual(f.code, want)
                self.assertEqual(await f._reader.read(), b"", "the server closes")
            let_go(gate, "web06")

        def close_normally(f):
            f.send_frame(8, b"\x03\xe8")

        def flood(f):
            f.send_frame(1, b"x" * 5000)

        run(talk(close_normally, 1000, "close"))
        run(talk(flood, 1009, "flood"))
        run(talk(lambda f: f.send_frame(1, b"hello", mask=False), 1002, "mask"))
        run(talk(lambda f: f.send_frame(3, b"hello"), 1002, "opcode"))
        run(talk(lambda f: f.send_frame(9, b"x" * 126), 1002, "longping"))
        run(talk(lambda f: f.send_frame(0, b"x"), 1002, "continuation"))
        run(talk(lambda f: f.send_frame(1, b"\xff\xfe"), 1007, "utf8"))

        async def ping():
            jid = exed.execute(["web07"], WAIT % "ping")
            async with Follow(exed.port, jid, "ws") as f:
                await f.next()
                f.send_frame(1, b"not asked for", fin=False)
                f.send_frame(9, b"are you there?")
                f.send_frame(0, b", and left aside")
                reading = asyncio.ensure_future(f.next())
                while f.ponged is None:
                    await asyncio.sleep(0.02)
                self.assertEqual(f.ponged, b"are you there?")
                let_go("ping", "web07")
                self.assertEqual((await reading).kind, "entry")
                self.assertEqual([item.kind for item in await f.all()], ["end"])
                self.assertEqual((f.code, f.reason), (1000, "the job has ended"))
        run(ping())

    def test_a_client_that_answers_no_ping_is_dropped(self):
        with Exed(HOSTS, {"ssh": {"agent": "none"}, "runner": {"redis_url": REDIS.url},
                          "api": {"heartbeat": "1s", "send_timeout": "2s"}}) as node:
            async def watch():
                jid = node.execute(["web08"], WAIT % "silent")
                async with Follow(node.port, jid, "ws") as f:
                    f.pong = False
                    await f.next()
                    with self.assertRaises(Cut):
                        await f.next()
                    self.assertGreater(f.pings, 0)
            run(watch())
            wait_until(lambda: "does not answer pings" in node.log(), 5)
            let_go("silent", "web08")

    def test_a_node_that_ends_says_1001(self):
        settings = {"ssh": {"agent": "none"}, "runner": {"redis_url": REDIS.url, "drain_timeout": "100ms"}}

        async def watch(node, f):
            await f.next()
            end = asyncio.get_running_loop().run_in_executor(None, node.term)
            with self.assertRaises(Cut):
                await f.all()
            await end
            return f.code, f.reason

        async def start(node):
            async with Follow(node.port, jid, "ws") as f:
                return await watch(node, f)
        jid = exed.execute(["web09"], WAIT % "leave")
        with Exed(HOSTS, settings) as node:
            self.assertEqual(run(start(node)), (1001, "the node ends"))
        let_go("leave", "web09")
        exed.wait_job(jid)


class Lines(unittest.TestCase):
    def lines_of(self, cmd, form="ndjson", node=None, host="web01"):
        """Per stream the bytes that came as lines; the record; how many entries."""
        node = node or exed
        jid = node.execute([host], cmd, lines=True)
        items = [item for item in follow_all(node.port, jid, form) if item.kind == "entry"]
        found, record = {"stdout": "", "stderr": ""}, None
        for item in items:
            self.assertIsNone(record, "the record is the last one")
            entry = json.loads(item.data)[host]
            if "lines" not in entry:
                record = entry
                continue
            self.assertEqual(entry["offset"], len(found[entry["stream"]].encode()), "none lost, none twice")
            found[entry["stream"]] += entry["lines"]
        ids = [item.id for item in items]
        self.assertEqual(ids, sorted(set(ids)))
        return found, record, items

    def test_whole_lines_add_up_to_the_record(self):
        for form in FORMS:
            found, record, items = self.lines_of(
                "for i in $(seq 5000); do echo out $i; echo err $i >&2; done", form)
            for stream in ("stdout", "stderr"):
                self.assertTrue(found[stream] == record[stream], "%s differs" % stream)
                self.assertEqual(record[stream].count("\n"), 5000)
            self.assertLess(len(items), 2000, "lines are gathered while others are on their way")
            for item in items[:-1]:
                self.assertTrue(json.loads(item.data)["web01"]["lines"].endswith("\n"), "whole lines")

    def test_output_without_newlines_stays_bounded_and_whole(self):
        found, record, items = self.lines_of("yes abcdefg | tr -d '\\n' | head -c 300000")
        self.assertTrue(found["stdout"] == record["stdout"] == ("abcdefg" * 42858)[:300000])
        for item in items[:-1]:
            self.assertLessEqual(len(json.loads(item.data)["web01"]["lines"]), 48 * 1024)

    def test_a_line_that_is_not_ended_comes_with_the_record(self):
        found, record, _ = self.lines_of("echo one; printf two")
        self.assertEqual((record["stdout"], found["stdout"]), ("one\ntwo", "one\ntwo"))
        found, record, _ = self.lines_of("printf two")
        self.assertEqual((record["stdout"], found["stdout"]), ("two", ""))

    def test_a_flood_is_cut_at_the_cap(self):
        with Exed(HOSTS, {"store": {"output_cap": "100k"}, "ssh": {"agent": "none"}}) as node:
            found, record, _ = self.lines_of("seq 1 2000000", node=node)
            self.assertEqual((len(found["stdout"]), record["truncated"]), (102400, True))
            self.assertTrue(found["stdout"] == record["stdout"])
            self.assertEqual(record["stdout_bytes"], 14888896)

    def test_a_query_and_a_number_ask_for_lines_too(self):
        for value in (1, True):
            jid = ended_job(["web02"], "echo x", lines=value)
            self.assertEqual(len(payloads(follow_all(exed.port, jid, "ndjson"))), 2, value)
        answer = exed.get("/execute?target=web02&cmd=echo+x&lines=1")
        jid = answer.headers["exed-jid"]
        self.assertEqual(answer.body["web02"]["stdout"], "x\n")
        self.assertEqual(len(payloads(follow_all(exed.port, jid, "ndjson"))), 2)
        self.assertEqual(exed.post("/execute", {"targets": "web02", "cmd": "echo", "lines": "maybe"}).status,
                         400)


class Many(unittest.TestCase):
    def calls(self):
        text = REDIS.ask("INFO", "commandstats")
        text = text.decode() if isinstance(text, bytes) else text
        return sum(int(line.split("calls=")[1].split(",")[0]) for line in text.splitlines()
                   if line.startswith("cmdstat_fcall"))

    def cost(self, followers, gate):
        async def watch(jid):
            async def one(n):
                async with Follow(exed.port, jid, FORMS[n % 3]) as f:
                    items = [await f.next()]
                    if n == 0:
                        for i in range(1, 11):
                            let_go(gate, "web%02d" % i)
                    return payloads(items + await f.all())
            return await asyncio.gather(*(one(n) for n in range(followers)))
        jid = exed.execute(["web[01:10]"], WAIT % gate)
        before = self.calls()
        seen = run(watch(jid))
        used = self.calls() - before
        self.assertEqual([one == seen[0] for one in seen], [True] * followers)
        self.assertEqual(len(seen[0]), 10)
        return used

    def test_200_followers_cost_the_store_what_one_costs(self):
        one, many = self.cost(1, "one"), self.cost(200, "many")
        # The node asks in the background as well, the longer it takes the more; never once per follower.
        self.assertLess(many, one + 100, "%d calls, for one follower %d" % (many, one))

    def test_a_slow_reader_slows_only_itself_and_is_dropped_with_a_reason(self):
        conf = {"ssh": {"agent": "none"}, "store": {"output_cap": "8m"},
                "api": {"send_timeout": "3s", "send_buffer": "64k"}}
        with Exed(HOSTS, conf) as node:
            jid = node.execute(["web[01:04]"], "yes 0123456789 | head -c 6000000")
            slow = []
            for form in ("*/*", "text/event-stream", "application/x-ndjson"):
                s = socket.create_connection(("127.0.0.1", node.port), 20)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.sendall(("GET /jobs/%s?follow=1 HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\n\r\n" % (
                    jid, form)).encode())
                slow.append(s)
            items = follow_all(node.port, jid, "ndjson")
            self.assertEqual([len(json.loads(data)[name]["stdout"]) for data in payloads(items)
                              for name in json.loads(data)], [6000000] * 4)
            before = node.rss_kb()
            wait_until(lambda: node.log(50000).count("dropped, it took") == 3, 30, "all are dropped")
            self.assertLess(node.rss_kb(), before + 50000)
            for s in slow:
                with self.assertRaises(AssertionError, msg="cut"):
                    data, until = b"", time.monotonic() + 20
                    while time.monotonic() < until:
                        try:
                            part = s.recv(65536)
                        except ConnectionResetError:
                            break
                        if not part:
                            break
                        data = data[-100:] + part
                    assert data.endswith(b"0\r\n\r\n")
                s.close()


if __name__ == "__main__":
    unittest.main()
