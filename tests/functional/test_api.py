# SPDX-License-Identifier: MIT
"""The API, dialect exed, over real HTTP, a real redis-server and a real sshd.

compat/exed.json has what can be said as one request and its answer; here is what takes more than one.
"""

import base64
import os
import sys
import time
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support"), HERE]

import compat  # noqa: E402
from exedtest import Exed, Sshd, free_port, wait_until  # noqa: E402

HOSTS = exed = None


def inventory():
    """Four good hosts, one under an IPv6 name, one at a port where nothing listens."""
    text = "\n".join(HOSTS.inventory_text().split("\n")[:5]) + "\n"
    text += "\n[six]\n2001:db8::7 ansible_host=%s ansible_port=%d\n" % (HOSTS.hosts[4].address, HOSTS.port)
    text += "\n[shut]\nshut01 ansible_host=127.0.1.1 ansible_port=%d\n" % free_port("127.0.1.1")
    return text


def setUpModule():
    global HOSTS, exed
    HOSTS = Sshd(8).start()
    exed = Exed(HOSTS, {"ssh": {"connect_timeout": "5s", "agent": "none"}})
    exed.conf["inventory"]["path"] = exed.write("hosts.ini", inventory())
    exed.start()


def tearDownModule():
    try:
        exed.stop()
    finally:
        HOSTS.stop()


def is_uuid4(text):
    try:
        return str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4
    except ValueError:
        return False


def is_job(job):
    keys = {"targets", "operate", "operate_args", "startat", "state", "taskid", "error", "return_data"}
    return set(job) - {"phase"} == keys and ("phase" in job) == (job["state"] == 1)


class Lines(unittest.TestCase):
    """Each case of compat/exed.json."""

    checks = {
        "<int>": lambda got: type(got) is int,
        "<jids>": lambda got: bool(got) and all(map(is_uuid4, got)),
        "<jobs>": lambda got: bool(got) and all(map(is_job, got)),
    }

    @classmethod
    def setUpClass(cls):
        cls.jids = {"RUNNING": exed.execute(["web04"], "sleep 600"), "ENDED": cls.ended()}

    @classmethod
    def tearDownClass(cls):
        exed.post("/jobs/%s/cancel" % cls.jids["RUNNING"])
        exed.wait_job(cls.jids["RUNNING"])

    @staticmethod
    def ended():
        jid = exed.execute(["web01"], "echo data")
        exed.wait_job(jid)
        return jid

    def port(self):
        return exed.port

    def name(self, name):
        """The jid that a $NAME stands for; $FRESH is a new one each time."""
        return self.ended() if name == "FRESH" else self.jids[name]


compat.add_tests(Lines, "exed")


