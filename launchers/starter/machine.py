"""What this machine says of itself: its GPUs, and where there is Slurm, the partitions with GPUs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ..backends import gpus
from ..backends.gpus import Gpus
from ..backends.slurm import client
from ..backends.slurm.answers import Nodes
from ..errors import SchedulerError
from ..job.cluster import Slurm

#: A program that has not answered by then is not waited for: without its controller sinfo tries for minutes.
SECONDS = 10.0
#: No node has more; the job file's own limit is 1000.
_MOST = 1000


class Machine(NamedTuple):
    """Its GPUs, the kinds of nodes of its Slurm, and what could not be asked."""

    gpus: Gpus = Gpus(0, "")
    nodes: Sequence[Nodes] = ()
    troubles: Sequence[str] = ()


class Partition(NamedTuple):
    """A partition that has GPUs. kind: those nodes of it of which there are most; others: further partitions."""

    kind: Nodes
    others: Sequence[Nodes]


def ask(seconds: float = SECONDS) -> Machine:
    """Ask nvidia-smi and sinfo, each no longer than this."""
    found = gpus.here(seconds)
    troubles = [found.trouble] if found.trouble else []
    nodes: list[Nodes] = []
    if shutil.which("sinfo"):
        try:
            nodes = client.partitions(seconds)
        except SchedulerError as error:
            troubles.append(str(error).splitlines()[0])
        except OSError as error:
            troubles.append(f"sinfo: {error.strerror}")
    return Machine(found, nodes, troubles)


def partition(nodes: Sequence[Nodes]) -> Partition | None:
    """The default partition if it has GPUs, or else the one that has most of them; None if none has any."""
    kinds: dict[str, Nodes] = {}
    for kind in nodes:
        usual = kinds.get(kind.partition)
        if _is_usable(kind) and (usual is None or kind.number > usual.number):
            kinds[kind.partition] = kind
    if not kinds:
        return None
    chosen = max(kinds.values(), key=lambda kind: (kind.is_default, kind.number * per_node(kind)))
    return Partition(chosen, [kind for kind in kinds.values() if kind is not chosen])


def per_node(kind: Nodes) -> int:
    """GPUs of one such node, of every type."""
    return sum(kind.gpus.values())


def _is_usable(kind: Nodes) -> bool:
    """Whether a job file may name it."""
    try:
        msgspec.convert({"partition": kind.partition}, Slurm)
    except msgspec.ValidationError:
        return False
    return kind.number > 0 and 0 < per_node(kind) <= _MOST
