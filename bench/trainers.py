"""Our trainer of a stage and TRL's on the same model, adapter and records, for bench.pairs and bench.gpu."""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

SIDES = ("ours", "TRL")


def adapter(stage: str) -> Any:
    """The LoRA that both sides train: every linear layer, and of a reward model the score head."""
    import peft

    return peft.LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules="all-linear",
        task_type="SEQ_CLS" if stage == "rm" else "CAUSAL_LM",
        modules_to_save=["score"] if stage == "rm" else None,
    )


def make(
    side: str, stage: str, model: Any, tokenizer: Any, records: list[dict[str, str]], settings: dict[str, Any]
) -> Any:
    """A trainer that is ready to train. records: of strings (prompt, completion or chosen and rejected).

    settings: the training arguments that both sides have, with `output_dir`. The tokenizer loses its token for the
    start of a sequence, which TRL's ORPO would put before each prompt.
    """
    tokenizer.bos_token = None
    model.config.pad_token_id = tokenizer.pad_token_id
    return (_ours if side == "ours" else _theirs)(stage, model, tokenizer, records, settings)


def _ours(stage: str, model: Any, tokenizer: Any, records: list[dict[str, str]], settings: dict[str, Any]) -> Any:
    """As train/session.py does it, but for what has to do with files and other processes."""
    from datasets import Dataset  # type: ignore[import-untyped]

    from alignlaunch.train.model import adapter as adapters
    from alignlaunch.train.stages import registry

    module = registry.load(stage)  # type: ignore[arg-type]
    own: dict[str, Any] = {
        "orpo": {"max_prompt_length": settings["max_length"]},
        "dpo": {"precompute_ref_log_probs": False},  # as TRL's
    }
    args = module.Config(**settings, **own.get(stage, {}))
    encode = module.encoder(tokenizer, args)
    rows = Dataset.from_list([row for record in records for row in encode(record).rows])
    trainer = module.trainer(args, model, adapter(stage), tokenizer, rows, None)
    adapters.settle(trainer.model, args)
    return trainer


def _theirs(stage: str, model: Any, tokenizer: Any, records: list[dict[str, str]], settings: dict[str, Any]) -> Any:
    import trl
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    trainers: dict[str, Any] = {
        "sft": (trl.SFTTrainer, trl.SFTConfig),  # type: ignore[attr-defined]
        "dpo": (trl.DPOTrainer, trl.DPOConfig),  # type: ignore[attr-defined]
        "orpo": (ORPOTrainer, ORPOConfig),
        "rm": (trl.RewardTrainer, trl.RewardConfig),  # type: ignore[attr-defined]
    }
    trainer, config = trainers[stage]
    return trainer(
        model=model,
        args=config(**settings),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(records),
        peft_config=adapter(stage),
    )


def train(trainer: Any) -> tuple[float, float]:
    """Train. Returns the seconds of a step (the median of those after the first), and the loss before any training."""
    import torch
    from transformers import TrainerCallback

    times: list[float] = []

    def note() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the device may still be at work
        times.append(time.monotonic())

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            note()

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            note()

    trainer.add_callback(Clock())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    steps = [b - a for a, b in itertools.pairwise(times)]
    return statistics.median(steps[1:]), losses[0]


def spread(ratios: list[float]) -> str:
    """Their median, and the least and the most."""
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f})"
