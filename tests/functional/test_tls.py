# SPDX-License-Identifier: MIT
"""Listeners that speak TLS: versions, certificates of clients, reload, ends and deadlines."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import Exed, Fleet, Sshd, wait_until  # noqa: E402
from exedtest.certs import make_authority, make_certificate  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

SERVER = "DNS:localhost,IP:127.0.0.1"
HEAD = b"GET /target HTTP/1.1\r\nHost: localhost\r\n\r\n"


class TlsNode(Exed):
    """A node that is asked over TLS; `context` is the client's."""

    def __init__(self, directory, hosts=None, **api):
        super().__init__(hosts, {"api": dict({"tls_cert": directory + "/server.pem",
                                              "tls_key": directory + "/server.key"}, **api)})
        self.directory, self.context = directory, client(directory)

    def request(self, method, path, body=None, headers=None, timeout=30.0):
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=timeout * SLOW,
                                                 context=self.context)
        plain = http.client.HTTPConnection
        http.client.HTTPConnection = lambda *a, **o: connection
        try:
            return super().request(method, path, body, headers, timeout)
        finally:
            http.client.HTTPConnection = plain

    def answers(self):
        self.child.check()
        try:
            return self.get("/healthz").status == 200
        except (ConnectionError, OSError):
            return False

    def serve(self):
        self.launch()
        wait_until(self.answers, 15, "it serves")
        return self

    def connect(self, context=None, **options):
        """A TLS connection, shaken hands."""
        plain = socket.create_connection(("127.0.0.1", self.port), 10 * SLOW)
        try:
            return (context or self.context).wrap_socket(plain, server_hostname="localhost", **options)
        except BaseException:
            plain.close()
            raise


def client(directory, certificate=None, authority="authority"):
    context = ssl.create_default_context(cafile=os.path.join(directory, authority + ".pem"))
    if certificate:
        context.load_cert_chain(*[os.path.join(directory, certificate + end) for end in (".pem", ".key")])
    return context


def read_answer(s):
    data = b""
    while b"\r\n\r\n" not in data:
        part = s.recv(65536)
        if not part:
            return data
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    want = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while want and len(body) < want[0]:
        body += s.recv(65536)
    return head + b"\r\n\r\n" + body


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="exedtest-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.dir = cls.temporary.name
        make_authority(cls.dir, "authority")
        make_authority(cls.dir, "stranger")
        make_certificate(cls.dir, "server", "authority", "/CN=localhost", SERVER)

    def node(self, hosts=None, **api):
        node = TlsNode(self.dir, hosts, **api)
        self.addCleanup(node.stop)
        return node.serve()


