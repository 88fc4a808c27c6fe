"""Listening on every address of this node, of both families, and what goes wrong with sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

_BACKLOG = 1024  # nodes that call at the same moment


def listening(port: int = 0) -> socket.socket:
    """A socket that listens; on a free port if none is given. Raises OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("", port), backlog=_BACKLOG)


async def serve(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], taken: socket.socket, limit: int
) -> asyncio.Server:
    """Answer each connection; those still open when the loop ends just end. limit: bytes that are read ahead."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # Python 3.11 would print it as an error
            await answer(reader, writer)

    return await asyncio.start_server(answered, sock=taken, limit=limit, backlog=_BACKLOG)  # its own would be 100


def obstacle(port: int) -> OSError | None:
    """Why this port cannot be listened on; None where it can. Nobody can connect to it meanwhile."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the launcher: closed connections do not count
        try:
            probe.bind(("", port))
        except OSError as error:
            return error
    return None


def words(error: OSError) -> str:
    """What went wrong, without asyncio's wrapping."""
    return os.strerror(error.errno) if error.errno else str(error)
