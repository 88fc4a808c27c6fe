"""Comparing the facts of all nodes: what differs between them, and what follows from it."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from .facts import Facts
from .findings import Finding

_ENVIRONMENT = "use the same environment on every node: `python` or `container` of the cluster profile, or the image"
_COPY = "start every node from the same launch folder, of one rendering"
_FILES = "let every node see the same files: a shared folder, or the same copy on each"
_MIXED = "ask for one kind of node (Slurm: --constraint; Kubernetes: node_selector)"
#: Facts whose difference is a warning only, and its remedy.
_WARNINGS = {
    "GPU type": f"the slowest GPU sets the pace; {_MIXED}",
    "driver": "tell the cluster's administrators",
    "InfiniBand ports": "tell the cluster's administrators; leave the node with fewer out (Slurm: --exclude)",
    "MTU": "tell the cluster's administrators; large messages may be lost on the way",
}
#: Remedies for facts that must not differ; for those that are not listed see `_of_difference`.
_ERRORS = {
    "nnodes": _COPY,
    "nproc_per_node": "start the same number of processes on every node",
    "GPUs": _MIXED,
    "bf16": _MIXED,
    "alignlaunch's code": "install the same alignlaunch on every node",
}


class Difference(NamedTuple):
    """One fact that is not the same on all nodes."""

    what: str
    groups: list[tuple[str, list[int]]]  # (value, its node ranks), the most common first


def differences(nodes: dict[int, Facts]) -> list[Difference]:
    """What differs, in the order in which facts are gathered; a fact that a node lacks has the value "unknown"."""
    names = dict.fromkeys(name for facts in nodes.values() for name in facts.same)
    found = []
    for name in names:
        groups: dict[str, list[int]] = defaultdict(list)
        for rank in sorted(nodes):
            groups[nodes[rank].same.get(name, "unknown")].append(rank)
        if len(groups) > 1:
            found.append(Difference(name, sorted(groups.items(), key=lambda group: -len(group[1]))))
    return found


def findings(nodes: dict[int, Facts]) -> list[Finding]:
    """All findings about these nodes: each one's own, differences between them, and addresses that cannot work."""
    own = [
        finding._replace(text=f"{name(nodes, [rank])}: {finding.text}")
        for rank, facts in sorted(nodes.items())
        for finding in facts.findings
    ]
    return [*own, *(_of_difference(one, nodes) for one in differences(nodes)), *_of_addresses(nodes)]


def name(nodes: dict[int, Facts], ranks: list[int]) -> str:
    """What to call some nodes in a message: "node 3 (gpu-17)", "nodes 0, 1, 2"."""
    if len(ranks) > 1:
        return f"nodes {', '.join(map(str, ranks))}"
    return f"node {ranks[0]} ({nodes[ranks[0]].host})" if ranks[0] in nodes else f"node {ranks[0]}"


def _of_difference(one: Difference, nodes: dict[int, Facts]) -> Finding:
    values = "; ".join(f"{value} on {name(nodes, ranks)}" for value, ranks in one.groups)
    if one.what in _WARNINGS:
        return Finding(f"{one.what} differs: {values}", _WARNINGS[one.what], error=False)
    is_file = one.what.startswith(("data.", "model", "tokenizer", "train."))
    copied = one.what.endswith((".yaml", ".json"))
    default = _FILES if is_file else _COPY if copied else _ENVIRONMENT
    return Finding(f"{one.what} differs: {values}", _ERRORS.get(one.what, default))


def _of_addresses(nodes: dict[int, Facts]) -> list[Finding]:
    """gloo uses the address of the host's own name, which /etc/hosts maps to loopback on some systems.

    One such node still works, because it connects to the others; two can never connect to each other.
    """
    lost = [rank for rank, facts in sorted(nodes.items()) if facts.gloo_loopback]
    if not lost or len({facts.machine for facts in nodes.values()}) == 1:
        return []
    first = nodes[lost[0]]
    return [
        Finding(
            f"{name(nodes, lost)}: the host's own name, {first.host}, resolves to {first.gloo_loopback}, and gloo "
            "has the other nodes connect to that",
            "name the interface: `network_interface` of the cluster profile, or GLOO_SOCKET_IFNAME under `env:`",
            error=len(lost) > 1,
        )
    ]
