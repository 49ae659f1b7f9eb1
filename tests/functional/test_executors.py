# SPDX-License-Identifier: MIT
"""Executors of users on real sshd hosts: what the table of plan fields promises, as a client of the API sees it.
tests/lua/plan*_test.lua look at the plans themselves."""

import os
import signal
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, alive, wait_until  # noqa: E402
from exedtest.procs import with_marker  # noqa: E402
from exedtest.exedrun import LIMIT, PROGRAM, environment  # noqa: E402

OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 1, 2, 3, 4, 5
EVIL = "it's $(touch $EXED_TEST_DIR/evil) \"; touch $EXED_TEST_DIR/evil #`touch $EXED_TEST_DIR/evil`"

# The request says which plan the operation execute gives.
PLANS = """
local json = require "exed.json"
local DO = { [0] = "CHANGED", default = "FAILED" }
local plans = {
  command = function() return { command = "printf '%s|' {host.name} {vars.word}/x {host.port}; cat <<E\\n{vars.word}\\nE" } end,
  argv = function() return { argv = { "printf", "%s|", "<{vars.word}>", "{host.user}", "$HOME" } } end,
  nodes = function() return { transport = "local", command = "printf %s {host.name}; echo $EXED_TEST_HOST; pwd", cwd = "/" } end,
  settings = function(request, settings)
    return { command = "echo " .. settings.word .. settings.size .. json.encode(request.hosts.groups):gsub('"', "") }
  end,
  each = function()
    return { command = "echo plain", env = { A = "1" }, per_host = function(host)
      if host.name == "web02" then return { command = 'echo $A $B {vars.word}', env = { B = host.vars.word } } end
      if host.name == "web03" then return nil, "not this one" end
      if host.name == "web04" then return { command = "sleep 60", timeout = 0.5 } end
    end }
  end,
  codes = function() return { command = "case $EXED_TEST_HOST in web01) exit 10;; web02) exit 3;; web03) kill -9 $$;; "
    .. "web04) sleep 60;; esac", timeout = 1, verdict = { [0] = "CHANGED", [10] = "OK", [3] = "SKIPPED", default = "OK" } } end,
  json = function() return { stdout = "json", command = [[case $EXED_TEST_HOST in
    web01) echo '{"disk": {"used": 5}, "note": "a"}'; echo e >&2;; web02) echo '{"status": 1}';;
    web03) echo usage;; web04) echo '{"why": "disk"}'; exit 4;; esac]] } end,
  files = function(_, settings) return { command = "cat " .. settings.dir .. "/a; cat; echo {vars.word}", stdin = "in ",
    files = { { content = "first ", dest = settings.dir .. "/a" }, { src = "b", dest = settings.dir .. "/b", mode = "0700" } },
    per_host = function(host) return host.name == "web02" and { command = "cat; echo own" } or nil end } end,
  wrong = function() return { comand = "x" } end,
  no = function() return nil, "not on a Sunday" end,
  waits = function() require "exed.timer".sleep(0) end,
}
return {
  type = "executor", summary = "plans for tests",
  settings = { word = { "string", required = true }, size = { "integer", default = 7 }, dir = { "path" } },
  check = function(settings)
    if settings.word == "bad" then return nil, "word is bad today" end
    return true
  end,
  operations = { execute = function(request, settings)
    local made, why = plans[request.args.command](request, settings)
    if not made then return nil, why end
    made.transport, made.verdict = made.transport or "ssh", made.verdict or DO
    return made
  end },
}
"""


