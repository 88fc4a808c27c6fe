"""Reward models by TRL's RewardTrainer: one score per sequence, trained with -log sigmoid(r_chosen - r_rejected).

Chosen and rejected answers go through the model in one forward. Evaluation reports the share of pairs in the right
order (`eval_accuracy`) and the mean of r_chosen - r_rejected (`eval_margin`). A record's `margin` is the wanted
difference: -log sigmoid(r_chosen - r_rejected - margin).

Pairs determine scores only up to a constant, but safe_dpo takes a harmless score above 0 for a safe answer. A record's
`safety_labels` fix the sign: see `sign_loss`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from trl import RewardConfig, RewardTrainer  # type: ignore[attr-defined]
from trl.trainer.reward_trainer import DataCollatorForPreference

from ..data.encoding import encoders
from .pairs.logps import share
from .trl_metrics import TrlTrainer

HEAD = "score"
Config = RewardConfig
encoder = encoders.rm
SAFE = ("chosen_safe", "rejected_safe")


def sign_loss(scores: torch.Tensor, safe: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(s r), summed over a pair's two answers: from the cost model of Safe RLHF (arXiv 2310.12773), eq. 6.

    scores: r (pairs, 2). safe: s (pairs, 2), 1 safe, -1 unsafe, 0 not judged (no loss). Returns (pairs,).
    """
    return (-F.logsigmoid(safe * scores) * safe.abs()).sum(1)


@dataclass
class Collator(DataCollatorForPreference):
    """TRL's collator, with the safety labels, if the rows have them, as `safe` (pairs, 2)."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Batch the rows."""
        batch: dict[str, Any] = super().torch_call(examples)
        if SAFE[0] in examples[0]:
            batch["safe"] = torch.tensor([[row[name] for name in SAFE] for row in examples], dtype=torch.float)
        return batch


class Trainer(TrlTrainer, RewardTrainer):
    """TRL's trainer on tokenised rows, with the loss of safety labels and an exact evaluation."""

    sequences_per_sample = 2

    _signature_columns: Any

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["chosen_ids", "rejected_ids", "margin", *SAFE]

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's mean loss over the pairs, plus the mean of `sign_loss`."""
        safe = inputs.pop("safe", None)
        both: Any = super().compute_loss
        loss, outputs = both(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if safe is not None:
            loss = loss + sign_loss(_paired(outputs.logits), safe).mean()
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """Each pair's scores (B, 2), and its margin and labels (B, 3).

        (TRL's means of batch means depend on how the pairs are split into batches.)
        """
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        margin, safe = inputs.pop("margin", None), inputs.pop("safe", None)
        with torch.no_grad(), self.compute_loss_context_manager():
            scores = _paired(model(**inputs, use_cache=False).logits)
        margin = torch.zeros_like(scores[:, 0]) if margin is None else margin
        safe = torch.zeros_like(scores) if safe is None else safe
        return None, scores, torch.cat([margin[:, None], safe], dim=1)


def _paired(logits: torch.Tensor) -> torch.Tensor:
    """Scores (pairs, 2) of chosen and rejected answers from those of all chosen, then all rejected, (2 pairs, 1)."""
    return torch.cat(logits.float().chunk(2), dim=1)


def pair_metrics(prediction: Any) -> dict[str, float]:
    """Loss, accuracy and margin over all pairs. From predictions: scores (pairs, 2); from label_ids (pairs, 3): the
    wanted margin and both safety labels.

    sign_accuracy: the share of labelled answers whose score is above 0 if they are safe, below 0 if not.
    """
    scores, given = torch.tensor(prediction.predictions), torch.tensor(prediction.label_ids)
    distance, safe = scores[:, 0] - scores[:, 1], given[:, 1:]
    found = {
        "loss": float((-F.logsigmoid(distance - given[:, 0]) + sign_loss(scores, safe)).mean()),
        "accuracy": float((distance > 0).float().mean()),
        "margin": float(distance.mean()),
    }
    if safe.any():
        found["sign_accuracy"] = float((safe * scores > 0)[safe != 0].float().mean())
    return found


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    share(model)
    return Trainer(
        model=model,
        args=args,
        data_collator=Collator(tokenizer.pad_token_id, pad_to_multiple_of=args.pad_to_multiple_of),
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
        peft_config=adapter,
        compute_metrics=pair_metrics,
    )
