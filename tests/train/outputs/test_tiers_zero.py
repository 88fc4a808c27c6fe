"""The second tier under ZeRO, where each process has a part alone: two nodes, each with a disk that the other lacks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from alignlaunch.train.outputs import manifest
from tests.support.matrix import matrix
from tests.train.conftest import Runner
from tests.train.test_restarts import LORA, losses, nodes, places, wait_for

from .test_tiers import TRAIN

#: $0 becomes $1 for a command and all that it starts, and for nobody else.
MOUNT = 'mount --bind "$0" "$1"; shift; exec "$@"'


def with_disk(disk: Path, at: Path) -> list[str]:
    """What executes a command in a mount namespace of its own, where `disk` is found at the path `at`."""
    disk.mkdir()
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", MOUNT, str(disk), str(at)]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a folder for each node")
@pytest.mark.parametrize(
    ("stage", "lora", "lost"),
    [
        (2, LORA, False),
        (3, None, False),
        matrix(1, None, False),
        matrix(1, LORA, True),
        matrix(2, None, True),
        matrix(3, LORA, False),
        (3, None, True),
    ],
)
def test_a_kill_costs_the_steps_since_the_nodes_own_checkpoint(
    stage: int, lora: dict[str, Any] | None, lost: bool, workplace: Path, run_job: Runner, tmp_path: Path
) -> None:
    """Killed between two shared checkpoints; the losses are the undisturbed run's, also from a copied checkpoint."""
    name = f"tier-zero{stage}-{'lora' if lora else 'full'}-{lost}"
    local = tmp_path / "local"
    local.mkdir()
    enter = [with_disk(tmp_path / f"disk-{rank}", local) for rank in range(2)]
    changes: dict[str, Any] = {"train": TRAIN, "deepspeed": f"../zero{stage}.json", "lora": lora}
    whole = run_job(f"not-{name}", nproc=2, **changes)
    assert whole.code == 0, whole.stderr
    changes["checkpoint"] = {"local": str(local), "local_every": 2}
    place = places(2, 1, 0) | {"SLURM_JOB_ID": "7"}
    with nodes(workplace, name, 2, 1, place=place, enter=enter, **changes) as agents:
        wait_for(workplace, name, f"step 27/{TRAIN['max_steps']} ")
        for agent in agents:
            for one in [*psutil.Process(agent.pid).children(recursive=True), agent]:
                one.kill()
    assert not any(local.iterdir())
    for rank in range(2):
        (home,) = (tmp_path / f"disk-{rank}").glob("*/*")
        assert home.name == f"node-{rank}", "the other's are not there"
        (part, *_) = home.glob("checkpoint-*")
        assert {file.name for file in part.glob("global_step*/*optim_states.pt")} == {
            f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        }
    copied, direct = (manifest.read(folder / "checkpoint-20") for folder in (workplace / "out" / name, whole.output_dir))
    assert copied is not None
    assert direct is not None
    assert {file.path for file in copied.files} == {file.path for file in direct.files}
    if lost:
        shutil.rmtree(home)
    place = places(2, 1, 0) | {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    with nodes(workplace, name, 2, 1, place=place, enter=enter, **changes) as agents:
        assert [node.wait(120) for node in agents] == [0, 0], (workplace / f"{name}.log").read_text()
    log = (workplace / f"{name}.log").read_text()
    (said,) = [line for line in log.splitlines() if "resuming from" in line]
    if lost:
        assert said.endswith(f"resuming from out/{name}/checkpoint-20")
        assert f"no newer checkpoint in {local} is whole on all nodes" in log
    else:
        assert "/node-0/checkpoint-" in said
        assert int(said.rpartition("-")[2]) >= 26
    assert losses(workplace / "out" / name) == losses(whole.output_dir)
    assert not any(path for rank in range(2) for path in (tmp_path / f"disk-{rank}").iterdir()), "removed at the end"
