"""The client's side of a meeting. Every node takes it, node 0 too (which is also the server: `host`)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from ..config import TOKEN
from ..processes import network
from . import handshake, links, sockets
from .facts import Facts
from .findings import FailedError, Finding
from .messages import LONGEST_LINE, PROMPT, REMINDER, Go, Message, Report, Verdict
from .node import Node

_PAUSE = 0.5
#: Seconds after which a node that finds nobody to meet looks whether node 0 has launched already.
LATE = 30.0


class LaunchedError(Exception):
    """Node 0 is past preflight: this node comes back alone, into a run that goes on."""


async def attend(
    node: Node,
    facts: Facts,
    timeout: float,
    output_dir: Path,
    say: Callable[[str], None],
    *,
    payload: int = links.PAYLOAD,
    patience: float | None = None,
) -> Verdict:
    """Take part in the meeting. Raises FailedError if node 0 cannot be reached, or is lost before its verdict, and
    LaunchedError.

    timeout: seconds that node 0 waits for the last node. patience: seconds to reach node 0; by default the same.
    payload: bytes of each link test.
    """
    listening = sockets.listening()
    link_port = listening.getsockname()[1]
    facts = msgspec.structs.replace(facts, link_port=link_port)
    async with sockets.serving(links.receive, listening, links.READ):
        reader, writer = await _connect(node, timeout if patience is None else patience, say)
        try:
            writer.write(msgspec.json.encode(facts) + b"\n")
            message = await _message(reader, node, timeout)
            if message.go:
                report = await _report(node, message.go, output_dir, payload)
                writer.write(msgspec.json.encode(report) + b"\n")
                message = await _message(reader, node, max(timeout, links.longest(node.nnodes)))
        except OSError as error:
            raise FailedError(_lost(node)) from error
        finally:
            writer.close()
    if message.verdict is None:
        raise FailedError(_lost(node))
    return message.verdict


async def _report(node: Node, go: Go, output_dir: Path, payload: int) -> Report:
    skew = time.time() - go.time
    sent = []
    for target in links.partners(node.node_rank, node.nnodes):
        address, port = go.peers[target]
        sent.append(await links.send(node.node_rank, target, address, port, payload))
    return Report(links=sent, skew=skew, sees_output=(output_dir / go.token).exists())


async def _connect(
    node: Node, timeout: float, say: Callable[[str], None]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Retry until node 0 sends its greeting: it may start later. Raises FailedError with the last attempt's finding."""
    said = start = time.monotonic()
    while True:
        try:
            return await _try_to_connect(node)
        except _NoMeetingError as error:
            now = time.monotonic()
            if now - start > timeout:
                raise FailedError(error.finding) from error
            if now - start > LATE and await _has_launched(node):
                raise LaunchedError from error
            if now - said > REMINDER:
                said = now
                say(f"still waiting: {error.finding.text}")
            await asyncio.sleep(_PAUSE)


async def _has_launched(node: Node) -> bool:
    """Whether somebody listens on the rendezvous port of node 0, which its launcher opens after the meeting."""
    if node.node_rank == 0:
        return False
    with suppress(OSError, UnicodeError, TimeoutError):
        async with asyncio.timeout(PROMPT):
            _, writer = await asyncio.open_connection(node.master_addr, node.master_port)
        writer.close()
        return True
    return False


class _NoMeetingError(Exception):
    def __init__(self, finding: Finding) -> None:
        self.finding = finding


async def _try_to_connect(node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = f"node {node.node_rank} cannot reach node 0 at {node.master_addr}:{node.port} (MASTER_ADDR)"
    try:
        async with asyncio.timeout(PROMPT):
            reader, writer = await asyncio.open_connection(node.master_addr, node.port, limit=LONGEST_LINE)
    except (socket.gaierror, UnicodeError) as error:  # an empty or overlong label is not a host name
        remedy = "name node 0 as every node can resolve it (getent hosts NAME), or by its address"
        text = f"{place}: the name does not resolve: {getattr(error, 'strerror', error)}"
        no_answer = getattr(error, "errno", None) == socket.EAI_AGAIN
        raise _NoMeetingError(Finding(text, remedy, retry=no_answer)) from error
    except TimeoutError as error:
        remedy = "see that MASTER_ADDR is node 0's address and that no firewall drops packets between the nodes"
        raise _NoMeetingError(Finding(f"{place}: no answer", remedy, retry=True)) from error
    except OSError as error:
        raise _NoMeetingError(_nobody_there(node, f"{place}: {sockets.words(error)}")) from error
    try:
        async with asyncio.timeout(PROMPT):
            await handshake.as_guest(reader, writer, node.token)
    except (OSError, TimeoutError, ValueError) as error:
        writer.close()
        text = f"{place}: another program answers there, or one that does not answer at all"
        raise _NoMeetingError(Finding(text, "choose another MASTER_PORT, or end that program", retry=True)) from error
    except handshake.StrangerError as error:
        writer.close()
        text = f"{place}: a preflight answers there that does not know this run's token"
        remedy = f"another run's or another user's node 0 has the port: choose another MASTER_PORT ({TOKEN} is per run)"
        raise _NoMeetingError(Finding(text, remedy, retry=True)) from error
    return reader, writer


def _nobody_there(node: Node, text: str) -> Finding:
    address = network.resolved(node.master_addr)
    if node.node_rank == 0:
        remedy = "this node is node 0 by its NODE_RANK: MASTER_ADDR must be one of its own addresses"
    elif network.is_loopback(address):
        remedy = network.LOOPBACK.format(address=address)
    elif network.interface_of(address):
        remedy = (
            f"this node has the address of MASTER_ADDR itself, but NODE_RANK {node.node_rank}: "
            "the node at MASTER_ADDR must be the one with NODE_RANK 0"
        )
    else:
        remedy = "see in its log that node 0 (NODE_RANK 0) was started and runs, and that MASTER_ADDR is its address"
        return Finding(text, remedy, retry=True)
    return Finding(text, remedy)


async def _message(reader: asyncio.StreamReader, node: Node, timeout: float) -> Message:
    """Node 0's next message. At its deadline node 0 gives up and says so; if nothing comes by then, it is gone."""
    try:
        async with asyncio.timeout(timeout + 2 * PROMPT):
            line = await reader.readline()
    except TimeoutError:
        line = b""
    if not line.endswith(b"\n"):
        raise FailedError(_lost(node))
    try:
        return msgspec.json.decode(line, type=Message)
    except (ValueError, RecursionError) as error:
        raise FailedError(_lost(node)) from error


def _lost(node: Node) -> Finding:
    text = f"node 0 at {node.master_addr}:{node.port} was lost before it gave a verdict"
    return Finding(text, "look into node 0's log: it was ended, or failed", retry=True)
