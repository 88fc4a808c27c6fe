"""Preflight over two nodes of a real Slurm: alone, and told of a network that does not exist."""

from __future__ import annotations

import sys

import pytest
import yaml

from tests.support.matrix import matrix
from tests.support.tiny import TRAIN, make_model, write_data

from .cli import Login
from .cluster.private_slurm import PrivateSlurm


@pytest.fixture(scope="module")
def login(slurm_acct: PrivateSlurm, tmp_path_factory: pytest.TempPathFactory) -> Login:
    login = Login(slurm_acct, tmp_path_factory.mktemp("preflight"))
    make_model(login.folder / "model")
    write_data(login.folder)
    login.write_job("job", stage="sft", data={"train": ["sft.jsonl"]}, output_dir="output", lora=None, train=TRAIN)
    return login


@pytest.mark.parametrize("launcher", ["torchrun", matrix("direct")])
def test_preflight_only_trains_nothing(login: Login, launcher: str) -> None:
    change = ["--set", f"launcher={launcher}", "--set", "nproc_per_node=2", "--write"]
    login.call("slurm", "job.yaml", "--cluster", "private", "--preflight-only", "--wait", *change)
    log = login.call("logs", "job").stdout
    assert "preflight: passed: 2 nodes x 2 at " in log
    assert "all-reduce: " in log
    assert "nothing was trained" in log
    assert not (login.folder / "output/metrics.jsonl").exists()


def test_a_network_that_is_not_there_ends_the_job_with_words(login: Login) -> None:
    """The profile's suffix names hosts that nobody can resolve."""
    profile = login.folder / "config/alignlaunch/clusters/private.yaml"
    profile.with_name("lost.yaml").write_text(profile.read_text() + "node_name_suffix: -ib\n")
    change = ["--set", "preflight_timeout=10", "--write"]
    login.call("slurm", "job.yaml", "--cluster", "lost", "--wait", *change, code=2)
    log = login.call("logs", "job").stdout
    assert "-ib:" in log
    assert "the name does not resolve" in log
    assert "remedy: name node 0 as every node can resolve it" in log
    status = login.status("job")
    assert (status["state"], status["exit_code"]) == ("FAILED", 2)


def test_node_0_tells_all_before_srun_ends_it(login: Login) -> None:
    """The second node leaves at once, and --kill-on-bad-exit would take the first one with it."""
    python = login.folder / "python-of-each-node"
    python.write_text(
        f'#!/bin/bash\n[[ $SLURMD_NODENAME != n2 ]] || export GLOO_SOCKET_IFNAME=ib7\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    profile = login.folder / "config/alignlaunch/clusters/unlike.yaml"
    profile.write_text(yaml.safe_dump({"device": "cpu", "python": str(python)}))
    login.call("slurm", "job.yaml", "--cluster", "unlike", "--wait", "--write", code=2)
    log = login.call("logs", "job").stdout
    assert "is ib7, but this node has" in log
    assert "remedy: name one that every node has" in log
    assert "preflight: failed: 2 nodes x 1" in log
    assert "verdict   preflight: before the launcher was started: node 1" in login.call("diagnose", "job").stdout
