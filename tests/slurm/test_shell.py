"""`alignlaunch shell` on a real Slurm: a step of the run's job beside the training, on the node of a rank."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.waiting import until

from .cli import Login, stub_login
from .cluster.private_slurm import PrivateSlurm
from .conftest import on_two_versions

# `launcher: direct` calls it as python.
STUB = """#!/bin/bash
[[ "$*" != *alignlaunch.launchers.retry* ]] || exit 1 # the batch script asks: no further attempt
touch "$RUN_DIR/started.$SLURM_PROCID"
sleep 300
"""
WHERE = ("--", "bash", "-c", 'echo "$SLURMD_NODENAME in $PWD: $0 $1"', "it's", "a  b")


@pytest.fixture
def login(slurm: PrivateSlurm, tmp_path: Path) -> Login:
    return stub_login(slurm, tmp_path, STUB)


def start(login: Login, name: str, **keys: object) -> str:
    login.write_job(name, launcher="direct", preflight_timeout=0, **keys)
    handle = login.submit(name).split()[0]
    until(lambda: login.status(handle)["state"] == "RUNNING")
    return handle


@on_two_versions
def test_a_shell_on_the_node_of_a_rank(login: Login) -> None:
    handle = start(login, "shells", nproc_per_node=2)
    said = {
        option: login.call("shell", handle, *option.split(), *WHERE).stdout
        for option in ("", "--rank 1", "--rank 2", "--node 1")
    }
    expected = "{} in {}: it's a  b\n"
    first, second = expected.format("n1", login.folder), expected.format("n2", login.folder)
    assert said == {"": first, "--rank 1": first, "--rank 2": second, "--node 1": second}
    assert login.call("shell", "shells", "--", "false", code=1).stdout == ""
    assert login.status(handle)["state"] == "RUNNING", "the run goes on"
    assert "/dev/pts/" in login.in_terminal("shell", handle, "--node", "1", "--", "tty")
    too_high = login.call("shell", handle, "--rank", "4", code=2).stderr
    assert "--rank 4: the run has ranks 0 to 3" in too_high
    assert "--node 2: the run has nodes 0 to 1" in login.call("shell", handle, "--node", "2", code=2).stderr
    both = login.call("shell", handle, "--node", "1", "--rank", "1", code=2).stderr
    assert "--rank or --node" in both
    login.call("cancel", handle)
    login.call("wait", handle, code=143)
    assert f"{handle} shells: CANCELLED" in login.call("shell", handle, code=2).stderr


def test_a_point_of_a_sweep_and_a_run_that_waits(login: Login) -> None:
    sweep = {"points": [{"env.ACT": "a"}, {"env.ACT": "b"}, {"env.ACT": "c"}], "max_parallel": 2}
    first = start(login, "sweeps", nnodes=1, sweep=sweep)
    second, third = f"{first[:-2]}_1", f"{first[:-2]}_2"
    until(lambda: login.status(second)["state"] == "RUNNING")
    task = ("--", "printenv", "SLURM_JOB_ID")
    raw = [login.slurm.run("squeue", "-h", "-j", one.rpartition("/")[2], "-o", "%A").stdout for one in (first, second)]
    assert [login.call("shell", one, *task).stdout for one in (first, second)] == raw
    assert "sweeps+ACT-c: PENDING" in login.call("shell", third, code=2).stderr
    assert "2 runs of it are running" in (several := login.call("shell", "sweeps", code=2).stderr)
    assert f"{first} (sweeps+ACT-a)" in several
    login.call("cancel", "sweeps")
