"""Pipelines on a real Slurm: the order is kept, outputs feed inputs, and a failure ends what waited for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.matrix import matrix
from tests.support.tiny import TRAIN, make_model, write_data
from tests.support.waiting import until

from .cli import Login, stub_login
from .cluster.private_slurm import PrivateSlurm

# `launcher: direct` calls it as python; what it does is told by the job's environment.
STUB = """#!/bin/bash
touch "$RUN_DIR/started"
case "$ACT" in sleep) sleep 300 ;; *) exit "$ACT" ;; esac
"""


def write_pipeline(login: Login, name: str, jobs: dict[str, Any]) -> None:
    (login.folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "jobs": jobs}, sort_keys=False))


def shown(login: Login, job_id: str, key: str) -> str:
    """One value of `scontrol show job`."""
    match = re.search(rf"\b{key}=(\S+)", login.slurm.run("scontrol", "show", "job", job_id).stdout)
    assert match
    return match[1]


def states(login: Login, run: str) -> list[tuple[str, str, int | None]]:
    runs = json.loads(login.call("status", run, "--json").stdout)
    return [(run["name"], run["state"], run["exit_code"]) for run in runs]


@pytest.mark.matrix
def test_from_the_first_document_to_the_last(slurm: PrivateSlurm, tmp_path: Path) -> None:
    """Over two nodes: SFT, from it a helpful and a harmless reward model, then safe DPO with all three.

    The policy is trained so gently that its weights stay those of the SFT to four digits, but not to the last.
    """
    from safetensors.torch import load_file

    login = Login(slurm, tmp_path)
    make_model(tmp_path / "model")
    write_data(tmp_path)
    base = {"lora": None, "train": TRAIN}
    login.write_job("chat", **base)
    login.write_job("reward", stage="rm", data={"train": ["pairs.jsonl"]}, **base)
    login.write_job("policy", stage="safe_dpo", data={"train": ["safe.jsonl"]}, **base)
    judged = {f"{name}_reward_model": f"${{{name}.output}}" for name in ("helpful", "harmless")}
    write_pipeline(
        login,
        "chain",
        {
            "sft": {"job": "chat.yaml"},
            "helpful": {"job": "reward.yaml", "name": "helpful", "model": "${sft.output}"},
            "harmless": {"job": "reward.yaml", "name": "harmless", "model": "${sft.output}", "train": {"seed": 7}},
            "policy": {
                "job": "policy.yaml",
                "model": "${sft.output}",
                "train": judged | {"learning_rate": 1e-6, "objective": "lagrangian"},
            },
        },
    )
    sft, helpful, harmless, policy = (handle.rpartition("/")[2] for handle in login.submit("chain").split())
    assert shown(login, helpful, "Dependency") == f"afterok:{sft}(unfulfilled)"
    assert sorted(re.findall(r"afterok:(\d+)", shown(login, policy, "Dependency"))) == [sft, helpful, harmless]
    waiting = json.loads(login.call("status", "chain", "--json").stdout)[1:]
    assert [(run["state"], run["reason"]) for run in waiting] == [("PENDING", "Dependency")] * 3
    assert "(Dependency)" in login.call("status", "chain").stdout

    done = login.call("wait", "chain", code=None)
    assert done.returncode == 0, done.stderr + login.call("logs", "chain").stdout
    names = ("chat", "helpful", "harmless", "policy")
    assert states(login, "chain") == [(name, "COMPLETED", 0) for name in names]
    times = [shown(login, job_id, key) for job_id in (sft, helpful, policy) for key in ("StartTime", "EndTime")]
    assert times == sorted(times)
    output = tmp_path / "output"
    start, chat, trained = (
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
        for folder in (tmp_path / "model", output / "chat", output / "policy")
    )
    assert not chat.allclose(start, atol=1e-4)
    assert trained.allclose(chat, atol=1e-4)
    assert not trained.equal(chat)
    heads = [load_file(output / name / "model.safetensors")["score.weight"] for name in ("helpful", "harmless")]
    assert not heads[0].equal(heads[1])
    log = login.call("logs", "policy").stdout
    assert all(f"scoring {name}: shard 1 of 1" in log for name in ("reference", "helpful", "harmless"))
    steps = [json.loads(line) for line in (output / "policy" / "metrics.jsonl").read_text().splitlines()]
    assert all(step["lambda"] > 0 for step in steps if "loss" in step)
    assert "4 clean" in login.call("check").stderr


@pytest.fixture(params=["accounting", matrix("no accounting")])
def login(request: pytest.FixtureRequest, programs: Path | None, tmp_path: Path) -> Login:
    """With the stand-in as python. The accounting's slurmctld forgets jobs in seconds."""
    slurm = request.getfixturevalue("slurm_acct" if request.param == "accounting" else "slurm")
    return stub_login(slurm, tmp_path, STUB)


