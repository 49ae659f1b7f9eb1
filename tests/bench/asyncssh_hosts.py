# SPDX-License-Identifier: MIT
"""Runs `true` with asyncssh on the hosts that a file names: asyncssh_hosts.py FILE. The rest is in the
environment (peers.py)."""

import asyncio
import os
import sys

import asyncssh

AT_ONCE = 100


async def one(address, places, key, known):
    async with places:
        async with asyncssh.connect(address, int(os.environ["EXED_BENCH_PORT"]), client_keys=[key],
                                    known_hosts=known, username=os.environ["EXED_BENCH_USER"],
                                    agent_path=None, config=None) as connection:
            return (await connection.run("true")).exit_status


async def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        addresses = f.read().split()
    places = asyncio.Semaphore(AT_ONCE)
    key = asyncssh.read_private_key(os.environ["EXED_BENCH_KEY"])
    known = asyncssh.read_known_hosts(os.environ["EXED_BENCH_KNOWN"])
    ended = await asyncio.gather(*(one(address, places, key, known) for address in addresses))
    assert ended == [0] * len(addresses), ended


asyncio.run(main())
