# SPDX-License-Identifier: MIT
"""Sending files to real sshd hosts, from the command line and from tasks: what is in place is the old file or the
new one, whole; a copy that was cut off leaves nothing; the same file twice changes nothing."""

import glob
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import unittest
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import BUILD, Exed, Sshd, wait_until  # noqa: E402
from exedtest.copying import left, read, sparse, stalled_dd, write  # noqa: E402
from exedtest.exedrun import OnHosts  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

OK, CHANGED = 1, 5
DONE, FAILURE = 0, 2

# A sum that waits for a file: what has been received is there and whole, and is not in place yet.
SLOW_SUM = """#!/bin/sh
sum=$(/usr/bin/sha256sum)
[ ! -e "$EXED_TEST_DIR/slow" ] || {
  echo >"$EXED_TEST_DIR/summing"
  while [ ! -e "$EXED_TEST_DIR/go" ]; do sleep .05; done
}
echo "$sum"
"""

ONCE = """
return {
  summary = "sends one file", args = { dest = { "path", required = true } },
  run = function(job) return job.hosts[1]:copy({ src = "big", dest = job.args.dest }).status end,
}"""

TASKS = {
    "once": ONCE, "many": ONCE, "tree": ONCE,
    "sends": """
return {
  summary = "sends files", args = { dir = { "path", required = true } },
  run = function(job)
    local dir = job.args.dir
    local function put(fields) return job.hosts:copy(fields) end
    local first = put { src = "plain", dest = dir .. "/HOST", mode = "0640" }
    local again = put { src = "plain", dest = dir .. "/HOST", mode = "0640" }
    put { template = "t.conf", vars = { port = 80, name = "n" }, dest = dir .. "/t" }
    put { src = "tree", dest = dir .. "/tree" }
    local kept = put { content = "new", dest = dir .. "/HOST", backup = true }
    local fresh = put { content = "new", dest = dir .. "/fresh", backup = true }
    local now = job.hosts[1]:fetch { src = dir .. "/HOST" }
    job.hosts:restore(kept)
    job.hosts:restore(fresh)
    local gone = job.hosts[1]:fetch({ src = dir .. "/fresh", check = false }).error
    return {
      first = first[1].status, again = again[1].status, checksum = first[1].checksum,
      now = now.content, back = job.hosts[1]:fetch { src = dir .. "/HOST" }.content,
      gone = gone,
    }
  end,
}""",
    "wrong": """
return {
  summary = "sends what it cannot", args = { fields = { "object", required = true } },
  run = function(job) return job.hosts[1]:copy(job.args.fields).status end,
}""",
    "edited": """
return {
  summary = "its files are edited while it runs",
  args = { files = { "path", required = true }, dir = { "path", required = true } },
  run = function(job)
    local host, dir = job.hosts[1], job.args.dir
    local function fill(name)
      host:copy { template = "t", vars = { n = name }, dest = dir .. "/" .. name }
      return host:fetch({ src = dir .. "/" .. name }).content
    end
    local one = fill "one"
    host:copy { src = "f", dest = dir .. "/f" }
    host:copy { src = "d", dest = dir .. "/d" }
    local same = host:copy({ src = "d", dest = dir .. "/d" }).status
    host:execute { "sh", "-c", "cd " .. job.args.files .. " && echo new >f && echo new >t && chmod 700 d/sub/x" }
    local _, err = job:try(function() host:copy { src = "f", dest = dir .. "/f" } end)
    local _, wrong = job:try(function() host:copy { src = "d", dest = dir .. "/d" } end)
    return { one, fill "two", err.message, host:fetch({ src = dir .. "/f" }).content, same, wrong.message }
  end,
}""",
}


