"""MFU counts the tokens that were computed: the prompt of a pair once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlaunch.train.stages import orpo


def test_what_pairs_share_is_not_counted(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [json.loads(line) for line in (workplace / "pairs.jsonl").read_text().splitlines()][:4]
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    args = orpo.Config(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, logging_steps=1, **QUIET, use_cpu=True
    )
    encode = orpo.encoder(tokenizer, args)
    rows = [row for record in records for row in encode(record).rows]
    model = AutoModelForCausalLM.from_pretrained(workplace / "model")
    trainer = orpo.trainer(args, model, None, tokenizer, Dataset.from_list(rows), None)
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(trainer, "_mfu", lambda speed, _: asked.append((speed, trainer._saved)))
    trainer.train()
    whole = [record["tokens_per_second"] for record in trainer.state.log_history if "loss" in record]
    shares = [speed / all_ for (speed, _), all_ in zip(asked, whole, strict=True)]
    assert asked[0][1] == 0 < asked[1][1], "each record counts from the one before it"
    tokens = sum(len(row[f"{side}_input_ids"]) for row in rows for side in orpo.SIDES)
    assert sum(shares) / 2 == pytest.approx(1 - trainer.tokens_saved() / tokens, abs=0.05)
    assert max(shares) < 0.95


QUIET: dict[str, Any] = {"save_strategy": "no", "report_to": "none", "bf16": False, "disable_tqdm": True}
