# SPDX-License-Identifier: MIT
"""Control over jobs: run again, dry runs, the guard against too many hosts, and Idempotency-Key on all that
creates a job; by the API and by exed-run."""

import json
import os
import subprocess
import sys
import unittest
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import BUILD, Exed, Sshd, free_port, wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

DONE, FAILURE = 0, 2
NOBODY = "00000000-0000-4000-8000-000000000000"

TASK = """
local each = require "exed.each"
return {
  summary = "work in batches", lock = "shared",
  args = { size = { "count", default = 2 }, limit = { "duration", default = "5m" }, bad = { "string", default = "" },
    key = { "string", secret = true } },
  run = function(job)
    local env = job.args.key and { KEY = job.args.key } or nil
    each.window(job.hosts, { size = job.args.size, max_failed = 9 }, function(host)
      host:execute("echo work " .. job.args.limit .. " >>$EXED_TEST_DIR/task; "
        .. "[ ! -e $EXED_TEST_DIR/" .. (job.args.bad ~= "" and job.args.bad or "none") .. " ] && [ ${KEY:-hush} = hush ]", { env = env })
    end)
  end,
}"""


class Control(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(4).start()
        cls.addClassCleanup(cls.sshd.stop)
        cls.exed = Exed(cls.sshd, {"api": {"max_hosts": 6}, "ssh": {"connect_timeout": "5s"}})
        inventory = cls.sshd.inventory_text() + "\n[off]\noff01 ansible_host=127.0.1.1 exed_disabled=broken\n"
        inventory += "[shut]\nshut[01:09] ansible_host=127.0.1.1 ansible_port=%d\n" % free_port("127.0.1.1")
        cls.exed.conf["inventory"]["path"] = cls.exed.write("hosts.ini", inventory)
        cls.exed.conf["runner"] = {"modules": cls.exed.path("modules")}
        os.makedirs(cls.exed.path("modules", "tasks"))
        cls.exed.write("modules/tasks/batches.lua", TASK)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start()

    def ask(self, method, path, status, body=None, **options):
        answer = self.exed.request(method, path, body, **options)
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def flag(self, name, *hosts):
        """A file in the directories of hosts, for commands that fail where it is."""
        for host in hosts:
            with open(os.path.join(self.sshd.host[host].dir, name), "w", encoding="utf-8"):
                pass
        self.addCleanup(lambda: [os.path.exists(path) and os.unlink(path) for path in (
            os.path.join(self.sshd.host[host].dir, name) for host in hosts)])

    def run_cli(self, *args, code=0):
        done = subprocess.run([os.path.join(BUILD, "exed-run"), "-c", self.exed.path("exed.conf"), *args],
                              cwd=self.exed.dir, input="", text=True, timeout=60 * SLOW, capture_output=True,
                              env=self.exed.environment(), check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout, done.stderr

    # ---- rerun ----

    def test_rerun_takes_the_failed_unreachable_and_skipped(self):
        self.flag("bad", "web02")
        cmd = "echo x >>$EXED_TEST_DIR/again; [ ! -e $EXED_TEST_DIR/bad ]"
        first = self.exed.execute(["web01,web02", "shut01", "off01", "nosuch"], cmd, window=7, timeout=20, priority=3)
        self.assertEqual(self.exed.wait_job(first)["state"], FAILURE)
        answer = self.ask("POST", "/jobs/%s/rerun" % first, 201)
        jid = answer.body["jid"]
        self.assertEqual((set(answer.body), answer.headers["location"]), ({"jid"}, "/jobs/" + jid))
        job = self.exed.wait_job(jid)
        self.assertEqual((job["parent"], job["operate"], job["operate_args"]), (first, "execute", {"command": cmd}))
        self.assertEqual(job["targets"], ["web02", "shut01", "off01"])
        self.assertEqual({host: rows[0]["status"] for host, rows in job["return_data"].items()},
                         {"web02": 3, "shut01": 4, "off01": 2})
        self.assertEqual(self.sshd.host["web01"].read("again"), "x\n")
        self.assertEqual(self.exed.get("/jobs").body[-1], jid)
        job = self.exed.wait_job(self.exed.submit("/jobs/%s/rerun" % first, {"only": "all"}))
        self.assertEqual(job["targets"], ["web01", "web02", "shut01", "off01", "nosuch"])
        self.assertEqual(job["return_data"]["nosuch"][0]["status"], -1)
        self.assertEqual(self.sshd.host["web01"].read("again"), "x\nx\n")

    def test_rerun_of_a_rerun_and_of_a_sync_get(self):
        sync = self.ask("GET", "/execute?target=web01&cmd=exit+1", 200).headers["exed-jid"]
        jid = self.exed.submit("/jobs/%s/rerun" % sync, {})
        self.exed.wait_job(jid)
        job = self.exed.wait_job(self.exed.submit("/jobs/%s/rerun" % jid, None))
        self.assertEqual((job["parent"], job["state"]), (jid, FAILURE))

    def test_what_cannot_be_run_again(self):
        good = self.exed.execute(["web01"], "true")
        self.exed.wait_job(good)
        runs = self.exed.execute(["web01"], "sleep 600")
        for jid, body, status, text in (
                (NOBODY, {}, 404, "no such jid " + NOBODY), ("nojid", {}, 404, "no such jid nojid"),
                (runs, {}, 409, "has not ended"), (good, {}, 409, "no host of this job failed"),
                (good, {"only": "some"}, 400, "'only' must be one of failed, all"),
                (good, {"dryrun": 1}, 400, "dry_run"), (good, {"only": "all", "max_hosts": 0}, 400, "max_hosts")):
            answer = self.ask("POST", "/jobs/%s/rerun" % jid, status, body)
            self.assertIn(text, answer.body["message"])
        self.exed.post("/jobs/%s/cancel" % runs)
        self.exed.wait_job(runs)

    def test_rerun_needs_its_leases(self):
        held = self.exed.execute(["web03"], "sleep 600", lock="exclusive")
        first = self.exed.execute(["web01", "web04"], "exit 1", lock="exclusive")
        self.exed.wait_job(first)
        other = self.exed.execute(["web04"], "sleep 600", lock="shared")
        answer = self.ask("POST", "/jobs/%s/rerun" % first, 409)
        self.assertEqual(answer.body["holders"], {"web04": [other]})
        for jid in (held, other):
            self.exed.post("/jobs/%s/cancel" % jid)
            self.exed.wait_job(jid)

    def test_rerun_of_a_task(self):
        self.flag("badtask", "web02", "web03")
        first = self.exed.submit("/tasks", {"targets": "web", "taskname": "batches", "timeout": "2m",
                                            "taskopts": {"bad": "badtask", "size": 1, "limit": "90s", "key": "hush"}})
        self.assertEqual(self.exed.wait_job(first)["state"], FAILURE)
        before = self.sshd.host["web03"].read("task")
        plan = self.ask("POST", "/jobs/%s/rerun" % first, 200, {"dry_run": True}).body["plan"]
        self.assertEqual([step["host"] for step in plan["steps"]], ["web02", "web03"])
        os.unlink(os.path.join(self.sshd.host["web03"].dir, "badtask"))
        self.assertEqual(self.sshd.host["web03"].read("task"), before)
        job = self.exed.wait_job(self.exed.submit("/jobs/%s/rerun" % first, {}))
        self.assertEqual((job["parent"], job["targets"], job["state"]), (first, ["web02", "web03"], FAILURE))
        self.assertEqual(job["operate_args"], {"taskname": "batches", "tasktype": "task", "taskopts": {
            "bad": "badtask", "size": 1, "limit": "90s", "key": "***"}})
        self.assertEqual(self.sshd.host["web03"].read("task"), "work 90\n" * 2)
        again = self.exed.wait_job(self.exed.submit("/jobs/%s/rerun" % job["taskid"], {}))
        self.assertEqual((again["parent"], again["targets"]), (job["taskid"], ["web02"]))
        os.unlink(os.path.join(self.sshd.host["web02"].dir, "badtask"))
        again = self.exed.wait_job(self.exed.submit("/jobs/%s/rerun" % job["taskid"], {"only": "all"}))
        self.assertEqual(again["state"], DONE, again)

    # ---- Idempotency-Key ----

    def test_a_key_makes_one_job_wherever_one_is_made(self):
        failed = self.exed.execute(["web01"], "exit 1")
        self.exed.wait_job(failed)
        for path, body, other in (
                ("/jobs/%s/rerun" % failed, {"only": "failed"}, {"only": "all"}),
                ("/tasks", {"targets": "web01", "taskname": "batches"}, {"targets": "web02", "taskname": "batches"}),
                ("/ping", {"targets": "web01"}, {"targets": "web02"}),
                ("/facter", {"targets": "web01"}, {"targets": "web02"}),
                ("/execute", {"targets": "web01", "cmd": "true"}, {"targets": "web01", "cmd": "false"}),
                ("/service", {"targets": "shut01", "name": "x", "state": 0},
                 {"targets": "shut01", "name": "x", "state": 1})):
            key = {"Idempotency-Key": str(uuid.uuid4())}
            first = self.ask("POST", path, 201, body, headers=key)
            self.exed.wait_job(first.body["jid"])
            again = self.ask("POST", path, 201, body, headers=key)
            self.assertEqual((again.body, again.headers["idempotent-replay"]), (first.body, "true"), path)
            self.assertEqual(again.headers["location"], first.headers["location"])
            self.assertIn(first.body["jid"], self.ask("POST", path, 422, other, headers=key).body["message"])
        self.ask("POST", "/jobs/%s/rerun" % failed, 400, headers={"Idempotency-Key": "x" * 256})

    def test_a_key_is_answered_whatever_has_become_of_what_the_request_names(self):
        """Its hosts leave the inventory, its task and the job that it ran again are removed."""
        hosts, task = self.exed.path("hosts.ini"), self.exed.path("modules", "tasks", "gone_later.lua")
        with open(hosts, encoding="utf-8") as f:
            inventory = f.read()
        self.exed.write("hosts.ini", inventory + "\n[old]\nold01 ansible_host=127.0.1.1 exed_disabled=gone\n")
        self.exed.write("modules/tasks/gone_later.lua", 'return { summary = "x", args = {}, run = print }')
        wait_until(lambda: self.exed.get("/target?pattern=old01").body == ["old01"], 10, "the host is there")
        wait_until(lambda: "gone_later" in [one["name"] for one in self.exed.get("/tasks").body], 10, "so is the task")
        failed = self.exed.execute(["web01"], "exit 1")
        self.exed.wait_job(failed)
        requests = [("/ping", {"targets": "old01"}), ("/execute", {"targets": "old[01:02]", "cmd": "true"}),
                    ("/tasks", {"targets": "web01", "taskname": "gone_later"}), ("/jobs/%s/rerun" % failed, {})]
        keys = [{"Idempotency-Key": str(uuid.uuid4())} for _ in requests]
        first = []
        for (path, body), key in zip(requests, keys):
            first.append(self.ask("POST", path, 201, body, headers=key))
            self.exed.wait_job(first[-1].body["jid"])
        self.exed.write("hosts.ini", inventory)
        os.unlink(task)
        self.ask("DELETE", "/jobs/" + failed, 204)
        wait_until(lambda: self.exed.get("/target?pattern=old01").body == [], 10, "the host has gone")
        wait_until(lambda: "gone_later" not in [one["name"] for one in self.exed.get("/tasks").body], 10, "the task too")
        for (path, body), key, answer in zip(requests, keys, first):
            again = self.ask("POST", path, 201, body, headers=key)
            self.assertEqual((again.body, again.headers["idempotent-replay"]), (answer.body, "true"), path)
            self.assertEqual(again.headers["location"], answer.headers["location"])
            self.ask("POST", path, 404, body, headers={"Idempotency-Key": str(uuid.uuid4())})
        text = self.ask("POST", "/ping", 422, {"targets": "web02"}, headers=keys[0]).body["message"]
        self.assertIn(first[0].body["jid"], text)

    # ---- dry runs ----

    def test_a_dry_run_of_an_operation(self):
        before = self.exed.get("/jobs?all=1").body
        cmd = "echo x >>$EXED_TEST_DIR/dry"
        body = {"targets": ["web", "off01", "nosuch"], "cmd": cmd, "window": 3, "dry_run": True, "fence": True}
        plan = self.ask("POST", "/execute", 200, body).body["plan"]
        self.assertEqual([(step["host"], step["at"]) for step in plan.pop("steps")],
                         [("web01", 0), ("web02", 0), ("web03", 0), ("web04", 1)])
        self.assertEqual(plan.pop("outcomes"), {
            "web01": {"status": "CHANGED"}, "web02": {"status": "CHANGED"}, "web03": {"status": "CHANGED"},
            "web04": {"status": "CHANGED"},
            "off01": {"status": "SKIPPED", "text": "disabled in the inventory: broken"}})
        self.assertEqual(plan, {
            "state": FAILURE, "error": "1 of 6 targets would not return without error", "seconds": 2,
            "no_match": ["nosuch"], "operation": "execute", "executor": "ssh", "command": cmd, "window": 3,
            "lock": "shared", "fence": True})
        plan = self.ask("GET", "/service?target=web01&name=cron&state=2&graceful=1&dry_run=1", 200).body["plan"]
        self.assertEqual((plan["state"], plan["error"], plan["lock"]), (DONE, "", "exclusive"))
        self.assertEqual(plan["steps"], [{"at": 0, "host": "web01", "op": "service", "what": "cron reloaded"}])
        for path, body, status in (
                ("/execute", {"targets": "web01", "dry_run": True}, 400),
                ("/execute", {"targets": "nosuch", "cmd": "x", "dry_run": True}, 404),
                ("/execute", {"targets": "web01", "cmd": "x", "dryrun": True}, 400),
                ("/execute", {"targets": "web01", "cmd": "x", "dry_run": "perhaps"}, 400),
                ("/execute", {"targets": "web01", "cmd": "x", "dry_run": True, "executor": "salt"}, 400),
                ("/service", {"targets": "web01", "name": "x", "state": 1, "lock": "none", "dry_run": True}, 400)):
            self.ask("POST", path, status, body)
        self.assertEqual(self.exed.get("/jobs?all=1").body, before)
        self.assertEqual(self.sshd.host["web01"].read("dry"), "")

    def test_a_dry_run_of_a_task_looks_alike(self):
        task = self.ask("POST", "/tasks", 200, {"targets": "web", "taskname": "batches", "dry_run": True}).body["plan"]
        plain = self.ask("POST", "/execute", 200, {"targets": "web", "cmd": "x", "dry_run": True}).body["plan"]
        self.assertEqual({"state", "error", "seconds", "steps", "outcomes"} - set(task), set())
        self.assertEqual({"state", "error", "seconds", "steps", "outcomes"} - set(plain), set())
        self.assertEqual([(step["host"], step["at"]) for step in task["steps"]],
                         [("web01", 0), ("web02", 0), ("web03", 1), ("web04", 1)])
        self.assertEqual({"at", "host", "op", "what"} - set(task["steps"][0]), set())

    # ---- max_hosts ----

    def test_too_many_hosts_are_refused_with_both_numbers(self):
        before = self.exed.get("/jobs?all=1").body
        for path, body in (("/execute", {"cmd": "true"}), ("/ping", {}), ("/tasks", {"taskname": "batches"})):
            for more, text in (({"targets": "web", "max_hosts": 3}, "4 targets are more than max_hosts of the request, 3"),
                               ({"targets": "all"}, "14 targets are more than max_hosts of [api], 6"),
                               ({"targets": "all", "max_hosts": 9}, "14 targets are more than max_hosts of [api], 6"),
                               ({"targets": "web", "max_hosts": 3, "dry_run": True}, "of the request, 3")):
                self.assertIn(text, self.ask("POST", path, 400, {**body, **more}).body["message"])
        answer = self.ask("GET", "/ping?target=web&max_hosts=3", 400)
        self.assertIn("4 targets are more than max_hosts of the request, 3", answer.body["message"])
        self.assertEqual(self.exed.get("/jobs?all=1").body, before)
        self.assertEqual(len(self.ask("GET", "/ping?target=web&max_hosts=4", 200).body), 4)

    # ---- exed-run ----

    def test_exed_run_reruns(self):
        self.flag("badcli", "web01")
        first = self.exed.execute(["web01", "web02"], "[ ! -e $EXED_TEST_DIR/badcli ]")
        self.exed.wait_job(first)
        out, err = self.run_cli("rerun", "--dry-run", first)
        self.assertIn("web01", out)
        self.assertNotIn("web02", out)
        self.assertIn("dry run done: 1 steps, nothing was touched", err)
        jid = self.run_cli("rerun", first)[0].strip()
        self.assertEqual((self.exed.wait_job(jid)["targets"], self.exed.job(jid)["parent"]), (["web01"], first))
        jid = json.loads(self.run_cli("rerun", "--json", "--all", first)[0])["jid"]
        self.assertEqual(self.exed.wait_job(jid)["targets"], ["web01", "web02"])
        self.assertIn("rerun of   " + first, self.run_cli("jobs", jid)[0])
        self.assertIn("of the request, 1", self.run_cli("rerun", "--all", "--max-hosts", "1", first, code=1)[1])
        self.assertIn("no such jid", self.run_cli("rerun", NOBODY, code=1)[1])
        self.assertIn("one jid is wanted", self.run_cli("rerun", code=2)[1])

    def test_exed_run_does_a_dry_run_of_operations(self):
        cmd = "echo x >>$EXED_TEST_DIR/drycli"
        out, err = self.run_cli("exec", "--dry-run", "--window", "2", "web,off01", cmd)
        self.assertIn(" 0:00:00  web[01-02]  execute " + cmd, out)
        self.assertIn(" 0:00:01  web[03-04]  execute " + cmd, out)
        self.assertIn("== off01 (1 host): skipped: disabled in the inventory: broken", out)
        self.assertEqual(err, "exed-run: dry run done: 4 steps, nothing was touched\n")
        self.assertEqual(self.sshd.host["web01"].read("drycli"), "")
        steps = [json.loads(line) for line in self.run_cli("service", "--dry-run", "--json", "web01", "cron",
                                                           "stopped")[0].splitlines()]
        self.assertEqual(steps, [{"at": 0, "host": "web01", "op": "service", "what": "cron stopped"}])
        self.run_cli("ping", "--dry-run", "web01,nosuch", code=1)

    def test_exed_run_refuses_too_many_hosts(self):
        for args, code in ((["exec", "--max-hosts", "3", "web", "true"], 2), (["ping", "--max-hosts", "3", "web"], 2),
                           (["batches", "--max-hosts", "3", "web"], 1),
                           (["batches", "--max-hosts", "3", "web", "--alone"], 2),
                           (["batches", "--max-hosts", "3", "web", "--dry-run"], 1)):
            out, err = self.run_cli(*args, code=code)
            self.assertIn("4 targets are more than", err)
            self.assertEqual(out, "")
        self.run_cli("ping", "--max-hosts", "4", "web")


if __name__ == "__main__":
    unittest.main()
