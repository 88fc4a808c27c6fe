"""Real training over two nodes of a real Slurm: the same losses as in one process, with every launcher and ZeRO stage.

`slurm_acct`, because both of its nodes have one host name: there only an explicit rendezvous works.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.matrix import matrix
from tests.support.tiny import TRAIN, make_model, write_data

from .cli import Login
from .cluster.private_slurm import PrivateSlurm

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def login(slurm_acct: PrivateSlurm, tmp_path_factory: pytest.TempPathFactory) -> Login:
    login = Login(slurm_acct, tmp_path_factory.mktemp("train"))
    make_model(login.folder / "model")
    write_data(login.folder)
    return login


def losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def tiny_job(login: Login, name: str, stage: str, **keys: Any) -> None:
    data = {"train": ["sft.jsonl" if stage == "sft" else "pairs.jsonl"]}
    login.write_job(name, stage=stage, data=data, lora=None, output_dir=f"output/{name}", train=TRAIN, **keys)


@pytest.fixture(scope="module")
def alone(login: Login) -> dict[str, list[float]]:
    """Losses of one process, no launcher, no ZeRO, at the same effective batch size."""
    found = {}
    for stage in ("sft", "orpo"):
        tiny_job(login, f"alone-{stage}", stage, nnodes=1)
        login.call("local", f"alone-{stage}.yaml", "--set", "train.gradient_accumulation_steps=4")
        found[stage] = losses(login.folder / f"output/alone-{stage}")
        assert len(found[stage]) == 3
    return found


@pytest.mark.parametrize(
    ("stage", "zero", "launcher"),
    [
        matrix("sft", 0, "torchrun"),
        matrix("sft", 1, "torchrun"),
        matrix("sft", 2, "torchrun"),
        ("sft", 3, "torchrun"),
        matrix("sft", 2, "deepspeed"),
        matrix("sft", 0, "direct"),
        matrix("orpo", 0, "torchrun"),
        ("orpo", 3, "direct"),
    ],
)
def test_two_nodes_train_as_one_process(
    login: Login, alone: dict[str, list[float]], stage: str, zero: int, launcher: str
) -> None:
    name = f"{stage}-{zero}-{launcher}"
    tiny_job(login, name, stage, zero=zero, launcher=launcher)
    done = login.call("slurm", f"{name}.yaml", "--cluster", "private", "--wait", code=None)
    assert done.returncode == 0, login.call("logs", name).stdout
    output = login.folder / f"output/{name}"
    assert losses(output) == pytest.approx(alone[stage], abs=1e-4)
    provenance = json.loads((output / "provenance.json").read_text())
    assert provenance["run"]["artifacts"]["job.sbatch"]
    assert f"process 0 of 2 ({'slurm' if launcher == 'direct' else launcher})" in login.call("logs", name).stdout


def test_a_bad_data_file_ends_the_job_with_one_clear_message(login: Login) -> None:
    (login.folder / "broken.jsonl").write_text('{"messages": [}\n')
    login.write_job("broken", data={"train": ["broken.jsonl"]}, launcher="direct", train=TRAIN, lora=None)
    login.call("slurm", "broken.yaml", "--cluster", "private", "--no-data-check", "--wait", code=2)
    log = login.call("logs", "broken").stdout
    assert "broken.jsonl:1" in log
    assert "Traceback" not in log


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["sft-zero2", "orpo-zero3"])
def test_the_examples_train_a_real_model(login: Login, name: str) -> None:
    """The job files of examples/, unchanged: over two nodes with ZeRO, and in one process."""
    if not (EXAMPLES / "models/SmolLM2-135M-Instruct/config.json").is_file():
        pytest.fail("no real model: run `make test`, or python examples/prepare_model.py")
    folder = login.folder / "examples"
    if not folder.exists():
        shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("models", "output", "runs", "launch"))
        (folder / "models").symlink_to(EXAMPLES / "models")
    # No dropout: its random numbers differ between one process and two.
    changes = ["train.max_steps=3", "train.eval_strategy=no", "lora.dropout=0"]
    shorter = [word for change in changes for word in ("--set", change)]
    job = f"examples/{name}.yaml"
    done = login.call("slurm", job, "--cluster", "private", "--follow", *shorter, code=None)
    assert done.returncode == 0, done.stdout
    two = losses(folder / f"output/{name}")
    assert (folder / f"output/{name}/adapter_model.safetensors").is_file()
    one_process = ["nnodes=1", "zero=0", "train.gradient_accumulation_steps=4", "output_dir=output/alone"]
    login.call("local", job, *shorter, *(word for change in one_process for word in ("--set", change)))
    assert two == pytest.approx(losses(folder / "output/alone"), abs=1e-4)
    assert len(two) == 3
