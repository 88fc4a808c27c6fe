"""TensorBoard and W&B (offline) get what is logged, from rank 0, below the output folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import ROOT, Runner

TRAIN = {"max_steps": 2}


def test_tensorboard(run_job: Runner) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    found = run_job("on-tensorboard", train=TRAIN | {"report_to": "tensorboard"})
    assert found.code == 0, found.stderr
    (file,) = found.output_dir.rglob("events.out.tfevents*")
    events = EventAccumulator(str(file)).Reload().Scalars("train/loss")
    assert [event.step for event in events] == [1, 2]
    assert [event.value for event in events] == pytest.approx(found.logged("loss"))


def test_wandb(run_job: Runner, workplace: Path) -> None:
    pytest.importorskip("wandb")
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {"WANDB_MODE": "offline", "PYTHONPATH": path}
    found = run_job("on-wandb", nproc=2, train=TRAIN | {"report_to": ["wandb"]}, env=env)
    assert found.code == 0, found.stderr
    (run,) = found.output_dir.glob("wandb/offline-run-*/*.wandb")
    record = run.read_bytes()
    assert b"on-wandb" in record, "the run is named after the job"
    assert b"train/loss" in record
    assert b"train/tokens_per_second" in record
    assert not (workplace / "wandb").exists()
