"""The evaluation by generation: its figures, and its answers against one model call a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignlaunch.train.stages.safe_dpo import evaluation
from alignlaunch.train.stages.safe_dpo.evaluation import Judged
from tests.train.conftest import Runner

from .test_parity import DATA, LORA, TRAIN


def test_the_figures() -> None:
    found = evaluation.report(
        [
            Judged("fraud", helpful=(2, 1), harmless=(1, -1), agrees=(True, False)),
            Judged("fraud", helpful=(0, 1), harmless=(0, 1), agrees=(True,)),
            Judged("theft", helpful=(4, 4), harmless=(3, -2)),
            Judged("", helpful=(2, 0), harmless=(1, 1)),
        ]
    )
    assert found == {
        "prompts": 4,
        "safe_rate": {"trained": 0.75, "start": 0.5},
        "helpful_score": {"trained": 2.0, "start": 1.5},
        "win_rate": 0.5,
        "tie_rate": 0.25,
        "judge_accuracy": pytest.approx(2 / 3),
        "categories": {
            "fraud": {
                "prompts": 2,
                "safe_rate": {"trained": 0.5, "start": 0.5},
                "helpful_score": {"trained": 1.0, "start": 1.0},
                "win_rate": 0.5,
                "tie_rate": 0.0,
            },
            "theft": {
                "prompts": 1,
                "safe_rate": {"trained": 1.0, "start": 0.0},
                "helpful_score": {"trained": 4.0, "start": 4.0},
                "win_rate": 0.0,
                "tie_rate": 1.0,
            },
        },
    }
    assert evaluation.flat(found)["categories/fraud/safe_rate/start"] == 0.5


def test_what_the_template_writes_after_an_answer() -> None:
    cut, whole = [7, 7, 8], [1, 9, 5, 6, 9, 3, 4]  # 9 ends a turn; the first answer was cut off
    rows = [{"a_input_ids": cut, "a_prompt_length": 1}, {"a_input_ids": whole, "a_prompt_length": 2}]
    assert evaluation._template_tail(rows, end=9) == [3, 4]
    assert evaluation._template_tail(rows[:1], end=9) == []


def one_by_one(model: Any, tokenizer: Any, rewards: dict[str, Any], prompt: str) -> dict[str, float]:
    """An answer by argmax, without padding, cache or `generate`, and its scores."""
    messages = [{"role": "user", "content": prompt}]
    ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))["input_ids"]
    for _ in range(6):
        ids = [*ids, int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
        if ids[-1] == tokenizer.eos_token_id:
            break
    return {name: float(reward(input_ids=torch.tensor([ids])).logits) for name, reward in rewards.items()}


def text(record: dict[str, Any], response: int) -> str:
    return f"<|user|>{record['prompt']}<|end|><|assistant|>{record[f'response_{response}']}<|end|>"


@torch.no_grad()
def test_two_processes_judge_as_one_model_call_a_prompt_does(run_job: Runner, workplace: Path) -> None:
    import peft

    train = TRAIN | {"eval_generate": 5, "eval_max_new_tokens": 6, "learning_rate": 0.05, "eval_strategy": "no"}
    found = run_job("safety-eval", nproc=2, zero="zero3.json", stage="safe_dpo", train=train, data=DATA, lora=LORA)
    assert found.code == 0, found.stderr
    written = json.loads((found.output_dir / "safety_eval.json").read_text())
    assert found.logged("safety_eval/win_rate") == [written["win_rate"]]

    tokenizer = AutoTokenizer.from_pretrained(workplace / "model")
    load: Any = AutoModelForSequenceClassification
    rewards = {name: load.from_pretrained(workplace / name).eval() for name in ("helpful", "harmless")}
    start: Any = AutoModelForCausalLM.from_pretrained(workplace / "model")
    records = [json.loads(line) for line in (workplace / "safe_eval.jsonl").read_text().splitlines()]
    before = [one_by_one(start, tokenizer, rewards, record["prompt"]) for record in records]
    trained = peft.PeftModel.from_pretrained(start, str(found.output_dir))
    after = [one_by_one(trained, tokenizer, rewards, record["prompt"]) for record in records]
    assert before != after
    for name, scores in (("trained", after), ("start", before)):
        assert written["safe_rate"][name] == pytest.approx(sum(s["harmless"] > 0 for s in scores) / 5)
        assert written["helpful_score"][name] == pytest.approx(sum(s["helpful"] for s in scores) / 5, abs=1e-5)
    answers = [json.loads(line) for line in (found.output_dir / "safety_answers.jsonl").read_text().splitlines()]
    assert [record["prompt"] in answer["prompt"] for record, answer in zip(records, answers, strict=True)] == [True] * 5
    for name, scores in (("trained", after), ("start", before)):
        for kind in ("helpful", "harmless"):
            expected = [score[kind] for score in scores]
            assert [answer[kind][name] for answer in answers] == pytest.approx(expected, abs=1e-5)
    assert all(answer["answers"].keys() == {"trained", "start"} for answer in answers)
    wins = sum(a["helpful"] > b["helpful"] for a, b in zip(after, before, strict=True))
    assert written["win_rate"] == pytest.approx(wins / 5)
    ids = [[tokenizer(text(record, i))["input_ids"] for i in (0, 1)] for record in records]
    safe = [[float(rewards["harmless"](input_ids=torch.tensor([i])).logits) > 0 for i in both] for both in ids]
    labels = [[record[f"is_response_{i}_safe"] for i in (0, 1)] for record in records]
    agree = sum(a == b for said, told in zip(labels, safe, strict=True) for a, b in zip(said, told, strict=True))
    assert written["judge_accuracy"] == pytest.approx(agree / 10)
    assert {name: c["prompts"] for name, c in written["categories"].items()} == {"fraud": 3, "theft": 2}


@pytest.mark.parametrize(
    ("train", "data", "says"),
    [
        ({}, {"train": ["safe.jsonl"], "cache_dir": "cache"}, "name them in data.validation"),
        (
            {"objective": "dpo", "helpful_reward_model": None},
            DATA,
            "train.helpful_reward_model: missing, and train.eval_generate reads its scores",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_training(
    train: dict[str, Any], data: dict[str, Any], says: str, run_job: Runner
) -> None:
    found = run_job("no-safety-eval", stage="safe_dpo", train=TRAIN | {"eval_generate": 2} | train, data=data)
    assert found.code == 2, found.stderr
    assert says in found.stderr
