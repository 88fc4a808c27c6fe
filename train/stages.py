"""The training stages that exist, by name. No torch here, so that a submit host can refuse what is missing.

A stage is a module with four names:
    HEAD                            what its model ends in, "lm" or "score"
    Config                          its trainer config class
    encoder(tokenizer, args)        a function from one record of data to `encoding.Encoded`
    trainer(args, model, adapter, tokenizer, train, evaluation)
                                    its trainer, ready to train; `adapter`: PEFT's configuration, or None
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from alignlaunch.train import formats, safety_formats
from alignlaunch.train.config import Stage
from alignlaunch.train.errors import UserError

_MODULES = {
    "pt": "alignlaunch.train.pt",
    "sft": "alignlaunch.train.sft",
    "rm": "alignlaunch.train.rm",
    "dpo": "alignlaunch.train.dpo",
    "orpo": "alignlaunch.train.orpo",
}
IMPLEMENTED = frozenset(_MODULES)
#: What reads a stage's records; raises FormatError for a bad one.
READERS: dict[Stage, Callable[[formats.Record], object]] = {
    "pt": formats.text,
    "sft": formats.example,
    "rm": formats.preference,
    "dpo": formats.preference,
    "orpo": formats.preference,
    "safe_dpo": safety_formats.safe_preference,
}


def load(stage: str) -> Any:
    """Import a stage's module, and with it its trainer.

    Raises UserError when the stage is not there yet.
    """
    if stage not in _MODULES:
        raise UserError(
            f"stage: {stage} cannot be trained by this version of alignlaunch; it has {', '.join(sorted(_MODULES))}. "
            "Choose one of these or update alignlaunch.",
            everywhere=True,
        )
    return import_module(_MODULES[stage])
