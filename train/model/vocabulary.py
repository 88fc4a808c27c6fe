"""Embedding rows for the tokens that a separate tokenizer adds to the model's, and patches that let PEFT train them."""

from __future__ import annotations

import functools
from typing import Any


def grow(model: Any, size: int) -> range:
    """Give the model an embedding row for each of `size` tokens. Returns the new ids; none if it has enough rows.

    The new rows are the mean of the old ones (with transformers' tiny noise, under a fixed seed): so every rank, an
    evaluation and a merge get the rows that training started from.
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
    """Names of the modules with a row per token: the input embeddings, and the output head unless tied to them."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    modules = [embeddings] if head is None or head.weight is embeddings.weight else [embeddings, head]
    return [name for name, module in model.named_modules() if any(module is found for found in modules)]


def patch_peft() -> None:
    """Patch PEFT so that it trains single rows under ZeRO-3, and so that TRL can read the output head's bias."""
    from peft.tuners.trainable_tokens import layer
    from peft.utils import other
    from transformers import integrations

    wrapper: Any = other.TrainableTokensWrapper
    wrapper.bias = None  # TRL reads the head's bias, which the wrapper lacks
    deepspeed: Any = integrations.deepspeed
    if deepspeed.is_deepspeed_zero3_enabled():
        trained: Any = layer.TrainableTokensLayer
        trained._collect_token_weights = _rows
        wrapper._getattr_wrapped = functools.partialmethod(_weight, wrapper._getattr_wrapped)


def _rows(layer: Any, weight: Any, indices: list[int], width: int) -> Any:
    """Replaces PEFT's collection of rows, which needs CUDA: a matrix that has just grown is whole on every rank."""
    del layer, width
    return weight[indices].clone()


def _weight(wrapper: Any, merged: Any, name: str, modules: Any) -> Any:
    """The weight with the trained rows merged in, marked as available: TRL checks whether it must be gathered."""
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus  # type: ignore[import-untyped]

    weight = merged(wrapper, name, modules)
    weight.ds_status = ZeroParamStatus.AVAILABLE
    return weight
