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

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk for each node")


def with_disk(*mount: str | Path) -> list[str]:
    """What executes a command after a `mount` that it and all that it starts see, and nobody else."""
    script = 'mount $0; exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, " ".join(map(str, mount))]


@pytest.mark.parametrize(
    ("stage", "lora", "nproc", "lost"),
    [
        (2, LORA, 1, False),
        (3, None, 1, False),
        matrix(3, None, 1, True),
        matrix(1, None, 1, False),
        matrix(1, LORA, 1, True),
        matrix(2, None, 1, True),
        matrix(2, None, 2, False),
        matrix(3, LORA, 1, False),
        matrix(3, None, 2, False),
    ],
)
def test_a_kill_costs_the_steps_since_the_nodes_own_checkpoint(
    stage: int, lora: dict[str, Any] | None, nproc: int, lost: bool, workplace: Path, run_job: Runner, tmp_path: Path
) -> None:
    """Killed between two shared checkpoints; the losses are the undisturbed run's, also from a copied checkpoint."""
    name = f"tier-zero{stage}-{'lora' if lora else 'full'}-{nproc}-{lost}"
    local, *disks = (tmp_path / name for name in ("local", "disk-0", "disk-1"))
    for folder in (local, *disks):
        folder.mkdir()
    enter = [with_disk("--bind", disk, local) for disk in disks]
    changes: dict[str, Any] = {"train": TRAIN, "deepspeed": f"../zero{stage}.json", "lora": lora}
    whole = run_job(f"not-{name}", nproc=2 * nproc, **changes)
    assert whole.code == 0, whole.stderr
    changes["checkpoint"] = {"local": str(local), "local_every": 2}
    place = places(2, nproc, 0) | {"SLURM_JOB_ID": "7"}
    with nodes(workplace, name, 2, nproc, place=place, enter=enter, **changes) as agents:
        wait_for(workplace, name, f"step 27/{TRAIN['max_steps']} ")
        for agent in agents:
            for one in [*psutil.Process(agent.pid).children(recursive=True), agent]:
                one.kill()
    assert not any(local.iterdir())
    for node, disk in enumerate(disks):
        (home,) = disk.glob("*/*")
        assert home.name == f"node-{node * nproc}", "the other's are not there"
        (part, *_) = home.glob("checkpoint-*")
        ranks = range(node * nproc, (node + 1) * nproc)
        files = {f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in ranks}
        assert {file.name for file in part.glob("global_step*/*optim_states.pt")} == files
    outputs = (workplace / "out" / name, whole.output_dir)
    copied, direct = (manifest.read(folder / "checkpoint-20") for folder in outputs)
    assert copied is not None
    assert direct is not None
    assert {file.path for file in copied.files} == {file.path for file in direct.files}
    if lost:
        shutil.rmtree(home)
    place = places(2, nproc, 0) | {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    with nodes(workplace, name, 2, nproc, place=place, enter=enter, **changes) as agents:
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
    assert not any(path for disk in disks for path in disk.iterdir()), "removed at the end"


@pytest.mark.parametrize("stage", [matrix(1), matrix(2), 3])
def test_a_disk_that_fills_up_on_one_node_ends_the_second_tier_on_all(
    stage: int, workplace: Path, tmp_path: Path
) -> None:
    """While the other node waits in DeepSpeed's barriers. The disk has room for what is estimated, and not for more."""
    name = f"full-zero{stage}"
    enter = [with_disk("-t", "tmpfs", "-o", f"size={size}", "tmpfs", tmp_path) for size in ("64m", "64k")]
    train = TRAIN | {"max_steps": 8, "save_steps": 4}
    changes: dict[str, Any] = {"train": train, "deepspeed": f"../zero{stage}.json", "lora": {"r": 1}}
    changes["checkpoint"] = {"local": str(tmp_path), "local_every": 2}
    with nodes(workplace, name, 2, 1, most=0, enter=enter, **changes) as agents:
        assert [node.wait(120) for node in agents] == [0, 0], (workplace / f"{name}.log").read_text()
    log = (workplace / f"{name}.log").read_text()
    assert "No space left on device" in log
    assert log.count("from here on checkpoints are saved in the output folder alone") == 1
    found = {path.parent.name for path in (workplace / "out" / name).glob("checkpoint-*/manifest.json")}
    assert found == {"checkpoint-4", "checkpoint-8"}
