"""What is trained: a model's shape, and records of which every sequence has the same length."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from alignlaunch.train.config import Lora
from bench.plan.cases import Case

STAGES = ("sft", "dpo", "orpo", "rm")
#: That of `bench.trainers.adapter`, for the planner.
LORA = Lora(r=8, alpha=16, dropout=0.0)


@dataclass(frozen=True)
class Shape:
    """One of a model and its batches.

    size: a key of `bench.plan.cases.MODELS`. length: tokens of a sequence, of which `prompt` are the prompt's.
    sequences: in a batch; of pairs half as many.
    """

    size: str
    device: str
    length: int
    prompt: int
    sequences: int
    steps: int
    half: bool

    def case(self, stage: Any) -> Case:
        """What the planner is asked."""
        return Case(stage, self.size, stage, 0, LORA, self.sequences, self.length, more={"half": self.half})

    def settings(self) -> dict[str, Any]:
        """The training arguments of both sides."""
        return {
            "max_steps": self.steps,
            "learning_rate": 1e-5,
            "max_length": self.length,
            "gradient_checkpointing": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": self.device == "cpu",
            "bf16": self.half,
            "disable_tqdm": True,
            "seed": 1,
        }

    def records(self, stage: str, tokenizer: Any) -> list[dict[str, str]]:
        """Random words, each one token; with the end-of-sequence token a sequence has `length` tokens."""
        from tests.support.tiny import WORDS

        rng = random.Random(stage)  # noqa: S311 - data, not secrets
        words = [f" {word}" for word in dict.fromkeys(WORDS) if len(tokenizer(f" {word}").input_ids) == 1]

        def text(count: int) -> str:
            return "".join(rng.choice(words) for _ in range(count))

        names = ("completion",) if stage == "sft" else ("chosen", "rejected")
        answer = self.length - self.prompt - 1
        return [
            {"prompt": text(self.prompt), **{name: text(answer) for name in names}}
            for _ in range(self.steps * self.sequences // len(names))
        ]


#: Qwen2.5-7B's, in bf16.
FULL = Shape("7B, 152k tokens", "cuda", length=4096, prompt=3072, sequences=4, steps=5, half=True)
#: The same code in seconds, without a GPU.
TRIAL = Shape("trial", "cpu", length=256, prompt=192, sequences=4, steps=3, half=False)
