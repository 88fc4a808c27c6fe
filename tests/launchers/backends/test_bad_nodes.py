"""Nodes that were found faulty are left out of a submission, beside those that the job leaves out itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from alignlaunch.launchers.backends.slurm import submission
from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.runs import bad_nodes
from alignlaunch.launchers.runs.bad_nodes import BadNode


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ([], "--exclude=n1"),
        (["--exclude=n[7-9]"], "--exclude=n[7-9],n1"),
        (["--nodelist=n1"], None),  # the job names its nodes itself
    ],
)
def test_the_option_of_sbatch(job_file: Path, tmp_path: Path, extra: list[str], expected: str | None) -> None:
    file = tmp_path / "bad.jsonl"
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/lab.yaml").write_text(yaml.safe_dump({"bad_nodes": str(file), "slurm": {"extra": extra}}))
    job = jobfile.load(job_file, (), "lab")
    assert not any(word.startswith("--exclude") for word in submission.command(job, tmp_path))
    bad_nodes.add(file, BadNode("n1", "ecc", "run", time.time()))
    command = submission.command(job, tmp_path)
    assert [word for word in command if word.startswith("--exclude")] == ([expected] if expected else [])
    assert f"{bad_nodes.VARIABLE}={file}" in command


def test_a_file_is_named_by_an_absolute_path(job_file: Path, tmp_path: Path) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters/lab.yaml").write_text("bad_nodes: bad.jsonl\n")
    with pytest.raises(JobFileError, match="an absolute path"):
        jobfile.load(job_file, (), "lab")
