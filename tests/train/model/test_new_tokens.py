"""A separate tokenizer with more tokens than the model: their rows are learnt, saved and found again everywhere."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from alignlaunch.train import export
from alignlaunch.train.model import vocabulary
from alignlaunch.train.outputs import merge
from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner
from tests.train.outputs.test_trained import alignlaunch
from tests.train.stages.test_parity import assert_same

pytestmark = pytest.mark.matrix  # many real runs: `make test` is to stay short

LORA = {"r": 4, "alpha": 8, "dropout": 0.0}
NEW = ["Paris", "capital", "answer"]
#: What a stage learns from, and how.
DATA: dict[str, dict[str, Any]] = {
    "sft": {"train": ["sft.jsonl"], "validation": ["sft.jsonl"]},
    "pt": {"train": ["texts.jsonl"]},
    "safe_dpo": {"train": ["safe.jsonl"]},
}
TRAIN: dict[str, dict[str, Any]] = {"pt": {"max_length": 32}, "safe_dpo": {"objective": "dpo"}}
CHECKPOINTS = {"save_strategy": "steps", "save_steps": 2}
MATRICES = {"embeddings": "model.embed_tokens", "head": "lm_head"}


@pytest.fixture(scope="module")
def places(workplace: Path) -> Path:
    """`workplace` and `larger`, a tokenizer of three more tokens, and `tied`, a model with one matrix at both ends."""
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    tokenizer.save_pretrained(workplace / "tied")
    tokenizer.add_tokens(NEW)
    tokenizer.save_pretrained(workplace / "larger")
    torch.manual_seed(0)
    config: Any = AutoConfig.from_pretrained(workplace / "model", tie_word_embeddings=True)
    make: Any = AutoModelForCausalLM
    make.from_config(config).save_pretrained(workplace / "tied")
    return workplace


def run_larger(run_job: Runner, name: str, **changes: Any) -> Finished:
    """A run with the larger tokenizer; the name in its output's folder tells it from others."""
    stage = changes.get("stage", "sft")
    data = DATA.get(stage, {"train": ["pairs.jsonl"]}) | {"cache_dir": "cache-larger"}
    changes["train"] = TRAIN.get(stage, {}) | changes.get("train", {})
    found = run_job(f"larger-{name}", **({"tokenizer": "larger", "lora": LORA, "data": data} | changes))
    assert found.code == 0, found.stdout + found.stderr
    return found


def trained_rows(found: Finished) -> dict[str, torch.Tensor]:
    """What the adapter saved of the embeddings and of the output head."""
    saved = load_file(found.output_dir / "adapter_model.safetensors")
    assert not [name for name in saved if "base_layer" in name], "whole matrices"
    delta = "base_model.model.{}.token_adapter.trainable_tokens_delta"
    return {key: saved[delta.format(name)] for key, name in MATRICES.items() if delta.format(name) in saved}


