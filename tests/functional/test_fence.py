# SPDX-License-Identifier: MIT
"""The fence on the host: its text run by dash, bash and busybox, without exed.

What an op does is counted in a file on "the host", one line for each start, so that twice and never are
seen whatever the fence says of itself.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import BUILD, Exed, Sshd, alive, wait_until, with_marker  # noqa: E402

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]
LOGIN_SHELLS = [["sh"], ["bash"], ["fish"], ["tcsh"], ["busybox", "sh"]]
NOTHING, NEW, ENDED, ALIVE, DIED, CUT, NEVER, NO_PLACE = range(8)  # enum fence_said
SOURCES = ["tests/support/fence_text.c", "runtime/fence.c", "runtime/ssh_quote.c", "runtime/buf.c",
           "runtime/err.c"]

scratch = tool = None


def setUpModule():
    global scratch, tool
    scratch = tempfile.mkdtemp(prefix="exedtest-")
    tool = os.path.join(scratch, "fence_text")
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Iruntime", "-o", tool, *SOURCES], cwd=ROOT, check=True)


def tearDownModule():
    shutil.rmtree(scratch)


class Said:
    """What a run of the text came to."""

    def __init__(self, op_id, code, out, err):
        self.code, self.raw, self.err = code, out, err
        p = subprocess.run([tool, "read", op_id], input=out, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           check=True)
        self.out = p.stdout
        self.said, self.noise = map(int, p.stderr.split())

    @property
    def all(self):
        return self.said, self.code, self.out, self.err


class Host:
    """A home directory, and the shell that runs texts in it."""

    def __init__(self, shell):
        self.shell = shell
        self.home = tempfile.mkdtemp(prefix="home ", dir=scratch)
        self.ops = os.path.join(self.home, ".exed", "ops")
        self.env = {"HOME": self.home, "PATH": os.environ["PATH"], "EXED_TEST_DIR": self.home}

    def path(self, *names):
        return os.path.join(self.home, *names)

    def read(self, *names):
        try:
            with open(self.path(*names), "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def starts(self):
        return self.read("starts").count(b"\n")

    def op_dir(self, op):
        return os.path.join(self.ops, op)

    def left(self, op):
        """The names in the op's directory."""
        return sorted(os.listdir(self.op_dir(op)))

    def start(self, op, text, stdin=subprocess.DEVNULL, before="", env=None, **more):
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([*self.shell, "-c", before + text], stdin=stdin, cwd=self.home,
                                env={**self.env, "EXED_OP": op, **(env or {})}, **more)

    def run(self, op, text, data=None, limit=20, **more):
        p = self.start(op, text, stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL, **more)
        out, err = p.communicate(data, timeout=limit)
        return Said(op, p.returncode, out, err)


def make(*args, data="", tidy=None):
    env = dict(os.environ, FENCE_TIDY=tidy) if tidy else None
    done = subprocess.run([tool, *args], input=data.encode(), stdout=subprocess.PIPE, check=True, env=env)
    return done.stdout.decode()


def wrap(op, command, flags="w", directory="", ttl=0, tidy=None):
    return make("wrap", flags, op, directory, str(ttl), data=command, tidy=tidy)


def forbid(op, directory="", tidy=None):
    return make("forbid", op, directory, tidy=tidy)


def new_op():
    return "%s.0.7.1" % uuid.uuid4()


def counted(command):
    return 'echo x >>"$EXED_TEST_DIR/starts"; ' + command


def each_shell(test):
    """Runs the test with a fresh host for each shell."""
    def run(self):
        for shell in SHELLS:
            with self.subTest(" ".join(shell)):
                test(self, Host(shell))
    return run


class Ops(unittest.TestCase):
    """Knows the ops of a test; what is left of them at its end is ended."""

    def setUp(self):
        self.ops = []

    def op(self):
        self.ops.append(new_op())
        return self.ops[-1]

    def tearDown(self):
        for op in self.ops:
            for pid in with_marker("EXED_OP=" + op):
                os.kill(pid, signal.SIGKILL)

    def pid_of(self, host, op):
        """The pid in the op's pid file, once it is whole."""
        fields = wait_until(lambda: host.read(".exed", "ops", op, "pid").split()[:5], 10, "pid file")
        return int(fields[0])

    def nothing_runs(self, op):
        wait_until(lambda: not with_marker("EXED_OP=" + op), 5, "nothing of the op runs")


