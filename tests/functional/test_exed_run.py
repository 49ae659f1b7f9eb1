# SPDX-License-Identifier: MIT
"""exed-run at the shell: operations on real sshd hosts without a server, and what comes of Ctrl-C.

Exit codes: 0 all hosts went well, 1 some did not, 2 wrong usage, 130 interrupted.
"""

import base64
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import BUILD, Fleet, Sshd, alive, free_port, wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

PROGRAM = os.path.join(BUILD, "exed-run")
LIMIT = 60 * SLOW
OUTCOME = re.compile(r"^exed-run: (\d+) hosts?: (.*) in \d+\.\d s$", re.M)


def clean_env(**more):
    return dict({k: v for k, v in os.environ.items() if not k.startswith("EXED_")}, **more)


class Case(unittest.TestCase):
    """Runs exed-run with the settings that `hosts` needs."""

    hosts = None

    @classmethod
    def write_conf(cls, fixture, **ssh):
        lines = ["[ssh]", "known_hosts = " + fixture.known_hosts, "agent = none"]
        lines += ["%s = %s" % pair for pair in ssh.items()]
        lines += ["[inventory]", "path = " + fixture.inventory]
        cls.conf = fixture.write("exed-run.conf", "\n".join(lines) + "\n")

    def command(self, *args):
        return [PROGRAM, "-c", self.conf, *args]

    def start(self, *args, **kw):
        """A running exed-run; it is ended with the test."""
        child = subprocess.Popen(self.command(*args), stdin=kw.pop("stdin", subprocess.DEVNULL),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env(), **kw)

        def end():
            if child.poll() is None:
                child.kill()
            child.communicate()

        self.addCleanup(end)
        return child

    def run_bytes(self, *args, code=0, data=b"", **kw):
        done = subprocess.run(self.command(*args), input=data, capture_output=True, timeout=LIMIT,
                              env=clean_env(), check=False, **kw)
        self.assertEqual(done.returncode, code, done.stdout[-3000:] + b"\n" + done.stderr[-3000:])
        return done.stdout, done.stderr

    def run_text(self, *args, code=0, data="", **kw):
        out, err = self.run_bytes(*args, code=code, data=data.encode(), **kw)
        return out.decode(), err.decode()

    def outcome(self, err):
        found = OUTCOME.findall(err)
        self.assertEqual(len(found), 1, err)
        return int(found[0][0]), found[0][1]


class Hosts(Case):
    """Four real hosts."""

    @classmethod
    def setUpClass(cls):
        cls.hosts = Sshd(4).start()
        cls.write_conf(cls.hosts)

    @classmethod
    def tearDownClass(cls):
        cls.hosts.stop()

    def all_names(self):
        return [host.name for host in self.hosts.hosts]


