"""Listening on all addresses of this node, IPv4 and IPv6, and errors of sockets."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

_BACKLOG = 1024  # nodes that connect at the same moment


def listening(port: int = 0) -> socket.socket:
    """A listening socket; on any free port if none is given. Raises OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return socket.create_server(("", port), backlog=_BACKLOG)


@asynccontextmanager
async def serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], taken: socket.socket, limit: int
) -> AsyncIterator[None]:
    """Call `answer` for each connection while the context lasts; limit: bytes that a reader buffers.

    (asyncio's server as a context manager would wait at its end, from Python 3.12 on, for connections that are silent.)
    """

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # Python 3.11 would log it as an error
            await answer(reader, writer)

    server = await asyncio.start_server(answered, sock=taken, limit=limit, backlog=_BACKLOG)  # asyncio's default is 100
    try:
        yield
    finally:
        server.close()


def obstacle(port: int) -> OSError | None:
    """Why this port cannot be listened on; None if it can. The port is bound, not opened: nobody can connect to it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the launcher: closed connections do not count
        try:
            probe.bind(("", port))
        except OSError as error:
            return error
    return None


def is_final(error: OSError) -> bool:
    """Whether a retry would fail in the same way: no permission for the port, or no such address."""
    return error.errno in (errno.EACCES, errno.EADDRNOTAVAIL)


def words(error: OSError) -> str:
    """The operating system's words for an error, without what asyncio puts around them."""
    return os.strerror(error.errno) if error.errno else str(error)
