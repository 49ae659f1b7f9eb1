#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes one call fail at a time, and looks at what became of 20 hosts.

usage: torture.py [--scenario exec,node] [--function NAME[,NAME...]] [--sample N] [--seed N]
                  [--seconds S] [--confirm]
       torture.py --scenario exec --fault NAME:N:TIMES:ERROR        (one run again, with the stack that failed)

Scenarios: exec (exed-run exec on simulated hosts), node (exed with its private redis-server, and a job). A
first run without a fault counts the calls; then the n-th call of each function fails, for n up to 300,
each 97th after that, and each that came from a new place in the program. --sample takes N of them at
random. One line per problem; the last line says how many runs there were; the exit code is 1 when a promise
was broken. The programs are $EXED_BUILD/torture-exed and torture-exed-run.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from exec_run import ExecRun  # noqa: E402
from node_run import NodeRun  # noqa: E402
from plan import make_plan, read_calls  # noqa: E402

SCENARIOS = {"exec": ExecRun, "node": NodeRun}
WORKERS = 2


def run_plan(make, plan, seconds, confirm):
    """Runs the faults of the plan, two at a time. Returns (runs, problems)."""
    lock, todo, problems, runs = threading.Lock(), iter(plan), [], [0]
    until = time.monotonic() + seconds if seconds else None

    def work(scenario):
        while until is None or time.monotonic() < until:
            with lock:
                fault = next(todo, None)
            if fault is None:
                return
            found = scenario.run(fault)
            if found and confirm:
                print("%s %s, tried again after: %s" % (scenario.name, fault, found[0]), flush=True)
                found = scenario.run(fault)
            with lock:
                runs[0] += 1
                if found:
                    problems.append(fault)
                    print("%s %s: %s" % (scenario.name, fault, "\n    ".join(found)), flush=True)

    scenarios = [make() for _ in range(WORKERS)]
    try:
        threads = [threading.Thread(target=work, args=(s,)) for s in scenarios]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for scenario in scenarios:
            scenario.close()
    return runs[0], problems


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
    began = time.monotonic()
    runs, bad = run_plan(SCENARIOS[name], plan, options.seconds, options.confirm)
    print("%s: %d runs, %d with problems, %.0f s" % (name, runs, len(bad), time.monotonic() - began),
          flush=True)
    return runs > 0 and not bad


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
    good = [torture(name, options, random.Random(seed)) for name in names]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
