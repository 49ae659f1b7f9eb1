# SPDX-License-Identifier: MIT
"""Secrets of tasks: they reach the host, the command of the node and the web server that they are for, and
nothing else: not the store, the logs, an answer, an error, a command line, nor what exed-run prints."""

import http.server
import os
import subprocess
import sys
import threading
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, wait_until, with_marker  # noqa: E402
from exedtest.exedrun import LIMIT, PROGRAM, environment  # noqa: E402
from exedtest.tasks import DONE, FAILURE, OneNode  # noqa: E402

TOKEN, PASSWORD = "tok3n-7c1f95d2-%s" % os.getpid(), "passw0rd-ae03-%s" % os.getpid()
USES = """
local http = require "exed.http"
return {
  summary = "uses secrets", time_limit = "2m",
  args = {
    password = { "string", required = true, secret = true, match = "^passw0rd.*$", help = "of the login" },
    mark = { "string", required = true }, url = { "url", required = true },
    gate = { "string", default = "true" }, dest = { "path", required = true },
  },
  run = function(job)
    local host, found = job.hosts[1], {}
    local secrets = { TOKEN = job:secret "token", PASSWORD = job.args.password }
    local function run(command, more)
      local options = { env = secrets, stdin = job.args.password, check = false }
      for key, value in pairs(more or {}) do options[key] = value end
      local record = host:execute(command, options)
      found[#found + 1] = record.stdout .. record.stderr .. tostring(record.error)
    end
    run("echo $TOKEN $(cat) >$EXED_TEST_DIR/" .. job.args.mark)
    host:execute(job.args.gate, { env = secrets })
    host:copy { dest = job.args.dest, content = job.args.password, mode = "0600" }
    run "echo token is $TOKEN; echo $PASSWORD >&2; printf %s $TOKEN$TOKEN$(cat); exit 3"
    run("for i in $(seq 3000); do printf '%s ' $i-$TOKEN-$PASSWORD; done", { changes = false })
    run("printf %s ${TOKEN%?}; sleep 0.05; printf %s. ${TOKEN#${TOKEN%?}}")
    local record = job.node:execute({ "/bin/sh", "-c", "echo $TOKEN; cat" }, {
      env = secrets, stdin = job.args.password,
    })
    found[#found + 1] = record.stdout
    local answer = http.post(job.args.url, {
      headers = { Authorization = job:secret "token" }, body = job.args.password,
    })
    found[#found + 1] = answer.body .. " " .. answer.headers["x-echo"]
    for _, text in ipairs(found) do
      job:say("%s", text:sub(1, 2000))
      print(text)
    end
    print(job.args.password, ("%s"):format(secrets.TOKEN))
    return { found = found[2], password = tostring(job.args.password) }
  end,
}"""
CALLS = """
return {
  summary = "passes a secret on", args = { password = { "string", secret = true }, kind = { "string" } },
  run = function(job)
    if job.args.kind == "plain" then return job:call("called", { args = { password = "said aloud" } }) end
    return job:call("called", { args = { password = job.args.password } })
  end,
}"""
CALLED = """
return {
  summary = "is called", args = { password = { "string", secret = true, required = true } },
  run = function(job)
    job.hosts:execute("cat >$EXED_TEST_DIR/called", { stdin = job.args.password })
    return tostring(job.args.password)
  end,
}"""
ASKS_FOR = """
return {
  summary = "asks for a secret", args = { name = { "string", required = true } },
  run = function(job) job.hosts:execute("true", { env = { X = job:secret(job.args.name) } }) end,
}"""


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was told, and notes it."""

    told = []

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Echo.told.append((self.headers["Authorization"], body.decode()))
        self.send_response(200)
        self.send_header("X-Echo", self.headers["Authorization"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Secrets(OneNode):
    more_tasks = {"uses": USES, "calls": CALLS, "called": CALLED, "asks_for": ASKS_FOR,
                  "careless": "return { summary = 'x', args = { a = { 'string', secret = true, default = 'd' } },"
                              " run = function() end }"}

    @classmethod
    def setUpClass(cls):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cls.addClassCleanup(server.server_close)
        cls.addClassCleanup(server.shutdown)
        cls.url = "http://127.0.0.1:%d/login" % server.server_port
        cls.keep = Exed()  # only its directory: what is looked through must not have them
        cls.addClassCleanup(cls.keep.stop)
        os.mkdir(cls.keep.path("secrets"), 0o700)
        cls.keep.write("secrets/token", TOKEN + "\n", 0o600)
        cls.keep.write("secrets/open", TOKEN, 0o644)
        cls.password_file = cls.keep.write("password", PASSWORD + "\n", 0o600)
        cls.conf = {"log": {"log_level": "debug"}, "tasks": {
            "secrets": cls.keep.path("secrets"), "local_commands": "/bin/sh",
            "secret_key": cls.keep.write("key", os.urandom(16).hex(), 0o600)}}
        super().setUpClass()

    def check_nowhere(self, *texts):
        """That no file of the node (its store's, its logs) and none of the texts has a secret."""
        seen = b""
        for where, _, names in os.walk(self.exed.dir):
            for name in names:
                path = os.path.join(where, name)
                if os.path.isfile(path):
                    with open(path, "rb") as f:
                        data = f.read()
                    self.check_bytes(data, path)
                    seen += data if "appendonly" in path else b""
        self.assertIn(b'"secret":', seen, "handles are in the store, so its files can be read")
        for text in texts:
            self.check_bytes(text.encode(), "what was printed")
        self.assertEqual(with_marker(TOKEN, environ=False) + with_marker(PASSWORD, environ=False), [])

    def check_bytes(self, data, where):
        for secret in (TOKEN, PASSWORD):
            at = data.find(secret.encode())
            self.assertEqual(at, -1, "%s: %r" % (where, data[max(0, at - 200):at + 100]))

    def texts_of(self, jid):
        """All that the API says of a job."""
        for path in ("/jobs/%s?outputs=1", "/jobs/%s?detail=1", "/jobs/%s/journal"):
            yield self.exed.raw(("GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" % path % jid).encode()).decode()
        yield str(list(self.exed.follow(jid)))

    def uses(self, mark, **more):
        return self.submit("uses", "web01", mark=mark, url=self.url, password=PASSWORD, dest=self.dest(mark), **more)

    def dest(self, mark):
        return os.path.join(self.sshd.host["web01"].dir, mark + ".copy")

    def exed_run(self, *args):
        done = subprocess.run([PROGRAM, "-c", self.exed.path("exed.conf"), *args], env=environment(), text=True,
                              cwd=self.keep.dir, capture_output=True, timeout=LIMIT, check=False)
        return done.stdout + done.stderr

    def check_job(self, mark, job):
        self.assertEqual((job["state"], job["error"]), (DONE, ""))
        self.assertEqual(self.lines(mark)["web01"], [TOKEN, PASSWORD])
        self.assertEqual(self.sshd.host["web01"].read(mark + ".copy"), PASSWORD)
        self.assertEqual(Echo.told.pop(), (TOKEN, PASSWORD))
        self.assertEqual(job["value"], {"password": "***", "found": "token is ***\n************\nnil"})

    def test_they_come_where_they_belong_and_nowhere_else(self):
        mark = self.mark()
        jid = self.uses(mark)
        job = self.exed.wait_job(jid)
        self.check_job(mark, job)
        self.assertEqual(job["operate_args"]["taskopts"]["password"], "***")
        records = job["return_data"]["web01"]
        long = next(r for r in records if r.get("stdout", "").startswith("1-***-*** 2-***-*** "))
        self.assertTrue(long["stdout"].endswith(" 3000-***-*** "))
        self.assertIn("***.", [r.get("stdout") for r in records], "also when it comes in two pieces")
        self.check_nowhere(*self.texts_of(jid), str(self.exed.get("/tasks").body))

    def test_a_job_goes_on_with_them_after_a_death(self):
        mark = self.mark()
        gate = self.gate(mark)
        jid = self.uses(mark, gate=gate.work)
        wait_until(lambda: self.lines(mark)["web01"] and gate.path.encode() in b"".join(
            text.encode() for text in self.texts_of_running(jid)), 20)
        self.assertEqual(with_marker(TOKEN, environ=False) + with_marker(PASSWORD, environ=False), [])
        self.exed.kill9()
        self.check_nowhere()
        gate.open()
        self.exed.start(limit=30)
        self.check_job(mark, self.exed.wait_job(jid))
        again = self.exed.submit("/jobs/%s/rerun" % jid, {"only": "all"})
        self.check_job(mark, self.exed.wait_job(again))
        self.check_nowhere(*self.texts_of(jid), *self.texts_of(again))

    def texts_of_running(self, jid):
        yield self.exed.raw(("GET /jobs/%s/journal HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" % jid).encode()).decode()

    def test_a_node_with_another_key_says_so(self):
        mark = self.mark()
        gate = self.gate(mark)
        jid = self.uses(mark, gate=gate.work)
        wait_until(lambda: self.lines(mark)["web01"], 20)
        self.exed.kill9()
        gate.open()
        key = self.exed.conf["tasks"]["secret_key"]
        self.exed.conf["tasks"]["secret_key"] = None
        try:
            self.exed.start(limit=30)
            job = self.exed.wait_job(jid)
        finally:
            self.exed.conf["tasks"]["secret_key"] = key
            self.exed.kill9()
            self.exed.start(limit=30)
        self.assertEqual(job["state"], FAILURE)
        self.assertIn("this node has another key than the one that sealed the secret arguments", job["error"])
        self.check_nowhere(*self.texts_of(jid))

    def test_a_called_task_takes_a_handle(self):
        job = self.exed.wait_job(self.submit("calls", "web02", password=PASSWORD, kind="handle"))
        self.assertEqual((job["state"], job["error"], job["value"]), (DONE, "", "***"))
        self.assertEqual(self.lines("called")["web02"], [PASSWORD])
        job = self.exed.wait_job(self.submit("calls", "web02", password=PASSWORD, kind="plain"))
        self.assertIn("job:call called: 'password' is secret: it takes a handle", job["error"])
        self.check_nowhere()

    def test_what_cannot_be_used_is_said(self):
        for name, text in (("nosuch", "nosuch: No such file"), ("open", "chmod go-rwx"),
                           ("arg.name", "the argument name is not there, or it is no secret"),
                           ("..", "that is no name of a secret")):
            job = self.exed.wait_job(self.submit("asks_for", "web01", name=name))
            self.assertEqual(job["state"], FAILURE, name)
            self.assertIn(text, job["error"], name)
        self.check_nowhere()

    def test_a_wrong_value_is_not_repeated(self):
        self.exed.wait_job(self.submit("asks_for", "web01", name="token"))
        answer = self.post("uses", "web01", mark="m", url=self.url, dest="/x", password="X" + PASSWORD)
        self.assertEqual(answer.status, 400)
        self.check_nowhere(answer.body["message"])
        careless = next(task for task in self.exed.get("/tasks").body if task["name"] == "careless")
        self.assertIn("a default would stand in the file", careless["error"])

    def test_exed_run_shows_none(self):
        mark = self.mark()
        common = ["--mark", mark, "--url", self.url, "--password-file", self.password_file,
                  "--dest", self.dest(mark), "web01"]
        done = self.exed_run("uses", *common)
        self.assertIn("job done", done)
        self.assertEqual(Echo.told.pop(), (TOKEN, PASSWORD))
        jid = self.exed.get("/jobs").body[-1]
        self.assertEqual(self.lines(mark)["web01"], [TOKEN, PASSWORD])
        dry = self.exed_run("uses", "--dry-run", *common)
        self.assertIn("web01", dry)
        alone = self.exed_run("uses", "--alone", *common)
        self.assertIn("job done", alone)
        self.assertEqual(Echo.told.pop(), (TOKEN, PASSWORD))
        replay = self.exed_run("--replay", jid, self.exed.path("modules", "tasks", "uses.lua"))
        self.assertIn("fits", replay)
        self.check_nowhere(done, dry, alone, replay, self.exed_run("journal", jid), self.exed_run("jobs", jid))


if __name__ == "__main__":
    unittest.main()
