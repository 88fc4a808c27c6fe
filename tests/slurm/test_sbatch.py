"""What sbatch takes and refuses, and what alignlaunch says of it beforehand, on two versions of Slurm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from alignlaunch.launchers.job import job
from tests.support.waiting import until

from .cli import Login
from .cluster.private_slurm import PrivateSlurm
from .conftest import on_two_versions
from .test_watch import STUB

pytestmark = on_two_versions


@pytest.fixture
def login(slurm: PrivateSlurm, tmp_path: Path) -> Login:
    return Login(slurm, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("nnodes", "5", "nnodes: 5 with 1 CPUs each: partition gpu has 2 nodes, 2 of them of that size"),
        ("slurm.cpus_per_task", "99", "nnodes: 2 with 99 CPUs each: partition gpu has 2 nodes, 0 of them"),
    ],
)
def test_what_no_node_can_run_is_refused(login: Login, key: str, value: str, said: str) -> None:
    login.write_job("large")
    done = login.call("slurm", "large.yaml", "--cluster", "private", "--set", f"{key}={value}", code=2)
    assert said in done.stderr
    assert not (login.folder / "runs").exists()


def test_gpus_are_counted(login: Login) -> None:
    profile = login.folder / "config/alignlaunch/clusters/gpus.yaml"
    profile.write_text("device: gpu\n")
    login.write_job("gpus", nproc_per_node=5)
    done = login.call("slurm", "gpus.yaml", "--cluster", "gpus", code=2)
    assert "1 CPUs and 5 GPUs each: partition gpu has 2 nodes, 0 of them" in done.stderr


def test_a_time_over_the_partitions_limit_is_told(login: Login) -> None:
    login.write_job("long", slurm={"partition": "short", "extra": ["--hold"]})
    done = login.call("slurm", "long.yaml", "--cluster", "private")
    assert "time: 00:10:00 is over the limit of partition short (1:00)" in done.stderr
    login.call("cancel", "long")


def test_a_job_that_must_wait_for_a_node_is_taken_with_a_word(login: Login) -> None:
    login.slurm.set_node("n1", "DRAIN")
    try:
        login.write_job("later")
        done = login.call("slurm", "later.yaml", "--cluster", "private")
        assert "`sbatch --test-only` says: allocation failure:" in done.stderr
        login.call("cancel", "later")
    finally:
        login.slurm.set_node("n1", "RESUME")


@pytest.mark.parametrize(("option", "words"), [("--constraint=zz", "feature"), ("--nodelist=zz", "node name")])
def test_a_refusal_names_the_line(login: Login, option: str, words: str) -> None:
    login.write_job("refused", slurm={"extra": [option]})
    done = login.call("slurm", "refused.yaml", "--cluster", "private", code=3)
    assert words in done.stderr
    assert f": #SBATCH {option}\n" in done.stderr


@pytest.mark.parametrize(
    "limit", ["30", "5:30", "1:2:3", "2-0", "1-12:30", "1-00:00:01", "0", "0:00", "UNLIMITED", "infinite", "Unlimited"]
)
def test_sbatch_reads_a_time_limit_as_we_do(slurm: PrivateSlurm, limit: str) -> None:
    job_id = slurm.submit("true", "--hold", f"--time={limit}")
    shown = slurm.run("squeue", "-h", "-j", job_id, "-o", "%l").stdout.strip()
    slurm.run("scancel", job_id)
    ours, theirs = job.seconds(limit), job.seconds(shown)
    assert theirs == (None if ours is None else (ours + 59) // 60 * 60)  # Slurm counts minutes


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_the_committed_script_works_by_hand_in_an_activated_environment(login: Login, variable: str) -> None:
    """As README says: `sbatch launch/.../job.sbatch` from the job file's folder, with nothing of alignlaunch's set."""
    python = login.folder / "environment/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text(STUB.replace("touch", 'echo "$0" >>').replace('"$RUN_DIR', '"$PWD'))
    python.chmod(0o755)
    (login.folder / "config/alignlaunch/clusters/plain.yaml").write_text("device: cpu\n")
    login.write_job("hand", launcher="direct")
    login.call("render", "hand.yaml", "--cluster", "plain", "--target", "slurm")
    env = {name: value for name, value in login.slurm.env.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    env[variable] = str(python.parents[1])
    script = "launch/hand/slurm/job.sbatch"
    job_id = login.slurm.run("env", "-i", *(f"{k}={v}" for k, v in env.items()), "sbatch", "--parsable", script,
                             cwd=login.folder).stdout.strip()  # fmt: skip
    handle = f"slurm://{login.slurm.cluster}/{job_id}"
    login.call("wait", handle)
    assert login.status(handle)["state"] == "COMPLETED"
    assert {(login.folder / f"started.{task}").read_text().strip() for task in (0, 1)} == {str(python)}
    assert str(python) != sys.executable
    until(lambda: "task 1 on n2" in login.call("logs", handle).stdout)
