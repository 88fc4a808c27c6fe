"""Frozen models beside the policy: the model it started from and reward models; sharded under ZeRO-3, as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from . import vocabulary
from .adapter import base_of
from .loading import placement, zero_stage


def start_model(model: Any, args: Any) -> Any:
    """The model as it was before training and without an adapter, in eval mode, as DPO's reference.

    A collective under ZeRO-3, and so is each of its forwards.
    """
    return settle(load_again(model, args), args)


def load_again(model: Any, args: Any) -> Any:
    """The model loaded once more, without an adapter, and with as many embedding rows.

    It has the policy's dtype and computes under the same autocast: a reference in bf16 beside a policy in fp32 is off
    by 1 or 2 nats per answer before the first step (bench/reference_precision.py).
    """
    base = base_of(model)
    again = type(base).from_pretrained(
        base.config.name_or_path,
        dtype=base.dtype,
        attn_implementation=base.config._attn_implementation,
        **placement(args),
    )
    vocabulary.grow(again, base.config.get_text_config().vocab_size)
    return again


def settle(model: Any, args: Any) -> Any:
    """Prepare a model that was just loaded for forwards on this rank's device."""
    model.eval().requires_grad_(False)
    if zero_stage(args) != 3:
        return model.to(args.device)
    import deepspeed  # type: ignore[import-untyped]

    asked = args.hf_deepspeed_config.config["zero_optimization"]
    kept = ("stage", "offload_param", "stage3_param_persistence_threshold")
    config = {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed requires it; no forward uses it
        "zero_optimization": {name: asked[name] for name in kept if asked.get(name) not in (None, "auto")},
        "bf16": {"enabled": args.bf16},
        "fp16": {"enabled": args.fp16},
    }
    engine, *_ = deepspeed.initialize(model=model, config=config)
    engine.eval()
    return engine


@contextlib.contextmanager
def temporary(model: Any) -> Iterator[Any]:
    """Yield a model from `settle` and free it in the end: otherwise DeepSpeed's engine would keep it in memory."""
    try:
        yield model
    finally:
        if hasattr(model, "destroy"):
            model.destroy()
