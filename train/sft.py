"""Supervised fine-tuning by TRL's SFTTrainer; the loss is on the assistant's turns (or the completion) only.

The rows come tokenised and labelled from `encoding`, so that the mask is right for every chat template (TRL's own
`assistant_only_loss` needs templates with generation marks). TRL packs, pads and trains. Its loss is the mean over the
tokens of the global step.
"""

from __future__ import annotations

from typing import Any

from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from alignlaunch.train import encoders
from alignlaunch.train.trainer import StageTrainer

HEAD = "lm"
Config = SFTConfig
encoder, image_encoder = encoders.sft, encoders.sft_images


class Trainer(StageTrainer, SFTTrainer):
    """TRL's trainer, with its speed measured."""


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    return Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
        peft_config=adapter,
    )
