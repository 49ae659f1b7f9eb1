# SPDX-License-Identifier: MIT
"""exed.http against servers that lie, break off, never end, or are not who they say they are."""

import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import BUILD, free_port  # noqa: E402

HEAD = b"HTTP/1.1 200 OK\r\n"

# Prints what the request came to, as JSON. spec: method, url, opts.
SCRIPT = """
local http, json = require "exed.http", require "exed.json"
local spec = assert(json.decode(io.read "a"))
local found = {}
for i = 1, spec.times or 1 do
  local answer, err = http.request(spec.method, spec.url, spec.opts)
  found[i] = answer and { status = answer.status, headers = answer.headers, body = answer.body }
    or { code = err.code, message = err.message, sent = err.sent }
end
print(json.encode(found))
"""


class Server:
    """Answers every connection by behave(connection, request bytes), in threads; counts. greeting: what it
    says before it is asked."""

    def __init__(self, behave, context=None, greeting=b""):
        self.behave, self.context, self.greeting, self.requests = behave, context, greeting, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = "http%s://127.0.0.1:%d/" % ("s" if context else "", self.port)
        self.open = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn = self.socket.accept()[0]
            except OSError:
                return
            self.open.append(conn)
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            conn.sendall(self.greeting)
            if self.context:
                conn = self.context.wrap_socket(conn, server_side=True)
            while True:
                data = b""
                while b"\r\n\r\n" not in data:
                    more = conn.recv(65536)
                    if not more:
                        return
                    data += more
                self.requests.append(data)
                if not self.behave(conn, data):
                    return
        except OSError:
            pass
        finally:
            conn.close()

    def close(self):
        # shutdown wakes the thread that is in accept.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for conn in self.open:
            conn.close()


def keep_sending(piece, first=b""):
    def behave(conn, _):
        conn.sendall(first)
        while True:
            conn.sendall(piece)
    return behave


