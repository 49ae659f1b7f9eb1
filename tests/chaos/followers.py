# SPDX-License-Identifier: MIT
"""200 followers of a job drop at random and come back at any node, one of which is killed. The stream that
each has in the end is byte for byte the same, and what any of them saw before is a beginning of it."""

import asyncio
import json
import time
from contextlib import ExitStack

from common import Failure, Hosts, check_job, command, make_node, recheck, submit, wait_ended
from exedtest import Redis

FOLLOWERS = 200
AT_ONCE = 25  # that connect at the same moment: the rest of them queue, so that the machine is not the limit
LIMIT = 60.0


class Cut(Exception):
    """The stream ended without its last chunk."""


async def read_stream(port, jid, stop_after):
    """Follows until the end, or for some seconds. Returns (bytes of the body, whether it was whole)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    body, until = b"", time.monotonic() + stop_after
    try:
        writer.write(b"GET /jobs/%s?follow=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % (jid.encode(), port))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise Cut(head)
        while True:
            size = await asyncio.wait_for(reader.readline(), max(0.001, until - time.monotonic()))
            if not size.endswith(b"\r\n"):
                return body, False
            n = int(size, 16)
            data = await asyncio.wait_for(reader.readexactly(n + 2), max(0.001, until - time.monotonic()))
            if n == 0:
                return body, True
            body += data[:n]
    except (asyncio.TimeoutError, asyncio.IncompleteReadError):
        return body, False
    finally:
        writer.close()


def records_of(body):
    """What follows the first line, the job object as it was then, up to the last whole line."""
    end = body.rfind(b"\n") + 1
    return body[:end].partition(b"\n")[2]


async def follower(rng, ports, jid, gate, seen):
    """Drops some times, then stays to the end. seen: (records, whole) of each connection."""
    drops, until = rng.randint(0, 3), time.monotonic() + LIMIT
    while time.monotonic() < until:
        stop_after = rng.uniform(0.05, 1.0) if drops > 0 else until - time.monotonic()
        drops -= 1
        try:
            async with gate:
                await asyncio.sleep(0)
            body, whole = await read_stream(rng.choice(ports), jid, stop_after)
        except (OSError, Cut):
            await asyncio.sleep(0.05)  # the killed node
            continue
        seen.append((records_of(body), whole))
        if whole:
            return True
    return False


async def follow_all(rng, nodes, victim, moment, jid):
    ports, gate = [node.port for node in nodes], asyncio.Semaphore(AT_ONCE)
    seen = [[] for _ in range(FOLLOWERS)]
    # Each has numbers of its own, or their order would depend on who is served first.
    own = [type(rng)(rng.random()) for _ in range(FOLLOWERS)]
    tasks = [asyncio.ensure_future(follower(own[n], ports, jid, gate, seen[n])) for n in range(FOLLOWERS)]
    if victim:
        await asyncio.sleep(moment)
        victim.kill9()
    return seen, await asyncio.gather(*tasks)


def check_streams(job, seen, whole):
    problems = []
    if not all(whole):
        problems.append("%d followers did not come to an end" % (FOLLOWERS - sum(whole)))
    full = {records for one in seen for records, complete in one if complete}
    if len(full) != 1:
        return problems + ["%d different whole streams" % len(full)]
    stream = full.pop()
    for one in seen:
        for records, _ in one:
            if not stream.startswith(records):
                problems.append("what a follower saw is no beginning of the stream")
    lines = [json.loads(line) for line in stream.splitlines()]
    names = [name for line in lines for name in line]
    if sorted(names) != sorted(job["return_data"]):
        problems.append("the stream has %d records, the job %d" % (len(names), len(job["return_data"])))
    for line in lines:
        for name, record in line.items():
            if job["return_data"].get(name) != [record]:
                problems.append("%s: the stream has %r, the job %r" % (
                    name, record, job["return_data"].get(name)))
    return problems


def one_round(rng, hosts, nodes, tally, kept):
    targets = sorted(hosts.host)
    victim = rng.choice([None] + nodes[1:])
    answer = submit(nodes[0], targets, command(rng.uniform(0.3, 0.6)), window=rng.randint(3, 6))
    if answer is None or answer.status != 201:
        return "no job", ["POST /execute: %s" % (answer,)]
    jid, moment = answer.body["jid"], rng.uniform(0.2, 1.5)
    seen, whole = asyncio.run(follow_all(rng, nodes, victim, moment, jid))
    try:
        job = wait_ended(nodes[0], jid)
    except Failure as e:
        return "stuck", [str(e)]
    kept.append((job, targets))
    problems = check_streams(job, seen, whole) + check_job(job, targets, hosts.ran(), tally.counts)
    if victim:
        victim.start()
        tally.counts["nodes killed"] += 1
    connections = sum(len(one) for one in seen)
    tally.counts["connections"] += connections
    tally.counts["followers that have it whole"] += sum(whole)
    return "%d followers, %d connections%s" % (
        FOLLOWERS, connections, ", node killed after %.2f s" % moment if victim else ""), problems


def run(rngs, tally):
    kept = []
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts())
        redis = stack.enter_context(Redis())
        nodes = [stack.enter_context(make_node(hosts, n, redis.url)) for n in range(3)]
        for number, rng in enumerate(rngs, 1):
            text, problems = one_round(rng, hosts, nodes, tally, kept)
            tally.line(number, text, problems)
        tally.problems += recheck(hosts, kept)
