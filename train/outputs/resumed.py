"""What a resumed run takes from the job or the manifest, and not from transformers' checkpoint."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from ..reporting import say
from .manifest import Manifest


class JobSettings(TrainerCallback):
    """The intervals of saving, logging and evaluating, and the learning rate, are those that the job file has now."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set them once the checkpoint is loaded. (Transformers would take the checkpoint's without a word.)"""
        del control
        if not state.global_step:
            return
        state.compute_steps(args, state.max_steps)
        # accelerate wraps both.
        scheduler = getattr(kwargs["lr_scheduler"], "scheduler", kwargs["lr_scheduler"])
        if not hasattr(scheduler, "lr_lambdas"):
            say(f"the learning rate is the checkpoint's: {type(scheduler).__name__} cannot be given another")
            return
        if set(scheduler.base_lrs) == {args.learning_rate}:
            return
        scheduler.base_lrs = [args.learning_rate for _ in scheduler.base_lrs]
        groups = scheduler.optimizer.param_groups
        for group, base, shape in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            group["initial_lr"] = base
            group["lr"] = base * shape(scheduler.last_epoch)
        scheduler._last_lr = [group["lr"] for group in groups]


class Unfinished(TrainerCallback):
    """What was under way at the checkpoint goes on: the mean loss until the next record, and an evaluation."""

    def __init__(self, trainer: Any, saved: Manifest | None) -> None:
        self._trainer, self._saved = trainer, saved

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take over the losses that no record has yet. (Transformers would leave them out of the next one.)"""
        del state, control, kwargs
        if self._saved is None or self._saved.logged is None:
            return
        losses = self._saved.unlogged
        same = len(losses) == args.world_size
        self._trainer._tr_loss.fill_(losses[args.process_index] if same else sum(losses) / len(losses))
        self._trainer._globalstep_last_logged = self._saved.logged
        self._trainer.evaluation_due = self._saved.evaluation_due

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate what was left: not before, as only now the random state is restored."""
        del args, state, control, kwargs
        self._trainer.evaluate_due()