class Jobs(unittest.TestCase):
    def ask(self, method, path, status, **options):
        answer = exed.request(method, path, **options)
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def test_a_job_runs_and_is_done(self):
        jid = exed.execute(["web01"], "until [ -e $EXED_TEST_DIR/go ]; do sleep 0.05; done; echo went")
        wait_until(lambda: HOSTS.running(), 10, "the command runs")
        running = exed.job(jid)
        self.assertEqual((running["state"], running["phase"], running["error"], running["return_data"]),
                         (1, "running", "", {}))
        with open(os.path.join(HOSTS.host["web01"].dir, "go"), "w", encoding="utf-8"):
            pass
        done = exed.wait_job(jid)
        self.assertEqual((done["state"], done["error"], done["taskid"]), (0, "", jid))
        self.assertNotIn("phase", done)
        self.assertLess(abs(done["startat"] - time.time()), 60)
        self.assertEqual(done["return_data"]["web01"][0]["stdout"], "went\n")

    def test_a_job_is_failure_when_one_host_failed(self):
        jid = exed.execute(["web01,web02,web03"], "[ $EXED_TEST_HOST != web02 ]")
        job = exed.wait_job(jid)
        self.assertEqual(job["state"], 2)
        self.assertIn("1 of 3", job["error"])
        self.assertEqual({host: records[0]["status"] for host, records in job["return_data"].items()},
                         {"web01": 5, "web02": 3, "web03": 5})

    def test_a_job_is_failure_when_a_target_is_unknown_or_unreachable(self):
        for targets, status in ((["web01", "nosuch"], -1), (["web01", "shut01"], 4)):
            job = exed.wait_job(exed.execute(targets, "echo x"))
            self.assertEqual(job["state"], 2, job)
            self.assertEqual(job["targets"], targets)
            self.assertEqual(job["return_data"]["web01"][0]["status"], 5)
            record, = job["return_data"][targets[1]]
            self.assertEqual(record["status"], status)
            self.assertTrue(record["error"])
            self.assertNotIn("rtc", record)

    def test_a_ping_job(self):
        jid = exed.submit("/ping", {"targets": ["web01", "2001:db8::7"]})
        job = exed.wait_job(jid)
        self.assertEqual((job["operate"], job["operate_args"], job["state"]), ("ping", {}, 0))
        self.assertEqual(job["return_data"], {"web01": [{"status": 1}], "2001:db8::7": [{"status": 1}]})

    def test_a_sync_get_is_a_job_that_is_not_listed(self):
        answer = self.ask("GET", "/execute?target=web01&cmd=echo+sync", 200)
        jid = answer.headers["exed-jid"]
        self.assertNotIn(jid, exed.get("/jobs").body)
        self.assertEqual(exed.get("/jobs?all=1").body[-1], jid)
        job = exed.job(jid)
        self.assertEqual((job["state"], job["operate_args"]), (0, {"command": "echo sync"}))
        self.assertEqual(job["return_data"]["web01"], [answer.body["web01"]])

    def test_jobs_are_listed_newest_last(self):
        jids = [exed.execute(["web01"], "echo %d" % i) for i in range(5)]
        self.assertEqual(exed.get("/jobs").body[-5:], jids)
        for jid in jids:
            exed.wait_job(jid)
        detail = exed.get("/jobs?detail=1").body[-5:]
        self.assertEqual([job["taskid"] for job in detail], jids)
        self.assertEqual([job["return_data"] for job in detail], [{}] * 5)

    def test_a_deleted_job_is_gone(self):
        jid = exed.execute(["web01"], "echo gone")
        exed.wait_job(jid)
        answer = self.ask("DELETE", "/jobs/" + jid, 204)
        self.assertEqual((answer.body, answer.headers.get("content-length", "0")), ("", "0"))
        self.assertNotIn(jid, exed.get("/jobs?all=1").body)
        for method, path in (("GET", ""), ("GET", "?follow=1"), ("DELETE", ""), ("POST", "/cancel")):
            self.ask(method, "/jobs/%s%s" % (jid, path), 404)

    def test_location_is_the_job(self):
        answer = self.ask("POST", "/execute", 201, body={"target": "web01", "cmd": "true"})
        self.assertEqual(answer.headers["location"], "/jobs/" + answer.body["jid"])
        self.assertEqual(self.ask("GET", answer.headers["location"], 200).body["targets"], ["web01"])
        self.assertNotIn("idempotent-replay", answer.headers)

    def test_an_idempotency_key_makes_one_job(self):
        key = {"Idempotency-Key": str(uuid.uuid4())}
        body = {"targets": ["web03"], "cmd": "echo x >>$EXED_TEST_DIR/once"}
        first = self.ask("POST", "/execute", 201, body=body, headers=key)
        again = self.ask("POST", "/execute", 201, body=dict(reversed(body.items())), headers=key)
        self.assertEqual((again.body, again.headers["location"]), (first.body, first.headers["location"]))
        self.assertEqual(again.headers["idempotent-replay"], "true")
        other = self.ask("POST", "/execute", 422, body=dict(body, cmd="true"), headers=key)
        self.assertIn(first.body["jid"], other.body["message"])
        self.ask("POST", "/ping", 422, body={"targets": body["targets"]}, headers=key)
        exed.wait_job(first.body["jid"])
        self.assertEqual(HOSTS.host["web03"].read("once"), "x\n")

    def test_what_is_refused_makes_no_job(self):
        before = exed.get("/jobs?all=1").body
        for body in ({"cmd": "true"}, {"targets": "web01"}, {"targets": "nosuch", "cmd": "true"},
                     {"targets": "web01", "cmd": "true", "windo": 1}):
            self.assertGreaterEqual(exed.post("/execute", body).status, 400)
        self.ask("HEAD", "/execute?target=web01&cmd=echo+x+%3E%3E$EXED_TEST_DIR/head", 200)
        self.assertEqual(exed.get("/jobs?all=1").body, before)
        self.assertEqual(HOSTS.host["web01"].read("head"), "")

    def test_a_command_that_is_too_long_makes_no_job(self):
        self.ask("POST", "/execute", 200, body={"targets": "web01", "cmd": "#" * 1000000, "dry_run": True})
        answer = self.ask("POST", "/execute", 400, body={"targets": "web01", "cmd": "#" * 1000001, "dry_run": True})
        self.assertIn("'cmd' must be at most 1000000 characters", answer.body["message"])

    def test_a_head_has_the_head_of_its_get(self):
        ended = exed.execute(["web01"], "true")
        exed.wait_job(ended)
        running = exed.execute(["web01"], "until [ -e $EXED_TEST_DIR/head_seen ]; do sleep 0.05; done")
        for path in ("/target", "/hosts", "/tasks", "/jobs/" + ended, "/jobs/%s?outputs=1" % ended, "/nothing",
                     "/jobs/%s?follow=1" % ended):
            with self.subTest(path):
                heads = [exed.request(method, path, headers={"Accept": "application/x-ndjson"})
                         for method in ("HEAD", "GET")]
                self.assertEqual([answer.status for answer in heads], [heads[1].status] * 2)
                for name in ("content-type", "content-length", "transfer-encoding", "vary"):
                    self.assertEqual(heads[0].headers.get(name), heads[1].headers.get(name), name)
                self.assertEqual(heads[0].body, "")
        answer = self.ask("HEAD", "/jobs/%s?follow=1" % running, 200)  # does not wait for the end
        self.assertEqual(answer.headers.get("transfer-encoding"), "chunked")
        self.assertEqual(exed.job(running)["state"], 1)
        with open(os.path.join(HOSTS.host["web01"].dir, "head_seen"), "w", encoding="utf-8"):
            pass
        exed.wait_job(running)

    def test_the_local_executor_runs_on_the_node(self):
        answer = self.ask("GET", "/execute?target=web01,web02&executor=local&cmd=echo+$EXED_TEST_HOST+$PPID",
                          200)
        for record in answer.body.values():
            self.assertEqual((record["status"], record["stdout"].strip()), (5, str(exed.pid)))


