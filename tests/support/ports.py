"""Ports for the servers of tests."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Preflight meets 10,000 below a port: there are no servers of the system there.
_FIRST = 20_000
#: Not as others have seeded it: two workers of pytest would draw the same ports.
_RANDOM = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Ports that are free now, below the ephemeral range, so that no outgoing connection takes one meanwhile."""
    first_ephemeral = int(_RANGE.read_text(encoding="ascii").split()[0])
    ports: list[int] = []
    for port in _RANDOM.sample(range(_FIRST, min(first_ephemeral, 32_000)), 500):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"no {count} free ports below {first_ephemeral}")


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
