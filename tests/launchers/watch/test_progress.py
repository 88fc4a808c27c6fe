"""How far a run is: from its own records, also while the last one is being written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alignlaunch.launchers import tables
from alignlaunch.launchers.cli import summary
from alignlaunch.launchers.runs.records import Run, Status
from alignlaunch.launchers.watch import progress


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that was interrupted once, at step 5, and has come to step 9 of 20 at 2 s a step."""
    events = [(0, 100.0, "started"), *((step, 100.0 + step, "") for step in range(1, 6))]
    events += [(5, 1000.0, "resumed"), *((step, 1000.0 + 2 * (step - 5), "") for step in range(6, 10))]
    lines = [
        json.dumps({"step": step, "max_steps": 20, "time": time} | ({"event": event} if event else {"loss": 1.0}))
        for step, time, event in events
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 10, "max_st')
    (tmp_path / ".run").write_text("/runs/a")
    return Run("slurm://c/7", "a", "/runs/a", "", output_dir=str(tmp_path), status=Status("RUNNING"))


def test_the_step_and_what_is_left_at_the_speed_of_this_attempt(run: Run) -> None:
    assert progress.read(run) == progress.Progress(9, 20, 22.0, 1008.0, loss=1.0)
    header, row = tables.aligned(summary.table([run])).splitlines()
    assert row[header.index("STEP") :].split()[:2] == ["9/20", "0:00:22"]


def test_a_long_file_is_read_from_its_end(run: Run) -> None:
    path = Path(run.output_dir, "metrics.jsonl")
    with path.open("a") as file:
        file.write("\n")
        for step in range(10, 5000):
            file.write(json.dumps({"step": step, "max_steps": 10_000, "time": 1000.0 + step / 2}) + "\n")
    reached = progress.read(run)
    assert reached is not None
    assert reached.step == 4999
    assert reached.seconds_left == pytest.approx(2500.5)


@pytest.mark.parametrize("owner", ["/runs/another", None])
def test_another_runs_records_are_not_its_own(run: Run, owner: str | None) -> None:
    path = Path(run.output_dir, ".run")
    path.unlink() if owner is None else path.write_text(owner)
    assert progress.read(run) is None


def test_an_ended_run_has_no_time_left(run: Run) -> None:
    assert progress.read(replace(run, status=Status("FAILED", 1))) == progress.Progress(9, 20, None, 1008.0, loss=1.0)


@pytest.mark.parametrize("line", ["[]", "null", '{"step": "x", "max_steps": 1, "time": 1}', "\x00", "{}"])
def test_lines_that_are_no_records_are_left_out(run: Run, line: str) -> None:
    path = Path(run.output_dir, "metrics.jsonl")
    path.write_text(f"{line}\n{path.read_text()}")
    assert progress.read(run) == progress.Progress(9, 20, 22.0, 1008.0, loss=1.0)


def test_a_whole_number_that_is_too_large_for_a_float_is_no_loss(run: Run) -> None:
    path = Path(run.output_dir, "metrics.jsonl")
    large = f'{{"step": 9, "max_steps": 20, "time": 1008.0, "loss": 1{"0" * 400}}}'
    path.write_text(f"{path.read_text().rpartition(chr(10))[0]}\n{large}\n")
    reached = progress.read(run)
    assert reached is not None
    assert reached.loss == 1.0  # the one before
