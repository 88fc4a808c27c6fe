"""Cluster profiles: where they are found, how a job lies over one, and that they are checked like a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import jobfile

from .job_files import problems, profile, write


def test_profiles_beside_the_job_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = write(tmp_path)
    profile(tmp_path / "config" / "alignlaunch" / "clusters", gpu_type="user")
    assert jobfile.load(path, (), "lab").cluster.gpu_type == "user"
    profile(tmp_path / "clusters", gpu_type="beside")
    assert jobfile.load(path, (), "lab").cluster.gpu_type == "beside"
    with pytest.raises(UsageError, match=r"(?s)--cluster other: no other\.yaml in .*remedy: use one of lab"):
        jobfile.load(path, (), "other")


def test_the_job_wins_over_the_profile_and_extras_add_up(tmp_path: Path) -> None:
    profile(
        tmp_path / "clusters",
        slurm={"partition": "cluster", "qos": "low", "mem": "0", "extra": ["--constraint=h100"]},
        env={"A": "cluster", "B": "cluster", "extra": "x"},
    )
    path = write(tmp_path, slurm={"partition": "job", "extra": ["--exclusive"]}, env={"A": "job"})
    loaded = jobfile.load(path, ("slurm.qos=set",), "lab")
    slurm = loaded.spec.slurm
    assert (slurm.partition, slurm.qos, slurm.mem, slurm.extra) == (
        "job",
        "set",
        "0",
        ["--constraint=h100", "--exclusive"],
    )
    assert loaded.env == {"A": "job", "B": "cluster", "extra": "x"}
    assert jobfile.load(path).spec.slurm.extra == ["--exclusive"]
    assert jobfile.load(write(tmp_path), (), "lab").spec.slurm.extra == ["--constraint=h100"]


def test_a_profile_is_checked_like_a_job(tmp_path: Path) -> None:
    profile(tmp_path / "clusters", devise="gpu", container={"runtime": "docker", "image": ""}, gpu_memory_gib=-1)
    found = problems(write(tmp_path), cluster="lab")
    assert [line.split()[1] for line in found] == ["devise", "container.runtime", "container.image", "gpu_memory_gib"]
    assert all("clusters/lab.yaml:1:" in line for line in found)
