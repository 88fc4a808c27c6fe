"""What a resumed run takes from the job or the manifest, and not from transformers' checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ..processes import sharing
from ..processes.rendezvous import Rendezvous
from ..reporting import say
from . import universal
from .manifest import Manifest, Measured


class ResumedTrainer:
    """Mixin for a Trainer: the records after a resume are those of a run that was never interrupted."""

    #: Whether the losses of all steps are in the trainer's sum, also those of earlier attempts.
    knows_all_losses = True
    args: Any
    state: Any
    _total_loss_scalar: float

    def measured(self) -> Measured | None:
        """What this rank has measured for the next record, besides the loss; None: nothing."""
        return None

    def measure_on(self, parts: Sequence[Measured | None]) -> None:
        """Take over what the ranks of an earlier attempt had measured."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the mean loss of all steps at the end. (Transformers' is that of the last attempt's steps.)"""
        if "train_loss" in logs and not self.knows_all_losses:
            del logs["train_loss"]
        elif "train_loss" in logs and self.state.global_step:
            logs["train_loss"] = self._total_loss_scalar / self.state.global_step
        super().log(logs, start_time)  # type: ignore[misc]


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


class Converted(TrainerCallback):
    """A checkpoint that was converted for this run alone is removed once all ranks have loaded it."""

    def __init__(self, folder: Path, place: Rendezvous) -> None:
        self._folder, self._place = folder, place

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """It is loaded. A collective."""
        del args, state, control, kwargs
        sharing.once(lambda: universal.forget(self._folder), self._folder, self._place)


class Unfinished(TrainerCallback):
    """What was under way at the checkpoint goes on: the means until the next record, and an evaluation."""

    def __init__(self, trainer: Any, saved: Manifest | None) -> None:
        self._trainer, self._saved = trainer, saved

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take over what no record has yet. (Transformers and TRL would leave it out of the next one.)"""
        del control, kwargs
        total = self._saved.total_loss if self._saved else None
        if state.global_step:
            self._trainer.knows_all_losses = total is not None
            self._trainer._total_loss_scalar = total or 0.0
        if self._saved is None or self._saved.logged is None:
            return
        losses = self._saved.unlogged
        same = len(losses) == args.world_size
        self._trainer._tr_loss.fill_(losses[args.process_index] if same else sum(losses) / len(losses))
        self._trainer._globalstep_last_logged = self._saved.logged
        self._trainer.measure_on(self._saved.measured)
        self._trainer.evaluation_due = self._saved.evaluation_due

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate what was left: not before, as only now the random state is restored."""
        del args, state, control
        self._settle_last_batch(kwargs["train_dataloader"])
        self._trainer.evaluate_due()

    def _settle_last_batch(self, whole: Any) -> None:
        """Tell how many records the epoch's last batch has over all ranks, so that metrics leave out the filling.

        (Accelerate does not know it of a loader that skips the batches trained before: its metrics would be others.)
        """
        loader = self._trainer.accelerator.gradient_state.active_dataloader
        if loader is not None and loader is not whole and loader.remainder == -1 and not whole._drop_last:
            loader.remainder = len(whole.dataset) % whole.total_batch_size
