"""A submission that is cut off, and two at once, on two versions of Slurm: no job is lost, no folder is two runs'."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from .cli import Login
from .cluster.private_slurm import PrivateSlurm
from .conftest import on_two_versions

pytestmark = on_two_versions

#: The real sbatch; once it has taken the job, whoever called it is dead.
SBATCH = """#!/bin/bash
if [[ " $* " == *" --test-only "* ]]; then exec {sbatch} "$@"; fi
{sbatch} --uid={user} "$@" > {answer}
kill -9 $PPID
"""


@pytest.fixture
def login(slurm: PrivateSlurm, tmp_path: Path) -> Login:
    return Login(slurm, tmp_path)


def waiting_jobs(login: Login) -> list[str]:
    return login.slurm.run("squeue", "--noheader", "--states=PENDING", "--format=%i").stdout.split()


@pytest.mark.parametrize("user", [0, 65534], ids=["ours", "a colleague's"])
def test_a_submission_killed_right_after_sbatch_is_found_again(login: Login, user: int) -> None:
    login.write_job("cut", slurm={"extra": ["--hold"]})
    real, answer = shutil.which("sbatch", path=login.env["PATH"]), login.folder / "answer"
    wrapper = login.folder / "bin/sbatch"
    wrapper.parent.mkdir()
    wrapper.write_text(SBATCH.format(sbatch=real, answer=answer, user=user))
    wrapper.chmod(0o755)
    path = login.env["PATH"]
    login.env["PATH"] = f"{wrapper.parent}{os.pathsep}{path}"
    login.call("slurm", "cut.yaml", "--cluster", "private", code=-signal.SIGKILL)
    login.env["PATH"] = path

    job_id = answer.read_text().split()[3]
    (folder,) = login.folder.glob("runs/cut-*")
    os.chown(folder, user, -1)
    (found,) = json.loads(login.call("list", "--json").stdout)
    assert (found["handle"], found["state"]) == (f"slurm://{login.slurm.cluster}/{job_id}", "PENDING")
    assert found["reason"] == "JobHeldUser"
    login.write_job("next", output_dir=found["output_dir"])
    said = login.call("slurm", "next.yaml", "--cluster", "private", code=2).stderr
    assert f"cut ({found['handle']}, PENDING), submitted by" in said
    login.call("cancel", "cut")
    assert waiting_jobs(login) == []


def test_of_two_submissions_at_once_into_one_folder_one_is_refused(login: Login) -> None:
    names = ("left", "right")
    for name in names:
        login.write_job(name, output_dir="both", slurm={"extra": ["--hold"]})
    started = [login.start("slurm", f"{name}.yaml", "--cluster", "private") for name in names]
    said = [process.communicate(timeout=120) for process in started]
    assert sorted(process.returncode for process in started) == [0, 2], said
    ((handle, _),) = [words for words, process in zip(said, started, strict=True) if process.returncode == 0]
    ((_, refusal),) = [words for words, process in zip(said, started, strict=True) if process.returncode == 2]
    assert "writes there" in refusal
    assert waiting_jobs(login) == [handle.strip().rpartition("/")[2]]
    login.call("cancel", handle.strip())


def test_a_run_that_has_ended_is_submitted_again_into_its_folder(login: Login) -> None:
    login.write_job("twice", slurm={"extra": ["--hold"]})
    handle = login.submit("twice")
    assert "it is PENDING" in login.call("retry", "twice", code=2).stderr
    login.call("cancel", "twice")
    again = login.call("retry", handle).stdout.strip()
    assert again != handle
    assert waiting_jobs(login) == [again.rpartition("/")[2]]
    login.call("cancel", again)
