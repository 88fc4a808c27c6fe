"""The training stages by name.

A stage is the module of its name, with these in it:
    HEAD                            what its model ends in, "lm" or "score"
    Config                          its trainer config class
    encoder(tokenizer, args)        a function from one record of data to `data.encoding.tokens.Encoded`
    image_encoder(processor, args)  the same for records with images; of `data.formats.images.STAGES`
    trainer(args, model, adapter, tokenizer, train, evaluation)
                                    its trainer, ready to train; `adapter`: PEFT's configuration, or None
    finish(trainer, output_dir)     once the weights are saved; optional
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..config import Stage


def load(stage: Stage) -> Any:
    """Import a stage's module, and with it its trainer."""
    return import_module(f"alignlaunch.train.stages.{stage}")
