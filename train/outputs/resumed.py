"""What a resumed run takes from the job, and not from the checkpoint as transformers would without a word."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from ..reporting import say


class JobSettings(TrainerCallback):
    """The intervals of saving, logging and evaluating, and the learning rate, are those that the job file has now."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set them once the checkpoint is loaded."""
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
