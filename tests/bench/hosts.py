# SPDX-License-Identifier: MIT
"""Measurements of jobs on simulated hosts: cold and warm connections, memory, output, slow and bad hosts."""

import json
import os
import tempfile
import time
from contextlib import ExitStack

from meter import Cpu, Ran, resident_kb, tree_kb
from peers import PEERS, ControlMaster
from table import Bar, Row

from exedtest import ROOT, Exed, Fleet, Redis, wait_until

FLOOR = os.path.join(ROOT, "build", "support", "floor")
FLOOR_PLAIN = FLOOR + "-plain"  # over the system's libssh2
WINDOW = 256


def node(fleet, **ssh):
    """An exed of its own for these hosts; keep=0 makes every job's connections cold."""
    conf = {"agent": "none", "window": WINDOW, "max_connections": 12000}
    conf.update(ssh)
    return Exed(fleet, {"ssh": conf, "log": {"access_log": "none"}})


def floor(fleet, n, command="true", window=WINDOW, warm=0, program=FLOOR):
    """One run of the floor -> its JSON. Every host must have done it."""
    words = [program, "-p", str(fleet.port), "-k", fleet.key, "-n", str(n), "-w", str(window),
             "-u", fleet.user, "-warm", str(warm), "--", command]
    told = json.loads(Ran(words).check().output)
    assert told["cold"]["failed"] == 0, told
    return told


class Job:
    """One job from its POST to its end: cpu_s of exed and its redis, wall_s. The simulator's counters and the
    records must say that each of the n hosts ran the command once.

    exed is asked for the end only when the simulator has run all: an answer with 1,000 targets costs as much as
    ten of them, and who asks how often is not what is measured."""

    def __init__(self, exed, fleet, command="true", targets="all", n=None, connects=None):
        n = n or len(fleet.names)
        fleet.reset()
        with Cpu(exed.pids()) as cpu:
            jid = exed.execute([targets], command)
            until = time.monotonic() + 170
            while not self._all_ran(fleet, n) or exed.job(jid, outputs=False)["state"] == 1:
                assert time.monotonic() < until, "the job has not ended"
                time.sleep(0.03)
        self.cpu_s, self.wall_s, self.jid, self.each = cpu.s, cpu.wall_s, jid, cpu.each
        job = exed.job(jid, outputs=False)
        stats = fleet.stats()
        assert job["state"] == 0, job["error"]
        assert stats["execs"] == n and set(stats["ops"].values()) == {1}, "%d execs of %d" % (stats["execs"], n)
        if connects is not None:
            assert stats["connections"] == connects, "%d connections" % stats["connections"]

    @staticmethod
    def _all_ran(fleet, n):
        stats = fleet.stats(True)
        return stats["execs"] >= n and stats["execs_now"] == 0


def _all_closed(fleet):
    wait_until(lambda: fleet.stats(True)["connections_now"] == 0, 20, "the connections are closed")


def cold(bench, row):
    n = 600 if bench.short else 1000
    with Fleet(n) as fleet, node(fleet, keep=0) as exed, tempfile.TemporaryDirectory() as where:
        exed.wait_job(exed.execute(["sim0001"], "true"))
        peers = [peer for peer in PEERS if _wanted(peer, row, bench)]
        for _ in range(bench.rounds):
            _all_closed(fleet)
            row.add("exed", Job(exed, fleet, connects=n).cpu_s * 1000 / n)
            _all_closed(fleet)
            fleet.reset()
            row.add("floor", floor(fleet, n)["cold"]["cpu_ms_per_host"])
            assert fleet.stats(True)["execs"] == n
        for peer in peers:
            for _ in range(1 if peer.name == "ansible" or bench.short else 2):
                row.add(peer.name, peer.run(fleet, where))


def _wanted(peer, row, bench):
    if bench.short and peer.name not in ("asyncssh", "pdsh"):
        return False
    why = peer.missing()
    if why:
        row.skip(peer.name, why)
    return not why


