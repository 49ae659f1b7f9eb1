# SPDX-License-Identifier: MIT
"""What sending a file promises, line by line, from exed-run: the fan-out's window and limits, the checksum, one
rename, mode and owner; odd files, odd names, odd places; and copies that are killed at any moment."""

import glob
import grp
import json
import os
import pwd
import random
import socket
import stat
import sys
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import wait_until  # noqa: E402
from exedtest.copying import left, read, sparse, stalled_dd, write  # noqa: E402
from exedtest.exedrun import OnHosts  # noqa: E402

# Says so when another one receives at the same time.
ALONE_DD = """#!/bin/sh
case $* in *if=*) exec /bin/dd "$@";; esac
mkdir %(busy)s 2>/dev/null || echo >%(two)s
sleep .1
/bin/dd "$@"
code=$?
rmdir %(busy)s
exit $code
"""


class Copies(OnHosts):
    def setUp(self):
        super().setUp()
        self.target = self.path("target")
        os.makedirs(self.target)
        self.one = self.hosts.hosts[0]

    def copy(self, *args, code=0):
        out, err = self.run_text("copy", *args, code=code)
        return sorted(out.splitlines()), err

    def at(self, name):
        return os.path.join(self.target, name)

    def dd(self, text, *hosts):
        for host in hosts or [self.one]:
            self.addCleanup(os.remove, write(os.path.join(host.dir, "bin", "dd"), text.encode(), 0o755))