class Start(Ops):
    @each_shell
    def test_an_op_runs_and_leaves_output_and_exit_code(self, host):
        for flags in "w", "q":
            op = self.op()
            said = host.run(op, wrap(op, "echo out; echo err >&2; exit 7", flags))
            self.assertEqual(said.all, (NEW, 7, b"out\n", b"err\n"))
            self.assertEqual(host.left(op), ["e", "o", "pid", "rc.7"])
            self.assertEqual(host.read(".exed", "ops", op, "o"), b"out\n")
            self.assertEqual(host.read(".exed", "ops", op, "e"), b"err\n")
            for path in host.op_dir(op), host.ops, os.path.dirname(host.ops):
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o700, path)
            self.nothing_runs(op)

    @each_shell
    def test_a_second_call_after_the_end_tells_the_same_and_runs_nothing(self, host):
        for flags in "w", "q":
            op = self.op()
            text = wrap(op, counted("cat; echo e >&2; exit 9"), flags + "i")
            before = host.starts()
            self.assertEqual(host.run(op, text, b"input").all, (NEW, 9, b"input", b"e\n"))
            self.assertEqual(host.run(op, text, b"other").all, (ENDED, 9, b"input", b"e\n"))
            self.assertEqual(host.starts(), before + 1)

    @each_shell
    def test_output_is_kept_byte_for_byte(self, host):
        data = bytes(range(256)) * 2000 + os.urandom(100001) + b"\0no newline"
        with open(host.path("data"), "wb") as f:
            f.write(data)
        for flags in "w", "q":
            op = self.op()
            text = wrap(op, "cat data; cat data >&2; exit 0", flags)
            self.assertEqual(host.run(op, text).all, (NEW, 0, data, data))
            self.assertEqual(host.run(op, text).all, (ENDED, 0, data, data))
            self.assertEqual(host.read(".exed", "ops", op, "o"), data)

    @each_shell
    def test_of_fifty_starts_at_once_one_runs_and_all_tell_its_end(self, host):
        op = self.op()
        text = wrap(op, counted("echo begun; sleep .3; echo $$; exit 5"))
        runs = [host.start(op, text) for _ in range(50)]
        ends = [Said(op, p.wait(30), *p.communicate()) for p in runs]
        self.assertEqual(host.starts(), 1)
        self.assertEqual({(s.code, s.out, s.err) for s in ends}, {(5, ends[0].out, b"")})
        self.assertEqual(sorted(s.said for s in ends), [NEW] + 49 * [ENDED])

    @each_shell
    def test_the_command_sees_nothing_of_the_fence(self, host):
        show = ('echo "[$x_d$x_o$x_c]"; umask; pwd; echo "$EXED_OP"; ls /proc/self/fd; cat; '
                'grep -E "Sig(Ign|Cgt|Blk)" /proc/self/status; ulimit -n; env | grep -c ^x_')
        for flags in "w", "qi":
            op = self.op()
            plain = Host(["/bin/sh"]).run(op, "cd '%s';" % host.home + show, b"stdin")
            said = host.run(op, wrap(op, show, flags), b"stdin")
            self.assertEqual((said.said, said.code), (NEW, 1))
            self.assertEqual(said.out, plain.raw)
            self.assertIn(b"stdin", said.out)

    @each_shell
    def test_any_command_text_arrives_as_it_is(self, host):
        texts = ["printf '%s' 'a'\\''b'", "echo \"it's\" '!' \\\\ $((1+1))", "echo one\necho two\n\n",
                 "-x; echo after", "cat <<'E'\n$a `b` \\\nE\n", "# only a comment", "", "echo 'é✓'",
                 "x='" + "y" * 130000 + "'; echo ${#x}", "if false; then echo; fi #'"]
        for text in texts:
            with open(host.path("script"), "w", encoding="utf-8") as f:
                f.write(text)
            op = self.op()
            plain = host.run(op, "/bin/sh ./script")
            with open(host.path("text"), "w", encoding="utf-8") as f:
                f.write(wrap(op, text))
            said = host.run(op, ". ./text")
            self.assertEqual((said.said, said.code, said.out), (NEW, plain.code, plain.raw), text[:40])

    @each_shell
    def test_what_a_profile_prints_is_cut_off(self, host):
        op = self.op()
        for noise in ("echo Welcome;", "printf 'no newline';", "echo exed %s other;" % op,
                      "printf 'exed exed %s newer';" % op):
            said = host.run(op, wrap(op, counted("printf x; exit 3")), before=noise)
            self.assertEqual((said.code, said.out), (3, b"x"))
            self.assertGreater(said.noise, 0)
        self.assertEqual(host.starts(), 1)

    @each_shell
    def test_sync_comes_after_the_pid_file_and_before_the_command(self, host):
        op = self.op()
        os.mkdir(host.path("bin"))
        with open(host.path("bin", "sync"), "w", encoding="utf-8") as f:
            f.write('#!/bin/sh\ntest -s "$HOME/.exed/ops/$EXED_OP/pid" && echo sync >>"$HOME/log"\n')
        os.chmod(host.path("bin", "sync"), 0o755)
        env = {"PATH": host.path("bin") + ":" + os.environ["PATH"]}
        said = host.run(op, wrap(op, 'echo run >>"$HOME/log"', "s"), env=env)
        self.assertEqual((said.said, said.code), (NEW, 0))
        self.assertEqual(host.read("log"), b"sync\nrun\n")


