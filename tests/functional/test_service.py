# SPDX-License-Identifier: MIT
"""Services of hosts through the API: started, stopped, restarted and reloaded by the host's own manager, which
is a stand-in on the hosts' path; asked for a change only when there is one to make, and quoted when it fails."""

import os
import sys
import time
import unittest
from urllib.parse import urlencode

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, Sshd, alive  # noqa: E402

OK, FAILED, UNREACHABLE, CHANGED = 1, 3, 4, 5
BAD = "bad service name or state"
SUCCESS = {"status", "started", "seconds"}  # all that the record of a success has

# Keeps the state of NAME in the file NAME beside bin/, and writes down what it was asked to change.
SYSTEMCTL = r"""#!/bin/sh
d=${0%/*}/..
word=inactive
[ -f "$d/$2" ] && read -r word <"$d/$2"
change() {
  echo "$*" >>"$d/calls"
  [ -f "$d/$2.fails" ] && { echo trying; cat "$d/$2.fails" >&2; exit 5; }
  [ -f "$d/$2.hangs" ] && sleep 600
  echo "$3" >"$d/$2"
}
case $1 in
is-system-running) [ ! -f "$d/offline" ] || echo offline ;;
is-active)
  echo "$word"
  [ "$word" = active ] || exit 3 ;;
start)
  change "$@" active
  if [ -f "$d/$2.daemon" ]; then
    setsid sleep 600 &
    echo $! >"$d/daemon.pid"
  fi
  [ ! -f "$d/$2.dies" ] || echo failed >"$d/$2" ;;
restart | reload) change "$@" active ;;
stop) change "$@" inactive ;;
show) [ "$2" != nothing ] || echo LoadState=not-found ;;
status) echo "$2: $word" >&2; exit 4 ;;
is-enabled) [ -f "$d/$2.enabled" ] && echo enabled ;;
enable | disable)
  echo "$*" >>"$d/calls"
  if [ "$1" = enable ]; then : >"$d/$2.enabled"; else rm "$d/$2.enabled"; fi ;;
esac
"""

SERVICE = r"""#!/bin/sh
d=${0%/*}/..
case $2 in
status) [ -f "$d/$1.runs" ] || exit 3 ;;
start) echo "service $*" >>"$d/calls"; : >"$d/$1.runs" ;;
stop) echo "service $*" >>"$d/calls"; rm "$d/$1.runs" ;;
esac
"""


def program(directory, name, text):
    """A stand-in in directory/bin."""
    os.makedirs(os.path.join(directory, "bin"), exist_ok=True)
    path = os.path.join(directory, "bin", name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, 0o755)


class Directory:
    """A host's directory; fresh for each test, since service names are."""

    def __init__(self, path):
        self.path = path

    def put(self, name, text=""):
        with open(os.path.join(self.path, name), "w", encoding="utf-8") as f:
            f.write(text)

    def lines(self, name):
        try:
            with open(os.path.join(self.path, name), encoding="utf-8") as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def calls(self, service):
        """What the manager was asked to change of the service, without the state that it ends in."""
        return [line.split()[0] for line in self.lines("calls") if line.split()[1] == service]


