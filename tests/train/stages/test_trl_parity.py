"""Five steps of our ORPO and DPO from raw records, and five of TRL's own trainers from the same: the same losses."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]

from alignlaunch.train.stages import dpo, orpo
from tests.support import tolerance

STEPS = 5
COMMON: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "logging_steps": 1,
    "max_length": 64,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 5,
}


@pytest.fixture
def records(workplace: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (workplace / "pairs.jsonl").read_text().splitlines()]


def ours(stage: Any, records: list[dict[str, Any]], place: Path, folder: Path, **more: Any) -> Any:
    live = {"precompute_ref_log_probs": False} if stage is dpo else {}
    args = stage.Config(output_dir=str(folder), **COMMON | live | more)
    tokenizer, model = read(place)
    encode = stage.encoder(tokenizer, args)
    rows = Dataset.from_list([row for record in records for row in encode(record).rows])
    return stage.trainer(args, model, None, tokenizer, rows, None)


def theirs(make: Any, config: Any, records: list[dict[str, Any]], place: Path, folder: Path, **more: Any) -> Any:
    tokenizer, model = read(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(
            model=model,
            args=config(output_dir=str(folder), **COMMON | more),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(records),
        )


def read(place: Path) -> tuple[Any, Any]:
    return AutoTokenizer.from_pretrained(place / "model"), AutoModelForCausalLM.from_pretrained(place / "model")


def trl_orpo() -> tuple[Any, Any]:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer, ORPOConfig


def trl_dpo() -> tuple[Any, Any]:
    return DPOTrainer, DPOConfig


@pytest.mark.parametrize(("stage", "oracle"), [(orpo, trl_orpo), (dpo, trl_dpo)])
def test_five_steps(
    stage: Any, oracle: Callable[[], tuple[Any, Any]], records: list[dict[str, Any]], workplace: Path, tmp_path: Path
) -> None:
    runs = [ours(stage, records, workplace, tmp_path), theirs(*oracle(), records, workplace, tmp_path)]
    found, expected = ([step for step in train(run) if "loss" in step] for run in runs)
    assert len(found) == len(expected) == STEPS
    for name in ("loss", "grad_norm", "rewards/margins", "rewards/accuracies"):
        within = tolerance.of(name)
        assert [step[name] for step in found] == pytest.approx([step[name] for step in expected], abs=within), name
    assert expected[0]["loss"] - expected[-1]["loss"] > 0.05


#: Each of TRL's DPO losses, and what changes how they are made.
LOSSES: list[dict[str, Any]] = [
    *({"loss_type": [name]} for name in ("sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "aot")),
    *({"loss_type": [name]} for name in ("aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm")),
    *({"loss_type": [name], "label_smoothing": 0.1} for name in ("exo_pair", "robust")),
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
    {"use_weighting": True},
    {"ld_alpha": 0.5},
    {"f_divergence_type": "js_divergence"},
    {"padding_free": True},
    {"truncation_mode": "keep_end", "max_length": 40},
]


@pytest.mark.parametrize("settings", LOSSES, ids=lambda one: "-".join(map(str, [*one, *one.values()])))
def test_every_loss_of_dpo(
    settings: dict[str, Any], records: list[dict[str, Any]], workplace: Path, tmp_path: Path
) -> None:
    more = settings | {"max_steps": 2}
    found, expected = (
        [step for step in train(run) if "loss" in step]
        for run in (
            ours(dpo, records, workplace, tmp_path / "ours", **more),
            theirs(DPOTrainer, DPOConfig, records, workplace, tmp_path / "theirs", **more),
        )
    )
    assert len(found) == len(expected) == 2
    for a, b in zip(found, expected, strict=True):
        for name in b:
            if name in ("loss", "grad_norm", "entropy", "mean_token_accuracy") or "/" in name:
                assert a[name] == pytest.approx(b[name], abs=tolerance.of(name), rel=1e-4), name
    if settings.get("loss_type", ["sigmoid"]) == ["sigmoid"] and not settings.get("use_weighting"):
        assert found[0]["loss"] == pytest.approx(math.log(2), abs=1e-5), "before the first step it is its reference"


def test_a_reference_that_is_another_model_is_told(
    records: list[dict[str, Any]], workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(ours(dpo, records, workplace, tmp_path / "same", max_steps=1))
    assert "ln 2" not in capsys.readouterr().out
    trainer = ours(dpo, records, workplace, tmp_path / "other", max_steps=1)
    with torch.no_grad():
        for weight in trainer.ref_model.parameters():
            weight.mul_(1.5)
    train(trainer)
    assert "and not ln 2 = 0.6931" in capsys.readouterr().out


def train(trainer: Any) -> list[dict[str, Any]]:
    trainer.train()
    return trainer.state.log_history  # type: ignore[no-any-return]
