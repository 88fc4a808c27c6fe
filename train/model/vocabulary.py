"""Rows for the tokens that a separate tokenizer has beyond the model's own, and what PEFT lacks to train them."""

from __future__ import annotations

import functools
from typing import Any


def grow(model: Any, size: int) -> range:
    """Give the model a row for each of `size` tokens; returns the new ids, none where it has enough.

    The new rows are the mean of the old ones (and transformers' tiny noise): always the same, so that every process, an
    evaluation and a merge begin with what training began with.
    """
    import torch

    old = int(model.config.get_text_config().vocab_size)
    if size <= old:
        return range(0)
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(0)
        model.resize_token_embeddings(size)
    return range(old, size)


def places(model: Any) -> list[str]:
    """Names of the modules with a row for each token: the embeddings, and an output head that is not tied to them."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    modules = [embeddings] if head is None or head.weight is embeddings.weight else [embeddings, head]
    return [name for name, module in model.named_modules() if any(module is found for found in modules)]


def mend_peft() -> None:
    """Let PEFT train single rows under ZeRO-3, and where TRL reads weight and bias of the output head."""
    from peft.tuners.trainable_tokens import layer
    from peft.utils import other
    from transformers import integrations

    wrapper: Any = other.TrainableTokensWrapper
    wrapper.bias = None  # it hides the head's own, and TRL asks for it
    deepspeed: Any = integrations.deepspeed
    if deepspeed.is_deepspeed_zero3_enabled():
        trained: Any = layer.TrainableTokensLayer
        trained._collect_token_weights = _rows
        wrapper._getattr_wrapped = functools.partialmethod(_weight, wrapper._getattr_wrapped)


def _rows(layer: Any, weight: Any, indices: list[int], width: int) -> Any:
    """What PEFT collects over CUDA; but a matrix that has just grown is whole in every process."""
    del layer, width
    return weight[indices].clone()


def _weight(wrapper: Any, merged: Any, name: str, modules: Any) -> Any:
    """The weight with the trained rows in it, which TRL asks whether it must be gathered."""
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus  # type: ignore[import-untyped]

    weight = merged(wrapper, name, modules)
    weight.ds_status = ZeroParamStatus.AVAILABLE
    return weight