def grown(folder: Path) -> Any:
    """The base as training begins with it."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    vocabulary.grow(model, len(AutoTokenizer.from_pretrained(folder)) + len(NEW))
    return model


def test_new_rows_begin_with_the_mean_of_the_old_ones_always_the_same(places: Path) -> None:
    first, torch_state = grown(places / "model"), torch.get_rng_state()
    torch.manual_seed(5)
    second = grown(places / "model")
    for name in MATRICES.values():
        weights = first.state_dict()[f"{name}.weight"]
        old, new = weights[: -len(NEW)], weights[-len(NEW) :]
        assert torch.equal(weights, second.state_dict()[f"{name}.weight"])
        assert float((new - old.mean(0)).abs().max()) < 1e-3
        assert float(new.std(0).max()) > 0
    torch.set_rng_state(torch_state)
    assert vocabulary.grow(first, 10) == range(0)


@pytest.mark.parametrize(
    ("stage", "model", "zero", "lora"),
    [
        ("sft", "model", "zero3.json", LORA),
        matrix("sft", "tied", "zero3.json", LORA | {"dora": True}),
        matrix("pt", "model", "zero2.json", LORA),
        matrix("dpo", "model", "zero3.json", LORA),
        matrix("dpo", "tied", None, LORA),
        matrix("orpo", "model", None, LORA | {"dora": True}),
        matrix("orpo", "tied", "zero3.json", LORA),
        matrix("rm", "tied", "zero3.json", LORA),
        matrix("safe_dpo", "model", "zero3.json", LORA),
    ],
)
def test_two_processes_learn_them_as_one_does(
    stage: str, model: str, zero: str | None, lora: dict[str, Any], places: Path, run_job: Runner
) -> None:
    changes = {"stage": stage, "model": model, "lora": lora}
    name = f"{stage}-{model}-{zero}-{lora.get('dora')}"
    alone = run_larger(run_job, f"alone-{name}", train={"gradient_accumulation_steps": 2}, **changes)
    found = run_larger(run_job, name, nproc=2, zero=zero, **changes)
    assert_same(found, alone)
    rows, expected = trained_rows(found), trained_rows(alone)
    assert len(rows) == (1 if model == "tied" or stage == "rm" else 2)
    start = grown(places / model).state_dict()
    for key, trained in rows.items():
        torch.testing.assert_close(trained, expected[key], atol=1e-5, rtol=0)
        moved = (trained - start[f"{MATRICES[key]}.weight"][-len(NEW) :]).abs().amax(1)
        assert (moved > 1e-3).all(), f"{key}: not trained"


@pytest.fixture(scope="module", params=["tied", matrix("model")])
def learnt(request: pytest.FixtureRequest, places: Path, run_job: Runner) -> Finished:
    """A run on a model with one matrix for both ends, or two."""
    model: str = request.param
    return run_larger(run_job, model, model=model, train=CHECKPOINTS)


def test_they_are_merged_and_evaluated(learnt: Finished, places: Path, tmp_path: Path) -> None:
    done = alignlaunch(places, "eval", learnt.output_dir, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["loss"] == pytest.approx(learnt.logged("eval_loss")[-1], abs=1e-5)

    export.export(learnt.output_dir, tmp_path / "whole", merge_it=True)
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    base = AutoModelForCausalLM.from_pretrained(merge.base_of(learnt.output_dir))
    size = len(AutoTokenizer.from_pretrained(tmp_path / "whole"))
    assert whole.config.vocab_size == base.config.vocab_size + len(NEW) == size
    for key, trained in trained_rows(learnt).items():
        weights = whole.state_dict()[f"{MATRICES[key]}.weight"]
        assert torch.equal(weights[-len(NEW) :], trained)
        assert torch.equal(weights[: -len(NEW)], base.state_dict()[f"{MATRICES[key]}.weight"]), "old rows"


def test_the_next_stage_starts_from_them(learnt: Finished, run_job: Runner) -> None:
    """The reference of DPO has the same rows: its first loss is log 2."""
    changes = {"stage": "dpo", "model": f"out/{learnt.output_dir.name}", "tokenizer": None}
    found = run_larger(run_job, f"after-{learnt.output_dir.name}", train={"max_steps": 1}, **changes)
    assert f"starting from {merge.merged(learnt.output_dir)}" in found.stdout
    assert found.logged("loss") == pytest.approx([math.log(2)], abs=1e-6)


@pytest.mark.parametrize("zero", [None, matrix("zero3.json")])
def test_the_reference_of_a_full_fine_tune_has_them(zero: str | None, run_job: Runner, places: Path) -> None:
    changes = {"lora": None, "train": {"max_steps": 2}, "zero": zero, "nproc": 2 if zero else 1}
    found = run_larger(run_job, f"whole-{zero}", stage="dpo", **changes)
    assert found.logged("loss")[0] == pytest.approx(math.log(2), abs=1e-6)
    saved = load_file(found.output_dir / "model.safetensors")
    assert len(saved["lm_head.weight"]) == len(AutoTokenizer.from_pretrained(places / "larger"))


@pytest.mark.parametrize("zero", [matrix(None), matrix("zero3.json")])
def test_a_resumed_run_goes_on_with_them(zero: str | None, places: Path, run_job: Runner) -> None:
    changes = {"train": CHECKPOINTS, "zero": zero, "nproc": 2 if zero else 1}
    found = run_larger(run_job, f"again-{zero}", **changes, env={"SLURM_JOB_ID": "7"})
    rows, losses = trained_rows(found), found.logged("loss")
    (found.output_dir / "checkpoint-4" / "checkpoint-is-incomplete.txt").touch()
    again = run_larger(run_job, f"again-{zero}", **changes, env={"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})
    assert "resuming from" in again.stdout
    assert again.logged("loss") == losses
    assert all(torch.equal(trained, rows[key]) for key, trained in trained_rows(again).items())
