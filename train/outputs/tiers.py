"""A Trainer that saves into the second tier of checkpoints (`local_tier`), too, between those of the output folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..model.loading import zero_stage
from ..processes import sharing, spread
from ..processes.beats import beats
from ..reporting import say
from . import checkpoints, copying, space
from .checkpoints import ASIDE
from .commit import CommittingTrainer, described, publish
from .copying import Copying
from .local_tier import KEPT, LocalTier
from .manifest import Manifest
from .part import Part, changed


class TieredTrainer(CommittingTrainer):
    """Mixin for a Trainer. The second tier is only a convenience: without room there, training goes on without it."""

    #: Set before training; None: there is none, or no longer.
    tier: LocalTier | None = None
    #: Whether somebody waits for the next checkpoint.
    is_waited_for = False
    accelerator: Any
    deepspeed: Any
    model: Any
    _locally = False
    #: This node's, while it is written.
    _part: Part | None = None
    _saved_at = 0
    #: Whether a copy to the output folder is under way, on all ranks; and this process's part of it.
    _is_copying = False
    _copying: Copying | None = None
    _one_folder: bool | None = None

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
        """Save a checkpoint into the tier whose turn it is. A collective.

        One for the output folder is saved on the nodes and copied in the background, unless somebody waits for it.
        """
        step, shared = self.state.global_step, not self._locally
        self._saved_at = step
        if shared:
            self.settle()
        waited_for = shared and (self.is_waited_for or step >= self.state.max_steps)
        if self.tier is None or waited_for or (shared and not self._has_one_output_folder()):
            super()._save_checkpoint(model, trial)
            return
        try:
            whole = self._save_locally(self.tier, model, trial)
        except UserError as error:
            say(f"checkpoint.local: {error}: from here on checkpoints are saved in the output folder alone")
            self.tier = None
            if shared:
                super()._save_checkpoint(model, trial)
            return
        if shared:
            self._copy(self.tier, copying.single(whole))

    def settle(self) -> None:
        """Wait for a copy that is under way. A collective. Raises UserError if it failed on a node."""
        if self._is_copying:
            self._is_copying = False
            here, first = self._copying, self.about.place.rank == 0
            with beats.waiting():
                sharing.together(lambda: here.wait() if here and not first else None)
                sharing.together(lambda: here.wait() if here and first else None)  # it waits for the others' files
            self._copying = None

    def _copy(self, tier: LocalTier, whole: Manifest) -> None:
        """Begin to copy a checkpoint to the output folder. A collective."""
        place, output_dir = self.about.place, Path(self.args.output_dir)
        source, limit, kept = tier.folder(whole.step), self.args.save_total_limit, self.kept()
        nodes = sorted(set(spread.gather(tier.first)))
        ranks = range(tier.first, min([node for node in nodes if node > tier.first], default=place.world_size))

        def work() -> None:
            folder = copying.copy(source, whole, output_dir, ranks)
            if place.rank == 0:
                copying.wait_for(folder, nodes)
                publish(folder, whole, limit, kept)

        self._is_copying = True
        if place.local_rank == 0:
            self._copying = Copying(source, work)

    def _has_one_output_folder(self) -> bool:
        """Whether it is the same one for all nodes, as a copy needs it. A collective, the first time."""
        if self._one_folder is None:
            self._one_folder = sharing.are_one(Path(self.args.output_dir), self.about.place)
        return self._one_folder

    def _save_locally(self, tier: LocalTier, model: Any, trial: Any) -> Manifest:
        """Save on each node. Raises UserError on all ranks if it cannot be saved on one."""
        place, stage = self.about.place, zero_stage(self.args)
        writes = place.local_rank == 0
        # Under ZeRO a node has the optimizer state of its own processes alone.
        size = space.checkpoint_bytes(model, self.args, place.local_world_size / place.world_size if stage else 1)
        sharing.together(lambda: tier.require_room(size))
        folder = tier.home / ASIDE / f"checkpoint-{self.state.global_step}"
        self._part = Part(folder, writes=writes)
        try:
            # One process of each node writes what else rank 0 alone writes; and nothing is pushed to the Hub.
            with (
                changed(self.args, save_on_each_node=True, push_to_hub=False),
                self._part.written_by(self.deepspeed, stage),
                self._part.kept(),
            ):
                self._write(folder, model, trial)
            sharing.together(self._part.complete)
        finally:
            self._part = None
        whole = self._whole(lambda: described(folder, place.rank, tier.first))
        sharing.together(lambda: tier.publish(folder, whole) if writes else None)
        # Only now that all nodes have it the older ones go.
        copied = [self._copying.source] if self._copying else []
        sharing.together(lambda: tier.keep([*checkpoints.folders(tier.home)[-KEPT:], *copied]) if writes else None)
        if place.rank == 0:
            with suppress(OSError):  # there is progress
                (Path(self.args.output_dir) / checkpoints.LOCAL_STEP).write_text(f"{whole.step}\n")
                (Path(self.args.output_dir) / checkpoints.STARTS).unlink(missing_ok=True)
        return whole

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights. On the nodes under ZeRO only for a copy: DeepSpeed's own files have them, too."""
        if self._part is None or output_dir is None:
            super().save_model(output_dir, _internal_call)  # type: ignore[misc]
            return
        on_each = not zero_stage(self.args)  # of ZeRO-3 rank 0 alone gathers them
        # transformers' model writes on global rank 0 alone, whatever it is told.
        written = {"should_save_on_this_rank": lambda is_main_process: is_main_process} if on_each else {}
        model = self.accelerator.unwrap_model(self.model)
        with self._part.kept(), changed(self.args, save_on_each_node=on_each), changed(model, **written):
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            if on_each or not self._locally:
                super().save_model(output_dir, _internal_call)  # type: ignore[misc]