# The request's command is the one process for all hosts.
MANY = """return { type = "executor", summary = "one process for all", operations = { execute = function(request)
  return { transport = "process", command = request.args.command, verdict = { [0] = "CHANGED", default = "FAILED" } }
end } }"""


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(4).start()
        cls.addClassCleanup(cls.sshd.stop)
        cls.exed = Exed(cls.sshd)
        cls.addClassCleanup(cls.exed.stop)
        lines = cls.sshd.inventory_text().splitlines()
        # The fourth has no word.
        lines[1:4] = [line + " word=%s" % word for line, word in zip(lines[1:4], ("plain", '"two words"', '"%s"' % EVIL.replace('"', '\\"')))]
        cls.exed.conf["inventory"]["path"] = cls.exed.write("hosts.ini", "\n".join(lines) + "\n[some]\nweb01\nweb02\n")
        os.makedirs(cls.exed.path("modules", "executors"))
        cls.exed.conf["runner"] = {"modules": cls.exed.path("modules")}
        cls.exed.conf["executor plans"] = {"word": "hello", "dir": cls.sshd.host["web01"].dir}
        os.makedirs(cls.exed.path("modules", "executors", "files", "plans"))
        cls.exed.write("modules/executors/files/plans/b", "second\n")
        cls.save("plans", PLANS)
        cls.save("many", MANY)
        cls.exed.start()

    @classmethod
    def save(cls, name, text):
        cls.exed.write("modules/executors/%s.lua" % name, text)

    def run_plan(self, name, targets="web[01:04]", executor="plans", **fields):
        jid = self.exed.execute(targets, name, executor=executor, **fields)
        found = {host: [row for row in rows if "status" in row] for host, rows in self.exed.records(jid, 60).items()}
        self.assertTrue(all(len(rows) == 1 for rows in found.values()), found)
        return {host: rows[0] for host, rows in found.items()}

    def refused(self, status, name, **fields):
        answer = self.exed.post("/execute", dict({"targets": "web01", "cmd": name, "executor": "plans"}, **fields))
        self.assertEqual(answer.status, status, answer.body)
        return answer.body["message"]

    def reload(self):
        self.exed.write_conf()
        os.kill(self.exed.pid, signal.SIGHUP)

    def has(self, record, **want):
        self.assertEqual({name: record.get(name) for name in want}, want, record)

    def tearDown(self):
        for host in self.sshd.hosts:
            self.assertFalse(os.path.exists(os.path.join(host.dir, "evil")), "a value was run on %s" % host.name)


