"""The second tier of checkpoints: a kill costs the steps since the node's own copy; without all parts it is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from alignlaunch.train.outputs import checkpoints, local_tier
from alignlaunch.train.outputs.local_tier import LocalTier
from alignlaunch.train.processes.rendezvous import read
from tests.support.matrix import matrix
from tests.train.conftest import Runner
from tests.train.test_restarts import LORA, losses, nodes, places, wait_for


def tier(root: Path, rank: int = 0, run: str = "/runs/a") -> LocalTier:
    """That of a rank that is its node's only one."""
    place = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "a"}
    return LocalTier(root, 2, root.parent / "out", read(place | {"MASTER_PORT": "1", "ALIGNLAUNCH_RUN_DIR": run}))


@pytest.mark.parametrize(
    ("held", "after", "steps"),
    [
        ([{4: "a", 6: "b"}, {4: "a", 6: "b"}], 0, [6, 4]),
        ([{4: "a", 6: "b"}, {4: "a"}], 0, [4]),
        ([{4: "a", 6: "b"}, {4: "a", 6: "another attempt's"}], 0, [4]),
        ([{4: "a", 6: "b"}, {4: "a", 6: "b"}], 4, [6]),
        ([{4: "a", 6: "b"}, {4: "a", 6: "b"}], 6, []),
        ([{4: "a"}, {}], 0, []),
        ([{}, {4: "a"}], 0, []),
    ],
)
def test_the_newest_that_all_hold_is_tried_first(held: list[dict[int, str]], after: int, steps: list[int]) -> None:
    assert local_tier.common(held, after) == steps


def test_its_folder_is_the_runs_and_the_nodes_alone(tmp_path: Path) -> None:
    places = [tier(tmp_path), tier(tmp_path, 1), tier(tmp_path, run="/runs/b")]
    assert [one.open() for one in places] == ["", "", ""]
    assert len({one.home for one in places}) == 3
    assert {folder.stat().st_mode & 0o777 for one in places for folder in (one.home, one.home.parent)} == {0o700}
    (places[0].home / ".saving" / "checkpoint-2").mkdir(parents=True)
    assert places[0].open() == ""
    assert not (places[0].home / ".saving").exists(), "half written by an attempt that was killed"


def test_what_others_may_have_written_is_neither_used_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tier(tmp_path).home
    home.mkdir(parents=True)
    home.parent.chmod(0o777)
    assert "is open to other users (mode 0777)" in tier(tmp_path).open()
    home.parent.chmod(0o700)
    home.chmod(0o700)
    assert tier(tmp_path).open() == ""
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    assert f"belongs to user {home.stat().st_uid}" in tier(tmp_path).open()
    monkeypatch.undo()
    home.rename(tmp_path / "elsewhere")
    home.symlink_to(tmp_path / "elsewhere")
    assert "is no folder" in tier(tmp_path).open()
    assert (tmp_path / "elsewhere").is_dir()


def test_a_node_without_the_folder_says_so(tmp_path: Path) -> None:
    assert "No such file or directory" in tier(tmp_path / "unmounted").open()


TRAIN = {"max_steps": 40, "save_strategy": "steps", "save_steps": 20, "lr_scheduler_type": "linear", "logging_steps": 3}


def lose(folder: Path) -> None:
    """As on a node that took the place of another."""
    shutil.rmtree(folder)


def damage(folder: Path) -> None:
    """One bit of a random state."""
    (file,) = folder.glob("rng_state_*.pth")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(("fault", "lora"), [(None, None), (lose, LORA), matrix(damage, LORA), matrix(None, LORA)])
def test_a_kill_costs_the_steps_since_the_nodes_own_checkpoint(
    fault: Callable[[Path], None] | None, lora: dict[str, Any] | None, workplace: Path, run_job: Runner, tmp_path: Path
) -> None:
    """Two nodes of one process each, killed between two shared checkpoints; the losses are the undisturbed run's."""
    name = f"tier-{fault.__name__ if fault else ''}-{'lora' if lora else 'full'}"
    changes: dict[str, Any] = {"train": TRAIN, "lora": lora}
    whole = run_job(f"not-{name}", nproc=2, **changes)
    assert whole.code == 0, whole.stderr
    changes["checkpoint"] = {"local": str(tmp_path), "local_every": 2}
    place = places(2, 1, 0) | {"SLURM_JOB_ID": "7"}
    with nodes(workplace, name, 2, 1, place=place, **changes) as agents:
        wait_for(workplace, name, f"step 27/{TRAIN['max_steps']} ")
        for agent in agents:
            for one in [*psutil.Process(agent.pid).children(recursive=True), agent]:
                one.kill()
    parts = sorted(tmp_path.glob("*/node-1/checkpoint-*"), key=lambda folder: int(folder.name[11:]))
    assert 1 <= len(parts) <= 3
    assert checkpoints.reached(workplace / "out" / name) >= 26
    assert [path.parent.name for path in (workplace / "out" / name).glob("checkpoint-*/manifest.json")] == [
        "checkpoint-20"
    ], "copied while training went on"
    if fault:
        for part in parts:
            fault(part)
    place = places(2, 1, 0) | {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    with nodes(workplace, name, 2, 1, place=place, **changes) as agents:
        assert [node.wait(120) for node in agents] == [0, 0], (workplace / f"{name}.log").read_text()
    (said,) = [line for line in (workplace / f"{name}.log").read_text().splitlines() if "resuming from" in line]
    if fault:
        assert said.endswith(f"resuming from out/{name}/checkpoint-20")
        assert f"no newer checkpoint in {tmp_path} is whole on all nodes" in (workplace / f"{name}.log").read_text()
    else:
        assert "/node-0/checkpoint-" in said
        assert int(said.rpartition("-")[2]) >= 26
    assert losses(workplace / "out" / name) == losses(whole.output_dir)
    assert not any(tmp_path.iterdir()), "removed at the end"
