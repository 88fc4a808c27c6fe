"""Two processes train exactly what one process trains at the same effective batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.support import tolerance
from tests.support.matrix import matrix
from tests.support.ports import free_port
from tests.train.conftest import ROOT, Finished, Runner, write_job

EVALUATION = {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 2}
RATED = {"train": ["rated.jsonl"], "validation": ["rated_eval.jsonl"], "cache_dir": "cache"}
PAIRS = {"train": ["pairs.jsonl"], "validation": ["pairs_eval.jsonl"], "cache_dir": "cache"}


#: What each stage trains on and logs beside loss and gradient norm.
STAGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "pt": ({"train": {"max_length": 32}}, ()),
    "sft": ({}, ("num_tokens",)),
    "rm": (
        {"train": EVALUATION, "data": RATED},
        ("num_tokens", "margin", "eval_loss", "eval_sign_accuracy", "eval_margin"),
    ),
    "dpo": ({"train": {"precompute_ref_log_probs": False}}, ("num_tokens", "rewards/margins")),
    "orpo": (
        {"train": EVALUATION, "data": PAIRS},
        ("nll_loss", "rewards/margins", "eval_loss", "eval_rewards/margins"),
    ),
}


@pytest.fixture(scope="session")
def alone(run_job: Runner) -> Callable[[str], Finished]:
    """One process; two accumulated micro-batches for the two processes."""

    @cache
    def run(stage: str) -> Finished:
        changes = dict(STAGES[stage][0])
        train = changes.pop("train", {}) | {"gradient_accumulation_steps": 2}
        return run_job(f"alone-{stage}", stage=stage, train=train, **changes)

    return run


def assert_same(found: Finished, expected: Finished, *names: str) -> None:
    assert found.code == 0, found.stdout + found.stderr
    assert expected.code == 0, expected.stdout + expected.stderr
    for name in ("loss", "grad_norm", *names):
        assert len(expected.logged(name)) >= 2
        within = tolerance.of(name)
        assert found.logged(name) == pytest.approx(expected.logged(name), abs=within, rel=within), name


#: What `make test` runs: each stage once, and both ends of ZeRO.
QUICK = {("pt", None), ("sft", "zero3.json"), ("rm", None), ("dpo", None), ("orpo", None)}
ROWS = [(stage, zero) for stage in STAGES for zero in (None, "zero1.json", "zero2.json", "zero3.json")]


@pytest.mark.parametrize(("stage", "zero"), [row if row in QUICK else matrix(*row) for row in ROWS])
def test_two_processes_equal_one(
    stage: str, zero: str | None, run_job: Runner, alone: Callable[[str], Finished]
) -> None:
    changes, names = STAGES[stage]
    found = run_job(f"two-{stage}-{zero}", nproc=2, zero=zero, stage=stage, **changes)
    assert "process 0 of 2 (torchrun)" in found.stdout
    assert "find_unused_parameters" not in found.stderr, "DDP warns that it looked in vain"
    assert_same(found, alone(stage), *names)
    if stage in ("pt", "sft", "orpo"):
        assert found.logged("loss")[0] - found.logged("loss")[-1] > 0.1
    saved, expected = (load_file(run.output_dir / "model.safetensors") for run in (found, alone(stage)))
    assert saved.keys() == expected.keys()
    # In the mean: Adam divides by the gradient's size, so where it is nearly 0 the order of a sum decides.
    assert max(float((weight - saved[name]).abs().mean()) for name, weight in expected.items()) < 1e-5


@pytest.mark.parametrize("lora", [None, matrix({"r": 4, "alpha": 8, "dropout": 0.0})])
@pytest.mark.parametrize("zero", [matrix(None), matrix("zero2.json"), "zero3.json"])
def test_a_reference_computed_before_training_by_two_processes(
    zero: str | None, lora: dict[str, Any] | None, run_job: Runner
) -> None:
    name = f"reference-{zero}-{bool(lora)}"
    changes = {"stage": "dpo", "lora": lora, "data": {"train": ["pairs.jsonl"], "cache_dir": f"cache-{name}"}}
    live = {"gradient_accumulation_steps": 2, "precompute_ref_log_probs": False}
    expected = run_job(f"alone-{name}", train=live, **changes)
    found = run_job(f"two-{name}", nproc=2, zero=zero, train={"precompute_ref_log_probs": True}, **changes)
    assert "scoring logps" in found.stdout
    assert_same(found, expected, "rewards/margins")


@pytest.mark.parametrize("stage", ["sft", matrix("rm"), matrix("dpo"), matrix("orpo")])
def test_an_adapter_under_zero_3_equals_one_process(stage: str, run_job: Runner) -> None:
    """With checkpointing, whose recomputation needs the frozen weights gathered again (transformers#47254)."""
    lora = {"r": 4, "alpha": 8, "dropout": 0.0}
    changes = {"stage": stage, "lora": lora} | {k: v for k, v in STAGES[stage][0].items() if k != "train"}
    alone = run_job(f"alone-lora-{stage}", train={"gradient_accumulation_steps": 2}, **changes)
    checkpointed = {"gradient_checkpointing": True}
    found = run_job(f"two-lora-{stage}", nproc=2, zero="zero3.json", train=checkpointed, **changes)
    assert_same(found, alone)
    saved, expected = (load_file(run.output_dir / "adapter_model.safetensors") for run in (found, alone))
    assert saved.keys() == expected.keys()
    assert all(weight.allclose(saved[name], atol=1e-5) for name, weight in expected.items())


def test_orpo_with_unequal_micro_batches(run_job: Runner, alone: Callable[[str], Finished]) -> None:
    """Micro-batches of one pair, so that answers of different lengths meet across processes and micro-batches."""
    split = EVALUATION | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
    found = run_job("two-orpo-split", nproc=2, stage="orpo", train=split, data=PAIRS)
    assert_same(found, alone("orpo"), *STAGES["orpo"][1])


def test_sft_with_one_srun_task_a_process(workplace: Path, alone: Callable[[str], Finished]) -> None:
    """DDP, started as `srun` starts it: no torchrun, Slurm's variables."""
    job = write_job(workplace, "srun-sft", stage="sft")
    port = str(free_port())
    tasks = []
    for rank in range(2):
        env = os.environ | {
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1",
            "SLURM_STEP_ID": "0",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank),
            "SLURM_NODEID": "0",
            "SLURM_STEP_TASKS_PER_NODE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        command = [sys.executable, "-m", "alignlaunch.train", str(job)]
        pipe = subprocess.PIPE
        tasks.append(subprocess.Popen(command, cwd=workplace, env=env, stdout=pipe, stderr=pipe, text=True))
    out = [task.communicate(timeout=300) for task in tasks]
    codes = [task.returncode for task in tasks]
    found = Finished(max(codes), "".join(o for o, _ in out), "".join(e for _, e in out), workplace / "out" / "srun-sft")
    assert_same(found, alone("sft"))
    assert "process 0 of 2 (slurm)" in out[0][0]
    assert "step 1/4" not in out[1][0], "rank 1 logs too"
    provenance = json.loads((found.output_dir / "provenance.json").read_text())
    assert (provenance["world_size"], provenance["dialect"]) == (2, "slurm")
