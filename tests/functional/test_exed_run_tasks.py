# SPDX-License-Identifier: MIT
"""exed-run and tasks: writing, checking and testing them, and running them without a server."""

import json
import os
import pty
import signal
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import wait_until  # noqa: E402
from exedtest.exedrun import LIMIT, ROLL, Case, OnHosts  # noqa: E402


class Check(Case):
    def test_a_file_that_loads_is_counted_and_no_more(self):
        self.task("fine", 'return { summary = "x", run = function(job) job:say "x" end }')
        self.assertEqual(self.run_text("--check", "modules/tasks/fine.lua"),
                         ("", "exed-run: 1 file: 0 errors, 0 warnings\n"))

    def test_what_is_wrong_has_file_and_line(self):
        for text, words in (
                ("return {\n  summary = 1 +\n}", ("modules/tasks/x.lua:3:",)),
                ('return { summary = "x", ru = 1 }', ("modules/tasks/x.lua: unknown field 'ru'", "'run'")),
                ('return { summary = "x", args = { n = { "cuont" } }, run = print }', ("'cuont'", "'count'")),
                ("local x\nreturn x.y", ("modules/tasks/x.lua:2:",)),
                ("while true do end", ("modules/tasks/x.lua:1: took more than 5 s",))):
            self.task("x", text)
            out, err = self.run_text("--check", "modules/tasks/x.lua", code=1)
            for word in words:
                self.assertIn(word, err)
            self.assertTrue(err.endswith("exed-run: 1 file: 1 errors, 0 warnings\n"), err)
            self.assertEqual(out, "")
        self.assertIn("nosuch.lua: No such file", self.run_text("--check", "nosuch.lua", code=1)[1])

    def test_a_warning_has_file_and_line_and_is_no_error_unless_strict(self):
        self.task("x", 'return { summary = "x", run = function(job)\n  job.hosts:execute("x", { check = false })\nend }')
        for more, code in (([], 0), (["--strict"], 1)):
            err = self.run_text("--check", *more, "modules/tasks/x.lua", code=code)[1]
            self.assertIn("modules/tasks/x.lua:2: warning: check = false", err)
            self.assertIn("1 file: 0 errors, 1 warnings", err)

    def test_lib_executors_handlers_and_tests_are_checked_as_what_they_are(self):
        self.task("lib/shared", "return { n = 1 }")
        self.task("lib/broken", "return { n = nil + 1 }")
        self.task("user", 'local n = require("lib.shared").n\n'
                          'return { summary = "x " .. n, run = function() end }')
        self.task("user_test", 'local test = require "exed.test"')
        self.write("modules/executors/e.lua", 'return { type = "executor", summary = "x", settings = {}, operations = {} }')
        self.write("modules/handlers/exed/h.lua", 'return { type = "handler", path = "x" }')
        files = ["modules/tasks/lib/shared.lua", "modules/tasks/user.lua", "modules/tasks/user_test.lua",
                 "modules/executors/e.lua"]
        self.assertIn("4 files: 0 errors", self.run_text("--check", *files)[1])
        self.assertIn("modules/tasks/lib/broken.lua:1:",
                      self.run_text("--check", "modules/tasks/lib/broken.lua", code=1)[1])
        self.assertIn("modules/handlers/exed/h.lua:", self.run_text("--check", "modules/handlers/exed/h.lua", code=1)[1])

    def test_it_wants_files(self):
        self.assertIn("which files?", self.run_text("--check", code=2)[1])
        self.assertIn("--strict", self.run_text("--check", "--help")[0])