class Join(Ops):
    """A second call while the op runs, and after what ran is gone."""

    @each_shell
    def test_readers_that_join_get_all_output_from_the_beginning_as_it_comes(self, host):
        command = counted('for i in 1 2 3 4; do echo $i; echo e$i >&2; while [ ! -e go$i ]; do sleep .02; done; '
                          'done; printf end; exit 4')
        for flags in "w", "q":
            op = self.op()
            text = wrap(op, command, flags)
            before = host.starts()
            runs = [host.start(op, text)]
            self.pid_of(host, op)
            runs += [host.start(op, text, stdin=subprocess.PIPE) for _ in range(2)]
            seen = b""
            while not seen.endswith(b"1\n"):
                seen += os.read(runs[1].stdout.fileno(), 100)
            for i in range(1, 5):
                with open(host.path("go%d" % i), "w", encoding="utf-8"):
                    pass
            ends = [Said(op, p.wait(30), *p.communicate()) for p in (runs[0], runs[2])]
            out, err = runs[1].communicate(timeout=30)
            ends.append(Said(op, runs[1].returncode, seen + out, err))
            for said in ends:
                self.assertEqual((said.code, said.out, said.err), (4, b"1\n2\n3\n4\nend", b"e1\ne2\ne3\ne4\n"))
            self.assertEqual([s.said for s in ends], [NEW, ENDED, ENDED])
            self.assertEqual(host.starts(), before + 1)
            for i in range(1, 5):
                os.unlink(host.path("go%d" % i))

    @each_shell
    def test_output_that_is_still_on_its_way_when_the_command_has_ended_is_waited_for(self, host):
        op = self.op()
        os.mkdir(host.path("bin"))
        with open(host.path("bin", "tee"), "w", encoding="utf-8") as f:
            f.write('#!/bin/sh\nwhile [ ! -e "$HOME/go" ]; do sleep .02; done\nexec /usr/bin/tee "$@"\n')
        os.chmod(host.path("bin", "tee"), 0o755)
        env = {"PATH": host.path("bin") + ":" + os.environ["PATH"]}
        text = wrap(op, "echo late")
        first = host.start(op, text, env=env)
        self.assertEqual(first.wait(10), 0)
        second = host.start(op, text)
        time.sleep(.3)
        with open(host.path("go"), "w", encoding="utf-8"):
            pass
        for p, said in (first, NEW), (second, ENDED):
            self.assertEqual(Said(op, p.wait(10), *p.communicate()).all, (said, 0, b"late\n", b""))

    @each_shell
    def test_joining_leaves_stdin_alone(self, host):
        op = self.op()
        host.run(op, wrap(op, "true"))
        text = "(" + wrap(op, "true") + "); cat >rest"
        host.run(op, text, b"not to be read")
        self.assertEqual(host.read("rest"), b"not to be read")

    @each_shell
    def test_a_killed_wrapper_is_died_with_the_output_so_far(self, host):
        for flags in "w", "q":
            op = self.op()
            text = wrap(op, counted("echo so far; exec sleep 1000"), flags)
            before = host.starts()
            first = host.start(op, text)
            wait_until(lambda: host.read(".exed", "ops", op, "o") == b"so far\n", 10)
            waiting = host.start(op, text)
            os.kill(self.pid_of(host, op), signal.SIGKILL)
            first.wait(10)
            out, err = waiting.communicate(timeout=20)
            for said in Said(op, waiting.returncode, out, err), host.run(op, text):
                self.assertEqual((said.said, said.out), (DIED, b"so far\n"))
            self.assertEqual(host.starts(), before + 1)
            self.tearDown()
            self.assertEqual(Said(op, 0, *first.communicate(timeout=10)).said, NEW)

    @each_shell
    def test_a_killed_command_has_ended_by_its_signal(self, host):
        for flags in "w", "q":
            op = self.op()
            text = wrap(op, "echo $$ >it; echo x; kill -9 $$", flags)
            self.assertEqual(host.run(op, text).all, (NEW, 137, b"x\n", b""))
            self.assertEqual(host.run(op, text).all, (ENDED, 137, b"x\n", b""))

    @each_shell
    def test_with_the_reader_gone_the_command_goes_on_to_its_end(self, host):
        command = counted("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i 0123456789012345678901234567890123456789; "
                          "echo e$i >&2; done; echo last; exit 6")
        for late in False, True:
            op = self.op()
            text = wrap(op, ("sleep .3;" if late else "") + command)
            p = host.start(op, text)
            if late:
                self.pid_of(host, op)
            p.stdout.close()
            p.stderr.close()
            self.assertEqual(p.wait(30), 6)
            said = host.run(op, text)
            self.assertEqual((said.said, said.code), (ENDED, 6))
            self.assertEqual(said.out.count(b"\n"), 3001)
            self.assertTrue(said.out.endswith(b" 0123456789012345678901234567890123456789\nlast\n"))
            self.assertTrue(said.err.endswith(b"e3000\n"))
        self.assertEqual(host.starts(), 2)

    @each_shell
    def test_a_hangup_does_not_end_the_fence(self, host):
        op = self.op()
        p = host.start(op, wrap(op, "echo a; while [ ! -e go ]; do sleep .02; done; exit 8"))
        wait_until(lambda: host.read(".exed", "ops", op, "o") == b"a\n", 10)
        for pid in [int(n) for n in host.read(".exed", "ops", op, "pid").split()[::3]] + [p.pid]:
            os.kill(pid, signal.SIGHUP)
        with open(host.path("go"), "w", encoding="utf-8"):
            pass
        self.assertEqual(Said(op, p.wait(10), *p.communicate()).all, (NEW, 8, b"a\n", b""))

    @each_shell
    def test_an_op_of_an_earlier_boot_has_died_though_its_pid_runs(self, host):
        op = self.op()
        p = host.start(op, wrap(op, "sleep 1000"))
        self.pid_of(host, op)
        fields = host.read(".exed", "ops", op, "pid").split()
        for change in (1, b"1"), (2, b"00000000-0000-0000-0000-000000000000"):
            other = list(fields)
            other[change[0]] = change[1]
            with open(os.path.join(host.op_dir(op), "pid"), "wb") as f:
                f.write(b" ".join(other) + b"\n")
            self.assertEqual(host.run(op, wrap(op, "true")).said, DIED)
        self.tearDown()
        p.communicate(timeout=10)

    @each_shell
    def test_a_directory_just_made_is_given_time_for_its_pid(self, host):
        op, late = self.op(), self.op()
        host.run(op, wrap(op, "echo done"))
        os.makedirs(host.op_dir(late))
        p = host.start(late, wrap(late, counted("true")))
        time.sleep(.4)
        self.assertIsNone(p.poll())
        for name in "o", "e", "pid", "rc.0":
            shutil.copy(os.path.join(host.op_dir(op), name), host.op_dir(late))
        self.assertEqual(Said(late, p.wait(10), *p.communicate()).all, (ENDED, 0, b"done\n", b""))
        self.assertEqual(host.starts(), 0)

    def test_a_directory_without_a_pid_has_died_after_a_few_seconds(self):
        host, op = Host(["dash"]), self.op()
        os.makedirs(host.op_dir(op))
        begun = time.monotonic()
        self.assertEqual(host.run(op, wrap(op, counted("true"))).said, DIED)
        self.assertGreater(time.monotonic() - begun, 3)
        self.assertLess(time.monotonic() - begun, 12)
        self.assertEqual(host.starts(), 0)

    @each_shell
    def test_a_daemon_does_not_hold_up_the_exit_code(self, host):
        daemon = counted("echo begun; (sleep 30; echo late) & exit 3")
        for flags in "w", "q":
            op = self.op()
            p = host.start(op, wrap(op, daemon, flags))
            self.assertEqual(p.wait(10), 3)  # sshd sends the exit status at that moment
            begun = time.monotonic()
            second = host.run(op, wrap(op, daemon, flags))
            self.assertEqual(second.all, (ENDED, 3, b"begun\n", b""))
            self.assertLess(time.monotonic() - begun, 8)
            if flags == "q":
                self.assertEqual(Said(op, 3, *p.communicate(timeout=5)).all, (NEW, 3, b"begun\n", b""))
            self.tearDown()
            p.communicate(timeout=10)


