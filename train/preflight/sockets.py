"""Listening on every address of this node, of both families, and what goes wrong with sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

_BACKLOG = 1024  # nodes that call at the same moment


def listening(port: int = 0) -> socket.socket:
    """A socket that listens; on a free port if none is given. Raises OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("", port), backlog=_BACKLOG)


@asynccontextmanager
async def serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], taken: socket.socket, limit: int
) -> AsyncIterator[None]:
    """Answer each connection; those still open when the loop ends just end. limit: bytes that are read ahead.

    The server is no context manager of ours: from Python 3.12 on it would wait, at its end, for whoever is silent.
    """

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # Python 3.11 would print it as an error
            await answer(reader, writer)

    server = await asyncio.start_server(answered, sock=taken, limit=limit, backlog=_BACKLOG)  # its own would be 100
    try:
        yield
    finally:
        server.close()


def obstacle(port: int) -> OSError | None:
    """Why this port cannot be listened on; None where it can. Nobody can connect to it meanwhile."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the launcher: closed connections do not count
        try:
            probe.bind(("", port))
        except OSError as error:
            return error
    return None


def is_final(error: OSError) -> bool:
    """Whether a later attempt to listen would meet the same: no right to the port, no such address."""
    return error.errno in (errno.EACCES, errno.EADDRNOTAVAIL)


def words(error: OSError) -> str:
    """What went wrong, without asyncio's wrapping."""
    return os.strerror(error.errno) if error.errno else str(error)