class Records(unittest.TestCase):
    """What a record says of how a command ended."""

    def run_on(self, cmd, host="web01", **fields):
        job = exed.wait_job(exed.execute([host], cmd, **fields))
        record, = job["return_data"][host]
        self.assertEqual(job["state"], 0 if record["status"] == 5 else 2)
        return record

    def test_time_limit(self):
        start = time.monotonic()
        record = self.run_on("echo begun; sleep 300 & sleep 300", timeout="500ms")
        self.assertLess(time.monotonic() - start, 20)
        self.assertEqual((record["status"], record["rtc"], record["timed_out"]), (3, 124, True))
        self.assertEqual((record["killed"], record["survivors"], record["stdout"]), (True, 0, "begun\n"))
        self.assertTrue(record["killed_by"])
        self.assertNotIn("cancelled", record)
        self.assertEqual(HOSTS.running("sleep 300"), [])

    def test_a_command_within_its_limit(self):
        record = self.run_on("sleep 0.1; echo ok", timeout=30)
        self.assertEqual((record["status"], record["stdout"]), (5, "ok\n"))
        self.assertFalse({"timed_out", "killed", "survivors", "signal"} & set(record))

    def test_killed_by_a_signal(self):
        for name, number in (("TERM", 15), ("KILL", 9), ("USR1", 10)):
            record = self.run_on("kill -%s $$" % name)
            self.assertEqual((record["status"], record["rtc"], record["signal"]), (3, 128 + number, name))

    def test_bytes_that_are_not_utf8(self):
        record = self.run_on(r"printf 'a\377b\303\251'; printf '\200' >&2")
        self.assertEqual((record["stdout"], record["stderr"]), ("a\ufffdb\u00e9", "\ufffd"))
        self.assertEqual(base64.b64decode(record["stdout_b64"]), b"a\xffb\xc3\xa9")
        self.assertEqual(base64.b64decode(record["stderr_b64"]), b"\x80")

    def test_nul_and_control_bytes(self):
        record = self.run_on(r"printf 'a\000b\033\177\042\134'")
        self.assertEqual(record["stdout"], 'a\0b\x1b\x7f"\\')
        self.assertNotIn("stdout_b64", record)

    def test_the_keys_of_a_plain_record(self):
        record = self.run_on("echo out; echo err >&2; exit 7")
        self.assertEqual({name: record[name] for name in ("status", "rtc", "stdout", "stderr")},
                         {"status": 3, "rtc": 7, "stdout": "out\n", "stderr": "err\n"})
        self.assertLess(abs(record["started"] - time.time()), 60)
        self.assertGreaterEqual(record["seconds"], 0)
        self.assertEqual(set(record), {"status", "rtc", "stdout", "stderr", "started", "seconds"})

    def test_a_command_of_several_lines_and_odd_characters(self):
        record = self.run_on("x='a\\b!c'\nprintf '%s\\n' \"$x\" \u00e9\nexit 0")
        self.assertEqual((record["rtc"], record["stdout"]), (0, "a\\b!c\n\u00e9\n"))


