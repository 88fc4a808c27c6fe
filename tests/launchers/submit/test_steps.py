"""Pipelines that run on this machine, one step after the other; tests/slurm/test_steps.py has the real Slurm."""

from __future__ import annotations

import json
import signal
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.support.tiny import TRAIN, make_model, write_data

from .stub_steps import call, start, status, write_steps


def test_three_steps_train_one_on_the_output_of_the_other(tmp_path: Path) -> None:
    """The last step learns nothing, so that its result can only be the weights that the second one left."""
    make_model(tmp_path / "model")
    write_data(tmp_path)
    from safetensors.torch import load_file

    job: dict[str, Any] = {"nproc_per_node": 1, "zero": 0, "lora": None, "train": TRAIN}
    pairs = job | {"stage": "orpo", "data": {"train": ["pairs.jsonl"]}}
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump({**pairs, "name": "pairs", "model": "nowhere"}))
    jobs = {
        "again": {"job": "pairs.yaml", "name": "again", "model": "${orpo.output}", "train": {"learning_rate": 0.0}},
        "orpo": {"job": "pairs.yaml", "model": "${sft.output}"},
        "sft": {**job, "stage": "sft", "model": "model", "data": {"train": ["sft.jsonl"]}},
    }
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump({"name": "chain", "jobs": jobs}))
    done = call(tmp_path, "local", "chain.yaml")
    handles = done.stdout.split()
    assert [handle.split("-20")[0] for handle in handles] == ["local://chain-sft", "local://pairs", "local://again"]
    assert [state for _, state, _, _ in status(tmp_path, "chain")] == ["COMPLETED"] * 3
    trained = [
        load_file(tmp_path / f"{folder}/model.safetensors")["model.embed_tokens.weight"]
        for folder in ("model", "output/chain-sft", "output/pairs", "output/again")
    ]
    changed = [not before.equal(after) for before, after in pairwise(trained)]
    assert changed == [True, True, False]
    ran = json.loads((tmp_path / "output/again/provenance.json").read_text())["run"]
    assert (ran["name"], ran["pipeline"]) == ("again", {"path": str(tmp_path / "chain.yaml"), "step": "again"})


def test_the_first_failure_ends_it(place: Path) -> None:
    write_steps(place, "0", "7", "0")
    done = call(place, "local", "chain.yaml", "--cluster", "stub", code=7)
    assert "chain-c: never started" in done.stderr
    assert status(place, "chain") == [
        ("chain-a", "COMPLETED", 0, ""),
        ("chain-b", "FAILED", 7, ""),
        ("chain-c", "CANCELLED", None, "never started"),
    ]
    assert status(place, "last") == status(place, "chain")
    assert status(place, "chain-b") == [("chain-b", "FAILED", 7, "")]
    assert len(json.loads(call(place, "wait", "chain", "--json", code=7).stdout)) == 3
    assert call(place, "logs", "chain", "--tail", "1").stdout == "0\n7\n"
    assert "no log yet" in call(place, "logs", "chain-c", code=1).stderr


def test_waiting_steps_are_shown_and_cancelled_with_the_one_that_runs(place: Path) -> None:
    write_steps(place, "sleep", "0", "0")
    process = start(place)
    waiting = [("chain-b", "PENDING", None, "Dependency"), ("chain-c", "PENDING", None, "Dependency")]
    assert status(place, "chain") == [("chain-a", "RUNNING", None, ""), *waiting]
    call(place, "cancel", "chain")
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert [state for _, state, _, _ in status(place, "chain")] == ["CANCELLED"] * 3


def test_a_folder_that_a_live_run_writes_into_is_refused(place: Path) -> None:
    write_steps(place, "sleep")
    process = start(place)
    other: dict[str, Any] = {"name": "other", "stage": "sft", "model": "m", "data": {"train": ["d/d"]}}
    other |= {"nproc_per_node": 1, "zero": 0, "output_dir": "b/../a", "env": {"ACT": 0}}
    (place / "other.yaml").write_text(yaml.safe_dump(other))
    (run,) = json.loads(call(place, "status", "chain", "--json").stdout)
    handle = run["handle"]
    said = call(place, "local", "other.yaml", "--cluster", "stub", code=2).stderr
    assert f"output_dir: {place}/a: chain-a ({handle}, RUNNING), submitted by " in said
    assert not (place / "launch" / "other").exists()
    call(place, "local", "other.yaml", "--cluster", "stub", "--set", "output_dir=c")
    call(place, "cancel", handle)
    process.communicate(timeout=60)
    call(place, "local", "other.yaml", "--cluster", "stub", "--write")


