"""The training stages that exist, by name. No torch here, so that a submit host can refuse what is missing.

A stage is a module with three names:
    Config                          its trainer config class
    encoder(tokenizer, args)        a function from one record of data to `encoding.Encoded`
    trainer(args, model, tokenizer, train, evaluation)
                                    its trainer, ready to train
and perhaps
    finish(trainer, output_dir)     what is left to do once the weights are saved
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from alignlaunch.train.errors import UserError

_MODULES = {
    "sft": "alignlaunch.train.sft",
    "orpo": "alignlaunch.train.orpo",
    "safe_dpo": "alignlaunch.train.safe_dpo",
}
IMPLEMENTED = frozenset(_MODULES)


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
