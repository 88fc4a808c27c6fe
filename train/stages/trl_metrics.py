"""TRL's trainers and what they have measured since the last record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..model.next_token import NextTokenHead
from ..outputs.manifest import Measured
from .trainer import StageTrainer


class TrlTrainer(StageTrainer):
    """Mixin for a TRL trainer: a checkpoint keeps the metrics that it has gathered from all ranks, and its tokens."""

    #: The values since the last record, by metric, of training and of evaluation; the same on every rank.
    _metrics: Any
    _total_train_tokens: int
    head: NextTokenHead
    #: Metrics that are made of what the head measures.
    of_head: tuple[str, ...] = ()

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss. What the head measures besides is measured only in the steps that are logged, and in evaluation.

        A record's value is then the mean of its own step's micro-batches.
        """
        step, ours = self.state.global_step + 1, self.args
        logged = step % self.state.logging_steps == 0 or (step == 1 and ours.logging_first_step)
        if logged or not model.training or ours.logging_strategy != "steps" or not self.of_head:
            return super().compute_loss(model, *args, **kwargs)  # type: ignore[misc]
        self.head.measuring = False
        try:
            loss = super().compute_loss(model, *args, **kwargs)  # type: ignore[misc]
        finally:
            self.head.measuring = True
        metrics = self._metrics["train"]
        for name in self.of_head:
            metrics[name].pop()
            if not metrics[name]:
                del metrics[name]  # TRL divides by their number
        return loss

    def measured(self) -> Measured | None:
        """Rank 0's values, and the tokens trained on."""
        if self.args.process_index != 0:
            return None
        return Measured.of(self._metrics["train"], int(self._total_train_tokens))

    def measure_on(self, parts: Sequence[Measured | None]) -> None:
        """Take over the values, on rank 0, which alone records them, and the tokens."""
        if not parts or parts[0] is None:
            return
        self._total_train_tokens = parts[0].count
        if self.args.process_index == 0:
            self._metrics["train"].update(parts[0].values)
