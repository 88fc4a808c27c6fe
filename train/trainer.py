"""What the trainer of every stage adds to TRL's or transformers'."""

from __future__ import annotations

from alignlaunch.train.finite import FiniteTrainer
from alignlaunch.train.reporting import MeasuredTrainer
from alignlaunch.train.saving import WriterTrainer


class StageTrainer(FiniteTrainer, WriterTrainer, MeasuredTrainer):
    """Mixin for a Trainer: stops at a loss that is not finite, measures its speed, saves without needless copies."""
