"""An evaluation is the same for every batch size and number of processes, the last batch's filling left out."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlaunch.train.data.encoding import encoders
from alignlaunch.train.stages import sft
from tests.support import tolerance
from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner

#: Seven records: no batch size but 1 and 7 divides them, and two processes are dealt one twice.
DATA = {"pt": "texts.jsonl", "sft": "sft_eval.jsonl", "dpo": "pairs_eval.jsonl"}
METRICS = {
    "pt": ("eval_loss", "eval_mean_token_accuracy", "eval_entropy"),
    "sft": ("eval_loss", "eval_mean_token_accuracy", "eval_entropy"),
    "dpo": ("eval_loss", "eval_rewards/margins", "eval_rewards/accuracies", "eval_entropy"),
}


@pytest.fixture(scope="module")
def evaluate(run_job: Runner, workplace: Any) -> Any:
    """Evaluate what one step from the start gives, in batches of this size."""
    lines = (workplace / "sft.jsonl").read_text().splitlines(keepends=True)[3:10]
    (workplace / "sft_eval.jsonl").write_text("".join(lines))

    @cache
    def run(stage: str, size: int, nproc: int, **train: Any) -> Finished:
        name = f"exact-{stage}-{size}-{nproc}-{'-'.join(train)}"
        train |= {"max_steps": 1, "per_device_eval_batch_size": size, "max_length": 32 if stage == "pt" else 128}
        train |= {"per_device_train_batch_size": 4 // nproc}
        source = DATA[stage].replace("_eval", "")
        data = {"train": [source], "validation": [DATA[stage]], "cache_dir": "cache"}
        found = run_job(name, stage=stage, nproc=nproc, data=data, train=train)
        assert found.code == 0, found.stderr
        return found

    return run


@pytest.mark.parametrize(
    ("stage", "size", "nproc", "train"),
    [
        matrix("sft", 2, 2, {}),
        ("dpo", 4, 2, {}),
        matrix("pt", 4, 2, {}),
        matrix("sft", 4, 1, {}),
        matrix("sft", 2, 2, {"padding_free": True}),
    ],
)
def test_no_split_changes_it(stage: str, size: int, nproc: int, train: dict[str, Any], evaluate: Any) -> None:
    one, split = evaluate(stage, 1, 1), evaluate(stage, size, nproc, **train)
    said = f"train.per_device_eval_batch_size: 1 instead of {size}"
    assert (said in split.stdout) == (stage == "dpo")
    for metric in METRICS[stage]:
        (expected,), (found,) = one.logged(metric), split.logged(metric)
        within = tolerance.of("grad_norm")  # a step lies behind both
        assert found == pytest.approx(expected, rel=within, abs=within), metric


def test_it_is_the_mean_over_tokens(evaluate: Any, workplace: Any) -> None:
    """Counted anew, without a trainer."""
    found = evaluate("sft", 1, 1)
    model: Any = AutoModelForCausalLM.from_pretrained(found.output_dir)
    args = sft.Config(output_dir="o", use_cpu=True, bf16=False, report_to="none", max_length=128)
    encode = encoders.sft(AutoTokenizer.from_pretrained(found.output_dir), args)
    total, count = 0.0, 0
    for line in (workplace / "sft_eval.jsonl").read_text().splitlines():
        (row,) = encode(json.loads(line)).rows
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"][1:])
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].log_softmax(-1)
        learnt = labels != -100
        total -= float(logps[learnt].gather(1, labels[learnt, None]).sum())
        count += int(learnt.sum())
    assert found.logged("eval_loss") == [pytest.approx(total / count, rel=tolerance.of("loss"))]
