"""The messages between the nodes and node 0, one JSON line each."""

from __future__ import annotations

import msgspec

from .facts import Facts
from .findings import Finding
from .links import Link

#: Seconds for an answer that does not depend on other nodes.
PROMPT = 5.0
#: Seconds between two log lines that say for whom a node is waiting.
REMINDER = 60.0
#: Limit in bytes. A node's facts are about 2 kB, the addresses of a thousand nodes 40 kB.
LONGEST_LINE = 16 * 2**20


class Go(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes are there and alike: the link tests begin."""

    #: The nodes that this one sends to: node rank → (address, port).
    peers: dict[int, tuple[str, int]]
    #: Node 0's clock, in seconds since 1970.
    time: float
    #: The name of a file that node 0 has made in the output folder.
    token: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A node's results of the link tests and of the checks of clock and output folder."""

    links: list[Link]
    #: Seconds that its clock is ahead of node 0's.
    skew: float
    #: Whether it sees the file that node 0 made in the output folder.
    sees_output: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a meeting. All nodes get the same findings; only node 0's has the facts and links, too."""

    findings: list[Finding]
    nodes: dict[int, Facts] = {}
    links: list[Link] = []


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message from node 0: one of the two is set."""

    go: Go | None = None
    verdict: Verdict | None = None
