"""Saving the result of a run: the weights (or the adapter), the tokenizer and their provenance."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import alignlaunch

from .. import trained_folder
from ..model.loading import zero_stage
from ..processes.rendezvous import Rendezvous

PACKAGES = ("torch", "transformers", "trl", "peft", "deepspeed", "accelerate", "datasets")


def save(trainer: Any, output_dir: Path, about: dict[str, Any]) -> None:
    """Save model, tokenizer, the trainer's state and provenance.

    A collective: with ZeRO-3 every rank contributes its shard of the weights.
    """
    trainer.save_model(str(output_dir))
    trainer.save_state()
    if trainer.is_world_process_zero():
        trained_folder.share(*output_dir.glob("*.safetensors"))
        text = json.dumps(about, indent=2, sort_keys=True) + "\n"
        (output_dir / trained_folder.PROVENANCE).write_text(text, encoding="utf-8")
    trainer.accelerator.wait_for_everyone()


def provenance(job_file: Path, place: Rendezvous, *, device: str, precision: str, deepspeed: Any) -> dict[str, Any]:
    """What is needed to know what ran, and to run it again: versions, place, the job, the submission's record."""
    return {
        "alignlaunch": alignlaunch.__version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "working_dir": str(Path.cwd()),
        "versions": versions(),
        "host": platform.node(),
        "device": device,
        "precision": precision,
        "world_size": place.world_size,
        "dialect": place.dialect,
        "restart_count": place.restart_count,
        "run_id": place.run_id,
        "job_file": str(job_file),
        "job_sha256": hashlib.sha256(job_file.read_bytes()).hexdigest(),
        "job": job_file.read_text(encoding="utf-8"),
        "deepspeed": deepspeed,
        "run": _run_record(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def versions() -> dict[str, str | None]:
    """The installed versions of the packages that a run's results depend on; None: not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _run_record() -> Any:
    """The record (run.json) that the submitting side wrote; None for a run that was started by hand."""
    folder = os.environ.get("ALIGNLAUNCH_RUN_DIR")
    path = Path(folder) / "run.json" if folder else None
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError) as error:
        return {"unreadable": str(error)}


class WriterTrainer:
    """Mixin for a Trainer: under ZeRO-1 and 2 every rank has all weights, and only the rank that writes copies them."""

    args: Any
    accelerator: Any
    deepspeed: Any

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights. Transformers would copy the model, also an adapter's base, to host memory on every rank."""
        if zero_stage(self.args) not in (1, 2):
            super().save_model(output_dir, _internal_call)  # type: ignore[misc]
            return
        trainer: Any = self
        if self.args.should_save:
            adapted = hasattr(self.accelerator.unwrap_model(self.deepspeed), "peft_config")
            # PEFT extracts the weights of an adapter itself. Those of a full model are views of one buffer: copy them.
            weights = None if adapted else self.accelerator.get_state_dict(self.deepspeed)
            trainer._save(output_dir or self.args.output_dir, state_dict=weights)
        if self.args.push_to_hub and not _internal_call:
            trainer.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)
