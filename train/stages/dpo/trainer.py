"""Direct preference optimisation (arXiv 2305.18290) by TRL's DPOTrainer, with its losses and mixes (`loss_type`).

The rows are already tokenised (`data.encoding`), so that the prompt ends where the chat template ends it. The reference
is the model without its adapter, or for a full fine-tune a frozen copy; or it is computed before training
(`reference`). Evaluation is a mean over all pairs, which does not depend on how they are split into batches.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from trl import DPOTrainer  # type: ignore[attr-defined]

from ...data.encoding import encoders
from ...model import next_token
from ...model.frozen import load_again
from ...reporting import say
from ..pairs.logps import share
from ..trl_metrics import TrlTrainer
from . import reference
from .collator import Collator

HEAD = "lm"
encoder, image_encoder = encoders.dpo, encoders.dpo_images
#: What rounding in 16 bits may make of the first loss.
FIRST_LOSS_WITHIN = 0.02


class Trainer(TrlTrainer, DPOTrainer):
    """TRL's trainer on tokenised rows, with an exact evaluation. (TRL's is a mean of the batches' means.)"""

    sequences_per_sample = 2
    unrounded = reference.COLUMNS
    of_head: tuple[str, ...] = ("entropy", "mean_token_accuracy", "logits/chosen", "logits/rejected")
    _signature_columns: Any
    _evaluated: tuple[str, ...] = ()
    _has_begun = False

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss. Says so if the first one is not ln 2: before any training the policy is its reference."""
        loss = super().compute_loss(model, *args, **kwargs)
        if model.training and not self._has_begun:
            self._has_begun = True
            plain = self.loss_types == ["sigmoid"] and not (self.use_weighting or self.args.label_smoothing)
            if plain and self.state.global_step == 0 and abs(float(loss) - math.log(2)) > FIRST_LOSS_WITHIN:
                say(
                    f"the first loss is {float(loss):.4f} and not ln 2 = 0.6931: the reference does not compute what "
                    "the model computes before it is trained. Look at their precision, or train with "
                    "`precompute_ref_log_probs: false`."
                )
        return loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """The loss and TRL's metrics, M in all, of the one pair of a batch: (1, M)."""
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        with self.alone(), torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        found = {"loss": float(loss)} | {name: values[-1] for name, values in self._metrics["eval"].items()}
        found.pop("num_tokens", None)  # those of training
        self._metrics["eval"].clear()
        self._evaluated = tuple(found)
        values = torch.tensor([[*found.values()]], dtype=torch.float64, device=self.args.device)
        return None, values, values

    def pair_means(self, prediction: Any) -> dict[str, float]:
        """The means over all pairs, from their values (pairs, M), by name."""
        return dict(zip(self._evaluated, prediction.predictions.mean(0).tolist(), strict=True))

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[no-untyped-call]
        self._signature_columns += ["chosen_learnt", "rejected_learnt"]

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # `reference` adds them, once the model has its head


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    if args.precompute_ref_log_probs is None:
        args.precompute_ref_log_probs = reference.is_worth_keeping(args, train)
    collator = None
    if "chosen_learnt" in train.column_names:
        collator = Collator(tokenizer.pad_token_id, args.max_length, args.truncation_mode, args.pad_to_multiple_of)
    # TRL would load the reference without the rows that a larger tokenizer adds. With `precompute_ref_log_probs` the
    # policy itself is the reference, before training.
    frozen = None if adapter or args.precompute_ref_log_probs else load_again(model, args)
    if evaluation is not None and args.per_device_eval_batch_size != 1:
        say(f"train.per_device_eval_batch_size: 1 instead of {args.per_device_eval_batch_size}: each pair by itself")
    args.per_device_eval_batch_size = 1  # one pair (two sequences), whose loss is the batch's
    made = Trainer(
        data_collator=collator,
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
        peft_config=adapter,
        ref_model=frozen,
    )
    made.compute_metrics = made.pair_means
    measured = ["entropy", "mean_logits", "is_top1"]
    if made.use_weighting:  # the loss is made of it
        measured.append("log_sum_sq_probs")
        made.of_head = ()
    made.head = next_token.install(made.model, *measured)
    share(made.model)
    if made.ref_model is not None:
        copy = made.accelerator.unwrap_model(made.ref_model)
        next_token.install(copy)
        share(copy)
    if args.precompute_ref_log_probs:
        reference.keep(made)
    return made
