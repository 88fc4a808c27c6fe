"""This node's rank, the number of nodes and the rendezvous, from torchrun's environment variables `PET_*`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..config import TOKEN
from ..errors import UserError
from ..processes.rendezvous import is_in_slurm_step


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One node's place in the run."""

    node_rank: int
    nnodes: int
    nproc_per_node: int
    master_addr: str
    master_port: int
    #: What tells one run from another; empty if nothing does.
    run_id: str
    #: What only the nodes of the run know; empty: nothing.
    token: str = field(default="", repr=False)
    #: Whether srun starts the training processes itself (no torchrun), perhaps each with a GPU of its own.
    direct: bool

    @property
    def port(self) -> int:
        """The port of preflight, at a fixed distance from the rendezvous port and, like it, below ephemeral ports."""
        return self.master_port - 10_000 if self.master_port > 11_024 else self.master_port + 10_000


def read(env: Mapping[str, str]) -> Node:
    """The node's place in the run. Raises UserError if a variable is missing or out of range."""
    count = _int(env, "PET_NNODES", 1, least=1)
    node_rank = _int(env, "PET_NODE_RANK", 0 if count == 1 else None, least=0)
    if node_rank >= count:
        raise UserError(
            f"PET_NODE_RANK={node_rank}: with PET_NNODES={count} it goes from 0 to {count - 1}.\n"
            "    remedy: start as many nodes as nnodes says, each with a number of its own"
        )
    if count > 1 and not env.get("PET_MASTER_ADDR"):
        raise UserError(
            f"PET_MASTER_ADDR is not set, but PET_NNODES={count}: the nodes cannot find each other.\n"
            "    remedy: set it to the host of node 0, the same on all nodes"
        )
    return Node(
        node_rank=node_rank,
        nnodes=count,
        nproc_per_node=_int(env, "PET_NPROC_PER_NODE", 1, least=1),
        master_addr=env.get("PET_MASTER_ADDR", "127.0.0.1"),
        master_port=_int(env, "PET_MASTER_PORT", 29500, least=1, most=65_535),
        run_id=env.get("ALIGNLAUNCH_RUN_ID") or _slurm_job(env),
        token=env.get(TOKEN, ""),
        direct="SLURM_LOCALID" in env and env.get("SLURM_NTASKS_PER_NODE", "1") != "1",
    )


def is_spoken_for(env: Mapping[str, str]) -> bool:
    """Whether another Slurm task on this node runs preflight for all of them."""
    return env.get("SLURM_LOCALID", "0") != "0"


def _slurm_job(env: Mapping[str, str]) -> str:
    """The job id, in a step only: a shell of salloc has one too, and nodes started from it may span several jobs."""
    return env.get("SLURM_JOB_ID", "") if is_in_slurm_step(env) else ""


def _int(env: Mapping[str, str], name: str, default: int | None, *, least: int, most: int = 10**6) -> int:
    text = env.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        shown = "is not set" if text is None else f"={text!r} is not a number from {least} to {most}"
        raise UserError(f"{name}{'' if text else ' '}{shown}.\n    remedy: set it where the job starts its nodes")
    return int(text)
