"""Sweeps on this machine, with a stub in place of training; tests/slurm and tests/k8s have the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from .stub_steps import call, status, until

JOB = {"name": "tiny", "stage": "sft", "model": "m", "data": {"train": ["d/d"]}, "nproc_per_node": 1, "zero": 0}


def write_job(place: Path, **more: Any) -> None:
    (place / "job.yaml").write_text(yaml.safe_dump({**JOB, **more}))


def test_one_after_the_other_also_after_one_that_fails(place: Path) -> None:
    write_job(place, sweep={"over": {"env.ACT": [0, 7, "00", 3, "000", "0000"]}, "max_parallel": 2})
    done = call(place, "local", "job.yaml", "--cluster", "stub", code=7)
    assert "sweep tiny: 6 points, at most 2 at once" in done.stderr
    assert [code for _, _, code, _ in status(place, "tiny")] == [0, 7, 0, 3, 0, 0]
    assert status(place, "last") == status(place, "tiny")
    assert status(place, "tiny+ACT7") == [("tiny+ACT7", "FAILED", 7, "")]
    assert "6 clean" in call(place, "check").stderr
    call(place, "wait", "tiny", code=7)
    # One point again, by its own committed script.
    (again,) = json.loads(call(place, "retry", "tiny+ACT7", "--json", code=7).stdout)
    assert again["name"] == "tiny+ACT7"


def test_the_command_shows_the_points_and_submits_where_it_is_told(place: Path) -> None:
    write_job(place)
    over = ("--over", "env.ACT=0,'00'", "--over", "train.learning_rate=1e-5,2e-5", "--max-parallel", "1")
    shown = call(place, "sweep", "job.yaml", "--cluster", "stub", *over).stderr
    assert "sweep tiny-sweep: 4 points, at most 1 at once" in shown
    assert "3  ACT-00-lr2e-5  env.ACT=00  train.learning_rate=2e-05" in shown
    assert not (place / "launch").exists()
    call(place, "sweep", "job.yaml", "--cluster", "stub", *over, "--on", "local")
    assert len(status(place, "tiny-sweep")) == 4
    assert (place / "launch/tiny-sweep/bash/ACT0-lr1e-5/torchrun.sh").is_file()
    assert "4 clean" in call(place, "check").stderr
    drawn = ("--over", "train.learning_rate={min: 1e-6, max: 1e-4, log: true}", "--random", "3", "--seed", "7")
    assert "3 points" in call(place, "sweep", "job.yaml", "--cluster", "stub", *drawn, "--as", "drawn").stderr
    assert "not KEY=V1,V2" in call(place, "sweep", "job.yaml", "--over", "train.seed", code=2).stderr
    assert "no sweep" in call(place, "sweep", "job.yaml", code=2).stderr


def test_an_array_of_points_that_ask_for_different_nodes_is_refused(place: Path) -> None:
    write_job(place, sweep={"over": {"nnodes": [1, 2]}})
    said = call(place, "slurm", "job.yaml", "--dry-run", code=2).stderr
    assert "its points ask Slurm for different things" in said
    assert "tiny+nnodes2: #SBATCH --nodes=2" in said


def test_a_point_that_is_no_longer_there_is_told(place: Path) -> None:
    write_job(place, sweep={"over": {"train.seed": [1, 2]}})
    call(place, "render", "job.yaml", "--target", "slurm")
    assert "3 clean" in call(place, "check").stderr
    write_job(place, sweep={"over": {"train.seed": [1, 3]}})
    said = call(place, "check", code=2)
    assert "its step seed2 of" in said.stderr
    assert "-    seed2 # 1\n+    seed3 # 1\n" in said.stdout


def test_detached_the_terminal_may_close(place: Path) -> None:
    """The command returns with the handles, and its process group has nothing of the runs."""
    write_job(place, sweep={"over": {"env.ACT": [0, 7, "00"]}})
    done = call(place, "local", "job.yaml", "--cluster", "stub", "--detach")
    assert len(done.stdout.split()) == 3
    call(place, "wait", "tiny", code=7)
    until(lambda: all(state in ("COMPLETED", "FAILED") for _, state, _, _ in status(place, "tiny")))
    assert [code for _, _, code, _ in status(place, "tiny")] == [0, 7, 0]
    first = Path(json.loads(call(place, "status", "tiny", "--json").stdout)[0]["run_dir"])
    assert "done in" in (first / "progress.log").read_text()
    write_job(place, model="../nowhere")
    assert "is not on this machine" in call(place, "local", "job.yaml", "--cluster", "stub", "--detach", code=2).stderr


def test_a_point_that_never_started_has_nothing_to_export_and_one_that_begins_nothing_to_save(place: Path) -> None:
    # As the processes of a real run, which drop a request before the first step.
    (place / "stub").write_text("#!/bin/bash\nwhile sleep 0.2; do rm -f output/*/.request; done\n")
    write_job(place, sweep={"over": {"train.seed": [1, 2]}})
    handles = call(place, "local", "job.yaml", "--cluster", "stub", "--detach").stdout.split()
    until(lambda: status(place, "tiny")[0][1] == "RUNNING")
    assert f"remedy: `alignlaunch wait {handles[1]}`" in call(place, "export", handles[1], code=2).stderr
    said = call(place, "save", "tiny", code=1).stderr
    assert "tiny+seed1: RUNNING\n    it does not train yet: nothing to save\n    remedy: ask again" in said
    assert "tiny+seed2" not in said, "which is not running"
    call(place, "cancel", "tiny")
    said = call(place, "export", "tiny+seed2", code=2).stderr
    assert "tiny+seed2: CANCELLED (never started)\n    no output in" in said
    assert f"remedy: `alignlaunch retry {handles[1]}`" in said
    assert "name one of its points: tiny+seed1, tiny+seed2" in call(place, "export", "tiny", code=2).stderr
