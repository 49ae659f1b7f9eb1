# SPDX-License-Identifier: MIT
"""Clients that take their time, that do not wait, or that are too many: what each of them gets, and that
nobody else notices."""

import os
import resource
import select
import socket
import sys
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "support"), HERE]

import test_http_hygiene as raw  # noqa: E402
from exedtest import BUILD, Exed, cpu_seconds, wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

DRIPPERS, EVERY_S, GONE_S, DESCRIPTORS = 500, 2.0, 15, 256
HOSTS = 20000  # so many that their names do not fit into what a connection buffers

exed = None


def setUpModule():
    global exed
    exed = Exed(conf={"api": {"header_timeout": "2s", "send_timeout": "2s", "idle_timeout": "2s"}})
    exed.conf["inventory"]["path"] = exed.write("hosts.ini", "[web]\nweb[00001:%d]\n" % HOSTS)
    exed.start()
    raw.exed = exed


def tearDownModule():
    exed.stop()


def slow(seconds):
    """A GET that is answered after so long."""
    return raw.get("/execute?target=web00001&executor=local&cmd=sleep+%g%%3B+echo+slept" % seconds)


class Order(unittest.TestCase):
    def answers(self, data):
        """[(status, body)] until the connection ends or nothing more comes for the idle limit."""
        found = []
        with raw.Connection(data) as connection:
            while True:
                answer = connection.answer()
                if answer is None:
                    return found
                found.append((answer[0], answer[2]))

    def test_a_slow_request_holds_back_those_behind_it(self):
        got = self.answers(slow(0.5) + raw.get("/target?pattern=web00002") + slow(0.1) + raw.get("/nothing"))
        self.assertEqual([status for status, _ in got], [200, 200, 200, 404])
        self.assertIn("slept", got[0][1])
        self.assertEqual(got[1][1], '["web00002"]')
        self.assertIn("slept", got[2][1])

    def test_a_hundred_at_once_are_answered_in_their_order(self):
        got = self.answers(b"".join(raw.get("/target?pattern=web%05d" % i) for i in range(1, 101)))
        self.assertEqual(got, [(200, '["web%05d"]' % i) for i in range(1, 101)])

    def test_after_what_is_malformed_nothing_is_read(self):
        got = self.answers(raw.get("/target?pattern=web00001") + slow(0.2) + raw.get("/target", "A : b") +
                           raw.post('{"targets": "web00001", "cmd": "true", "executor": "local"}'))
        self.assertEqual([status for status, _ in got], [200, 200, 400])
        self.assertEqual(exed.get("/jobs").body, [])

    def test_a_refused_body_is_no_request(self):
        """Bytes of a body must not be read as the next request."""
        smuggled = raw.post('{"targets": "web00001", "cmd": "true", "executor": "local"}')
        for fields in (["Content-Length: %d" % (9 << 20)], ["Transfer-Encoding: chunked", "Content-Length: 5"],
                       ["Content-Encoding: gzip", "Content-Length: %d" % len(smuggled)]):
            got = self.answers(raw.framed(smuggled, *fields))
            self.assertEqual(len(got), 1, fields)
        self.assertEqual(exed.get("/jobs").body, [])

    def test_100_continue_comes_before_the_body(self):
        with raw.Connection(raw.framed(b"", "Content-Length: 2", "Expect: 100-continue")) as connection:
            self.assertEqual(connection.answer()[0], 100)
            connection.send(b"{}")
            self.assertEqual(connection.answer()[0], 400)

    def test_a_body_that_comes_at_once_is_not_asked_for(self):
        with raw.Connection(raw.framed(b"{}", "Content-Length: 2", "Expect: 100-continue")) as connection:
            self.assertEqual(connection.answer()[0], 400)