class Exec(Hosts):
    def test_each_line_has_its_host_and_its_stream(self):
        out, err = self.run_text("exec", "web", 'echo "one $EXED_TEST_HOST"; echo two; echo bad >&2')
        lines = sorted("%s: %s" % (name, text) for name in self.all_names() for text in ("one " + name, "two"))
        self.assertEqual(sorted(out.splitlines()), lines)
        notes = [line for line in err.splitlines() if not line.startswith("exed-run: ")]
        self.assertEqual(sorted(notes), sorted(name + ": bad" for name in self.all_names()))
        self.assertEqual(self.outcome(err), (4, "4 ok"))

    def test_lines_come_while_the_command_runs(self):
        host = self.hosts.host["web02"]
        child = self.start("exec", "web02", "echo first; until [ -e $EXED_TEST_DIR/go ]; do sleep 0.05; done; "
                                            "echo second")
        self.assertEqual(child.stdout.readline(), b"web02: first\n")
        self.assertIsNone(child.poll())
        with open(os.path.join(host.dir, "go"), "w", encoding="utf-8"):
            pass
        self.assertEqual(child.communicate(timeout=LIMIT)[0], b"web02: second\n")
        self.assertEqual(child.returncode, 0)

    def test_a_failure_is_a_line_and_the_exit_code(self):
        out, err = self.run_text("exec", "web", 'test $EXED_TEST_HOST != web03 || exit 7; echo fine', code=1)
        self.assertEqual(sorted(out.splitlines()), ["web01: fine", "web02: fine", "web04: fine"])
        self.assertIn("exed-run: web03: failed: exit code 7\n", err)
        self.assertEqual(self.outcome(err), (4, "3 ok, 1 failed"))

    def test_an_end_without_newline_is_a_line_too(self):
        self.assertEqual(self.run_text("exec", "web01", "printf 'a\\nb'")[0], "web01: a\nweb01: b\n")
        self.assertEqual(self.run_text("exec", "web01", "true")[0], "")

    def test_one_word_is_read_by_sh_and_several_are_arguments(self):
        self.assertEqual(self.run_text("exec", "web01", "echo $((1 + 1)) | tr 2 3")[0], "web01: 3\n")
        words = ["a  b", "*", "$HOME", "it's", "-n", "", "x\ny", "back\\slash", "!", "é"]
        for form in (["exec", "web01", "--"], ["exec", "web01"], ["exec", "--", "web01"]):
            out = self.run_text(*form, "printf", "<%s>", *words)[0]
            self.assertEqual(out.replace("\nweb01: ", "\n"), "web01: " + "".join("<%s>" % w for w in words) + "\n")
        self.assertEqual(self.run_text("exec", "web01", "--", "if", code=1)[0], "")  # a program, not sh's word

    def test_without_prefix_the_bytes_are_the_host_s(self):
        path = os.path.join(self.hosts.host["web01"].dir, "bytes")
        data = os.urandom(300000) + b"no newline at the end"
        with open(path, "wb") as f:
            f.write(data)
        self.assertEqual(self.run_bytes("exec", "-N", "web01", "--", "cat", path)[0], data)
        self.assertEqual(self.run_bytes("exec", "-N", "web01", "printf 'a\\377'")[0], b"a\xff")
        out = self.run_bytes("exec", "web01", "printf '\\033[1m\\377\\n'")[0]
        self.assertEqual(out, b"web01: \x1b[1m\xff\n")  # not a terminal: as it came

    def test_stdin_reaches_every_host(self):
        data = os.urandom(200000)
        out = self.run_bytes("exec", "-b", "web", "sha256sum", data=data)[0].decode()
        self.assertRegex(out, r"\A== web\[01-04\] \(4 hosts\)\n[0-9a-f]{64}  -\n\Z")
        self.assertEqual(self.run_bytes("exec", "-N", "web01", "cat", data=data)[0], data)
        self.assertEqual(self.run_text("exec", "-n", "web01", "cat; echo end", data="x")[0], "web01: end\n")

    def test_files_for_input_and_output(self):
        data = os.urandom(300000)
        source, target = self.hosts.write("in", ""), os.path.join(self.hosts.dir, "out")
        with open(source, "wb") as f:
            f.write(data)
        with open(source, "rb") as stdin, open(target, "wb") as stdout:
            subprocess.run(self.command("exec", "-N", "web01", "cat"), stdin=stdin, stdout=stdout, check=True,
                           stderr=subprocess.DEVNULL, env=clean_env(), timeout=LIMIT)
        with open(target, "rb") as f:
            self.assertEqual(f.read(), data)

    def test_stdin_over_its_bound_runs_nothing(self):
        _, err = self.run_text("exec", "--max-stdin", "1k", "web", "touch $EXED_TEST_DIR/over", data="x" * 1025, code=2)
        self.assertIn("more than 1024 bytes", err)
        self.assertEqual([h.name for h in self.hosts.hosts if os.path.exists(os.path.join(h.dir, "over"))], [])
        self.run_text("exec", "--max-stdin", "1k", "web01", "cat", data="x" * 1024)

    def test_stdin_that_does_not_end_runs_nothing(self):
        child = self.start("exec", "--stdin-timeout", "0.3s", "web", "touch $EXED_TEST_DIR/late", stdin=subprocess.PIPE)
        child.stdin.write(b"x")
        child.stdin.flush()
        self.assertEqual(child.wait(LIMIT), 2)
        self.assertIn(b"standard input did not end within 0.3 s (--stdin-timeout)", child.stderr.read())
        self.assertEqual([h.name for h in self.hosts.hosts if os.path.exists(os.path.join(h.dir, "late"))], [])

    def test_json_has_a_record_for_each_host(self):
        out, _ = self.run_text("exec", "--json", "web", 'echo "é"; printf "\\377" >&2; test $EXED_TEST_HOST = web01',
                               code=1)
        records = {row["host"]: row for row in map(json.loads, out.splitlines())}
        self.assertEqual(sorted(records), self.all_names())
        for name, row in records.items():
            self.assertEqual((row["status"], row["rtc"]), (5, 0) if name == "web01" else (3, 1))
            self.assertEqual((row["stdout"], row["stderr"], row["stderr_b64"]), ("é\n", "\ufffd", "/w=="))

    def test_json_has_long_outputs_whole(self):
        out, _ = self.run_text("exec", "--json", "web01", "seq 100000; head -c 100000 /dev/zero | tr '\\0' '\\377' >&2")
        row = json.loads(out)
        self.assertEqual(row["stdout"], "".join("%d\n" % i for i in range(1, 100001)))
        self.assertEqual(base64.b64decode(row["stderr_b64"]), b"\xff" * 100000)

    def test_folded_outputs_are_shown_once(self):
        out, err = self.run_text("exec", "--fold", "web", "test $EXED_TEST_HOST != web02 || { echo odd; exit; }; "
                                                         "test $EXED_TEST_HOST != web04 || exit 3; echo same", code=1)
        self.assertEqual(out, "== web[01,03] (2 hosts)\nsame\n== web02 (1 host)\nodd\n")
        self.assertIn("exed-run: web04 (1 host): failed: exit code 3\n", err)
        out, err = self.run_text("exec", "-b", "web", "seq 20000; echo bad >&2")
        self.assertEqual(out, "== web[01-04] (4 hosts)\n" + "".join("%d\n" % i for i in range(1, 20001)))
        self.assertIn("\nweb[01-04]: bad\n", "\n" + err)

    def test_facts_by_name_and_what_no_host_knows(self):
        out, err = self.run_text("facter", "web01,web02", "kernel", "os.id", "processors.count", "kernl", "os.id.x")
        self.assertEqual(len(out.splitlines()), 6, out)
        self.assertIn("web01: kernel: Linux\n", out)
        self.assertRegex(out, r"web02: os.id: \w+\n(.*\n)*web02: processors.count: \d+\n")
        self.assertIn("exed-run: no host has a fact 'kernl', did you mean 'kernel'?\n", err)
        self.assertIn("no host has a fact 'os.id.x'", err)

    def test_a_time_limit_kills(self):
        started = time.monotonic()
        _, err = self.run_text("exec", "-t", "1", "web[01:02]", "sleep 4321; true", code=1)
        self.assertLess(time.monotonic() - started, 60 * SLOW)
        for name in ("web01", "web02"):
            self.assertIn("exed-run: %s: failed: killed at its time limit\n" % name, err)
        self.assertEqual(self.hosts.running("4321"), [])

    def test_the_command_line_s_login_wins(self):
        _, err = self.run_text("exec", "--key", self.hosts.wrong_key, "web01", "echo hi", code=1)
        self.assertRegex(err, r"exed-run: web01: unreachable: login refused")
        _, err = self.run_text("exec", "--user", "nosuchuser", "web01", "echo hi", code=1)
        self.assertRegex(err, r"web01: unreachable: login refused for user nosuchuser")

    def test_a_reader_that_leaves_ends_it(self):
        child = self.start("exec", "web", "yes line 98765")
        self.assertTrue(child.stdout.readline().endswith(b": line 98765\n"))
        child.stdout.close()
        self.assertEqual(child.wait(LIMIT), 1)
        self.assertIn(b"is not read any more", child.stderr.read())
        wait_until(lambda: not self.hosts.running("98765"), 20, "nothing of it runs")

    def test_output_that_is_lost_is_no_success(self):
        lost, not_whole = b"its output is lost: ", b"its output could not be written whole"
        for said, *words in (
                (lost, "exec", "all", "echo x"), (lost, "exec", "--fold", "all", "echo x"),
                (lost, "exec", "--json", "all", "true"), (b"", "exec", "--dry-run", "all", "true"),
                (not_whole, "hosts"), (not_whole, "exec", "--help")):
            with self.subTest(words), open("/dev/full", "wb") as full:
                done = subprocess.run(self.command(*words), stdin=subprocess.DEVNULL, stdout=full,
                                      stderr=subprocess.PIPE, timeout=LIMIT, env=clean_env(), check=False)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(said, done.stderr)

    def test_a_reader_that_pauses_pauses_the_hosts(self):
        child = self.start("exec", "-N", "web01", "head -c 60000000 /dev/zero; echo done >$EXED_TEST_DIR/paused")
        os.read(child.stdout.fileno(), 1)
        last = [None]

        def stands_still():
            with open("/proc/%d/io" % child.pid, encoding="utf-8") as f:
                count = f.read()
            same, last[0] = count == last[0], count
            return same

        wait_until(stands_still, 30, "it reads no more", every=0.5)
        self.assertEqual(self.hosts.host["web01"].read("paused"), "")
        with open("/proc/%d/status" % child.pid, encoding="utf-8") as f:
            peak = int(re.search(r"VmHWM:\s+(\d+)", f.read())[1])
        self.assertLess(peak, 60000 * SLOW)
        got = 1
        while True:
            more = os.read(child.stdout.fileno(), 1 << 20)
            if not more:
                break
            got += len(more)
        self.assertEqual((got, child.wait(LIMIT)), (60000000, 0))

    def test_hosts_on_the_command_line(self):
        lines = "web01,web02 ansible_port=1"
        _, err = self.run_text("exec", "-i", lines, "all", "true", code=2)
        self.assertIn("--inventory", err)
        port = free_port()
        conf = self.hosts.write("list.conf", "[ssh]\nport = %d\nagent = none\n" % port)
        done = subprocess.run([PROGRAM, "-c", conf, "ping", "-i", "127.0.0.1,", "all"], capture_output=True,
                              text=True, timeout=LIMIT, env=clean_env(), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("127.0.0.1: unreachable: connection refused", done.stderr)


class Troubles(Hosts):
    def inventory(self, more):
        return self.hosts.write("more.ini", self.hosts.inventory_text() + more)

    def test_hosts_that_cannot_be_reached_are_lines_and_counted(self):
        port = free_port()
        path = self.inventory("".join("bad%d ansible_host=127.0.0.1 ansible_port=%d\n" % (i, port) for i in (1, 2, 3)))
        out, err = self.run_text("exec", "-i", path, "all", "echo hi", code=1)
        self.assertEqual(len(out.splitlines()), 4)
        for i in (1, 2, 3):
            self.assertIn("exed-run: bad%d: unreachable: connection refused (127.0.0.1:%d)\n" % (i, port), err)
        self.assertEqual(self.outcome(err), (7, "4 ok, 3 unreachable"))
        _, err = self.run_text("exec", "-b", "-i", path, "all", "echo hi", code=1)
        self.assertIn("exed-run: bad[1-3] (3 hosts): unreachable: connection refused\n", err)

    def test_an_unknown_host_key_is_refused(self):
        conf = self.hosts.write("strict.conf", "[ssh]\nagent = none\nknown_hosts = /dev/null\n[inventory]\npath = %s\n"
                                % self.hosts.inventory)
        done = subprocess.run([PROGRAM, "-c", conf, "ping", "web01"], capture_output=True, text=True, timeout=LIMIT,
                              env=clean_env(), check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, "web01: unreachable: .*host key")

    def test_hosts_out_of_service_are_skipped_and_no_failure(self):
        path = self.inventory("off1 exed_disabled='new disk' ansible_host=127.0.0.1 ansible_port=1\n")
        out, err = self.run_text("ping", "-i", path, "web01,off1")
        self.assertEqual(out, "web01: ok\n")
        self.assertIn("exed-run: off1: skipped: disabled in the inventory: new disk\n", err)
        self.assertEqual(self.outcome(err), (2, "1 ok, 1 skipped"))

    def test_local_hosts_and_others_in_one_run(self):
        path = self.inventory("here ansible_connection=local\n")
        out, _ = self.run_text("exec", "-i", path, "here,web01", "echo ${EXED_TEST_HOST:-local}")
        self.assertEqual(sorted(out.splitlines()), ["here: local", "web01: web01"])

    def test_names_that_name_nothing(self):
        _, err = self.run_text("exec", "nosuch*", "true", code=2)
        self.assertIn("'nosuch*' names no host of the inventory (it has 4)", err)
        out, err = self.run_text("exec", "web01,nosuch", "echo hi", code=1)
        self.assertEqual(out, "web01: hi\n")
        self.assertIn("no host is called nosuch\n", err)

    def test_wrong_usage_is_explained_with_code_2(self):
        for args, words in (
                (["exec", "web"], ["a command is missing"]),
                (["exec"], ["a pattern and a command are wanted"]),
                (["exec", "web", " "], ["the command is empty"]),
                (["exec", "--windw=3", "web", "x"], ["there is no option '--windw', did you mean 'window'?"]),
                (["exec", "-f", "0", "web", "x"], ["option -f takes at least 1"]),
                (["exec", "-t", "soon", "web", "x"], ["option -t takes a duration"]),
                (["exec", "--json", "-b", "web", "x"], ["--json and --fold exclude each other"]),
                (["exec", "-u", "-oProxyCommand=x", "web", "x"], ["option --user"]),
                (["exec", "-k", "/nosuch/key", "web", "x"], ["/nosuch/key"]),
                (["exec", "-i", "/nosuch/hosts", "web", "x"], ["/nosuch/hosts", "-i web1,web2"]),
                (["exec", "--executor", "nosuch", "web", "x"], ["nosuch"]),
                (["exec", "web[", "x"], ["web["]),
                (["ping", "web", "more"], ["one pattern is wanted"]),
                (["service", "web", "ssh", "runing"], ["STATE is one of started, stopped"]),
                (["service", "web", "-- bad", "started"], ["service"]),
                (["exce", "web", "x"], ["there is no verb and no task 'exce', did you mean 'exec'?"])):
            out, err = self.run_text(*args, code=2)
            self.assertEqual(out, "")
            for word in words:
                self.assertIn(word, err)
            self.assertNotIn("traceback", err)

    def test_help_everywhere_even_with_broken_settings(self):
        conf = self.hosts.write("broken.conf", "[ssh]\nnosuch = 1\n")
        listed = subprocess.run([PROGRAM, "-c", conf, "--help"], capture_output=True, text=True, check=True,
                                timeout=LIMIT, env=clean_env()).stdout
        verbs = re.findall(r"^  ([a-z]+) +\S", listed, re.M)
        self.assertLessEqual({"exec", "ping", "facter", "service", "hosts"}, set(verbs))
        for verb in verbs:
            for form in ([verb, "--help"], ["help", verb]):
                done = subprocess.run([PROGRAM, "-c", conf, *form], capture_output=True, text=True, check=True,
                                      timeout=LIMIT, env=clean_env())
                self.assertIn("exed-run " + verb, done.stdout)
                self.assertEqual(done.stderr, "")
        done = subprocess.run([PROGRAM, "-c", conf, "ping", "x"], capture_output=True, text=True, check=False,
                              timeout=LIMIT, env=clean_env())
        self.assertEqual(done.returncode, 2)
        self.assertIn("nosuch", done.stderr)


class Manual(Case):
    """The man pages say what the programs take."""

    @staticmethod
    def read(*path):
        with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
            return f.read()

    def test_every_option_is_in_the_man_page(self):
        page = self.read("doc", "exed-run.1.scd")
        listed = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True, timeout=LIMIT,
                                env=clean_env()).stdout
        verbs = set(re.findall(r"^  ([a-z]+) +\S", listed, re.M)) - {"task"}
        self.assertGreater(len(verbs), 12)
        for verb in sorted(verbs):
            text = subprocess.run([PROGRAM, verb, "--help"], capture_output=True, text=True, check=True, timeout=LIMIT,
                                  env=clean_env()).stdout
            options = re.findall(r"^  (?:-(\w), |    )--([\w-]+)", text, re.M)
            self.assertTrue(options, verb)
            for short, name in options:
                self.assertIn("*--%s*" % name, page)
                if short:
                    self.assertIn("*-%s*" % short, page)
        text = subprocess.run([os.path.join(BUILD, "exed"), "--help"], capture_output=True, text=True, check=True,
                              timeout=LIMIT, env=clean_env()).stdout
        page = self.read("doc", "exed.8.scd")
        for name in re.findall(r"--([\w-]+)", text):
            self.assertIn("*--%s*" % name, page)

    def test_every_setting_is_in_the_man_page(self):
        done = subprocess.run(["sh", os.path.join(ROOT, "tools", "conf_man.sh"), os.path.join(ROOT, "conf", "exed.conf")],
                              capture_output=True, text=True, check=True, timeout=LIMIT)
        page = done.stdout.replace("\\", "")
        settings = re.findall(r"^#(\w+) =(?: (.*))?$", self.read("conf", "exed.conf"), re.M)
        self.assertGreater(len(settings), 50)
        for key, value in settings:
            self.assertIn("*%s*%s\n\t" % (key, " = " + value if value else ""), page)
        for section in re.findall(r"^\[\w+\]$", self.read("conf", "exed.conf"), re.M):
            self.assertIn("# SECTION %s\n" % section, page)


