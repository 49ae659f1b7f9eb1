#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks things at random moments and counts what became of every host, from the hosts' own files.

usage: chaos.py [--rounds N] [--seed TEXT] [--suite NAME[,NAME...]]

Suites: nodes (kill -9 of one of three nodes), redis (kill -9 of the private redis-server under 20 jobs a
second), stop (SIGSTOP for three times node_timeout), clock (Redis's clock an hour forward, an hour back, 30
days forward), followers (200 that drop and come back), tasks (kill -9 of one of three nodes while it restarts a
service on 20 hosts). One line per round, one per suite, and a last one;
the exit code is 1 when a promise was broken. The seed decides what is broken and when; the same seed makes
the same choices, but no machine is twice as fast at the same moment.
"""

import argparse
import importlib
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import common  # noqa: E402

SUITES = {"nodes": "nodes", "redis": "redis_kill", "stop": "stop", "clock": "clock",
          "followers": "followers", "tasks": "rolling"}
ROUND_LIMIT = 120  # seconds that a round may take, on average, before all is given up


def end_on_signal(number, _):
    raise SystemExit("chaos: ended by signal %d%s" % (
        number, ", over its time" if number == signal.SIGALRM else ""))


def run_suite(name, seed, rounds):
    tally = common.Tally(name, rounds)
    rngs = [random.Random("%s/%s/%d" % (seed, name, n)) for n in range(rounds)]
    signal.alarm(int((60 + ROUND_LIMIT * rounds) * common.SLOW))
    try:
        importlib.import_module(SUITES[name]).run(rngs, tally)
    except (AssertionError, common.Failure) as e:
        tally.fail("%s: %s" % (type(e).__name__, e))
        print("%s: %s" % (name, e), flush=True)
    finally:
        signal.alarm(0)
    return tally.summary(), tally


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", default="")
    parser.add_argument("--suite", default="")
    options = parser.parse_args()
    seed = options.seed or str(random.SystemRandom().randrange(10 ** 9))
    names = [name for name in options.suite.split(",") if name] or list(SUITES)
    for name in names:
        if name not in SUITES:
            parser.error("no suite %s; there are %s" % (name, ", ".join(SUITES)))
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_on_signal)
    began = time.monotonic()
    print("chaos: SEED=%s ROUNDS=%d SUITE=%s" % (seed, options.rounds, ",".join(names)), flush=True)
    results = [run_suite(name, seed, options.rounds) for name in names]
    bad = [tally for good, tally in results if not good]
    for tally in bad:
        for text in tally.problems[:20]:
            print("%s: %s" % (tally.suite, text), flush=True)
    print("chaos: SEED=%s, %d suites, %d with problems, %.0f s" % (
        seed, len(results), len(bad), time.monotonic() - began), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
