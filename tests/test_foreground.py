"""The progress of a local run, read from a file that another process is writing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlaunch.launchers.foreground import _Progress


def test_progress_shows_whole_new_records_and_survives_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.jsonl"
    progress = _Progress(path, began=0)
    progress.show()  # no file yet

    def record(step: int, **figures: float) -> bytes:
        return json.dumps({"step": step, "max_steps": 9, "time": 1, **figures}).encode() + b"\n"

    # Two runs with one output_dir leave NULs where one of them cut the file; the last line is not whole yet.
    path.write_bytes(record(1, loss=2.5) + b"\0" * 2308 + b"\n[1]\n" + record(2, loss=1.25) + record(3, loss=7.0)[:-5])
    progress.show()
    said = capsys.readouterr().err
    assert "step 1/9  loss 2.5" in said
    assert "step 2/9  loss 1.25" in said
    assert "step 3" not in said
