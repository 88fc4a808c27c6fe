"""What the trainers of all stages add to TRL's or transformers'."""

from __future__ import annotations

from ..beating import BeatingTrainer
from ..outputs.saving import WriterTrainer
from ..outputs.tiers import TieredTrainer
from ..reporting import MeasuredTrainer
from ..stopping import StoppingTrainer
from .finite import FiniteTrainer


class StageTrainer(FiniteTrainer, BeatingTrainer, StoppingTrainer, TieredTrainer, WriterTrainer, MeasuredTrainer):
    """Mixin for a Trainer: ends at a loss that is not finite, shows that it is alive, stops on request, commits
    checkpoints, measures speed, copies no more than is saved."""
