"""What the trainers of all stages add to TRL's or transformers'."""

from __future__ import annotations

from typing import Any

from ..beating import BeatingTrainer
from ..model.adapter import base_of
from ..outputs.saving import WriterTrainer
from ..outputs.tiers import TieredTrainer
from ..reporting import MeasuredTrainer
from ..stopping import StoppingTrainer
from .finite import FiniteTrainer


class StageTrainer(FiniteTrainer, BeatingTrainer, StoppingTrainer, TieredTrainer, WriterTrainer, MeasuredTrainer):
    """Mixin for a Trainer: ends at a loss that is not finite, shows that it is alive, stops on request, commits
    checkpoints, measures speed, copies no more than is saved."""

    #: Inputs that keep their precision: under DeepSpeed the Trainer would cast them to the weights' dtype.
    unrounded: tuple[str, ...] = ()

    def _prepare_inputs(self, inputs: Any) -> Any:
        kept = {name: inputs[name].to(self.args.device) for name in self.unrounded if name in inputs}
        prepared = super()._prepare_inputs(inputs)  # type: ignore[misc]
        return prepared | kept if kept else prepared

    def tokens_saved(self) -> int:
        """The tokens of prompts that were not computed a second time (`pairs.shared`)."""
        return int(getattr(base_of(self.accelerator.unwrap_model(self.model)), "tokens_saved", 0))