class Promises(Copies):
    def test_the_window_holds(self):
        two = self.path("two")
        self.dd(ALONE_DD % {"busy": self.path("busy"), "two": two}, *self.hosts.hosts)
        source = write(self.path("a"), b"x" * 1000)
        self.copy("-f", "1", "web", source, self.at("one_by_one"))
        self.assertFalse(os.path.exists(two))
        self.copy("-f", "4", "web", source, self.at("together"))
        self.assertTrue(os.path.exists(two))

    def test_over_its_time_limit_it_is_killed_and_leaves_nothing(self):
        dest = write(self.at("a"), b"old")
        self.addCleanup(os.remove, stalled_dd(self.one, self.path("begun"), self.path("never")))
        err = self.copy("-t", "1", "web01", write(self.path("b"), b"new"), dest, code=1)[1]
        self.assertIn("killed at its time limit", err)
        self.assertEqual((read(dest), os.listdir(self.target)), (b"old", ["a"]))

    def test_longer_than_max_file_is_refused_and_nothing_is_asked_of_hosts(self):
        with open(self.conf, "a", encoding="utf-8") as f:
            f.write("max_file = 1k\n")
        for size, code in ((1024, 0), (1025, 2)):
            err = self.copy("-q", "web01", sparse(self.path("a"), size), self.at("a%d" % size), code=code)[1]
        self.assertIn("1025 bytes, and at most 1024", err)
        write(os.path.join(self.path("tree"), "a"), b"x" * 2000)
        self.assertIn("more than 1024 bytes", self.copy("web01", self.path("tree"), self.at("tree"), code=2)[1])
        self.assertEqual(os.listdir(self.target), ["a1024"])

    def test_what_arrives_otherwise_than_it_was_sent_never_gets_into_place(self):
        dest = write(self.at("a"), b"old")
        go = write(self.path("go"), b"")
        self.addCleanup(os.remove, stalled_dd(self.one, self.path("begun"), go, eats=5))
        for source in (write(self.path("b"), b"x" * 100000), self.path("tree")):
            write(os.path.join(self.path("tree"), "a"), b"x")
            place = dest if os.path.isfile(source) else self.at("tree")
            self.assertIn("what arrived is not what was sent", self.copy("web01", source, place, code=1)[1])
            self.assertEqual((read(dest), os.listdir(self.target)), (b"old", ["a"]))

    def test_a_reader_sees_the_old_file_or_the_new_one(self):
        dest, texts = self.at("a"), [bytes([65 + i]) * 200000 for i in range(2)]
        write(dest, texts[1])
        seen, stop = set(), threading.Event()

        def look():
            while not stop.is_set():
                seen.add(read(dest))

        reader = threading.Thread(target=look)
        reader.start()
        try:
            for i in range(4):
                self.copy("-q", "web01", write(self.path("b"), texts[i % 2]), dest)
        finally:
            stop.set()
            reader.join()
        self.assertEqual(seen, set(texts))

    @unittest.skipIf(os.getuid(), "only root can give files away")
    def test_mode_owner_and_group(self):
        user, group = pwd.getpwnam("daemon"), grp.getgrnam("mail")
        source = write(self.path("a"), b"x")
        write(os.path.join(self.path("tree"), "sub", "x"), b"x", 0o640)
        flags = ["-q", "-o", "daemon", "-g", "mail", "web01"]
        for what, place, more in ((source, "a", ["-m", "2750"]), (self.path("tree"), "tree", [])):
            for word in ("changed", "ok"):
                self.assertEqual(self.copy(*more, *flags, what, self.at(place))[0], ["web01: " + word])
            for path in (self.at(place), *glob.glob(self.at(place) + "/*"), *glob.glob(self.at(place) + "/*/*")):
                found = os.stat(path)
                self.assertEqual((found.st_uid, found.st_gid), (user.pw_uid, group.gr_gid), path)
        self.assertEqual(stat.S_IMODE(os.stat(self.at("a")).st_mode), 0o2750)
        self.assertEqual(stat.S_IMODE(os.stat(self.at("tree/sub/x")).st_mode), 0o640)
        # What is there keeps its owner when nobody says another.
        self.copy("-q", "web01", write(source, b"y"), self.at("a"))
        self.assertEqual((os.stat(self.at("a")).st_uid, read(self.at("a"))), (user.pw_uid, b"y"))

    def test_killed_at_any_moment_and_done_again(self):
        """Each time a whole file is there; what was killed leaves nothing for long."""
        chance, size = random.Random(11), 6 << 20
        begun = time.monotonic()
        self.copy("-q", "web01", write(self.path("a"), chance.randbytes(size)), self.at("a"))
        whole = time.monotonic() - begun
        sent = [read(self.at("a"))]
        for _ in range(4):
            new = chance.randbytes(size)
            sent.append(new)
            child = self.start("copy", "-q", "web01", write(self.path("a"), new), self.at("a"))
            time.sleep(chance.random() * whole)
            child.kill()
            child.communicate()
            self.assertIn(read(self.at("a")), sent)  # what a killed one has sent whole may come late
        self.assertIn(self.copy("-q", "web01", self.path("a"), self.at("a"))[0], (["web01: changed"], ["web01: ok"]))
        self.assertEqual(read(self.at("a")), new)
        wait_until(lambda: not left(self.target), 20, "nothing left")


