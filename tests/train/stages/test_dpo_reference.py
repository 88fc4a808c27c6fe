"""dpo's reference computed before training: TRL's losses, computed once, kept by all that it depends on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]

from alignlaunch.train.stages import dpo
from tests.support import tolerance
from tests.train.stages.test_trl_parity import COMMON, records

__all__ = ["records"]  # a fixture

TRAIN = COMMON | {"max_steps": -1, "num_train_epochs": 2.0}
SCORING = "scoring logps: shard 1 of 1"


def make(place: Path, folder: Path, records: list[dict[str, Any]], *, adapter: bool = False, **more: Any) -> Any:
    """Our trainer on rows of a file, as prepared data are; the same file for each of a test."""
    args = dpo.Config(output_dir=str(folder / "out"), **TRAIN | more)
    tokenizer: Any = AutoTokenizer.from_pretrained(place / "model")
    path = folder / "data.arrow"
    if not path.exists():
        encode = dpo.encoder(tokenizer, args)
        table = pa.Table.from_pylist([row for record in records for row in encode(record).rows])
        with pa.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)
    lora = peft.LoraConfig(r=4, task_type="CAUSAL_LM") if adapter else None
    model = AutoModelForCausalLM.from_pretrained(place / "model")
    return dpo.trainer(args, model, lora, tokenizer, Dataset.from_file(str(path)), None)


def train(trainer: Any) -> list[dict[str, Any]]:
    trainer.train()
    return [step for step in trainer.state.log_history if "loss" in step]


@pytest.mark.parametrize("more", [{}, {"ld_alpha": 0.5}], ids=["plain", "ld_alpha"])
def test_the_losses_of_trl(records: list[dict[str, Any]], workplace: Path, tmp_path: Path, more: Any) -> None:
    found = train(make(workplace, tmp_path, records, precompute_ref_batch_size=3, **more))
    tokenizer: Any = AutoTokenizer.from_pretrained(workplace / "model")
    other = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(workplace / "model"),
        args=DPOConfig(output_dir=str(tmp_path / "trl"), precompute_ref_log_probs=True, **TRAIN | more),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(records),
    )
    expected = train(other)
    assert len(found) == len(expected) > 4
    for a, b in zip(found, expected, strict=True):
        for name in ("loss", "grad_norm", "rewards/margins", "rewards/chosen"):
            assert a[name] == pytest.approx(b[name], abs=tolerance.of(name), rel=1e-4), name


@pytest.mark.parametrize("adapter", [False, True])
def test_the_losses_of_a_live_reference(
    records: list[dict[str, Any]], workplace: Path, tmp_path: Path, adapter: bool
) -> None:
    live, kept = (
        make(workplace, tmp_path, records, adapter=adapter, precompute_ref_log_probs=once) for once in (False, True)
    )
    assert "ref_chosen_logps" not in live.train_dataset.column_names
    assert "ref_chosen_logps" in kept.train_dataset.column_names
    assert kept.ref_model is None
    for a, b in zip(train(kept), train(live), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)


def test_it_is_computed_once_for_all_that_it_depends_on(
    records: list[dict[str, Any]], workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TRL keeps its own by rows and weights: with another `ld_alpha` it would read what was computed without."""
    first = make(workplace, tmp_path, records)
    assert SCORING in capsys.readouterr().out
    again = make(workplace, tmp_path, records, beta=0.3, loss_type=["hinge"])
    assert SCORING not in capsys.readouterr().out
    assert again.train_dataset["ref_chosen_logps"][:] == first.train_dataset["ref_chosen_logps"][:]
    for more in ({"ld_alpha": 0.5}, {"max_length": 8}):
        other = make(workplace, tmp_path, records, **more)
        assert SCORING in capsys.readouterr().out, more
        assert other.train_dataset["ref_chosen_logps"][:] != first.train_dataset["ref_chosen_logps"][:], more


def test_the_choice_is_made_by_how_often_a_pair_is_seen(
    records: list[dict[str, Any]], workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = -(-len(records) // 4)
    live: list[dict[str, Any]] = [{"max_steps": steps // 2}, {"num_train_epochs": 1.0}, {"sync_ref_model": True}]
    for more in (*live, {"precompute_ref_log_probs": False}):
        assert not make(workplace, tmp_path, records, **more).args.precompute_ref_log_probs, more
        assert "computed once" not in capsys.readouterr().out
    for steps_given in (-1, 2 * steps):
        assert make(workplace, tmp_path, records, max_steps=steps_given).args.precompute_ref_log_probs
        assert "training sees each pair 2 times" in capsys.readouterr().out


def test_it_keeps_its_precision_under_deepspeed(
    workplace: Path, tmp_path: Path, records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Trainer casts what is not whole numbers to the weights' dtype: -300.4 would be -300 in 16 bits."""
    trainer = make(workplace, tmp_path, records)
    plugin = SimpleNamespace(hf_ds_config=SimpleNamespace(dtype=lambda: torch.bfloat16))
    monkeypatch.setattr(trainer, "accelerator", SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin)))
    monkeypatch.setattr(trainer, "is_deepspeed_enabled", True)
    given = {name: torch.tensor([-300.4]) for name in ("ref_chosen_logps", "ref_rejected_logps", "other")}
    found = trainer._prepare_inputs(given)
    assert found.pop("other").dtype == torch.bfloat16
    assert all(found[name].equal(given[name]) for name in found)