def warm(bench, row):
    n, turns = (600, 2) if bench.short else (1000, 4)
    with Fleet(n) as fleet, node(fleet, keep=300) as exed, tempfile.TemporaryDirectory() as where:
        exed.wait_job(exed.execute(["all"], "true"), 60)
        for _ in range(bench.rounds):
            cpu = sum(Job(exed, fleet, connects=0).cpu_s for _ in range(turns))
            row.add("exed", cpu * 1000 / n / turns)
            row.add("floor", floor(fleet, n, warm=turns)["warm"]["cpu_ms_per_host"])
        master = ControlMaster()
        if not bench.short and _wanted(master, row, bench):
            row.add(master.name, master.run(fleet, where))


def flat(bench, row):
    """The cost of a host must not depend on how many there are."""
    sizes = (100, 1000, 10000)
    with Fleet(sizes[-1]) as fleet, node(fleet, keep=0) as exed:
        exed.wait_job(exed.execute(["sim00001"], "true"))
        best = {}
        for _ in range(2):
            for n in sizes:
                turns = max(1, 1000 // n)
                _all_closed(fleet)
                cpu = sum(Job(exed, fleet, targets="sim[00001:%05d]" % n, n=n).cpu_s for _ in range(turns))
                best.setdefault(n, []).append(cpu * 1000 / n / turns)
        costs = {n: min(values) for n, values in best.items()}
        row.note(", ".join("%d targets: %.3f ms a host" % item for item in sorted(costs.items())))
        row.add("exed", max(costs.values()) / min(costs.values()))


def many(bench, row):
    n = 10000
    with Fleet(n) as fleet, node(fleet, keep=0) as exed:
        exed.wait_job(exed.execute(["sim00001"], "true"))
        for _ in range(2):
            _all_closed(fleet)
            job = Job(exed, fleet, connects=n)
            row.add("exed", job.wall_s)
            row.note("exed: %.3f ms of CPU a host" % (job.cpu_s * 1000 / n))
            row.add("floor", floor(fleet, n)["cold"]["wall_s"])


def far(bench, row):
    """A round trip of 20 ms: what counts is how often a host is waited for."""
    n, window = 1000, 512
    with Fleet(n, flags=["-rtt", "20"]) as fleet, node(fleet, keep=0, window=window) as exed:
        exed.wait_job(exed.execute(["sim0001"], "true"))
        for _ in range(bench.rounds):
            _all_closed(fleet)
            row.add("exed", Job(exed, fleet, connects=n).wall_s)
            row.add("floor", floor(fleet, n, window=window)["cold"]["wall_s"])


def _run_all_at_once(exed, fleet, n):
    """Starts a job of which all n hosts run at one moment, which is now. A busy machine takes longer to get there."""
    for seconds in (4, 15, 60):
        fleet.reset()
        jid = exed.execute(["all"], "sleep %d" % seconds)
        wait_until(lambda: fleet.stats(True)["execs"] == n, 100, "all have started")
        if fleet.stats(True)["execs_now"] == n:
            return jid
        exed.wait_job(jid, 100)
    raise AssertionError("never ran all at once")


def memory(bench, row):
    n = 1000
    with Fleet(n) as fleet, node(fleet, window=n) as exed:
        exed.wait_job(exed.execute(["sim0001"], "true"))
        idle = tree_kb(exed.pid)
        jid = _run_all_at_once(exed, fleet, n)
        row.add("exed", (tree_kb(exed.pid) - idle) / 1024)
        exed.wait_job(jid, 100)
        row.add("exed's peak", (tree_kb(exed.pid, "VmHWM") - idle) / 1024)
        row.note("1,000 idle connections after it: %.1f MB" % ((tree_kb(exed.pid) - idle) / 1024))
        row.add("floor", floor(fleet, n, "sleep 2", n)["peak_rss_kb"] / 1024)


def idle_memory(bench, row):
    with Fleet(10) as fleet, node(fleet) as exed:
        time.sleep(1)
        row.add("exed", resident_kb(exed.pids()) / 1024)
        row.note("exed with its redis-server; pages of libraries that both have count once")
        row.note("exed alone: %.1f MB" % (exed.rss_kb() / 1024))


def output(bench, row):
    n, size = 100, 1 << 20
    mib = n * size / (1 << 20)
    with Fleet(n) as fleet, node(fleet) as exed:
        exed.wait_job(exed.execute(["all"], "true"))
        idle = exed.rss_kb()
        for _ in range(bench.rounds):
            job = Job(exed, fleet, "output %d" % size)
            row.add("exed", job.cpu_s * 1000 / mib)
            for who, program in (("floor", FLOOR_PLAIN), ("floor over exed's libssh2", FLOOR)):
                told = floor(fleet, n, "output %d" % size, program=program)
                assert told["cold"]["bytes"] == n * size, told
                row.add(who, told["cold"]["cpu_ms_per_mib"])
                row.note("%s: libssh2 %s" % (who, told["libssh2"]))
            for record in _records(exed, job.jid):
                assert len(record["stdout"]) == size, len(record["stdout"])
            exed.delete("/jobs/" + job.jid)
        row.add("exed's memory over idle, MB", (exed.peak_rss_kb() - idle) / 1024)


def _records(exed, jid):
    for number, line in enumerate(exed.follow(jid)):
        if number:
            yield from line.values()


def hanging(bench, row):
    n, limit = 1000, 5
    with Fleet(n) as fleet, node(fleet, keep=0) as exed:
        row.add("as long as all take that answer", Job(exed, fleet).wall_s)
    rules = {"sim%04d" % i: "hang" for i in range(50, n + 1, 50)}
    with Fleet(n, rules) as fleet, node(fleet, connect_timeout=limit) as exed:
        began = time.monotonic()
        jid = exed.execute(["all"], "true")

        def done():
            job = exed.get("/jobs/%s?detail=1" % jid).body
            return sum(job["counts"].values()) >= n - len(rules)

        wait_until(done, 60, "all others are done")
        others = time.monotonic() - began
        early = exed.job(jid)
        exed.wait_job(jid, 60)
        took = time.monotonic() - began
        readable = len(early["return_data"])
        assert readable >= n - len(rules) or others > limit, "%d records readable" % readable
        row.note("all others done after %.1f s, their records readable then" % others)
        row.add("exed", took - limit)


def nodes(bench, row):
    """What limits it is the machine: the nodes, their store and the simulated hosts share its processors."""
    n = 3000
    for _ in range(min(bench.rounds, 2)):
        walls = {}
        for count in (1, 3):
            with Redis() as redis, Fleet(n) as fleet, ExitStack() as stack:
                conf = {"ssh": {"agent": "none", "window": 200, "known_hosts": fleet.known_hosts},
                        "runner": {"redis_url": redis.url}}
                started = [stack.enter_context(Exed(fleet, conf=conf)) for _ in range(count)]
                walls[count] = Job(started[0], fleet, "sleep 1", connects=n).wall_s
        row.note("1 node %.2f s, 3 nodes %.2f s" % (walls[1], walls[3]))
        row.add("exed", walls[1] / walls[3])


ROWS = [
    Row("cold", "cold: connect, login, exec, close, stored", "ms CPU a host", cold,
        [Bar("floor", 1.5, 1.2), Bar("pdsh", 1 / 20), Bar("asyncssh", 1 / 3)], short=True),
    Row("warm", "warm: exec on a connection that is there, stored", "ms CPU a host", warm,
        [Bar("floor", 2, 1.5)], short=True),
    Row("flat", "cost a host at 100, 1,000, 10,000 targets: the highest over the lowest", "ratio", flat,
        [Bar(None, 1.15)]),
    Row("memory", "1,000 hosts at once, over idle", "MB", memory, [Bar(None, 80, 62)], short=True),
    Row("idle", "idle memory", "MB", idle_memory, [Bar(None, 20, 12)], short=True),
    Row("many", "10,000 hosts, window %d" % WINDOW, "s wall", many, [Bar("floor", 2, 1.4)]),
    Row("far", "1,000 hosts at 20 ms round trip, window 512", "s wall", far, [Bar("floor", 1.5, 1.2)]),
    Row("hanging", "2% of 1,000 hosts hang: end of the job behind the limit of 5 s", "s wall", hanging,
        [Bar(None, 2, 1)]),
    Row("nodes", "3,000 hosts of `sleep 1`, window 200 a node: 3 nodes against 1", "times as fast", nodes,
        [Bar(None, 2.5)], better="more"),
    Row("output", "100 hosts x 1 MB, stored", "ms CPU a MB", output, [Bar("floor", 2, 1.5)], short=True),
]