class OddThings(Copies):
    def test_a_source_that_is_no_file(self):
        os.mkfifo(self.path("fifo"))
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.path("socket"))
        for name, why in (("fifo", "no regular file"), ("socket", "No such device"), ("nosuch", "there is no file")):
            self.assertIn(why, self.copy("web01", self.path(name), self.at("x"), code=2)[1])
        self.assertIn("no regular file", self.copy("web01", "/dev/null", self.at("x"), code=2)[1])
        self.assertEqual(os.listdir(self.target), [])

    def test_a_link_is_followed_as_a_source_and_replaced_as_a_destination(self):
        source = write(self.path("a"), b"new")
        os.symlink(source, self.path("link"))
        other = write(self.path("other"), b"other")
        for name, to in (("to_file", other), ("to_nothing", self.path("nosuch"))):
            os.symlink(to, self.at(name))
            self.assertEqual(self.copy("-q", "web01", self.path("link"), self.at(name))[0], ["web01: changed"])
            self.assertFalse(os.path.islink(self.at(name)))
            self.assertEqual(read(self.at(name)), b"new")
        self.assertEqual((read(other), os.path.exists(self.path("nosuch"))), (b"other", False))
        os.makedirs(self.path("dir"))
        os.symlink(self.path("dir"), self.at("to_dir"))
        self.assertIn("is a directory", self.copy("web01", source, self.at("to_dir"), code=1)[1])
        write(os.path.join(self.path("tree"), "a"), b"x")
        self.assertIn("is no directory", self.copy("web01", self.path("tree"), self.at("to_dir"), code=1)[1])
        self.assertEqual((os.listdir(self.path("dir")), left(self.target)), ([], []))

    def test_a_tree_with_everything_in_it(self):
        tree = self.path("tree")
        for name in ("-rf", "a\nb", " ", "'\"$(touch pwned)", "*", "é"):
            write(os.path.join(tree, name, "-x"), name.encode())
        write(os.path.join(tree, "empty"), b"", 0o400)
        sparse(os.path.join(tree, "sparse"), 3 << 20)
        os.makedirs(os.path.join(tree, "nothing in it"))
        os.mkfifo(os.path.join(tree, "fifo"), 0o600)
        os.symlink("/nonexistent/\nx", os.path.join(tree, "dangling"))
        for word in ("changed", "ok"):
            self.assertEqual(self.copy("-q", "web01", tree, self.at("-t *"))[0], ["web01: " + word])

        def listing(top):
            return sorted((os.path.relpath(os.path.join(at, name), top), os.lstat(os.path.join(at, name)).st_mode)
                          for at, dirs, files in os.walk(top) for name in dirs + files)

        self.assertEqual(listing(self.at("-t *")), listing(tree))
        self.assertEqual(read(self.at("-t */a\nb/-x")), b"a\nb")
        self.assertEqual(os.path.getsize(self.at("-t */sparse")), 3 << 20)
        self.assertEqual(os.readlink(self.at("-t */dangling")), "/nonexistent/\nx")
        self.assertEqual(os.listdir(self.target), ["-t *"])

    def test_names_that_look_like_options(self):
        os.chdir(self.dir)
        self.addCleanup(os.chdir, ROOT)
        write(self.path("-n"), b"x")
        self.assertEqual(self.copy("-q", "--", "web01", "-n", self.at("-n"))[0], ["web01: changed"])
        self.assertEqual(self.copy("-q", "web01", "./-n", self.at("--help\n-rf"))[0], ["web01: changed"])
        self.assertEqual(sorted(os.listdir(self.target)), ["--help\n-rf", "-n"])

    def test_a_place_that_cannot_be_written(self):
        source = write(self.path("a"), b"x" * 100000)
        for dest, why in (("/proc/sys/x", "cannot write in /proc/sys"), ("/dev/null/x", "there is no directory")):
            self.assertIn(why, self.copy("web01", source, dest, code=1)[1])

    def test_what_is_sent_stays_what_it_was_when_it_was_opened(self):
        """A file that is written to while it is sent: the host misses what was opened, and says so."""
        go, source = self.path("go"), sparse(self.path("big"), 32 << 20)
        dest = write(self.at("a"), b"old")
        self.addCleanup(os.remove, stalled_dd(self.one, self.path("begun"), go))
        child = self.start("copy", "--json", "-q", "web01", source, dest)
        wait_until(lambda: os.path.exists(self.path("begun")), 20, "it is being sent")
        with open(source, "r+b") as f:
            f.seek(31 << 20)
            f.write(b"another")
        write(go, b"")
        out, _ = child.communicate(timeout=60)
        record = json.loads(out)
        self.assertEqual(record["status"], 3)
        self.assertIn("what arrived is not what was sent: it was cut off or has changed", json.dumps(record))
        self.assertEqual((read(dest), os.listdir(self.target)), (b"old", ["a"]))


if __name__ == "__main__":
    unittest.main()