class Others(Hosts):
    def test_ping(self):
        out, err = self.run_text("ping", "web")
        self.assertEqual(sorted(out.splitlines()), [name + ": ok" for name in self.all_names()])
        self.assertEqual(self.outcome(err), (4, "4 ok"))
        self.assertEqual(self.run_text("ping", "-b", "web")[0], "== web[01-04] (4 hosts)\nok\n")
        self.assertEqual(self.run_text("ping", "-b", "web[01,03-04]")[0], "== web[01,03-04] (3 hosts)\nok\n")

    def test_service(self):
        for host in self.hosts.hosts:
            os.makedirs(os.path.join(host.dir, "bin"), exist_ok=True)
            path = os.path.join(host.dir, "bin", "systemctl")
            with open(path, "w", encoding="utf-8") as f:
                f.write('#!/bin/sh\nd=${0%/*}/..\ncase $1 in\nis-active) [ -f "$d/up" ] && echo active || '
                        '{ echo inactive; exit 3; } ;;\nstart) : >"$d/up" ;;\nesac\n')
            os.chmod(path, 0o755)
        out, err = self.run_text("service", "web[01:02]", "nginx", "started")
        self.assertEqual(sorted(out.splitlines()), ["web01: changed", "web02: changed"])
        self.assertEqual(self.outcome(err), (2, "2 changed"))
        out, _ = self.run_text("service", "web[02:03]", "nginx", "start")
        self.assertEqual(sorted(out.splitlines()), ["web02: ok", "web03: changed"])

    def test_an_inventory_that_is_a_directory(self):
        os.makedirs(self.hosts.path("inv", "group_vars"))
        self.hosts.write("inv/10-hosts", self.hosts.inventory_text())
        self.hosts.write("inv/group_vars/web.yml", "role: front\n")
        where = os.path.join(self.hosts.dir, "inv")
        row = json.loads(self.run_text("hosts", "-i", where, "--json", "web01")[0])
        self.assertEqual(row["vars"]["role"], "front")
        self.assertEqual(self.run_text("ping", "-i", where, "web01")[0], "web01: ok\n")

    def test_hosts(self):
        self.assertEqual(self.run_text("hosts")[0].splitlines(), self.all_names())
        self.assertEqual(self.run_text("hosts", "web:!web02", "--ranges")[0], "web[01,03-04]\n")
        path = self.hosts.write("secret.ini", "db1 ansible_become_password=hush role=x\n")
        row = json.loads(self.run_text("hosts", "-i", path, "--json")[0])
        self.assertEqual((row["name"], row["vars"]), ("db1", {"role": "x"}))


