"""Both ends of a connection prove that they know the run's token, which never crosses the network.

Only the nodes of a run have it, in their environment: who else can reach node 0's port, or has taken it, is found out.
Without a token, as when the nodes are started by hand, any other program that speaks this protocol is let in.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets

#: What node 0 sends first on every connection, to be told apart from any other program; then its nonce, and a line end.
GREETING = b"alignlaunch preflight "
_NONCE_BYTES = 16
#: Node 0's answer to a stranger, who is then told apart from a node 0 that is gone.
_REFUSED = b"refused\n"
#: Bytes of a line of this exchange, at most.
_LONGEST = 256


class StrangerError(Exception):
    """The other end does not know the run's token."""


async def as_host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
    """Node 0's side. Raises StrangerError; ValueError for whatever is no answer, such as a port scan's."""
    own = secrets.token_hex(_NONCE_BYTES).encode()
    writer.write(GREETING + own + b"\n")
    other, proof = (await _line(reader)).split(b" ")
    if not hmac.compare_digest(proof, _proof(token, b"guest", own, other)):
        writer.write(_REFUSED)
        raise StrangerError
    writer.write(_proof(token, b"host", own, other) + b"\n")


async def as_guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
    """The other nodes' side. Raises StrangerError; ValueError where another program answers."""
    greeting = await _line(reader)
    if not greeting.startswith(GREETING):
        raise ValueError("no greeting")
    other, own = greeting.removeprefix(GREETING), secrets.token_hex(_NONCE_BYTES).encode()
    writer.write(own + b" " + _proof(token, b"guest", other, own) + b"\n")
    if not hmac.compare_digest(await _line(reader), _proof(token, b"host", other, own)):
        raise StrangerError


def _proof(token: str, role: bytes, host: bytes, guest: bytes) -> bytes:
    """Only who knows the token can make it. The role keeps one end from sending back what the other sent."""
    return hmac.new(token.encode(), b" ".join((role, host, guest)), "sha256").hexdigest().encode()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line. Raises ValueError for none, as when the other end is gone, and for one that is too long."""
    line = await reader.readline()
    if not line.endswith(b"\n") or len(line) > _LONGEST:
        raise ValueError("no line")
    return line.removesuffix(b"\n")
