# SPDX-License-Identifier: MIT
"""What the chaos suites share: hosts that count for themselves, nodes on one store, and what is expected
of a job whatever was broken meanwhile."""

import collections
import http.client
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))

from exedtest import Exed, KeyTwice, Sshd, wait_until  # noqa: E402
from exedtest.procs import SLOW  # noqa: E402

OK, SKIPPED, FAILED, UNREACHABLE, CHANGED = 1, 2, 3, 4, 5
NODE_TIMEOUT = 2.0
# What a request to a node that is killed, stopped or without its store may end with.
BROKEN = (OSError, http.client.HTTPException, ValueError)
KEYS = ("ed25519", "ecdsa", "rsa")  # a node logs in with a key of its own, so that hosts know who came
JID = 36  # characters of a jid, with which an op begins


def command(seconds):
    """One word per op and node into the host's file, then some work."""
    return ("echo $EXED_OP $EXED_TEST_NODE $(date +%%s%%N) >>$EXED_TEST_DIR/ran; sleep %.2f; echo end"
            % seconds)


_JID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# A job that was accepted: its targets, and whether it runs behind a fence, with which nothing may stay unknown.
Accepted = collections.namedtuple("Accepted", "jid targets fenced")


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


class Failure(Exception):
    """A promise was broken."""


class Tally:
    """Counts over all rounds of a suite, and what went wrong."""

    def __init__(self, suite, rounds):
        self.suite, self.rounds, self.counts, self.problems = suite, rounds, collections.Counter(), []
        self.nodes = []  # whose logs are shown when something is wrong
        self.began = time.monotonic()

    def fail(self, text):
        self.problems.append(text)

    def line(self, number, text, problems):
        print("%s %d/%d: %s: %s" % (self.suite, number, self.rounds, text,
                                    "; ".join(problems[:5]) if problems else "ok"), flush=True)
        self.problems += problems
        for jid in sorted(set(_JID.findall(" ".join(problems))))[:3]:
            for number, node in enumerate(self.nodes, 1):
                for line in [line for line in _read(node.error_log).splitlines() if jid in line][-20:]:
                    print("  node %d: %s" % (number, line), flush=True)

    def summary(self):
        words = ", ".join("%d %s" % (n, name) for name, n in sorted(self.counts.items()))
        print("%s: %d rounds, %s, %d problems, %.0f s" % (
            self.suite, self.rounds, words, len(self.problems), time.monotonic() - self.began), flush=True)
        return not self.problems


def preload(name, path):
    """Builds NAME.c as an object to preload at that path, which is returned."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".c")
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O1", "-shared", "-fPIC", "-o", path, source, "-ldl"],
                   check=True)
    return path


class Hosts(Sshd):
    """Real sshd hosts whose commands know by $EXED_TEST_NODE which node's key logged in."""

    def __init__(self, n=20):
        super().__init__(n, options=["PermitUserEnvironment yes"])
        lines = []
        for kind in KEYS:
            with open(self.keys[kind] + ".pub", encoding="utf-8") as f:
                lines.append('environment="EXED_TEST_NODE=%s" %s' % (kind, f.read()))
        self.write("authorized_keys", "".join(lines), 0o600)
        self.by_key = {kind: self.write("hosts-%s.ini" % kind, self.inventory_text(self.keys[kind]))
                       for kind in KEYS}

    def ran(self):
        """{(jid, host name): [(node, time in seconds), ...]}, as the hosts' files have it."""
        found = collections.defaultdict(list)
        for host in self.hosts:
            for line in host.read("ran").splitlines():
                op, node, stamp = line.split(" ")
                found[op[:JID], host.name].append((node, int(stamp) / 1e9))
        return found


def make_node(hosts, number, redis_url=None, conf=None):
    """Node `number` (0, 1, 2) of those that share a store; its `key_kind` is its name on the hosts."""
    kind = KEYS[number]
    settings = {
        "inventory": {"path": hosts.by_key[kind]}, "ssh": {"key": hosts.keys[kind]},
        "store": {"node_timeout": "%gs" % NODE_TIMEOUT}, "runner": {"settle_timeout": "30s"},
    }
    if redis_url:
        settings["runner"]["redis_url"] = redis_url
    for section, keys in (conf or {}).items():
        settings.setdefault(section, {}).update(keys)
    node = Exed(hosts, settings)
    node.key_kind = kind
    return node