class Speaking(Base):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.served = TlsNode(cls.dir, header_timeout="2s", send_timeout="2s").serve()
        cls.addClassCleanup(cls.served.stop)

    def versions(self, low, high):
        context = client(self.dir)
        context.minimum_version, context.maximum_version = low, high
        context.set_ciphers("ALL:@SECLEVEL=0")
        with self.served.connect(context) as s:
            return s.version()

    def test_1_2_and_1_3_and_nothing_older(self):
        v = ssl.TLSVersion
        self.assertEqual(self.versions(v.TLSv1_2, v.TLSv1_2), "TLSv1.2")
        self.assertEqual(self.versions(v.TLSv1_3, v.TLSv1_3), "TLSv1.3")
        for old in (v.TLSv1_1, v.TLSv1):
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                self.versions(old, old)

    def test_weak_ciphers_are_refused(self):
        for name in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"):
            context = client(self.dir)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(name + ":@SECLEVEL=0")
            with self.assertRaises(ssl.SSLError):
                self.served.connect(context).close()

    def test_alpn_is_http_1_1(self):
        context = client(self.dir)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with self.served.connect(context) as s:
            self.assertEqual(s.selected_alpn_protocol(), "http/1.1")
            s.sendall(HEAD)
            self.assertIn(b" 200 OK", read_answer(s))
        context.set_alpn_protocols(["h2"])
        with self.assertRaises(ssl.SSLError):
            self.served.connect(context).close()

    def test_requests_in_small_pieces_and_pipelined(self):
        with self.served.connect() as s:
            for byte in HEAD:
                s.sendall(bytes([byte]))
            self.assertIn(b" 200 OK", read_answer(s))
            s.sendall(HEAD * 50)
            got = b""
            while got.count(b"HTTP/1.1 200 OK") < 50:
                got += s.recv(65536)
            self.assertNotIn(b" 400 ", got)

    def test_a_large_body(self):
        body = {"targets": "web01", "cmd": "x" * 3000000}
        answer = self.served.post("/execute", body)
        self.assertEqual((answer.status, answer.body["message"]), (404, "no hosts match that target"))

    def test_plain_http_is_told_so(self):
        with socket.create_connection(("127.0.0.1", self.served.port), 10 * SLOW) as s:
            s.sendall(HEAD)
            s.settimeout(10 * SLOW)
            text = b""
            while True:
                part = s.recv(65536)
                if not part:
                    break
                text += part
        self.assertTrue(text.startswith(b"HTTP/1.1 400 "), text)
        self.assertIn(b"https", text)

    def test_garbage_and_early_ends_harm_nobody(self):
        for data in (b"\x00" * 2000, b"\x16\x03\x01\xff\xff" + b"A" * 70000, os.urandom(500), b"\x16", b""):
            with socket.create_connection(("127.0.0.1", self.served.port), 10 * SLOW) as s:
                try:
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except ConnectionError:
                    pass
        self.assertEqual(self.served.get("/target").status, 200)

    def test_the_handshake_has_a_deadline(self):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.served.port), 30 * SLOW) as s:
            s.sendall(b"\x16\x03\x01")
            self.assertEqual(s.recv(100), b"")
        self.assertGreater(time.monotonic() - began, 1.5)

    def test_so_has_a_head_that_drips(self):
        with self.served.connect() as s:
            s.sendall(HEAD[:20])
            answer = read_answer(s)
        self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)

    def test_the_end_is_told_apart_from_a_cut(self):
        with self.served.connect(suppress_ragged_eofs=False) as s:
            s.sendall(b"GET /target HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = b""
            while True:
                part = s.recv(65536)  # raises when close_notify is missing
                if not part:
                    break
                got += part
        self.assertTrue(got.endswith(b"[]"), got)

    def test_a_client_that_says_its_end_has_left(self):
        """As without TLS: nobody can tell who only says that it sends no more from who goes."""
        with self.served.connect() as s:
            s.sendall(HEAD)
            read_answer(s)
            s.settimeout(10 * SLOW)
            try:
                s.unwrap().close()
            except ssl.SSLEOFError:
                pass  # it closes without an answer to that
        with self.served.connect() as s:
            s.sendall(b"GET /jobs/c4f6acd3-4dda-44d0-8f99-76b4587e55d0?fol")
            try:
                s.unwrap().close()
            except ssl.SSLEOFError:
                pass
        self.assertEqual(self.served.get("/target").status, 200)

    def test_what_comes_behind_the_end_is_nothing(self):
        """Bytes after close_notify: the connection ends, and the loop does not spin."""
        inwards, outwards = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = self.served.context.wrap_bio(inwards, outwards, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", self.served.port), 10 * SLOW) as s:
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    s.sendall(outwards.read())
                    inwards.write(s.recv(65536))
            session.write(b"GET /target HTTP/1.1\r\nHo")
            try:
                session.unwrap()
            except ssl.SSLWantReadError:
                pass
            s.sendall(outwards.read() + b"x" * 100000)
            try:
                while s.recv(65536):
                    pass
            except ConnectionError:
                pass
        self.assertEqual(self.served.get("/target").status, 200)

    def test_half_a_body_is_no_request(self):
        before = len(self.served.get("/jobs?all=1").body)
        text = (b"POST /ping HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 40\r\n\r\n{\"targets\": \"all\"}")
        for polite in (False, True):
            s = self.served.connect()
            s.sendall(text)
            if polite:
                try:
                    s.unwrap().close()
                except (OSError, ssl.SSLError):
                    s.close()
            else:
                s.close()  # no close_notify
        self.assertEqual(len(self.served.get("/jobs?all=1").body), before)

    def test_renegotiation_is_refused(self):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % self.served.port, "-tls1_2", "-CAfile",
             self.dir + "/authority.pem"], input="R\n", capture_output=True, text=True, timeout=60,
            check=False)
        self.assertIn("Secure Renegotiation IS supported", done.stdout)
        self.assertRegex(done.stderr, "no renegotiation|handshake failure|RENEGOTIATING")
        self.assertNotEqual(done.returncode, 0)

    def test_sessions_are_resumed(self):
        context = client(self.dir)
        with self.served.connect(context) as s:
            s.sendall(HEAD)
            read_answer(s)
            session = s.session
        with self.served.connect(context, session=session) as s:
            self.assertTrue(s.session_reused)
            s.sendall(HEAD)
            self.assertIn(b" 200 OK", read_answer(s))


