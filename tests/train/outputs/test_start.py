"""Where a submission starts: the same job goes on, another begins, and the log says why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.config import Data, Lora, TrainConfig
from alignlaunch.train.outputs import checkpoints, sameness
from tests.train.conftest import Finished, Runner, run_program, write_job

TRAIN = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "lr_scheduler_type": "linear"}


def interrupted(run_job: Runner, name: str, **changes: Any) -> Finished:
    """What a run leaves that was killed after its second step: two checkpoints, and no result."""
    whole = run_job(name, **{"train": TRAIN} | changes)
    assert whole.code == 0, whole.stderr
    shutil.rmtree(whole.output_dir / "checkpoint-3")
    for path in [*whole.output_dir.glob("*.safetensors"), *whole.output_dir.glob("provenance.json")]:
        path.unlink()
    return whole


def test_the_same_job_goes_on_and_a_changed_one_starts_afresh(run_job: Runner) -> None:
    first = interrupted(run_job, "goes-on")
    losses = first.logged("loss")
    again = run_job("goes-on", train=TRAIN | {"logging_strategy": "steps"})
    assert again.code == 0, again.stderr
    assert "resuming from out/goes-on/checkpoint-2" in again.stdout
    assert again.logged("loss") == losses, "the metrics of one run stay together, and it computes the same"

    finished = run_job("goes-on", train=TRAIN)
    assert "the earlier run in out/goes-on has reached its end" in finished.stdout
    assert "starting afresh" in finished.stdout
    assert finished.logged("loss") == losses

    shutil.rmtree(finished.output_dir / "checkpoint-3")
    other = run_job("goes-on", train=TRAIN, lora={"r": 4})
    assert "out/goes-on/checkpoint-2 is another job's: lora: None before, {'r': 4" in other.stdout
    assert "starting afresh" in other.stdout
    assert other.code == 0, other.stderr


def test_what_may_change_on_the_way_is_told_and_holds(run_job: Runner) -> None:
    """Transformers would go on with the learning rate and the intervals of the checkpoint, without a word."""
    constant = TRAIN | {"lr_scheduler_type": "constant", "learning_rate": 0.01}
    interrupted(run_job, "changed", train=constant)
    again = run_job("changed", train=constant | {"learning_rate": 0.002, "max_steps": 6, "save_steps": 2})
    assert again.code == 0, again.stderr
    told = "train.learning_rate: 0.01 before, 0.002 now; train.max_steps: 3 before, 6 now"
    assert f"other than in out/changed/checkpoint-2: {told}" in again.stdout
    assert again.logged("learning_rate") == [0.01, 0.01, 0.002, 0.002, 0.002, 0.002]
    assert [folder.name for folder in checkpoints.folders(again.output_dir)] == [
        *("checkpoint-1", "checkpoint-2", "checkpoint-4", "checkpoint-6")
    ]


@pytest.mark.matrix
def test_never_starts_afresh_and_a_path_is_taken(run_job: Runner) -> None:
    first = interrupted(run_job, "asked")
    first.output_dir.joinpath("checkpoint-2").rename(first.output_dir / "checkpoint-20")
    kept = first.output_dir.parent / "kept"
    shutil.copytree(first.output_dir / "checkpoint-1", kept)
    afresh = run_job("asked", train=TRAIN, resume="never")
    assert "starting afresh" in afresh.stdout
    named = run_job("asked-named", train=TRAIN, resume="out/kept")
    assert named.code == 0, named.stderr
    assert "resuming from out/kept" in named.stdout
    assert named.logged("loss") == first.logged("loss")[1:]


def test_true_where_there_is_none_is_refused(run_job: Runner) -> None:
    found = run_job("nothing-there", train=TRAIN | {"resume_from_checkpoint": True})
    assert found.code == 2
    assert "holds no complete checkpoint. Remove the key to start afresh." in found.stderr


@pytest.mark.matrix
def test_data_of_another_length_is_refused(run_job: Runner, workplace: Path) -> None:
    source = workplace / "growing.jsonl"
    lines = (workplace / "sft.jsonl").read_text().splitlines(keepends=True)
    source.write_text("".join(lines[:-1]))
    data = {"train": [source.name], "cache_dir": "cache"}
    interrupted(run_job, "grown", data=data)
    source.write_text("".join(lines))
    again = run_job("grown", data=data, train=TRAIN)
    assert again.code == 2
    assert "the data are not those of out/grown/checkpoint-2: it was trained on " in again.stderr
    assert "`resume: never`" in again.stderr


FAILING = """
import sys, torch
from alignlaunch.train import __main__ as entrypoint
load = torch.optim.Optimizer.load_state_dict
def broken(self, state):
    raise RuntimeError("cannot be loaded")
torch.optim.Optimizer.load_state_dict = broken
entrypoint.main()
"""


@pytest.mark.matrix
def test_a_checkpoint_that_failed_twice_to_start_is_passed_over(run_job: Runner, workplace: Path) -> None:
    """Its files are whole, and something is wrong with it all the same."""
    interrupted(run_job, "fails-to-start")
    job = write_job(workplace, "fails-to-start", train=TRAIN)
    for _ in range(2):
        done = run_program(workplace, FAILING, job)
        assert done.returncode == 1
        assert "resuming from out/fails-to-start/checkpoint-2" in done.stdout
        assert "RuntimeError: cannot be loaded" in done.stderr
    again = run_job("fails-to-start", train=TRAIN)
    assert again.code == 0, again.stderr
    assert "checkpoint-2 failed to start 2 times; an older checkpoint is tried first" in again.stdout
    assert "resuming from out/fails-to-start/checkpoint-1" in again.stdout
    assert not (again.output_dir / checkpoints.FAILED_STARTS).exists(), "there was progress"


JOB = TrainConfig(
    name="a", stage="dpo", model="m", data=Data(train=["d"]), output_dir="o", train={"beta": 0.1, "learning_rate": 1e-3}
)


@pytest.mark.parametrize(
    ("changes", "other", "schedule"),
    [
        ({"name": "b", "output_dir": "p", "preflight_timeout": 5, "resume": "never"}, [], []),
        ({"train": {"beta": 0.1, "learning_rate": 1e-3, "save_steps": 7, "per_device_train_batch_size": 2}}, [], []),
        ({"model": "n"}, ["model: m before, n now"], []),
        ({"train": {"beta": 0.2, "learning_rate": 1e-3}}, ["train.beta: 0.1 before, 0.2 now"], []),
        ({"train": {"beta": 0.1, "learning_rate": 2e-3}}, [], ["train.learning_rate: 0.001 before, 0.002 now"]),
        ({"data": Data(train=["d"], cache_dir="c", validation=["v"])}, [], []),
        ({"data": Data(train=["e"])}, ["data.train: ['d'] before, ['e'] now"], []),
    ],
)
def test_what_makes_it_another_job(changes: dict[str, Any], other: list[str], schedule: list[str]) -> None:
    values = {name: getattr(JOB, name) for name in JOB.__struct_fields__} | changes
    assert sameness.differences(sameness.of(JOB), sameness.of(TrainConfig(**values))) == (other, schedule)


def test_another_adapter_is_another_job() -> None:
    with_lora = TrainConfig(name="a", stage="dpo", model="m", data=Data(train=["d"]), output_dir="o", lora=Lora(r=4))
    (words,) = sameness.differences(sameness.of(JOB), sameness.of(with_lora))[0][:1]
    assert words.startswith("lora: None before, {'r': 4")
