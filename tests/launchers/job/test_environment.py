"""The variables that a job may set, and secrets, which are named and never written down."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile, rules, yamlfile
from alignlaunch.launchers.render import render

from .job_files import EXAMPLE, problem, problems, write


@pytest.mark.parametrize(
    "name", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "PET_NNODES", "SLURM_JOB_ID", "UID", "IFS", "RANDOM"]
)
def test_variables_that_are_not_the_jobs(tmp_path: Path, name: str) -> None:
    assert problem(write(tmp_path), f"env.{name}=1")[0]


def test_no_variable_of_a_rendered_script_can_be_set_by_the_job(tmp_path: Path) -> None:
    """A job's `env: {total: 3}` would otherwise change what the script computes, or be changed by it."""
    job_ = jobfile.load(EXAMPLE)
    scripts = [text for target in render.targets(job_) for text in render.render(job_, target, "job.yaml").values()]
    assigned = {
        name
        for text in scripts
        for line in text.splitlines()
        if not line.lstrip().startswith("#") and not re.search("NCCL_DEBUG|echo |scontrol ", line)
        for name in re.findall(r"(?:^|[ (])([A-Za-z_]\w*)=[^=]", line)
    }
    assert {"total", "python", "preflight", "zero_json", "PET_NNODES", "HEAD_NODE", "status"} <= assigned
    # These the job may set: the script leaves the first as it finds it, and sets the second to the same end.
    # The flight recorder's come before the job's own.
    recorder = {"TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_FR_DUMP_TEMP_FILE"}
    for name in assigned - {"OMP_NUM_THREADS", "PYTHONUNBUFFERED"} - recorder:
        assert problems(write(tmp_path), f"env.{name}=1"), name


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET", "DB_PASSWORD", "TOKEN"])
def test_a_secrets_value_is_refused_and_not_repeated(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, env={name: "hf_abcdef"})
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path)
    assert "looks like a secret" in str(caught.value)
    assert "hf_abcdef" not in str(caught.value)


def test_bash_agrees_on_which_names_can_be_exported(tmp_path: Path) -> None:
    for name in (
        "a",
        "_a1",
        "A1",
        "1A",
        "A-B",
        "A.B",
        "é",
        "UID",
        "SHELLOPTS",
        "BASHOPTS",
        "EUID",
        "PPID",
        "RANDOM",
        "LINENO",
    ):
        done = subprocess.run(
            ["bash", "-c", f"set -eu; export {name}=12345; printenv {name}"],
            capture_output=True,
            text=True,
            check=False,
        )
        kept = done.stdout == "12345\n"
        document = yamlfile.parse(f"env: {{{name}: '12345'}}", "job.yaml")
        assert bool(rules.environment(document, document.data)) is not kept, name


@pytest.mark.parametrize("name", ["ALL", "NONE", "NIL"])
def test_a_secret_that_would_open_the_whole_shell_is_refused(job_file: Path, name: str) -> None:
    with pytest.raises(JobFileError, match=r"secrets\[0\] = .*: sbatch reads this as a keyword"):
        jobfile.load(job_file, (f"secrets=[{name}]",))


def test_the_value_of_a_secret_is_not_repeated(job_file: Path) -> None:
    with pytest.raises(JobFileError, match=r"--set env\.HF_TOKEN=\.\.\.: env\.HF_TOKEN: looks like a secret") as caught:
        jobfile.load(job_file, ("env.HF_TOKEN=hf_abcdefgh1234",))
    assert "hf_abc" not in str(caught.value)
