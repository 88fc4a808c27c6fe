"""Signs of life (`processes.beats`) at every step, in evaluation and in saving."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from .processes import sharing
from .processes.beats import EVALUATION, FIRST, LONG, TRAINING, WAITING, beats
from .processes.rendezvous import Rendezvous


def agree(output_dir: Path, place: Rendezvous) -> None:
    """Let all ranks have one name for this attempt. A collective. Raises UserError if nothing can be written there."""
    shared = sharing.are_one(output_dir, place)
    beats.agreed(sharing.by_rank_0(lambda: time.strftime("%Y%m%d-%H%M%S"), place), shared=shared)


def with_each_forward(model: Any, args: Any) -> None:
    """Have the model give a sign of life with each forward: TRL scores all data, and we generate, with no step."""
    beats.begin("preparing the training", WAITING if args.torch_compile else LONG)
    if not args.torch_compile:  # a hook would break the graph
        model.get_input_embeddings().register_forward_pre_hook(_alive)


def _alive(*_: Any) -> None:
    beats.alive()


class BeatingTrainer:
    """Mixin for a Trainer."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Train on a micro-batch: a beat when its data are there, and one when all is computed or queued on the GPU."""
        beats.beat()
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        beats.beat()
        return loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate."""
        with beats.within(EVALUATION, FIRST):
            return super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with beats.within("saving a checkpoint"):
            super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]


class Beating(TrainerCallback):
    """A beat at the end of each step and of each batch of an evaluation."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """From here on there are steps."""
        del args, control, kwargs
        beats.begin(TRAINING, FIRST, step=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step has ended."""
        del args, control, kwargs
        beats.turn(state.global_step)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A batch of an evaluation has been computed."""
        del args, state, control, kwargs
        beats.turn()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What follows, such as loading the best weights, is no step."""
        del args, state, control, kwargs
        beats.begin("the end of training")
