# SPDX-License-Identifier: MIT
"""A command on hosts through the API: its output byte for byte, whatever the command's text and the account's
shell are, its exit code, and one understandable record for each host that does not do what it should."""

import base64
import os
import shutil
import subprocess
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Fleet, Sshd  # noqa: E402

OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 1, 2, 3, 4, 5
MEGA = 1024 * 1024

# Commands whose text is hard to carry through a login shell; each must do what sh does with it.
HARD = [
    "echo 'single' \"double\"",
    "echo \"it's\" 'say \"x\"'",
    "printf '%s\\n' 'back\\slash' \"two\\\\slashes\" a\\ b",
    "printf 'a\\tb\\nc\\\\d'",
    "echo hello!; echo '!!' \"!$\" !x",
    "x=1; echo $x ${x} \"$x\" '$x' $((x + 1)) $$ >/dev/null; echo \"$x\"",
    "echo `echo in back quotes` $(echo in brackets)",
    "echo one\necho two\n\necho 'three\nfour'",
    "cat <<'EOF'\nhere $x `y` \\z !\nEOF\n",
    "echo äöü ß 日本語 🙂 'é'",
    "echo a # a comment",
    "echo a;# a comment\necho b",
    "true && echo yes || echo no; false || { echo block; }",
    "for i in 1 2 3; do printf '[%s]' \"$i\"; done; echo",
    "echo *zz* ?qq? [x]yy ~nobodyatall {a,b} %s %d",
    "echo a > /dev/null; echo b >&2; echo c 2>&1 | tr c d",
    "echo \"tab\there\" '\ttab'",
    "printf '%s|' \"\" '' \" \" '  '; echo",
    "set -- a b; echo $# \"$@\" $1",
    "eval 'echo evaluated'; (exit 3); echo $?",
    "case x in (x) echo case;; esac",
    "echo end of line \\\n  goes on",
    "f() { echo in a function \"$1\"; }; f \"a'b\"",
    "echo '\\n' \"\\\\n\" | od -An -c",
    "if [ -t 0 ]; then echo tty; else echo no tty; fi",
    "echo \"a\rb\" | od -An -c",
    "exec echo replaced",
    ": nothing",
    "  echo blanks before",
    "-x 2>/dev/null; echo $?",
    "(echo sub; exit 4); echo $?",
    "%self 2>/dev/null; echo ^caret^ =x ;",
]


def one(exed, name, command, **fields):
    """The one record of a command on a host."""
    records = exed.records(exed.execute([name], command, **fields))
    assert list(records) == [name] and len(records[name]) == 1, records
    return records[name][0]


