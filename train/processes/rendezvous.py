"""This process's rank, world size and rendezvous: the only reader of the launchers' environment variables.

`read` is a pure function of the environment and imports no torch; `initialise` makes the process group.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from ..errors import UserError

#: Variables that name a run, the most reliable first. The first is set in pods only.
_RUN_IDS = ("ALIGNLAUNCH_RUN_ID", "ALIGNLAUNCH_RUN_DIR", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")

Dialect = Literal["torchrun", "deepspeed", "environment", "slurm", "single"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendezvous:
    """One process's place in the run, whichever launcher (`dialect`) started it."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    master_addr: str
    master_port: int
    dialect: Dialect
    restart_count: int
    #: As `run_id` gives it.
    run_id: str
    #: Whether `run_id` is one submission's, so that it tells a restart that is missing from `restart_count`: torchrun
    #: counts none when a node joins an elastic job or a pod replaces another, Slurm none when one job follows another.
    restarts_uncounted: bool


def read(env: Mapping[str, str]) -> Rendezvous:
    """Read the variables of the launcher that started this process.

    Raises UserError if they contradict each other; otherwise the run would wait for processes that never come.
    """
    # Under `srun torchrun` both sets of variables are there; torchrun's describe this process, Slurm's its parent.
    if "RANK" in env or "LOCAL_RANK" in env:
        found = _standard(env)
    elif _is_direct_slurm_task(env):
        found = _slurm(env)
    elif env.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            f"WORLD_SIZE={env['WORLD_SIZE']} is set, but neither RANK nor LOCAL_RANK: this process cannot know which "
            "one it is. Start it with torchrun, the deepspeed launcher or srun, or unset WORLD_SIZE."
        )
    else:
        found = _place(env, "single", rank=0, local_rank=0, world_size=1, local_world_size=1)
    return _consistent(found)


