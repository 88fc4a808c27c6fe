"""Direct preference optimisation (arXiv 2305.18290) by TRL's DPOTrainer, with its losses and mixes (`loss_type`).

The rows come tokenised from `encoding`, so that the prompt ends where the chat template ends it. The reference is the
model without its adapter, or for a full fine-tune a frozen copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]
from trl.trainer.dpo_trainer import DataCollatorForPreference

from alignlaunch.train import encoders, vocabulary
from alignlaunch.train.trainer import StageTrainer

HEAD = "lm"
Config = DPOConfig
encoder, image_encoder = encoders.dpo, encoders.dpo_images


@dataclass
class Collator(DataCollatorForPreference):
    """TRL's, but of an answer of several turns only the assistant's count, not the answers of tools between them."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch; its `completion_mask` is (2 B, T), chosen before rejected."""
        batch: dict[str, Any] = super().torch_call(examples)
        sides = [(example, side) for side in ("chosen", "rejected") for example in examples]
        for row, (example, side) in zip(batch["completion_mask"], sides, strict=True):
            learnt = [False] * len(example["prompt_ids"]) + example[f"{side}_learnt"]
            cut = (
                slice(-self.max_length, None)
                if self.truncation_mode == "keep_end" and self.max_length
                else slice(None, self.max_length)
            )
            marks = torch.tensor(learnt[cut], dtype=row.dtype)
            row[: len(marks)] *= marks
        return batch


class Trainer(StageTrainer, DPOTrainer):
    """TRL's trainer on rows that are prepared already, with its speed measured."""

    sequences_per_sample = 2
    _signature_columns: Any

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[no-untyped-call]
        self._signature_columns += ["chosen_learnt", "rejected_learnt"]

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    collator = None
    if "chosen_learnt" in train.column_names:
        collator = Collator(tokenizer.pad_token_id, args.max_length, args.truncation_mode, args.pad_to_multiple_of)
    return Trainer(
        data_collator=collator,
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
        peft_config=adapter,
        ref_model=None if adapter or args.precompute_ref_log_probs else _reference(model),
    )


def _reference(model: Any) -> Any:
    """The start model once more; TRL would load it without the rows of a larger tokenizer."""
    reference = type(model).from_pretrained(
        model.config.name_or_path, dtype=model.dtype, attn_implementation=model.config._attn_implementation
    )
    vocabulary.grow(reference, model.config.get_text_config().vocab_size)
    return reference