class Place(Ops):
    """Where the directory cannot be, and who takes it."""

    def refused(self, host, op, **more):
        said = host.run(op, wrap(op, counted("true"), **more.pop("wrap", {})), **more)
        self.assertEqual((said.said, said.out), (NO_PLACE, b""))
        self.assertNotEqual(said.err, b"")
        self.assertEqual(host.starts(), 0)

    @each_shell
    def test_without_a_home_nothing_runs(self, host):
        self.refused(host, self.op(), env={"HOME": ""})
        self.refused(host, self.op(), env={"HOME": "relative"})
        self.refused(host, self.op(), before="unset HOME;")
        self.refused(host, self.op(), env={"HOME": "/dev/null"})
        self.refused(host, self.op(), env={"HOME": "/proc/1"})
        self.refused(host, self.op(), wrap={"directory": "/dev/null/x"})

    @each_shell
    def test_where_a_file_is_in_the_way_nothing_runs(self, host):
        op = self.op()
        os.makedirs(host.ops)
        with open(host.op_dir(op), "w", encoding="utf-8"):
            pass
        self.refused(host, op)
        os.rename(host.op_dir(op), host.path("file"))
        os.rmdir(host.ops)
        os.rename(host.path("file"), host.ops)
        self.refused(host, op)

    @each_shell
    def test_in_a_directory_that_others_may_write_to_nothing_runs(self, host):
        op, where = self.op(), host.path("shared")
        os.mkdir(where)
        for mode in (0o770, 0o707, 0o1777, 0o720, 0o702):
            os.chmod(where, mode)
            self.refused(host, op, wrap={"directory": where})
            self.assertEqual(host.run(op, forbid(op, where)).said, NO_PLACE)
            self.assertEqual(os.listdir(where), [], "%o" % mode)
        os.chmod(where, 0o755)
        link = host.path("link")
        os.symlink(where, link)
        self.refused(host, op, wrap={"directory": link})
        self.assertEqual(host.run(op, wrap(op, counted("true"), directory=where)).said, NEW)
        # What is there does not count either, once others could have put it there.
        os.chmod(where, 0o777)
        self.assertEqual(host.run(op, wrap(op, counted("true"), directory=where)).said, NO_PLACE)
        self.assertEqual(host.starts(), 1)
        self.assertTrue(os.path.exists(os.path.join(where, op, "rc.0")))

    @each_shell
    def test_in_the_directory_of_somebody_else_nothing_runs(self, host):
        if os.getuid():
            self.skipTest("only root can give a directory away")
        where = host.path("theirs")
        os.mkdir(where, 0o700)
        os.chown(where, 65534, -1)
        self.refused(host, self.op(), wrap={"directory": where})
        self.assertEqual(os.listdir(where), [])

    def mounted(self, host, *options):
        where = host.path("mnt")
        os.mkdir(where)
        p = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", where],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if p.returncode:
            self.skipTest("mounting is not permitted here")
        self.addCleanup(subprocess.run, ["umount", "-l", where], check=True)
        return where

    @each_shell
    def test_on_a_read_only_disk_nothing_runs(self, host):
        self.refused(host, self.op(), wrap={"directory": self.mounted(host, "ro")})

    @each_shell
    def test_on_a_full_disk_nothing_runs_also_later(self, host):
        op, where = self.op(), self.mounted(host, "size=64k,mode=700")
        with open(os.path.join(where, "fill"), "wb") as f:
            try:
                f.write(bytes(1 << 17))
            except OSError:
                pass
        self.refused(host, op, wrap={"directory": where})
        os.unlink(os.path.join(where, "fill"))
        self.assertEqual(host.run(op, wrap(op, counted("true"), directory=where)).said, NEVER)
        self.assertEqual(host.starts(), 0)

    @each_shell
    def test_a_command_that_fills_the_disk_leaves_its_exit_code(self, host):
        op, where = self.op(), self.mounted(host, "size=64k,mode=700")
        text = wrap(op, "head -c 200000 /dev/zero; exit 12", directory=where)
        said = host.run(op, text)
        self.assertEqual((said.said, said.code, said.out), (NEW, 12, bytes(200000)))
        said = host.run(op, text)
        self.assertEqual((said.said, said.code), (ENDED, 12))

    @each_shell
    def test_the_directory_may_be_set(self, host):
        for given, real in (("~/a b", "a b"), ("$HOME/c'd", "c'd"), (host.path("e$f`g`"), "e$f`g`"), ("~", "")):
            op = self.op()
            self.assertEqual(host.run(op, wrap(op, "true", directory=given)).said, NEW)
            self.assertTrue(os.path.exists(host.path(real, op, "rc.0")))

    @each_shell
    def test_an_op_that_was_forbidden_never_runs(self, host):
        op = self.op()
        said = host.run(op, forbid(op))
        self.assertEqual((said.said, said.code, said.out), (NEW, 0, b""))
        self.assertEqual(host.run(op, wrap(op, counted("true"))).said, NEVER)
        self.assertEqual(host.run(op, forbid(op)).said, NEVER)
        self.assertEqual(host.starts(), 0)

    @each_shell
    def test_forbidding_tells_what_is_there(self, host):
        op = self.op()
        p = host.start(op, wrap(op, "echo out; while [ ! -e go ]; do sleep .02; done; exit 5"))
        pid = self.pid_of(host, op)
        self.assertEqual(host.run(op, forbid(op)).said, ALIVE)
        self.assertTrue(alive(pid))
        with open(host.path("go"), "w", encoding="utf-8"):
            pass
        self.assertEqual(p.wait(10), 5)
        p.communicate(timeout=10)
        self.assertEqual(host.run(op, forbid(op)).all, (ENDED, 5, b"", b""))
        os.unlink(os.path.join(host.op_dir(op), "rc.5"))
        self.assertEqual(host.run(op, forbid(op)).said, DIED)
        self.assertEqual(host.run(op, forbid(op, "/dev/null/x")).said, NO_PLACE)

    @each_shell
    def test_what_an_op_may_have_left_is_taken_away_when_it_died_or_may_not_start(self, host):
        tidy = 'echo "$x_o" >>"$EXED_TEST_DIR/tidied"; echo noise; echo noise >&2; exit 3'

        def tidied(op):
            return host.read("tidied").decode().split().count(op)

        op = self.op()
        self.assertEqual(host.run(op, forbid(op, tidy=tidy)).all, (NEW, 0, b"", b""))
        self.assertEqual(tidied(op), 1)
        self.assertEqual(host.run(op, wrap(op, counted("true"), tidy=tidy)).said, NEVER)
        op = self.op()
        p = host.start(op, wrap(op, "echo out; while [ ! -e go ]; do sleep .02; done; exit 5", tidy=tidy))
        self.pid_of(host, op)
        self.assertEqual(host.run(op, forbid(op, tidy=tidy)).said, ALIVE)
        with open(host.path("go"), "w", encoding="utf-8"):
            pass
        p.communicate(timeout=10)
        for text in (wrap(op, "true", tidy=tidy), forbid(op, tidy=tidy)):
            self.assertEqual(host.run(op, text).said, ENDED)
        self.assertEqual(tidied(op), 0)
        os.unlink(os.path.join(host.op_dir(op), "rc.5"))
        self.assertEqual(host.run(op, wrap(op, "true", tidy=tidy)).all, (DIED, 1, b"out\n", b""))
        self.assertEqual(host.run(op, forbid(op, tidy=tidy)).all, (DIED, 1, b"", b""))
        self.assertEqual(tidied(op), 2)

    @each_shell
    def test_forbidding_and_starting_at_once_one_wins(self, host):
        for _ in range(10):
            op = self.op()
            before = host.starts()
            start, stop = host.start(op, wrap(op, counted("true"))), host.start(op, forbid(op))
            started = Said(op, start.wait(20), *start.communicate())
            stopped = Said(op, stop.wait(20), *stop.communicate())
            if stopped.said == NEW:
                self.assertEqual((started.said, host.starts()), (NEVER, before))
            else:
                self.assertIn(stopped.said, (ENDED, ALIVE))
                self.assertEqual((started.said, host.starts()), (NEW, before + 1))

    @each_shell
    def test_old_ends_are_swept_and_nothing_else(self, host):
        old = time.time() - 8 * 86400
        ops = {name: self.op() for name in ("ended", "young", "forbidden", "died", "runs", "sweeper")}
        for name in "ended", "young", "died":
            host.run(ops[name], wrap(ops[name], "true"))
        host.run(ops["forbidden"], forbid(ops["forbidden"]))
        os.unlink(os.path.join(host.op_dir(ops["died"]), "rc.0"))
        p = host.start(ops["runs"], wrap(ops["runs"], "while [ ! -e go ]; do sleep .02; done"))
        self.pid_of(host, ops["runs"])
        wait_until(lambda: "1" not in host.left(ops["runs"]), 10, "fifos are gone")
        for name in "not.an.op.dir", "plain":
            os.makedirs(os.path.join(host.ops, name, "x"))
            os.utime(os.path.join(host.ops, name), (old, old))
        for name in "ended", "forbidden", "died", "runs":
            os.utime(host.op_dir(ops[name]), (old, old))
        host.run(ops["sweeper"], wrap(ops["sweeper"], "true", ttl=7 * 86400))
        left = [ops[name] for name in ("young", "runs", "sweeper")] + ["not.an.op.dir", "plain", ".swept"]
        self.assertEqual(sorted(os.listdir(host.ops)), sorted(left))
        with open(host.path("go"), "w", encoding="utf-8"):
            pass
        p.communicate(timeout=10)

    def test_one_call_sweeps_a_bounded_number(self):
        host = Host(["dash"])
        old = time.time() - 8 * 86400
        for _ in range(40):
            path = host.op_dir(new_op())
            os.makedirs(path)
            with open(os.path.join(path, "no"), "w", encoding="utf-8"):
                pass
            os.utime(path, (old, old))
        op = self.op()
        host.run(op, wrap(op, "true", ttl=7 * 86400))
        self.assertEqual(len(os.listdir(host.ops)), 9)
        op = self.op()
        host.run(op, wrap(op, "true", ttl=7 * 86400))
        self.assertEqual(sorted(os.listdir(host.ops)), sorted(self.ops + [".swept"]))

    @each_shell
    def test_sweeping_waits_an_hour_of_the_same_boot(self, host):
        def sweeps():
            op, old = self.op(), time.time() - 8 * 86400
            host.run(op, wrap(op, "true"))
            os.utime(host.op_dir(op), (old, old))
            other = self.op()
            self.assertEqual(host.run(other, wrap(other, "exit 9", ttl=7 * 86400)).code, 9)
            return not os.path.exists(host.op_dir(op))

        def stamp(text):
            with open(os.path.join(host.ops, ".swept"), "w", encoding="utf-8") as f:
                f.write(text)

        self.assertTrue(sweeps())
        self.assertFalse(sweeps())
        boot, since = host.read(".exed", "ops", ".swept").decode().split()
        for text in ("other-boot %s\n" % since, "%s -3600\n" % boot, "%s 1.2.3\n" % boot, boot, "", "\0x y z\n"):
            stamp(text)
            self.assertTrue(sweeps(), text)
        stamp("%s %d\n" % (boot, int(since) - 3500))
        self.assertFalse(sweeps())


