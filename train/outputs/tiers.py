"""A Trainer that saves into the second tier of checkpoints (`local_tier`), too, between those of the output folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..processes import sharing
from ..reporting import say
from . import checkpoints, space
from .checkpoints import ASIDE
from .commit import CommittingTrainer, described
from .local_tier import KEPT, LocalTier


class TieredTrainer(CommittingTrainer):
    """Mixin for a Trainer. The second tier is only a convenience: without room there, training goes on without it."""

    #: Set before training; None: there is none, or no longer.
    tier: LocalTier | None = None
    _locally = False
    _saved_at = 0

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, model: Any, trial: Any, *args: Any, **kwargs: Any
    ) -> None:
        """At the end of a step: log, evaluate and save what is due. A collective."""
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *args, **kwargs)  # type: ignore[misc]
        step = self.state.global_step
        if self.tier and step % self.tier.every == 0 and step not in (self._saved_at, self.state.max_steps):
            self._locally = True
            try:
                self._save_checkpoint(model, trial)
            finally:
                self._locally = False

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint into the tier whose turn it is. A collective."""
        self._saved_at = self.state.global_step
        if not (self._locally and self.tier):
            super()._save_checkpoint(model, trial)
            return
        try:
            self._save_locally(self.tier, model, trial)
        except UserError as error:
            say(f"checkpoint.local: {error}: from here on checkpoints are saved in the output folder alone")
            self.tier = None

    def _save_locally(self, tier: LocalTier, model: Any, trial: Any) -> None:
        """Raises UserError on all ranks if it cannot be saved on one."""
        place = self.about.place
        size = space.checkpoint_bytes(model, self.args)
        sharing.together(lambda: tier.require_room(size))
        folder = tier.home / ASIDE / f"checkpoint-{self.state.global_step}"
        with _each_node_saves(self.args):
            sharing.together(lambda: self._write(folder, model, trial, self.state.best_model_checkpoint))
        whole = self._whole(lambda: described(folder, place.rank, tier.first))
        writes = place.local_rank == 0
        sharing.together(lambda: tier.publish(folder, whole) if writes else None)
        # Only now that all nodes have it the older ones go.
        sharing.together(lambda: tier.keep(checkpoints.folders(tier.home)[-KEPT:]) if writes else None)
        if place.rank == 0:
            with suppress(OSError):  # there is progress
                (Path(self.args.output_dir) / checkpoints.STARTS).unlink(missing_ok=True)


@contextmanager
def _each_node_saves(args: Any) -> Iterator[None]:
    """Have one process of each node write what else rank 0 alone writes, and push nothing to the Hub."""
    before = args.save_on_each_node, args.push_to_hub
    args.save_on_each_node, args.push_to_hub = True, False
    try:
        yield
    finally:
        args.save_on_each_node, args.push_to_hub = before