class Limits(unittest.TestCase):
    def ended_after(self, connection, limit):
        """Seconds until the server closes, at most limit; what it said before."""
        start, said = time.monotonic(), b""
        while True:
            left = limit * SLOW - (time.monotonic() - start)
            ready, _, _ = select.select([connection.sock], [], [], max(left, 0))
            self.assertTrue(ready, "still open after %g s" % limit)
            try:
                part = connection.sock.recv(65536)
            except ConnectionResetError:
                part = b""
            if not part:
                return time.monotonic() - start, said
            said += part

    def drip(self, connection, data, every, until):
        for i in range(len(data)):
            if until.wait(every):
                return
            connection.send(data[i:i + 1])

    def test_a_header_has_one_deadline_however_it_drips(self):
        with raw.Connection() as connection:
            until = threading.Event()
            dripper = threading.Thread(target=self.drip, args=(
                connection, raw.get("/target", "A: " + "b" * 1000), 0.1, until))
            dripper.start()
            seconds, said = self.ended_after(connection, 8)
            until.set()
            dripper.join()
        self.assertGreater(seconds, 1.5)
        self.assertIn(b"408 ", said.split(b"\r\n")[0])

    def test_who_says_nothing_is_let_go(self):
        with raw.Connection() as connection:
            seconds, said = self.ended_after(connection, 8)
        self.assertGreater(seconds, 1.5)
        self.assertEqual(said, b"")

    def test_an_idle_connection_is_closed(self):
        with raw.Connection(raw.get()) as connection:
            connection.answer()
            seconds, said = self.ended_after(connection, 8)
        self.assertGreater(seconds, 1.5)
        self.assertEqual(said, b"")

    def test_a_body_that_drips_is_given_up_and_one_with_pauses_is_not(self):
        """The rate counts over 10 seconds, so this takes as long."""
        with raw.Connection(raw.framed(b"", "Content-Length: 100000")) as drips, \
                raw.Connection(raw.framed(b"", "Content-Length: 30000")) as pauses:
            until = threading.Event()
            threads = [threading.Thread(target=self.drip, args=(drips, b"x" * 1000, 0.1, until)),
                       threading.Thread(target=self.drip, args=(pauses, b" " * 30000, 0.0, until))]
            pauses.send(b" " * 20000)
            threads[0].start()
            seconds, said = self.ended_after(drips, 20)
            self.assertGreater(seconds, 8)
            self.assertIn(b"408 ", said.split(b"\r\n")[0])
            threads[1].start()
            pauses.send(b" " * 10000)
            self.assertEqual(pauses.answer()[0], 400)
            until.set()
            for thread in threads:
                thread.join()

    def test_who_does_not_read_its_answer_is_let_go(self):
        before = len(exed.fds())
        with raw.Connection(rcvbuf=1024) as connection:
            connection.send(raw.get() * 60)
            wait_until(lambda: len(exed.fds()) > before, 5, "it is connected")
            slowest = 0
            start = time.monotonic()
            while len(exed.fds()) > before:
                self.assertLess(time.monotonic() - start, 15 * SLOW, "still open")
                asked = time.monotonic()
                self.assertEqual(exed.get("/target?pattern=web00001").status, 200)
                slowest = max(slowest, time.monotonic() - asked)
                time.sleep(0.05)
            self.assertGreater(time.monotonic() - start, 1.5)
        print("while somebody did not read, the slowest other answer took %.0f ms" % (slowest * 1000))


class Drippers(unittest.TestCase):
    def test_500_of_them_at_256_descriptors(self):
        wrapper = exed.write("few", "#!/bin/sh\nulimit -n %d\nexec %s \"$@\"\n" % (
            DESCRIPTORS, os.path.join(BUILD, "exed")))
        os.chmod(wrapper, 0o755)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        conf = {"inventory": {"path": exed.write("few.ini", "web01\n")}}
        with Exed(conf=conf, program=wrapper) as few:
            self.attack(few)

    def attack(self, few):
        address = ("127.0.0.1", few.port)
        line = raw.get("/target", "A: " + "b" * 200)
        cpu, start = cpu_seconds(few.pid), time.monotonic()
        sockets = []
        for _ in range(DRIPPERS):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(address)
            sockets.append(s)
        gone, took, sent, next_drip, next_ask = {}, [], 0, start, start
        while len(gone) < DRIPPERS and time.monotonic() - start < 2 * GONE_S * SLOW:
            now = time.monotonic()
            if now >= next_drip:
                for s in sockets:
                    if s not in gone:
                        self.drip(s, line[sent:sent + 1])
                sent, next_drip = sent + 1, next_drip + EVERY_S
            if now >= next_ask:
                asked = time.monotonic()
                self.assertEqual(few.get("/target", timeout=5).status, 200)
                took.append(time.monotonic() - asked)
                next_ask = now + 0.1
            waiting = [s for s in sockets if s not in gone]
            poll = select.poll()
            for s in waiting:
                poll.register(s, select.POLLIN)
            fds = {s.fileno(): s for s in waiting}
            for fd, _ in poll.poll(20):
                if self.has_ended(fds[fd]):
                    gone[fds[fd]] = time.monotonic() - start
        whole = time.monotonic() - start
        share = (cpu_seconds(few.pid) - cpu) / whole
        for s in sockets:
            s.close()
        took.sort()
        print("%d drippers at %d descriptors: gone after %.1f s; %d others answered, half within %.1f ms, all "
              "within %.1f ms; %.1f%% of a core" % (DRIPPERS, DESCRIPTORS, max(gone.values(), default=0), len(took),
                                                   took[len(took) // 2] * 1e3, took[-1] * 1e3, share * 100))
        self.assertEqual(len(gone), DRIPPERS)
        self.assertLess(max(gone.values()), GONE_S * SLOW)
        self.assertLess(took[len(took) // 2], 1.0 * SLOW)
        self.assertLess(took[-1], 5.0 * SLOW)
        self.assertLess(share, 0.5 * SLOW)

    @staticmethod
    def drip(s, byte):
        try:
            s.send(byte)
        except OSError:
            pass  # gone, or not accepted yet

    @staticmethod
    def has_ended(s):
        try:
            return not s.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            return True


if __name__ == "__main__":
    unittest.main()