def local(command):
    """What sh itself does with it: exit code, stdout, stderr."""
    done = subprocess.run(["/bin/sh", "-c", "--", command], stdin=subprocess.DEVNULL, capture_output=True, cwd="/",
                          check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Output(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(2)
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()
        cls.exed = Exed(cls.sshd)
        cls.addClassCleanup(cls.exed.stop)
        cls.exed.start()

    def one(self, command, **fields):
        return one(self.exed, "web01", command, **fields)

    def test_both_streams_apart(self):
        record = self.one("echo out; echo err >&2; printf more; exit 7")
        self.assertEqual((record["status"], record["rtc"]), (FAILED, 7))
        self.assertEqual((record["stdout"], record["stderr"]), ("out\nmore", "err\n"))
        for name in ("stdout_b64", "stderr_b64", "truncated", "output_open", "killed", "unknown", "error"):
            self.assertNotIn(name, record)

    def test_all_byte_values_on_both_streams(self):
        every = bytes(range(256)) * 3
        path = os.path.join(self.sshd.hosts[0].dir, "bytes")
        with open(path, "wb") as f:
            f.write(every)
        record = self.one('cat "$EXED_TEST_DIR/bytes"; cat "$EXED_TEST_DIR/bytes" >&2')
        for stream in ("stdout", "stderr"):
            self.assertEqual(base64.b64decode(record[stream + "_b64"]), every)
            self.assertEqual(record[stream].encode()[:128], every[:128])
            self.assertIn("\ufffd", record[stream])

    def test_text_is_not_coded(self):
        record = self.one("printf 'gr\\303\\274n \\360\\237\\231\\202 \\000 \\001\\177'")
        self.assertEqual(record["stdout"], "grün 🙂 \0 \x01\x7f")
        self.assertNotIn("stdout_b64", record)

    def test_output_over_the_cap(self):
        size = 3 * MEGA
        command = "yes 0123456789abcde | head -c %d; yes ERR | head -c %d >&2" % (size, size)
        record = self.one(command)
        self.assertIs(record["truncated"], True)
        self.assertEqual((record["stdout_bytes"], record["stderr_bytes"]), (size, size))
        self.assertEqual(record["stdout"], ("0123456789abcde\n" * (size // 16))[:MEGA])
        self.assertEqual(record["stderr"], ("ERR\n" * (size // 4))[:MEGA])
        self.assertEqual((record["status"], record["rtc"]), (CHANGED, 0))

    def test_long_output_within_the_cap(self):
        text = "".join("%d ä\n" % n for n in range(100000))[:400000]
        path = os.path.join(self.sshd.hosts[0].dir, "long")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        record = self.one('cat "$EXED_TEST_DIR/long"; cat "$EXED_TEST_DIR/long" >&2')
        self.assertEqual(record["stdout"], text)
        self.assertEqual(record["stderr"], text)
        self.assertNotIn("truncated", record)
        again = self.exed.get("/execute", timeout=30).status  # no target: the server is well
        self.assertEqual(again, 400)

    def test_long_output_that_is_not_text(self):
        data = bytes(range(256)) * 1000
        path = os.path.join(self.sshd.hosts[0].dir, "data")
        with open(path, "wb") as f:
            f.write(data)
        jid = self.exed.execute(["web01"], 'cat "$EXED_TEST_DIR/data"')
        followed = self.exed.records(jid)["web01"][0]
        stored = self.exed.job(jid)["return_data"]["web01"][0]
        self.assertEqual(base64.b64decode(followed["stdout_b64"]), data)
        self.assertEqual(stored, followed)

    def test_just_at_the_limits(self):
        for size in (0, 1, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 48 * 1024, 64 * 1024 + 1, MEGA - 1, MEGA,
                     MEGA + 1):
            with self.subTest(size=size):
                record = self.one("yes abc | head -c %d" % size)
                self.assertEqual(record["stdout"], ("abc\n" * (size // 4 + 1))[:min(size, MEGA)])
                self.assertEqual(record.get("truncated", False), size > MEGA)
                self.assertEqual(record.get("stdout_bytes", size), size)

    def test_output_comes_as_it_is_written(self):
        jid = self.exed.execute(["web01"], "echo first; sleep 1; echo second", lines=True)
        times = [(when, chunk) for when, chunk in self.exed.follow_chunks(jid)]
        first = [when for when, chunk in times if b"first" in chunk]
        self.assertLess(first[0], times[-1][0] - 0.5)

    def test_standard_input_is_at_its_end(self):
        record = self.one("cat; read x || echo end; wc -c")
        self.assertEqual(record["stdout"].split(), ["end", "0"])
        record = self.one("cat;\nread x || echo 'end\\'; wc -c")  # the form that reads its script there
        self.assertEqual(record["stdout"].split(), ["end\\", "0"])

    def test_every_exit_code(self):
        for code in list(range(256)):
            record = self.exed.get("/execute?target=web01&cmd=exit+%d" % code).body["web01"]
            self.assertEqual((record["rtc"], record["status"]), (code, FAILED if code else CHANGED))
            self.assertNotIn("signal", record)

    def test_signals_have_their_names(self):
        for name, number in (("TERM", 15), ("KILL", 9), ("INT", 2), ("HUP", 1), ("SEGV", 11), ("ABRT", 6),
                             ("PIPE", 13), ("ALRM", 14), ("USR1", 10), ("QUIT", 3)):
            with self.subTest(signal=name):
                record = self.one("ulimit -c 0; echo before; kill -%s $$; sleep 5; echo after" % name)
                self.assertEqual(record["status"], FAILED)
                self.assertEqual(record["rtc"], 128 + number)
                self.assertEqual(record["signal"], name)
                self.assertEqual(record["stdout"], "before\n")

    def test_a_child_that_keeps_the_output_open(self):
        record = self.one("sleep 30 & echo $!")
        self.assertIs(record["output_open"], True)
        self.assertEqual((record["status"], record["rtc"]), (CHANGED, 0))
        self.assertTrue(os.path.exists("/proc/%d" % int(record["stdout"])))
        os.kill(int(record["stdout"]), 9)
        # One that says something within that time is waited for.
        record = self.one("(sleep 0.5; echo late) & exit 3")
        self.assertEqual((record["rtc"], record["stdout"]), (3, "late\n"))
        self.assertNotIn("output_open", record)

    def test_long_commands(self):
        for size in (29000, 31000, 100000, 900000):
            text = ("%07d " % size) * (size // 8)
            with self.subTest(size=size):
                record = self.one("printf %%s '%s' | wc -c; : '%s'" % (text[:-1], "!" * 10))
                self.assertEqual(record.get("stdout", "").strip(), str(len(text) - 1), record)

    def test_a_command_that_is_too_long_is_refused_or_said(self):
        answer = self.exed.post("/execute", {"targets": ["web01"], "cmd": "true # " + "x" * (2 * MEGA)})
        if answer.status == 400:
            self.assertIn("cmd", answer.body["message"])
            return
        record = self.exed.records(answer.body["jid"])["web01"][0]
        self.assertIn(record["status"], (FAILED, UNREACHABLE))
        self.assertIn("long", record["error"])

    def test_commands_that_are_none(self):
        for cmd in ("", None, 5, ["true"], "a\0b"):
            answer = self.exed.post("/execute", {"targets": ["web01"], "cmd": cmd})
            self.assertEqual(answer.status, 400, cmd)
            self.assertIn("cmd", answer.body["message"])

    def test_a_command_that_is_not_found(self):
        record = self.one("no-such-command-here")
        self.assertEqual((record["status"], record["rtc"]), (FAILED, 127))
        self.assertIn("no-such-command-here", record["stderr"])
        self.assertEqual(self.one("if then")["status"], FAILED)  # a syntax error is a failure, too

    def test_it_carries_its_op_id(self):
        jid = self.exed.execute(["web02", "web01"], "echo $EXED_OP")
        records = self.exed.records(jid)
        self.assertEqual(sorted(r[0]["stdout"] for r in records.values()),
                         ["%s.0.%d.1\n" % (jid, index) for index in (0, 1)])


class Shells(unittest.TestCase):
    """The same for every shell that the account on the host may have."""

    def shells(self):
        found = {"sh": None}
        for name in ("bash", "dash", "fish", "tcsh", "zsh", "ksh", "busybox"):
            path = shutil.which(name)
            if path:
                found[name] = path + (" sh" if name == "busybox" else "")
        return found

    def test_hard_commands_under_every_login_shell(self):
        shells = list(self.shells().items())
        options = {}
        for number, (name, path) in enumerate(shells):
            if path:  # as if it were the login shell: it gets the exec request as its -c
                flags = " -f" if name == "tcsh" else ""
                options["web%02d" % (number + 1)] = [
                    'ForceCommand exec %s%s -c "$SSH_ORIGINAL_COMMAND"' % (path, flags)]
        self.assertGreater(len(shells), 2)
        with Sshd(len(shells), host_options=options) as sshd, Exed(sshd) as exed:
            exed.wait_job(exed.execute(["all"], "true"))  # a shell's first start makes its directories
            jids = [(cmd, exed.execute(["all"], cmd)) for cmd in HARD]
            for cmd, jid in jids:
                code, out, err = local(cmd)
                records = exed.records(jid)
                for host, (name, _) in zip(sshd.hosts, shells):
                    with self.subTest(shell=name, cmd=cmd):
                        record = records[host.name][0]
                        self.assertEqual((record.get("rtc"), record.get("stdout"), record.get("stderr")),
                                         (code, out, err), record)

    def test_a_raw_host_gets_the_bytes_as_given(self):
        options = {"web01": ['ForceCommand printf %s "$SSH_ORIGINAL_COMMAND"; echo "op=$EXED_OP" >&2']}
        with Sshd(2, host_options=options) as sshd:
            with open(sshd.inventory, encoding="utf-8") as f:
                text = f.read().replace("web01 ", "web01 exed_shell=raw ")
            with Exed(sshd, {"inventory": {"path": sshd.write("raw.ini", text)}}) as exed:
                for cmd in ("show version", "a 'b' \"c\" \\ ! $x\n next line \\n", "-x"):
                    record = one(exed, "web01", cmd)
                    self.assertEqual((record["stdout"], record["stderr"]), (cmd, "op=\n"))
                self.assertEqual(one(exed, "web02", "echo a\necho b")["stdout"], "a\nb\n")

    def test_a_profile_that_prints_and_a_home_that_is_missing(self):
        with Sshd(2) as sshd, Exed(sshd) as exed:
            with open(os.path.join(sshd.hosts[0].dir, ".bashrc"), "w", encoding="utf-8") as f:
                f.write("echo from the profile; cd /\n")
            records = exed.records(exed.execute(["all"], "echo a\necho b", timeout=20))
            self.assertTrue(records["web01"][0]["stdout"].endswith("a\nb\n"), records)
            record = one(exed, "web01", "sleep 300300", timeout=1)
            self.assertEqual((record.get("timed_out"), record.get("survivors")), (True, 0), record)
            self.assertEqual(sshd.running("300300"), [])


class BrokenHosts(unittest.TestCase):
    """What a host does wrong is said in its own record, and costs the others nothing."""

    def test_each_has_its_reason_and_the_others_run(self):
        rules = {
            "sim0001": "refuse", "sim0002": "reset", "sim0003": "close", "sim0004": "hang",
            "sim0005": "flood", "sim0006": "floodline", "sim0007": "wrongkey", "sim0008": "hangauth",
            "sim0009": "closeauth", "sim0010": "denykey", "sim0011": "hangexec", "sim0012": "closeexec",
            "sim0013": "cut", "sim0014": "noexit", "sim0015": "slowbanner:0.5", "sim0016": "slowexec:0.5",
            "sim0017": "blackhole", "sim0018": "sessions:1",
        }
        if not Fleet.can_blackhole():
            del rules["sim0017"]
        expected = {
            "sim0001": (UNREACHABLE, "connection refused"),
            "sim0002": (UNREACHABLE, "reset"),
            "sim0003": (UNREACHABLE, "closed the connection before its banner"),
            "sim0004": (UNREACHABLE, "silent before its banner for 3 s"),
            "sim0005": (UNREACHABLE, "too much before its banner|3 s"),
            "sim0006": (UNREACHABLE, "too much before its banner|3 s"),
            "sim0007": (UNREACHABLE, "host key changed"),
            "sim0008": (UNREACHABLE, "in login after 3 s .*client_ecdsa"),
            "sim0009": (UNREACHABLE, "login.*client_ecdsa"),
            "sim0010": (UNREACHABLE, "login refused for user .*client_ecdsa"),
            "sim0011": (FAILED, None),  # it may have started: the command's limit counts
            "sim0012": (FAILED, "closed|ended|without an exit status"),
            "sim0013": (FAILED, "connection lost while running"),
            "sim0014": (FAILED, "without an exit status"),
            "sim0015": (CHANGED, None),
            "sim0016": (CHANGED, None),
            "sim0017": (UNREACHABLE, "no answer to connecting within 3 s"),
            "sim0018": (CHANGED, None),
        }
        with Fleet(120, rules) as fleet:
            with Exed(fleet, {"ssh": {"connect_timeout": "3s"}}) as exed:
                began = time.monotonic()
                records = exed.records(exed.execute(["all"], "echo hello", timeout=4), timeout=60)
                took = time.monotonic() - began
            stats = fleet.stats()
        self.assertEqual(sorted(records), fleet.names)
        self.assertEqual({len(r) for r in records.values()}, {1})
        for name in fleet.names:
            with self.subTest(host=name, behaviour=rules.get(name)):
                record = records[name][0]
                status, reason = expected.get(name, (CHANGED, None)) if name in rules else (CHANGED, None)
                self.assertEqual(record["status"], status, record)
                if reason:
                    self.assertRegex(record["error"], reason)
                if status == CHANGED:
                    self.assertEqual(record["stdout"], "hello\n")
                if status == UNREACHABLE:
                    self.assertNotIn("rtc", record)
        self.assertIs(records["sim0011"][0].get("timed_out"), True, records["sim0011"])
        for name in ("sim0012", "sim0013", "sim0014"):
            self.assertIs(records[name][0].get("unknown"), True, records[name])
        self.assertFalse([op for op, n in stats["ops"].items() if n > 1])
        # The slowest limits are 3 s to connect, 4 s for the command and 10 s for its kill.
        self.assertLess(took, 40)

    def test_good_hosts_do_not_wait_for_bad_ones(self):
        rules = {"sim%04d" % n: "hang" for n in range(1, 21)}
        with Fleet(60, rules) as fleet, Exed(fleet, {"ssh": {"connect_timeout": "20s", "window": 30}}) as exed:
            jid = exed.execute(["all"], "echo hello")
            seen = set()
            for number, line in enumerate(exed.follow(jid)):
                if number == 0:
                    continue
                seen |= set(line)
                if len(seen) == 40:
                    break
            self.assertEqual(seen, set(fleet.names[20:]))
            self.assertEqual(exed.get("/jobs/" + jid).body["state"], 1)
            exed.post("/jobs/%s/cancel" % jid)
            self.assertEqual(exed.wait_job(jid)["state"], 2)

    def test_a_ping_says_the_same(self):
        rules = {"sim0001": "hang", "sim0002": "denykey", "sim0003": "wrongkey", "sim0004": "refuse"}
        with Fleet(6, rules) as fleet, Exed(fleet, {"ssh": {"connect_timeout": "2s"}}) as exed:
            answer = exed.get("/ping?target=all")
            self.assertEqual(answer.status, 200)
            for name in fleet.names:
                record = answer.body[name]
                self.assertEqual(record["status"], UNREACHABLE if name in rules else OK, record)
                self.assertEqual("error" in record, name in rules)

    def test_local_hosts(self):
        with Sshd(1) as sshd:
            path = sshd.write("local.ini", "here ansible_connection=local\nthere ansible_connection=local\n")
            with Exed(sshd, {"inventory": {"path": path}}) as exed:
                records = exed.records(exed.execute(["all"], "echo out; echo err >&2; exit 3"))
                for name in ("here", "there"):
                    record = records[name][0]
                    self.assertEqual((record["status"], record["rtc"], record["stdout"], record["stderr"]),
                                     (FAILED, 3, "out\n", "err\n"))
                for cmd in HARD:
                    code, out, err = local(cmd)
                    record = one(exed, "here", cmd)
                    self.assertEqual((record.get("rtc"), record.get("stdout"), record.get("stderr")),
                                     (code, out, err), cmd)
            self.assertNotIn("Connection from", sshd.log())


if __name__ == "__main__":
    unittest.main()
