#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes one call fail at a time, and looks at what became of 20 hosts.

usage: torture.py [--scenario exec,node] [--function NAME[,NAME...]] [--sample N] [--seed N]
                  [--seconds S] [--confirm] [--jobs N]
       torture.py --scenario exec --fault NAME:N:TIMES:ERROR        (one run again, with the stack that failed)

Scenarios: exec (exed-run exec on simulated hosts), node (exed with its private redis-server, and a job). A
first run without a fault counts the calls; then the n-th call of each function fails, for n up to 300,
each 97th after that, and each that came from a new place in the program. --sample takes N of them at
random. One line per problem; at the end a table by function; the exit code is 1 when a promise was broken.
The programs are $EXED_BUILD/torture-exed and torture-exed-run. --jobs says how many run at once: most of a
run's time goes by in waiting for a time limit.
"""

import argparse
import collections
import os
import random
import signal
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from exec_run import ExecRun  # noqa: E402
from node_run import NodeRun  # noqa: E402
from plan import make_plan, read_calls  # noqa: E402

SCENARIOS = {"exec": ExecRun, "node": NodeRun}
JOBS = 6
PROGRESS = 60  # seconds between two lines that say how far it is


class Tally:
    """What became of the runs, by function. Any thread."""

    def __init__(self, name, plan):
        self.name, self.todo, self.planned = name, iter(plan), len(plan)
        self.lock = threading.Lock()
        self.began = self.shown = time.monotonic()
        self.runs, self.once, self.bad = (collections.Counter() for _ in range(3))
        self.longest = collections.defaultdict(lambda: (0, ""))

    def next(self):
        with self.lock:
            return next(self.todo, None)

    def say(self, text):
        print("%s %s" % (self.name, text), flush=True)

    def count(self, fault, seconds, first, problems):
        """A run has ended: with the problems of the first try, and those that count."""
        function = fault.partition(":")[0]
        with self.lock:
            self.runs[function] += 1
            self.longest[function] = max(self.longest[function], (seconds, fault))
            self.once[function] += bool(first and not problems)
            self.bad[function] += bool(problems)
            if problems:
                self.say("%s: %s" % (fault, "\n    ".join(problems)))
            elif first:
                self.say("%s, once and not again: %s" % (fault, "\n    ".join(first)))
            now = time.monotonic()
            if now - self.shown >= PROGRESS:
                self.shown = now
                self.say("%d of %d runs, %.0f s" % (self.runs.total(), self.planned, now - self.began))

    def show(self, counts, places):
        row = "%s %-32s %7s %7s %7s %7s %9s  %s"
        print(row % (self.name, "function", "calls", "places", "faults", "once", "problems", "longest"))
        for function in sorted(self.runs):
            print(row % (self.name, function, counts[function], len(places.get(function, [])),
                         self.runs[function], self.once[function], self.bad[function],
                         "%4.1f s, %s" % self.longest[function]))
        self.say("%d runs, %d with problems, %.0f s" % (
            self.runs.total(), self.bad.total(), time.monotonic() - self.began))


def attempt(scenario, fault):
    """The problems of one run; a failure of the harness is one, too."""
    try:
        return scenario.run(fault)
    except Exception:  # pylint: disable=broad-except
        return ["the harness failed: " + traceback.format_exc()]


def run_plan(make, tally, options):
    """Runs the faults of the plan, several at a time."""
    until = time.monotonic() + options.seconds if options.seconds else None

    def work(scenario):
        while until is None or time.monotonic() < until:
            fault = tally.next()
            if fault is None:
                return
            began = time.monotonic()
            first = found = attempt(scenario, fault)
            seconds = time.monotonic() - began
            if found and options.confirm:
                found = attempt(scenario, fault)
            tally.count(fault, seconds, first, found)

    scenarios = [make() for _ in range(options.jobs)]
    threads = []
    try:
        threads = [threading.Thread(target=work, args=(s,)) for s in scenarios]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        tally.todo = iter(())  # also when a signal ends it early
        for thread in threads:
            thread.join()
        for scenario in scenarios:
            scenario.close()


def torture(name, options, rng):
    scenario = SCENARIOS[name]()
    try:
        if options.fault:
            found = scenario.run(options.fault, show=True)
            print("\n    ".join(found) or "ok")
            return not found
        calls, problems = scenario.count_calls()
        counts, places = read_calls(calls) if not problems else ({}, {})
    finally:
        scenario.close()
    if problems:
        print("%s without a fault: %s" % (name, "\n    ".join(problems)), flush=True)
        return False
    plan = make_plan(counts, places, options.function, rng)
    print("%s: %d calls of %d functions from %d places, %d faults" % (
        name, sum(counts.values()), len(counts), sum(map(len, places.values())), len(plan)), flush=True)
    if options.sample:
        plan = rng.sample(plan, min(options.sample, len(plan)))
    tally = Tally(name, plan)
    run_plan(SCENARIOS[name], tally, options)
    tally.show(counts, places)
    return tally.runs.total() > 0 and not tally.bad.total()


def end_on_signal(number, _):
    raise SystemExit("torture: ended by signal %d" % number)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--scenario", default="")
    parser.add_argument("--function", default="")
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", default="")
    parser.add_argument("--seconds", type=float, default=0, help="begin no run after so many")
    parser.add_argument("--confirm", action="store_true", help="a problem counts when it comes twice")
    parser.add_argument("--jobs", type=int, default=JOBS, help="runs at once")
    parser.add_argument("--fault", default="")
    options = parser.parse_args()
    names = [name for name in options.scenario.split(",") if name] or list(SCENARIOS)
    for name in names:
        if name not in SCENARIOS:
            parser.error("no scenario %s; there are %s" % (name, ", ".join(SCENARIOS)))
    options.function = [name for name in options.function.split(",") if name]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_on_signal)
    seed = options.seed or str(random.SystemRandom().randrange(10 ** 9))
    print("torture: SEED=%s" % seed, flush=True)
    bad = [name for name in names if not torture(name, options, random.Random(seed))]
    print("torture: " + ("%s: a promise was broken" % ", ".join(bad) if bad else "every promise was kept"), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
