"""Configurations that the planner is held against torch's tracker with: small to 7B, by stage, ZeRO, adapter."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from alignlaunch.launchers.planner import memory
from alignlaunch.launchers.planner.architecture import model
from alignlaunch.launchers.planner.memory import Setup
from alignlaunch.launchers.planner.tuning import Tuning
from alignlaunch.train.config import Lora, Stage

_COMMON = {"attn_implementation": "sdpa", "num_labels": 1, "pad_token_id": 0}
#: family, what differs from its configuration's defaults
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": (
        "llama",
        {
            "hidden_size": 1024,
            "intermediate_size": 2816,
            "num_hidden_layers": 3,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
        },
    ),
    "0.5B": (
        "qwen2",
        {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
    ),
    "1.7B": (
        "qwen3",
        {
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "tie_word_embeddings": True,
        },
    ),
    "7B": ("llama", {}),
    # Qwen2.5-7B's.
    "7B, 152k tokens": (
        "qwen2",
        {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
    ),
    # For a trial of a script on a CPU.
    "trial": (
        "qwen2",
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
    ),
}


@dataclass(frozen=True)
class Case:
    """One step of one process. ZeRO is stage 2: at stage 3 DeepSpeed steps in sub-groups, which the reference skips."""

    name: str
    size: str
    stage: Stage
    zero: int
    lora: Lora | None = None
    sequences: int = 2
    length: int = 1024
    checkpointing: bool = True
    more: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def config(self) -> Any:
        """transformers' configuration."""
        import transformers

        family, given = MODELS[self.size]
        return transformers.AutoConfig.for_model(family, **_COMMON, **given)

    @cached_property
    def setup(self) -> Setup:
        """The planner's view of it: read back from a saved config.json."""
        with tempfile.TemporaryDirectory() as folder:
            self.config.save_pretrained(folder)
            found = model.find(".", Path(folder), score_head=self.stage == "rm")
        return Setup(
            tuning=Tuning(found, self.lora, "none"),
            stage=self.stage,
            nnodes=1,
            nproc_per_node=1,
            zero=self.zero,
            offload="none",
            sequences=self.sequences,
            length=self.length,
            accumulation=1,
            checkpointing=self.checkpointing,
            **{"half": True} | self.more,
        )

    def ours(self) -> float:
        """The planner's peak in bytes, without communication buffers: one process has none."""
        return max(phase.total - phase.terms["buckets"] for phase in memory.phases(self.setup))

    def measured(self) -> int:
        """The tracker's peak in bytes."""
        from bench.plan import reference

        return reference.peak(self.config, self.setup)


_LORA, _DRY = Lora(r=8), Lora(r=8, dropout=0.0)
CASES = [
    Case("tiny rm ddp full", "tiny", "rm", 0, sequences=4),
    Case("tiny rm ddp lora, no checkpointing", "tiny", "rm", 0, _LORA, sequences=4, checkpointing=False),
    Case("tiny sft ddp full", "tiny", "sft", 0, sequences=4, checkpointing=False),
    Case("tiny sft zero lora", "tiny", "sft", 2, _DRY, sequences=4),
    Case("tiny orpo ddp lora", "tiny", "orpo", 0, _LORA, sequences=4),
    Case("tiny orpo zero full", "tiny", "orpo", 2, sequences=2),
    Case("0.5B orpo ddp full", "0.5B", "orpo", 0),
    Case("0.5B sft ddp full, fp32", "0.5B", "sft", 0, length=256, more={"half": False}),
    Case("0.5B sft zero full, no checkpointing", "0.5B", "sft", 2, checkpointing=False),
    Case("1.7B rm zero lora", "1.7B", "rm", 2, _LORA, sequences=8, length=1280),
    Case("1.7B dpo ddp lora", "1.7B", "dpo", 0, _LORA, sequences=8),
    Case("7B sft zero full", "7B", "sft", 2, length=2048),
    Case("7B sft ddp lora", "7B", "sft", 0, _LORA, length=2048),
]