class OverSsh(Ops):
    """The text as ssh_exec sends it: into login shells, and through an sshd whose connection breaks."""

    @staticmethod
    def request(op, text):
        line, _, head = make("line", op, data=text).partition("\n")
        return line, head.encode()

    def test_every_login_shell_runs_it_alike(self):
        for shell in LOGIN_SHELLS:
            with self.subTest(" ".join(shell)):
                host, op = Host(shell), self.op()
                line, head = self.request(op, wrap(op, counted("echo \"it's !\" \\\\\\\\; cat; exit 3"), flags="i"))
                for said in NEW, ENDED:
                    p = subprocess.run([*shell, "-c", line], input=head + b"in\n", env=host.env, cwd=host.home,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20, check=False)
                    self.assertEqual(Said(op, p.returncode, p.stdout, p.stderr).all,
                                     (said, 3, b"it's ! \\\n" + b"in\n", b""))
                self.assertEqual(host.starts(), 1)

    def test_an_op_outlives_its_connection_and_is_joined_over_another(self):
        with Sshd(1) as sshd:
            host = sshd.hosts[0]
            ssh = ["ssh", "-F", "none", "-T", "-i", sshd.key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
                   "-o", "UserKnownHostsFile=" + sshd.known_hosts, "-p", str(host.port), host.address]
            op = self.op()
            command = counted('echo one; while [ ! -e "$EXED_TEST_DIR/go" ]; do sleep .02; done; cat; exit 11')
            line, head = self.request(op, wrap(op, command))
            first = subprocess.Popen([*ssh, line], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            first.stdin.write(head + b"input")
            first.stdin.close()
            seen = b""
            while not seen.endswith(b"one\n"):
                seen += os.read(first.stdout.fileno(), 100)
            first.kill()
            first.wait(10)
            first.stdout.close()
            second = subprocess.Popen([*ssh, line], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE)
            second.stdin.write(head)
            second.stdin.flush()
            # What it had said may come with the header.
            begun = os.read(second.stdout.fileno(), 4096)
            self.assertTrue(begun.startswith(b"exed %s old\n" % op.encode()), begun)
            with open(os.path.join(host.dir, "go"), "w", encoding="utf-8"):
                pass
            out, err = second.communicate(timeout=20)
            said = Said(op, second.returncode, begun + out, err)
            self.assertEqual(said.all, (ENDED, 11, b"one\ninput", b""))
            self.assertEqual(host.read("starts"), "x\n")


# Runs one fenced plan on hosts 1..n of a private sshd and prints each record as a line.
FAN_OUT = """
local fanout, timer = require "exed.fanout", require "exed.timer"
local address, port, n, op, settle, limit = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4], arg[5], arg[6]
local hosts, indexes = {}, {}
for i = 1, n do
  hosts[i] = fanout.host { name = "web" .. i, address = address .. i, port = port }
  indexes[i] = i
end
local run = assert(fanout.start({
  transport = "ssh", command = arg[7], stdin = "in", verdict = { [0] = 5, default = 3 }, op = op, fence = true,
  quiet = arg[8] == "quiet", timeout = tonumber(limit), group = op,
  settle_until = settle == "settle" and timer.now() + 30 or nil, output_cap = 1 << 20,
}, hosts, indexes))
while true do
  local list = run:next(60)
  if not list then break end
  for _, entry in ipairs(list) do
    if entry.kind == "record" then print(entry.index, entry.data) end
  end
end
"""


class FanOut(Ops):
    """Fenced plans of a fan-out on real sshd, by exed-run."""

    HOSTS = 10

    def setUp(self):
        super().setUp()
        self.sshd = self.enterContext(Sshd(self.HOSTS))
        self.exed = Exed(hosts=self.sshd)
        self.addCleanup(self.exed.stop)
        self.exed.write_conf()
        self.script = self.exed.write("fan_out.lua", FAN_OUT)
        self.job = "%s.0" % uuid.uuid4()
        self.ops = ["%s.%d.1" % (self.job, i + 1) for i in range(self.HOSTS)]

    def start(self, command, settle="", limit=60, quiet=""):
        return subprocess.Popen(
            [os.path.join(BUILD, "exed-run"), "-c", self.exed.path("exed.conf"), self.script, "127.0.1.",
             str(self.sshd.port), str(self.HOSTS), self.job, settle, str(limit), command, quiet],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=self.exed.dir)

    def records(self, p):
        out, _ = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 0)
        found = {int(line.split(b"\t")[0]): json.loads(line.split(b"\t")[1]) for line in out.splitlines()}
        self.assertEqual(sorted(found), list(range(1, self.HOSTS + 1)))
        return found.values()

    def starts(self):
        return [host.read("starts").count("x") for host in self.sshd.hosts]

    def test_a_node_that_is_killed_is_followed_by_one_that_joins(self):
        command = counted('echo a; cat; while [ ! -e "$EXED_TEST_DIR/go" ]; do sleep .05; done; echo b; exit 4')
        for quiet in "", "quiet":
            self.job = "%s.0" % uuid.uuid4()
            self.ops += ["%s.%d.1" % (self.job, i + 1) for i in range(self.HOSTS)]
            before = self.starts()[0]
            first = self.start(command, quiet=quiet)
            wait_until(lambda: sum(self.starts()[:7]) == 7 * (before + 1), 20, "some hosts have started")
            first.kill()
            first.communicate()
            second = self.start(command, "settle", quiet=quiet)
            time.sleep(.5)
            for host in self.sshd.hosts:
                with open(os.path.join(host.dir, "go"), "w", encoding="utf-8"):
                    pass
            for _ in range(2):
                for record in self.records(second):
                    self.assertEqual((record.get("rtc"), record["stdout"]), (4, "a\ninb\n"), record)
                self.assertEqual(self.starts(), self.HOSTS * [before + 1])
                second = self.start(command, "settle", quiet=quiet)
            second.kill()
            second.communicate()
            for host in self.sshd.hosts:
                os.unlink(os.path.join(host.dir, "go"))

    def test_a_limit_kills_what_a_fenced_op_runs(self):
        for record in self.records(self.start(counted("sleep 300 & sleep 300"), limit=2)):
            self.assertEqual((record["status"], record["timed_out"], record["survivors"]), (3, True, 0))
        self.assertEqual(self.sshd.running("sleep"), [])
        for record in self.records(self.start(counted("true"), "settle")):
            self.assertEqual((record["status"], record.get("unknown"), record.get("rtc")), (3, True, None))
        self.assertEqual(self.starts(), self.HOSTS * [1])

    def test_a_home_that_cannot_be_written_is_told(self):
        for host in self.sshd.hosts:
            with open(os.path.join(host.dir, ".exed"), "w", encoding="utf-8"):
                pass
        for record in self.records(self.start(counted("true"))):
            self.assertEqual((record["status"], "unknown" in record, "rtc" in record), (3, False, False))
            self.assertTrue(record["error"].startswith("no place for the fence: mkdir"), record)
        self.assertEqual(self.starts(), self.HOSTS * [0])


if __name__ == "__main__":
    unittest.main()
