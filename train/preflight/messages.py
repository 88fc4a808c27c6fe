"""What nodes say to node 0 and hear from it, one JSON line each."""

from __future__ import annotations

import msgspec

from .facts import Facts
from .findings import Finding
from .links import Link

#: The first words of node 0 to whoever connects: by them it is told from any other program.
GREETING = b"alignlaunch preflight\n"
#: Seconds for an answer that needs no waiting for others.
PROMPT = 5.0
#: Seconds after which those who wait long say for what.
REMINDER = 60.0
#: Bytes; facts have about two thousand, the addresses of a thousand nodes forty thousand.
LONGEST_LINE = 16 * 2**20


class Go(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes are there and alike: now they try what lies between them."""

    #: Those this node is to send to: node rank → (address, port).
    peers: dict[int, tuple[str, int]]
    #: Node 0's clock.
    time: float
    #: A file that node 0 has written into the output folder.
    token: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a node found out once it knew the others."""

    links: list[Link]
    #: Seconds that its clock is ahead of node 0's.
    skew: float
    #: Whether it sees the file that node 0 wrote into the output folder.
    sees_output: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a meeting. The findings are the same on all nodes; node 0 has what led to them, too."""

    findings: list[Finding]
    nodes: dict[int, Facts] = {}
    links: list[Link] = []


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """From node 0: one of the two."""

    go: Go | None = None
    verdict: Verdict | None = None