class Service(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sshd = Sshd(3)
        cls.addClassCleanup(cls.sshd.stop)
        cls.dirs = {host.name: Directory(host.dir) for host in cls.sshd.hosts}
        for host in cls.sshd.hosts:
            program(host.dir, "systemctl", SYSTEMCTL)
        cls.sshd.start()
        cls.exed = Exed(cls.sshd)
        cls.addClassCleanup(cls.exed.stop)
        program(cls.exed.path("node"), "systemctl", SYSTEMCTL)
        cls.exed.extra_env["PATH"] = cls.exed.path("node", "bin") + ":" + os.environ["PATH"]
        cls.exed.start()

    def get(self, **query):
        return self.exed.get("/service?" + urlencode(query))

    def ask(self, name, state, target="web01", **more):
        """The record of the one target of a GET."""
        answer = self.get(target=target, name=name, state=state, **more)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(list(answer.body), [target])
        return answer.body[target]

    def post(self, **body):
        """The records of a POST's job, by host, and its object."""
        jid = self.exed.submit("/service", body)
        records = self.exed.records(jid)
        self.assertTrue(all(len(found) == 1 for found in records.values()), records)
        return {host: found[0] for host, found in records.items()}, self.exed.job(jid)

    def test_states_by_number_change_once(self):
        name, host = "numbers", self.dirs["web01"]
        for state, status, calls in ((0, CHANGED, ["start"]), (0, OK, []), (1, CHANGED, ["stop"]), (1, OK, []),
                                     (2, CHANGED, ["restart"]), (2, CHANGED, ["restart"]), (0, OK, [])):
            before = len(host.calls(name))
            record = self.ask(name, state)
            self.assertEqual((record["status"], set(record)), (status, SUCCESS), record)
            self.assertEqual(host.calls(name)[before:], calls)

    def test_states_by_name_and_graceful(self):
        name, host = "names", self.dirs["web01"]
        self.assertEqual(self.ask(name, "started")["status"], CHANGED)
        self.assertEqual(self.ask(name, "started")["status"], OK)
        self.assertEqual(self.ask(name, "restarted", graceful="True")["status"], CHANGED)
        self.assertEqual(self.ask(name, 2, graceful=1)["status"], CHANGED)
        self.assertEqual(self.ask(name, 2, graceful="false")["status"], CHANGED)
        self.assertEqual(self.ask(name, "reloaded")["status"], CHANGED)
        self.assertEqual(self.ask(name, "stopped", graceful=1)["status"], CHANGED)
        self.assertEqual(host.calls(name), ["start", "reload", "reload", "restart", "reload", "stop"])

    def test_a_job_on_several_hosts(self):
        name = "several"
        self.dirs["web02"].put(name, "active\n")
        records, job = self.post(targets=["web01", "web02", "web03"], name=name, state=0)
        self.assertEqual({host: record["status"] for host, record in records.items()},
                         {"web01": CHANGED, "web02": OK, "web03": CHANGED})
        self.assertEqual((job["state"], job["operate"], job["operate_args"]),
                         (0, "service", {"name": name, "start": True, "restart": False, "graceful": False}))
        self.assertEqual(job["return_data"]["web02"], [records["web02"]])
        self.assertEqual(self.dirs["web02"].calls(name), [])
        _, job = self.post(targets="web01", name=name, state="1")
        self.assertEqual(job["operate_args"], {"name": name, "start": False, "restart": False, "graceful": False})
        _, job = self.post(targets="web01", name=name, state=2, graceful=True)
        self.assertEqual((job["operate_args"]["restart"], job["operate_args"]["graceful"]), (True, True))

    def test_a_failure_has_the_words_of_the_manager(self):
        for host in self.dirs.values():
            host.put("broken.fails", "Job for broken.service failed.\nSee the log.\n")
        self.dirs["web02"].put("broken", "active\n")
        records, job = self.post(targets=["web01", "web02"], name="broken", state=0)
        record = records["web01"]
        self.assertEqual((record["status"], record["rtc"]), (FAILED, 5))
        self.assertEqual(record["error"], "Job for broken.service failed.\nSee the log.")
        self.assertEqual(record["stderr"], "Job for broken.service failed.\nSee the log.\n")
        self.assertEqual(record["stdout"], "trying\nbroken: inactive\n")
        self.assertEqual(set(records["web02"]), SUCCESS)
        self.assertEqual(job["state"], 2)
        self.assertEqual(self.ask("broken", 2)["error"], record["error"])

    def test_a_service_that_dies_at_once_has_failed(self):
        self.dirs["web01"].put("short.dies")
        record = self.ask("short", 0)
        self.assertEqual(record["status"], FAILED)
        self.assertEqual(record["error"], "short is failed after start\nshort: failed")

    def test_a_service_that_is_not_there_cannot_be_stopped(self):
        record = self.ask("nothing", 1)
        self.assertEqual((record["status"], record["error"]), (FAILED, "nothing: inactive"))

    def test_bad_names_and_states(self):
        good = {"targets": "web01", "name": "nginx", "state": 1}
        for change in ({"state": 3}, {"state": -1}, {"state": "x"}, {"state": 1.5}, {"state": True}, {"state": []},
                       {"state": None}, {"name": None}, {"name": ""}, {"name": "-x"}, {"name": "a b"},
                       {"name": "a;b"}, {"name": "a'b"}, {"name": 5}, {"name": "x" * 256}, {"name": "../x"}):
            body = dict(good, **change)
            answer = self.exed.post("/service", body)
            self.assertEqual((answer.status, answer.body), (400, {"message": BAD}), body)
            if isinstance(list(change.values())[0], (str, int)) and change != {"state": True} and change != {"name": 5}:
                answer = self.get(**body)
                self.assertEqual((answer.status, answer.body), (400, {"message": BAD}), body)
        for missing in ("name", "state"):
            query = {key: value for key, value in good.items() if key != missing}
            self.assertEqual((self.get(**query).status, self.get(**query).body["message"]), (400, BAD))
        answer = self.exed.post("/service", {"name": "-", "state": 9})
        self.assertEqual((answer.status, answer.body["message"]), (400, "no target(s) given"))
        self.assertEqual(self.exed.post("/service", dict(good, targets="nobody", state=9)).status, 404)
        answer = self.exed.post("/service", dict(good, graceful="perhaps"))
        self.assertEqual(answer.status, 400)
        self.assertIn("graceful", answer.body["message"])
        self.assertEqual([self.dirs["web01"].calls(name) for name in ("nginx", "-x", "a")], [[], [], []])

    def test_lines_do_not_take_the_words_away(self):
        self.dirs["web01"].put("lined.fails", "no such thing\n")
        jid = self.exed.submit("/service", {"targets": "web01", "name": "lined", "state": 0, "lines": True})
        record = self.exed.wait_job(jid)["return_data"]["web01"][0]
        self.assertEqual((record["error"], record["stderr"]), ("no such thing", "no such thing\n"))

    def test_what_was_started_goes_on_and_does_not_belong_to_the_op(self):
        host = self.dirs["web01"]
        host.put("daemon.daemon")
        begin = time.monotonic()
        record = self.ask("daemon", 0)
        self.assertEqual((record["status"], set(record)), (CHANGED, SUCCESS), record)
        self.assertLess(time.monotonic() - begin, 10)
        pid = int(host.lines("daemon.pid")[0])
        self.assertTrue(alive(pid))
        with open("/proc/%d/environ" % pid, "rb") as f:
            names = {entry.split(b"=")[0].decode() for entry in f.read().split(b"\0") if entry}
        self.assertEqual({name for name in names if name.startswith("EXED_") and "_TEST_" not in name}, set())

    def test_a_manager_that_hangs_is_ended(self):
        self.dirs["web01"].put("hanging.hangs")
        record = self.ask("hanging", 0, timeout=1)
        self.assertEqual((record["status"], record["rtc"], record["timed_out"], record["survivors"]),
                         (FAILED, 124, True, 0), record)

    def test_the_local_executor(self):
        node = Directory(self.exed.path("node"))
        self.assertEqual(set(self.ask("here", 0, executor="local")), SUCCESS)
        self.assertEqual(self.ask("here", 0, executor="local")["status"], OK)
        self.assertEqual(node.calls("here"), ["start"])
        node.put("here.fails", "not today\n")
        record = self.ask("here", 2, executor="local")
        self.assertEqual((record["status"], record["error"]), (FAILED, "not today"))

    @unittest.skipIf(os.path.isdir("/run/systemd/system"), "systemd runs on this machine")
    def test_service_where_systemd_does_not_run(self):
        host = self.dirs["web03"]
        host.put("offline")
        program(host.path, "service", SERVICE)
        try:
            statuses = [self.ask("old", state, "web03")["status"] for state in (0, 0, 1, 1)]
        finally:
            os.unlink(os.path.join(host.path, "offline"))
        self.assertEqual(statuses, [CHANGED, OK, CHANGED, OK])
        self.assertEqual([line for line in host.lines("calls") if " old " in line],
                         ["service old start", "service old stop"])


class Enabled(unittest.TestCase):
    def test_start_enables_and_stop_disables_when_it_is_set(self):
        with Sshd(1) as sshd:
            program(sshd.hosts[0].dir, "systemctl", SYSTEMCTL)
            with Exed(sshd, conf={"ssh": {"service_enable": True}}) as exed:
                statuses = []
                for state in (0, 0, 1, 1, 2):
                    answer = exed.get("/service?target=web01&name=web&state=%d" % state)
                    self.assertEqual(answer.status, 200, answer.body)
                    statuses.append(answer.body["web01"]["status"])
            self.assertEqual(statuses, [CHANGED, OK, CHANGED, OK, CHANGED])
            self.assertEqual(Directory(sshd.hosts[0].dir).calls("web"),
                             ["start", "enable", "stop", "disable", "restart", "enable"])


if __name__ == "__main__":
    unittest.main()
