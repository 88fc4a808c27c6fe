"""Telling that a run has started, or resumed."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from .notify import telling
from .recording import recording


class Announcing(TrainerCallback):
    """Tells it when training begins, and not before: what fails in the preparation has not started."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell of the start, or of the end of the attempt before, after which the run goes on."""
        del args, control, kwargs
        before = recording.before
        telling.tell("resumed" if before else "started", state.global_step, state.max_steps, cause=before or "")
