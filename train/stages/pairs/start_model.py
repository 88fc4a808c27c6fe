"""The model as it was before training, where a stage needs it: the policy without its adapter, or a frozen copy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from ...model import frozen
from ...model.loading import zero_stage
from .logps import prepare


def has_adapter(model: Any) -> bool:
    """Whether the model has an adapter, without which it is its own reference."""
    return hasattr(model, "disable_adapter")


@contextlib.contextmanager
def without_adapter(model: Any, unwrapped: Any) -> Iterator[None]:
    """Within the context the model is the start model, in eval mode: its adapter, if it has one, is switched off."""
    was_training = model.training
    model.eval()
    try:
        with unwrapped.disable_adapter() if has_adapter(unwrapped) else contextlib.nullcontext():
            yield
    finally:
        model.train(was_training)


@contextlib.contextmanager
def before_training(model: Any, args: Any) -> Iterator[Any]:
    """Yield the start model, before training begins: the policy itself, or under ZeRO-3 a copy (then a collective).

    (Under ZeRO-3 only the trainer's engine can gather the policy's shards in a forward, and there is none yet.)
    """
    if zero_stage(args) == 3 and not getattr(model, "is_quantized", False):
        with frozen.temporary(copy(model, args)) as found:
            yield found
    else:
        with whole(model, args), without_adapter(model, model):
            yield model


def copy(model: Any, args: Any) -> Any:
    """A frozen copy of a model that is about to be trained. A collective under ZeRO-3, as is each of its forwards."""
    found = frozen.start_model(model, args)
    prepare(getattr(found, "module", found))  # an engine's under ZeRO-3
    return found


@contextlib.contextmanager
def whole(model: Any, args: Any) -> Iterator[None]:
    """Within the context, a model that no trainer has prepared yet can compute on this rank's device. A collective."""
    with _gathered(model):
        if model.device.type != args.device.type:
            model.to(args.device)
        yield


def _gathered(model: Any) -> Any:
    """Under ZeRO-3, a context in which every rank has all weights. A collective."""
    parameters = [p for p in model.parameters() if hasattr(p, "ds_id")]
    if not parameters:
        return contextlib.nullcontext()
    import deepspeed  # type: ignore[import-untyped]

    return deepspeed.zero.GatheredParameters(parameters)


def autocast(args: Any) -> Any:
    """A context in which models compute in the policy's precision."""
    return torch.autocast(args.device.type, dtype=dtype(args), enabled=args.bf16 or args.fp16)


def dtype(args: Any) -> torch.dtype:
    """In which the policy computes."""
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