class Interrupted(Hosts):
    COMMAND = 'test $EXED_TEST_HOST = web01 && exit; echo $$ >$EXED_TEST_DIR/pid; sleep 7654 & sleep 7654; echo no'

    def started(self, name):
        return wait_until(lambda: int(self.hosts.host[name].read("pid") or 0), 20, "%s runs it" % name)

    def setUp(self):
        for host in self.hosts.hosts:
            if host.read("pid"):
                os.unlink(os.path.join(host.dir, "pid"))

    def interrupt(self, number, *options):
        child = self.start("exec", "-f", "2", *options, "web", self.COMMAND)
        pids = [self.started(name) for name in ("web02", "web03")]
        child.send_signal(number)
        out, err = (bytes.decode(text) for text in child.communicate(timeout=LIMIT))
        self.assertEqual(child.returncode, 130, err)
        self.assertEqual([pid for pid in pids if alive(pid)], [])
        self.assertEqual(self.hosts.running("7654"), [])
        self.assertIn("1 had finished, 2 were killed, 1 never started\n", err)
        self.assertIn("  finished: web01\n", err)
        self.assertIn("  killed: web[02-03]\n", err)
        self.assertIn("  never started: web04\n", err)
        self.assertEqual(self.hosts.host["web04"].read("pid"), "")
        self.assertNotIn("no\n", out)
        return out

    def test_ctrl_c_kills_what_runs_and_says_what_became_of_each(self):
        self.interrupt(signal.SIGINT)

    def test_sigterm_does_the_same_and_json_has_a_record_for_each(self):
        rows = [json.loads(line) for line in self.interrupt(signal.SIGTERM, "--json").splitlines()]
        self.assertEqual({row["host"]: row["status"] for row in rows}, {"web01": 5, "web02": 3, "web03": 3, "web04": 2})

    def test_a_hang_up_does_the_same_but_not_under_nohup(self):
        self.interrupt(signal.SIGHUP)
        self.setUp()
        child = self.start("exec", "web02", "echo $$ >$EXED_TEST_DIR/pid; cat $EXED_TEST_DIR/fifo",
                           preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        os.mkfifo(os.path.join(self.hosts.host["web02"].dir, "fifo"))
        self.started("web02")
        child.send_signal(signal.SIGHUP)
        with open(os.path.join(self.hosts.host["web02"].dir, "fifo"), "w", encoding="utf-8") as f:
            f.write("went on\n")
        self.assertEqual(child.communicate(timeout=LIMIT)[0], b"web02: went on\n")

    @unittest.skipIf(os.environ.get("EXED_SANITIZER") == "tsan", "it holds signals back from what computes")
    def test_a_second_ctrl_c_leaves_at_once(self):
        script = self.hosts.write("busy.lua", "io.write('busy\\n') io.flush() while true do end\n")
        child = self.start(script)
        self.assertEqual(child.stdout.readline(), b"busy\n")
        child.send_signal(signal.SIGINT)
        # It computes and does not see the first one; both must have been taken, one after the other.
        wait_until(lambda: not self.pending(child.pid), 10, "the first was taken")
        self.assertIsNone(child.poll())
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(LIMIT), 130)
        self.assertIn(b"left at once", child.stderr.read())

    @staticmethod
    def pending(pid):
        with open("/proc/%d/status" % pid, encoding="utf-8") as f:
            text = f.read()
        return any(int(mask, 16) & 1 << signal.SIGINT - 1 for mask in re.findall(r"^(?:ShdPnd|SigPnd):\s*(\w+)", text, re.M))

    def test_a_script_ends_with_what_it_closes(self):
        mark = os.path.join(self.hosts.dir, "closed")
        script = self.hosts.write("waits.lua", """
local proc = require "exed.proc"
local _ <close> = setmetatable({}, { __close = function()
  local f = assert(io.open(arg[1], "w"))
  f:write "closed"
  f:close()
end })
print "up"
io.stdout:flush()
proc.run { command = "echo $$ >" .. arg[2] .. "; sleep 7654" , timeout = 0 }
print "not here"
""")
        pid_file = os.path.join(self.hosts.dir, "script.pid")
        child = self.start(script, mark, pid_file)
        self.assertEqual(child.stdout.readline(), b"up\n")
        wait_until(lambda: os.path.exists(pid_file) and os.path.getsize(pid_file) > 1, 10, "its command runs")
        with open(pid_file, encoding="utf-8") as f:
            pid = int(f.read())
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=LIMIT)
        self.assertEqual((child.returncode, out), (130, b""), err)
        with open(mark, encoding="utf-8") as f:
            self.assertEqual(f.read(), "closed")
        wait_until(lambda: not alive(pid), 10, "its command is dead")

    def test_a_script_s_integer_is_the_exit_code(self):
        for text, code in (("return 3", 3), ("return", 0), ("return 'x'", 0), ("error 'x'", 1)):
            self.run_text(self.hosts.write("code.lua", text), code=code)


