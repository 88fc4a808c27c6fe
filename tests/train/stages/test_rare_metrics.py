"""What the head measures besides the loss is measured in the steps that are logged, and is the same then."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import Accelerator  # type: ignore[import-untyped]
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlaunch.train.outputs.manifest import Measured
from alignlaunch.train.stages import dpo, sft
from alignlaunch.train.stages.trl_metrics import TrlTrainer

STAGES: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "sft": (sft, "sft.jsonl", ("loss", "entropy", "mean_token_accuracy")),
    "dpo": (dpo, "pairs.jsonl", ("loss", "entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected")),
}


def trained(stage: str, place: Path, folder: Path, *, evaluate: bool = True, **logging: Any) -> list[dict[str, Any]]:
    """The records of five steps and an evaluation."""
    module, file, _ = STAGES[stage]
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    args = module.Config(
        output_dir=str(folder),
        max_steps=5,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        max_length=64,
        gradient_checkpointing=False,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=3,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        seed=5,
        **logging,
    )
    encode = module.encoder(tokenizer, args)
    records = [json.loads(line) for line in (place / file).read_text().splitlines()][:12]
    rows = Dataset.from_list([row for record in records for row in encode(record).rows])
    model = AutoModelForCausalLM.from_pretrained(place / "model")
    trainer = module.trainer(args, model, None, tokenizer, rows, rows)
    trainer.train()
    history: list[dict[str, Any]] = trainer.state.log_history
    return history


@pytest.mark.parametrize("stage", STAGES)
def test_a_record_costs_one_collective(
    stage: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL gathers each metric from all ranks in each micro-step, a dozen of them in dpo."""
    sizes: list[int] = []
    for name in ("gather", "gather_for_metrics"):
        inner = getattr(Accelerator, name)

        def gather(self: Any, value: Any, *args: Any, inner: Any = inner, **kwargs: Any) -> Any:
            sizes.append(value.numel())
            return inner(self, value, *args, **kwargs)

        monkeypatch.setattr(Accelerator, name, gather)
    trained(stage, workplace, tmp_path, evaluate=False, logging_steps=2)
    assert len(sizes) == 3, "records of two steps, of two, and of the last one with the end"
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("stage", STAGES)
def test_steps_that_are_not_logged_are_not_measured(stage: str, workplace: Path, tmp_path: Path) -> None:
    *_, names = STAGES[stage]
    every = trained(stage, workplace, tmp_path / "every", logging_steps=1)
    some = trained(stage, workplace, tmp_path / "some", logging_steps=2, logging_first_step=True)
    assert [record["step"] for record in some if "loss" in record] == [1, 2, 4]
    expected = {record["step"]: record for record in every if "loss" in record}
    for record in some:
        if "loss" in record:
            for name in names[1:]:
                assert record[name] == pytest.approx(expected[record["step"]][name], abs=1e-6), (record["step"], name)
    found, right = (next(r for r in records if "eval_loss" in r) for records in (some, every))
    for name in names:
        assert found[f"eval_{name}"] == pytest.approx(right[f"eval_{name}"], abs=1e-6), name
    assert found["eval_entropy"] > 0


@pytest.mark.parametrize(
    ("world", "expected"), [(2, [(1.0, 7), (3.0, 8)]), (1, [(2.0, 15)]), (4, [(2.0, 4)] * 3 + [(2.0, 3)])]
)
def test_a_resumed_run_has_the_metrics_and_tokens_of_all_ranks(world: int, expected: list[tuple[float, int]]) -> None:
    parts = [Measured.of({"margin": [value]}, tokens) for value, tokens in ((1.0, 7), (3.0, 8))]
    for rank in range(world):
        trainer: Any = SimpleNamespace(
            args=SimpleNamespace(world_size=world, process_index=rank), _metrics={"train": {}}
        )
        TrlTrainer.measure_on(trainer, parts)
        found = trainer._metrics["train"]["margin"][0], trainer._total_train_tokens
        assert found == expected[rank]
