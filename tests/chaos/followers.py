# SPDX-License-Identifier: MIT
"""200 followers of a job drop at random and come back with their position, at any node and in any form
(NDJSON, Server-Sent Events, WebSocket), while one of the nodes may be killed. It may be back before the job has
ended, and then reads it from where the first one who comes has left off. What each has joined in the end is byte
for byte the same, and it is the job's records, each once."""

import asyncio
import json
import random
import time
from contextlib import ExitStack

from common import Accepted, Failure, Hosts, check_job, command, make_node, recheck, submit, wait_ended
from exedtest import Redis, wait_until
from exedtest.streams import FORMS, Cut, Follow, Refused, follow_all

FOLLOWERS = 200
AT_ONCE = 25  # that connect at the same moment: the rest of them queue, so that the machine is not the limit
LIMIT = 60.0
LONG = "; [ $(($(printf %d 0x$(echo $EXED_OP | cut -c1-4)) % 2)) = 0 ] || seq 1 9000"  # over 32 KiB, or not


class Follower:
    """What one follower has joined over all its connections."""

    def __init__(self, rng):
        self.rng, self.entries, self.position, self.end = rng, [], 0, None
        self.connections, self.problems = 0, []

    def take(self, item):
        if item.kind == "entry":
            if item.id <= self.position:
                self.problems.append("id %d came after %d" % (item.id, self.position))
            self.entries.append((item.id, item.data))
            self.position = item.id
        elif item.kind == "end":
            self.end = item
        elif item.kind == "beat" and item.id is not None:
            self.position = item.id

    async def connect(self, ports, jid, gate, until):
        """One connection, at most until then."""
        async with gate:
            f = Follow(self.rng.choice(ports), jid, self.rng.choice(FORMS), self.position or None)
            await asyncio.wait_for(f.open(), LIMIT)
        self.connections += 1
        try:
            while True:
                item = await asyncio.wait_for(f.next(), max(0.001, until - time.monotonic()))
                if item is None:
                    break
                self.take(item)
        finally:
            f.close()
        if self.end is None:
            self.problems.append("a %s stream ended well without its end" % f.form)

    async def run(self, ports, jid, gate):
        drops, limit = self.rng.randint(1, 4), time.monotonic() + LIMIT
        while self.end is None and time.monotonic() < limit and not self.problems:
            until = time.monotonic() + self.rng.uniform(0.05, 1.0) if drops > 0 else limit
            drops -= 1
            try:
                await self.connect(ports, jid, gate, until)
            except asyncio.TimeoutError:
                continue
            except (OSError, Cut):
                await asyncio.sleep(0.05)  # the killed node
            except Refused as e:
                self.problems.append("refused: %s" % e)


async def follow_round(rng, nodes, victim, moment, early, jid):
    ports, gate = [node.port for node in nodes], asyncio.Semaphore(AT_ONCE)
    # Each has numbers of its own, or their order would depend on who is served first.
    followers = [Follower(random.Random(rng.random())) for _ in range(FOLLOWERS)]
    tasks = [asyncio.ensure_future(one.run(ports, jid, gate)) for one in followers]
    if victim:
        await asyncio.sleep(moment)
        victim.kill9()
        if early:
            victim.launch()
    await asyncio.gather(*tasks)
    return followers


def check_lines(name, pieces, record):
    """The lines of a host, as they came, against its record."""
    texts = {"stdout": "", "stderr": ""}
    for piece in pieces:
        if piece["offset"] != len(texts[piece["stream"]].encode()):
            return ["%s: lines at %d after %d bytes" % (name, piece["offset"], len(texts[piece["stream"]]))]
        texts[piece["stream"]] += piece["lines"]
    return ["%s: its lines are not its %s" % (name, stream) for stream, text in texts.items()
            if text and record.get(stream) != text and not record.get("unknown")]


def check_stream(job, entries):
    """The reference stream against the job's records."""
    problems, lines, records = [], {}, {}
    for _, data in entries:
        for name, value in json.loads(data).items():
            if "lines" in value:
                lines.setdefault(name, []).append(value)
            else:
                records.setdefault(name, []).append(value)
    if records != job["return_data"]:
        problems.append("the stream's records are not the job's")
    for name, pieces in lines.items():
        problems += check_lines(name, pieces, records[name][0])
    return problems


def check_followers(followers, items):
    want = [(item.id, item.data) for item in items if item.kind == "entry"]
    problems = [text for one in followers for text in one.problems]
    late = sum(one.end is None for one in followers)
    if late:
        problems.append("%d followers did not come to an end" % late)
    differ = sum(one.entries != want for one in followers)
    if differ:
        problems.append("%d joined streams are not the job's" % differ)
    if any(one.end and one.end != items[-1] for one in followers):
        problems.append("the ends differ")
    return problems


def one_round(rng, hosts, nodes, tally, kept):
    targets = sorted(hosts.host)
    victim, lines = rng.choice([None] + nodes[1:]), rng.random() < 0.5
    cmd = "echo begins; %s%s" % (command(rng.uniform(0.3, 0.6)), LONG)
    answer = submit(nodes[0], targets, cmd, window=rng.randint(3, 6), lines=lines)
    if answer is None or answer.status != 201:
        return "no job", ["POST /execute: %s" % (answer,)]
    jid, moment, early = answer.body["jid"], rng.uniform(0.2, 1.5), rng.random() < 0.5
    followers = asyncio.run(follow_round(rng, nodes, victim, moment, early, jid))
    try:
        job = wait_ended(nodes[0], jid)
    except Failure as e:
        return "stuck", [str(e)]
    accepted = Accepted(jid, targets, False)
    kept.append((job, accepted))
    items = follow_all(nodes[0].port, jid, "ndjson")
    entries = [(item.id, item.data) for item in items if item.kind == "entry"]
    problems = check_followers(followers, items) + check_stream(job, entries) + check_job(
        job, accepted, hosts.ran(), tally.counts)
    if victim:
        if early:
            wait_until(lambda: victim.get("/healthz").status == 200, 10, "the killed node is back")
        else:
            victim.start()
        tally.counts["nodes killed"] += 1
    connections = sum(one.connections for one in followers)
    tally.counts["connections"] += connections
    tally.counts["entries joined"] += sum(len(one.entries) for one in followers)
    tally.counts["followers that have it whole"] += sum(one.end is not None for one in followers)
    return "%d followers, %d connections, %d entries%s%s" % (
        FOLLOWERS, connections, len(entries), " with lines" if lines else "",
        ", node killed after %.2f s%s" % (moment, ", back early" if early else "") if victim else ""), problems


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
