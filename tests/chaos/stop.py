# SPDX-License-Identifier: MIT
"""Two nodes; one is stopped with SIGSTOP for three times node_timeout while the other takes its slices and
another job takes the hosts, for itself alone where it gets them. Once it goes on it may start nothing of what
it has lost."""

import os
import signal
import time
from contextlib import ExitStack

from common import (Accepted, Failure, Hosts, NODE_TIMEOUT, SLOW, check_job, check_leases, check_nodes,
                    command, make_node, recheck, submit, taken_over, wait_ended)
from exedtest import Redis


def submit_all(rng, nodes, targets, count, problems):
    jobs = []
    for _ in range(count):
        fenced = rng.random() < 0.3
        answer = submit(rng.choice(nodes), targets, command(rng.uniform(0, 0.2)), fenced,
                        window=rng.randint(2, 8))
        if answer is None or answer.status != 201:
            problems.append("POST /execute: %s" % (answer,))
        else:
            jobs.append(Accepted(answer.body["jid"], targets, fenced))
    return jobs


def take_hosts(node, targets, until):
    """A job that has the hosts for itself, as soon as the other jobs have ended; [] when they do not until then."""
    while time.monotonic() < until:
        answer = submit(node, targets, command(0), True, lock="exclusive")
        if answer is not None and answer.status == 201:
            return [Accepted(answer.body["jid"], targets, True)]
        time.sleep(0.05)
    return []


def check_stopped(victim, lost, goes_on, ran):
    """What the stopped node has started of the jobs that it has lost since it went on."""
    return ["job %s on %s: exec by the stopped node after the takeover" % (jid, name)
            for (jid, name), runs in ran.items() for node, at in runs
            if jid in lost and node == victim.key_kind and at > goes_on]


def one_round(rng, hosts, nodes, tally, kept):
    targets, problems = sorted(hosts.host), []
    victim = rng.choice(nodes)
    other = next(node for node in nodes if node is not victim)
    before = taken_over(other)
    jobs = submit_all(rng, nodes, targets, rng.choice((3, 6)), problems)
    moment = rng.uniform(0, 0.8)
    time.sleep(moment)
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + 3 * NODE_TIMEOUT * SLOW
        jobs += submit_all(rng, [other], targets, 1, problems)
        alone = take_hosts(other, targets, until)
        time.sleep(max(0, until - time.monotonic()))
        mine = taken_over(other) - before
        goes_on = time.time()
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    for accepted in jobs + alone:
        try:
            job = wait_ended(other, accepted.jid)
        except Failure as e:
            problems.append(str(e))
            continue
        kept.append((job, accepted))
        problems += check_job(job, accepted, hosts.ran(), tally.counts)
    problems += check_stopped(victim, mine, goes_on, hosts.ran())
    problems += check_leases(other) + check_nodes(other, 2)
    tally.counts["jobs taken over"] += len(mine)
    tally.counts["jobs that had the hosts alone"] += len(alone)
    tally.counts["nodes stopped"] += 1
    return "%d jobs, node %d stopped after %.2f s, %d taken over" % (
        len(jobs), nodes.index(victim) + 1, moment, len(mine)), problems


def run(rngs, tally):
    kept = []
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        redis = stack.enter_context(Redis())
        # Connections are not kept, so that every start has all its steps, each of which may be the last.
        tally.nodes = nodes = [
            stack.enter_context(make_node(hosts, n, redis.url, {"ssh": {"keep": "10ms"}})) for n in range(2)]
        for number, rng in enumerate(rngs, 1):
            text, problems = one_round(rng, hosts, nodes, tally, kept)
            tally.line(number, text, problems)
        tally.problems += recheck(hosts, nodes[1], kept)
        if not tally.counts["jobs taken over"]:
            tally.fail("nothing was ever taken over: this has tested nothing")
