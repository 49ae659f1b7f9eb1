# SPDX-License-Identifier: MIT
"""Records into Redis: exed's sink and store functions beside redis-benchmark's XADD, on the same durability."""

import json
import os
import re
import shutil

from exedtest import BUILD, ROOT, Redis

from meter import Cpu, Ran
from table import Bar, Row

PROGRAM = os.path.join(BUILD, "bench", "records")
SIZE = 200


def sink(redis, n):
    """-> (records a CPU second, records a second of wall time), of n records of 200 bytes each."""
    words = [PROGRAM, redis.socket, os.path.join(ROOT, "lua", "store", "functions.lua"), str(n), str(SIZE)]
    with Cpu([redis.pid]) as cpu:
        told = json.loads(Ran(words).check().output)
    with redis.client() as client:
        stored = sum(len(rows) // 2 for jid in client("ZRANGE", "exed:jobs", 0, -1)
                     for _, rows in client("XRANGE", "exed:job:%s:results" % jid.decode(), "-", "+"))
    assert told["records"] == stored >= n, (told, stored)
    n = stored
    return n / (cpu.s + told["cpu_s"]), n / told["wall_s"], cpu.s / n * 1e6, told["cpu_s"] / n * 1e6


def benchmark(redis, n):
    with Cpu([redis.pid]) as cpu:
        ran = Ran(["redis-benchmark", "-s", redis.socket, "-n", str(n), "-P", "16", "-c", "50", "-q",
                   "XADD", "bench", "*", "f", "x" * SIZE]).check()
    stored = redis.ask("XLEN", "bench")
    assert stored >= n, stored
    rates = re.findall(r"([\d.]+) requests per second", ran.output)
    return n / (cpu.s + ran.cpu_s), float(rates[-1]), cpu.s / n * 1e6, ran.cpu_s / n * 1e6


def records(bench, row):
    n = 50000 if bench.short else 100000
    if not shutil.which("redis-benchmark"):
        row.skip("redis-benchmark", "it is not installed")
    for turn in range(bench.rounds):
        for who, fn in (("exed", sink), ("redis-benchmark", benchmark)):
            if who in row.skipped:
                continue
            with Redis() as redis:
                rate, wall, server, client = fn(redis, n)
            row.add(who, rate)
            if turn == 0:
                row.note("%s: %s a second of wall time; CPU of redis %.1f us, of the client %.1f us" % (
                    who, "{:,.0f}".format(wall), server, client))


ROWS = [
    Row("records", "records of 200 bytes into Redis, appendfsync always, beside XADD -P 16",
        "records a CPU second", records, [Bar("redis-benchmark", 0.4, 0.5)], "more", short=True),
]
