"""Preflight over two nodes of a real Slurm: alone, and told of a network that does not exist."""

from __future__ import annotations

import pytest

from tests.tiny import TRAIN, make_model, write_data

from .cli import Login
from .private_slurm import PrivateSlurm


@pytest.fixture(scope="module")
def login(slurm_acct: PrivateSlurm, tmp_path_factory: pytest.TempPathFactory) -> Login:
    login = Login(slurm_acct, tmp_path_factory.mktemp("preflight"))
    make_model(login.folder / "model")
    write_data(login.folder)
    login.write_job("job", stage="sft", data={"train": ["sft.jsonl"]}, output_dir="output", lora=None, train=TRAIN)
    return login


@pytest.mark.parametrize("launcher", ["torchrun", "direct"])
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
