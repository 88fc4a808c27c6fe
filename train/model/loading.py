"""The tokenizer and the model: loading and quantisation. The adapter is added in `adapter`.

Weights are loaded in fp32 for a full fine-tune by DDP, whose autocast needs fp32 masters, and with ZeRO-3, which casts
them as they are sharded; in the training precision under a LoRA adapter, because a frozen base needs no masters, and
with ZeRO-1 and 2: DeepSpeed would cast them all the same before it makes fp32 masters of them, and on a GPU whole fp32
weights may not fit. `train.model_init_kwargs: {dtype: ...}` overrides this.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from ..config import TrainConfig
from ..data.encoding.chat_template import FALLBACK_CHAT_TEMPLATE
from ..errors import UserError
from ..processes.beats import beats
from .precision import Precision

Head = Literal["lm", "score"]


def load_tokenizer(job: TrainConfig) -> Any:
    """Load the tokenizer; add a pad token and a chat template if it has none. Raises UserError if it is unusable."""
    from transformers import AutoTokenizer

    place = job.tokenizer or job.model
    key = "tokenizer" if job.tokenizer else "model"
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=job.trust_remote_code)
    except (OSError, ValueError) as error:
        raise _unloadable(key, place, "tokenizer", error) from error
    if tokenizer.eos_token is None:
        raise UserError(
            f"{key}: {place}: its tokenizer has no end-of-sequence token; set one in tokenizer_config.json."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # never learnt from: padding is masked by position, not by value
    if not tokenizer.chat_template:
        tokenizer.chat_template = FALLBACK_CHAT_TEMPLATE
    return tokenizer


def load_model(
    job: TrainConfig, args: Any, tokenizer: Any, precision: Precision, *, head: Head = "lm", images: bool = False
) -> Any:
    """Load the model: with head "lm" a causal language model, with "score" a classifier with one output per sequence.

    images: whether it must take images; otherwise a vision-language model may be loaded without its vision tower.

    Call it after the training arguments are made: with ZeRO-3 these make the weights be sharded while they load.
    Raises UserError if the model cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSequenceClassification

    beats.begin("loading the model")
    dtypes: dict[Precision, Any] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    cast = job.lora or zero_stage(args) in (1, 2)
    options: dict[str, Any] = {"dtype": dtypes[precision] if cast else torch.float32}
    options |= placement(args)
    options |= getattr(args, "model_init_kwargs", None) or {}
    args.model_init_kwargs = None  # used here; a trainer refuses it together with a loaded model
    if job.attn_implementation:
        options["attn_implementation"] = job.attn_implementation
    if job.quantization != "none":
        options |= _quantized(job, dtypes[precision], args)
    auto: Any = AutoModelForImageTextToText if images else AutoModelForCausalLM
    if head == "score":
        auto = AutoModelForSequenceClassification
        options["num_labels"] = 1  # the score; the head is new unless `model` is a reward model
    try:
        model = auto.from_pretrained(job.model, trust_remote_code=job.trust_remote_code, **options)
    except (OSError, ValueError, ImportError) as error:
        raise _unloadable("model", job.model, "model", error) from error
    if images and zero_stage(args) == 3:
        # Under ZeRO-3, loading records every renaming of weights that transformers knows, obsolete ones too, and saving
        # would revert them all. Without the record, saving reverts the model's own renamings only.
        model._weight_conversions = None
    model.config.pad_token_id = tokenizer.pad_token_id
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # On processors with avx512_bf16, bitsandbytes repacks 4-bit weights at the first evaluation, in a layout
            # that fits no layer narrower than a block and rounds all others. Evaluation must compute as training does.
            module.support_avx512bf16_for_cpu = False
    if getattr(args, "disable_dropout", False):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    return model


def _quantized(job: TrainConfig, compute_dtype: Any, args: Any) -> dict[str, Any]:
    if job.lora is None:
        raise UserError(
            f"quantization: {job.quantization} without lora: quantised weights cannot be trained themselves. "
            "Add `lora: {}` (QLoRA) or set `quantization: none`.",
            everywhere=True,
        )
    try:
        import bitsandbytes  # noqa: F401 - imported here for a clear error if it is missing
    except Exception as error:  # it raises RuntimeError and OSError where its library does not load
        raise UserError(
            f"quantization: {job.quantization} needs bitsandbytes, which cannot be used here ({error}). "
            "`pip install 'alignlaunch[quantization]'` on every node, or set `quantization: none`."
        ) from error
    import transformers

    make: Any = transformers.BitsAndBytesConfig

    config = (
        make(load_in_8bit=True)
        if job.quantization == "8bit"
        else make(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype,
        )
    )
    options: dict[str, Any] = {"quantization_config": config}
    if zero_stage(args) != 3:
        options["device_map"] = {"": args.device}
    return options


def placement(args: Any) -> dict[str, Any]:
    """Arguments for `from_pretrained` to load directly onto this rank's GPU, without a copy per rank in host memory.

    ("auto" would spread each rank's model over all GPUs. ZeRO-3 shards the weights while they load.)
    """
    return {"device_map": {"": args.device}} if args.device.type == "cuda" and zero_stage(args) != 3 else {}


def zero_stage(args: Any) -> int:
    """The ZeRO stage that the training arguments select; 0: plain DDP."""
    plugin = getattr(args, "deepspeed_plugin", None)
    return int(plugin.zero_stage) if plugin is not None else 0


def _unloadable(key: str, place: str, what: str, error: Exception) -> UserError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if place.startswith((".", "/", "~")) and not os.path.isdir(place):  # noqa: PTH112 - `place` may be a hub id
        lines = [f"there is no such folder (looked in {os.getcwd()})"]  # noqa: PTH109
    return UserError(
        f"{key}: {place}: no {what} could be loaded: {lines[0]} Paths are relative to the job file's folder; a node "
        "without internet needs the downloaded folder."
    )