def submit(node, targets, cmd, fence=False, **fields):
    """POST /execute. Returns the answer, None when the node broke off."""
    body = dict(fields, targets=targets, cmd=cmd)
    if fence:
        body["fence"] = True
    try:
        return node.post("/execute", body, timeout=20)
    except BROKEN:
        return None


def wait_ended(node, jid, limit=60.0):
    """The job object with its records when it has ended; Failure when it does not end or is not there."""
    def ended():
        answer = node.get("/jobs/%s?outputs=1" % jid, timeout=20)
        if answer.status == 404:
            raise Failure("job %s does not exist" % jid)
        return answer.status == 200 and answer.body["state"] != 1 and answer.body

    try:
        return wait_until(ended, limit, "job %s ended" % jid, 0.05)
    except AssertionError as e:
        raise Failure("job %s is stuck: %s" % (jid, e)) from None
    except KeyTwice as e:
        raise Failure("job %s: %s" % (jid, e)) from None


def check_job(job, accepted, ran, counts):
    """What is wrong with an ended job: a list of texts. ran: what the hosts' files say."""
    problems, jid, records = [], job["taskid"], job["return_data"]
    if jid != accepted.jid or sorted(records) != sorted(accepted.targets):
        problems.append("job %s has records of %d of %d targets" % (
            accepted.jid, len(records), len(accepted.targets)))
    for name, found in records.items():
        times = len(ran.get((jid, name), ()))
        what = "job %s on %s: %r, and ran %d times" % (jid, name, found, times)
        counts["records"] += 1
        if len(found) != 1:
            problems.append("not one record: " + what)
            continue
        record = found[0]
        if record["status"] == CHANGED and not record.get("unknown"):
            counts["ran once"] += 1
            if times != 1:
                problems.append("not once: " + what)
        elif record["status"] == FAILED and record.get("unknown"):
            counts["unknown"] += 1
            if times > 1:
                problems.append("twice: " + what)
            if accepted.fenced:
                problems.append("unknown behind a fence: " + what)
        elif record["status"] in (SKIPPED, UNREACHABLE):
            counts["not run"] += 1
            if times:
                problems.append("run, and recorded as not run: " + what)
        else:
            problems.append("odd: " + what)
    return problems


def check_leases(node):
    """What is wrong with the leases when no job runs."""
    try:
        wait_until(lambda: node.get("/leases").body == [], 5, "no lease is left")
    except AssertionError as e:
        return [str(e)]
    return []


def check_nodes(node, count):
    """Whether so many nodes beat."""
    def beats():
        answer = node.get("/nodes")
        return {one["id"]: one["beat"] for one in answer.body} if answer.status == 200 else {}

    before = wait_until(beats, 10, "GET /nodes answers")

    def all_beat():
        now = beats()
        return sum(1 for name, beat in now.items() if beat > before.get(name, 0)) >= count

    try:
        wait_until(all_beat, 3 * NODE_TIMEOUT, "%d nodes beat" % count, 0.1)
    except AssertionError as e:
        return [str(e)]
    return []


_TAKEN = re.compile(r"jid=([0-9a-f-]{36}) slice=\d+ is taken over")


def taken_over(node):
    """jids of which the node says that it took slices over from a dead one."""
    return set(_TAKEN.findall(_read(node.error_log)))


def recheck(hosts, node, kept):
    """At the end of a suite: the hosts' files once more, for what came late, and the store: whatever else was
    broken since, each job tells the same, and no job runs. kept: (job object, Accepted) pairs."""
    ran, problems, counts = hosts.ran(), [], collections.Counter()
    listed = set(node.get("/jobs").body)
    for job, accepted in kept:
        problems += check_job(job, accepted, ran, counts)
        try:
            now = wait_ended(node, accepted.jid, 1)
        except Failure as e:
            now = e
        if now != job:
            problems.append("job %s tells something else: %.300r, was %.300r" % (accepted.jid, now, job))
        if accepted.jid not in listed:
            problems.append("job %s is not listed any more" % accepted.jid)
    for jid in listed - {accepted.jid for _, accepted in kept}:
        if node.get("/jobs/" + jid).body["state"] == 1:
            problems.append("job %s, of which no client has heard, still runs" % jid)
    return ["later: " + text for text in problems]


__all__ = ["Accepted", "BROKEN", "CHANGED", "FAILED", "Failure", "Hosts", "NODE_TIMEOUT", "SLOW", "Tally",
           "check_job", "check_leases", "check_nodes", "command", "make_node", "preload", "recheck", "submit",
           "taken_over", "wait_ended"]