def _standard(env: Mapping[str, str]) -> Rendezvous:
    if "LOCAL_RANK" not in env:
        raise UserError(
            f"RANK={env['RANK']} is set without LOCAL_RANK: that is a pod's or node's index, not a process's. "
            "On Kubernetes the operator gives one RANK to each pod: start the processes inside it with "
            "`torchrun -m alignlaunch.train ...`, or set LOCAL_RANK if each pod really holds one process."
        )
    # Only the deepspeed launcher sets CROSS_SIZE.
    by_hand: Dialect = "deepspeed" if "CROSS_SIZE" in env else "environment"
    dialect: Dialect = "torchrun" if "TORCHELASTIC_RUN_ID" in env else by_hand
    world_size = _int(env, "WORLD_SIZE")
    # The deepspeed launcher sets LOCAL_SIZE instead of LOCAL_WORLD_SIZE.
    local_size = next((name for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE") if name in env), None)
    return _place(
        env,
        dialect,
        rank=_int(env, "RANK"),
        local_rank=_int(env, "LOCAL_RANK"),
        world_size=world_size,
        local_world_size=_int(env, local_size) if local_size else world_size,
    )


def _is_direct_slurm_task(env: Mapping[str, str]) -> bool:
    return is_in_slurm_step(env) and {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"} <= env.keys()


def is_in_slurm_step(env: Mapping[str, str]) -> bool:
    """Whether srun started this process. A batch script and salloc's shell have SLURM_* too, even SLURM_PROCID=0."""
    return env.get("SLURM_STEP_ID", env.get("SLURM_STEPID", "")).isdigit()


def _slurm(env: Mapping[str, str]) -> Rendezvous:
    world_size = _int(env, "SLURM_NTASKS")
    return _place(
        env,
        "slurm" if world_size > 1 else "single",
        rank=_int(env, "SLURM_PROCID"),
        local_rank=_int(env, "SLURM_LOCALID"),
        world_size=world_size,
        local_world_size=_tasks_on_this_node(env, world_size),
    )


def _tasks_on_this_node(env: Mapping[str, str], world_size: int) -> int:
    """This node's entry in Slurm's list of tasks per node, such as `4(x2),3` for 4, 4 and 3."""
    text = env.get("SLURM_STEP_TASKS_PER_NODE", env.get("SLURM_TASKS_PER_NODE"))
    if text is None:
        return world_size
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise UserError(f"SLURM_STEP_TASKS_PER_NODE={text}: not of the form 4(x2),3.")
        counts += [int(match[1])] * int(match[2] or 1)
    node = _int(env, "SLURM_NODEID") if "SLURM_NODEID" in env else 0
    if node >= len(counts):
        raise UserError(f"SLURM_NODEID={node} is beyond SLURM_STEP_TASKS_PER_NODE={text} ({len(counts)} nodes).")
    return counts[node]


def _place(
    env: Mapping[str, str], dialect: Dialect, *, rank: int, local_rank: int, world_size: int, local_world_size: int
) -> Rendezvous:
    alone = world_size == 1
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not alone and not env.get(name):
            raise UserError(
                f"{name} is not set, but this run has {world_size} processes ({dialect}): they cannot find each other. "
                f"Export {name} (the host of rank 0 and a free port on it), the same for all processes, before srun "
                "or torchrun."
            )
    restarts = next((n for n in ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT") if env.get(n, "0") != "0"), None)
    return Rendezvous(
        rank=rank,
        local_rank=local_rank,
        world_size=world_size,
        local_world_size=local_world_size,
        master_addr=env.get("MASTER_ADDR") or "127.0.0.1",
        master_port=_int(env, "MASTER_PORT") if env.get("MASTER_PORT") else 0,
        dialect=dialect,
        restart_count=_int(env, restarts) if restarts else 0,
        run_id=run_id(env),
        restarts_uncounted=is_in_pod(env) or bool(env.get("ALIGNLAUNCH_RUN_DIR")),
    )


def run_id(env: Mapping[str, str]) -> str:
    """The same for every restart of a run, different for every run; "" if no launcher named it."""
    return next((env[name] for name in _RUN_IDS if env.get(name)), "")


def is_elastic(env: Mapping[str, str]) -> bool:
    """Whether nodes may join and leave while the run goes on."""
    return ":" in env.get("PET_NNODES", "")


def is_in_pod(env: Mapping[str, str]) -> bool:
    """Whether this is a pod of a job that alignlaunch submitted to Kubernetes."""
    return bool(env.get("ALIGNLAUNCH_RUN_ID"))


def _int(env: Mapping[str, str], name: str) -> int:
    value = env.get(name)
    if value is None:
        raise UserError(
            f"{name} is not set, but the other rank variables are. Let the launcher set all of them, or unset all."
        )
    try:
        return int(value)
    except ValueError:
        raise UserError(f"{name}={value!r} is not a whole number. Set or unset it where the job starts.") from None


def _consistent(place: Rendezvous) -> Rendezvous:
    for name, value, limit_name, limit in (
        ("rank", place.rank, "world size", place.world_size),
        ("local rank", place.local_rank, "local world size", place.local_world_size),
        ("local world size", place.local_world_size - 1, "world size", place.world_size),
    ):
        if not 0 <= value < limit:
            raise UserError(
                f"{name} {value} does not fit {limit_name} {limit} ({place.dialect}): {place}. "
                "Something set rank variables by hand, or two launchers are nested; let one launcher set all of them."
            )
    return place


def device_index(place: Rendezvous, visible_gpus: int) -> int | None:
    """The index of the GPU that this process uses; None if the node has no GPU.

    Raises UserError if more processes than GPUs were started on this node.
    """
    if visible_gpus == 0:
        return None
    # srun --gpus-per-task=1 shows each task its own GPU, as number 0.
    if place.dialect == "slurm" and visible_gpus == 1:
        return 0
    if place.local_rank >= visible_gpus:
        raise UserError(
            f"local rank {place.local_rank} has no GPU: this process sees {visible_gpus} "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}). Lower nproc_per_node to "
            f"{visible_gpus} or ask for more GPUs a node."
        )
    return place.local_rank


def initialise(place: Rendezvous, timeout_s: int) -> None:
    """Make the default process group with the job's time-out, before any trainer does. timeout_s: `ddp_timeout`.

    The trainer would ignore `ddp_timeout` on CPU, and DeepSpeed needs the group before the training arguments exist.
    A single process gets a group of one: ZeRO needs it, and with it several visible GPUs do not lead to DataParallel.
    """
    import torch
    import torch.distributed as dist

    gpu = device_index(place, torch.cuda.device_count())
    os.environ |= {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local_rank if gpu is None else gpu),
        "WORLD_SIZE": str(place.world_size),
        "LOCAL_WORLD_SIZE": str(place.local_world_size),
        "MASTER_ADDR": place.master_addr,
        "MASTER_PORT": str(place.master_port),
    }
    timeout = timedelta(seconds=timeout_s)
    backend = "gloo"
    if gpu is not None:
        # Without `device_id`: NCCL would connect here already, where a hang is not reported as in `collectives`.
        torch.cuda.set_device(gpu)
        backend = "nccl"
        _name_gloo_interface(place)
    if place.world_size == 1:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
    else:
        os.environ.setdefault("TORCH_DIST_INIT_BARRIER", "1")  # wait for late ranks here, unlike NCCL's init
        dist.init_process_group(backend, timeout=timeout)


def _name_gloo_interface(place: Rendezvous) -> None:
    """Have gloo, beside NCCL, use the interface towards rank 0 if this host's own name resolves to loopback.

    (Without a GPU gloo is the only backend, and preflight reports the problem.)
    """
    from . import network

    if "GLOO_SOCKET_IFNAME" not in os.environ and network.is_loopback(network.resolved(platform.node())):
        interface = network.interface_towards(place.master_addr)
        if interface is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = interface


def die_with_launcher(place: Rendezvous) -> None:
    """Have the kernel kill this process when its launcher dies; otherwise it would train on and hold the GPUs.

    Only if the parent is a launcher: a single process may be meant to outlive its shell (nohup).
    """
    if place.dialect in ("torchrun", "deepspeed"):
        die_with_parent()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies."""
    import ctypes
    import signal

    parent = os.getppid()
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)
