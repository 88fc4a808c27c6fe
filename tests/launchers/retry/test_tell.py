"""What the batch script tells of an attempt's end, with the cause that was found for it, if one was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignlaunch.launchers.retry import attempts
from alignlaunch.launchers.retry.attempts import Recorded
from alignlaunch.launchers.retry.decision import Decision, Ended


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/tiny-1"
    folder.mkdir(parents=True)
    write_job(folder, {"command": ["sh", "-c", "cat > told"]})
    return folder


def write_job(folder: Path, notify: Any) -> None:
    job = {"name": "tiny", "stage": "sft", "model": "m", "data": {"train": ["d"]}, "output_dir": "output"}
    (folder / "job.resolved.yaml").write_text(yaml.safe_dump(job | {"notify": notify}))


def tell(run_dir: Path, *options: str) -> str:
    """Run by the batch script of an attempt that began at second 100. Returns what it says."""
    command = [sys.executable, "-m", "alignlaunch.launchers.retry.tell", str(run_dir), *options]
    env = os.environ | {"ALIGNLAUNCH_RUN_DIR": str(run_dir), "ALIGNLAUNCH_BEGAN": "100 90"}
    done = subprocess.run(command, env=env, cwd=run_dir.parents[1], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_cause_is_that_of_this_attempt(run_dir: Path) -> None:
    for time, cause in ((50.0, "xid"), (150.0, "nccl-timeout")):
        attempts.add(run_dir, Recorded(time, Ended(cause, None, 1, -1), Decision(True, "why"), "?"))
    assert tell(run_dir, "--code", "1", "--again") == ""
    told = json.loads((run_dir.parents[1] / "told").read_text())
    assert (told["id"], told["state"], told["cause"]) == ("tiny-1", "failed and tried again", "nccl-timeout")
    assert str(run_dir.parent) not in json.dumps(told)


def test_without_a_cause_the_exit_code_is_told(run_dir: Path) -> None:
    attempts.add(run_dir, Recorded(50.0, Ended("xid", None, 1, -1), Decision(True, "why"), "?"))
    tell(run_dir, "--code", "143")
    told = json.loads((run_dir.parents[1] / "told").read_text())
    assert (told["state"], told["cause"]) == ("failed", "exit code 143")


def test_nobody_is_named(run_dir: Path) -> None:
    write_job(run_dir, None)
    assert tell(run_dir, "--code", "1") == ""
    assert not (run_dir.parents[1] / "told").exists()


def test_without_a_job_there_is_a_line(run_dir: Path) -> None:
    (run_dir / "job.resolved.yaml").unlink()
    assert tell(run_dir, "--code", "1").startswith("alignlaunch: notify: ")
