"""What a trained folder (a run's output or checkpoint) contains, and its provenance. No torch here."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

Kind = Literal["model", "adapter", "shards"]
ADAPTER = "adapter_config.json"
PROVENANCE = "provenance.json"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
METRICS = "metrics.jsonl"
#: Of every run in the folder, so it stays when another one starts there.
TIMELINE = "timeline.jsonl"
EVALUATION = "eval.json"
SAFETY = ("safety_eval.json", "safety_answers.jsonl")
#: What a run leaves besides checkpoints; it is moved aside when another run starts in the same folder.
RESULTS = (
    *(*WEIGHTS, "*.index.json", "adapter_*", "latest", "global_step*", "trainer_state.json", "training_args.bin"),
    *(PROVENANCE, METRICS, EVALUATION, *SAFETY),
)


#: What is read of a provenance again; of another type it counts as absent.
_TEXTS = ("run_id", "job", "working_dir", "executable")


def kind(folder: Path) -> Kind | None:
    """Whether a folder holds a whole model, a PEFT adapter, or only ZeRO-3 shards (not gathered); None: no weights.

    A checkpoint of a full fine-tune may hold a model and shards: then it is a model.
    """
    if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        return "model"
    if (folder / ADAPTER).is_file():
        return "adapter"
    return "shards" if (folder / "latest").is_file() else None


def provenance(folder: Path) -> dict[str, Any]:
    """The provenance.json of a trained folder, or for a checkpoint that of the folder above; empty if there is none."""
    for place in (folder, folder.resolve().parent):
        try:
            found = json.loads((place / PROVENANCE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return {name: value for name, value in found.items() if name not in _TEXTS or isinstance(value, str)}
    return {}


def is_foreign(folder: Path) -> bool:
    """Whether another user may have written a trained folder's provenance, so that nothing that it names is run."""
    for place in (folder, folder.resolve().parent):
        with suppress(OSError):
            found = (place / PROVENANCE).stat()
            return found.st_uid not in (0, os.getuid()) or bool(found.st_mode & stat.S_IWOTH)
    return False


def share(*paths: Path) -> None:
    """Give files and folders the permissions that the umask allows; safetensors and mkdtemp allow the owner only."""
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    for path in paths:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
