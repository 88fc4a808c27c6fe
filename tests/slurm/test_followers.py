"""On a real Slurm that does not requeue a run's job, the run goes on as another job, and is one run to its user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.every_json import hold
from tests.support.tiny import TRAIN

from .cli import Login
from .interrupted import STEPS, losses, same_as, until_step, write_job


@pytest.fixture(scope="module")
def login(trainer: Login) -> Login:
    return trainer


def job_of(login: Login, handle: str) -> str:
    """The id of the job that is the run now."""
    return last_of(Path(login.status(handle)["run_dir"]), handle)


def last_of(run_dir: Path, handle: str) -> str:
    followers = run_dir / "followers"
    return followers.read_text().split()[-1] if followers.exists() else handle.rpartition("/")[2]


def near_time_limit(login: Login, handle: str, step: int, output: Path) -> str:
    """The run's job, which Slurm may not requeue, is told at this step that its time ends. Returns its id."""
    run_dir = Path(login.status(handle)["run_dir"])  # before, as it takes as long as many steps
    until_step(output, step)
    job = last_of(run_dir, handle)
    login.slurm.run("scontrol", "update", f"JobId={job}", "Requeue=0")
    login.slurm.run("scancel", "--batch", "--signal=USR2", job)
    return job


def test_a_job_that_may_not_be_requeued_is_followed_by_another(
    login: Login, undisturbed: list[tuple[int, float]]
) -> None:
    output = write_job(login, "followed")
    handle = login.submit("followed")
    first = handle.rpartition("/")[2]
    waiting = login.slurm.run(
        "sbatch", "--parsable", f"--dependency=afterok:{first}", "--kill-on-invalid-dep=yes", "--output=/dev/null",
        "--wrap=exit 7",
    ).stdout.strip()  # fmt: skip
    waiter = login.start("wait", handle)
    jobs = [near_time_limit(login, handle, step, output) for step in (7, 35)]
    _, said = waiter.communicate(timeout=300)
    log = login.call("logs", handle).stdout
    assert waiter.returncode == 0, said + log
    assert jobs[0] == first
    assert len({*jobs, job_of(login, handle)}) == 3
    assert log.count("Slurm does not requeue this job: job") == 2
    assert log.count("resuming from") == 2
    assert losses(output) == same_as(undisturbed)
    (status,) = json.loads(login.call("status", handle, "--json").stdout)
    assert status["state"] == "COMPLETED"
    assert [one["cause"] for one in status["attempts"]] == ["stopped", "stopped", "completed"]
    # What waited for the first job's success has waited for the last one's.
    login.slurm.wait_state(waiting, "FAILED")


def test_a_follower_is_cancelled_as_the_run(login: Login) -> None:
    output = write_job(login, "follower")
    handle = login.submit("follower")
    first = near_time_limit(login, handle, 7, output)
    login.slurm.wait_state(first, "FAILED")
    login.call("cancel", handle)
    login.call("wait", handle, code=None)
    assert login.status(handle)["state"] == "CANCELLED"
    assert job_of(login, handle) != first


def test_followers_are_counted(login: Login) -> None:
    output = write_job(login, "counted", slurm={"max_requeues": 1})
    handle = login.submit("counted")
    for step in (7, 35):
        near_time_limit(login, handle, step, output)
    login.call("wait", handle, code=75)
    assert "requeued 1 times (slurm.max_requeues)" in login.call("logs", handle).stdout


def test_a_point_that_is_followed_is_waited_for(login: Login) -> None:
    """Also by a step that begins when all points have ended, failed or not. Of the sweep a save is of each point."""
    job = {"stage": "sft", "data": {"train": ["sft.jsonl"]}, "nproc_per_node": 1, "zero": 0, "time": "00:10:00"}
    train = TRAIN | {"max_steps": 20 * STEPS, "logging_steps": 7}  # `save` takes as long as some hundred of them
    sweep = {"points": [{"train.seed": seed} for seed in (1, 2)], "max_parallel": 2}
    jobs = {
        "swept": {**job, "model": "model", "lora": None, "train": train, "sweep": sweep},
        "best": {**job, "model": "${swept.best(loss).output}", "lora": None, "train": TRAIN},
    }
    (login.folder / "goes.yaml").write_text(yaml.safe_dump({"name": "goes", "jobs": jobs}, sort_keys=False))
    handles = login.call("slurm", "goes.yaml", "--cluster", "private").stdout.split()
    outputs = [Path(login.status(handle)["output_dir"]) for handle in handles]
    for output in outputs[:2]:
        until_step(output, 7)
    saved = json.loads(login.call("save", handles[0].rpartition("_")[0], "--json").stdout)
    hold("save", saved)
    assert [one["handle"] for one in saved] == handles[:2]
    assert [Path(one["checkpoint"]).parent for one in saved] == outputs[:2]
    near_time_limit(login, handles[0], 14, outputs[0])
    login.call("wait", "goes")
    point, other, best = json.loads(login.call("status", "goes", "--json").stdout)
    assert [one["cause"] for one in point["attempts"]] == ["stopped", "completed"]
    assert "goes on with the run" in login.call("logs", handles[0]).stdout
    assert best["attempts"][0]["start"] >= max(one["attempts"][-1]["end"] for one in (point, other))