def test_the_bad_data_of_every_step_is_told_before_anything_is_written(place: Path) -> None:
    write_steps(place, "0", "0", "0")
    chain = yaml.safe_load((place / "chain.yaml").read_text())
    for step in "bc":
        (place / f"{step}.jsonl").write_text('{"odd": 1}\n')
        chain["jobs"][step]["data"] = {"train": [f"{step}.jsonl"]}
    (place / "chain.yaml").write_text(yaml.safe_dump(chain))
    said = call(place, "local", "chain.yaml", "--cluster", "stub", code=2).stderr
    assert ("step b: " in said, "step c: " in said, "b.jsonl:1" in said, "c.jsonl:1" in said) == (True,) * 4
    assert not (place / "launch").exists()


def test_ctrl_c_ends_all(place: Path) -> None:
    write_steps(place, "sleep", "0")
    process = start(place)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, "Traceback" in said) == (130, False)
    assert [state for _, state, _, _ in status(place, "chain")] == ["CANCELLED"] * 2


def test_without_the_process_that_would_start_them_waiting_steps_are_over(place: Path) -> None:
    write_steps(place, "sleep", "0")
    process = start(place)
    process.kill()
    process.wait()
    assert status(place, "chain") == [
        ("chain-a", "RUNNING", None, ""),
        ("chain-b", "CANCELLED", None, "never started"),
    ]
    call(place, "cancel", "chain")


def test_a_waiting_step_that_was_cancelled_is_not_started(place: Path) -> None:
    write_steps(place, "sleep", "0", "0")
    process = start(place)
    call(place, "cancel", "chain-b")
    call(place, "cancel", "chain-a")
    process.communicate(timeout=60)
    assert not list(place.glob("runs/chain-[bc]-*/*.log"))


def test_what_an_earlier_step_will_make_is_not_missing(place: Path) -> None:
    write_steps(place, "0", "0")
    call(place, "local", "chain.yaml", "--cluster", "stub")
    (place / "base").rmdir()
    for dry in ([], ["--dry-run"]):  # both look at the same things
        said = call(place, "local", "chain.yaml", "--cluster", "stub", *dry, code=2).stderr
        assert said.count("is not on this machine") == 1
        assert "model: ./base is not on this machine" in said


def test_the_drift_of_every_step_is_shown_before_anything_runs(place: Path) -> None:
    write_steps(place, "0", "0", "0")
    call(place, "render", "chain.yaml", "--cluster", "stub")
    write_steps(place, "0", "1", "2")
    said = call(place, "local", "chain.yaml", "--cluster", "stub", code=1).stderr
    assert ("+  ACT: '1'\n" in said, "+  ACT: '2'\n" in said) == (True, True)
    assert not (place / "runs").exists()
    call(place, "local", "chain.yaml", "--cluster", "stub", "--write", code=1)
    assert status(place, "chain-b")[0][2] == 1


def test_an_uncommitted_pipeline_file_is_refused(place: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(place), *identity, *arguments], check=True, capture_output=True)

    for name in "ab":
        text = (
            f"name: {name}\nstage: sft\nmodel: m\ndata: {{train: [d/d]}}\nnproc_per_node: 1\nzero: 0\nenv: {{ACT: 0}}\n"
        )
        (place / f"{name}.yaml").write_text(text)
    (place / "chain.yaml").write_text("name: chain\njobs: {a: {job: a.yaml}, b: {job: b.yaml, after: [a]}}\n")
    call(place, "render", "chain.yaml", "--cluster", "stub")
    git("init", "-q")
    git("add", "launch", "clusters", "a.yaml", "b.yaml")
    git("commit", "-qm", "all but the pipeline")
    options = ["local", "chain.yaml", "--cluster", "stub", "--require-committed"]
    assert "not committed: chain.yaml" in call(place, *options, code=1).stderr
    git("add", "chain.yaml")
    git("commit", "-qm", "the pipeline")
    call(place, *options)


def test_a_dry_run_shows_every_script_and_writes_nothing(place: Path) -> None:
    write_steps(place, "0", "0", "0")
    before = sorted(place.iterdir())
    assert call(place, "local", "chain.yaml", "--dry-run").stdout.count("#!/bin/bash\n") == 3
    shown = call(place, "slurm", "chain.yaml", "--dry-run", PATH=str(place))  # no sbatch to ask there
    assert shown.stdout.count("#SBATCH --job-name=chain-") == 3
    assert sorted(place.iterdir()) == before
