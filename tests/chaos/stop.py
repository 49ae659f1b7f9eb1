# SPDX-License-Identifier: MIT
"""Two nodes; one is stopped with SIGSTOP for three times node_timeout while the other takes its slices and
another job takes the hosts. Once it goes on it may start nothing of what it has lost."""

import os
import signal
import time
from contextlib import ExitStack

from common import (Failure, Hosts, NODE_TIMEOUT, SLOW, can_fence, check_job, check_leases, check_nodes,
                    command, make_node, recheck, submit, taken_over, wait_ended)
from exedtest import Redis


def submit_all(rng, nodes, targets, count, fences, problems):
    jids = []
    for _ in range(count):
        fenced = fences and rng.random() < 0.3
        answer = submit(rng.choice(nodes), targets, command(rng.uniform(0, 0.2)), fenced,
                        window=rng.randint(2, 8))
        if answer is None or answer.status != 201:
            problems.append("POST /execute: %s" % (answer,))
        else:
            jids.append(answer.body["jid"])
    return jids


def one_round(rng, hosts, nodes, fences, tally, kept):
    targets, problems = sorted(hosts.host), []
    victim = rng.choice(nodes)
    other = next(node for node in nodes if node is not victim)
    before = taken_over(other)
    jids = submit_all(rng, nodes, targets, 6, fences, problems)
    moment = rng.uniform(0, 0.8)
    time.sleep(moment)
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        jids += submit_all(rng, [other], targets, 1, fences, problems)
        time.sleep(max(0, stopped + 3 * NODE_TIMEOUT * SLOW - time.monotonic()))
        mine = taken_over(other) - before
        goes_on = time.time()
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    for jid in jids:
        try:
            job = wait_ended(other, jid)
        except Failure as e:
            problems.append(str(e))
            continue
        kept.append((job, targets))
        problems += check_job(job, targets, hosts.ran(), tally.counts)
    for (jid, name), runs in hosts.ran().items():
        for node, at in runs:
            if jid in mine and node == victim.key_kind and at > goes_on:
                problems.append("job %s on %s: exec by the stopped node after the takeover" % (jid, name))
    problems += check_leases(other) + check_nodes(other, 2)
    tally.counts["jobs taken over"] += len(mine)
    tally.counts["nodes stopped"] += 1
    return "%d jobs, node %d stopped after %.2f s, %d taken over" % (
        len(jids), nodes.index(victim) + 1, moment, len(mine)), problems


def run(rngs, tally):
    kept = []
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        redis = stack.enter_context(Redis())
        # Connections are not kept, so that every start has all its steps, each of which may be the last.
        nodes = [stack.enter_context(make_node(hosts, n, redis.url, {"ssh": {"keep": "10ms"}}))
                 for n in range(2)]
        fences = can_fence(nodes[0], hosts)
        for number, rng in enumerate(rngs, 1):
            text, problems = one_round(rng, hosts, nodes, fences, tally, kept)
            tally.line(number, text, problems)
        tally.problems += recheck(hosts, kept)
        if not tally.counts["jobs taken over"]:
            tally.fail("nothing was ever taken over: this has tested nothing")
