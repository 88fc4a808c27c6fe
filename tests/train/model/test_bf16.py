"""Training in bf16, as GPUs do it: what is trained is held in fp32, and the frozen base in bf16."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignlaunch.train.model.precision import BF16_ON_CPU
from tests.support.matrix import matrix
from tests.train.conftest import Runner

LORA = {"r": 2, "alpha": 4, "dropout": 0.0}
TRAIN = {"bf16": True, "max_steps": 2}
#: bf16 has 8 bits of a number: updates of less than 1/256 of a weight are lost in it.
STEADY = {"learning_rate": 1e-4}


@pytest.mark.parametrize("stage", ["rm", "sft", matrix("dpo"), matrix("orpo"), matrix("safe_dpo")])
def test_an_adapter_and_a_new_head_are_trained_in_fp32(stage: str, run_job: Runner) -> None:
    extra: dict[str, Any] = {"objective": "dpo"} if stage == "safe_dpo" else {}
    found = run_job(f"bf16-{stage}", stage=stage, lora=LORA, train=TRAIN | STEADY | extra, env={BF16_ON_CPU: "1"})
    assert found.code == 0, found.stderr
    assert "training in bf16" in found.stdout
    saved = load_file(found.output_dir / "adapter_model.safetensors")
    assert {name: weight.dtype for name, weight in saved.items() if weight.dtype != torch.float32} == {}
    assert any("score" in name for name in saved) is (stage == "rm")


@pytest.mark.parametrize(("nproc", "zero"), [matrix(1, None), matrix(2, "zero2.json"), matrix(2, "zero3.json")])
def test_all_of_a_score_head_moves_by_small_steps(nproc: int, zero: str | None, run_job: Runner) -> None:
    """The adapter of a first run with no step at all has the head that it starts from; ZeRO keeps fp32 of its own."""
    heads = []
    for steps in (1, 12):
        train = TRAIN | STEADY | {"max_steps": steps, "learning_rate": 1e-4 if steps > 1 else 1e-30}
        changes = {"stage": "rm", "nproc": nproc, "zero": zero, "lora": LORA, "train": train}
        found = run_job(f"bf16-head-{zero}-{steps}", **changes, env={BF16_ON_CPU: "1"})
        assert found.code == 0, found.stderr
        saved = load_file(found.output_dir / "adapter_model.safetensors")
        heads += [weight.float() for name, weight in saved.items() if "score" in name]
    first, last = heads
    moved = (first != last).float().mean()
    # What ZeRO saves are the bf16 copies of its fp32 weights: a step that is smaller than their grain is not in them.
    assert moved > (0.9 if zero is None else 0.3)


@pytest.mark.parametrize("zero", ["zero2.json", matrix("zero1.json")])
def test_loading_in_16_bits_loses_nothing_that_zero_would_keep(zero: str, run_job: Runner) -> None:
    """DeepSpeed makes its fp32 masters of weights that it has cast to 16 bits."""
    losses, weights = [], []
    for dtype in (None, "float32"):
        train = TRAIN | STEADY | {"max_steps": 3} | ({"model_init_kwargs": {"dtype": dtype}} if dtype else {})
        found = run_job(f"bf16-{zero}-{dtype}", nproc=2, zero=zero, stage="sft", train=train, env={BF16_ON_CPU: "1"})
        assert found.code == 0, found.stderr
        losses.append(found.logged("loss"))
        weights.append(load_file(found.output_dir / "model.safetensors"))
    assert losses[0] == losses[1]
    assert all(weight.equal(weights[1][name]) for name, weight in weights[0].items())


@pytest.mark.parametrize("lora", [None, matrix(LORA)])
@pytest.mark.parametrize("zero", [matrix(None), "zero2.json", matrix("zero3.json")])
def test_a_reference_computed_before_training_is_the_policy_s(
    zero: str | None, lora: dict[str, Any] | None, run_job: Runner
) -> None:
    """Its weights and its computation have the precision of training: the first loss is ln 2."""
    changes = {"lora": lora, "data": {"train": ["pairs.jsonl"], "cache_dir": f"cache-bf16-{zero}-{bool(lora)}"}}
    train = TRAIN | STEADY | {"precompute_ref_log_probs": True}
    found = run_job(
        f"bf16-dpo-{zero}-{bool(lora)}", nproc=2, zero=zero, stage="dpo", train=train, env={BF16_ON_CPU: "1"}, **changes
    )
    assert found.code == 0, found.stderr
    assert "scoring logps" in found.stdout
    assert found.logged("loss")[0] == pytest.approx(math.log(2), abs=0.01)