class Sending(Base):
    def test_a_client_that_reads_nothing_is_dropped(self):
        """Under TLS as without: a stream that the client does not take ends at send_timeout."""
        with Fleet(40) as hosts:
            node = TlsNode(self.dir, hosts, send_timeout="2s", send_buffer="64k")
            self.addCleanup(node.stop)
            node.serve()
            jid = node.execute("all", "output 900000")
            node.wait_job(jid, 60)
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", node.port))
            with node.context.wrap_socket(s, server_hostname="localhost") as t:
                t.sendall(("GET /jobs/%s?follow=1&outputs=1 HTTP/1.1\r\nHost: localhost\r\n\r\n" % jid)
                          .encode())
                wait_until(lambda: any("status=499" in line for line in open(node.access_log)), 30,
                           "it was dropped")
            got = node.get("/jobs/%s?outputs=1" % jid, timeout=60).body["return_data"]
            self.assertEqual(sum(len(r["stdout"]) for records in got.values() for r in records), 40 * 900000)


class Sockets(Base):
    def test_a_websocket_speaks_both_ways(self):
        with Sshd(1) as hosts:
            node = self.node(hosts)
            jid = node.execute("web01", "echo over TLS")
            with node.connect() as s:
                s.settimeout(20 * SLOW)
                s.sendall(("GET /jobs/%s?follow=1&outputs=1 HTTP/1.1\r\nHost: localhost\r\n"
                           "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % jid).encode())
                # A ping of 5 bytes, masked with zeros.
                s.sendall(b"\x89\x85\0\0\0\0hello")
                got = b""
                while b'"end"' not in got or b"\x8a\x05hello" not in got:
                    part = s.recv(65536)
                    self.assertTrue(part, got)
                    got += part
            self.assertTrue(got.startswith(b"HTTP/1.1 101 "), got)
            self.assertIn(b"over TLS\\n", got)
            node.term()


class Clients(Base):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_certificate(cls.dir, "robot", "authority", "/O=x/CN=deploy robot")
        make_certificate(cls.dir, "nameless", "authority", "/O=x", "email:ops@example.net")
        make_certificate(cls.dir, "odd", "authority", "/CN=a\u00e9 who=root%")
        make_certificate(cls.dir, "other", "stranger", "/CN=other")

    def test_only_certificates_of_that_authority_come_in_and_name_their_owner(self):
        with Sshd(1) as hosts:
            node = TlsNode(self.dir, hosts, tls_client_ca=self.dir + "/authority.pem",
                           listen=None)
            node.conf["api"]["listen"] = "0.0.0.0:%d" % node.port
            node.context = client(self.dir, "robot")
            self.addCleanup(node.stop)
            node.serve()
            for name, who in (("robot", '"deploy robot"'), ("nameless", "ops@example.net"),
                              ("odd", '"a%C3%A9 who=root%25"')):
                node.context = client(self.dir, name)
                jid = node.execute("web01", "true")
                wait_until(lambda: " jid=" + jid in open(node.access_log).read(), 5, "the line is there")
                line = next(line for line in open(node.access_log) if " jid=" + jid in line)
                self.assertIn(" who=%s method=POST " % who, line)
            for name in (None, "other"):
                with self.assertRaises((ssl.SSLError, ConnectionError)):
                    with node.connect(client(self.dir, name)) as s:
                        s.sendall(HEAD)
                        if not s.recv(100):
                            raise ConnectionError("closed")
            node.term()

    def test_with_a_token_file_too_both_are_asked_for(self):
        node = TlsNode(self.dir, tls_client_ca=self.dir + "/authority.pem")
        node.conf["api"]["token_file"] = node.write("tokens", "ci: s3cret\n", 0o600)
        node.context = client(self.dir, "robot")
        self.addCleanup(node.stop)
        node.launch()

        def answers():
            node.child.check()
            try:
                return node.get("/healthz").status == 401
            except OSError:
                return False

        wait_until(answers, 15, "it serves")
        self.assertEqual(node.get("/target", headers={"Authorization": "Bearer s3cret"}).status, 200)
        node.context = client(self.dir)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            node.get("/target", headers={"Authorization": "Bearer s3cret"})
        node.term()


class Reload(Base):
    def test_a_new_certificate_counts_for_new_connections_and_drops_none(self):
        where = tempfile.TemporaryDirectory(prefix="exedtest-")
        self.addCleanup(where.cleanup)
        make_authority(where.name, "authority")
        make_certificate(where.name, "server", "authority", "/CN=first", SERVER)
        node = TlsNode(where.name)
        self.addCleanup(node.stop)
        node.serve()
        with node.connect() as kept:
            kept.sendall(HEAD)
            read_answer(kept)
            make_certificate(where.name, "server", "authority", "/CN=second", SERVER)
            os.kill(node.pid, signal.SIGHUP)
            wait_until(lambda: "in force" in node.log(), 10, "it is reloaded")
            with node.connect() as s:
                self.assertIn((("commonName", "second"),), s.getpeercert()["subject"])
            kept.sendall(HEAD)
            self.assertIn(b" 200 OK", read_answer(kept))
            with open(where.name + "/server.key", "w", encoding="utf-8") as f:
                f.write("no key\n")
            os.kill(node.pid, signal.SIGHUP)
            wait_until(lambda: "former ones stay" in node.log(), 10, "it says that it will not do")
            self.assertIn("[api] tls_key: %s/server.key: holds no private key" % where.name, node.log())
            with node.connect() as s:
                self.assertIn((("commonName", "second"),), s.getpeercert()["subject"])
            kept.sendall(HEAD)
            self.assertIn(b" 200 OK", read_answer(kept))
        node.term()


class Mistakes(Base):
    def refused(self, *words, **api):
        for args in ([], ["-t"]):
            node = TlsNode(self.dir, **api)
            self.addCleanup(node.stop)
            node.args = args
            code, output = node.run_to_end()
            self.assertEqual(code, 2, output)
            self.assertEqual(output.count("\n"), 1, output)
            for word in words:
                self.assertIn(word, output)

    def test_each_wrong_file_is_named_with_its_setting(self):
        def write(name, text, mode=0o600):
            path = os.path.join(self.dir, name)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            os.chmod(path, mode)
            return path

        make_certificate(self.dir, "another", "authority")
        with open(self.dir + "/server.key", encoding="utf-8") as f:
            wide = write("wide.key", f.read(), 0o644)
        locked = os.path.join(self.dir, "locked.key")
        subprocess.run(["openssl", "ec", "-in", self.dir + "/server.key", "-aes128", "-passout", "pass:x",
                        "-out", locked], check=True, capture_output=True, timeout=60)
        os.chmod(locked, 0o600)
        text = write("text", "hello\n")
        self.refused("[api] tls_cert: /nosuch: No such file", tls_cert="/nosuch")
        self.refused("[api] tls_key: /nosuch: No such file", tls_key="/nosuch")
        self.refused("[api] tls_client_ca: /nosuch: No such file", tls_client_ca="/nosuch")
        self.refused("[api] tls_cert: ", "no certificate", tls_cert=text)
        self.refused("[api] tls_key: ", "no private key", tls_key=text)
        self.refused("[api] tls_client_ca: ", "no certificate", tls_client_ca=text)
        self.refused("[api] tls_key: ", "is not the key of", tls_key=self.dir + "/another.key")
        self.refused("[api] tls_key: ", "mode 0644", "chmod 600", tls_key=wide)
        self.refused("[api] tls_key: ", "passphrase", tls_key=locked)
        self.refused("[api] tls_cert needs [api] tls_key", tls_key=None)


if __name__ == "__main__":
    unittest.main()
