"""Variants by `--set`, on this machine: beside the committed job, never in its place."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import yaml

from alignlaunch.launchers.audit import provenance

from .stub_steps import call, status

JOB = {"name": "tiny", "stage": "sft", "model": "m", "data": {"train": ["d/d"]}, "nproc_per_node": 1, "zero": 0}
SET = ("--set", "train.learning_rate=1e-5")


def write_job(place: Path) -> None:
    (place / "job.yaml").write_text(yaml.safe_dump({**JOB, "env": {"ACT": 0}, "train": {"learning_rate": 2e-5}}))


def test_a_variant_runs_beside_the_committed_job(place: Path) -> None:
    write_job(place)
    call(place, "local", "job.yaml", "--cluster", "stub")
    committed = {path: path.read_bytes() for path in (place / "launch").rglob("*") if path.is_file()}
    said = call(place, "local", "job.yaml", "--cluster", "stub", *SET).stderr
    assert "other than committed: train.learning_rate: 2e-05 → 1e-05" in said
    assert {path: path.read_bytes() for path in (place / "launch").rglob("*") if path.is_file()} == committed
    assert status(place, "tiny+lr1e-5") == [("tiny+lr1e-5", "COMPLETED", 0, "")]
    (run,) = json.loads(call(place, "status", "tiny+lr1e-5", "--json").stdout)
    assert run["output_dir"] == str(place / "output/tiny+lr1e-5")
    made_from = provenance.read(Path(run["run_dir"]))
    assert made_from["varies"] == ["train.learning_rate: 2e-05 → 1e-05"]
    assert "learning_rate: 1.0e-05" in (Path(run["run_dir"]) / "job.resolved.yaml").read_text()
    assert "varies     train.learning_rate: 2e-05 → 1e-05" in call(place, "describe", "tiny+lr1e-5").stdout
    (again,) = json.loads(call(place, "retry", "tiny+lr1e-5", "--json").stdout)
    assert (again["name"], again["output_dir"]) == (run["name"], run["output_dir"])


def test_only_what_is_committed_passes_where_that_is_required(place: Path) -> None:
    write_job(place)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run([*git, "init", "--quiet"], cwd=place, check=True)
    submit = ("local", "job.yaml", "--cluster", "stub", "--require-committed", *SET)
    refused = call(place, *submit, code=1).stderr
    assert "not committed: a variant is rendered into its run's folder alone" in refused
    assert not (place / "runs").exists()
    call(place, "render", "job.yaml", "--cluster", "stub", "--target", "bash", *SET, "--as", "low")
    call(place, *submit, "--as", "low", code=1)
    subprocess.run([*git, "add", "."], cwd=place, check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "low"], cwd=place, check=True)
    call(place, *submit, "--as", "low")
    assert status(place, "low") == [("low", "COMPLETED", 0, "")]


def test_render_says_where_a_variant_is(place: Path) -> None:
    write_job(place)
    said = call(place, "render", "job.yaml", *SET, code=2).stderr
    assert "tiny+lr1e-5" in said
    assert "--as NAME" in said
    assert not (place / "launch").exists()