class New(Case):
    def test_what_it_writes_loads_without_warnings_and_its_test_passes(self):
        out = self.run_text("--new", "mine")[0]
        self.assertEqual(out, "./modules/tasks/mine.lua\n./modules/tasks/mine_test.lua\n")
        self.assertIn("2 files: 0 errors, 0 warnings",
                      self.run_text("--check", "modules/tasks/mine.lua", "modules/tasks/mine_test.lua")[1])
        self.assertEqual(self.run_text("--test")[0], "2 passed, 0 failed\n")
        self.assertIn("mine", self.run_text("--list")[0])

    def test_its_test_notices_what_breaks(self):
        self.run_text("--new", "mine")
        text = self.read("modules/tasks/mine.lua")
        self.assertIn('job:defer(function() host:execute("true", { step = "restore" }) end)', text)
        self.task("mine", text.replace('job:defer(function() host:execute("true", { step = "restore" }) end)', ""))
        out = self.run_text("--test", code=1)[0]
        self.assertIn("0 passed, 2 failed\n", out)

    def test_nothing_is_overwritten(self):
        self.task("mine_test", "-- mine\n")
        self.assertIn("modules/tasks/mine_test.lua is there already", self.run_text("--new", "mine", code=2)[1])
        self.assertFalse(os.path.exists(self.path("modules/tasks/mine.lua")))
        self.assertEqual(self.read("modules/tasks/mine_test.lua"), "-- mine\n")

    def test_a_directory_may_be_named(self):
        self.run_text("--new", "mine", "--dir", "else/where")
        self.assertEqual(sorted(os.listdir(self.path("else/where"))), ["mine.lua", "mine_test.lua"])
        self.assertEqual(self.run_text("--test", "else/where")[0], "2 passed, 0 failed\n")

    def test_names_are_checked(self):
        for name in ("", "a/b", "1x", "x_test", "../x", "a.b"):
            self.assertIn("no name of a task", self.run_text("--new", name, code=2)[1])
        self.assertIn("one name is wanted", self.run_text("--new", code=2)[1])


class Test(Case):
    def test_files_and_cases_are_counted_and_a_failure_shows_its_line(self):
        self.write("a_test.lua", "assert(1 == 1)")
        self.write("b_test.lua", 'local test = require "exed.test"\n'
                                 'test.case("holds", function() end)\n'
                                 'test.case("breaks", function() error "no" end)\n'
                                 'test.case("holds too", function() end)')
        self.write("c_test.lua", "error { message = 'said' }")
        out = self.run_text("--test", "a_test.lua", "b_test.lua", "c_test.lua", code=1)[0]
        self.assertIn("FAILED b_test.lua: breaks\n  b_test.lua:3: no\n", out)
        self.assertIn("FAILED c_test.lua\n  said\n", out)
        self.assertTrue(out.endswith("3 passed, 2 failed\n"), out)

    def test_no_test_at_all_is_a_failure(self):
        self.assertEqual(self.run_text("--test", code=1)[0], "0 passed, 0 failed\n")
        self.assertIn("nosuch", self.run_text("--test", "nosuch", code=2)[1])


class List(Case):
    def test_shipped_ones_and_mine_with_what_does_not_load(self):
        self.task("mine", 'return { summary = "does it", args = { n = { "count" } }, run = print }')
        self.task("broken", "return {")
        out, err = self.run_text("--list")
        self.assertRegex(out, r"(?m)^mine +does it$")
        self.assertRegex(out, r"(?m)^broken +\(does not load: \S*broken\.lua:1: ")
        self.assertRegex(out, r"(?m)^rolling_restart +restart a service")
        self.assertEqual(err, "")
        found = {task["name"]: task for task in map(json.loads, self.run_text("--list", "--json")[0].splitlines())}
        self.assertEqual(found["mine"]["args"][0]["name"], "n")
        self.assertIn("error", found["broken"])

    def test_a_server_that_was_named_must_answer(self):
        self.assertIn("no exed answers", self.run_text("--list", "-s", "http://127.0.0.1:1", code=2)[1])


