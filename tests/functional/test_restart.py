# SPDX-License-Identifier: MIT
"""Loss: exed or its redis ends in the middle of jobs, by force or as asked. A job that was accepted ends with one
record for every host, and no host runs a command twice: the hosts' own files and the simulator's counters
decide, not exed's word."""

import collections
import os
import signal
import sys
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Fleet, Sshd, alive, wait_until  # noqa: E402
from exedtest.procs import SLOW, command_line, end_pids  # noqa: E402

OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 1, 2, 3, 4, 5
LOST = "node lost while running"


def ran(sshd):
    return {host.name: host.read("ran") for host in sshd.hosts}


def twice(fleet):
    """Op ids that the simulator ran more than once."""
    return {op: n for op, n in fleet.stats()["ops"].items() if n > 1}


class KillNode(unittest.TestCase):
    def check_lost(self, records, names):
        """One record each; returns how many there are of each kind."""
        kinds = collections.Counter()
        self.assertEqual(sorted(records), sorted(names))
        for name, found in records.items():
            self.assertEqual(len(found), 1, name)
            record = found[0]
            if record["status"] == CHANGED:
                kinds["done"] += 1
                continue
            kinds["lost"] += 1
            self.assertEqual((record["status"], record.get("unknown"), record.get("error")),
                             (FAILED, True, LOST), record)
            self.assertNotIn("rtc", record)
            self.assertIsInstance(record.get("survivors"), int)
        return kinds

    def test_a_job_ends_and_no_host_runs_twice(self):
        with Sshd(16) as sshd, Exed(sshd) as exed:
            jid = exed.execute(["all"], "echo x >>$EXED_TEST_DIR/ran; sleep 1.5; echo done", window=4)
            wait_until(lambda: sum(bool(text) for text in ran(sshd).values()) >= 6, 20, "some run")
            exed.kill9()
            before = {name for name, text in ran(sshd).items() if text}
            exed.start()
            self.assertEqual(exed.wait_job(jid, 40)["state"], 2)
            records = exed.records(jid)
            kinds = self.check_lost(records, sshd.host)
            self.assertTrue(1 <= kinds["lost"] <= 4, kinds)
            for name, text in ran(sshd).items():
                # Marked as started and killed right before the command went out: not run, not run again.
                lost = records[name][0]["status"] == FAILED
                self.assertIn(text, ("x\n", "") if lost else ("x\n",), name)
                if lost:
                    self.assertEqual(records[name][0]["survivors"], 0)
                else:
                    self.assertEqual(records[name][0]["stdout"], "done\n")
            self.assertTrue(any(ran(sshd)[name] for name in set(sshd.host) - before))
            self.assertEqual(exed.job(jid)["return_data"], records)

    def test_local_commands_are_looked_for_here(self):
        with Sshd(1) as sshd:
            path = sshd.write("local.ini", "here ansible_connection=local\n")
            with Exed(sshd, {"inventory": {"path": path}, "runner": {"settle_timeout": "2s"}}) as exed:
                out = sshd.path("ran")
                jid = exed.execute(["here"], "echo x >>%s; sleep 3; echo y >>%s" % (out, out))
                wait_until(lambda: os.path.exists(out), 10, "it runs")
                exed.kill9()  # waits for the command's end, too
                exed.start()
                record = exed.records(jid)["here"][0]
                self.assertEqual([record.get(field) for field in ("status", "unknown", "error", "survivors")],
                                 [FAILED, True, LOST, 0], record)
                with open(out, encoding="utf-8") as f:
                    self.assertEqual(f.read(), "x\ny\n")

    def test_the_rest_of_a_job_does_not_wait_for_what_is_left(self):
        with Sshd(4) as sshd, Exed(sshd, {"runner": {"settle_timeout": "300s"}}) as exed:
            command = "echo x >>$EXED_TEST_DIR/ran; test $EXED_TEST_HOST != web01 || sleep 600600; sleep 1"
            jid = exed.execute(["all"], command, window=1)
            wait_until(lambda: ran(sshd)["web01"], 10, "the first runs")
            exed.kill9()
            exed.start()
            wait_until(lambda: len(exed.job(jid)["return_data"]) == 3, 20, "the others are done")
            self.assertEqual(exed.job(jid)["state"], 1)
            end_pids(sshd.running())
            exed.wait_job(jid)
            self.assertEqual(exed.records(jid)["web01"][0]["error"], LOST)
            self.assertEqual(ran(sshd), {name: "x\n" for name in sshd.host})

    def test_what_is_left_running_is_waited_for_and_counted(self):
        with Sshd(3) as sshd, Exed(sshd, {"runner": {"settle_timeout": "3s"}}) as exed:
            jid = exed.execute(["web01"], "echo x >>$EXED_TEST_DIR/ran; sleep 600600 & sleep 600600 & wait")
            gone = exed.execute(["web02"], "echo x >>$EXED_TEST_DIR/ran; sleep 600600")
            ends = exed.execute(["web03"], "echo x >>$EXED_TEST_DIR/ran; until [ -e $EXED_TEST_DIR/go ]; do "
                                           "sleep 0.1; done; echo y >>$EXED_TEST_DIR/ran")
            wait_until(lambda: len(sshd.running("600600")) >= 5 and sshd.host["web03"].read("ran"), 10,
                       "they run")
            exed.kill9()
            end_pids(sshd.running(gone))
            exed.start()
            with open(os.path.join(sshd.host["web03"].dir, "go"), "w", encoding="utf-8"):
                pass
            record = exed.records(jid)["web01"][0]
            self.assertEqual((record["status"], record["error"], record["unknown"]), (FAILED, LOST, True))
            self.assertEqual(record["survivors"], 3, record)  # the shell and two
            self.assertEqual(exed.records(gone)["web02"][0]["survivors"], 0)
            self.assertEqual(exed.records(ends)["web03"][0].get("survivors"), 0, exed.records(ends))
            self.assertEqual(sshd.host["web03"].read("ran"), "x\ny\n")  # it came to its end
            end_pids(sshd.running())

    def test_a_host_that_cannot_be_asked_any_more(self):
        conf = {"ssh": {"connect_timeout": "2s"}, "runner": {"settle_timeout": "3s"}}
        with Sshd(3, per_process=1) as sshd, Exed(sshd, conf) as exed:
            jid = exed.execute(["all"], "echo x >>$EXED_TEST_DIR/ran; sleep 600600")
            wait_until(lambda: all(ran(sshd).values()), 10, "all run")
            exed.kill9()
            sshd.stop_host("web01")
            sshd.stop_host("web02")
            end_pids(sshd.running())
            exed.start()
            sshd.start_host("web02")  # back within settle_timeout
            records = exed.records(jid)
            self.assertEqual(exed.wait_job(jid)["state"], 2)
            for name in sshd.host:
                record = records[name][0]
                self.assertEqual((record["status"], record.get("unknown")), (FAILED, True), record)
                self.assertIn(LOST, record["error"])
            self.assertNotIn("survivors", records["web01"][0])
            self.assertIn("refused", records["web01"][0]["error"])
            self.assertEqual((records["web02"][0]["survivors"], records["web03"][0]["survivors"]), (0, 0))
            self.assertEqual(ran(sshd), {name: "x\n" for name in sshd.host})

    def test_a_host_that_left_the_inventory_meanwhile(self):
        with Sshd(3) as sshd:
            text = sshd.inventory_text()
            path = sshd.write("less.ini", text)
            with Exed(sshd, {"inventory": {"path": path}}) as exed:
                jid = exed.execute(["all"], "echo x >>$EXED_TEST_DIR/ran; sleep 2; echo done", window=2)
                wait_until(lambda: sum(bool(t) for t in ran(sshd).values()) == 2, 10, "two run")
                exed.kill9()
                sshd.write("less.ini", "\n".join(line for line in text.splitlines()
                                                 if not line.startswith(("web01", "web03"))) + "\n")
                exed.start()
                self.assertEqual(exed.wait_job(jid)["state"], 2)
                records = exed.records(jid)
                self.assertEqual({len(r) for r in records.values()}, {1})
                # It was started and nobody can say how it ended: that is no "not reached".
                self.assertEqual((records["web01"][0]["status"], records["web01"][0].get("unknown")),
                                 (FAILED, True), records)
                self.assertIn(LOST, records["web01"][0]["error"])
                self.assertEqual(records["web02"][0]["error"], LOST)
                self.assertEqual(records["web03"][0]["status"], UNREACHABLE)
                self.assertIn("inventory", records["web03"][0]["error"])

    def test_pings_are_asked_again(self):
        with Fleet(60, {"127.1.0.0/16": "slowbanner:1"}) as fleet, Exed(fleet) as exed:
            jid = exed.submit("/ping", {"targets": ["all"], "window": 20})
            wait_until(lambda: fleet.stats()["connections"] >= 30, 10, "some are asked")
            exed.kill9()
            exed.start()
            self.assertEqual(exed.wait_job(jid)["state"], 0)
            records = exed.records(jid)
            self.assertEqual({name: [{"status": OK}] for name in fleet.names}, records)

    def test_many_jobs_many_kills(self):
        """Killed twice, at moments that nobody chose, with 20 jobs under way."""
        with Fleet(200) as fleet, Exed(fleet, {"ssh": {"window": 40}}) as exed:
            jids = [exed.execute(["all"] if n % 4 == 0 else ["sim%04d" % (n * 9 + 1), "sim000[1:9]"],
                                 "sleep 0.%d" % (n % 7 + 1)) for n in range(20)]
            for n in range(2):
                time.sleep(0.21 * (n + 1))  # where it is by then does not matter
                exed.kill9()
                exed.start()
            for n, jid in enumerate(jids):
                job = exed.wait_job(jid, 60)
                expected = fleet.names if n % 4 == 0 else [
                    name for name in fleet.names if name in job["targets"]]
                self.assertEqual(sorted(job["targets"]), expected)
                self.check_lost(job["return_data"], expected)
                self.check_lost(exed.records(jid), expected)
            self.assertEqual(twice(fleet), {})
            self.assertEqual(sorted(exed.get("/jobs").body), sorted(jids))

    def test_a_job_that_nodes_die_of_is_given_up(self):
        with Sshd(4) as sshd, Exed(sshd, {"runner": {"settle_timeout": "20s"}}) as exed:
            jid = exed.execute(["all"], "echo x >>$EXED_TEST_DIR/ran; sleep 600600", window=1)
            wait_until(lambda: any(ran(sshd).values()), 10, "one runs")
            for _ in range(3):
                exed.kill9()
                exed.start()
                wait_until(lambda: exed.get("/healthz").status == 200, 10, "it has registered")
                wait_until(lambda: "goes on after a restart" in exed.log(), 10, "it has taken the job up")
                os.unlink(exed.error_log)
            end_pids(sshd.running())
            self.assertEqual(exed.wait_job(jid, 60)["state"], 2)
            records = exed.records(jid)
            self.assertEqual(sorted(records), sorted(sshd.host))
            for name, text in ran(sshd).items():
                record, = records[name]
                self.assertRegex(record["error"], LOST + "|poisoned")  # giving up ends the asking, too
                if text or record["status"] == FAILED:  # marked, and perhaps killed before it went out
                    self.assertIn(text, ("x\n", ""))
                    self.assertEqual((record["status"], record["unknown"]), (FAILED, True))
                else:
                    self.assertEqual(record["status"], SKIPPED)
                    self.assertIn("poisoned", record["error"])
            self.assertTrue([name for name in records if records[name][0]["status"] == FAILED])

    def test_jobs_that_wait_and_jobs_that_ended(self):
        with Fleet(3) as fleet, Exed(fleet, {"ssh": {"max_connections": 1, "window": 1}}) as exed:
            ended = exed.execute(["sim0001"], "echo early")
            exed.wait_job(ended)
            before = exed.job(ended)
            jids = [exed.execute(["all"], "sleep 0.4; echo n%d" % n) for n in range(3)]
            wait_until(lambda: fleet.stats()["execs"] >= 2, 10, "the first runs")
            exed.kill9()
            exed.start()
            self.assertEqual(exed.job(ended), before)
            for jid in jids:
                exed.wait_job(jid)
                self.check_lost(exed.records(jid), fleet.names)
            self.assertEqual(twice(fleet), {})

    def test_a_cancelled_job_does_not_go_on(self):
        with Sshd(4) as sshd, Exed(sshd) as exed:
            jid = exed.execute(["all"], "echo x >>$EXED_TEST_DIR/ran; sleep 600600", window=1)
            wait_until(lambda: any(ran(sshd).values()), 10, "one runs")
            exed.kill9()
            end_pids(sshd.running())
            exed.start()
            exed.post("/jobs/%s/cancel" % jid)
            self.assertEqual(exed.wait_job(jid)["state"], 2)
            records = exed.records(jid)
            self.assertEqual({len(r) for r in records.values()}, {1})
            self.assertEqual(sorted(records), sorted(sshd.host))
            self.assertEqual(sshd.running("600600"), [])

    def test_no_redis_server_is_left(self):
        with Exed() as exed:
            redis = exed.redis_pid()
            self.assertTrue(alive(redis))
            exed.kill9()
            wait_until(lambda: not alive(redis), 5, "its redis-server has ended")
            exed.start()
            self.assertNotEqual(exed.redis_pid(), redis)