class Terminal(Hosts):
    def talk(self, *args, until, then=None):
        """Runs it on a terminal of 80 columns; returns all that it showed. `then` is called once `until` was seen."""
        pid, fd = pty.fork()
        if pid == 0:
            try:
                os.environ.update(clean_env())
                os.execv(PROGRAM, self.command(*args))
            finally:
                os._exit(127)
        shown, limit = b"", time.monotonic() + LIMIT
        try:
            fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            while time.monotonic() < limit:
                if not select.select([fd], [], [], 1)[0]:
                    continue
                try:
                    more = os.read(fd, 65536)
                except OSError:
                    more = b""
                if not more:
                    break
                shown += more
                if then and until in shown:
                    then()
                    then = None
        finally:
            if time.monotonic() >= limit:
                os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            os.close(fd)
        self.assertIsNone(then, shown)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0, shown)
        return shown

    def test_control_characters_are_shown_escaped(self):
        shown = self.talk("exec", "web01", "printf '\\033[31mred\\033]0;title\\007 \\302\\233 \\342\\200\\256 \\303\\251"
                          "\\rcarriage\\r\\n'; printf '\\033[2J\\n' >&2", until=b"")
        ours = re.sub(rb"\r\x1b\[K", b"", shown)
        self.assertNotIn(b"\x1b", ours)
        self.assertNotIn(b"\x07", ours)
        self.assertIn(b"web01: \\x1b[31mred\\x1b]0;title\\x07 \\u{9b} \\u{202e} \xc3\xa9\\x0dcarriage\r\n", ours)
        self.assertIn(b"web01: \\x1b[2J\r\n", ours)

    def test_a_progress_line_is_there_while_it_runs_and_gone_after(self):
        def go():
            for host in self.hosts.hosts:
                with open(os.path.join(host.dir, "go2"), "w", encoding="utf-8"):
                    pass

        shown = self.talk("exec", "-f", "2", "web", "until [ -e $EXED_TEST_DIR/go2 ]; do sleep 0.05; done; echo done",
                          until=b"[0/4", then=go)
        self.assertRegex(shown, rb"\r\x1b\[K\[0/4, \d+ s\] web0[1-4], web0[1-4]")
        self.assertEqual(shown.count(b": done\r\n"), 4)
        # Each time that a line was drawn it was wiped before anything else.
        for part in re.split(rb"\r\x1b\[K", shown):
            self.assertNotRegex(part, rb"\[\d+/4.*\n", part)
        self.assertRegex(shown, rb"exed-run: 4 hosts: 4 ok in \d+\.\d s\r\n\Z")

    def test_the_progress_line_tells_how_much_of_a_file_is_sent(self):
        """Each dd takes nothing of it before it may: the file goes as far as the hosts' windows."""
        go, source, dest = (os.path.join(self.hosts.dir, name) for name in ("go3", "source", "dest"))
        with open(source, "wb") as f:
            f.truncate(64 << 20)
        for host in self.hosts.hosts[:2]:
            dd = os.path.join(host.dir, "bin", "dd")
            os.makedirs(os.path.dirname(dd), exist_ok=True)
            with open(dd, "w", encoding="utf-8") as f:
                f.write('#!/bin/sh\ncase $* in *if=*) ;; *) while [ ! -e %s ]; do sleep .05; done;; esac\n'
                        'exec /bin/dd "$@"\n' % go)
            os.chmod(dd, 0o755)
            self.addCleanup(os.remove, dd)

        def on_with_it():
            with open(go, "w", encoding="utf-8"):
                pass

        shown = self.talk("copy", "web01,web02", source, dest, until=b" MiB sent, ", then=on_with_it)
        self.assertRegex(shown, rb"\[0/2, \d+\.\d MiB sent, \d+ s\] web0[12] \d\d?%, web0[12] \d\d?%")
        self.assertEqual(os.path.getsize(dest), 64 << 20)

    def test_no_progress_line_without_a_terminal(self):
        _, err = self.run_bytes("exec", "web01", "sleep 1.2")
        self.assertNotIn(b"\x1b", err)
        self.assertNotIn(b"[0/1", err)


