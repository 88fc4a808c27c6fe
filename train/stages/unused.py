"""DDP's `find_unused_parameters`: on only for models whose trained parameters may get no gradient in a step.

DDP waits for the gradient of every parameter, unless this option makes it search each step's graph for those that get
none, which takes time. Transformers turns it on for every adapter, and for every model without gradient checkpointing.
"""

from __future__ import annotations

from typing import Any

from ..model.adapter import base_of

#: Names of a configuration's number of experts, only a few of which process a token.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def settle(trainer: Any) -> None:
    """Turn the search on where it may be needed, else off; unless the job sets `ddp_find_unused_parameters`."""
    handler = trainer.accelerator.ddp_handler
    if handler is not None and trainer.args.ddp_find_unused_parameters is None:
        handler.find_unused_parameters = possible(trainer.model)


def possible(model: Any) -> bool:
    """Whether a step may not use a trained parameter: an expert, or a vision tower in a batch without images."""
    model = base_of(model)
    text = model.config.get_text_config()
    if any(getattr(text, name, None) for name in EXPERTS):
        return True
    if text is model.config:
        return False
    language = {id(weight) for part in (model.get_decoder(), *_heads(model)) for weight in part.parameters()}
    return any(weight.requires_grad and id(weight) not in language for weight in model.parameters())


def _heads(model: Any) -> list[Any]:
    found = (model.get_output_embeddings(), getattr(model, "score", None))
    return [head for head in found if head is not None]
