# SPDX-License-Identifier: MIT
"""Redis's clock moves in the middle of jobs; nobody's clock but Redis's, by a preloaded object."""

import os
import struct
import time
from contextlib import ExitStack

from common import (Accepted, Failure, Hosts, NODE_TIMEOUT, check_job, check_leases, check_nodes, command, make_node,
                    preload, recheck, submit, taken_over, wait_ended)
from exedtest import Redis

SHIFTS = (3600, -3600, 30 * 86400)


class MovedRedis(Redis):
    """A redis-server whose wall clock is the machine's plus what move() says, in seconds."""

    def start(self):
        shared = preload("clock_shift", self.path("clock_shift.so"))
        self.move(0)
        ours = {"LD_PRELOAD": shared, "CLOCK_SHIFT_FILE": self.path("shift")}
        os.environ.update(ours)
        try:
            return super().start()
        finally:
            for name in ours:
                del os.environ[name]

    def move(self, seconds):
        mode = "r+b" if os.path.exists(self.path("shift")) else "wb"
        with open(self.path("shift"), mode) as f:
            f.write(struct.pack("=q", seconds))

    def seconds_off(self):
        seconds, _ = self.ask("TIME")
        return round(int(seconds) - time.time())


def one_round(rng, hosts, redis, nodes, tally, kept, shift):
    targets, problems, jobs = sorted(hosts.host), [], []
    before = [taken_over(node) for node in nodes]
    for _ in range(3):
        answer = submit(rng.choice(nodes), targets, command(rng.uniform(0.1, 0.5)), window=rng.randint(3, 8))
        if answer is None or answer.status != 201:
            problems.append("POST /execute: %s" % (answer,))
        else:
            jobs.append(Accepted(answer.body["jid"], targets, False))
    moment = rng.uniform(0, 1.5)
    time.sleep(moment)
    redis.move(shift)
    if abs(redis.seconds_off() - shift) > 5:
        problems.append("the clock did not move: this has tested nothing")
    moved = time.monotonic()
    for accepted in jobs:
        try:
            job = wait_ended(nodes[0], accepted.jid)
        except Failure as e:
            problems.append(str(e))
            continue
        kept.append((job, accepted))
        problems += check_job(job, accepted, hosts.ran(), tally.counts)
        if job["state"] != 0:
            problems.append("job %s did not end as Done: %s" % (accepted.jid, job["error"]))
    # Long enough for somebody who compares clocks to think somebody dead.
    time.sleep(max(0, moved + 1.5 * NODE_TIMEOUT - time.monotonic()))
    false = [jid for n, node in enumerate(nodes) for jid in taken_over(node) - before[n]]
    if false:
        problems.append("false takeover of %s" % ", ".join(false))
    problems += check_leases(nodes[0]) + check_nodes(nodes[1], len(nodes))
    redis.move(0)
    tally.counts["clock moved"] += 1
    tally.counts["false takeovers"] += len(false)
    return "%d jobs, Redis's clock %+d s after %.2f s" % (len(jobs), shift, moment), problems


def run(rngs, tally):
    kept = []
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        redis = stack.enter_context(MovedRedis())
        tally.nodes = nodes = [stack.enter_context(make_node(hosts, n, redis.url)) for n in range(2)]
        for number, rng in enumerate(rngs, 1):
            shift = SHIFTS[(number - 1) % len(SHIFTS)]
            text, problems = one_round(rng, hosts, redis, nodes, tally, kept, shift)
            tally.line(number, text, problems)
        tally.problems += recheck(hosts, nodes[0], kept)
