"""Trained parameters that a step may leave without a gradient, for which DDP has to look.

DDP waits for the gradient of every parameter unless it is told to walk each step's graph and find those that get none.
transformers has it walk under every adapter, and for every model without gradient checkpointing.
"""

from __future__ import annotations

from typing import Any

#: What configurations call the number of their experts, of which a token sees a few.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def settle(trainer: Any) -> None:
    """Have DDP look only where there may be some, unless `ddp_find_unused_parameters` said what to do."""
    handler = trainer.accelerator.ddp_handler
    if handler is not None and trainer.args.ddp_find_unused_parameters is None:
        handler.find_unused_parameters = possible(trainer.model)


def possible(model: Any) -> bool:
    """Whether a step may leave a trained parameter out: an expert, or a vision tower in a batch of words alone."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
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
