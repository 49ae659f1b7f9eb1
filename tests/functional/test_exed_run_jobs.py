# SPDX-License-Identifier: MIT
"""exed-run jobs, follow and cancel, against a real exed with real hosts."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from exedtest import BUILD, Exed, Sshd, free_port, wait_until  # noqa: E402

HOSTS = exed = None
PROGRAM = os.path.join(BUILD, "exed-run")
WAIT = "until [ -e $EXED_TEST_DIR/%s ]; do sleep 0.03; done; echo $EXED_TEST_HOST went"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def setUpModule():
    global HOSTS, exed
    HOSTS = Sshd(10).start()
    exed = Exed(HOSTS, {"ssh": {"agent": "none"}}).start()


def tearDownModule():
    try:
        exed.stop()
    finally:
        HOSTS.stop()


def let_go(gate, *hosts):
    for host in hosts:
        with open(os.path.join(HOSTS.host[host].dir, gate), "w", encoding="utf-8"):
            pass


def environment(**env):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EXED_")}
    return dict(clean, **env)


def command(*args, node=None):
    """exed-run with the configuration of a node, which says where its exed.sock is."""
    return [PROGRAM, "-c", (node or exed).path("exed.conf"), *args]


def run(*args, code=0, node=None, **env):
    """Runs it to its end; returns what it printed to stdout and stderr."""
    done = subprocess.run(command(*args, node=node), env=environment(**env), timeout=120,
                          stdin=subprocess.DEVNULL, capture_output=True)
    out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
    assert done.returncode == code, "exit code %d\n%s%s" % (done.returncode, out, err)
    return out, err


class Running:
    """exed-run that runs; stdout and stderr grow."""

    def __init__(self, *args, node=None):
        self.process = subprocess.Popen(command(*args, node=node), env=environment(), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.texts = {"out": b"", "err": b""}
        self.threads = [threading.Thread(target=self.read, args=(name, pipe), daemon=True) for name, pipe in
                        (("out", self.process.stdout), ("err", self.process.stderr))]
        for thread in self.threads:
            thread.start()

    def read(self, name, pipe):
        with pipe:
            for data in iter(lambda: os.read(pipe.fileno(), 65536), b""):
                self.texts[name] += data

    @property
    def out(self):
        return self.texts["out"].decode()

    @property
    def err(self):
        return self.texts["err"].decode()

    def wait_for(self, text, name="out"):
        wait_until(lambda: text in self.texts[name].decode() or self.process.poll() is not None, 30, text)
        assert text in self.texts[name].decode(), self.out + self.err

    def end(self, code=0):
        got = self.process.wait(60)
        for thread in self.threads:
            thread.join(20)
        assert got == code, "exit code %d\n%s%s" % (got, self.out, self.err)
        return self.out, self.err

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Case(unittest.TestCase):
    def follow(self, *args, **more):
        found = Running("follow", *args, **more)
        self.addCleanup(found.kill)
        return found


class Jobs(Case):
    def test_the_list_has_the_jobs_newest_last(self):
        first = exed.execute(["web[01:03]"], "echo one")
        exed.wait_job(first)
        second = exed.execute(["web01", "web05"], "echo two; exit 3")
        exed.wait_job(second)
        lines = run("jobs")[0].splitlines()
        self.assertEqual(lines[0].split(), ["JID", "STATE", "STARTED", "OPERATION", "HOSTS", "RECORDS"])
        self.assertRegex(lines[-2], "^%s +done +[0-9-]+ [0-9:]+  execute echo one +" % first
                         + r"web\[01-03\] \(3\) +3 CHANGED$")
        self.assertRegex(lines[-1], r"^%s +failure .* execute echo two; exit 3 +web\[01,05\] \(2\) +2 FAILED$"
                         % second)
        self.assertEqual([line.split()[0] for line in run("jobs", "--last", "1")[0].splitlines()[1:]], [second])
        found = [json.loads(line) for line in run("jobs", "--json", "-n2")[0].splitlines()]
        self.assertEqual([job["taskid"] for job in found], [first, second])
        self.assertEqual(found[1]["counts"], {"FAILED": 2})

    def test_jobs_of_get_requests_are_listed_when_asked_for(self):
        jid = exed.get("/execute?target=web01&cmd=true").headers["exed-jid"]
        self.assertNotIn(jid, run("jobs")[0])
        self.assertIn(jid, run("jobs", "--all")[0])

    def test_one_job_says_who_holds_it_up(self):
        jid = exed.execute(["web[01:03]"], WAIT % "hold")
        wait_until(lambda: len(HOSTS.running("hold")) == 3, 20, "they run")
        let_go("hold", "web02")
        path = "/jobs/%s?detail=1" % jid
        wait_until(lambda: exed.get(path).body["counts"] == {"CHANGED": 1}, 20, "one has ended")
        out = run("jobs", jid)[0]
        for pattern in ("(?m)^jid +%s$" % jid, "(?m)^state +running$", r"(?m)^hosts +web\[01-03\] \(3\)$",
                        "(?m)^records +1 of 3: 1 CHANGED$", r"(?m)^(running)? +web0[13]: \w+ for \d+ s$",
                        "(?m)^operation +execute until "):
            self.assertRegex(out, pattern)
        self.assertNotRegex(out, "web02: ")
        self.assertEqual(len(json.loads(run("jobs", jid, "--json")[0])["running"]), 2)
        let_go("hold", "web01", "web03")
        exed.wait_job(jid)
        self.assertRegex(run("jobs", jid)[0], "(?m)^started .*, ended ")

    def test_control_characters_are_escaped(self):
        jid = exed.execute(["web01"], "echo '\x1b[31mred'")
        exed.wait_job(jid)
        for args in (["jobs"], ["jobs", jid]):
            out = run(*args)[0]
            self.assertNotIn("\x1b", out)
            self.assertIn("\\x1b[31mred", out)

    def test_what_is_wrong_is_said(self):
        self.assertIn("no such jid", run("jobs", UNKNOWN, code=1)[1])
        for args in (["jobs", "../nodes"], ["jobs", "a", "b"], ["jobs", "--last", "0"], ["follow"],
                     ["follow", "x"], ["follow", "--from", "-1", UNKNOWN], ["cancel"], ["cancel", "x"]):
            self.assertIn("--help tells more", run(*args, code=2)[1])
        for verb in ("jobs", "follow", "cancel"):
            self.assertIn("usage: exed-run " + verb, run(verb, "--help")[0])


class Held(unittest.TestCase):
    def running(self, node, jid):
        return node.get("/jobs/%s?detail=1" % jid).body.get("running", [])

    def test_phases_and_since_of_what_holds_a_job_up(self):
        with Sshd(2, per_process=1) as hosts, Exed(hosts, {"ssh": {"agent": "none"}}) as node:
            before = int(time.time())
            jid = node.execute(["web01", "web02"], "sleep 30305", window=2)
            wait_until(lambda: len(hosts.running("sleep 30305")) == 2, 20, "they run")
            rows = self.running(node, jid)
            self.assertEqual({row["host"]: row["phase"] for row in rows}, {"web01": "running", "web02": "running"})
            since = [row["since"] for row in rows]
            self.assertEqual(since, sorted(since))
            self.assertTrue(all(before - 1 <= at <= time.time() + 1 for at in since), (before, since))
            # The connection does not answer any more, so the kill waits.
            sessions = hosts.sessions()
            for pid in sessions:
                os.kill(pid, signal.SIGSTOP)
            try:
                run("cancel", jid, node=node)
                wait_until(lambda: [row["phase"] for row in self.running(node, jid)] == ["killing"] * 2, 20,
                           "they are being killed")
                self.assertRegex(run("jobs", jid, node=node)[0], r"(?m)^running +web0\d: killing for \d+ s$")
                self.assertEqual([row["since"] for row in self.running(node, jid)], since)
            finally:
                for pid in sessions:
                    os.kill(pid, signal.SIGCONT)
            self.assertEqual(node.wait_job(jid)["error"], "cancelled")
            self.assertEqual(hosts.running("sleep 30305"), [])


class Cancel(Case):
    def test_a_job_that_runs_is_stopped(self):
        jid = exed.execute(["web01", "web02"], "sleep 30303", window=1)
        wait_until(lambda: HOSTS.running("sleep 30303"), 20, "it runs")
        out, err = run("cancel", jid)
        self.assertEqual((out, err), (jid + " is being cancelled\n", ""))
        self.assertEqual(exed.wait_job(jid)["error"], "cancelled")
        self.assertIn("cancelled", run("jobs", jid)[0])
        self.assertEqual(HOSTS.running("sleep 30303"), [])

    def test_several_and_those_that_cannot_be(self):
        ended = exed.execute(["web01"], "true")
        exed.wait_job(ended)
        jid = exed.execute(["web01"], "sleep 30304")
        out, err = run("cancel", ended, UNKNOWN, jid, code=1)
        self.assertEqual(out, jid + " is being cancelled\n")
        self.assertIn("has ended, jid " + ended, err)
        self.assertIn("no such jid " + UNKNOWN, err)
        exed.wait_job(jid)
        lines = run("cancel", "--json", jid, code=1)[0].splitlines()
        self.assertEqual(json.loads(lines[0])["jid"], jid)


class Follow(Case):
    def test_lines_have_their_host_and_the_end_its_exit_code(self):
        jid = exed.execute(["web[01:03]"], "echo out of $EXED_TEST_HOST; echo err >&2")
        out, err = self.follow(jid).end()
        self.assertEqual(sorted(out.splitlines()), ["web0%d: out of web0%d" % (i, i) for i in (1, 2, 3)])
        self.assertEqual(sorted(err.splitlines()), ["exed-run: job done: 3 changed"]
                         + ["web0%d: err" % i for i in (1, 2, 3)])

    def test_a_failure_is_named_and_makes_exit_code_1(self):
        jid = exed.execute(["web01", "web02", "nosuch"], "echo x; [ $EXED_TEST_HOST = web01 ] || exit 7")
        out, err = self.follow(jid).end(1)
        self.assertEqual(sorted(out.splitlines()), ["web01: x", "web02: x"])
        self.assertRegex(err, "(?m)^exed-run: web02: failed: exit code 7$")
        self.assertRegex(err, "(?m)^exed-run: nosuch: no match: ")
        self.assertRegex(err, "(?m)^exed-run: job failure: 1 changed, 1 failed, 1 no match ")

    def test_hosts_that_say_nothing_are_named_too(self):
        jid = exed.submit("/ping", {"targets": ["web01", "web02"]})
        self.assertEqual(sorted(self.follow(jid).end()[0].splitlines()), ["web01: ok", "web02: ok"])

    def test_records_come_as_hosts_finish(self):
        jid = exed.execute(["web01", "web02"], WAIT % "come")
        follower = self.follow(jid)
        let_go("come", "web02")
        follower.wait_for("web02: web02 went\n")
        self.assertNotIn("web01", follower.out)
        let_go("come", "web01")
        self.assertEqual(follower.end()[0], "web02: web02 went\nweb01: web01 went\n")

    def test_lines_come_as_they_are_said_and_once(self):
        jid = exed.execute(["web04"], "echo begun; printf 'half '; %s; echo late >&2" % (WAIT % "lines"),
                           lines=True)
        follower = self.follow(jid)
        follower.wait_for("web04: begun\n")
        let_go("lines", "web04")
        out, err = follower.end()
        self.assertEqual(out, "web04: begun\nweb04: half web04 went\n")
        self.assertIn("web04: late\n", err)

    def test_long_output_is_whole(self):
        jid = exed.execute(["web05"], "seq 1 100000")
        out = self.follow(jid).end()[0]
        self.assertTrue(out == "".join("web05: %d\n" % i for i in range(1, 100001)), "output differs")

    def test_bytes_that_are_not_utf8_arrive_in_a_file(self):
        jid = exed.execute(["web05"], r"printf 'a\377\033[31mb\n'")
        self.assertEqual(run("follow", jid)[0], "web05: a\udcff\x1b[31mb\n")

    def test_a_terminal_gets_no_control_characters(self):
        jid = exed.execute(["web05"], r"printf 'a\033[31mb\302\233c\n'")
        ours, theirs = pty.openpty()
        with subprocess.Popen(command("follow", jid), env=environment(), stdin=subprocess.DEVNULL,
                              stdout=theirs, stderr=theirs) as process:
            self.assertEqual(process.wait(60), 0)
        os.close(theirs)
        data = os.read(ours, 65536)
        os.close(ours)
        self.assertIn(b"a\\x1b[31mb\\", data)
        self.assertNotIn(b"\x1b[31m", data)
        self.assertNotIn(b"\xc2\x9b", data)

    def test_json_has_the_rows_with_their_ids(self):
        jid = exed.execute(["web01", "web02"], "echo x")
        rows = [json.loads(line) for line in run("follow", "--json", jid)[0].splitlines()]
        self.assertEqual(rows[0]["job"]["taskid"], jid)
        self.assertEqual([row["id"] for row in rows[1:]], [1, 2, 3])
        self.assertEqual({host for row in rows[1:3] for host in row["entry"]}, {"web01", "web02"})
        self.assertEqual(rows[3]["end"]["state"], 0)
        rest = [json.loads(line) for line in run("follow", "--json", "--from", "1", jid)[0].splitlines()]
        self.assertEqual(rest, rows[2:])

    def test_unknown_jobs_and_positions_are_refused(self):
        self.assertIn("no such jid", run("follow", UNKNOWN, code=1)[1])
        jid = exed.execute(["web01"], "true")
        exed.wait_job(jid)
        self.assertIn("99", run("follow", jid, "--from", "99", code=1)[1])

    def test_an_interrupt_says_how_to_go_on(self):
        jid = exed.execute(["web06", "web07"], WAIT % "intr")
        follower = self.follow(jid)
        let_go("intr", "web06")
        follower.wait_for("web06 went\n")
        follower.process.send_signal(signal.SIGINT)
        err = follower.end(130)[1]
        position, = re.findall("exed-run follow %s --from ([0-9]+)\n" % jid, err)
        let_go("intr", "web07")
        self.assertEqual(self.follow(jid, "--from", position).end()[0], "web07: web07 went\n")

    def test_a_reader_that_leaves_ends_it(self):
        jid = exed.execute(["web08"], "seq 1 200000; %s" % (WAIT % "pipe"), lines=True)
        follower = subprocess.Popen(command("follow", jid), env=environment(), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        follower.stdout.read(1000)
        follower.stdout.close()
        self.assertEqual(follower.wait(60), 1)
        let_go("pipe", "web08")
        exed.wait_job(jid)


class Proxy:
    """Passes connections on to the node, until it is told to cut them."""

    def __init__(self, target):
        self.target, self.pairs, self.made, self.shut = target, [], 0, False
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.socket.accept()[0]
            except OSError:
                return
            self.made += 1
            if self.shut:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            self.pairs.append((client, server))
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            for data in iter(lambda: a.recv(65536), b""):
                b.sendall(data)
        except OSError:
            pass
        for end in (a, b):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.cut()


class Lost(Case):
    def test_a_lost_connection_is_made_again_and_nothing_comes_twice(self):
        proxy = Proxy(exed.port)
        self.addCleanup(proxy.close)
        jid = exed.execute(["web[01:06]"], WAIT % "lost")
        follower = self.follow("--server", proxy.url, jid)
        want = ""
        for i in range(1, 7):
            host = "web%02d" % i
            let_go("lost", host)
            want += "%s: %s went\n" % (host, host)
            follower.wait_for(want)
            if i in (2, 4):
                made = proxy.made
                proxy.shut = i == 4
                proxy.cut()
                wait_until(lambda: proxy.made > made, 20, "it comes again")
                proxy.shut = False
        out, err = follower.end()
        self.assertEqual(out, want)
        self.assertGreaterEqual(proxy.made, 3)
        self.assertRegex(err, r"connection lost \(.*\), trying again")

    def test_exed_is_killed_and_started_again(self):
        with Exed(HOSTS, {"ssh": {"agent": "none"}}) as node:
            jid = node.execute(["web09", "web10"], WAIT % "again", fence=True)
            follower = self.follow(jid, node=node)
            let_go("again", "web09")
            follower.wait_for("web09: web09 went\n")
            node.kill9()
            follower.wait_for("connection lost", "err")
            node.start()
            let_go("again", "web10")
            self.assertEqual(follower.end()[0], "web09: web09 went\nweb10: web10 went\n")

    def test_it_gives_up_when_its_patience_ends(self):
        proxy = Proxy(exed.port)
        self.addCleanup(proxy.close)
        jid = exed.execute(["web01", "web02"], WAIT % "patience")
        follower = self.follow("--server", proxy.url, "--patience", "500ms", jid)
        let_go("patience", "web01")
        follower.wait_for("web01: web01 went\n")
        proxy.shut = True
        proxy.cut()
        err = follower.end(2)[1]
        self.assertIn("exed-run follow %s --from 1\n" % jid, err)
        let_go("patience", "web02")
        exed.wait_job(jid)


class Where(Case):
    def test_by_its_url_and_by_its_socket(self):
        jid = exed.execute(["web01"], "true")
        for server in ("http://127.0.0.1:%d" % exed.port, "http://127.0.0.1:%d/" % exed.port,
                       "unix://%s/exed.sock" % exed.state):
            self.assertIn(jid, run("jobs", "--server", server)[0])

    def test_by_the_directory_of_the_environment(self):
        jid = exed.execute(["web01"], "true")
        done = subprocess.run([PROGRAM, "jobs"], env=environment(STATE_DIRECTORY=exed.state),
                              cwd=exed.state, capture_output=True, text=True, timeout=60)
        self.assertIn(jid, done.stdout, done.stderr)

    def test_nobody_answers(self):
        err = run("jobs", "--server", "http://127.0.0.1:%d" % free_port(), code=2)[1]
        self.assertRegex(err, r"\Aexed-run: jobs: no exed answers at http://127.0.0.1:\d+: .*\n\Z")
        done = subprocess.run([PROGRAM, "jobs"], env=environment(STATE_DIRECTORY=exed.path("nowhere")),
                              cwd=exed.state, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no exed answers at unix://%s/exed.sock: there is no such socket; start it with `exed`"
                      % exed.path("nowhere"), done.stderr)

    def test_a_server_that_is_no_exed(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)

        def answer():
            with server.accept()[0] as conn:
                conn.recv(65536)
                conn.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n\x1b[31m")
        thread = threading.Thread(target=answer)
        thread.start()
        err = run("jobs", "--server", "http://127.0.0.1:%d" % server.getsockname()[1], code=1)[1]
        thread.join(20)
        self.assertIn("does not answer as exed does (status 404)", err)
        self.assertNotIn("\x1b", err)

    def test_what_is_wrong_with_a_server_is_said(self):
        for server in ("127.0.0.1:80", "ftp://x", "http://", "unix://x", "http://a?b"):
            self.assertIn("http://HOST:PORT", run("jobs", "--server", server, code=2)[1])
        err = run("jobs", "--server", "http://user:secret@127.0.0.1", code=2)[1]
        self.assertNotIn("secret", err)
        self.assertIn("token file", err)

    def test_a_token(self):
        token = exed.write("token", "# mine\nsecret-of-mine\n", 0o600)
        node = Exed(HOSTS, {"ssh": {"agent": "none"}, "api": {"token_file": token}}).launch()
        try:
            wait_until(lambda: node.get("/jobs").status == 401, 15, "it serves")
            url = "http://127.0.0.1:%d" % node.port
            err = run("jobs", "--server", url, code=1)[1]
            self.assertIn("--token-file", err)
            self.assertIn("JID", run("jobs", "--server", url, "--token-file", token)[0])
            out, err = run("jobs", "--server", url, EXED_TOKEN_FILE=token)
            self.assertIn("JID", out)
            self.assertEqual(err, "")
            named = exed.write("named", "me: secret-of-mine\n")
            self.assertIn("JID", run("jobs", "--server", url, "--token-file", named)[0])
            wrong = exed.write("wrong", "secret-of-others\n")
            err = run("jobs", "--server", url, "--token-file", wrong, code=1)[1]
            self.assertNotIn("secret", err)
        finally:
            node.stop()
        for path in ("/nosuch/token", exed.write("empty", "\n# nothing\n"), exed.write("bad", "a b\n")):
            self.assertIn("token file", run("jobs", "--token-file", path, code=2)[1])


if __name__ == "__main__":
    unittest.main()