class EndNode(unittest.TestCase):
    def test_what_runs_ends_and_the_rest_goes_on_after_a_start(self):
        with Sshd(10) as sshd, Exed(sshd, {"runner": {"drain_timeout": "8s"}}) as exed:
            jid = exed.execute(["all"], "echo x >>$EXED_TEST_DIR/ran; sleep 1; echo done", window=3)
            wait_until(lambda: sum(bool(text) for text in ran(sshd).values()) >= 4, 15, "some run")
            self.assertEqual(exed.term(8 + 5), 0)
            self.assertLess(sum(bool(text) for text in ran(sshd).values()), 10)
            exed.start()
            self.assertEqual(exed.wait_job(jid)["state"], 0)
            records = exed.records(jid)
            self.assertEqual(ran(sshd), {name: "x\n" for name in sshd.host})
            for name in sshd.host:
                self.assertEqual([(r["status"], r["stdout"]) for r in records[name]], [(CHANGED, "done\n")])

    def test_hosts_that_do_not_answer_the_kill_hold_up_nobody(self):
        with Sshd(2) as sshd, Exed(sshd, {"runner": {"drain_timeout": "1s"}}) as exed:
            exed.execute(["all"], "sleep 600600")
            answers = []
            client = threading.Thread(target=lambda: answers.append(
                exed.get("/execute?target=web01&cmd=sleep+600600", timeout=60)))
            client.start()
            wait_until(lambda: len(sshd.running("sleep 600600")) >= 3, 20, "they run")
            stopped = [pid for pid in sshd.sessions() if "sshd" in command_line(pid)]
            stopped += [child.pid for child in sshd.children.values()]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                self.assertEqual(exed.term(1 + 5 + 3), 0)  # 3 for a machine that is busy; a kill has 10
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
            end_pids(sshd.running())
            log = exed.log()
            self.assertIn("has not ended in time", log)
            self.assertNotIn("traceback", log)
            self.assertNotIn("cancelled:", log)
            # Who waited for the end is told what to ask for.
            client.join()
            self.assertEqual(answers[0].status, 503, answers)
            self.assertIn("retry-after", answers[0].headers)
            exed.start()
            self.assertEqual(exed.wait_job(answers[0].body["jid"])["targets"], ["web01"])

    def test_a_private_redis_that_hangs_holds_up_nobody(self):
        with Sshd(1) as sshd, Exed(sshd, {"runner": {"drain_timeout": "1s"}}) as exed:
            jid = exed.execute(["all"], "sleep 600600", fence=True)
            wait_until(lambda: sshd.running("600600"), 20, "it runs")
            os.kill(exed.redis_pid(), signal.SIGSTOP)
            self.assertEqual(exed.term(1 + 5 + 3), 0)  # 3 for a machine that is busy; it waited 10 for Redis alone
            end_pids(sshd.running("600600"))
            exed.start()
            self.assertEqual(list(exed.wait_job(jid)["return_data"]), ["web01"])

    def test_what_does_not_end_is_killed_and_recorded(self):
        with Sshd(6) as sshd, Exed(sshd, {"runner": {"drain_timeout": "1s"}}) as exed:
            go = sshd.path("go")
            jid = exed.execute(["all"], "echo x >>$EXED_TEST_DIR/ran; test -e %s || sleep 600600" % go,
                               window=2)
            wait_until(lambda: len(sshd.running("600600")) >= 2, 10, "two run")
            began = time.monotonic()
            self.assertEqual(exed.term(1 + 5), 0)
            self.assertLess(time.monotonic() - began, (1 + 5) * SLOW)
            self.assertEqual(sshd.running("600600"), [])
            killed = {name for name, text in ran(sshd).items() if text}
            sshd.write("go", "")
            exed.start()
            self.assertEqual(exed.wait_job(jid)["state"], 2)
            records = exed.records(jid)
            self.assertEqual(sorted(records), sorted(sshd.host))
            for name in sshd.host:
                self.assertEqual(len(records[name]), 1)
                record = records[name][0]
                if name in killed:
                    self.assertEqual((record["status"], record.get("survivors")), (FAILED, 0), record)
                else:
                    self.assertEqual(record["status"], CHANGED, record)
            self.assertEqual(ran(sshd), {name: "x\n" for name in sshd.host})
            self.assertEqual(len(killed), 2)

    def test_a_job_accepted_last_is_not_lost(self):
        """Requests go on while the node ends: whoever got a 201 has a job."""
        with Fleet(20) as fleet, Exed(fleet) as exed:
            jids, stop = [], threading.Event()

            def submit():
                while not stop.is_set():
                    try:
                        answer = exed.post("/execute", {"targets": ["all"], "cmd": "sleep 0.2"}, timeout=5)
                    except OSError:
                        return
                    except Exception:  # cut in the middle of an answer: no 201 was read
                        return
                    if answer.status == 201:
                        jids.append(answer.body["jid"])

            thread = threading.Thread(target=submit)
            thread.start()
            wait_until(lambda: len(jids) > 5, 10, "jobs are accepted")
            self.assertEqual(exed.term(), 0)
            stop.set()
            thread.join()
            exed.start()
            for jid in jids:
                self.assertEqual(exed.wait_job(jid)["state"], 0, jid)
                self.assertEqual({name: 1 for name in fleet.names},
                                 {name: len(r) for name, r in exed.records(jid).items()})
            self.assertEqual(twice(fleet), {})

    def test_an_idle_node_ends_at_once(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            exed.wait_job(exed.execute(["web01"], "true"))
            began = time.monotonic()
            self.assertEqual(exed.term(), 0)
            self.assertLess(time.monotonic() - began, 5 * SLOW)


class KillRedis(unittest.TestCase):
    def test_under_load_nothing_acknowledged_is_lost(self):
        with Fleet(100) as fleet, Exed(fleet, {"ssh": {"window": 50}}) as exed:
            jids, stop = [], threading.Event()
            odd = []

            def submit(number):
                while not stop.is_set():
                    answer = exed.post("/execute", {
                        "targets": ["sim%03d[0:9]" % number], "cmd": "sleep 0.1; echo %d" % number}, timeout=30)
                    if answer.status == 201:
                        jids.append(answer.body["jid"])
                    elif answer.status == 503:
                        if "retry-after" not in answer.headers:
                            odd.append(answer)
                        time.sleep(0.05)
                    else:
                        odd.append(answer)
                    time.sleep(0.02)

            threads = [threading.Thread(target=submit, args=(n,)) for n in range(1, 5)]
            large = [exed.execute(["all"], "sleep 0.3; echo large") for _ in range(20)]
            for thread in threads:
                thread.start()
            for _ in range(3):
                count = len(jids)
                wait_until(lambda n=count: len(jids) > n + 5, 20, "jobs are accepted")
                pid = exed.redis_pid()
                os.kill(pid, 9)
                wait_until(lambda old=pid: exed.redis_pid() not in (None, old), 10, "redis-server is back")
            stop.set()
            for thread in threads:
                thread.join()
            self.assertEqual(odd, [])
            self.assertEqual(twice(fleet), {})
            for jid in large + jids:
                job = exed.wait_job(jid, 60)
                records = exed.records(jid)
                self.assertEqual(sorted(records), sorted(job["targets"]))
                for name, found in records.items():
                    self.assertEqual(len(found), 1, name)
                    self.assertEqual(found[0]["status"], CHANGED, found)
                self.assertEqual(job["state"], 0)
            self.assertEqual(twice(fleet), {})
            listed = exed.get("/jobs").body
            self.assertTrue(set(large + jids) <= set(listed))
            # A create whose answer was lost may have been done: such jobs end as well.
            for jid in set(listed) - set(large + jids):
                self.assertEqual(exed.wait_job(jid)["state"], 0)

    def test_a_follower_gets_each_record_once(self):
        with Fleet(40) as fleet, Exed(fleet) as exed:
            jid = exed.execute(["all"], "sleep 0.3; echo hello", window=5)
            found = collections.Counter()
            for number, line in enumerate(exed.follow(jid)):
                if number == 10:
                    os.kill(exed.redis_pid(), 9)
                if number:
                    found.update(line.keys())
            self.assertEqual(found, collections.Counter(fleet.names))
            self.assertEqual(exed.job(jid)["state"], 0)
            self.assertEqual(twice(fleet), {})

    def test_redis_and_node_at_once(self):
        with Fleet(50) as fleet, Exed(fleet) as exed:
            jids = [exed.execute(["all"], "sleep 0.4", window=10) for _ in range(3)]
            wait_until(lambda: fleet.stats()["execs"] > 20, 10, "they run")
            os.kill(exed.redis_pid(), 9)
            exed.kill9()
            exed.start()
            for jid in jids:
                exed.wait_job(jid)
                records = exed.records(jid)
                self.assertEqual(sorted(records), fleet.names)
                for found in records.values():
                    self.assertEqual(len(found), 1)
                    self.assertIn((found[0]["status"], found[0].get("error")),
                                  ((CHANGED, None), (FAILED, LOST)))
            self.assertEqual(twice(fleet), {})

    def test_a_redis_that_hangs_is_503_and_comes_back(self):
        with Sshd(2) as sshd, Exed(sshd) as exed:
            running = exed.execute(["all"], "sleep 5; echo done")  # ends while Redis hangs
            wait_until(lambda: len(sshd.running("sleep 5; echo")) >= 2, 10, "it runs")
            pid = exed.redis_pid()
            os.kill(pid, 19)  # SIGSTOP
            try:
                answer = exed.post("/execute", {"targets": ["all"], "cmd": "echo x >>$EXED_TEST_DIR/ran"},
                                   timeout=40)
            finally:
                os.kill(pid, 18)
            self.assertEqual(answer.status, 503, answer)
            self.assertIn("retry-after", answer.headers)
            wait_until(lambda: exed.get("/healthz").status == 200, 20, "it is back")
            self.assertEqual(exed.wait_job(running)["state"], 0)
            self.assertEqual(exed.records(running)["web01"][0]["stdout"], "done\n")
            jid = answer.body.get("jid")
            if jid and exed.get("/jobs/" + jid).status == 200:  # a 503 that could not say, and says which
                self.assertEqual(exed.wait_job(jid)["state"], 0)
            exed.wait_job(exed.execute(["all"], "true"))
            self.assertIn(ran(sshd)["web01"], ("", "x\n"))


class OneNode(unittest.TestCase):
    def test_a_second_node_on_one_state_directory_is_refused(self):
        with Sshd(1) as sshd, Exed(sshd) as exed:
            jid = exed.execute(["web01"], "sleep 2; echo done")
            other = Exed(sshd, store=exed.state)
            code, output = other.run_to_end()
            output += other.log()
            other.stop()
            self.assertEqual(code, 1, output)
            self.assertIn("in use by exed with pid %d" % exed.pid, output)
            self.assertIn(exed.state, output)
            # The first one has noticed nothing.
            self.assertEqual(exed.records(jid)["web01"][0]["stdout"], "done\n")


if __name__ == "__main__":
    unittest.main()
