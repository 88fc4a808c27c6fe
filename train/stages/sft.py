"""Supervised fine-tuning by TRL's SFTTrainer; the loss is on the assistant's turns (or the completion) only.

The rows are already tokenised and labelled (`data.encoding`), so that the mask is right for every chat template (TRL's
own `assistant_only_loss` needs templates with generation marks). TRL packs, pads and trains. The loss is the mean over
the tokens of the global step, in evaluation over the tokens of all records; neither depends on the split into batches.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from ..data.encoding import encoders
from ..model import next_token
from .trl_metrics import TrlTrainer

HEAD = "lm"
Config = SFTConfig
encoder, image_encoder = encoders.sft, encoders.sft_images


class Trainer(TrlTrainer, SFTTrainer):
    """TRL's trainer, with an exact evaluation. (TRL's own is a mean of the batches' means.)"""

    of_head = ("entropy", "mean_token_accuracy")

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """Each record's sums of loss, accuracy and entropy over its learnt tokens (B, 3), and their number (B, 1)."""
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        learnt = outputs.label_mask
        values = torch.stack([-outputs.log_probs, outputs.is_top1, outputs.entropy, learnt], dim=-1).double()
        values = values * learnt.unsqueeze(-1)
        if "seq_idx" in inputs:  # padding-free: all records of the batch in one row
            record = inputs["seq_idx"][0, -values.shape[1] :].long()
            sums = values.new_zeros(int(record[-1]) + 1, values.shape[-1]).index_add(0, record, values[0])
        else:
            sums = values.sum(1)
        return None, sums[:, :-1], sums[:, -1:]


def token_means(prediction: Any) -> dict[str, float]:
    """The means over all learnt tokens, from the records' sums (records, 3) and counts (records, 1)."""
    means = prediction.predictions.sum(0) / max(prediction.label_ids.sum(), 1)
    return dict(zip(("loss", "mean_token_accuracy", "entropy"), means.tolist(), strict=True))


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    if args.packing and args.packing_strategy != "wrapped":
        args.eval_packing = False  # the records in a packed row could not be told apart
    if args.padding_free and not args.packing:
        args.max_length = None  # TRL refuses it here, as it truncates nothing; the rows are truncated
    made = Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
        peft_config=adapter,
        compute_metrics=token_means,
    )
    made.head = next_token.install(made.model, "entropy", "is_top1")
    return made
