"""Precomputed scores: the same loss as with live ones, computed once, and resumed where a run was killed."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlaunch.train.data.encoding.pair_rows import SIDES
from alignlaunch.train.errors import UserError
from alignlaunch.train.stages import safe_dpo
from alignlaunch.train.stages.pairs import score_columns
from alignlaunch.train.stages.pairs.collate import Batch, collator
from alignlaunch.train.stages.safe_dpo import scoring
from tests.train.stages.safe_dpo.test_safe_dpo import OBJECTIVES, leave_reference


@pytest.fixture
def setting(workplace: Path, tmp_path: Path) -> Any:
    """Rows on disk, the tokenizer and the arguments."""
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")

    def make(objective: Any = "lagrangian", **options: Any) -> tuple[Any, Any, Any]:
        rewards: dict[str, Any] = {f"{name}_reward_model": str(workplace / name) for name in ("helpful", "harmless")}
        args = safe_dpo.Config(
            output_dir=str(tmp_path),
            objective=objective,
            report_to="none",
            use_cpu=True,
            bf16=False,
            **rewards,
            **options,
        )
        encode = safe_dpo.encoder(tokenizer, args)
        records = map(json.loads, (workplace / "safe.jsonl").read_text().splitlines())
        table = pa.Table.from_pylist([row for record in records for row in encode(record).rows])
        path = tmp_path / objective / "data.arrow"
        if not path.exists():
            path.parent.mkdir()
            with pa.ipc.new_stream(str(path), table.schema) as stream:
                stream.write_table(table)
        return args, tokenizer, Dataset.from_file(str(path))

    return make


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_same_loss_as_live(objective: str, adapter: bool, setting: Any, workplace: Path) -> None:
    import peft

    found = {}
    for scores in ("live", "precomputed"):
        args, tokenizer, rows = setting(objective=objective, scores=scores, per_device_eval_batch_size=3)
        model: Any = AutoModelForCausalLM.from_pretrained(workplace / "model")
        if adapter:
            torch.manual_seed(0)
            model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False))
        trainer = safe_dpo.trainer(args, model, None, tokenizer, rows, None)
        if not adapter:
            leave_reference(trainer.model)
        kept = [dict(row) for row in trainer.train_dataset.select(range(6))]
        assert ("a_reference" in kept[0]) == (scores == "precomputed")
        batches = [trainer.data_collator(kept[:2]), trainer.data_collator(kept[2:])]
        _, totals = trainer.get_batch_samples(iter(batches), 2, torch.device("cpu"))
        losses = [trainer.compute_loss(trainer.model, batch, num_items_in_batch=totals).item() for batch in batches]
        found[scores] = [*losses, *trainer._sums.tolist()]
    assert found["precomputed"] == pytest.approx(found["live"], abs=1e-6, rel=1e-6)
    assert max(abs(x) for x in found["live"]) > 0.1


class Counting:
    """A scorer that gives each sequence's length, and may be killed."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.loads = self.batches = 0
        self.widths: list[int] = []
        self.dies_at = dies_at

    @contextlib.contextmanager
    def __call__(self) -> Iterator[score_columns.Scorer]:
        self.loads += 1
        yield self.score

    def score(self, batch: Batch) -> torch.Tensor:
        self.batches += 1
        if self.batches == self.dies_at:
            raise KeyboardInterrupt
        mask: torch.Tensor = batch["attention_mask"]
        self.widths.append(mask.shape[1])
        return mask.sum(1).float()


def test_scored_once_and_resumed_after_a_kill(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_columns, "ROWS_IN_SHARD", 6)  # 16 rows: shards of 6, 6 and 4
    args, tokenizer, rows = setting()

    def add(load: Counting, identity: str = "x", rows: Any = rows) -> Any:
        collate = collator(SIDES, tokenizer.pad_token_id)
        return score_columns.add([rows], SIDES, "helpful", identity, load, collate, args, 2)[0]

    with pytest.raises(KeyboardInterrupt):
        add(Counting(dies_at=5))  # in the second shard
    resumed, again, other = Counting(), Counting(), Counting()
    found = add(resumed)
    assert resumed.batches == 3 + 2
    assert add(again)["b_helpful"][:] == found["b_helpful"][:]
    assert (again.loads, again.batches) == (0, 0)
    add(other, "y")
    assert other.batches == 3 + 3 + 2
    assert other.widths[:3] == sorted(other.widths[:3], reverse=True) != other.widths[:1] * 3, (
        "by length, longest first"
    )
    some, once_more = Counting(), Counting()
    selected = add(some, rows=rows.select([5, 3, 3]))
    assert some.batches == 2
    assert selected["a_helpful"][:] == [len(rows["a_input_ids"][i]) for i in (5, 3, 3)]
    add(once_more, rows=Dataset.from_file(rows.cache_files[0]["filename"]).select([5, 3, 3]))
    assert once_more.batches == 0
    for side in SIDES:
        assert found[f"{side}_helpful"][:] == [len(ids) for ids in rows[f"{side}_input_ids"]]


def test_a_cache_that_cannot_be_written(setting: Any) -> None:
    args, tokenizer, rows = setting()
    place = Path(rows.cache_files[0]["filename"]).parent / f"helpful-x-{rows._fingerprint}"
    place.touch()
    collate = collator(SIDES, tokenizer.pad_token_id)
    with pytest.raises(UserError, match=r"File exists\. Make room, name another"):
        score_columns.add([rows], SIDES, "helpful", "x", Counting(), collate, args, 2)


def test_the_identity_is_that_of_the_content(setting: Any, workplace: Path, tmp_path: Path) -> None:
    args, _, _ = setting()
    place = tmp_path / "copy"
    shutil.copytree(workplace / "helpful", place)
    first = score_columns.identity(str(place), args, scoring)
    (place / "trainer_state.json").write_text("{}")
    (place / "model.safetensors").touch()
    assert score_columns.identity(str(place), args, scoring) == first
    assert score_columns.identity(str(place), args, scoring, "bfloat16") != first
    weights = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert score_columns.identity(str(place), args, scoring) != first


def test_an_adapter_s_identity_is_also_its_base_s(setting: Any, workplace: Path, tmp_path: Path) -> None:
    import peft

    args, _, _ = setting()
    base = tmp_path / "base"
    shutil.copytree(workplace / "model", base)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    peft.get_peft_model(model, peft.LoraConfig()).save_pretrained(str(tmp_path / "adapter"))
    first = score_columns.identity(str(tmp_path / "adapter"), args, scoring)
    shutil.copy(workplace / "helpful" / "model.safetensors", base / "model.safetensors")
    assert score_columns.identity(str(tmp_path / "adapter"), args, scoring) != first
