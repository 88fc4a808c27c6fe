"""The nodes meet at node 0: each sends its facts, gets its partners' addresses, reports its links, gets the verdict.

One connection per node, one JSON line per message; all nodes get the verdict, also after a failure. There are two
exchanges for any number of nodes, and between them log2(n) rounds of link tests.
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

    Raises FailedError if there is no verdict: node 0 cannot be reached, was lost, or cannot listen on its port.
    """
    if node.node_rank != 0:
        return _shown(await guest.attend(node, facts, timeout, output_dir, say, payload=payload), show)
    try:
        listening = sockets.listening(node.port)
    except OSError as error:
        with suppress(FailedError):  # perhaps a second node 0 on this host: ask the first one for a verdict
            return _shown(await guest.attend(node, facts, timeout, output_dir, say, patience=0), show)
        raise FailedError(_port_taken(node.port, error)) from error
    meeting = Meeting(node, timeout, output_dir, say, show)
    held = asyncio.create_task(meeting.hold(listening))
    try:
        patience = timeout / 2  # if node 0 cannot reach itself, the nodes that come are still told why
        verdict = await guest.attend(node, facts, timeout, output_dir, say, payload=payload, patience=patience)
    except FailedError as error:
        await meeting.give_up(*error.findings)
        return await held
    # If its own server has no verdict, MASTER_ADDR led this node to another node 0.
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
