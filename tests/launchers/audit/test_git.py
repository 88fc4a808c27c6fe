"""What is submitted is committed, if that is asked for: artifacts, job file and cluster profile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.audit.drift import DriftError
from alignlaunch.launchers.backends import registry
from alignlaunch.launchers.job import jobfile, pipeline
from alignlaunch.launchers.job.pipeline import Pipeline
from alignlaunch.launchers.submit import steps


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def agree(loaded: Pipeline) -> None:
    """As a submission to this machine with --require-committed."""
    rendered = steps.render(loaded, registry.of("local"))
    steps.write(loaded, rendered, accept=False, committed=True, dry=False, say=lambda _: None)


def test_require_committed(folder: Path, job_file: Path) -> None:
    place = job_file.parent

    def prepare() -> None:
        agree(pipeline.load(job_file))

    with pytest.raises(DriftError, match="is in no git repository"):
        prepare()
    git(place, "init")
    with pytest.raises(DriftError, match=r"not committed: .*torchrun\.sh"):
        prepare()
    git(place, "add", "launch")
    with pytest.raises(DriftError, match="not committed"):  # staged is not committed
        prepare()
    git(place, "commit", "-m", "scripts")
    git(place, "add", "job.yaml")
    with pytest.raises(DriftError, match=r"not committed: job\.yaml"):
        prepare()
    git(place, "commit", "-m", "job")
    prepare()
    (place / "unrelated").touch()
    prepare()
    script = folder / "torchrun.sh"
    text = script.read_text()
    script.write_text(text + "# edited\n")
    with pytest.raises(DriftError, match="not committed"):
        drift.require_committed(folder)
    script.write_text(text)
    prepare()


def test_the_cluster_profile_is_committed_too(folder: Path, job_file: Path) -> None:
    place = job_file.parent
    (place / "clusters").mkdir()
    (place / "clusters/lab.yaml").write_text("device: cpu\n")
    job = jobfile.load(job_file, (), "lab")
    drift.write(folder, drift.artifacts(job, "bash", folder))
    git(place, "init")
    git(place, "add", "launch", "job.yaml")
    git(place, "commit", "-m", "all but the profile")
    with pytest.raises(DriftError, match=r"not committed: clusters/lab\.yaml"):
        agree(pipeline.load(job_file, (), "lab"))


def test_what_git_ignores_is_not_committed(folder: Path, job_file: Path) -> None:
    git(job_file.parent, "init")
    (job_file.parent / ".gitignore").write_text("launch/\n")
    git(job_file.parent, "add", ".")
    git(job_file.parent, "commit", "-m", "all but the scripts")
    with pytest.raises(DriftError, match="not committed"):
        drift.require_committed(folder)
