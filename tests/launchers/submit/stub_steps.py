"""Pipelines whose steps are a shell script in the place of python; what each does is told by its job's environment."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.support.command import ALIGNLAUNCH

STUB = """#!/bin/bash
echo "$ACT"
case "$ACT" in
    sleep) sleep 300 ;;
    *) exit "$ACT" ;;
esac
"""


def make_place(folder: Path) -> Path:
    """A folder for jobs, with the stand-in as the python of the profile `stub`."""
    stub = folder / "stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (folder / "base").mkdir()
    (folder / "clusters").mkdir()
    (folder / "clusters/stub.yaml").write_text(yaml.safe_dump({"python": str(stub), "device": "cpu"}))
    return folder


def write_steps(place: Path, *acts: str) -> None:
    """Steps a, b, c, ... each on the output of the one before."""
    jobs: dict[str, Any] = {}
    for before, step, act in zip(["", *"abc"], "abcd", acts, strict=False):
        model = f"${{{before}.output}}" if before else "./base"
        jobs[step] = {"stage": "sft", "model": model, "data": {"train": ["hub/data"]}, "env": {"ACT": act}}
        jobs[step] |= {"nproc_per_node": 1, "zero": 0, "output_dir": f"./{step}"}
    (place / "chain.yaml").write_text(yaml.safe_dump({"name": "chain", "jobs": jobs}, sort_keys=False))


def environment(place: Path, **more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "ALIGNLAUNCH"))}
    return {**inherited, "XDG_STATE_HOME": str(place / "state"), "HF_HUB_OFFLINE": "1", **more}


def call(place: Path, *arguments: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*ALIGNLAUNCH, *arguments],
        cwd=place,
        env=environment(place, **env),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def status(place: Path, run: str) -> list[tuple[str, str, int | None, str]]:
    shown = json.loads(call(place, "status", run, "--json").stdout)
    return [(run["name"], run["state"], run["exit_code"], run["reason"]) for run in shown]


def start(place: Path) -> subprocess.Popen[str]:
    """`alignlaunch local chain.yaml`, its first step begun."""
    process = subprocess.Popen(
        # A shell's background job is born with SIGINT ignored.
        ["env", "--default-signal=INT", *ALIGNLAUNCH, "local", "chain.yaml", "--cluster", "stub"],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: any("sleep" in log.read_text() for log in place.glob("runs/*/*.log")))
    return process


def until(arrived: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not arrived():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)
