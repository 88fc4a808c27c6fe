"""A run that is asked to stop saves and stops, goes on later as if nothing had been, and never looks finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from alignlaunch.train import finish
from alignlaunch.train.processes import requests
from alignlaunch.train.processes.requests import Request
from tests.support.matrix import matrix

from .conftest import Finished, Runner, environment, launcher, write_job

RUN = "/runs/a-run"
LORA = {"r": 4, "alpha": 8, "dropout": 0.1}
#: The records of the log, the evaluations and the regular checkpoints all fall on other steps.
TRAIN = {
    "max_steps": 14,
    "logging_steps": 3,
    "save_strategy": "steps",
    "save_steps": 5,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "lr_scheduler_type": "linear",
    "dataloader_num_workers": 1,
}
EVALUATED = {"train": ["sft.jsonl"], "validation": ["sft.jsonl"], "cache_dir": "cache"}
#: The last batch of an epoch is filled up, so that each process has one.
UNEVEN = {"max_train_samples": 13}
LONG_EVALUATION = EVALUATED | {"validation": ["sft.jsonl"] * 60}


def weights(folder: Path) -> list[Path]:
    return [*folder.glob("*.safetensors"), *folder.glob("provenance.json")]


def checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))


@contextmanager
def started(
    workplace: Path, name: str, *, nproc: int = 1, env: dict[str, str] | None = None, **changes: Any
) -> Iterator[subprocess.Popen[str]]:
    """The entrypoint, alone or under torchrun, in a session of its own; its stdout is read line by line."""
    job = write_job(workplace, name, **changes)
    process = subprocess.Popen(
        [sys.executable, *launcher(nproc), "-m", "alignlaunch.train", str(job)],
        cwd=workplace,
        env=environment({"ALIGNLAUNCH_RUN_DIR": RUN, **(env or {})}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read the output up to a line with this text."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"no line with {text!r}:\n{seen}")


def rest(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read()


def ask(output: Path, request: Request = Request.STOP, run_id: str = RUN) -> None:
    requests.write(output, request, run_id)


def values(folder: Path) -> dict[str, str]:
    """All that metrics.jsonl says of the training, by step and name."""
    return Finished(0, "", "", folder).values()


def test_a_loss_that_is_not_finite_ends_the_run(run_job: Runner) -> None:
    train = {"learning_rate": 1e30, "max_grad_norm": 0, "save_strategy": "steps", "save_steps": 1}
    found = run_job("not-finite", train=train)
    assert found.code == finish.BAD_INPUT
    assert "alignlaunch.train: error: step 2: the loss is nan (rank 0 on " in found.stderr
    assert "Traceback" not in found.stderr
    assert [path.name for path in found.output_dir.glob("checkpoint-*")] == ["checkpoint-1"]
    assert weights(found.output_dir) == []


@pytest.mark.parametrize(("nproc", "stage"), [matrix(1, "sft"), (2, "sft"), (1, "orpo"), matrix(2, "orpo")])
def test_however_often_it_stops_the_records_are_those_of_an_undisturbed_run(
    nproc: int, stage: str, workplace: Path, run_job: Runner
) -> None:
    """Between records, at an evaluation, before its first epoch ends and later; with dropout."""
    changes: dict[str, Any] = {"nproc": nproc, "stage": stage, "lora": LORA, "train": TRAIN, "data": EVALUATED | UNEVEN}
    if stage == "orpo":
        changes["data"] |= {"train": ["pairs.jsonl"], "validation": ["pairs_eval.jsonl"]}
    name = f"disturbed-{nproc}-{stage}"
    whole = run_job(f"un{name}", **changes)
    assert whole.code == 0, whole.stderr
    output, stops = workplace / "out" / name, 0
    while True:
        with started(workplace, name, **changes) as run:
            begin = read_until(run, "resuming from" if stops else "starting afresh")
            read_until(run, "step ")  # the first record after the start
            if nproc == 1 or stops < 2:
                ask(output)
            said = rest(run)
        if run.returncode == 0:
            break
        assert run.returncode == finish.STOPPED_EARLY, begin + said
        assert weights(output) == []
        assert not (output / requests.REQUEST).exists()
        step, _, checkpoint = (output / requests.STOPPED).read_text().strip().partition(" ")
        assert (workplace / checkpoint / "manifest.json").is_file()
        assert int(step) == checkpoints(output)[-1]
        assert "Error" not in said
        stops += 1
    assert stops >= 2
    assert values(output) == values(whole.output_dir)
    assert not (output / requests.STOPPED).exists()


def test_an_evaluation_is_left_and_done_again(workplace: Path, run_job: Runner) -> None:
    """Also where only the best is saved: what was left is not the best, and saved all the same."""
    train = TRAIN | {"save_strategy": "best", "metric_for_best_model": "loss", "max_steps": 4, "eval_steps": 2}
    train |= {"per_device_eval_batch_size": 1, "logging_steps": 1, "load_best_model_at_end": True}
    whole = run_job("evaluated", lora=LORA, train=train, data=LONG_EVALUATION)
    assert whole.code == 0, whole.stderr
    output = workplace / "out" / "left"
    with started(workplace, "left", lora=LORA, train=train, data=LONG_EVALUATION) as run:
        read_until(run, "step 2/4 | loss")
        ask(output)
        said = rest(run)
    assert run.returncode == finish.STOPPED_EARLY, said
    assert "stopped at step 2 of 4" in said
    assert "eval_loss" not in said
    with started(workplace, "left", lora=LORA, train=train, data=LONG_EVALUATION) as run:
        said = rest(run)
    assert run.returncode == 0, said
    assert values(output) == values(whole.output_dir)


def test_term_to_every_process_saves_and_stops(workplace: Path) -> None:
    """As scancel sends it: to the launcher, its processes and the workers of their data loaders."""
    train = TRAIN | {"max_steps": 100_000}
    with started(workplace, "terminated", nproc=2, train=train, data=EVALUATED) as run:
        read_until(run, "step 6/")
        os.killpg(run.pid, signal.SIGTERM)
        said = rest(run)
    assert run.returncode == finish.STOPPED_EARLY, said
    assert "asked to stop: saving a checkpoint" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("nproc", [1, matrix(2)])
def test_term_to_the_launcher_alone(nproc: int, workplace: Path) -> None:
    """As the kubelet sends it: to the first process of the container."""
    train = TRAIN | {"max_steps": 100_000, "save_strategy": "no", "eval_strategy": "no"}
    name = f"launcher-terminated-{nproc}"
    with started(workplace, name, nproc=nproc, train=train, env={"ALIGNLAUNCH_RUN_ID": "r-1"}) as run:
        read_until(run, "step 3/")
        run.terminate()
        said = rest(run)
    # In a pod torchrun's own code asks for a restart; one process alone has no launcher to do that.
    assert run.returncode == (128 + signal.SIGTERM if nproc > 1 else finish.STOPPED_EARLY), said
    assert len(checkpoints(workplace / "out" / name)) == 1


def test_a_request_to_save_does_not_stop_it(workplace: Path) -> None:
    train = TRAIN | {"max_steps": 30, "save_steps": 1000, "eval_strategy": "no"}
    output = workplace / "out" / "saved"
    with started(workplace, "saved", train=train) as run:
        read_until(run, "step 3/")
        ask(output, Request.SAVE)
        said = rest(run)
    assert run.returncode == 0, said
    saved = checkpoints(output)
    assert len(saved) == 2
    assert 3 < saved[0] < 30
    assert saved[1] == 30
    assert not (output / requests.REQUEST).exists()


def test_another_runs_request_is_none(workplace: Path) -> None:
    train = TRAIN | {"eval_strategy": "no"}
    output = workplace / "out" / "not-asked"
    with started(workplace, "not-asked", train=train) as run:
        read_until(run, "step 3/")
        ask(output, run_id="/runs/another")
        said = rest(run)
    assert run.returncode == 0, said


@pytest.mark.parametrize("by", ["file", "TERM"])
def test_before_the_first_step_nothing_is_saved(by: str, workplace: Path) -> None:
    output = workplace / "out" / f"early-{by}"
    with started(workplace, f"early-{by}", nproc=2, train=TRAIN, env={"SLURM_STEP_ID": "0"}) as run:
        read_until(run, "stage sft, process 0 of 2")
        if by == "file":
            output.mkdir(parents=True, exist_ok=True)
            ask(output)
        else:
            run.terminate()
        said = rest(run)
    assert run.returncode not in (0, finish.STOPPED_EARLY), said
    assert "asked to stop before the first step: nothing is saved" in said
    assert checkpoints(output) == []
    assert not (output / requests.STOPPED).exists()


def test_an_attempt_that_gets_no_further_is_not_worth_another(workplace: Path) -> None:
    """Stopped twice in the last evaluation, which takes all the time there is."""
    train = TRAIN | {"max_steps": 2, "logging_steps": 2, "per_device_eval_batch_size": 1}
    output = workplace / "out" / "no-further"
    for begin, code, message in (
        ("step 2/2 | loss", finish.STOPPED_EARLY, "stopped at step 2 of 2"),
        ("data.validation:", finish.FAILED, "this attempt has not got further than the one before"),
    ):
        with started(workplace, "no-further", train=train, data=LONG_EVALUATION) as run:
            seen = read_until(run, begin)
            while "resuming" in seen and '"resumed"' not in (output / "metrics.jsonl").read_text():
                time.sleep(0.1)
            ask(output)
            said = rest(run)
        assert "step 3" not in said
        assert (run.returncode, message in said) == (code, True), said


def test_a_dead_process_ends_the_others_at_once(workplace: Path) -> None:
    """torchrun ends them with the same signal as a cluster that asks them to save, but there is nothing to save."""
    with started(workplace, "bereaved", nproc=2, train=TRAIN | {"max_steps": 100_000}) as run:
        read_until(run, "step 3/")
        ranks = [child for child in psutil.Process(run.pid).children() if "alignlaunch.train" in child.cmdline()]
        assert len(ranks) == 2
        begin = time.monotonic()
        ranks[1].kill()
        said = rest(run)
    assert run.returncode not in (0, finish.STOPPED_EARLY), said
    assert time.monotonic() - begin < 20, "torchrun waits 30 s for those that do not end"
