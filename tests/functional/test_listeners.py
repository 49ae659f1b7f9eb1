# SPDX-License-Identifier: MIT
"""Several listeners, each for its own dialects: what one serves the others do not."""

import http.client
import json
import os
import socket
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import BUILD, Exed, free_port  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

HELLO = """return {
  type = "handler", path = "/api/v1/hello/:name",
  methods = { GET = {
    summary = "hello", answers = { [200] = { type = "object" } },
    run = function(req) return 200, { hello = req.params.name } end,
  } },
}"""


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


class Listeners(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.exed = node = Exed()
        cls.roller, cls.both, cls.mesos = free_port(), free_port(), free_port()
        os.makedirs(node.path("modules", "handlers", "roller"))
        node.write("modules/handlers/roller/hello.lua", HELLO)
        node.conf["runner"] = {"modules": node.path("modules")}
        node.conf["inventory"]["path"] = node.write("hosts.ini", "web01\n")
        node.conf["api"].update(dialects="roller", listen=[
            "127.0.0.1:%d exed" % node.port, "127.0.0.1:%d roller" % cls.roller,
            "127.0.0.1:%d exed, roller" % cls.both, "127.0.0.1:%d mesos" % cls.mesos,
            "unix:%s roller" % node.path("roller.sock")])
        node.start()
        cls.addClassCleanup(node.stop)

    def ask(self, where, path):
        """GET at a port or a unix socket; returns the status and the value."""
        if isinstance(where, int):
            connection = http.client.HTTPConnection("127.0.0.1", where, timeout=30 * SLOW)
        else:
            connection = Unix(where, timeout=30 * SLOW)
        try:
            connection.request("GET", path, headers={"Host": "localhost"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def test_each_serves_its_dialects_only(self):
        hello, hosts = (200, {"hello": "you"}), (200, ["web01"])
        for port, own, other in ((self.exed.port, "/target", "/api/v1/hello/you"),
                                 (self.roller, "/api/v1/hello/you", "/target")):
            self.assertEqual(self.ask(port, own), hosts if own == "/target" else hello)
            self.assertEqual(self.ask(port, other), (404, {"message": "no such path " + other}))
        self.assertEqual(self.ask(self.both, "/target"), hosts)
        self.assertEqual(self.ask(self.both, "/api/v1/hello/you"), hello)
        for path in ("/target", "/api/v1/hello/you", "/healthz"):
            self.assertEqual(self.ask(self.mesos, path)[0], 404)

    def test_a_unix_socket_has_its_dialects_and_exed_sock_always_speaks_exed(self):
        self.assertEqual(self.ask(self.exed.path("roller.sock"), "/api/v1/hello/you"), (200, {"hello": "you"}))
        self.assertEqual(self.ask(self.exed.path("roller.sock"), "/target")[0], 404)
        own = os.path.join(self.exed.state, "exed.sock")
        self.assertEqual(self.ask(own, "/target"), (200, ["web01"]))
        self.assertEqual(self.ask(own, "/api/v1/hello/you")[0], 200)
        done = subprocess.run([os.path.join(BUILD, "exed-run"), "-c", self.exed.path("exed.conf"), "jobs"],
                              cwd=self.exed.dir, env=self.exed.environment(), text=True, capture_output=True,
                              timeout=60 * SLOW, check=False)
        self.assertEqual((done.returncode, done.stdout.split()[0]), (0, "JID"), done.stderr)

    def test_the_document_is_of_exed_alone(self):
        paths = self.exed.get("/openapi.json").body["paths"]
        self.assertIn("/target", paths)
        self.assertFalse([path for path in paths if path.startswith("/api/")])

    def test_a_dialect_that_is_not_known_is_an_error_that_names_them(self):
        node = Exed(conf={"api": {"listen": "127.0.0.1:%d exed,salt" % free_port()}})
        try:
            code, said = node.run_to_end()
        finally:
            node.forget()
        self.assertEqual(code, 2)
        self.assertIn("exed.conf:2: [api] listen: ", said)
        self.assertIn("the dialects are exed, roller, pansible, mesos", said)


if __name__ == "__main__":
    unittest.main()