class Cancel(unittest.TestCase):
    def test_running_hosts_are_killed_and_the_others_skipped(self):
        jid = exed.execute(["web[01:04]"], "echo here; sleep 301", window=2)
        wait_until(lambda: len(HOSTS.running("sleep 301")) >= 2, 10, "two hosts run it")
        answer = exed.post("/jobs/%s/cancel" % jid)
        self.assertEqual((answer.status, answer.body["jid"]), (200, jid))
        self.assertIn(answer.body["state"], (1, 2))
        job = exed.wait_job(jid)
        self.assertEqual((job["state"], job["error"]), (2, "cancelled"))
        self.assertEqual(HOSTS.running("sleep 301"), [])
        records = {host: rows[0] for host, rows in job["return_data"].items()}
        self.assertEqual(sorted(records), ["web01", "web02", "web03", "web04"])
        ran = {host for host, record in records.items() if record["status"] == 3}
        self.assertEqual(len(ran), 2)
        for host, record in records.items():
            if host in ran:
                self.assertEqual((record["cancelled"], record["survivors"], record["stdout"]),
                                 (True, 0, "here\n"))
            else:
                self.assertEqual((record["status"], record["error"]), (2, "cancelled"))
                self.assertNotIn("started", record)
        self.assertEqual(exed.post("/jobs/%s/cancel" % jid).status, 409)

    def test_the_other_jobs_go_on(self):
        go = "until [ -e $EXED_TEST_DIR/other ]; do sleep 0.05; done; echo done"
        kept, dropped = exed.execute(["web02"], go), exed.execute(["web02"], "sleep 302")
        wait_until(lambda: HOSTS.running("sleep 302"), 10, "both run")
        exed.post("/jobs/%s/cancel" % dropped)
        self.assertEqual(exed.wait_job(dropped)["error"], "cancelled")
        self.assertEqual(exed.job(kept)["state"], 1)
        with open(os.path.join(HOSTS.host["web02"].dir, "other"), "w", encoding="utf-8"):
            pass
        self.assertEqual(exed.wait_job(kept)["return_data"]["web02"][0]["stdout"], "done\n")

    def test_a_command_that_ignores_signals_is_killed_too(self):
        jid = exed.execute(["web03"], "trap '' TERM INT HUP; sleep 303; sleep 303")
        wait_until(lambda: HOSTS.running("sleep 303"), 10, "it runs")
        exed.post("/jobs/%s/cancel" % jid)
        record, = exed.wait_job(jid)["return_data"]["web03"]
        self.assertEqual((record["status"], record["survivors"]), (3, 0))
        self.assertEqual(HOSTS.running("sleep 303"), [])


class Inventory(unittest.TestCase):
    def test_a_changed_file_counts_and_a_broken_one_leaves_the_last_good_one(self):
        node = Exed()
        node.conf["inventory"]["path"] = path = node.write("hosts.ini", "[a]\none\n")
        with node:
            def health():
                return node.get("/healthz").body["inventory"]
            self.assertEqual(node.get("/target").body, ["one"])
            node.write("hosts.ini", "[a]\none\ntwo\n[b]\nthree\n")
            wait_until(lambda: node.get("/target").body == ["one", "two", "three"], 10, "it is read")
            self.assertEqual(health(), {"hosts": 3})
            node.write("hosts.ini", "[a]\none\n[b:children]\nnosuch:\n[x\n")
            wait_until(lambda: "error" in health(), 10, "it is broken")
            self.assertEqual(health()["hosts"], 3)
            self.assertRegex(health()["error"], r"hosts\.ini:\d+")
            answer = node.get("/healthz")
            self.assertEqual((answer.status, answer.body["status"]), (200, "degraded"))
            self.assertRegex(answer.body["degraded"][0], r"^inventory, .*hosts\.ini:\d+")
            self.assertEqual(node.get("/target?pattern=b").body, ["three"])
            os.unlink(path)
            wait_until(lambda: "No such file" in health()["error"], 10, "it is gone")
            self.assertEqual(len(node.get("/target").body), 3)
            node.write("hosts.ini", "four\n")
            wait_until(lambda: node.get("/target").body == ["four"], 10, "it is back")
            self.assertEqual(health(), {"hosts": 1})
            self.assertEqual((node.get("/healthz").body["status"], node.get("/healthz").body["degraded"]), ("ok", []))

    def test_a_plugin_that_does_not_load_is_told(self):
        node = Exed()
        os.makedirs(node.path("modules", "executors"))
        node.write("modules/executors/broken.lua", "return {\n")
        node.conf["runner"] = {"modules": node.path("modules")}
        node.conf["inventory"]["path"] = node.write("hosts.ini", "one\n")
        with node:
            body = node.get("/healthz").body
            self.assertEqual((body["status"], len(body["degraded"])), ("degraded", 1))
            self.assertIn("executors/broken.lua", body["degraded"][0])

    def test_an_executor_that_loops_fails_its_job_and_nothing_else(self):
        node = Exed(conf={"runtime": {"executor_budget": 1000000}})
        os.makedirs(node.path("modules", "executors"))
        # It answers when the request is checked, and loops when its plan is needed.
        node.write("modules/executors/odd.lua", """
            local asked = 0
            local function execute()
              asked = asked + 1
              while asked > 1 do end
              return { transport = "ssh", command = "true", verdict = { [0] = "OK", default = "FAILED" } }
            end
            return { type = "executor", summary = "loops", settings = {}, operations = { execute = execute } }
        """)
        node.conf["runner"] = {"modules": node.path("modules")}
        node.conf["inventory"]["path"] = node.write("hosts.ini", "one\n")
        with node:
            answer = node.post("/execute", {"targets": ["one"], "cmd": "true", "executor": "odd"})
            self.assertEqual(answer.status, 201, answer.body)
            job = node.wait_job(answer.body["jid"])
            self.assertEqual(job["state"], 2)
            self.assertRegex(job["error"], r"executor odd: \S*odd\.lua:\d+: ran 1000000 instructions without waiting")
            self.assertEqual(node.get("/target").body, ["one"])

    def test_without_a_file_there_are_no_hosts(self):
        with Exed() as node:
            self.assertEqual(node.get("/target").body, [])
            self.assertEqual(node.get("/ping?target=all").status, 404)