GATHER = r"""
-- exed-run gather.lua 'web*': which kernel and how much memory, as a table.
local hosts = require "exed.hosts"

local pattern = arg[1] or "all"
local facts = hosts.match(pattern):facter { window = 200, timeout = "20s", check = false }

local rows = {}
for _, record in ipairs(facts) do
  local f = record.facts
  rows[#rows + 1] = record.ok
    and { record.host.name, f.kernel_release, ("%.1f GiB"):format(f.memory / 2^30) }
    or { record.host.name, record.status, record.error }
end
table.sort(rows, function(a, b) return a[1] < b[1] end)

for _, row in ipairs(rows) do
  print(("%-16s %-14s %s"):format(table.unpack(row)))
end
print(("%d hosts, %d answered, %d did not"):format(#facts, #facts.ok, #facts.failed))
"""

class Alone(OnHosts):
    """Without a server."""

    def test_steps_and_words_are_shown_and_outcomes_folded(self):
        self.task("roll", ROLL)
        out, err = self.run_text("roll", "web[01:03]", "--word", "yes")
        lines = out.splitlines()
        self.assertEqual(lines[0], "-- rolling 3")
        self.assertEqual(lines[1:4], ["web01: drain: changed", "web01: out", "web01: restore: changed"])
        self.assertEqual(lines[-1], "== web[01-03] (3 hosts): changed")
        self.assertEqual(err, 'exed-run: it returned {"extra":{}}\nexed-run: job done: 3 changed\n')
        self.assertEqual(self.log("web02"), ["drain", "yes none", "restore"])
        self.assertEqual(self.log("web04"), [])

    def test_a_failure_stops_it_puts_back_and_is_the_exit_code(self):
        self.task("roll", ROLL)
        out, err = self.run_text("roll", "web", "--bad", "web02", code=1)
        self.assertIn("exed-run: web02: work: failed: exit code 7\n", err)
        self.assertIn("== web01 (1 host): changed\n", out)
        self.assertIn("== web02 (1 host): failed: work: exit code 7\n", out)
        self.assertRegex(out, r"== web\[03-04\] \(2 hosts\): skipped: 1 of 4 hosts failed")
        self.assertRegex(err, r"job failure: 1 changed, 2 skipped, 1 failed \(each.window stopped: 1 of 4 ")
        self.assertEqual(self.log("web02"), ["drain", "work none", "restore"])
        self.assertEqual(self.log("web03"), [])

    def test_flags_come_from_the_declaration(self):
        self.task("roll", ROLL)
        out = self.run_text("roll", "--help")[0]
        for part in ("usage: exed-run roll [OPTION...] PATTERN", "rolls", "--max-failed COUNT  so many may fail (0)",
                     "--no-loud", "--password-file FILE", "--extra JSON", "--bad A,B,...", "--dry-run"):
            self.assertIn(part, out)
        self.assertEqual(self.run_text("help", "roll")[0], out)
        self.write("secret", "hush\n")
        out, err = self.run_text("roll", "--no-loud", "--size=50%", "--max_failed", "1", "--bad", "web01,web02",
                                 "--extra", '{"a": [1]}', "--password-file", "secret", "web", code=1)
        self.assertNotIn("rolling", out)
        self.assertNotIn("hush", out + err)
        self.assertIn('it returned {"extra":{"a":[1]}}', self.run_text("roll", "web03", "--extra", '{"a": [1]}')[1])
        self.assertEqual(self.log("web01"), ["drain", "work hush", "restore"])

    def test_what_is_wrong_is_explained_with_code_2_and_runs_nothing(self):
        self.task("roll", ROLL)
        self.task("needs", 'return { summary = "x", args = { n = { "integer", required = true, max = 3, help = "how many" }'
                           ' }, max_hosts = 2, run = function() end }')
        for args, words in (
                (["roll"], ("a pattern is wanted",)),
                (["roll", "web", "more"], ("one pattern is wanted",)),
                (["roll", "--siez", "3", "web"], ("--siez", "'size'", "exed-run roll --help")),
                (["roll", "--size", "lots", "web"], ("option --size takes a count",)),
                (["roll", "--word", "a b", "web"], ("option --word",)),
                (["roll", "--password-file", "nosuch", "web"], ("--password-file", "nosuch")),
                (["roll", "nosuch"], ("names no host",)),
                (["needs", "web01"], ("option --n is missing: how many",)),
                (["needs", "--n", "4", "web01"], ("option --n takes at most 3",)),
                (["needs", "--n", "1", "web"], ("4 targets are more than max_hosts",)),
                (["code_release", "--appname", "a", "web"], ("'revision' is missing",)),
                (["code_release", "--appname", "a", "--dry-run", "web"], ("'revision' is missing",)),
                (["rol", "web"], ("no verb and no task 'rol', did you mean 'roll'",)),
                (["task"], ("which task?",))):
            err = self.run_text(*args, code=2)[1]
            for word in words:
                self.assertIn(word, err)
        self.assertEqual([self.log(host.name) for host in self.hosts.hosts], [[]] * 4)
        self.task("broken", "return {")
        self.assertIn("broken.lua:1:", self.run_text("broken", "web", code=1)[1])
        os.chmod(self.task("open", 'return { summary = "x", run = function() end }'), 0o666)
        self.assertIn("chmod go-w", self.run_text("open", "web", code=1)[1])

    def test_verbs_win_and_task_always_means_the_task(self):
        self.task("ping", 'return { summary = "not the verb", run = function(job) job:say "a task" end }')
        self.assertIn("web01: ok", self.run_text("ping", "web01")[0])
        self.assertIn("-- a task", self.run_text("task", "ping", "web01")[0])
        self.assertIn("not the verb", self.run_text("task", "ping", "--help")[0])
        self.assertIn("exed-run [task] NAME", self.run_text("task", "--help")[0])

    def test_a_name_that_is_no_host_is_a_failure(self):
        self.task("roll", ROLL)
        out, err = self.run_text("roll", "web01,nosuch", code=1)
        self.assertIn("exed-run: nosuch: no match", err)
        self.assertEqual(self.log("web01"), ["drain", "work none", "restore"])

    def test_json_has_the_rows_of_a_followed_job(self):
        self.task("roll", ROLL)
        rows = [json.loads(line) for line in self.run_text("roll", "--json", "web01")[0].splitlines()]
        self.assertEqual(rows[0]["job"]["operate_args"], {"taskname": "roll"})
        self.assertEqual(rows[1]["entry"]["web01"], {"everywhere": True, "name": "roll", "return_data": "rolling 1",
                                                     "status": 0})
        self.assertEqual([(row["entry"]["web01"]["name"], row["entry"]["web01"]["status"]) for row in rows[2:-1]],
                         [("drain", 5), ("work", 5), ("restore", 5), ("roll", 5)])
        self.assertEqual(rows[3]["entry"]["web01"]["stdout"], "out\n")
        self.assertEqual(rows[-1]["end"], {"state": 0, "error": "", "value": {"extra": {}}})

    def test_quiet_has_no_steps(self):
        self.task("roll", ROLL)
        self.assertEqual(self.run_text("roll", "-q", "web01")[0], "-- rolling 1\n== web01 (1 host): changed\n")

    def test_a_task_that_is_a_file_is_run_with_what_lies_beside_it(self):
        self.write("else/where/t.lua", 'local n = require("lib.shared").n\nreturn { summary = "x", args = { a = { "integer" }'
                                       ' }, run = function(job) job:say("%d", n + job.args.a) end }')
        self.write("else/where/lib/shared.lua", "return { n = 40 }")
        self.assertIn("-- 42\n", self.run_text("else/where/t.lua", "--a", "2", "web01")[0])
        self.write("u.lua", 'local t = { summary = "indirect" }\nfunction t.run(job) job:say "ran" end\nreturn t')
        self.assertIn("-- ran\n", self.run_text("u.lua", "web01")[0])
        self.write("s.lua", 'print("a script", ...)\nreturn 3')
        self.assertEqual(self.run_text("s.lua", "x", code=3)[0], "a script\tx\n")

    def test_ctrl_c_kills_what_runs_and_puts_back(self):
        self.task("long", """return { summary = "x", run = function(job)
          job:defer(function() job.hosts:execute("echo restore >>$EXED_TEST_DIR/log", { step = "restore" }) end)
          job.hosts:execute("echo drain >>$EXED_TEST_DIR/log; exec sleep 1000", { step = "long" })
          job.hosts:execute("echo never >>$EXED_TEST_DIR/log")
        end }""")
        for number in (signal.SIGINT, signal.SIGTERM):
            child = self.start("long", "web[01:02]")
            wait_until(lambda: self.log("web01")[-1:] + self.log("web02")[-1:] == ["drain"] * 2, 30, "it runs")
            child.send_signal(number)
            out, err = child.communicate(timeout=LIMIT)
            self.assertEqual(child.returncode, 130, err)
            self.assertIn("interrupted", err)
            self.assertIn("web01: long: killed", err, out)
            self.assertEqual(self.log("web01")[-2:], ["drain", "restore"])
            self.assertEqual(self.hosts.running("sleep 1000"), [])
            self.assertIn("web01: restore: changed\n", out)

    def test_a_time_limit_cancels_it(self):
        self.task("slow", """return { summary = "x", time_limit = 1, run = function(job)
          job:defer(function() job.hosts:execute("echo restore >>$EXED_TEST_DIR/log") end)
          job:sleep(1000)
        end }""")
        for more in ([], ["--time-limit", "500ms"]):
            err = self.run_text("slow", "web01", *more, code=2 if more == ["--time-limit", "500ms"] else 1)[1]
        self.assertIn("--time-limit takes at least 1", err)
        self.assertEqual(self.log("web01"), ["restore"])

    def test_putting_back_has_a_limit_too(self):
        self.task("slow", """return { summary = "x", time_limit = 1, cleanup_limit = 1, run = function(job)
          job:defer(function() job.hosts:execute("echo late >>$EXED_TEST_DIR/log") end)
          job:defer(function() job.hosts:execute("exec sleep 1000", { step = "hangs" }) end)
          job:sleep(1000)
        end }""")
        out, err = self.run_text("slow", "web01", code=1)
        self.assertIn("web01: hangs: killed", err)
        self.assertIn("putting back failed", err)
        self.assertIn("took longer than 1 s to put back", err)
        self.assertEqual(self.log("web01"), [])
        self.assertEqual(self.hosts.running("sleep 1000"), [])

    def test_whoever_sits_here_is_asked(self):
        self.task("asks", """return { summary = "x", run = function(job)
          local said = job:await_approval { message = "go on?", timeout = "60s", by = "group:dba" }
          job:say("%s agreed: %s", said.who, said.note)
        end }""")
        out, err = self.run_text("asks", "web01", data="yes, it is fine\n", USER="me", code=1)
        self.assertIn("me said no", err)
        out, err = self.run_text("asks", "web01", data="yes it is fine\n", USER="me")
        self.assertIn("go on? (for group:dba) [yes or no", err)
        self.assertIn("-- me agreed: it is fine\n", out)
        self.assertIn("said no", self.run_text("asks", "web01", data="no\n", code=1)[1])
        self.assertIn("standard input has ended", self.run_text("asks", "web01", code=1)[1])
        leader, follower = pty.openpty()
        child = self.start("asks", "web01", stdin=follower)
        os.close(follower)
        os.write(leader, b"y\n")
        out = child.communicate(timeout=LIMIT)[0]
        os.close(leader)
        self.assertEqual(child.returncode, 0)
        self.assertIn("agreed: \n", out)

    def test_a_dry_run_prints_the_steps_in_their_order_and_touches_nothing(self):
        self.task("roll", ROLL)
        out, err = self.run_text("roll", "web", "--size", "2", "--dry-run")
        work = r"work: execute echo \$WORD \$PASSWORD >>\$EXED_TEST_DIR/log; .*"
        wanted = [r" 0:00:00 +-- rolling 4"]
        for at, hosts in ((0, r"web\[01-02\]"), (3, r"web\[03-04\]")):
            wanted += [r" 0:00:0%d  %s  drain: execute echo drain .*" % (at, hosts),
                       r" 0:00:0%d  %s  %s" % (at + 1, hosts, work),
                       r" 0:00:0%d  %s  restore: execute echo restore .*" % (at + 2, hosts)]
        wanted.append(r"== web\[01-04\] \(4 hosts\): changed")
        self.assertRegex(out, r"\A%s\n\Z" % r"\n".join(wanted))
        self.assertEqual(err, "exed-run: dry run done: 12 steps, nothing was touched\n")
        self.assertEqual([self.log(host.name) for host in self.hosts.hosts], [[]] * 4)
        steps = [json.loads(line) for line in self.run_text("roll", "web", "--dry-run", "--json")[0].splitlines()]
        self.assertEqual((steps[1]["host"], steps[1]["op"], steps[1]["step"]), ("web01", "execute", "drain"))
        self.assertIn("option --size", self.run_text("roll", "web", "--dry-run", "--size", "x", code=2)[1])
        self.task("ends", 'return { summary = "x", run = function(job) job:abort "not like this" end }')
        self.assertIn("dry run failure: 0 steps, nothing was touched (not like this)",
                      self.run_text("ends", "web", "--dry-run", code=1)[1])

    def test_the_contract_s_third_example_as_it_is_written(self):
        self.write("gather.lua", GATHER)
        lines = self.run_text("gather.lua", "web[01:03]")[0].splitlines()
        self.assertEqual(lines[-1], "3 hosts, 3 answered, 0 did not")
        for line, name in zip(lines, ("web01", "web02", "web03")):
            self.assertRegex(line, r"\A%s {12}%s +\d+\.\d GiB\Z" % (name, os.uname().release))
        self.write("hosts", "[all]\nweb09 ansible_host=127.0.0.1 ansible_port=1\n")
        conf = self.write("away.conf", self.settings().replace(self.hosts.inventory, self.path("hosts")))
        lines = self.run_text("gather.lua", conf=conf)[0].splitlines()
        self.assertRegex(lines[0], r"\Aweb09 {12}UNREACHABLE    \S")
        self.assertEqual(lines[1], "1 hosts, 0 answered, 1 did not")

    def test_a_script_s_deferred_functions_run_at_its_end_and_at_ctrl_c(self):
        self.write("s.lua", """local hosts, job, each = require "exed.hosts", require "exed.job", require "exed.each"
          local web = hosts.match(arg[1])
          job:defer(function() web:execute("echo restore >>$EXED_TEST_DIR/log") end)
          local outcomes = each.window(web, { size = 2 }, function(host) host:execute "true" end)
          print(#outcomes.changed)
          if arg[2] then web:execute("echo drain >>$EXED_TEST_DIR/log; exec sleep 1000") end""")
        self.assertEqual(self.run_text("s.lua", "web[01:02]")[0], "2\n")
        self.assertEqual(self.log("web02"), ["restore"])
        child = self.start("s.lua", "web02", "more")
        wait_until(lambda: self.log("web02")[-1:] == ["drain"], 30, "it runs")
        child.send_signal(signal.SIGINT)
        err = child.communicate(timeout=LIMIT)[1]
        self.assertEqual(child.returncode, 130, err)
        self.assertEqual(self.log("web02"), ["restore", "drain", "restore"])
        self.assertEqual(self.hosts.running("sleep 1000"), [])


if __name__ == "__main__":
    unittest.main()
