"""The training stages by name. No torch here: the submitting side reads data with READERS.

A stage is the module of its name, with these in it:
    HEAD                            what its model ends in, "lm" or "score"
    Config                          its trainer config class
    encoder(tokenizer, args)        a function from one record of data to `encoding.Encoded`
    image_encoder(processor, args)  the same for records with images; of `images.STAGES`
    trainer(args, model, adapter, tokenizer, train, evaluation)
                                    its trainer, ready to train; `adapter`: PEFT's configuration, or None
    finish(trainer, output_dir)     once the weights are saved; optional
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..config import Stage
from ..data.formats.preferences import PREFERENCE_FORMATS, preference
from ..data.formats.reading import TEXT_FORMATS, Format, text
from ..data.formats.safety import SAFETY_FORMATS, safe_preference
from ..data.formats.sft import SFT_FORMATS, example
from ..data.formats.turns import Record

#: What reads a stage's records; raises FormatError for a bad one.
READERS: dict[Stage, Callable[[Record], object]] = {
    "pt": text,
    "sft": example,
    "rm": preference,
    "dpo": preference,
    "orpo": preference,
    "safe_dpo": safe_preference,
}
#: The formats in which these readers accept a record.
FORMATS: dict[Stage, tuple[Format[Any], ...]] = {
    "pt": TEXT_FORMATS,
    "sft": SFT_FORMATS,
    "rm": PREFERENCE_FORMATS,
    "dpo": PREFERENCE_FORMATS,
    "orpo": PREFERENCE_FORMATS,
    "safe_dpo": SAFETY_FORMATS,
}


def load(stage: Stage) -> Any:
    """Import a stage's module, and with it its trainer."""
    return import_module(f"alignlaunch.train.stages.{stage}")
