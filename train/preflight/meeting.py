"""The nodes meet at node 0: each sends its facts, gets the others' addresses, sends its links, gets the verdict.

One connection a node, one JSON line a message; whatever happens, all get the verdict. Two exchanges for any number of
nodes, and log2(n) rounds of links between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from . import guest, links, sockets
from .facts import Facts
from .findings import FailedError, Finding
from .host import Meeting
from .messages import Verdict
from .node import Node


async def meet(
    node: Node,
    facts: Facts,
    timeout: float,
    output_dir: Path,
    say: Callable[[str], None],
    show: Callable[[Verdict], None],
    *,
    payload: int = links.PAYLOAD,
) -> Verdict:
    """Meet the other nodes, for at most about `timeout` seconds a step. `show` gets the verdict, the same on all nodes.

    Raises FailedError where no verdict can be had: node 0 is not there, or not to be reached.
    """
    if node.node_rank != 0:
        return _shown(await guest.attend(node, facts, timeout, output_dir, say, payload=payload), show)
    try:
        listening = sockets.listening(node.port)
    except OSError as error:
        with suppress(FailedError):  # a second node 0 on this host: the first one tells everybody
            return _shown(await guest.attend(node, facts, timeout, output_dir, say, patience=0), show)
        raise FailedError(_port_taken(node.port, error)) from error
    meeting = Meeting(node, timeout, output_dir, say, show)
    held = asyncio.create_task(meeting.hold(listening))
    try:
        patience = timeout / 2  # so that, if it cannot reach itself, those who come hear of it
        verdict = await guest.attend(node, facts, timeout, output_dir, say, payload=payload, patience=patience)
    except FailedError as error:
        await meeting.give_up(*error.findings)
        return await held
    # Without a verdict of its own, MASTER_ADDR has led it to another node 0.
    return _shown(verdict, show) if meeting.verdict is None else await held


def _shown(verdict: Verdict, show: Callable[[Verdict], None]) -> Verdict:
    show(verdict)
    return verdict


def _port_taken(port: int, error: OSError) -> Finding:
    return Finding(
        f"port {port}, on which node 0 meets the others, cannot be listened on: {sockets.words(error)}",
        "choose another MASTER_PORT; or end what is there (ss -ltnp): another run, or a second node 0 on this host",
        retry=not sockets.is_final(error),
    )