class Plans(Case):
    def test_values_of_hosts_are_words_of_the_command(self):
        found, port = self.run_plan("command"), self.sshd.port
        for name, word in (("web01", "plain"), ("web02", "two words"), ("web03", EVIL)):
            self.has(found[name], status=CHANGED, stdout="%s|%s/x|%d|\"%s\"\n" % (name, word, port, word))
        self.has(found["web04"], status=FAILED, error="the host has no vars.word, which the command names", rtc=None)
        found = self.run_plan("argv", "web[01:03]")
        self.has(found["web03"], stdout="<%s>|%s|$HOME|" % (EVIL, self.sshd.user))
        # Behind a fence, too.
        found = self.run_plan("argv", "web03", fence=True)
        self.has(found["web03"], status=CHANGED, stdout="<%s>|%s|$HOME|" % (EVIL, self.sshd.user))

    def test_local_runs_on_the_node_once_for_each_host(self):
        found = self.run_plan("nodes", "web[01:02]")
        self.has(found["web02"], status=CHANGED, stdout="web02\n/\n")

    def test_per_host(self):
        found = self.run_plan("each")
        self.has(found["web01"], status=CHANGED, stdout="plain\n")
        self.has(found["web02"], status=CHANGED, stdout="1 two words two words\n")
        self.has(found["web03"], status=FAILED, error="not this one", rtc=None)
        self.has(found["web04"], status=FAILED, timed_out=True, rtc=124, survivors=0)

    def test_the_verdict_and_that_signals_and_limits_are_failures(self):
        found = self.run_plan("codes")
        self.assertEqual({host: record["status"] for host, record in found.items()},
                         {"web01": OK, "web02": SKIPPED, "web03": FAILED, "web04": FAILED})

    def test_json_of_stdout_is_merged_into_the_record(self):
        found = self.run_plan("json", lines=True)
        self.has(found["web01"], status=CHANGED, rtc=0, disk={"used": 5}, note="a", stdout="", stderr="e\n")
        self.has(found["web02"], status=FAILED, rtc=0, stdout='{"status": 1}\n',
                 error="its stdout cannot be merged into the record: the field \"status\" is exed's own")
        self.has(found["web03"], status=FAILED, stdout="usage\n")
        self.assertIn("its stdout cannot be merged into the record: ", found["web03"]["error"])
        self.has(found["web04"], status=FAILED, rtc=4, why="disk", error=None)

    def test_files_are_sent_before_the_command(self):
        found, place = self.run_plan("files", "web01,web02,web04"), self.sshd.host["web01"]
        self.has(found["web01"], status=CHANGED, stdout="first in plain\n")
        self.has(found["web02"], status=CHANGED, stdout="in own\n")
        self.has(found["web04"], status=FAILED, error="the host has no vars.word, which the command names")
        self.assertEqual((place.read("a"), place.read("b")), ("first ", "second\n"))
        self.assertEqual(os.stat(os.path.join(place.dir, "b")).st_mode & 0o777, 0o700)
        self.assertEqual([name for name in os.listdir(place.dir) if name.startswith(".exed-")], [])
        plan = self.exed.post("/execute", {"targets": "web01", "cmd": "files", "executor": "plans", "dry_run": True}).body["plan"]
        self.assertTrue(plan["fence"])

    def test_a_task_sees_what_was_merged(self):
        os.makedirs(self.exed.path("modules", "tasks"), exist_ok=True)
        self.exed.write("modules/tasks/disks.lua", """return { summary = "disks", run = function(job)
          local record = job.hosts[1]:execute("json", { changes = false, env = { X = "1" } })
          return { record.disk.used, record.stdout, record.status, record.host.name }
        end }""")
        wait_until(lambda: any(task["name"] == "disks" for task in self.exed.get("/tasks").body), 20)
        jid = self.exed.submit("/tasks", {"taskname": "disks", "targets": "web01", "executor": "plans"})
        job = self.exed.wait_job(jid)
        self.assertEqual((job["error"], job.get("value")), ("", [5, "", "OK", "web01"]))

    def test_what_is_refused(self):
        self.assertIn("did you mean 'command'?", self.refused(400, "wrong"))
        self.assertEqual(self.refused(400, "no"), "not on a Sunday")
        answer = self.exed.get("/ping?target=web01&executor=plans")
        self.assertEqual((answer.status, answer.body), (400, {"message": "executor plans cannot do ping"}))
        self.refused(500, "waits")
        self.assertIn("executor plans: ", self.exed.log())

    def test_a_dry_run_shows_the_command_as_it_was_written(self):
        answer = self.exed.post("/execute", {"targets": "web01", "cmd": "argv", "executor": "plans", "dry_run": True})
        self.assertEqual(answer.body["plan"]["command"], "printf %s| <{vars.word}> {host.user} $HOME")


    def test_exed_run_does_the_same_without_a_server(self):
        def run(*words):
            conf = self.exed.path("exed.conf")
            return subprocess.run([PROGRAM, "-c", conf, "exec", "--executor", "plans", *words], capture_output=True, text=True,
                                  cwd=self.exed.dir, env=environment(), timeout=LIMIT, check=False)
        done = run("web01", "json")
        self.assertEqual((done.returncode, done.stdout), (0, 'web01: {"disk":{"used":5},"note":"a"}\n'), done.stderr)
        done = run("--fold", "web[03:04]", "argv")
        self.assertEqual(done.returncode, 1)
        self.assertIn("<%s>|%s|$HOME|" % (EVIL, self.sshd.user), done.stdout)
        self.assertIn("the host has no vars.word", done.stdout + done.stderr)
        done = run("web[01:04]", "each")
        self.assertIn("web02: 1 two words two words\n", done.stdout)
        self.assertIn("not this one", done.stderr)
        self.exed.write("modules/executors/plans_test.lua", """local test = require "exed.test"
          test.case("each", function()
            local plan = test.plan("plans", { op = "execute", args = { command = "each" }, settings = { word = "x" } })
            assert(plan.per_host { name = "web02", vars = { word = "w" } }.env.B == "w")
            local _, why = test.plan("plans", { op = "execute", args = { command = "no" }, settings = { word = "x" } })
            assert(why == "not on a Sunday")
          end)""")
        done = subprocess.run([PROGRAM, "--test", self.exed.path("modules", "executors", "plans_test.lua")], capture_output=True,
                              text=True, cwd=self.exed.dir, env=environment(), timeout=LIMIT, check=False)
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1:]), (0, ["1 passed, 0 failed"]), done.stdout + done.stderr)


