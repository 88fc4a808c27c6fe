"""Five steps of our ORPO and DPO from raw records, and five of TRL's own trainers from the same: the same losses."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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


def ours(stage: Any, records: list[dict[str, Any]], place: Path, folder: Path) -> Any:
    args = stage.Config(output_dir=str(folder), **COMMON)
    tokenizer, model = read(place)
    encode = stage.encoder(tokenizer, args)
    rows = Dataset.from_list([row for record in records for row in encode(record).rows])
    return stage.trainer(args, model, None, tokenizer, rows, None)


def theirs(make: Any, config: Any, records: list[dict[str, Any]], place: Path, folder: Path) -> Any:
    tokenizer, model = read(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(
            model=model,
            args=config(output_dir=str(folder), **COMMON),
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


def train(trainer: Any) -> list[dict[str, Any]]:
    trainer.train()
    return trainer.state.log_history  # type: ignore[no-any-return]
