"""What the trainers of all stages add to TRL's or transformers'."""

from __future__ import annotations

from ..outputs.saving import WriterTrainer
from ..reporting import MeasuredTrainer
from .finite import FiniteTrainer


class StageTrainer(FiniteTrainer, WriterTrainer, MeasuredTrainer):
    """Mixin for a Trainer: stops at a loss that is not finite, measures speed, saves without needless copies."""