# Ends what runs on the host before call number $EXED_TEST_DIR/die; calls are counted.
DYING_MV = """#!/bin/sh
echo "$*" >>"$EXED_TEST_DIR/mvs"
n=$(grep -c . <"$EXED_TEST_DIR/mvs")
if [ "$n" = "$(cat "$EXED_TEST_DIR/die" 2>/dev/null)" ]; then
  while [ -e "$EXED_TEST_DIR/wait" ] && [ ! -e "$EXED_TEST_DIR/go" ]; do sleep .05; done
  kill -9 0
fi
[ "$1" != --exchange ] || exit 1
exec /bin/mv "$@"
"""


def dying_mv(case, host, call, **files):
    """The host's mv is that, and dies before that call. files: others of the host's, by name."""
    for name, data in {"die": str(call), "mvs": "", **files}.items():
        case.addCleanup(os.remove, write(os.path.join(host.dir, name), data.encode()))
    case.addCleanup(os.remove, write(os.path.join(host.dir, "bin", "mv"), DYING_MV.encode(), 0o755))


class CommandLine(OnHosts):
    def copy(self, *args, code=0, data=""):
        out, err = self.run_text("copy", *args, code=code, data=data)
        return sorted(out.splitlines()), err

    def setUp(self):
        super().setUp()
        self.target = self.path("target")
        os.makedirs(self.target)

    def one(self):
        return self.hosts.hosts[0]

    def test_a_file_is_sent_once_and_its_mode_is_kept(self):
        source = write(self.path("a"), os.urandom(300000), 0o755)
        dest = os.path.join(self.one().dir, "a")
        self.assertEqual(self.copy("web01", source, dest)[0], ["web01: changed"])
        self.assertEqual(read(dest), read(source))
        self.assertEqual(stat.S_IMODE(os.stat(dest).st_mode), 0o644)
        self.assertEqual(self.copy("web01", source, dest)[0], ["web01: ok"])
        self.assertEqual(self.copy("-m", "0600", "web01", source, dest)[0], ["web01: changed"])
        self.assertEqual(self.copy("-m", "0600", "web01", source, dest)[0], ["web01: ok"])
        write(source, b"other")
        self.assertEqual(self.copy("web01", source, dest)[0], ["web01: changed"])
        self.assertEqual((read(dest), stat.S_IMODE(os.stat(dest).st_mode)), (b"other", 0o600))
        self.assertEqual(left(self.one().dir), [])

    def test_empty_files_stdin_and_odd_names(self):
        name = "it's \"$(touch pwned)\" \\ é\nx; touch pwned"
        dest = os.path.join(self.target, name)
        self.assertEqual(self.copy("web01", "-", dest, data="")[0], ["web01: changed"])
        self.assertEqual(read(dest), b"")
        self.assertEqual(self.copy("web01", "-", dest, data="text\n")[0], ["web01: changed"])
        self.assertEqual(read(dest), b"text\n")
        self.assertEqual(glob.glob(os.path.join(self.one().dir, "pwned")), [])
        self.assertEqual(os.listdir(self.target), [name])

    def test_a_directory_with_modes_and_links(self):
        tree = self.path("tree")
        write(os.path.join(tree, "sub", "run.sh"), b"#!/bin/sh\n", 0o755)
        write(os.path.join(tree, "a b"), b"x")
        os.symlink("a b", os.path.join(tree, "link"))
        dest = os.path.join(self.target, "tree")
        self.assertEqual(self.copy("web01", tree, dest)[0], ["web01: changed"])
        self.assertEqual(self.copy("web01", tree, dest)[0], ["web01: ok"])
        self.assertEqual(os.readlink(os.path.join(dest, "link")), "a b")
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(dest, "sub", "run.sh")).st_mode), 0o755)
        os.remove(os.path.join(tree, "a b"))
        self.assertEqual(self.copy("web01", tree, dest)[0], ["web01: changed"])
        self.assertEqual(sorted(os.listdir(dest)), ["link", "sub"])
        self.assertEqual(os.listdir(self.target), ["tree"])

    def test_with_the_tools_of_busybox(self):
        busybox = shutil.which("busybox")
        for name in ("cat", "chmod", "chown", "cksum", "dd", "find", "ln", "mkdir", "mv", "rm", "sha256sum", "sort",
                     "stat", "tar"):
            os.makedirs(os.path.join(self.one().dir, "bin"), exist_ok=True)
            link = os.path.join(self.one().dir, "bin", name)
            os.symlink(busybox, link)
            self.addCleanup(os.remove, link)
        source = write(self.path("a"), os.urandom(200001), 0o755)
        dest = os.path.join(self.target, "a")
        for word in ("changed", "ok"):
            self.assertEqual(self.copy("-m", "0751", "--backup", "web01", source, dest)[0], ["web01: " + word])
        self.assertEqual((read(dest), stat.S_IMODE(os.stat(dest).st_mode)), (read(source), 0o751))
        write(os.path.join(self.path("tree"), "sub", "x"), b"x", 0o700)
        for word in ("changed", "ok"):
            self.assertEqual(self.copy("web01", self.path("tree"), os.path.join(self.target, "tree"))[0],
                             ["web01: " + word])
        self.assertEqual(read(os.path.join(self.target, "tree", "sub", "x")), b"x")
        self.assertEqual(sorted(os.listdir(self.target)), ["a", "tree"])

    def test_old_leftovers_are_swept_and_young_ones_let_be(self):
        old = write(os.path.join(self.target, ".exed-%s.0.0.1.77" % uuid.uuid4()), b"x")
        young = write(os.path.join(self.target, ".exed-%s.0.0.1.78" % uuid.uuid4()), b"x")
        other = write(os.path.join(self.target, ".exed-mine"), b"x")
        for path in (old, other):
            os.utime(path, (1, 1))
        self.copy("web01", "-", os.path.join(self.target, "a"), data="x")
        self.assertEqual(sorted(os.listdir(self.target)), sorted(["a", os.path.basename(young), ".exed-mine"]))

    def test_what_cannot_be_written_says_why_and_leaves_nothing(self):
        source = write(self.path("a"), b"x" * 100000)
        os.makedirs(os.path.join(self.target, "dir"))
        for dest, why in ((self.path("none/b"), "there is no directory"),
                          (os.path.join(self.target, "dir"), "is a directory"),
                          ("/proc/exed", "cannot write in /proc"), ("/dev/full/x", "there is no directory")):
            self.assertIn(why, self.copy("web01", source, dest, code=1)[1])
        err = self.copy("-o", "nosuchuser", "web01", source, os.path.join(self.target, "b"), code=1)[1]
        self.assertIn("nosuchuser", err)
        self.assertEqual(os.listdir(self.target), ["dir"])
        for dest, why in (("relative", "absolute"), (self.target + "/", "names a directory")):
            self.assertIn(why, self.copy("web01", source, dest, code=2)[1])
        self.assertIn("octal", self.copy("-m", "rw", "web01", source, "/x", code=2)[1])
        self.assertIn("there is no file", self.copy("web01", self.path("nosuch"), "/x", code=2)[1])

    def test_a_disk_that_is_full(self):
        """A limit of file size stands for it: dd sees the same, an error of write."""
        host = self.one()
        dd = write(os.path.join(host.dir, "bin", "dd"),
                   b"#!/bin/sh\nulimit -f 64\ntrap '' XFSZ\nexec /bin/dd \"$@\"\n", 0o755)
        self.addCleanup(os.remove, dd)
        dest = write(os.path.join(self.target, "a"), b"old")
        err = self.copy("web01", write(self.path("big"), b"x" * 200000), dest, code=1)[1]
        self.assertIn("cannot write it there: File too large", err)
        self.assertEqual((read(dest), os.listdir(self.target)), (b"old", ["a"]))

    def test_a_directory_is_the_old_or_the_new_one_wherever_it_is_killed(self):
        """Before each mv in turn everything on the host is killed: what is in place is whole, and the next one is good."""
        host, dest = self.one(), os.path.join(self.target, "tree")
        tree = self.path("tree")
        write(os.path.join(dest, "a"), b"old")
        whole = ((1, b"old"), (2, b"old"), (3, b"old"), (4, b"new"), (9, b"new"))
        # The exchange that this mv has not; dest aside; the new one in; the old one away. Then the lot is done.
        for backup, calls in (((), whole), (("--backup",), whole[2:])):
            for call, there in calls:
                write(os.path.join(dest, "a"), b"old")
                write(os.path.join(tree, "a"), b"new")
                write(os.path.join(host.dir, "mvs"), b"")
                dying_mv(self, host, call) if call == 1 and not backup else write(
                    os.path.join(host.dir, "die"), str(call).encode())
                said = self.copy("-q", *backup, "web01", tree, dest, code=call < 9)[0]
                self.assertEqual(read(os.path.join(dest, "a")), there, (call, said))
                kept = [name for name in os.listdir(self.target) if name.startswith("tree.exed-")]
                self.assertEqual(sorted(os.listdir(self.target)), sorted(["tree", *kept]), call)
                self.assertEqual(len(kept), len(backup) if there == b"new" else 0, call)
                for name in kept:
                    self.assertEqual(read(os.path.join(self.target, name, "a")), b"old")
                    shutil.rmtree(os.path.join(self.target, name))

    def test_what_was_cut_off_between_two_renames_is_put_right_by_the_next_copy(self):
        """Of whatever outcome: the old directory is back before anything else is looked at."""
        dest, tree, op = os.path.join(self.target, "tree"), self.path("tree"), "%s.0.0.1" % uuid.uuid4()
        number = subprocess.run(["cksum"], input=b"tree", capture_output=True, check=True).stdout.split()[0].decode()
        other = os.path.join(self.target, ".exed-old-%s0.%s" % (number, op))
        write(os.path.join(tree, "a"), b"x")
        write(os.path.join(other, "a"), b"of another")
        write(os.path.join(self.target, ".exed-old-%s.%s" % (number, op), "a"), b"x")
        self.assertEqual(self.copy("web01", tree, dest)[0], ["web01: ok"])
        self.assertEqual(sorted(os.listdir(self.target)), sorted(["tree", os.path.basename(other)]))
        write(os.path.join(self.target, ".exed-keep-%s.%s" % (number, op), "a"), b"kept")
        write(os.path.join(self.target, ".exed-old-%s.%s" % (number, op), "a"), b"trash")
        self.assertEqual(self.copy("web01", tree, dest)[0], ["web01: ok"])
        self.assertEqual(sorted(os.listdir(self.target)), sorted(["tree", "tree.exed-" + op, os.path.basename(other)]))
        self.assertEqual(read(os.path.join(self.target, "tree.exed-" + op, "a")), b"kept")

    def test_many_hosts_at_once_replace_one_directory(self):
        """All of them are this machine, again and again: one after the other, and none is put into another."""
        dest = os.path.join(self.target, "tree")
        for i in range(4):
            write(os.path.join(self.path("tree"), "a"), b"%d" % i)
            write(os.path.join(dest, "a"), b"old")
            out, _ = self.run_text("copy", "--json", "-q", "web*", self.path("tree"), dest)
            self.assertLessEqual({json.loads(line)["status"] for line in out.splitlines()}, {OK, CHANGED})
            self.assertEqual((os.listdir(dest), read(os.path.join(dest, "a"))), (["a"], b"%d" % i))
            self.assertEqual(os.listdir(self.target), ["tree"])

    def slow(self, *hosts):
        for host in hosts:
            for name in ("slow", "summing", "go"):
                path = os.path.join(host.dir, name)
                self.addCleanup(lambda path=path: os.path.exists(path) and os.remove(path))
            self.addCleanup(os.remove, write(os.path.join(host.dir, "bin", "sha256sum"), SLOW_SUM.encode(), 0o755))
            write(os.path.join(host.dir, "slow"), b"")

    def summing(self, host):
        return os.path.exists(os.path.join(host.dir, "summing"))

    def test_ctrl_c_leaves_the_old_file_and_nothing_else(self):
        host = self.one()
        self.slow(host)
        dest = write(os.path.join(self.target, "a"), b"old")
        child = self.start("copy", "web01", write(self.path("new"), b"new!"), dest)
        wait_until(lambda: self.summing(host), 20, "the file has arrived")
        self.assertEqual(len(left(self.target)), 1)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
        self.assertEqual(child.returncode, 130)
        self.assertEqual((read(dest), os.listdir(self.target)), (b"old", ["a"]))

    def test_a_sender_that_is_killed_leaves_the_old_file_and_nothing_else(self):
        host = self.one()
        dest = write(os.path.join(self.target, "a"), b"old")
        begun, go = self.path("begun"), self.path("go")
        self.addCleanup(os.remove, stalled_dd(host, begun, go, eats=5))
        child = self.start("copy", "web01", sparse(self.path("big"), 64 << 20), dest)
        wait_until(lambda: os.path.exists(begun), 20, "it is being sent")
        child.kill()
        child.communicate()
        write(go, b"")
        wait_until(lambda: os.listdir(self.target) == ["a"], 20, "nothing left")
        self.assertEqual(read(dest), b"old")

    def test_many_hosts_at_once_write_one_file(self):
        """All of them are this machine: each has a temporary file of its own, and one after the other is renamed."""
        source = write(self.path("a"), os.urandom(2 << 20))
        out, _ = self.run_text("copy", "--json", "-q", "web*", source, os.path.join(self.target, "x"))
        records = [json.loads(line) for line in out.splitlines()]
        self.assertEqual({record["host"] for record in records}, {host.name for host in self.hosts.hosts})
        self.assertIn(CHANGED, {record["status"] for record in records})
        self.assertLessEqual({record["status"] for record in records}, {OK, CHANGED})
        self.assertEqual((read(os.path.join(self.target, "x")), os.listdir(self.target)), (read(source), ["x"]))

    def test_fetch(self):
        path = write(self.path("f"), b"one\ntwo\n")
        self.assertEqual(self.run_text("fetch", "-N", "-q", "web01", path)[0], "one\ntwo\n")
        self.assertIn("web01: one\n", self.run_text("fetch", "web01", path)[0])
        self.assertIn("at most 5 are fetched", self.run_text("fetch", "--max", "5", "web01", path, code=1)[1])
        self.assertIn("No such file", self.run_text("fetch", "web01", self.path("none"), code=1)[1])
        self.assertIn("at most", self.run_text("fetch", "--max", "1m", "web01", path, code=2)[1])


