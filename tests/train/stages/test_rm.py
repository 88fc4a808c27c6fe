"""The reward model's zero: where `safety_labels` put it, and that pairs alone put it nowhere."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from alignlaunch.train.stages import rm

PAIR: dict[str, Any] = {"prompt": "the capital of", "chosen": " France", "rejected": " Paris is a good answer"}
SAFE_BOTH = {"chosen": 1, "rejected": 1}
OPTIONS: dict[str, Any] = {"max_length": 64, "use_cpu": True, "bf16": False, "report_to": "none", "logging_steps": 1}
OPTIONS |= {"save_strategy": "no"}  # no session has said whose checkpoints they are


def trainer(workplace: Path, folder: Path, records: list[dict[str, Any]], **options: Any) -> Any:
    args = rm.Config(str(folder), **OPTIONS, **options)
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    make: Any = AutoModelForSequenceClassification
    encode = rm.encoder(tokenizer, args)
    rows = Dataset.from_list([row for record in records for row in encode(record).rows])
    return rm.trainer(args, make.from_pretrained(workplace / "harmless"), None, tokenizer, rows, rows)


def nls(x: float) -> float:
    return math.log1p(math.exp(-x))


def test_the_loss_is_safe_rlhf_s_cost_model_s(workplace: Path, tmp_path: Path) -> None:
    records = [PAIR | {"safety_labels": {"chosen": c, "rejected": r}} for c, r in ((1, -1), (-1, -1), (1, None))]
    made = trainer(workplace, tmp_path, records, per_device_train_batch_size=3, max_steps=1, learning_rate=0.0)
    rows = [made.train_dataset[0][f"{side}_ids"] for side in ("chosen", "rejected")]
    with torch.no_grad():
        a, b = (float(made.model.eval()(input_ids=torch.tensor([ids])).logits) for ids in rows)
    signs = [nls(a) + nls(-b), nls(-a) + nls(-b), nls(a)]
    expected = nls(a - b) + sum(signs) / 3
    found = made.evaluate()
    assert found["eval_loss"] == pytest.approx(expected, abs=1e-5)
    assert found["eval_sign_accuracy"] == pytest.approx(([a > 0, b < 0, a < 0, b < 0, a > 0].count(True)) / 5)
    made.train()
    assert made.state.log_history[-2]["loss"] == pytest.approx(expected, abs=1e-5)


def test_zero_divides_safe_from_unsafe_where_labels_say_so_and_pairs_alone_cannot() -> None:
    """Of two answers that are both safe one has the lower score: for its pair it is as good as an unsafe one."""
    scores, told = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    unlabelled = told * torch.tensor([1.0, 0.0, 0.0])

    def loss(shift: float, told: torch.Tensor) -> float:
        return rm.pair_metrics(SimpleNamespace(predictions=(scores + shift).numpy(), label_ids=told.numpy()))["loss"]

    assert loss(0, unlabelled) == pytest.approx(loss(5, unlabelled), abs=1e-6)
    assert loss(5, told) < loss(0, told) < loss(-5, told)


def test_labels_teach_the_sign(workplace: Path, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [PAIR | {"prompt": p, "safety_labels": SAFE_BOTH} for p in ("bad", "never")] * 2
    for labelled in (True, False):
        unlabelled = [{k: v for k, v in record.items() if k != "safety_labels"} for record in records]
        given = records if labelled else unlabelled
        made = trainer(workplace, tmp_path, given, per_device_train_batch_size=4, max_steps=30, learning_rate=0.01)
        made.train()
        judge = trainer(workplace, tmp_path, records)
        judge.model.load_state_dict(made.model.state_dict())
        found = judge.evaluate()
        assert found["eval_accuracy"] == 1
        assert (found["eval_sign_accuracy"] == 1) is labelled
