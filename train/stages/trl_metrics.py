"""TRL's trainers and what they have measured since the last record: each rank its own, until a record is made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ..model.next_token import NextTokenHead
from ..outputs.manifest import Measured
from .trainer import StageTrainer

#: How the ranks' values of a micro-step become one, where that is not their mean; a tensor (ranks, micro-steps).
COMBINED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "num_tokens": lambda values: values.sum(0),
    "min_reward": lambda values: values.amin(0),
    "max_reward": lambda values: values.amax(0),
}


class Alone:
    """An accelerator that gathers nothing from other ranks, so that TRL's metrics are those of this rank's batch."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accelerator, name)

    def gather(self, value: Any) -> Any:
        """The value itself, as of a world of one."""
        return value

    gather_for_metrics = gather


class TrlTrainer(StageTrainer):
    """Mixin for a TRL trainer: its metrics cost one collective a record, and a checkpoint keeps them.

    TRL gathers each metric from all ranks in each micro-step.
    """

    #: This rank's values since the last record, by metric, of training; of evaluation those of all ranks.
    _metrics: Any
    #: The tokens that this rank has trained on.
    _total_train_tokens: int
    accelerator: Any
    head: NextTokenHead
    #: Metrics that are made of what the head measures.
    of_head: tuple[str, ...] = ()

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss. What the head measures besides is measured only in the steps that are logged, and in evaluation.

        A record's value is then the mean of its own step's micro-batches.
        """
        if not model.training:
            return super().compute_loss(model, *args, **kwargs)  # type: ignore[misc]
        step, ours = self.state.global_step + 1, self.args
        logged = step % self.state.logging_steps == 0 or (step == 1 and ours.logging_first_step)
        unmeasured = () if logged or ours.logging_strategy != "steps" else self.of_head
        if unmeasured:
            self.head.measuring = False
        try:
            with self.alone():
                loss = super().compute_loss(model, *args, **kwargs)  # type: ignore[misc]
        finally:
            if unmeasured:
                self.head.measuring = True
        metrics = self._metrics["train"]
        for name in unmeasured:
            metrics[name].pop()
            if not metrics[name]:
                del metrics[name]  # TRL divides by their number
        return loss

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within the context no metric is gathered from other ranks."""
        everyone, self.accelerator = self.accelerator, Alone(self.accelerator)
        try:
            yield
        finally:
            self.accelerator = everyone

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add TRL's metrics, in training those of all ranks by one collective."""
        metrics = self._metrics["train"]
        if self.model.training and metrics:
            names, lengths = [*metrics], [len(values) for values in metrics.values()]
            own = torch.tensor([v for values in metrics.values() for v in values], dtype=torch.float64)
            everyone = self.accelerator.gather(own.to(self.args.device)).view(-1, len(own)).cpu()
            for name, values in zip(names, everyone.split(lengths, 1), strict=True):
                metrics[name] = COMBINED.get(name, _mean)(values).tolist()
        super().log(logs, start_time)

    def measured(self) -> Measured | None:
        """This rank's values, and the tokens that it has trained on."""
        return Measured.of(self._metrics["train"], int(self._total_train_tokens))

    def measure_on(self, parts: Sequence[Measured | None]) -> None:
        """Take over the values and tokens of as many ranks, or else an equal share of them."""
        known = [part for part in parts if part is not None]
        if not known:
            return
        world, rank = self.args.world_size, self.args.process_index
        if len(known) == world:
            values, self._total_train_tokens = known[rank].values, known[rank].count
        else:
            every = [part.values for part in known]
            values = {name: _mean(torch.tensor([each[name] for each in every])).tolist() for name in every[0]}
            total = sum(part.count for part in known)
            self._total_train_tokens = total // world + (rank < total % world)
        self._metrics["train"].update(values)


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean(0)