class Tasks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(2)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.exed = Exed(cls.sshd, {"runner": {}, "store": {"node_timeout": "2s"}})
        cls.modules = cls.exed.path("modules")
        cls.exed.conf["runner"]["modules"] = cls.modules
        cls.outside = cls.exed.path("outside")
        cls.exed.conf["tasks"] = {"local_files": cls.outside}
        for name, text in TASKS.items():
            write(os.path.join(cls.modules, "tasks", name + ".lua"), text.encode())
        files = os.path.join(cls.modules, "tasks", "files")
        write(os.path.join(files, "sends", "plain"), b"plain text\n")
        write(os.path.join(files, "sends", "t.conf"), b"listen {{ port }} {{name}};\n{ {port} }\n")
        write(os.path.join(files, "sends", "tree", "sub", "x"), b"x")
        write(os.path.join(files, "wrong", "bad.conf"), b"{{ por }}")
        write(os.path.join(files, "once", "big"), os.urandom(1 << 20))
        write(os.path.join(files, "edited", "f"), b"old")
        write(os.path.join(files, "edited", "t"), b"old {{ n }}")
        write(os.path.join(files, "edited", "d", "sub", "x"), b"x", 0o600)
        write(os.path.join(files, "edited", "d", "a\n b"), b"x")
        write(os.path.join(cls.outside, "artifact"), b"artifact")
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start(limit=30)

    def run_task(self, name, targets="all", executor="ssh", **opts):
        answer = self.exed.post("/tasks", {"targets": targets, "taskname": name, "taskopts": opts,
                                           "executor": executor})
        self.assertEqual(answer.status, 201, answer.body)
        return answer.body["jid"]

    def exed_run(self, *args):
        done = subprocess.run([os.path.join(BUILD, "exed-run"), "-c", self.exed.path("exed.conf"), *args], text=True,
                              cwd=self.exed.dir, stdin=subprocess.DEVNULL, timeout=60 * SLOW, capture_output=True,
                              env=self.exed.environment(), check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_files_templates_trees_backups_and_what_is_put_back(self):
        target = self.exed.path("target")
        os.makedirs(target)
        job = self.exed.wait_job(self.run_task("sends", "web01", dir=target))
        self.assertEqual((job["state"], job["error"]), (DONE, ""))
        value = job["value"]
        self.assertEqual((value["first"], value["again"]), ("CHANGED", "OK"))
        self.assertEqual(value["checksum"], hashlib.sha256(b"plain text\n").hexdigest())
        self.assertEqual((value["now"], value["back"]), ("new", "plain text\n"))
        self.assertIn("No such file", value["gone"])
        self.assertEqual(read(os.path.join(target, "t")), b"listen 80 n;\n{ {port} }\n")
        self.assertEqual(read(os.path.join(target, "tree", "sub", "x")), b"x")
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(target, "HOST")).st_mode), 0o640)
        self.assertEqual(sorted(os.listdir(target)), ["HOST", "t", "tree"])

    def test_a_node_and_then_its_op_are_killed_between_two_renames_and_the_old_directory_is_back(self):
        host, dest = self.sshd.hosts[1], self.exed.path("site")
        write(os.path.join(dest, "a"), b"old")
        write(os.path.join(self.modules, "tasks", "files", "tree", "big", "a"), b"new")
        dying_mv(self, host, 3, wait="")
        jid = self.run_task("tree", host.name, dest=dest)
        wait_until(lambda: host.read("mvs").count("\n") == 3, 20, "it is between the two")
        self.assertFalse(os.path.exists(dest))
        self.exed.kill9()
        write(os.path.join(host.dir, "go"), b"")
        self.addCleanup(os.remove, os.path.join(host.dir, "go"))
        self.exed.start(limit=30)
        job = self.exed.wait_job(jid)
        self.assertEqual(job["state"], FAILURE)
        self.assertIn("left no exit code", job["error"])
        self.assertEqual((os.listdir(dest), read(os.path.join(dest, "a"))), (["a"], b"old"))
        self.assertEqual(left(os.path.dirname(dest)), [])

    def test_while_a_file_is_sent_the_job_tells_how_much_has_gone(self):
        host, size = self.sshd.hosts[0], 64 << 20
        sparse(os.path.join(self.modules, "tasks", "files", "many", "big"), size)
        begun, go, dest = (self.exed.path(name) for name in ("sending", "send_on", "sent"))
        self.addCleanup(os.remove, stalled_dd(host, begun, go))
        jid = self.run_task("many", host.name, dest=dest)
        path = "/jobs/%s?detail=1" % jid

        def rows():
            return self.exed.get(path).body["running"]

        wait_until(lambda: os.path.exists(begun), 20, "it is being sent")
        wait_until(lambda: rows() and rows()[0]["sent"] > 0, 20, "how much is told")
        row = rows()[0]
        self.assertEqual((row["host"], row["phase"], row["size"]), (host.name, "sending", size))
        self.assertLess(row["sent"], size)
        self.assertRegex(self.exed_run("jobs", jid), r"web01: sending for \d+ s, \d\.\d MiB of 64\.0 MiB\n")
        write(go, b"")
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["value"], os.path.getsize(dest)), (DONE, "CHANGED", size))

    def test_a_job_keeps_its_templates_and_notices_other_files_that_change(self):
        target = self.exed.path("edited")
        os.makedirs(target)
        job = self.exed.wait_job(self.run_task(
            "edited", "web01", dir=target, files=os.path.join(self.modules, "tasks", "files", "edited")))
        self.assertEqual(job["error"], "")
        one, two, said, now, same, wrong = job["value"]
        self.assertEqual((one, two, now, same), ("old one", "old two", "old", "OK"))
        self.assertIn("edited/f' has changed since this job first sent it", said)
        self.assertIn("edited/d' has changed since this job first sent it", wrong)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(target, "d", "sub", "x")).st_mode), 0o600)

    def test_executors_ansible_and_local_send_files_too(self):
        dest = self.exed.path("by")
        for executor in ("ansible", "local"):
            fields = {"dest": dest, "content": executor}
            job = self.exed.wait_job(self.run_task("wrong", "web01", executor, fields=fields))
            self.assertEqual((job["error"], job["value"], read(dest)), ("", "CHANGED", executor.encode()))

    def test_what_may_not_be_sent_says_why(self):
        dest = self.exed.path("never")
        for fields, why in (
                ({"dest": dest}, "one of src, content and template, got none"),
                ({"dest": dest, "src": "a", "content": "b"}, "got src and content"),
                ({"dest": "rel", "content": "b"}, "absolute"),
                ({"dest": dest, "content": "b", "mode": "rwx"}, "mode"),
                ({"dest": dest, "src": "nosuch"}, "there is no file tasks/files/wrong/nosuch"),
                ({"dest": dest, "src": "../sends/plain"}, "no . or .."),
                ({"dest": dest, "src": "/etc/passwd"}, "[tasks] local_files"),
                ({"dest": dest, "src": self.outside + "/../x"}, "no . or .."),
                ({"dest": dest, "template": "bad.conf", "vars": {"port": 1}}, "por"),
                ({"dest": dest, "content": "b", "contents": "c"}, "contents")):
            job = self.exed.wait_job(self.run_task("wrong", "web01", fields=fields))
            self.assertEqual(job["state"], FAILURE, fields)
            self.assertIn(why, job["error"])
        self.assertFalse(os.path.exists(dest))
        fields = {"dest": dest, "src": self.outside + "/artifact"}
        job = self.exed.wait_job(self.run_task("wrong", "web01", fields=fields))
        self.assertEqual((job["state"], job["value"], read(dest)), (DONE, "CHANGED", b"artifact"))

    def test_a_node_that_is_killed_while_it_sends_goes_on_and_says_changed(self):
        host = self.sshd.hosts[1]
        write(os.path.join(host.dir, "bin", "sha256sum"), SLOW_SUM.encode(), 0o755)
        write(os.path.join(host.dir, "slow"), b"")
        dest = os.path.join(host.dir, "once")
        jid = self.run_task("once", host.name, dest=dest)
        wait_until(lambda: os.path.exists(os.path.join(host.dir, "summing")), 20, "the file has arrived")
        self.exed.kill9()
        write(os.path.join(host.dir, "go"), b"")
        self.exed.start(limit=30)
        job = self.exed.wait_job(jid)
        self.assertEqual((job["state"], job["error"], job["value"]), (DONE, "", "CHANGED"))
        self.assertEqual(read(dest), read(os.path.join(self.modules, "tasks", "files", "once", "big")))
        wait_until(lambda: not left(host.dir), 20, "nothing left")


if __name__ == "__main__":
    unittest.main()
