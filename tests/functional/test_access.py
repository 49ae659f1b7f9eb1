# SPDX-License-Identifier: MIT
"""Who may come in: listeners off loopback, bearer tokens, the Host header, exed.sock and the access log."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import Exed, Sshd, free_port, wait_until  # noqa: E402


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


def over_unix(path, target):
    connection = UnixConnection(path)
    try:
        connection.request("GET", target)
        return connection.getresponse().status
    finally:
        connection.close()


def bearer(token):
    return {"Authorization": "Bearer " + token}


def access_lines(node):
    with open(node.access_log, encoding="utf-8") as f:
        return f.read().splitlines()


def serve(node, headers=None):
    """As node.start(), for a node whose /healthz wants more than a plain request."""
    node.launch()

    def answers():
        node.child.check()
        try:
            return node.get("/healthz", headers=headers).status == 200
        except ConnectionRefusedError:
            return False

    wait_until(answers, 15, "it serves")
    return node


class Listeners(unittest.TestCase):
    """A listener that is not loopback needs to be told who may come in."""

    def refused(self, *listen):
        node = Exed(conf={"api": {"listen": list(listen)}})
        try:
            code, output = node.run_to_end()
        finally:
            node.stop()
        self.assertEqual(code, 2, output)
        self.assertEqual(output.count("\n"), 1, output)
        for word in (listen[-1].rsplit(":", 1)[0].strip("[]"), "exed.conf:", "[api] listen",
                     "token_file", "tls_client_ca", "open = true"):
            self.assertIn(word, output)

    def test_it_does_not_start_without(self):
        port = free_port()
        for address in ("0.0.0.0", "[::]", "0", "10.1.2.3", "exed.example", "[fe80::1]"):
            self.refused("127.0.0.1:%d" % free_port(), "%s:%d" % (address, port))

    def test_open_lets_anybody_in(self):
        node = Exed()
        node.conf["api"].update(listen="0.0.0.0:%d" % node.port, open=True)
        with node:
            self.assertEqual(node.get("/target").status, 200)

    def test_mapped_loopback_is_loopback(self):
        node = Exed()
        node.conf["api"]["listen"] = "[::ffff:127.0.0.1]:%d" % node.port
        with node:
            self.assertEqual(node.get("/target").status, 200)

    def test_a_name_is_looked_up(self):
        node = Exed()
        node.conf["api"]["listen"] = "LocalHost:%d" % node.port
        with node:
            self.assertEqual(node.get("/target").status, 200)

    def test_own_names_are_allowed_off_loopback_and_others_are_not(self):
        name = socket.gethostname()
        done = subprocess.run(["getent", "hosts", name], capture_output=True, text=True, check=False)
        node = Exed()
        node.conf["api"].update(listen="0.0.0.0:%d" % node.port, open=True)
        with node:
            self.assertEqual(node.get("/target", headers={"Host": name}).status, 200)
            self.assertEqual(node.get("/target", headers={"Host": "evil.example"}).status, 421)
            if done.returncode == 0:
                full = done.stdout.split()[1]
                wait_until(lambda: node.get("/target", headers={"Host": full}).status == 200, 10,
                           "%s is allowed" % full)

    def test_unix_sockets_are_for_their_owner(self):
        node = Exed()
        path = node.path("api.sock")
        node.conf["api"]["listen"] = [node.conf["api"]["listen"], "unix:" + path]
        node.conf["api"]["token_file"] = node.write("tokens", "secret\n", 0o600)
        serve(node, bearer("secret"))
        try:
            for sock in (path, node.state + "/exed.sock"):
                self.assertEqual(os.stat(sock).st_mode & 0o777, 0o600)
                self.assertEqual(over_unix(sock, "/target"), 200)
        finally:
            node.stop()
        self.assertFalse(os.path.exists(path))

    def test_a_worker_listens_on_its_own_socket_only(self):
        node = Exed(conf={"runner": {"role": "worker"}})
        with node:
            wait_until(lambda: os.path.exists(node.state + "/exed.sock"), 10, "its socket is there")
            self.assertEqual(over_unix(node.state + "/exed.sock", "/healthz"), 200)
            with self.assertRaises(ConnectionRefusedError):
                node.get("/healthz")


class Tokens(unittest.TestCase):
    TOKENS = "# who may come in\n\ndeploy: first-token/1==\n  ci:\tsecond~token \nnameless\n"

    def with_tokens(self, text=TOKENS, mode=0o600, hosts=None):
        node = Exed(hosts)
        self.addCleanup(node.stop)
        node.conf["api"]["token_file"] = node.write("tokens", text, mode)
        return node

    def test_names_are_in_jobs_and_in_the_access_log(self):
        with Sshd(1) as hosts:
            node = serve(self.with_tokens(hosts=hosts), bearer("nameless"))
            for name, token in (("deploy", "first-token/1=="), ("ci", "second~token")):
                answer = node.post("/execute", {"targets": "web01", "cmd": "true"}, headers=bearer(token))
                self.assertEqual(answer.status, 201)
                wait_until(lambda: any("jid=" + answer.body["jid"] in line for line in access_lines(node)),
                           5, "the line is written")
                line = next(line for line in access_lines(node) if "jid=" + answer.body["jid"] in line)
                self.assertRegex(line, r"^\S+Z info access peer=127\.0\.0\.1:\d+ who=%s method=POST "
                                       r"path=/execute status=201 bytes=\d+ seconds=\d+\.\d{3} jid=" % name)
                job = node.get("/jobs/" + answer.body["jid"], headers=bearer(token)).body
                self.assertEqual(job["targets"], ["web01"])
            self.assertTrue(any(" who=token-" in line for line in access_lines(node)))
            node.term()

    def test_who_has_none_gets_401_and_is_told_how(self):
        node = serve(self.with_tokens(), bearer("nameless"))
        for headers, challenge in (
                ({}, "Bearer"), (bearer("wrong"), 'Bearer error="invalid_token"'),
                ({"Authorization": "Basic Zmlyc3Q6"}, 'Bearer error="invalid_token"'),
                ({"Authorization": "Bearer"}, 'Bearer error="invalid_token"'),
                (bearer("first-token/1= ="), 'Bearer error="invalid_token"'),
                (bearer("# who may come in"), 'Bearer error="invalid_token"'),
                (bearer("deploy:first-token/1=="), 'Bearer error="invalid_token"'),
                (bearer(""), 'Bearer error="invalid_token"')):
            answer = node.get("/target", headers=headers)
            self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, challenge), headers)
            self.assertIn("message", answer.body)
            self.assertEqual(node.delete("/jobs/c4f6acd3-4dda-44d0-8f99-76b4587e55d0",
                                         headers=headers).status, 401)
        self.assertEqual(node.get("/target", headers={"Authorization": "bearer  nameless"}).status, 200)
        # Nobody's body is waited for; in the log and in the numbers it is a request as any other.
        answer = node.raw(b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          b"Content-Length: 8000000\r\n\r\n{")
        self.assertTrue(answer.startswith(b"HTTP/1.1 401 ") and b"\r\nConnection: close\r\n" in answer, answer)
        self.assertTrue(any("method=POST path=/execute status=401 " in line for line in access_lines(node)))
        self.assertIn('exed_http_requests_total{handler="/execute",method="POST",status="401"} 1\n',
                      node.get("/metrics", headers=bearer("nameless")).body)
        node.term()

    def test_no_token_and_no_query_is_in_a_log(self):
        node = self.with_tokens()
        node.conf["log"]["log_level"] = "debug"
        serve(node, bearer("nameless"))
        node.get("/execute?target=web01&cmd=mysql+-phunter2", headers=bearer("first-token/1=="))
        node.get("/target", headers=bearer("wrong-token"))
        node.get("/target?pattern=%0a%1b[2J", headers=bearer("nameless"))
        node.raw(b"GET /\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n", 2)
        node.term()
        with open(node.error_log, encoding="utf-8") as f:
            text = f.read() + "\n".join(access_lines(node))
        for secret in ("hunter2", "first-token", "wrong-token", "nameless", "second~token"):
            self.assertNotIn(secret, text)
        self.assertRegex(text, "path=/execute ")
        self.assertFalse(re.search(r"[^\x20-\x7e\n]", text))

    def refused(self, text, *words, mode=0o600):
        node = self.with_tokens(text, mode)
        for args in ([], ["-t"]):
            node.args = args
            code, output = node.run_to_end()
            self.assertEqual(code, 2, output)
            self.assertIn("[api] token_file: ", output)
            for word in words:
                self.assertIn(word, output)
            for token in ("first-token", "s3cret"):
                self.assertNotIn(token, output)

    def test_a_file_that_others_may_read_is_refused(self):
        for mode in (0o604, 0o644, 0o660, 0o602):
            self.refused(self.TOKENS, "%04o" % mode, "chmod 600", mode=mode)

    def test_wrong_lines_are_named(self):
        self.refused("deploy: first-token\n\nde ploy: s3cret\n", "tokens:3: a name has")
        self.refused("a s3cret\n", "tokens:1: want TOKEN or NAME: TOKEN")
        self.refused("deploy:\n", "tokens:1: want TOKEN or NAME: TOKEN")
        self.refused("deploy: s3crét\n", "tokens:1: want TOKEN or NAME: TOKEN")
        self.refused("a: s3cret\nb: s3cret\n", "tokens:2: this token stands there already")
        self.refused("# nothing\n", "has no token")
        self.refused("a: s3cret\0\n", "NUL")

    def test_a_missing_file_is_named(self):
        node = Exed(conf={"api": {"token_file": "/nosuch/tokens"}})
        self.addCleanup(node.stop)
        code, output = node.run_to_end()
        self.assertEqual(code, 2)
        self.assertRegex(output, r"exed\.conf:\d+: \[api\] token_file: /nosuch/tokens: No such file")

    def test_they_are_read_again_at_sighup(self):
        node = serve(self.with_tokens(), bearer("nameless"))
        node.write("tokens", "new: third\n", 0o600)
        os.kill(node.pid, signal.SIGHUP)
        wait_until(lambda: node.get("/target", headers=bearer("third")).status == 200, 10, "the new one counts")
        self.assertEqual(node.get("/target", headers=bearer("nameless")).status, 401)
        node.write("tokens", "broken line s3cret\n", 0o600)
        os.kill(node.pid, signal.SIGHUP)
        wait_until(lambda: "former ones stay" in node.log(), 10, "it says that it will not do")
        self.assertEqual(node.get("/target", headers=bearer("third")).status, 200)
        self.assertNotIn("s3cret", node.log())
        node.term()


if __name__ == "__main__":
    unittest.main()
