#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures exed beside the floor and other tools, and holds it against the bar.

usage: bench.py [--short] [--only KEY,KEY] [--rounds N] [--out DIR]

Each row of the table is a measurement of its own (README.md); contenders take turns in one run. The table goes
to the terminal and, with the figures of all rounds, to DIR (build/bench). With --short a few rows are
measured in about a minute; one that is over twice its bar is measured once more, since a busy machine may have
been why, and if it is again the exit code is 1. The last line counts the rows, as other suites count their cases.
"""

import argparse
import json
import os
import platform
import sys
import time
import traceback

import meter
import files
import hosts
import loop
import more
import records
import web
from table import as_json, lines_of, markdown, text_table

from exedtest import ROOT

ROWS = hosts.ROWS + web.ROWS + records.ROWS + loop.ROWS + files.ROWS + more.ROWS
GROSS = 2.0  # how far over the bar fails the short form


class Bench:
    """What measurements are told: short, rounds."""

    def __init__(self, short, rounds):
        self.short, self.rounds = short, rounds


def pick(words, short):
    if words:
        keys = words.split(",")
        unknown = [key for key in keys if key not in {row.key for row in ROWS}]
        if unknown:
            sys.exit("no such row: %s; there are %s" % (", ".join(unknown), ", ".join(row.key for row in ROWS)))
        return [row for row in ROWS if row.key in keys]
    return [row for row in ROWS if row.short or not short]


def measure(bench, row):
    began = time.monotonic()
    try:
        row.run(bench, row)
    except Exception as e:  # the other rows are measured all the same
        traceback.print_exc()
        row.error = ("%s: %s" % (type(e).__name__, e)).splitlines()[0][:160]
    for line in lines_of(row):
        print("  ".join(cell for cell in line if cell))
    print("  (%.0f s)" % (time.monotonic() - began), flush=True)


def machine():
    with open("/proc/loadavg", encoding="utf-8") as f:
        load = f.read().split()[0]
    return "%d cores, %s, load %s at the end, %s" % (
        os.cpu_count(), platform.machine(), load, time.strftime("%Y-%m-%d %H:%M"))


def write(rows, out):
    os.makedirs(out, exist_ok=True)
    for name, text in (("table.txt", text_table(rows)), ("table.md", markdown(rows)),
                       ("figures.json", json.dumps({"machine": machine(), "rows": as_json(rows)}, indent=1))):
        with open(os.path.join(out, name), "w", encoding="utf-8") as f:
            f.write(text)


def failure(row):
    """Why the row is grossly over its bar, or could not be measured; None when it is neither."""
    if row.error:
        return "%s: %s" % (row.key, row.error)
    for bar in row.bars:
        if row.verdict(bar, GROSS) == "misses":
            return "%s: %.3g, more than twice over the bar of %.3g" % (row.key, row.ratio(bar), bar.must)
    return None


def measure_short(bench, rows):
    """Returns why rows are lost, a text each."""
    lost = []
    for row in rows:
        measure(bench, row)
        if failure(row):
            print("once more, since " + failure(row), flush=True)
            row.clear()
            measure(bench, row)
        if failure(row):
            lost.append(failure(row))
    return lost


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--out", default=os.path.join(ROOT, "build", "bench"))
    args = parser.parse_args()
    meter.adopt_orphans()
    bench = Bench(args.short, args.rounds or (2 if args.short else 5))
    rows = pick(args.only, args.short)
    if args.short:
        lost = measure_short(bench, rows)
    else:
        for row in rows:
            measure(bench, row)
        lost = [row.key for row in rows if row.error]
    write(rows, args.out)
    print("\n" + text_table(rows) + machine())
    for text in lost:
        print("FAILED " + text)
    if args.short:
        print("%d passed, %d failed" % (len(rows) - len(lost), len(lost)))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
