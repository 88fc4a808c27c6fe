"""Reward models by TRL's RewardTrainer: one score a sequence, trained with -log sigmoid(r_chosen - r_rejected).

Chosen and rejected answers go through the model in one forward. Evaluation reports the share of pairs in the right
order (`eval_accuracy`) and their mean distance (`eval_margin`). A record's `margin` is the distance that is wanted:
-log sigmoid(r_chosen - r_rejected - margin).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from trl import RewardConfig, RewardTrainer  # type: ignore[attr-defined]

from alignlaunch.train import encoders
from alignlaunch.train.trainer import StageTrainer

HEAD = "score"
Config = RewardConfig
encoder = encoders.rm


class Trainer(StageTrainer, RewardTrainer):
    """TRL's trainer on rows that are tokenised already, with its speed measured and an exact evaluation."""

    sequences_per_sample = 2

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """Each pair's scores and margin; TRL's means of batch means depend on how the pairs were dealt out."""
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        margin = inputs.pop("margin", None)
        with torch.no_grad(), self.compute_loss_context_manager():
            chosen, rejected = model(**inputs, use_cache=False).logits.float().squeeze(-1).chunk(2)
        margin = torch.zeros_like(chosen) if margin is None else margin
        return None, torch.stack([chosen, rejected], dim=1), margin


def pair_metrics(prediction: Any) -> dict[str, float]:
    """Loss, accuracy and margin over all pairs, from scores (pairs, 2) and wanted margins (pairs,)."""
    distance = torch.tensor(prediction.predictions[:, 0] - prediction.predictions[:, 1])
    wanted = torch.tensor(prediction.label_ids)
    return {
        "loss": float(-F.logsigmoid(distance - wanted).mean()),
        "accuracy": float((distance > 0).float().mean()),
        "margin": float(distance.mean()),
    }


def trainer(args: Any, model: Any, adapter: Any, tokenizer: Any, train: Any, evaluation: Any) -> Any:
    """Make the trainer."""
    return Trainer(
        model=model,
        args=args,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluation,
        peft_config=adapter,
        compute_metrics=pair_metrics,
    )
