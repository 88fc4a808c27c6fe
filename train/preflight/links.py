"""Are the links between the nodes open and equally fast? Each node sends to log2(n) others, at 1, 2, 4, ... from it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress
from statistics import median
from typing import Literal, NamedTuple

from . import sockets
from .findings import Finding

PAYLOAD = 8 * 2**20
#: Seconds for one of them, to connect or to send all.
DEADLINE = 5.0
#: Of the median node's best link; networks of one kind differ by less.
_SLOW = 0.25
#: Bytes that one read may take.
READ = 2**20


class Link(NamedTuple):
    """What became of sending PAYLOAD from one node to another. It travels as a JSON list."""

    source: int
    target: int
    seconds: float | None  # None: it failed
    error: str = ""


def partners(node_rank: int, nnodes: int) -> list[int]:
    """Whom a node sends to, one a round: 2 log2(n) links in all touch it, and no round has two sending to one."""
    return list(dict.fromkeys((node_rank + (1 << k)) % nnodes for k in range((nnodes - 1).bit_length())))


def longest(nnodes: int) -> float:
    """Seconds that a node takes at most to send to all of its partners."""
    return len(partners(0, nnodes)) * DEADLINE


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what another node sends."""
    with suppress(OSError, ValueError):  # the sender says it
        left = int(await reader.readline())
        while left > 0:
            left -= len(await reader.read(READ)) or left + 1  # the end of the stream ends it
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
    """Name the node whose links all fail or are all slow; else the links.

    names: node rank → how to call it.
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
    """Nodes whose best link, of those that begin (or end) there, is far slower than the median node's."""
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
    """GB/s of a transfer."""
    return PAYLOAD / seconds / 1e9
