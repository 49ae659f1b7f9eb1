# SPDX-License-Identifier: MIT
"""exed-run and tasks: writing, checking and testing them."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import BUILD  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

PROGRAM = os.path.join(BUILD, "exed-run")
LIMIT = 60 * SLOW


def environment(**env):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EXED_")}
    return dict(clean, **env)


class Case(unittest.TestCase):
    """A directory of its own with modules/tasks/ in it; no exed listens."""

    def setUp(self):
        where = tempfile.TemporaryDirectory(prefix="exedtest-")
        self.addCleanup(where.cleanup)
        self.dir = where.name
        self.conf = self.write("exed-run.conf", self.settings())

    def settings(self):
        return "[store]\ndir = %s/state\n[inventory]\npath = %s/hosts\n" % (self.dir, self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as f:
            return f.read()

    def task(self, name, text):
        return self.write("modules/tasks/%s.lua" % name, text)

    def run_text(self, *args, code=0, data="", conf=None, **env):
        """Runs it to its end; returns what it printed to stdout and stderr."""
        done = subprocess.run([PROGRAM, "-c", conf or self.conf, *args], cwd=self.dir, input=data, text=True,
                              env=environment(**env), timeout=LIMIT, capture_output=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout[-3000:] + "\n" + done.stderr[-3000:])
        return done.stdout, done.stderr


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


if __name__ == "__main__":
    unittest.main()