class Process(Case):
    """One local process for all hosts of a slice: what it says of them on its descriptor 3 is their records."""

    def many(self, cmd, targets="web[01:04]", **fields):
        return self.exed.execute(targets, cmd, executor="many", **fields)

    def ended(self, jid):
        found = self.exed.records(jid, 60)
        self.assertTrue(all(len(rows) == 1 for rows in found.values()), found)
        return {host: rows[0] for host, rows in found.items()}

    def left(self, jid):
        return [pid for pid in with_marker("EXED_OP=" + jid) if alive(pid)]

    def test_each_line_is_a_record_and_wrong_ones_harm_nobody(self):
        found = self.ended(self.many("""
            cat "$EXED_HOSTS_FILE" >&2; echo "$EXED_WINDOW" >&2
            printf '%s\\n' '{"host":"web02","status":"OK","disk":{"used":5}}' '{"host":"web02","status":"FAILED"}' \
              '{"host":"nosuch","status":"OK"}' nonsense '{"host":"web03","rtc":0,"stdout":"said"}' >&3
            printf '{"host":"web04","status":"OK","seconds":1}\\n{"host":"web01\\377"}\\n\\000\\n' >&3
            head -c 400000 /dev/zero | tr '\\0' x >&3; echo >&3
            exit 3""", window=3))
        self.has(found["web02"], status=OK, disk={"used": 5}, error=None)
        self.has(found["web03"], status=CHANGED, rtc=0, stdout="said")
        self.has(found["web04"], status=FAILED, error="the line of its process: the field 'seconds' is exed's own")
        self.has(found["web01"], status=FAILED, unknown=None, rtc=None)
        for words in ("its process ended with code 3 and said nothing of this host", "'web02' has its record already",
                      "'nosuch' is no host of this run", "line 4: no JSON", "and 3 more", "web01\nweb02\nweb03\nweb04\n3"):
            self.assertIn(words, found["web01"]["error"])

    def test_a_cancel_and_a_limit_kill_all_of_it(self):
        stuck = "echo '{\"host\":\"web01\",\"status\":\"OK\"}' >&3; setsid sleep 600 & sleep 600 & wait"
        jid, seen = self.many(stuck, "web[01:02]"), {}
        for entry in self.exed.follow(jid, 60):
            if "web01" in entry:
                self.assertEqual(self.exed.post("/jobs/%s/cancel" % jid, {}).status, 200)
            seen.update({host: record for host, record in entry.items() if host in ("web01", "web02")})
        self.has(seen["web01"], status=OK)
        self.has(seen["web02"], status=FAILED, cancelled=True, error="cancelled", killed=True, survivors=0)
        self.assertEqual(self.exed.job(jid)["error"], "cancelled")
        self.assertEqual(self.left(jid), [])
        jid = self.many(stuck, "web[01:02]", timeout="1s")
        self.has(self.ended(jid)["web02"], status=FAILED, timed_out=True, rtc=124, killed=True, survivors=0)
        self.assertEqual(self.left(jid), [])

    def test_a_node_that_died_runs_nothing_twice_and_leaves_no_process(self):
        ran = self.exed.path("ran")
        jid = self.many("echo x >>%s; echo '{\"host\":\"web01\",\"status\":\"OK\"}' >&3; exec sleep 600" % ran)
        wait_until(lambda: self.exed.job(jid)["return_data"].get("web01"), 30)
        self.assertTrue(self.left(jid))
        self.exed.kill9()
        wait_until(lambda: not self.left(jid), 30, "its process ends with the node")
        self.exed.start()
        found = self.ended(jid)
        self.has(found["web01"], status=OK)
        for host in ("web02", "web03", "web04"):
            self.has(found[host], status=FAILED, unknown=True, error="node lost while running")
        with open(ran, encoding="utf-8") as f:
            self.assertEqual(f.read(), "x\n")
        self.assertFalse(os.path.isdir(os.path.join(self.exed.state, "process")))

    def test_what_it_has_not_and_what_it_would_do(self):
        body = {"targets": "web01", "cmd": "x {hosts_file}", "executor": "many"}
        answer = self.exed.post("/execute", dict(body, fence=True))
        self.assertEqual((answer.status, answer.body["message"]),
                         (400, "executor many has no fence: what a lost node had started is unknown"))
        plan = self.exed.post("/execute", dict(body, dry_run=True)).body["plan"]
        self.assertEqual((plan["command"], plan["fence"], plan["executor"]), ("x {hosts_file}", False, "many"))

    def test_a_task_uses_it_for_a_set(self):
        os.makedirs(self.exed.path("modules", "tasks"), exist_ok=True)
        self.exed.write("modules/tasks/all.lua", """return { summary = "all", run = function(job)
          local found = job.hosts:execute([[printf '{"host":"web01","status":5,"n":1}\\n{"host":"web02","status":5}\\n' >&3]],
            { changes = false, check = false })
          return { found.web01.n, found.web01.status, found.web03.status, #found.failed }
        end }""")
        wait_until(lambda: any(task["name"] == "all" for task in self.exed.get("/tasks").body), 20)
        jid = self.exed.submit("/tasks", {"taskname": "all", "targets": "web[01:03]", "executor": "many"})
        job = self.exed.wait_job(jid)
        self.assertEqual((job["error"], job.get("value")), ("1 of 3 hosts failed", [1, "OK", "FAILED", 1]))


