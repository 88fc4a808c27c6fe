"""A run in a few figures: since when, until when, on how many processes."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from alignlaunch.launchers.runs.records import Run, Status
from alignlaunch.launchers.watch import overview

#: 2026-11-29T08:00:00+00:00
SUBMITTED = 1_795_939_200.0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of 2 nodes with 8 processes each that began 100 s after its submission, in a folder that had another."""
    folder, output = tmp_path / "a-1", tmp_path / "output"
    folder.mkdir()
    output.mkdir()
    (folder / "run.json").write_text(json.dumps({"nnodes": 2, "nproc_per_node": 8}))
    (output / ".run").write_text(str(folder))
    marks = [(str(tmp_path / "before"), -5000.0), (str(folder), 100.0), (str(folder), 900.0)]
    lines = []
    for name, at in marks:
        began = SUBMITTED + at
        lines.append({"time": began + 1, "run": name, "queued": None, "began": began, "nodes": "n1", "last": None})
        lines.append({"time": began + 10, "phase": "training", "step": 0})
    (output / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = {"step": 3, "max_steps": 9, "time": SUBMITTED + 1000, "loss": math.nan, "tokens_per_second": 5.0}
    (output / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    status = Status("RUNNING")
    return Run(
        "slurm://c/7", "a", str(folder), "", str(output), submitted_at="2026-11-29T08:00:00+00:00", status=status
    )


def test_a_running_run_counts_from_its_first_attempt(run: Run) -> None:
    found = overview.of(run, SUBMITTED + 1100)
    assert (found.elapsed, found.since, found.ended) == (1000, "began", None)
    assert (found.nnodes, found.nproc_per_node, found.gpus) == (2, 8, 16)


def test_one_that_has_not_begun_counts_from_its_submission(run: Run) -> None:
    found = overview.of(replace(run, output_dir=""), SUBMITTED + 1100)
    assert (found.elapsed, found.since, found.reached) == (1100, "submitted", None)


def test_the_end_is_the_exit_code_or_the_last_sign_of_life(run: Run) -> None:
    ended = replace(run, status=Status("FAILED", 1))
    assert overview.of(ended, SUBMITTED + 9999).elapsed == 900  # its last record
    code = Path(run.run_dir, "exit_code")
    code.write_text("1\n")
    os.utime(code, (SUBMITTED + 2100, SUBMITTED + 2100))
    found = overview.of(ended, SUBMITTED + 9999)
    assert (found.elapsed, found.ended) == (2000, SUBMITTED + 2100)


def test_where_nothing_tells_the_end_there_is_no_span(run: Run) -> None:
    found = overview.of(replace(run, output_dir="", status=Status("CANCELLED")), SUBMITTED + 9999)
    assert (found.elapsed, found.ended) == (None, None)


def test_the_json_is_json_also_where_a_loss_is_no_number(run: Run) -> None:
    told = overview.as_json(overview.of(run, SUBMITTED + 1100))
    json.dumps(told, allow_nan=False)
    assert told["progress"]["loss"] is None
    assert told["progress"]["tokens_per_second"] == 5.0
    assert told["elapsed"] == {"seconds": 1000.0, "since": "began"}
    assert (told["nnodes"], told["nproc_per_node"], told["state"]) == (2, 8, "RUNNING")


@pytest.mark.parametrize("line", ['"run"', '{"run": 1}', "\x00", '{"run": "x", "began": []}', "[]"])
def test_a_broken_timeline_tells_nothing_and_breaks_nothing(run: Run, line: str) -> None:
    Path(run.output_dir, "timeline.jsonl").write_text(line + "\n")
    assert overview.of(run, SUBMITTED + 1100).since == "submitted"
