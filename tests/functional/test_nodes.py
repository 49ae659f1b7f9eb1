# SPDX-License-Identifier: MIT
"""Several nodes on one Redis: what each does in its role, who runs what, and what happens to the work of a
node that leaves or dies. Hosts write what ran, when, and for which node's key."""

import json
import os
import shutil
import signal
import sys
import time
import unittest
import uuid
from contextlib import ExitStack

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
sys.path.insert(0, os.path.join(ROOT, "tests", "chaos"))

from common import Hosts, check_nodes, make_node  # noqa: E402
from exedtest import Fleet, Exed, Redis, wait_until  # noqa: E402
from exedtest.procs import SLOW, end_pids  # noqa: E402

OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 1, 2, 3, 4, 5
LOST = "node lost while running"
RUN = "echo $EXED_OP $EXED_TEST_NODE $(date +%s%N) >>$EXED_TEST_DIR/ran; "


def until_log(node, text, limit=10):
    wait_until(lambda: text in node.log(1 << 20), limit, "the log says: " + text)


class Nodes(unittest.TestCase):
    def setUp(self):
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.hosts = self.stack.enter_context(Hosts(10))
        self.redis = self.stack.enter_context(Redis())

    def node(self, number, **conf):
        """A node with an API, started."""
        return self.stack.enter_context(make_node(self.hosts, number, self.redis.url, conf))

    def worker(self, number, **conf):
        """A node without an API, started."""
        conf.setdefault("runner", {})["role"] = "worker"
        node = make_node(self.hosts, number, self.redis.url, conf)
        self.stack.callback(node.stop)
        node.launch()
        until_log(node, "incarnation=")
        return node

    def runs(self, jid):
        """{host: [(node, seconds), ...]} of a job, by the hosts' own files."""
        found = {host.name: [] for host in self.hosts.hosts}
        for (which, name), runs in self.hosts.ran().items():
            if which == jid:
                found[name] = runs
        return found

    def check_once(self, jid, records):
        """Each host ran once and said CHANGED; returns which nodes ran some."""
        runs = self.runs(jid)
        self.assertEqual(sorted(records), sorted(self.hosts.host))
        for name, found in records.items():
            self.assertEqual([record["status"] for record in found], [CHANGED], name)
            self.assertEqual(len(runs[name]), 1, name)
        return {run[0] for found in runs.values() for run in found}

    def test_a_job_from_an_api_node_runs_on_a_worker_and_is_followed_there_and_elsewhere(self):
        first = self.node(0, runner={"role": "api"})
        second = self.node(1, runner={"role": "api"})
        jid = first.execute(["all"], RUN + "sleep 0.2; echo done", window=3)
        time.sleep(1.5)  # longer than the poll of a node that runs jobs: nobody does here
        self.assertEqual(first.job(jid)["return_data"], {})
        worker = self.worker(2)
        with self.assertRaises(OSError):
            worker.get("/healthz")
        streams = [list(node.follow(jid)) for node in (first, second)]
        self.assertEqual(streams[0][1:], streams[1][1:])
        records = first.records(jid)
        self.assertEqual(second.job(jid)["return_data"], records)
        self.assertEqual(self.check_once(jid, records), {worker.key_kind})

    def test_a_follower_on_another_node_sees_records_as_they_come(self):
        runs, sees = self.node(0), self.node(1, runner={"role": "api"})
        jid = runs.execute(["all"], "sleep 0.4; echo done", window=2)
        began, came = time.monotonic(), []
        for at, chunk in sees.follow_chunks(jid):
            came += [at - began] * chunk.count(b'"status"')
        self.assertEqual(len(came), 10)
        self.assertGreater(came[-1] - came[0], 1.0)  # five rounds of 0.4 s: not all at once at the end

    def test_who_lives_and_what_they_run(self):
        first, second = self.node(0), self.node(1)
        both = first.get("/nodes").body
        self.assertEqual(len(both), 2)
        self.assertEqual(sorted(one["id"] for one in both),
                         sorted(node.get("/healthz").body["node"]["id"] for node in (first, second)))
        self.assertEqual([one["id"] for one in both if one["this"]],
                         [first.get("/healthz").body["node"]["id"]])
        self.assertEqual({one["version"] for one in both}, {first.get("/healthz").body["version"]})
        jid = first.execute(["all"], "sleep 1.5")
        wait_until(lambda: sum(one["slices"] for one in second.get("/nodes").body) == 1, 5, "a slice runs")
        first.wait_job(jid)
        gone = second.get("/healthz").body["node"]["id"]
        second.kill9()
        wait_until(lambda: any(one["silent"] > 1 for one in first.get("/nodes").body), 5, "it is silent")
        wait_until(lambda: gone not in [one["id"] for one in first.get("/nodes").body], 10, "it is forgotten")
        second.start()
        back = wait_until(lambda: [one for one in first.get("/nodes").body if one["id"] == gone], 5, "back")
        self.assertEqual(back[0]["incarnation"], 2)

    def test_a_node_that_ends_in_good_order_is_not_listed_any_more(self):
        late = {"store": {"node_timeout": "60s"}, "runner": {"drain_timeout": "1s"}}
        stays = self.node(0, runner={"role": "api"}, store=late["store"])
        idle, busy = self.node(1, **late), self.node(2, **late)
        name = {node: node.get("/healthz").body["node"]["id"] for node in (stays, idle, busy)}

        def listed():
            return sorted(one["id"] for one in stays.get("/nodes").body)

        self.assertEqual(listed(), sorted(name.values()))
        idle.term()
        self.assertEqual(listed(), sorted([name[stays], name[busy]]))
        jid = stays.execute(["web01"], "touch $EXED_TEST_DIR/begun; sleep 600600", fence=True)
        wait_until(lambda: os.path.exists(self.hosts.host["web01"].dir + "/begun"), 20, "it runs")
        busy.term()  # and hands back what runs on behind its fence
        self.assertEqual(listed(), [name[stays]])
        idle.start()
        wait_until(lambda: stays.get("/jobs/%s?detail=1" % jid).body["running"], 20, "it goes on elsewhere")
        stays.post("/jobs/%s/cancel" % jid)
        self.assertTrue(stays.wait_job(jid)["return_data"]["web01"][0]["killed"])

    def test_a_job_says_what_it_runs_on_other_nodes(self):
        asks, idle = self.node(0, runner={"role": "api"}), self.node(1, runner={"role": "api"})
        worker = self.worker(2)
        jid = asks.execute(["all"], "sleep 600600", window=4)

        def detail(node):
            return node.get("/jobs/%s?detail=1" % jid).body

        for node in (asks, idle):
            job = wait_until(lambda n=node: len(detail(n)["running"]) == 4 and detail(n), 10, "4 hosts run")
            self.assertNotIn("running_whole", job)
            self.assertEqual(sorted(row["host"] for row in job["running"]), ["web01", "web02", "web03", "web04"])
            since = [row["since"] for row in job["running"]]
            self.assertEqual(since, sorted(since))
        os.kill(worker.child.popen.pid, signal.SIGSTOP)
        try:
            job = detail(asks)
        finally:
            os.kill(worker.child.popen.pid, signal.SIGCONT)
        self.assertEqual((job["running"], job["running_whole"]), ([], False))
        wait_until(lambda: "running_whole" not in detail(asks), 10, "all answer again")
        self.assertEqual(asks.post("/jobs/%s/cancel" % jid).status, 200)
        self.assertNotIn("running", asks.wait_job(jid))

    def test_a_node_that_drains_hands_back_what_has_not_started(self):
        nodes = [self.node(n, runner={"drain_timeout": "4s"}) for n in range(2)]
        jid = nodes[0].execute(["all"], RUN + "sleep 1; echo done", window=2)
        wait_until(lambda: any(self.runs(jid).values()), 10, "it runs")
        kind = next(runs[0][0] for runs in self.runs(jid).values() if runs)
        drains = next(node for node in nodes if node.key_kind == kind)
        other = next(node for node in nodes if node is not drains)
        self.assertEqual(drains.term(4 + 5), 0)
        self.assertEqual(other.job(jid, outputs=False)["state"], 1)  # it waited for what ran, not for the job
        self.assertEqual(other.wait_job(jid)["state"], 0)
        self.assertEqual(self.check_once(jid, other.records(jid)), {"ed25519", "ecdsa"})
        self.assertEqual(other.get("/leases").body, [])

    def test_what_does_not_end_while_a_node_drains_is_killed(self):
        nodes = [self.node(n, runner={"drain_timeout": "1s"}) for n in range(2)]
        jid = nodes[0].execute(["all"], RUN + "test $EXED_TEST_HOST = web01 -o $EXED_TEST_HOST = web02 "
                               "|| exit 0; sleep 600600", window=2)
        wait_until(lambda: len(self.hosts.running("600600")) >= 2, 10, "two run for ever")
        kind = self.runs(jid)["web01"][0][0]
        drains = next(node for node in nodes if node.key_kind == kind)
        other = next(node for node in nodes if node is not drains)
        began = time.monotonic()
        self.assertEqual(drains.term(1 + 5), 0)
        self.assertLess(time.monotonic() - began, (1 + 5) * SLOW)
        self.assertEqual(self.hosts.running("600600"), [])
        self.assertEqual(other.wait_job(jid)["state"], 2)
        records = other.records(jid)
        for name, runs in self.runs(jid).items():
            self.assertEqual((len(runs), len(records[name])), (1, 1), name)
            lost = name in ("web01", "web02")
            self.assertEqual(records[name][0]["status"], FAILED if lost else CHANGED, records[name])
            # Where the kill took too long, another node has looked for it.
            why = ("the node was stopped while it ran", LOST) if lost else (None,)
            self.assertIn(records[name][0].get("error"), why)

    def test_a_node_that_starts_again_at_once_goes_on_with_its_own(self):
        one = self.node(0)
        jid = one.execute(["all"], RUN + "sleep 0.5; echo done", window=2)
        wait_until(lambda: sum(bool(runs) for runs in self.runs(jid).values()) >= 3, 10, "some ran")
        one.kill9()
        one.start()
        began = time.monotonic()
        until_log(one, "goes on after a restart", 1.5)  # no node_timeout passes
        self.assertLess(time.monotonic() - began, 2 * SLOW)
        one.wait_job(jid)
        for name, runs in self.runs(jid).items():
            self.assertLessEqual(len(runs), 1, name)

    def test_takeover_at_the_default_node_timeout(self):
        nodes = [self.node(n, store={"node_timeout": "10s"}) for n in range(2)]
        jid = nodes[0].execute(["all"], RUN + "sleep 1; echo done", window=2)
        wait_until(lambda: any(self.runs(jid).values()), 10, "it runs")
        kind = next(runs[0][0] for runs in self.runs(jid).values() if runs)
        dies = next(node for node in nodes if node.key_kind == kind)
        other = next(node for node in nodes if node is not dies)
        time.sleep(0.7)
        began = time.monotonic()
        dies.kill9()
        wait_until(lambda: "is taken over from node" in other.log(1 << 20), 15, "its slice is taken over")
        self.assertGreater(time.monotonic() - began, 7.9)  # a beat may have been the last by 2 s
        other.wait_job(jid)
        records = other.records(jid)
        self.assertEqual(sorted(records), sorted(self.hosts.host))
        for name, found in records.items():
            self.assertEqual(len(found), 1, name)
            runs = self.runs(jid)[name]
            if found[0]["status"] == CHANGED:
                self.assertEqual(len(runs), 1, name)
            else:
                self.assertEqual((found[0].get("unknown"), found[0]["error"]), (True, LOST), found)
                self.assertLessEqual(len(runs), 1, name)
        self.assertIn(other.key_kind, {run[0] for runs in self.runs(jid).values() for run in runs})

    def test_a_job_that_nodes_die_of_ends_as_a_failure(self):
        nodes = [self.node(n, runner={"settle_timeout": "20s"}) for n in range(2)]
        jid = nodes[0].execute(["all"], RUN + "sleep 600600", window=1)
        wait_until(lambda: any(self.runs(jid).values()), 10, "one runs")
        kind = next(runs[0][0] for runs in self.runs(jid).values() if runs)
        dies = next(node for node in nodes if node.key_kind == kind)
        for _ in range(3):
            other = next(node for node in nodes if node is not dies)
            dies.kill9()
            wait_until(lambda n=other: "is taken over" in n.log(1 << 20), 15, "it is taken over")
            os.unlink(other.error_log)
            os.kill(other.pid, signal.SIGHUP)
            dies.start()
            dies = other
        end_pids(self.hosts.running("600600"))
        job = nodes[0].wait_job(jid, 60)
        self.assertEqual(job["state"], 2)
        self.assertIn("poisoned", job["error"])
        skipped = 0
        for name, runs in self.runs(jid).items():
            record, = job["return_data"][name]
            if record["status"] == SKIPPED:
                self.assertEqual(runs, [])
                self.assertIn("poisoned: 3 nodes died", record["error"])
                skipped += 1
            else:
                self.assertEqual((record["status"], record.get("unknown")), (FAILED, True), record)
                self.assertLessEqual(len(runs), 1, name)
        self.assertGreaterEqual(skipped, 6)

    def test_a_node_that_was_stopped_and_forgotten_is_watched_again(self):
        nodes = [self.node(n) for n in range(2)]
        gone = nodes[0].get("/healthz").body["node"]["id"]

        def listed():
            return gone in [one["id"] for one in nodes[1].get("/nodes").body]

        os.kill(nodes[0].pid, signal.SIGSTOP)
        try:
            wait_until(lambda: not listed(), 15, "it is forgotten")
        finally:
            os.kill(nodes[0].pid, signal.SIGCONT)
        wait_until(listed, 5, "it is known again")
        # And so its work is taken over when it dies now.
        os.kill(nodes[1].pid, signal.SIGSTOP)
        try:
            jid = nodes[0].execute(["all"], RUN + "sleep 0.5", window=2)
            wait_until(lambda: any(self.runs(jid).values()), 10, "it runs")
            nodes[0].kill9()
        finally:
            os.kill(nodes[1].pid, signal.SIGCONT)
        nodes[1].wait_job(jid)
        self.assertEqual(sorted(nodes[1].records(jid)), sorted(self.hosts.host))

    def test_a_copy_of_a_state_directory_makes_no_two_nodes_of_one_id(self):
        """An image of a machine on which exed has run; both would take each other's place for ever."""
        elder, copy = self.node(0), make_node(self.hosts, 1, self.redis.url)

        def id_of(node):
            return node.get("/healthz").body["node"]["id"]

        first = id_of(elder)
        shutil.copy(os.path.join(elder.state, "node_id"), copy.state)
        jids = [elder.execute(["all"], RUN + "sleep 0.5", window=2, fence=True)]
        wait_until(lambda: any(self.runs(jids[0]).values()), 10, "it runs")
        self.stack.enter_context(copy)
        self.assertEqual(id_of(copy), first)
        answers = []

        def has_another():
            answers.append(elder.post("/execute", {"targets": ["all"], "cmd": RUN + "true", "fence": True}))
            return id_of(elder) != first

        wait_until(has_another, 10, "the elder has another id", 0.15)
        self.assertLessEqual({answer.status for answer in answers}, {201, 503}, answers)
        self.assertIn("are copies. This node is id=%s from now on" % id_of(elder), elder.log())
        jids += [answer.body["jid"] for answer in answers if answer.status == 201]
        for jid in jids:
            self.assertEqual(copy.wait_job(jid, 30 * SLOW)["state"], 0)
            self.check_once(jid, elder.records(jid))
        self.assertEqual(check_nodes(copy, 2), [])
        later = id_of(elder)
        elder.kill9()
        elder.start()
        self.assertEqual([id_of(elder), id_of(copy)], [later, first])

    def test_what_a_dead_node_was_accepting_is_undone(self):
        """A large job is claimed in several calls; its node dies between two of them."""
        node, jid = self.node(0), str(uuid.uuid4())
        names = sorted(self.hosts.host)

        def call(name, *args):
            return self.redis.ask("FCALL", "exed_1_" + name, 0, *args)

        incarnation = call("register", "ghost", "0")
        total = 3000
        call("create", jid, 1, "ghost", incarnation, 0, total, "exclusive", 1, 0, "key", "hash", 1000, 0, 0, 0, 0, 0)
        call("create_add", jid, 0, 1, json.dumps(names + ["x%d" % n for n in range(500 - len(names))]), 0)
        call("create_claim", jid, *names)
        answer = node.post("/execute", {"targets": names[0], "cmd": "true", "lock": "exclusive"})
        self.assertEqual((answer.status, answer.body["holders"]), (409, {names[0]: [jid]}))
        self.assertEqual(node.get("/jobs/" + jid).status, 404)  # nobody has got a 201 for it
        wait_until(lambda: node.get("/leases").body == [], 15, "its leases are free")
        wait_until(lambda: not [key for key in self.redis.ask("KEYS", "*") if jid in key.decode()], 10, "it is gone")
        jid = node.execute([names[0]], "true", lock="exclusive")
        self.assertEqual(node.wait_job(jid)["state"], 0)


