"""The training stages by name.

A stage is the module (or package) of its name, which defines:
    HEAD                            the model's head, "lm" or "score" (`model.loading.load_model`)
    Config                          its trainer config class
    encoder(tokenizer, args)        makes a function from one record to `data.encoding.tokens.Encoded`
    image_encoder(processor, args)  the same for records with images; in the stages of `data.formats.images.STAGES`
    trainer(args, model, adapter, tokenizer, train, evaluation)
                                    its trainer, ready to train; `adapter`: PEFT's configuration, or None
    finish(trainer, output_dir)     is called once the weights are saved; optional
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..config import Stage


def load(stage: Stage) -> Any:
    """Import a stage's module, and with it its trainer."""
    return import_module(f"alignlaunch.train.stages.{stage}")
