"""The private Slurm itself: what the tests of the Slurm target rely on."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.matrix import matrix

from .cluster.daemons import PrivateSlurmError
from .cluster.private_slurm import NODES, PrivateSlurm
from .conftest import slurm_ready

SLEEP_ON_BOTH = """#SBATCH -N2 --ntasks-per-node=1 -o /dev/null
srun --kill-on-bad-exit=1 bash -c 'touch "$SLURM_JOB_ID.$SLURMD_NODENAME"; sleep 120'"""


@pytest.fixture
def idle(slurm: PrivateSlurm) -> Iterator[PrivateSlurm]:
    """The cluster without a job of another test, before and after."""
    slurm.run("scancel", "--me")
    slurm.wait_idle()
    yield slurm
    slurm.run("scancel", "--me")


def submit_and_wait_for_its_tasks(slurm: PrivateSlurm, *options: str) -> str:
    """RUNNING comes before srun has started its tasks, and a node lost in between makes srun, so the job, FAILED."""
    job = slurm.submit(SLEEP_ON_BOTH, *options)
    deadline = time.monotonic() + 30
    while not all((slurm.root / f"{job}.{node}").exists() for node in NODES):
        assert time.monotonic() < deadline, slurm.state(job)
        time.sleep(0.1)
    return job


def processes_of(root: Path) -> list[str]:
    """Command lines that name the root folder, or whose environment does."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            words = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
            if str(root).encode() in words:
                found.append(words.decode(errors="replace"))
        except OSError:  # it ended meanwhile
            continue
    return found


def test_each_node_has_its_own_name_and_both_resolve(idle: PrivateSlurm) -> None:
    script = 'echo "$SLURMD_NODENAME $(hostname) $SLURM_PROCID"; getent hosts n1 n2 | tr -s " " | tr "\\n" ";"'
    out = idle.run("srun", "-N2", "--ntasks-per-node=1", "--label", "bash", "-c", script).stdout
    both = ";".join(f"{address} {name}" for name, address in NODES.items()) + ";"
    lines = sorted(out.splitlines())
    assert lines == sorted(["0: n1 n1 0", "1: n2 n2 1", f"0: {both}", f"1: {both}"])


def test_a_batch_job_with_gpus_completes_and_its_script_can_be_read_back(idle: PrivateSlurm, tmp_path: Path) -> None:
    body = (
        "#SBATCH -N2 --ntasks-per-node=2 --cpus-per-task=4 --gres=gpu:4 -o %j.out\n"
        "scontrol show hostnames $SLURM_JOB_NODELIST\n"
        "SRUN_CPUS_PER_TASK=4 srun bash -c 'echo $SLURMD_NODENAME $SLURM_LOCALID $CUDA_VISIBLE_DEVICES' | sort"
    )
    job = idle.submit(body, cwd=tmp_path)
    idle.wait_state(job, "COMPLETED")
    ranks = [f"{node} {local} 0,1,2,3" for node in ("n1", "n2") for local in (0, 1)]
    assert (tmp_path / f"{job}.out").read_text().splitlines() == ["n1", "n2", *ranks]
    idle.run("scontrol", "write", "batch_script", job, str(tmp_path / "copy.sh"))
    assert (tmp_path / "copy.sh").read_text() == f"#!/bin/bash\n{body}\n"


def test_sacct_is_disabled_without_accounting(slurm: PrivateSlurm) -> None:
    done = slurm.run("sacct", "-j", "1", check=False)
    assert (done.returncode, done.stderr) == (1, "Slurm accounting storage is disabled\n")


def test_sacct_keeps_what_slurmctld_forgets(slurm_acct: PrivateSlurm) -> None:
    job = slurm_acct.submit("exit 7", "--account=lab", "--qos=high", "-o", "/dev/null")
    slurm_acct.wait_state(job, "FAILED")
    deadline = time.monotonic() + 100
    while slurm_acct.run("squeue", "-h", "--states=all", "-j", job, check=False).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert "Invalid job id specified" in slurm_acct.run("scontrol", "show", "job", job, check=False).stderr
    assert slurm_acct.run("sacct", "-nPX", "-j", job, "-o", "State,ExitCode").stdout == "FAILED|7:0\n"


def test_both_nodes_have_one_hostname_where_asked(slurm_acct: PrivateSlurm) -> None:
    script = 'echo "$SLURMD_NODENAME $(hostname)"'
    out = slurm_acct.run("srun", "-N2", "--ntasks-per-node=1", "bash", "-c", script).stdout
    assert sorted(out.splitlines()) == [f"{node} {socket.gethostname()}" for node in NODES]


def test_an_unknown_account_is_refused_with_accounting(slurm_acct: PrivateSlurm) -> None:
    with pytest.raises(PrivateSlurmError, match="Invalid account"):
        slurm_acct.submit("true", "--account=nobody")


@pytest.mark.parametrize(("option", "state"), [matrix("--no-requeue", "NODE_FAIL"), ("--requeue", "PENDING")])
def test_a_node_set_down_ends_or_requeues_its_job(idle: PrivateSlurm, option: str, state: str) -> None:
    job = submit_and_wait_for_its_tasks(idle, option)
    idle.set_node("n2", "DOWN")
    try:
        idle.wait_state(job, state)
    finally:
        idle.run("scancel", job)
        idle.set_node("n2", "RESUME")


@pytest.mark.matrix
def test_a_node_that_dies_is_noticed_and_comes_back(idle: PrivateSlurm) -> None:
    job = submit_and_wait_for_its_tasks(idle, "--no-requeue")
    idle.kill_node("n2")
    try:
        idle.wait_state(job, "NODE_FAIL", timeout=90)
    finally:
        idle.start_node("n2")
    idle.wait_idle()


def test_a_higher_partition_preempts_and_requeues(idle: PrivateSlurm) -> None:
    low = submit_and_wait_for_its_tasks(idle, "--gres=gpu:4")
    high = idle.submit("#SBATCH -p prio -N2 --gres=gpu:4 -o /dev/null\nsleep 2")
    idle.wait_state(high, "COMPLETED")
    idle.wait_state(low, "RUNNING")
    assert "Restarts=1" in idle.run("scontrol", "show", "job", low).stdout


def test_a_controller_restart_keeps_the_job(idle: PrivateSlurm) -> None:
    job = idle.submit(SLEEP_ON_BOTH)
    idle.wait_state(job, "RUNNING")
    idle.restart_slurmctld()
    assert idle.state(job) == "RUNNING"


def test_two_at_once_do_not_meet_and_stopping_leaves_no_process(slurm: PrivateSlurm, tmp_path: Path) -> None:
    with PrivateSlurm(tmp_path / "other", accounting=False) as other:
        submit_and_wait_for_its_tasks(other)
        assert other.cluster in other.run("scontrol", "show", "config").stdout
        assert other.cluster not in slurm.run("scontrol", "show", "config").stdout
        assert processes_of(other.root)
    assert processes_of(other.root) == []
    assert "n1" not in Path("/etc/hosts").read_text().split()


def test_a_root_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrivateSlurmError, match="too long for Unix sockets"):
        PrivateSlurm(tmp_path / ("x" * 80), accounting=False)


def test_a_missing_slurm_skips_or_fails_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.delenv("ALIGNLAUNCH_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no private Slurm here"):
        slurm_ready(accounting=False)
    monkeypatch.setenv("ALIGNLAUNCH_REQUIRE", "kind,slurm")
    with pytest.raises(pytest.fail.Exception, match="ALIGNLAUNCH_REQUIRE holds slurm"):
        slurm_ready(accounting=False)
