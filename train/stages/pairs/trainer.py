"""The trainer of our own preference stages: exact means over pairs.

Every loss and metric is a sum over pairs divided by a count. The counts are those of the whole global step (all ranks,
all accumulated micro-batches), so that results do not depend on how a step is split into ranks and micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from ...outputs.manifest import Measured
from ..trainer import StageTrainer
from .collate import Batch


class PairTrainer(StageTrainer, transformers.Trainer):
    """A Trainer whose loss is made of means over pairs (or over their tokens)."""

    sequences_per_sample = 2
    # compute_loss already divides by the step's totals, so the Trainer must not divide by the accumulation steps.
    loss_is_scaled_for_ga = True

    args: Any  # the stage's own config; the base class declares a TrainingArguments
    _signature_columns: Any

    #: Columns of the rows that the collator reads.
    columns: tuple[str, ...]
    #: Names of the M columns of `measure`, as they are logged.
    metrics: tuple[str, ...]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, compute_metrics=self._evaluation_metrics)
        self._sums: torch.Tensor | None = None
        self._steps = 0
        self._step_shares = torch.zeros(())

    def measure(self, model: Any, inputs: Batch) -> torch.Tensor:
        """What each pair adds to the numerator of each of `metrics`, (B, M); those in the loss carry gradients."""
        raise NotImplementedError

    def counts(self, inputs: Batch) -> torch.Tensor:
        """What each pair adds to the denominator of each metric's mean, (B, M); 1 unless a stage says otherwise."""
        ids = inputs["input_ids"]
        return torch.ones(len(ids) // 2, len(self.metrics), dtype=torch.long, device=ids.device)

    def loss_of(self, means: dict[str, Any]) -> Any:
        """The loss from the means of the metrics. It must be linear in them, as it is applied to partial sums."""
        raise NotImplementedError

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(self.columns)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The micro-batches of one step, and each metric's total count in them over all ranks (M,). A collective."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._steps += 1
        self._step_shares = torch.zeros(())
        totals = torch.zeros(len(self.metrics), dtype=torch.long, device=device)
        for batch in batches:
            totals += self.counts(batch).sum(0)
        return batches, self.accelerator.reduce(totals, "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Local sum / global count x world size, because DDP and DeepSpeed average gradients over the ranks.

        num_items_in_batch: the counts (M,) of the whole step, from `get_batch_samples`.
        """
        if num_items_in_batch is None or return_outputs:
            raise NotImplementedError("the loss needs the step's totals and gives no outputs; see prediction_step")
        shares = self.measure(model, inputs).sum(0) / num_items_in_batch.clamp(min=1)
        self._step_shares = self._step_shares + shares.detach()
        self._sums = shares.detach() if self._sums is None else self._sums + shares.detach()
        return self.loss_of(self._named(shares)) * self.accelerator.num_processes

    def measured(self) -> Measured | None:
        """The sums of this rank since the last record, and the steps."""
        if self._sums is None:
            return None
        return Measured.of(self._named([[value] for value in self._sums.tolist()]), self._steps)

    def measure_on(self, parts: Sequence[Measured | None]) -> None:
        """Take over the sums of as many ranks, or else an equal share of them."""
        known = [part for part in parts if part is not None]
        if not known:
            return
        same, rank = len(parts) == self.args.world_size, self.args.process_index
        values = [part.values for part in known]
        mine = [
            values[rank][name][0] if same else sum(each[name][0] for each in values) / self.args.world_size
            for name in self.metrics
        ]
        self._sums, self._steps = torch.tensor(mine, device=self.args.device), known[0].count

    def step_mean(self, metric: str) -> float:
        """The metric's mean over the global step that has just ended. A collective."""
        return float(self.accelerator.reduce(self._step_shares[self.metrics.index(metric)], "sum"))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the metrics over the steps since the last record, with one small all-reduce."""
        if "loss" in logs and self._sums is not None:
            logs |= self._named((self.accelerator.reduce(self._sums, "sum") / self._steps).tolist())
            self._sums, self._steps = None, 0
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """The metrics of each pair and their counts, instead of a batch's loss, so that evaluation means are exact."""
        del prediction_loss_only, ignore_keys
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            values = self.measure(model, inputs)
        return None, values, self.counts(inputs)

    def _evaluation_metrics(self, prediction: Any) -> dict[str, float]:
        counts = prediction.label_ids.sum(0).clip(min=1)
        means = self._named((prediction.predictions.sum(0, dtype="float64") / counts).tolist())
        return {"loss": self.loss_of(means)} | means

    def _named(self, values: Any) -> dict[str, Any]:
        return dict(zip(self.metrics, values, strict=True))
