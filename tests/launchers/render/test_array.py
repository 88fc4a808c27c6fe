"""The script of a sweep's array, to the byte; tests/slurm/test_sweeps.py runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.files import write_atomic
from alignlaunch.launchers.job import pipeline
from alignlaunch.launchers.render.array import ARRAY

from .test_render import SHELLCHECK

GOLDEN = Path(__file__).parent / "goldens" / ARRAY
SWEEP = """name: tuned
stage: dpo
model: org/m
data: {train: [org/d]}
nproc_per_node: 4
time: "04:00:00"
slurm: {partition: gpu, cpus_per_task: 32}
sweep: {over: {train.beta: [0.1, 0.3], train.seed: [1, 2]}, max_parallel: 2}
"""


def test_golden(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    (tmp_path / "job.yaml").write_text(SWEEP)
    found = pipeline.load(tmp_path / "job.yaml")
    files = drift.array_of(found, "", tmp_path / "launch/tuned/slurm")
    if pytestconfig.getoption("--update-goldens"):
        GOLDEN.parent.mkdir(exist_ok=True)
        write_atomic(GOLDEN, files[ARRAY])
    assert files[ARRAY] == GOLDEN.read_text(), (
        "if the change is meant: pytest --update-goldens, and read the diff in git"
    )
    lock = json.loads(files["alignlaunch.lock"])
    assert (lock["job"]["path"], lock["pipeline"]) == (
        "../../../job.yaml",
        {"path": "../../../job.yaml", "step": None},
    )


def test_it_is_shell_without_a_complaint() -> None:
    assert SHELLCHECK is not None
    done = subprocess.run([SHELLCHECK, GOLDEN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
