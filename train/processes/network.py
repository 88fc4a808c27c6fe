"""This node's addresses and interfaces."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil  # type: ignore[import-untyped]

#: The remedy where MASTER_ADDR is one.
LOOPBACK = "{address} is a loopback address: every node finds itself there; give node 0's address as the others know it"

_NET_NAMESPACE = Path("/proc/self/ns/net")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_INFINIBAND = Path("/sys/class/infiniband")


def machine() -> str:
    """The same for all that share one network stack: a host name tells nodes apart on some clusters only."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {_NET_NAMESPACE.readlink()}"
    except OSError:
        return socket.gethostname()


def chosen_interface() -> str | None:
    """The interface that torch is told to use; None where it chooses, or may choose among several."""
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        value = os.environ.get(name, "").removeprefix("=")
        if value and not value.startswith("^") and "," not in value:
            return value
    return None


def interface_named(wanted: str) -> str | None:
    """The interface of this node that NCCL would take for this name: it may be a prefix."""
    names = psutil.net_if_addrs()
    return wanted if wanted in names else next((name for name in sorted(names) if name.startswith(wanted)), None)


def address_of(interface: str) -> str | None:
    """Its address, IPv4 before IPv6; None while it has none."""
    found = psutil.net_if_addrs().get(interface, [])
    # A link-local address means something with its scope only, which is this node's own.
    usable = [one for one in found if not str(one.address).lower().startswith("fe80:")]
    for family in (socket.AF_INET, socket.AF_INET6):
        for one in usable:
            if one.family == family:
                return str(one.address)
    return None


def interface_of(address: str) -> str | None:
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    return None


def interface_towards(address: str) -> str | None:
    """The interface by which this node reaches an address; None where it is this node's own loopback, or unreachable.

    No packet is sent: a datagram socket that connects is only bound to the route.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            own = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if is_loopback(own) else interface_of(own)


def mtu(interface: str) -> int | None:
    found = psutil.net_if_stats().get(interface)
    return int(found.mtu) if found else None


def infiniband() -> dict[str, str]:
    """The state of each InfiniBand port: {"mlx5_0/1": "ACTIVE"}."""
    found = {}
    for state in sorted(_INFINIBAND.glob("*/ports/*/state")):
        try:
            found[f"{state.parts[-4]}/{state.parts[-2]}"] = state.read_text().strip().rpartition(" ")[2]
        except OSError:
            continue
    return found


def is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def resolved(name: str) -> str:
    """The name's address here; the name itself where it has none."""
    try:
        return socket.gethostbyname(name)
    except (OSError, UnicodeError):
        return name
