# SPDX-License-Identifier: MIT
"""One node; its redis-server is killed with kill -9 under 20 jobs a second."""

import os
import signal
import threading
import time
from contextlib import ExitStack

from common import Failure, Hosts, check_job, check_leases, command, make_node, recheck, submit, wait_ended

RATE = 20  # jobs a second
CLIENTS = 4
SECONDS = 2.0  # of a round's load


class Load:
    """Clients that submit small jobs at the rate, each with its own share of moments."""

    def __init__(self, node, hosts, rng):
        self.node, self.problems, self.accepted, self.unsure = node, [], [], []
        self.refused, self.began = 0, time.monotonic()
        names = sorted(hosts.host)
        plans = [(at / RATE, sorted(rng.sample(names, 2)), rng.uniform(0, 0.2))
                 for at in range(int(RATE * SECONDS))]
        self.threads = [threading.Thread(target=self.client, args=(plans[n::CLIENTS],))
                        for n in range(CLIENTS)]

    def client(self, plans):
        for at, targets, seconds in plans:
            time.sleep(max(0, self.began + at - time.monotonic()))
            answer = submit(self.node, targets, command(seconds))
            if answer is None:
                self.problems.append("no answer from a node that lives")
            elif answer.status == 201:
                self.accepted.append((answer.body["jid"], targets))
            elif answer.status == 503:
                self.refused += 1
                if "retry-after" not in answer.headers:
                    self.problems.append("503 without Retry-After: %r" % (answer.body,))
                if isinstance(answer.body, dict) and answer.body.get("jid"):
                    self.unsure.append((answer.body["jid"], targets))
            else:
                self.problems.append("POST /execute: %d %s" % (answer.status, answer.body))

    def start(self):
        for thread in self.threads:
            thread.start()

    def join(self):
        for thread in self.threads:
            thread.join()


def one_round(rng, hosts, node, tally, kept):
    load = Load(node, hosts, rng)
    moment = rng.uniform(0.1, SECONDS - 0.1)
    load.start()
    time.sleep(moment)
    os.kill(node.redis_pid(), signal.SIGKILL)
    load.join()
    problems = load.problems
    for jid, targets in load.accepted:
        try:
            job = wait_ended(node, jid)
        except Failure as e:
            problems.append(str(e))
            continue
        kept.append((job, targets))
        problems += check_job(job, targets, hosts.ran(), tally.counts)
        if job["state"] != 0:
            problems.append("job %s did not end as Done: %s" % (jid, job["error"]))
    for jid, targets in load.unsure:  # a 503 that could not say whether the job exists
        if node.get("/jobs/" + jid).status == 200:
            tally.counts["jobs that a 503 named and that exist"] += 1
            problems += check_job(wait_ended(node, jid), targets, hosts.ran(), tally.counts)
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
        node = stack.enter_context(make_node(hosts, 0))
        for number, rng in enumerate(rngs, 1):
            text, problems = one_round(rng, hosts, node, tally, kept)
            tally.line(number, text, problems)
        tally.problems += recheck(hosts, kept)
        listed = set(node.get("/jobs").body)
        lost = [job["taskid"] for job, _ in kept if job["taskid"] not in listed]
        if lost:
            tally.fail("%d accepted jobs are not listed any more" % len(lost))
