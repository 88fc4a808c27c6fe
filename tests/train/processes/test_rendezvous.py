"""The one reader of rank variables, case by case."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignlaunch.train.errors import UserError
from alignlaunch.train.processes import rendezvous
from tests.support.ports import free_port

MASTER = {"MASTER_ADDR": "node1", "MASTER_PORT": "20123"}
TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "TORCHELASTIC_RUN_ID": "x",
} | MASTER
DEEPSPEED = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_SIZE": "2", "CROSS_SIZE": "2"} | MASTER
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "4,3",
} | MASTER
#: A batch script's own shell: it has a rank of 0 and no step.
BATCH_SHELL = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8"}


@pytest.mark.parametrize(
    ("env", "dialect", "rank", "local_rank", "world_size", "local_world_size"),
    [
        ({}, "single", 0, 0, 1, 1),
        ({"WORLD_SIZE": "1"}, "single", 0, 0, 1, 1),
        (TORCHRUN, "torchrun", 5, 1, 8, 4),
        (DEEPSPEED, "deepspeed", 3, 1, 4, 2),
        ({k: v for k, v in TORCHRUN.items() if k != "TORCHELASTIC_RUN_ID"}, "environment", 5, 1, 8, 4),
        (SLURM, "slurm", 5, 1, 7, 3),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_NTASKS": "8"}, "slurm", 5, 1, 8, 4),
        (SLURM | TORCHRUN, "torchrun", 5, 1, 8, 4),
        (BATCH_SHELL, "single", 0, 0, 1, 1),
        (BATCH_SHELL | {"SLURM_STEP_ID": "batch"}, "single", 0, 0, 1, 1),
        ({k: v for k, v in SLURM.items() if k != "SLURM_NTASKS"}, "single", 0, 0, 1, 1),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "1"}, "single", 0, 0, 1, 1),
    ],
)
def test_dialects(
    env: dict[str, str], dialect: str, rank: int, local_rank: int, world_size: int, local_world_size: int
) -> None:
    found = rendezvous.read(env)
    assert (found.dialect, found.rank, found.local_rank, found.world_size, found.local_world_size) == (
        dialect,
        rank,
        local_rank,
        world_size,
        local_world_size,
    )
    if world_size > 1:
        assert (found.master_addr, found.master_port) == ("node1", 20123)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"WORLD_SIZE": "16", "RANK": "1"} | MASTER, ["RANK=1", "without LOCAL_RANK", "torchrun"]),
        ({"WORLD_SIZE": "16"}, ["WORLD_SIZE=16", "neither RANK nor LOCAL_RANK"]),
        ({k: v for k, v in TORCHRUN.items() if k != "MASTER_ADDR"}, ["MASTER_ADDR is not set", "8 processes"]),
        ({k: v for k, v in SLURM.items() if k != "MASTER_PORT"}, ["MASTER_PORT is not set", "srun"]),
        (TORCHRUN | {"MASTER_ADDR": ""}, ["MASTER_ADDR is not set"]),
        (TORCHRUN | {"RANK": "8"}, ["rank 8 does not fit world size 8"]),
        (TORCHRUN | {"RANK": "-1"}, ["rank -1"]),
        (TORCHRUN | {"LOCAL_RANK": "4"}, ["local rank 4 does not fit local world size 4"]),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "9"}, ["local world size"]),
        (TORCHRUN | {"WORLD_SIZE": "eight"}, ["WORLD_SIZE='eight'", "not a whole number"]),
        (TORCHRUN | {"MASTER_PORT": "http"}, ["MASTER_PORT='http'"]),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"} | MASTER, ["RANK is not set"]),
        (SLURM | {"SLURM_NODEID": "2"}, ["SLURM_NODEID=2"]),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "many"}, ["many"]),
    ],
)
def test_contradictions_are_refused(env: dict[str, str], says: list[str]) -> None:
    with pytest.raises(UserError) as error:
        rendezvous.read(env)
    assert all(part in str(error.value) for part in says), str(error.value)


@pytest.mark.parametrize(
    ("env", "count"),
    [({}, 0), ({"SLURM_RESTART_COUNT": "2"}, 2), ({"SLURM_RESTART_COUNT": "0", "TORCHELASTIC_RESTART_COUNT": "1"}, 1)],
)
def test_restart_count(env: dict[str, str], count: int) -> None:
    assert rendezvous.read(env).restart_count == count


def test_more_processes_than_gpus_is_refused() -> None:
    place = rendezvous.read(TORCHRUN)
    assert rendezvous.device_index(place, 0) is None
    assert rendezvous.device_index(place, 4) == 1
    with pytest.raises(UserError, match="local rank 1 has no GPU"):
        rendezvous.device_index(place, 1)


def test_a_slurm_task_that_sees_one_gpu_uses_it() -> None:
    assert rendezvous.device_index(rendezvous.read(SLURM), 1) == 0


@pytest.mark.parametrize("elastic", [False, True])
def test_torchrun_gives_the_processes_of_a_pod_true_ranks(tmp_path: Path, elastic: bool) -> None:
    """Two pods of two processes with the operator's variables: their own RANK and WORLD_SIZE count for nothing."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys; from alignlaunch.train.processes import rendezvous\n"
        "p = rendezvous.read(os.environ)\n"
        # One write: the processes share the pipe, and python may be unbuffered.
        "sys.stdout.write(f'{p.rank} {p.local_rank} {p.world_size} {p.dialect} {p.run_id}\\n')\n"
    )
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "ALIGNLAUNCH"))}
    pod = {"ALIGNLAUNCH_RUN_ID": "mine", "PET_NPROC_PER_NODE": "2", "PET_NNODES": "2:2" if elastic else "2"}
    if elastic:
        pod |= {"PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": f"localhost:{port}", "PET_RDZV_ID": "x"}
        pod |= {"PET_RDZV_CONF": "read_timeout=60"}
    else:
        pod |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "16"}
        pod |= {"PET_MASTER_ADDR": "localhost", "PET_MASTER_PORT": str(port)}
    pods = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", str(program)],
            env=clean | pod | ({} if elastic else {"RANK": index, "PET_NODE_RANK": index}),
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in ("0", "1")
    ]
    lines = [line for one in pods for line in one.communicate(timeout=120)[0].splitlines()]
    assert [one.returncode for one in pods] == [0, 0]
    assert sorted(lines) == [f"{rank} {rank % 2} 4 torchrun mine" for rank in range(4)]