class Refused(unittest.TestCase):
    """Hosts that exed must not, or cannot, log in to: status 4 with the reason, and nothing runs."""

    @classmethod
    def setUpClass(cls):
        with open(HOSTS.known_hosts, encoding="utf-8") as f:
            lines = f.read()
        unknown, changed = HOSTS.host["web02"], HOSTS.host["web03"]
        for host in (unknown, changed):
            lines = lines.replace(",[%s]:%d" % (host.address, host.port), "")
        with open(HOSTS.wrong_key + ".pub", encoding="utf-8") as f:
            lines += "[%s]:%d %s\n" % (changed.address, changed.port, " ".join(f.read().split()[:2]))
        rows = HOSTS.inventory_text().split("\n")
        rows[4] = rows[4].replace(HOSTS.key, HOSTS.wrong_key)
        cls.exed = Exed(HOSTS, {"ssh": {"key": HOSTS.wrong_key, "agent": "none"}})
        cls.exed.conf["ssh"]["known_hosts"] = cls.exed.write("known_hosts", lines)
        cls.exed.conf["inventory"]["path"] = cls.exed.write("hosts.ini", "\n".join(rows))
        cls.exed.start()

    @classmethod
    def tearDownClass(cls):
        cls.exed.stop()

    def refusal(self, host):
        job = self.exed.wait_job(self.exed.execute([host, "web01"], "echo x >>$EXED_TEST_DIR/refused"))
        self.assertEqual(job["state"], 2)
        self.assertEqual(job["return_data"]["web01"][0]["status"], 5)
        record, = job["return_data"][host]
        self.assertEqual(record["status"], 4)
        self.assertFalse({"rtc", "stdout", "started"} & set(record), record)
        self.assertEqual(HOSTS.host[host].read("refused"), "")
        self.assertEqual(self.exed.get("/ping?target=" + host).body[host]["status"], 4)
        return record["error"]

    def test_a_host_key_that_is_not_known(self):
        self.assertRegex(self.refusal("web02"), "^host key unknown: no entry for .*known_hosts$")

    def test_a_host_key_that_has_changed_names_file_and_line(self):
        self.assertRegex(self.refusal("web03"), r"^host key changed.*known_hosts:\d+")

    def test_a_key_that_the_host_refuses(self):
        self.assertRegex(self.refusal("web04"), "(?i)key|auth|login")

    def test_no_common_algorithm(self):
        with Sshd(1, ["Ciphers aes128-cbc"], first="127.0.2.1") as old, Exed(old) as node:
            record = node.get("/execute?target=web01&cmd=echo+x").body["web01"]
        self.assertEqual(record["status"], 4, record)
        self.assertRegex(record["error"], "(?i)no common .*(cipher|algorithm)")
        self.assertNotIn("stdout", record)


if __name__ == "__main__":
    unittest.main()
