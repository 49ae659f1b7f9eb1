# SPDX-License-Identifier: MIT
"""Three nodes on one store; a random one is killed at a random moment of jobs on 20 hosts, of which the first
one of each round is fenced."""

import time
from contextlib import ExitStack

from common import (Accepted, Failure, Hosts, NODE_TIMEOUT, check_job, check_leases, check_nodes, command,
                    make_node, recheck, submit, taken_over, wait_ended)
from exedtest import Redis


def one_round(rng, hosts, nodes, tally, kept):
    targets = sorted(hosts.host)
    victim = rng.choice(nodes)
    others = [node for node in nodes if node is not victim]
    before = sum(len(taken_over(node)) for node in nodes)
    early = rng.random() < 0.3  # it comes back before the others think it dead
    jobs, problems = [], []

    def more(node):
        fenced = not jobs or rng.random() < 0.5
        answer = submit(node, targets, command(rng.uniform(0.05, 0.6)), fenced, window=rng.randint(2, 20))
        if answer and answer.status == 201:
            jobs.append(Accepted(answer.body["jid"], targets, fenced))
            tally.counts["fenced jobs" if fenced else "plain jobs"] += 1
        elif answer and answer.status != 503:
            problems.append("POST /execute: %d %s" % (answer.status, answer.body))

    for _ in range(rng.randint(2, 4)):
        more(rng.choice(nodes))
    moment = rng.uniform(0, 1.2)
    time.sleep(moment)
    victim.kill9()
    more(rng.choice(others))
    if early:
        time.sleep(rng.uniform(0, NODE_TIMEOUT / 2))
        victim.start()
    ended = 0
    for accepted in jobs:
        try:
            job = wait_ended(others[0], accepted.jid)
            ended += 1
        except Failure as e:
            problems.append(str(e))
            continue
        kept.append((job, accepted))
        problems += check_job(job, accepted, hosts.ran(), tally.counts)
    if not early:
        victim.start()
    problems += check_leases(others[1]) + check_nodes(others[0], len(nodes))
    tally.counts["jobs ended"] += ended
    tally.counts["jobs taken over"] += sum(len(taken_over(node)) for node in nodes) - before
    tally.counts["nodes killed"] += 1
    return "%d jobs, node %d killed after %.2f s%s" % (
        len(jobs), nodes.index(victim) + 1, moment, ", back early" if early else ""), problems


def run(rngs, tally):
    kept = []
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        redis = stack.enter_context(Redis())
        tally.nodes = nodes = [stack.enter_context(make_node(hosts, n, redis.url)) for n in range(3)]
        for number, rng in enumerate(rngs, 1):
            text, problems = one_round(rng, hosts, nodes, tally, kept)
            tally.line(number, text, problems)
        tally.problems += recheck(hosts, nodes[0], kept)
