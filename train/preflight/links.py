"""Testing whether the links between nodes are open and equally fast: each node sends to those 1, 2, 4, ... after it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from statistics import median
from typing import Literal, NamedTuple

from . import sockets
from .findings import Finding

#: Bytes of one link test.
PAYLOAD = 8 * 2**20
#: Seconds for one link test, the connection included.
DEADLINE = 5.0
#: A node is slow if its best link is below this share of the median node's; nodes of one network differ by less.
_SLOW = 0.25
#: Bytes of one read.
READ = 2**20


class Link(NamedTuple):
    """The result of sending PAYLOAD from one node to another. It is sent as a JSON list."""

    source: int
    target: int
    seconds: float | None  # None: it failed
    error: str = ""


def partners(node_rank: int, nnodes: int) -> list[int]:
    """The nodes to which a node sends, one a round, at distances 1, 2, 4, ... (modulo `nnodes`).

    So each node takes part in 2 log2(n) links, and in no round do two nodes send to the same one.
    """
    return list(dict.fromkeys((node_rank + (1 << k)) % nnodes for k in range((nnodes - 1).bit_length())))


def longest(nnodes: int) -> float:
    """The most seconds that a node takes to send to all of its partners."""
    return len(partners(0, nnodes)) * DEADLINE


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Receive what another node sends, and acknowledge it."""
    with suppress(OSError, ValueError):  # the sender reports the failure
        left = int(await reader.readline())
        while left > 0:
            left -= len(await reader.read(READ)) or left + 1  # at the end of the stream: leave the loop
        writer.write(b"ok\n")
        await writer.drain()
    writer.close()


async def send(source: int, target: int, address: str, port: int, payload: int = PAYLOAD) -> Link:
    """Time one transfer, the connection included."""
    start = time.perf_counter()
    try:
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection(address, port, limit=READ)
            writer.write(f"{payload}\n".encode())
            writer.write(bytes(payload))
            await writer.drain()
            answer = await reader.readline()
            writer.close()
    except TimeoutError:
        return Link(source, target, None, f"no answer from {address} within {DEADLINE:.0f} s")
    except OSError as error:
        return Link(source, target, None, f"{address}: {sockets.words(error)}")
    if answer != b"ok\n":
        return Link(source, target, None, f"{address}: the connection broke off")
    return Link(source, target, time.perf_counter() - start)


def findings(links: list[Link], names: dict[int, str]) -> list[Finding]:
    """Findings about nodes whose links all fail, about single links that fail, and about slow nodes.

    names: node rank → what to call it.
    """
    of: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        of[link.source].append(link)
        of[link.target].append(link)
    dead = {node for node, own in of.items() if all(link.seconds is None for link in own)} if len(of) > 2 else set()
    found = [_failed_node(node, of[node], names) for node in sorted(dead)]
    failed = [one for one in links if one.seconds is None and not {one.source, one.target} & dead]
    found += [
        Finding(
            f"{names[one.source]} cannot send to {names[one.target]}: {one.error}",
            "open all ports between the nodes of a job; or name another `network_interface` in the cluster profile",
            retry=True,
        )
        for one in failed
    ]
    return [*found, *_slow(links, names, "source", "out of it"), *_slow(links, names, "target", "into it")]


def _slow(links: list[Link], names: dict[int, str], end: Literal["source", "target"], way: str) -> list[Finding]:
    """Nodes whose best link out of them (or into them) is far slower than the median node's."""
    best: dict[int, float] = {}
    for link in links:
        if link.seconds is not None:
            node = getattr(link, end)
            best[node] = min(link.seconds, best.get(node, link.seconds))
    usual = median(best.values()) if best else 0.0
    return [
        Finding(
            f"{names[node]}: the best link {way} carries {rate(seconds):.3f} GB/s, the median node's {rate(usual):.3f}",
            "the whole run goes at its pace: leave it out (Slurm: --exclude), and tell the cluster's administrators",
            error=False,
        )
        for node, seconds in sorted(best.items())
        if seconds * _SLOW > usual
    ]


def _failed_node(node: int, links: list[Link], names: dict[int, str]) -> Finding:
    return Finding(
        f"{names[node]}: none of its {len(links)} links to other nodes works: {links[0].error}",
        "leave it out (Slurm: --exclude), or open all ports between the nodes of a job",
        retry=True,
    )


def rate(seconds: float) -> float:
    """The rate in GB/s of a PAYLOAD that took so many seconds."""
    return PAYLOAD / seconds / 1e9
