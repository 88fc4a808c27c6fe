"""Saving and stopping on request between two steps, and in evaluation: all ranks at the same one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from . import finish
from .errors import Interrupted
from .outputs import checkpoints
from .processes import requests, sharing, spread
from .processes.rendezvous import Rendezvous
from .processes.requests import Request
from .reporting import say


class StoppingTrainer:
    """Mixin for a Trainer that `Stopping` may interrupt, also while it evaluates."""

    #: Whether the run was asked to stop, and does.
    stops = False
    #: Whether the evaluation of the present step has been left, or put off.
    evaluation_due = False

    state: Any
    control: Any

    def evaluate_due(self) -> None:
        """Do the evaluation that was left. Raises Interrupted if this one is left, too."""
        if self.evaluation_due:
            self.evaluation_due = False
            metrics = self._evaluate(None, None)
            if not metrics:
                raise Interrupted
            self._determine_best_metric(metrics, None)

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate between two steps; if a request comes, leave it, with the random state as it was before."""
        before = torch.get_rng_state()
        try:
            return super()._evaluate(*args, **kwargs)  # type: ignore[misc, no-any-return]
        except Interrupted:
            torch.set_rng_state(before)
            self.evaluation_due = self.state.global_step > 0
            return {}

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Nothing is best if the evaluation was left, but it is saved, also where only the best is."""
        if not metrics:
            return True
        return super()._determine_best_metric(metrics, trial)  # type: ignore[misc, no-any-return]

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train, unless the last step was trained before. (Transformers would train another one.)"""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)  # type: ignore[misc]

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """End the training, of which the last evaluation may be left from an earlier attempt."""
        if not self.stops:
            self.evaluate_due()
        return super()._finalize_training(*args, **kwargs)  # type: ignore[misc]


class Stopping(TrainerCallback):
    """Has the trainer save, or save and stop, when any rank was asked to."""

    def __init__(self, trainer: Any, place: Rendezvous) -> None:
        self._trainer, self._place = trainer, place
        self._flag = torch.zeros(1, dtype=torch.uint8)
        # gloo, as NCCL would wait for the GPU. With the time-out of training, after which a hang is reported.
        timeout = timedelta(seconds=trainer.args.ddp_timeout)
        self._group = dist.new_group(backend="gloo", timeout=timeout) if place.world_size > 1 else None
        self._request = Request.NONE

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From here on there is something to save."""
        del args, control, kwargs
        requests.listener.defer()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Have the trainer save after this step, and stop. A collective."""
        del args, kwargs
        self._request = self._agreed()
        self._trainer.is_waited_for = self._request != Request.NONE
        if self._request == Request.NONE or state.global_step >= state.max_steps:
            return
        control.should_save = True
        if self._request == Request.STOP:
            self._stop(control)
            self._put_off_evaluation(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last step of an epoch has been saved by now; the evaluation of the epoch is put off."""
        del args, state, kwargs
        if self._trainer.stops and control.should_evaluate:
            control.should_save = True
            self._put_off_evaluation(control)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Raise Interrupted if the run is to stop. A collective."""
        del args, state, kwargs
        self._request = max(self._request, self._agreed())
        if self._request == Request.STOP:
            control.should_save = self._trainer.is_waited_for = True
            self._stop(control)
            raise Interrupted

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The request is carried out."""
        del state, control, kwargs
        if self._request and self._place.local_rank == 0:
            requests.carried_out(Path(args.output_dir), self._request, self._place.run_id)

    def _stop(self, control: Any) -> None:
        self._trainer.stops = control.should_training_stop = True
        say("asked to stop: saving a checkpoint")

    def _put_off_evaluation(self, control: Any) -> None:
        self._trainer.evaluation_due |= control.should_evaluate
        control.should_evaluate = False

    def _agreed(self) -> Request:
        """The highest of what the ranks are asked. A collective."""
        self._flag[0] = requests.listener.asked()
        if self._group is not None:
            dist.all_reduce(self._flag, op=dist.ReduceOp.MAX, group=self._group)
        return Request(int(self._flag[0]))


def stopped(trainer: Any, begin: Path | None, place: Rendezvous) -> int:
    """Report that training stopped early; final weights are not saved, as they would look like a result. A collective.

    begin: the checkpoint that this attempt started from. Returns the exit code: STOPPED_EARLY if there is a later one,
    for the next attempt to go on from, else FAILED: another attempt would get no further.
    """
    output_dir, state = Path(trainer.args.output_dir), trainer.state
    saved = spread.gather(checkpoints.complete_checkpoints(output_dir))[0]
    goes_on = f"the last checkpoint is {saved[-1]}" if saved else "there is no checkpoint"
    say(f"stopped at step {state.global_step} of {state.max_steps}; {goes_on}, and no final weights are saved")
    if not saved or (begin is not None and checkpoints.step(saved[-1]) <= checkpoints.step(begin)):
        say("this attempt has not got further than the one before")
        return finish.FAILED
    last, first_of_node = saved[-1], place.local_rank == 0  # nodes may have separate output folders
    sharing.together(lambda: requests.report_stopped(last, checkpoints.step(last)) if first_of_node else None)
    return finish.STOPPED_EARLY
