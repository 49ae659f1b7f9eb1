# SPDX-License-Identifier: MIT
"""Pauses of the loop thread: the longest turn while jobs of 10,000 targets are made, run, listed, read, followed
and deleted."""

import re

from exedtest import Fleet

from hosts import node
from table import Bar, Row

N = 10000


def turns(exed):
    """{upper bound in ms: turns up to it} of the node's loop, by CPU time."""
    text = exed.get("/metrics").body
    return {float(bound) * 1000: int(count) for bound, count in
            re.findall(r'exed_loop_turn_seconds_bucket\{le="([^"]+)"\} (\d+)', text)}


def longest(before, after):
    """The bound that no turn in between was over, and how many were over 5 ms."""
    new = {bound: after[bound] - before[bound] for bound in after}
    total = new[float("inf")]
    bound = min(bound for bound, count in new.items() if count == total)
    return bound, total - new[5.0]


def pauses(bench, row):
    with Fleet(N) as fleet, node(fleet, window=500) as exed:
        exed.wait_job(exed.execute(["sim00001"], "true"))
        worst = 0
        state = {}

        def step(name, fn):
            nonlocal worst
            before = turns(exed)
            result = fn()
            bound, over = longest(before, turns(exed))
            row.note("%s: no turn over %g ms, %d over 5 ms" % (name, bound, over))
            worst = max(worst, bound)
            return result

        def run():
            state["jid"] = exed.execute(["all"], "true")
            exed.wait_job(state["jid"], 120)

        step("POST of %d targets, run" % N, run)
        step("the job with its records", lambda: exed.job(state["jid"]))
        step("followed", lambda: exed.records(state["jid"], 60))
        step("listed with detail", lambda: exed.get("/jobs?detail=1"))
        step("GET /target", lambda: exed.get("/target?pattern=*"))
        step("deleted", lambda: exed.delete("/jobs/" + state["jid"]))
        row.add("exed", worst)


ROWS = [
    Row("pause", "longest turn of the loop with jobs of 10,000 targets, a bound", "ms CPU", pauses, [Bar(None, 20, 5)]),
]
