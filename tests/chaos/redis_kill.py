# SPDX-License-Identifier: MIT
"""One node; its redis-server is killed with kill -9 under 20 jobs a second. In some rounds its disk is slow, so
that it is mostly killed between a write and the answer to it: what the node then sends again is there already."""

import os
import signal
import threading
import time
from contextlib import ExitStack

from common import (Accepted, Failure, Hosts, check_job, check_leases, command, make_node, preload, recheck,
                    submit, wait_ended)

RATE = 20  # jobs a second
CLIENTS = 4
SECONDS = 2.0  # of a round's load
PAUSE = 20  # milliseconds that a slow disk needs for a write
SERVER = """#!/bin/sh
export LD_PRELOAD=%s SYNC_PAUSE_US=$(cat %s)
exec redis-server "$@"
"""


class Disk:
    """How slow the disk of a private redis-server is, from its next start on."""

    def __init__(self, hosts):
        self.path = hosts.path("pause")
        self.set(0)
        shared = preload("slow_sync", hosts.path("slow_sync.so"))
        self.server = hosts.write("redis-server", SERVER % (shared, self.path), 0o755)

    def set(self, milliseconds):
        with open(self.path, "w", encoding="utf-8") as f:
            f.write(str(1000 * milliseconds))


class Load:
    """Clients that submit small jobs at the rate, each with its own share of moments."""

    def __init__(self, node, hosts, rng):
        self.node, self.problems, self.accepted, self.unsure = node, [], [], []
        self.refused, self.began = 0, time.monotonic()
        names = sorted(hosts.host)
        plans = [(at / RATE, sorted(rng.sample(names, 2)), rng.uniform(0, 0.2), rng.random() < 0.2)
                 for at in range(int(RATE * SECONDS))]
        self.threads = [threading.Thread(target=self.client, args=(plans[n::CLIENTS],))
                        for n in range(CLIENTS)]

    def client(self, plans):
        for at, targets, seconds, fenced in plans:
            time.sleep(max(0, self.began + at - time.monotonic()))
            answer = submit(self.node, targets, command(seconds), fenced)
            if answer is None:
                self.problems.append("no answer from a node that lives")
            elif answer.status == 201:
                self.accepted.append(Accepted(answer.body["jid"], targets, fenced))
            elif answer.status == 503:
                self.refused += 1
                if "retry-after" not in answer.headers:
                    self.problems.append("503 without Retry-After: %r" % (answer.body,))
                if isinstance(answer.body, dict) and answer.body.get("jid"):
                    self.unsure.append(Accepted(answer.body["jid"], targets, fenced))
            else:
                self.problems.append("POST /execute: %d %s" % (answer.status, answer.body))

    def start(self):
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join()


def one_round(rng, hosts, node, disk, tally, kept):
    load = Load(node, hosts, rng)
    disk.set(PAUSE if rng.random() < 0.5 else 0)  # of the redis-server that comes after this one
    moment = rng.uniform(0.1, SECONDS - 0.1)
    load.start()
    time.sleep(moment)
    os.kill(node.redis_pid(), signal.SIGKILL)
    load.join()
    problems = load.problems
    for accepted in load.accepted:
        try:
            job = wait_ended(node, accepted.jid)
        except Failure as e:
            problems.append(str(e))
            continue
        kept.append((job, accepted))
        problems += check_job(job, accepted, hosts.ran(), tally.counts)
        if job["state"] != 0:
            problems.append("job %s did not end as Done: %s" % (accepted.jid, job["error"]))
    for accepted in load.unsure:  # a 503 that could not say whether the job exists
        if node.get("/jobs/" + accepted.jid).status == 200:
            tally.counts["jobs that a 503 named and that exist"] += 1
            problems += check_job(wait_ended(node, accepted.jid), accepted, hosts.ran(), tally.counts)
    problems += check_leases(node)
    tally.counts["jobs accepted"] += len(load.accepted)
    tally.counts["503"] += load.refused
    tally.counts["redis killed"] += 1
    return "%d jobs, %d refused, redis killed after %.2f s" % (
        len(load.accepted), load.refused, moment), problems


def run(rngs, tally):
    kept = []
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        disk = Disk(hosts)
        node = stack.enter_context(make_node(hosts, 0, conf={"store": {"redis_server": disk.server}}))
        tally.nodes = [node]
        for number, rng in enumerate(rngs, 1):
            text, problems = one_round(rng, hosts, node, disk, tally, kept)
            tally.line(number, text, problems)
        tally.problems += recheck(hosts, node, kept)