class Order(unittest.TestCase):
    def test_small_jobs_pass_big_ones(self):
        with Fleet(600) as fleet, Exed(fleet, {"ssh": {"max_connections": 40, "window": 40}}) as exed:
            big = exed.execute(["all"], "sleep 0.3")
            wait_until(lambda: fleet.stats()["execs"] > 40, 10, "the big one runs")
            small = exed.execute(["sim0001", "sim0002"], "true")
            exed.wait_job(small)
            self.assertEqual(exed.job(big, outputs=False)["state"], 1)
            left = 600 - len(exed.job(big)["return_data"])
            self.assertGreater(left, 200)
            self.assertEqual(exed.wait_job(big, 60)["state"], 0)

    def test_priority_goes_first(self):
        with Hosts(4) as hosts, Exed(hosts, {"ssh": {"max_connections": 2}}) as exed:
            targets = sorted(hosts.host)
            runs = exed.execute(targets, RUN + "sleep 1.5")
            wait_until(lambda: any(jid == runs for jid, _ in hosts.ran()), 10, "the first runs")
            exed.execute(targets, "sleep 0.2")  # taken already: a node has some hosts in advance
            wait_until(lambda: sum(one["slices"] for one in exed.get("/nodes").body) == 2, 10, "it is taken")
            jids = {priority: exed.execute(targets, RUN + "sleep 0.2", priority=priority)
                    for priority in (-5, 0, 5)}
            for jid in jids.values():
                exed.wait_job(jid)
            starts = {priority: min(found[0][1] for (which, _), found in hosts.ran().items() if which == jid)
                      for priority, jid in jids.items()}
            self.assertLess(starts[5], starts[0])
            self.assertLess(starts[0], starts[-5])


if __name__ == "__main__":
    unittest.main()
