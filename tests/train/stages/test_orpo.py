"""Our ORPO against its oracle, TRL's experimental trainer, and where the oracle depends on the split."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlaunch.train.stages import orpo

COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "max_length": 64,
}


@pytest.fixture
def setting(workplace: Path, tmp_path: Path) -> Any:
    records = [json.loads(line) for line in (workplace / "pairs.jsonl").read_text().splitlines()][:4]
    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    model = AutoModelForCausalLM.from_pretrained(workplace / "model")
    return records, tokenizer, model, tmp_path


def ours(records: list[dict[str, Any]], tokenizer: Any, model: Any, folder: Path) -> tuple[Any, Any]:
    args = orpo.Config(output_dir=str(folder), **COMMON)
    encode = orpo.encoder(tokenizer, args)
    rows = Dataset.from_list([row for record in records for row in encode(record).rows])
    return orpo.trainer(args, model, None, tokenizer, rows, None), rows


def step(trainer: Any, model: Any, batches: list[dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    """One step's loss and gradients, without the optimizer."""
    found, totals = trainer.get_batch_samples(iter(batches), len(batches), torch.device("cpu"))
    model.zero_grad()
    trainer.current_gradient_accumulation_steps = len(found)
    loss = sum(float(trainer.training_step(model, batch, totals)) for batch in found)
    return loss, {name: p.grad.clone() for name, p in model.named_parameters()}


def test_loss_gradients_and_metrics_equal_trl(setting: Any) -> None:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    records, tokenizer, model, folder = setting
    twin = copy.deepcopy(model)
    trainer, rows = ours(records, tokenizer, model, folder)
    loss, grads = step(trainer, model, [trainer.data_collator(list(rows))])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle: Any = ORPOTrainer(
            model=twin,
            args=ORPOConfig(output_dir=str(folder), gradient_checkpointing=False, **COMMON),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(records),
        )
    expected, metrics = oracle.get_batch_loss_metrics(twin, oracle.data_collator(list(oracle.train_dataset)))
    torch.autograd.backward(expected)
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    for name, parameter in twin.named_parameters():
        assert grads[name].allclose(parameter.grad, atol=1e-5), name
    shares = dict(zip(("nll_loss", *orpo.METRICS), trainer._sums.tolist(), strict=True))
    assert shares == pytest.approx({name: metrics[name] for name in shares}, abs=1e-5)


def test_any_split_into_micro_batches_gives_the_same_gradient(setting: Any) -> None:
    records, tokenizer, model, folder = setting
    trainer, rows = ours(records, tokenizer, model, folder)
    rows = list(rows)
    whole, expected = step(trainer, model, [trainer.data_collator(rows)])
    uneven, grads = step(trainer, model, [trainer.data_collator(rows[:1]), trainer.data_collator(rows[1:])])
    assert uneven == pytest.approx(whole, abs=1e-6)
    assert all(grads[name].allclose(grad, atol=1e-6) for name, grad in expected.items())


def test_log_odds_of_a_certain_answer_are_finite() -> None:
    chosen = torch.tensor([0.0, -1e-9, -50.0, -0.6931], requires_grad=True)
    terms = orpo.PairTerms(torch.zeros(4), chosen, torch.full((4,), -1.0))
    log_odds = terms.log_odds()
    torch.autograd.backward(log_odds.sum())
    assert torch.isfinite(log_odds).all()
    assert torch.isfinite(chosen.grad).all()  # type: ignore[arg-type]