class Settings(Case):
    def test_settings_groups_and_reload(self):
        found = self.run_plan("settings", "web[01:03]")
        self.has(found["web01"], stdout="hello7{all:3,some:2,web:3}\n")
        # The settings of a reload count for the next request; check is asked each time.
        self.exed.conf["executor plans"] = {"word": "bad"}
        self.reload()
        wait_until(lambda: self.refused(503, "argv") == "executor plans: word is bad today", 20)
        wait_until(lambda: "word is bad today" in str(self.exed.get("/healthz").body["degraded"]), 20)
        self.exed.conf["executor plans"] = {"word": "hello", "size": "many"}
        self.reload()
        wait_until(lambda: "[executor plans] 'size' must be a whole number" in self.refused(503, "argv"), 20)
        self.exed.conf["executor plans"] = {"word": "again", "size": 1}
        self.reload()
        wait_until(lambda: not self.exed.get("/healthz").body["degraded"], 20)
        self.has(self.run_plan("settings", "web01")["web01"], stdout="again1{all:1,some:1,web:1}\n")

    def test_an_executor_that_is_saved_is_live_and_a_broken_one_is_not(self):
        text = """return { type = "executor", summary = "x", operations = { execute = function()
          return { transport = "local", command = "echo %s", verdict = { default = "OK" } } end } }"""
        self.save("fresh", text % "one")
        wait_until(lambda: self.exed.post("/execute", {"targets": "web01", "cmd": "x", "executor": "fresh"}).status == 201, 20)
        self.has(self.run_plan("x", "web01", "fresh")["web01"], stdout="one\n")
        self.save("fresh", "return {")
        wait_until(lambda: "fresh.lua:1:" in str(self.exed.get("/healthz").body["degraded"]), 20)
        self.has(self.run_plan("x", "web01", "fresh")["web01"], stdout="one\n")
        self.save("fresh", text % "two")
        wait_until(lambda: self.run_plan("x", "web01", "fresh")["web01"]["stdout"] == "two\n", 20)
        os.unlink(self.exed.path("modules", "executors", "fresh.lua"))
        wait_until(lambda: self.exed.post("/execute", {"targets": "web01", "cmd": "x", "executor": "fresh"}).status == 400, 20)


if __name__ == "__main__":
    unittest.main()
