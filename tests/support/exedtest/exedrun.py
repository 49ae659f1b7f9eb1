# SPDX-License-Identifier: MIT
"""exed-run and tasks: what the tests of both kinds, with a server and without, have in common."""

import os
import subprocess
import tempfile
import unittest

from .procs import BUILD, SLOW
from .sshd import Sshd

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


class OnHosts(Case):
    """Four real hosts."""

    hosts = None

    @classmethod
    def setUpClass(cls):
        cls.hosts = Sshd(4).start()

    @classmethod
    def tearDownClass(cls):
        cls.hosts.stop()

    def setUp(self):
        super().setUp()
        for host in self.hosts.hosts:
            for name in ("log", "go"):
                path = os.path.join(host.dir, name)
                if os.path.exists(path):
                    os.remove(path)

    def settings(self):
        return ("[store]\ndir = %s/state\n[inventory]\npath = %s\n[ssh]\nknown_hosts = %s\nagent = none\n"
                % (self.dir, self.hosts.inventory, self.hosts.known_hosts))

    def log(self, name):
        path = os.path.join(self.hosts.host[name].dir, "log")
        return self.hosts.host[name].read("log").split("\n")[:-1] if os.path.exists(path) else []

    def start(self, *args, **kw):
        child = subprocess.Popen([PROGRAM, "-c", self.conf, *args], cwd=self.dir, env=environment(), text=True,
                                 stdin=kw.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, **kw)

        def end():
            if child.poll() is None:
                child.kill()
            child.communicate()

        self.addCleanup(end)
        return child


# Each host goes through drain, work and restore; `bad` fails in its work.
ROLL = """
local each = require "exed.each"
return {
  summary = "rolls",
  args = {
    size = { "count", default = 1, help = "hosts at once" },
    max_failed = { "count", default = 0, help = "so many may fail" },
    bad = { "list", default = {}, help = "hosts that fail" },
    loud = { "boolean", default = true, help = "says so" },
    extra = { "object", default = {}, help = "anything" },
    word = { "string", match = "^%w+$", default = "work", help = "what is written down" },
    password = { "string", secret = true, help = "for the work" },
  },
  run = function(job)
    local bad = {}
    for _, name in ipairs(job.args.bad) do bad[name] = true end
    if job.args.loud then job:say("rolling %d", #job.hosts) end
    each.window(job.hosts, { size = job.args.size, max_failed = job.args.max_failed }, function(host)
      job:defer(function() host:execute("echo restore >>$EXED_TEST_DIR/log", { step = "restore" }) end)
      host:execute("echo drain >>$EXED_TEST_DIR/log", { step = "drain" })
      host:execute("echo $WORD $PASSWORD >>$EXED_TEST_DIR/log; echo out; exit " .. (bad[host.name] and 7 or 0),
        { step = "work", env = { WORD = job.args.word, PASSWORD = job.args.password or "none" } })
    end)
    return { extra = job.args.extra }
  end,
}
"""