class Many(Case):
    """Simulated hosts."""

    def test_the_window_holds(self):
        with Fleet(60) as fleet:
            self.write_conf(fleet)
            out, _ = self.run_text("exec", "-f", "7", "--json", "all", "sleep 0.05")
            self.assertEqual(len(out.splitlines()), 60)
            peak = fleet.stats(True)["execs_peak"]
            self.assertTrue(1 < peak <= 7, peak)

    def test_folded_it_costs_at_most_a_tenth_of_clush(self):
        with Fleet(200) as fleet:
            self.write_conf(fleet)
            config = fleet.write("ssh_config", "Host *\nPort %d\nUser %s\nIdentityFile %s\nUserKnownHostsFile %s\n"
                                 "IdentitiesOnly yes\nLogLevel ERROR\n" % (
                                     fleet.port, fleet.user, fleet.key, fleet.known_hosts))
            addresses = ",".join(fleet.address[name] for name in fleet.names)
            ours = self.cpu_of(self.command("exec", "-b", "all", "echo hello"), "== sim[0001-0200] (200 hosts)\nhello\n")
            theirs = self.cpu_of(["clush", "-b", "-f", "64", "-O", "ssh_options=-F " + config, "-w", addresses,
                                  "echo hello"], "hello\n")
            self.assertLess(10 / SLOW * ours, theirs)

    def cpu_of(self, command, part):
        """User and system seconds of a command and all its children, when its output has the part."""
        before = os.times()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * LIMIT,
                              env=clean_env(), check=False)
        after = os.times()
        self.assertIn(part, done.stdout, done.stderr[-2000:])
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        return (after.children_user - before.children_user) + (after.children_system - before.children_system)


if __name__ == "__main__":
    unittest.main()
