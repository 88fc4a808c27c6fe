"""This node's addresses and interfaces."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil  # type: ignore[import-untyped]

#: The remedy if MASTER_ADDR is a loopback address.
LOOPBACK = "{address} is a loopback address: every node finds itself there; give node 0's address as the others know it"

_NET_NAMESPACE = Path("/proc/self/ns/net")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_INFINIBAND = Path("/sys/class/infiniband")


def machine() -> str:
    """A name of this network stack, the same for all processes that share it. Host names are not unique everywhere."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {_NET_NAMESPACE.readlink()}"
    except OSError:
        return socket.gethostname()


def chosen_interface() -> str | None:
    """The interface that NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names; None if neither names exactly one."""
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        value = os.environ.get(name, "").removeprefix("=")
        if value and not value.startswith("^") and "," not in value:
            return value
    return None


def interface_named(wanted: str) -> str | None:
    """The interface of this node that NCCL would take for this name, which may be a prefix; None if there is none."""
    names = psutil.net_if_addrs()
    return wanted if wanted in names else next((name for name in sorted(names) if name.startswith(wanted)), None)


def address_of(interface: str) -> str | None:
    """The interface's address, IPv4 before IPv6; None if it has none."""
    found = psutil.net_if_addrs().get(interface, [])
    # A link-local address is of no use to others: it needs a scope, which differs from node to node.
    usable = [one for one in found if not str(one.address).lower().startswith("fe80:")]
    for family in (socket.AF_INET, socket.AF_INET6):
        for one in usable:
            if one.family == family:
                return str(one.address)
    return None


def interface_of(address: str) -> str | None:
    """The interface of this node with this address; None if no interface has it."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    return None


def interface_towards(address: str) -> str | None:
    """The interface by which this node reaches an address; None if that is the loopback, or there is no route.

    No packet is sent: connecting a UDP socket only chooses the route.
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
    """The interface's MTU in bytes; None if there is no such interface."""
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
    """Whether this is a loopback address (127.0.0.0/8 or ::1)."""
    return address.startswith("127.") or address == "::1"


def resolved(name: str) -> str:
    """The IPv4 address to which a name resolves on this node; the name itself if it does not resolve."""
    try:
        return socket.gethostbyname(name)
    except (OSError, UnicodeError):
        return name
