"""The LoRA adapter of a job: PEFT's configuration for it, and adding it to a model.

TRL's trainers get the configuration and the bare model, and add the adapter themselves: so they know that DPO's
reference is the model without its adapter. Our own trainers call `add`.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from ..config import Lora
from ..errors import UserError
from . import vocabulary
from .loading import Head, zero_stage


def base_of(model: Any) -> Any:
    """The model below an adapter; one without is returned as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def configure(lora: Lora, model: Any, new_tokens: range, *, head: Head) -> Any:
    """PEFT's LoraConfig for this model. The embedding rows of `new_tokens` are trained beside the adapter.

    Raises UserError if a target module does not exist, contains such rows, or cannot have dropout, and if the output
    head has both such rows and a bias.
    """
    import peft

    return peft.LoraConfig(
        task_type="CAUSAL_LM" if head == "lm" else "SEQ_CLS",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        target_modules=_target_modules(model, lora),
        # A new score head is random: if it stayed frozen, the scores would be noise, whatever the adapter learns.
        modules_to_save=["score"] if head == "score" else None,
        # The same holds for the rows of new tokens; the old rows stay frozen.
        trainable_token_indices=_trained_rows(model, lora, new_tokens) if new_tokens else None,
    )


def add(model: Any, config: Any, args: Any) -> Any:
    """The model with a new adapter; its own weights are frozen."""
    import peft

    quantized = bool(getattr(model, "is_quantized", False))
    zero3 = zero_stage(args) == 3
    if quantized:
        prepare: Any = peft.prepare_model_for_kbit_training
        model = prepare(model, use_gradient_checkpointing=args.gradient_checkpointing)
    elif args.gradient_checkpointing:
        model.enable_input_require_grads()  # checkpointing needs it, as the embeddings are frozen
    # PEFT would keep the adapter in fp32 beside a bf16 base; ZeRO-3 cannot gather two dtypes together (DeepSpeed#8072).
    return peft.get_peft_model(model, config, autocast_adapter_dtype=not (zero3 and not quantized))


def settle(model: Any, args: Any) -> None:
    """After the trainer has added the adapter: set the dtype in which it is trained, and how it is saved."""
    if zero_stage(args) != 3 or getattr(model, "is_quantized", False):
        # In bf16 small updates are lost. PEFT leaves modules_to_save, such as a score head, in the base's dtype, and
        # TRL puts the adapter of a quantised base in bf16. ZeRO-3 keeps fp32 masters itself, and gathers one dtype.
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    if model.peft_config["default"].trainable_token_indices:
        # The adapter holds the new rows, the base the old ones; PEFT would also save both embedding matrices whole.
        model.save_pretrained = functools.partial(model.save_pretrained, save_embedding_layers=False)


def _trained_rows(model: Any, lora: Lora, new_tokens: range) -> dict[str, list[int]]:
    places = vocabulary.places(model)
    targets = _target_modules(model, lora)
    taken = [p for p in places if isinstance(targets, list) and {p, p.rsplit(".", 1)[-1]} & set(targets)]
    if taken:
        raise UserError(
            f"lora.target_modules: {', '.join(taken)}: the tokenizer has {len(new_tokens)} tokens more than the model, "
            "whose rows there are trained whole; PEFT cannot adapt the same module too. Leave it out.",
            everywhere=True,
        )
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise UserError(
            f"tokenizer: has {len(new_tokens)} tokens more than the model, whose output head has a bias: PEFT would "
            "leave out the bias. Train all weights (`lora: null`), or use the model's own tokenizer.",
            everywhere=True,
        )
    vocabulary.patch_peft()
    return {place: [*new_tokens] for place in places}


def _target_modules(model: Any, lora: Lora) -> str | list[str]:
    if lora.target_modules == "all":
        if getattr(model.config, "vision_config", None) is not None:
            return _of_language_model(model)
        if lora.dropout and (experts := _fused_experts(model)):
            raise UserError(
                f"lora.dropout: {lora.dropout}: the experts ({experts}) share one weight, before which PEFT has no "
                "dropout. Set `lora.dropout: 0`, or name `lora.target_modules` without them.",
                everywhere=True,
            )
        return "all-linear"  # PEFT's name for every linear layer but the output (or score) head
    wanted = lora.target_modules
    names = [part.strip() for part in wanted.split(",") if part.strip()] if isinstance(wanted, str) else wanted
    modules = [name for name, _ in model.named_modules()]
    # PEFT itself only complains if none of the names exists.
    unknown = [n for n in names if not any(m == n or m.endswith(f".{n}") for m in modules)]
    if unknown:
        import torch

        linear = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        raise UserError(
            f"lora.target_modules: the model has no module {', '.join(unknown)}; its linear layers are "
            f"{', '.join(sorted(linear))}. Name some of these, or `all`.",
            everywhere=True,
        )
    return names


def _fused_experts(model: Any) -> str | None:
    """The first module with the weights of several experts in one parameter, of shape (experts, rows, columns)."""
    for name, module in model.named_modules():
        shapes = [getattr(weight, "ds_shape", weight.shape) for weight in module.parameters(recurse=False)]
        if name.endswith("experts") and any(len(shape) == 3 for shape in shapes):
            return str(name)
    return None


def _of_language_model(model: Any) -> str:
    """A pattern for the linear layers of the language model's decoder; vision tower and projector get no adapter."""
    import torch

    decoder = model.get_decoder()
    place = next(name for name, module in model.named_modules() if module is decoder)
    names = {name.rsplit(".", 1)[-1] for name, m in decoder.named_modules() if isinstance(m, torch.nn.Linear)}
    return rf"{re.escape(place)}\.(.*\.)?({'|'.join(map(re.escape, sorted(names)))})"
