"""`alignlaunch plan --apply`: what fits best is written into the job file, and nothing else is changed in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from alignlaunch.launchers.job import jobfile
from tests.conftest import Cli

from .test_plan import HAND, write

#: A job in which everybody's lines stay.
FILE = """\
# Of the lab.
name: big
stage: sft
model: ./model
data: {train: [data.jsonl]}
nproc_per_node: 8
zero: 0   # no sharding
lora: null
train:
  # Two passes.
  per_device_train_batch_size: 1  # small
  gradient_accumulation_steps: 8
  max_length: 16384

  max_steps: 100
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = write(tmp_path)
    path.write_text(FILE)
    return path


def test_what_is_best_is_written_and_the_second_time_nothing(cli: Cli, job: Path) -> None:
    before = jobfile.load(job)
    said = json.loads(cli("plan", job, "--cluster", "lab", "--json").stdout)["best"]
    assert "best (--apply): ZeRO-1, micro-batch 4 x accumulation 2, " in cli("plan", job, "--cluster", "lab").stdout
    done = cli("plan", job, "--cluster", "lab", "--apply")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert job.read_text() == (
        FILE.replace("zero: 0 ", "zero: 1 ")
        .replace("train_batch_size: 1 ", "train_batch_size: 4 ")
        .replace("steps: 8", "steps: 2")
    )
    assert "\n-zero: 0   # no sharding\n+zero: 1   # no sharding\n" in done.stdout
    after = jobfile.load(job)
    assert after.effective_batch_size == before.effective_batch_size
    assert after.resolved() == jobfile.load(job, tuple(said)).resolved()
    again = cli("plan", job, "--cluster", "lab", "--apply")
    assert again.returncode == 0
    assert again.stdout.endswith(f"{job}: this is the best already; nothing was written\n")


def test_checkpointing_is_turned_on_where_nothing_fits_without(cli: Cli, job: Path) -> None:
    job.write_text(FILE.replace("max_steps: 100", "gradient_checkpointing: false").replace("16384", "131072"))
    assert cli("plan", job, "--cluster", "lab", "--apply").returncode == 0
    assert "gradient_checkpointing: true" in job.read_text()


def test_rights_and_links_stay_and_json_goes_alone_to_stdout(cli: Cli, job: Path) -> None:
    job.chmod(0o640)
    link = job.with_name("link.yaml")
    link.symlink_to(job.name)
    done = cli("plan", link, "--cluster", "lab", "--apply", "--json")
    assert "+zero: 1" in done.stderr
    assert json.loads(done.stdout)["best"][0] == "zero=1"
    assert (link.is_symlink(), job.stat().st_mode & 0o777, "zero: 1" in job.read_text()) == (True, 0o640, True)
    assert sorted(one.name for one in job.parent.glob("*job*")) == ["job.yaml"]


@pytest.mark.parametrize(
    ("text", "options", "why"),
    [
        (FILE, ("--set", "train.max_steps=1"), "--apply: with --set it is another job"),
        (FILE + "sweep: {over: {train.seed: [1, 2]}}\n", (), "--apply: these are several jobs"),
        (FILE + "sweep: {over: {train.seed: [1]}}\n", (), "--apply: job.yaml: a sweep"),
        (
            FILE.replace("\ntrain:", "\ntrain: &it"),
            ("--gpu-memory", "1"),
            "nothing fits on these GPUs with the job's tuning",
        ),
        (
            FILE.replace("zero: 0   # no sharding\n", "") + "  deepspeed: 0\n",
            (),
            "train.deepspeed: given as `zero` as well; nothing was written",
        ),
    ],
)
def test_refused_without_a_change(cli: Cli, job: Path, text: str, options: tuple[str, ...], why: str) -> None:
    job.write_text(text)
    done = cli("plan", job, "--cluster", "lab", "--apply", *options)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert job.read_text() == text


def test_without_the_memory_of_a_gpu_nothing_is_best(cli: Cli, job: Path) -> None:
    done = cli("plan", job, "--apply")
    assert (done.returncode, job.read_text()) == (2, FILE)
    assert (
        "--apply: nothing says how much memory a GPU has\n    remedy: --gpu-memory 80, or gpu_memory_gib" in done.stderr
    )
    assert cli("plan", job, "--apply", "--gpu-memory", "80").returncode == 0
    assert "zero: 1" in job.read_text()


def test_a_pipeline_is_refused(cli: Cli, job: Path) -> None:
    chain = job.with_name("chain.yaml")
    chain.write_text("name: chain\njobs:\n  a: {job: job.yaml}\n")
    done = cli("plan", chain, "--cluster", "lab", "--apply")
    assert (done.returncode, "chain.yaml: a pipeline file" in done.stderr) == (2, True)


def test_beside_an_effective_batch_size_the_strategy_alone(cli: Cli, job: Path) -> None:
    lines = [line for line in FILE.splitlines() if "per_device" not in line]
    text = "\n".join(lines).replace("gradient_accumulation_steps: 8", "effective_batch_size: 64")
    job.write_text(text.replace("zero: 0", "zero: 3"))
    assert cli("plan", job, "--cluster", "lab", "--apply").returncode == 0
    assert job.read_text() == text.replace("zero: 0", "zero: 1")
    assert jobfile.load(job, (), "lab").per_device_batch_size == 4
    elsewhere = cli("plan", job, "--apply", "--gpu-memory", "80")
    assert (elsewhere.returncode, job.read_text()) == (2, text.replace("zero: 0", "zero: 1"))
    assert "train.effective_batch_size decides when it is rendered" in elsewhere.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_what_cannot_be_written_is_said(cli: Cli, job: Path) -> None:
    job.parent.chmod(0o500)
    done = cli("plan", job, "--cluster", "lab", "--apply")
    job.parent.chmod(0o700)
    assert (done.returncode, job.read_text()) == (2, FILE)


def test_a_model_by_hand(cli: Cli, job: Path) -> None:
    job.write_text(FILE.replace("./model", "org/name"))
    assert cli("plan", job, "--cluster", "lab", "--apply", *HAND).returncode == 0
    assert "offload: " in job.read_text() or "zero: 3" in job.read_text()
