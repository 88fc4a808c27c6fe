"""What the trainers of all stages add to TRL's or transformers'."""

from __future__ import annotations

from ..outputs.commit import CommittingTrainer
from ..outputs.saving import WriterTrainer
from ..reporting import MeasuredTrainer
from .finite import FiniteTrainer


class StageTrainer(FiniteTrainer, CommittingTrainer, WriterTrainer, MeasuredTrainer):
    """Mixin for a Trainer: stops at a loss that is not finite, commits checkpoints, measures speed, copies no more than
    is saved."""
