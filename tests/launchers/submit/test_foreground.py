"""A local run in the foreground: its progress, Ctrl-C, and what it sees of the shell."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from alignlaunch.launchers.backends import local
from alignlaunch.launchers.backends.local import LocalBackend
from alignlaunch.launchers.job import jobfile, pipeline
from alignlaunch.launchers.runs import processes
from alignlaunch.launchers.runs.records import Run
from alignlaunch.launchers.submit import foreground, steps
from alignlaunch.launchers.submit.foreground import _Progress
from tests.conftest import MINIMAL


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


def test_a_second_ctrl_c_ends_a_run_that_does_not_hear_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.yaml").write_text(MINIMAL)
    deaf = ["bash", "-c", f"trap '' TERM; : > {tmp_path}/deaf; while :; do sleep 1; done"]
    with subprocess.Popen(deaf, start_new_session=True) as process:
        while not (tmp_path / "deaf").exists():
            time.sleep(0.01)
        (tmp_path / "process.json").write_text(json.dumps(processes.identity(process.pid)))
        run = Run("local://deaf", "deaf", run_dir=str(tmp_path), log=str(tmp_path / "log"), output_dir=str(tmp_path))
        presses = iter([KeyboardInterrupt, KeyboardInterrupt])

        def sleep(seconds: float) -> None:  # in the loop that watches, then in the one that waits for the end
            if press := next(presses, None):
                raise press

        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.setattr(time, "sleep", sleep)
        said: list[str] = []
        monkeypatch.setattr(LocalBackend, "start", lambda *_: process)
        rendered = steps.render(pipeline.load(tmp_path / "job.yaml"), LocalBackend())
        code = foreground.run_all(rendered, {"tiny": run}, LocalBackend(), {"tiny": []}, follow=False, say=said.append)
    assert (code, said[-1]) == (130, "stopped")
    assert process.returncode == -signal.SIGKILL


def test_a_local_run_sees_nothing_of_an_outer_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "SLURM_PROCID",
        "SLURM_NTASKS",
        "PET_NNODES",
        "OMPI_COMM_WORLD_RANK",
    ):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("MINE", "1")
    (tmp_path / "job.yaml").write_text(MINIMAL)
    (tmp_path / "waiting").touch()
    (tmp_path / "show").write_text("env > seen\n")
    with local._start(
        jobfile.load(tmp_path / "job.yaml"), tmp_path, tmp_path / "log", ["bash", str(tmp_path / "show")]
    ) as process:
        process.wait(timeout=60)
    seen = {line.partition("=")[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert "MINE" in seen
    assert not [
        name for name in seen if name.startswith(("SLURM_", "PET_", "OMPI_")) or "RANK" in name or "SIZE" in name
    ]