def step(model: str, act: str, **keys: Any) -> dict[str, Any]:
    job = {"stage": "sft", "model": model, "data": {"train": ["d/d"]}, "nproc_per_node": 1, "zero": 0}
    return {**job, "launcher": "direct", "env": {"ACT": act}, **keys}


def test_a_failure_ends_what_waited_for_it_and_nothing_else(login: Login) -> None:
    jobs = {
        "a": step("base", "0"),
        "b": step("${a.output}", "7"),
        "c": step("${b.output}", "0"),
        "d": step("${c.output}", "0"),
        "e": step("${a.output}", "0"),
    }
    write_pipeline(login, "fails", jobs)
    done = login.call("slurm", "fails.yaml", "--cluster", "private", "--wait", code=7)
    ended = {
        "fails-a": ("COMPLETED", 0),
        "fails-b": ("FAILED", 7),
        "fails-e": ("COMPLETED", 0),
        "fails-c": ("CANCELLED", None),
        "fails-d": ("CANCELLED", None),
    }
    assert {name: (state, code) for name, state, code in states(login, "fails")} == ended
    assert done.stderr.count("CANCELLED (DependencyNeverSatisfied)") == 2
    login.call("wait", "fails", code=7)
    # The same without the record, once slurmctld has forgotten the jobs where it is quick to.
    handles = done.stdout.split()
    if login.slurm.accounting:
        until(lambda: login.slurm.run("squeue", "-h", "--states=all", check=False).stdout == "")
    (login.folder / "state/alignlaunch/runs.sqlite").unlink()
    told = [login.status(handle) for handle in handles]
    assert [(run["state"], run["exit_code"]) for run in told] == list(ended.values())
    # sacct of 22.05 keeps the reason from before the end, and that of 24.11 and later none.
    words = ("Dependency", "") if login.slurm.accounting else ("DependencyNeverSatisfied",)
    assert all(run["reason"] in words for run in told[3:])


def test_all_steps_are_cancelled_at_once(login: Login) -> None:
    write_pipeline(login, "sleeps", {"a": step("base", "sleep"), "b": step("${a.output}", "0")})
    login.submit("sleeps")
    until(lambda: bool(list(login.folder.glob("runs/sleeps-a-*/started"))))
    login.call("cancel", "sleeps")
    assert login.call("wait", "last", code=143).stderr.count("CANCELLED") == 2


def test_a_refused_step_takes_the_others_back(slurm_acct: PrivateSlurm, tmp_path: Path) -> None:
    login = Login(slurm_acct, tmp_path)
    jobs = {"a": step("base", "sleep"), "b": step("${a.output}", "0", slurm={"account": "nobody"})}
    write_pipeline(login, "refused", jobs)
    done = login.call("slurm", "refused.yaml", "--cluster", "private", code=3)
    assert done.stdout == ""
    assert "b could not be submitted" in done.stderr
    assert "Invalid account" in done.stderr
    (handle,) = re.findall(r"cancelled (slurm://\S+) refused-a", done.stderr)
    login.call("wait", handle, code=None)
    assert [(name, state) for name, state, _ in states(login, "refused")] == [("refused-a", "CANCELLED")]