def send(data, keep=False):
    def behave(conn, _):
        conn.sendall(data)
        return keep
    return behave


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.where = tempfile.TemporaryDirectory(prefix="exedtest-")
        cls.addClassCleanup(cls.where.cleanup)
        cls.script = os.path.join(cls.where.name, "ask.lua")
        with open(cls.script, "w", encoding="utf-8") as f:
            f.write(SCRIPT)

    def server(self, behave, context=None, greeting=b""):
        server = Server(behave, context, greeting)
        self.addCleanup(server.close)
        return server

    def ask(self, url, method="GET", times=1, env=None, **opts):
        """The answers (or errors) to the same request, made so many times."""
        opts.setdefault("timeout", "20s")
        spec = {"method": method, "url": url, "times": times, "opts": opts}
        clean = {n: v for n, v in os.environ.items() if "proxy" not in n.lower() and not n.startswith("EXED_")}
        done = subprocess.run([os.path.join(BUILD, "exed-run"), self.script], cwd=self.where.name,
                              env=dict(clean, **(env or {})), input=json.dumps(spec), timeout=100,
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return json.loads(done.stdout)

    def one(self, url, **opts):
        return self.ask(url, **opts)[0]

    def fails(self, behave, code, *words, **opts):
        server = self.server(behave)
        found = self.one(server.url, **opts)
        self.assertEqual(found.get("code"), code, found)
        for word in words + ("http://127.0.0.1:%d: " % server.port,):
            self.assertIn(word, found["message"])
        return found


class Lies(Base):
    def test_a_body_that_is_shorter_than_its_length(self):
        self.fails(send(HEAD + b"Content-Length: 10\r\n\r\nabc"), "unreachable")

    def test_a_chunked_body_that_is_cut(self):
        self.fails(send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), "unreachable")

    def test_a_body_that_is_longer_than_its_length_is_cut_there(self):
        server = self.server(send(HEAD + b"Content-Length: 3\r\n\r\nabcdef"))
        self.assertEqual(self.one(server.url)["body"], "abc")

    def test_a_body_without_a_length_ends_with_the_connection(self):
        server = self.server(send(HEAD + b"\r\nabc"))
        self.assertEqual(self.one(server.url)["body"], "abc")

    def test_no_answer_at_all(self):
        found = self.fails(send(b""), "unreachable")
        self.assertTrue(found["sent"])

    def test_what_is_not_http(self):
        self.fails(send(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol")
        self.fails(send(b"\x00\x1b[31m\r\n\r\n"), "protocol")

    def test_bytes_for_a_terminal_do_not_come_into_messages(self):
        found = self.one(self.server(send(HEAD + b"Transfer-Encoding: \x1b[31mred\r\n\r\n")).url)
        self.assertNotIn("\x1b", found.get("message", ""))

    def test_interim_answers_are_not_the_answer(self):
        server = self.server(send(b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n" + HEAD
                                  + b"X-Late: 1\r\nContent-Length: 2\r\n\r\nok"))
        found = self.one(server.url)
        self.assertEqual((found["status"], found["body"]), (200, "ok"))
        self.assertEqual({n for n in found["headers"] if n.startswith("x-")}, {"x-late"})

    def test_folded_and_repeated_fields(self):
        server = self.server(send(HEAD + b"X-A: 1\r\n  more\r\nx-a:2\r\nX-B:\r\nContent-Length: 0\r\n\r\n"))
        headers = self.one(server.url)["headers"]
        self.assertRegex(headers["x-a"], r"\A1\s+more, 2\Z")
        self.assertEqual(headers["x-b"], "")

    def test_a_redirect_to_itself_is_an_answer(self):
        server = self.server(send(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", keep=True))
        self.assertEqual(self.one(server.url)["status"], 302)
        self.assertEqual(len(server.requests), 1)


class Endless(Base):
    def test_a_header_line(self):
        self.fails(keep_sending(b"a" * 1000, HEAD + b"X-Long: "), "limit", "65536 bytes")

    def test_header_lines(self):
        self.fails(keep_sending(b"X-More: 1\r\n" * 100, HEAD), "limit", "65536 bytes")

    def test_interim_answers(self):
        self.fails(keep_sending(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "limit")

    def test_trailers(self):
        self.fails(keep_sending(b"X-More: 1\r\n" * 100, HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"),
                   "limit")

    def test_a_body(self):
        server = self.server(keep_sending(b"x" * 65536, HEAD + b"\r\n"))
        found = self.one(server.url)
        self.assertEqual((found["status"], len(found["body"])), (200, 1 << 20))

    def test_a_body_that_drips(self):
        def drip(conn, _):
            conn.sendall(HEAD + b"\r\n")
            while threading.Event().wait(0.02) is False:
                conn.sendall(b"x")
        self.fails(drip, "timeout", "was not complete within 0.500 s", timeout="500ms")

    def test_silence(self):
        def hang(conn, _):
            conn.recv(1)
        self.fails(hang, "timeout", "no answer within 0.300 s", timeout="300ms")


class Kept(Base):
    """The server closes a kept connection in the moment that it is used again."""

    def closing_server(self):
        answered = []

        def behave(conn, data):
            if not answered or data.startswith(b"GET /again"):
                answered.append(1)
                conn.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
                return True
            if len(self.server_.requests) == 2:
                return False  # it took the request, and nobody knows what it did with it
            conn.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
            return True
        self.server_ = self.server(behave)
        return self.server_

    def test_a_get_is_sent_again(self):
        server = self.closing_server()
        self.assertEqual([a.get("status") for a in self.ask(server.url, times=2)], [200, 200])
        self.assertEqual(len(server.requests), 3)

    def test_a_post_is_never_sent_twice(self):
        server = self.closing_server()
        found = self.ask(server.url, method="POST", times=2)
        self.assertEqual((found[0]["status"], found[1].get("code")), (200, "unreachable"))
        self.assertEqual(len(server.requests), 2)


class Tls(Base):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cert = cls.make("server", "/CN=127.0.0.1", "subjectAltName=IP:127.0.0.1")
        cls.other = cls.make("other", "/CN=other.example", "subjectAltName=DNS:other.example")

    @classmethod
    def make(cls, name, subject, alt):
        base = os.path.join(cls.where.name, name)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-nodes", "-days", "2", "-subj", subject, "-addext", alt, "-keyout", base + ".key",
                        "-out", base + ".pem"], check=True, capture_output=True, timeout=60)
        return base

    def tls_server(self, base, **more):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(base + ".pem", base + ".key")
        for name, value in more.items():
            setattr(context, name, value)
        return self.server(send(HEAD + b"Content-Length: 2\r\n\r\nok"), context), context

    def test_an_unknown_authority_is_refused_and_gets_no_request(self):
        server, _ = self.tls_server(self.cert)
        found = self.one(server.url, retries=3, headers={"Authorization": "Bearer secret"})
        self.assertEqual((found["code"], found["sent"]), ("refused", False), found)
        self.assertIn("certificate", found["message"])
        self.assertEqual(server.requests, [])
        self.assertEqual(len(server.open), 1)

    def test_an_authority_that_is_named_is_trusted(self):
        server, _ = self.tls_server(self.cert)
        self.assertEqual(self.one(server.url, ca=self.cert + ".pem").get("body"), "ok")

    def test_another_name_is_refused(self):
        server, _ = self.tls_server(self.other)
        found = self.one(server.url, ca=self.other + ".pem")
        self.assertEqual(found.get("code"), "refused", found)
        self.assertEqual(server.requests, [])

    def test_an_own_certificate_is_shown(self):
        server, context = self.tls_server(self.cert, verify_mode=ssl.CERT_REQUIRED)
        context.load_verify_locations(self.other + ".pem")
        self.assertIn("code", self.one(server.url, ca=self.cert + ".pem"))
        found = self.one(server.url, ca=self.cert + ".pem", cert=self.other + ".pem", key=self.other + ".key")
        self.assertEqual(found.get("body"), "ok", found)

    def test_a_server_without_tls_is_refused(self):
        server = self.server(send(b""), greeting=HEAD + b"\r\n")
        found = self.one(server.url.replace("http", "https"))
        self.assertEqual(found.get("code"), "refused", found)

    def test_an_authority_whose_file_is_missing_is_not_trusted(self):
        server, _ = self.tls_server(self.cert)
        found = self.one(server.url, ca="/nosuch/ca.pem")
        self.assertEqual(found.get("code"), "refused", found)


class Ways(Base):
    def test_a_proxy_of_the_environment_is_used_only_when_asked(self):
        proxy = self.server(send(HEAD + b"Content-Length: 5\r\n\r\nproxy"))
        direct = self.server(send(HEAD + b"Content-Length: 6\r\n\r\ndirect"))
        env = {"http_proxy": proxy.url, "all_proxy": proxy.url}
        self.assertEqual(self.one(direct.url, env=env)["body"], "direct")
        self.assertEqual(self.one(direct.url, env=env, proxy=True)["body"], "proxy")

    def test_a_unix_socket(self):
        path = os.path.join(self.where.name, "a.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()

            def answer():
                with listener.accept()[0] as conn:
                    conn.recv(65536)
                    conn.sendall(HEAD + b"Content-Length: 2\r\n\r\nok")
            thread = threading.Thread(target=answer)
            thread.start()
            self.assertEqual(self.one("http://exed/x", socket=path)["body"], "ok")
            thread.join(20)
        found = self.one("http://exed/x", socket=path)
        self.assertEqual((found["code"], found["sent"]), ("unreachable", False))
        self.assertIn("GET unix://" + path, found["message"])

    def test_refused(self):
        found = self.one("http://127.0.0.1:%d/" % free_port(), retries=2, delay="1ms")
        self.assertEqual((found["code"], found["sent"]), ("unreachable", False))


if __name__ == "__main__":
    unittest.main()
