"""Parameter names and layer variants of each model family, following transformers' classes. A table for `shapes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Whether a layer has a bias: True, False, or the name of the config.json key that decides.
Bias = bool | str


@dataclass(frozen=True)
class Family:
    """One decoder-only family. The defaults are Llama's."""

    embedding: str = "model.embed_tokens"
    positions: str = ""  # the table of learned position embeddings; empty: none
    layers: str = "model.layers"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    layer_norm: bool = False  # LayerNorm with a bias; else RMSNorm
    attention: str = "self_attn"
    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")  # a single name: one fused projection
    output: str = "o_proj"
    qkv_bias: Bias = False
    output_bias: Bias = False
    qk_norm: Literal["", "head", "width"] = ""  # RMSNorm of queries and keys, for each head or over the full width
    mlp: str = "mlp"
    gate_up: tuple[str, ...] = ("gate_proj", "up_proj")  # a single name with `gated`: one fused projection
    down: str = "down_proj"
    gated: bool = True
    mlp_bias: Bias = False
    head_bias: bool = False
    tied: bool = False  # default where config.json has no `tie_word_embeddings`
    transposed: bool = False  # weights are (in, out), as in GPT-2's Conv1D
    experts: str = ""  # config.json key with the number of experts; if set, the MLP is a mixture of experts
    expert_width: str = "moe_intermediate_size"
    shared_expert: bool = False
    lora_on_experts: bool = (
        False  # PEFT's `all-linear` reaches experts and router (peft.utils.transformers_weight_conversion)
    )
    grouped: bool = True  # grouped-query attention, if config.json has `num_key_value_heads`
    parallel: bool = False  # attention and MLP read the same normed input


_QKV_BIAS = Family(qkv_bias=True)
_ATTENTION_BIAS = Family(qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias")
_GEMMA2_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)

FAMILIES: dict[str, Family] = {
    "llama": _ATTENTION_BIAS,
    "granite": _ATTENTION_BIAS,
    "smollm3": Family(qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias", tied=True),
    "mistral": Family(),
    "qwen2": _QKV_BIAS,
    "qwen3": Family(qkv_bias="attention_bias", output_bias="attention_bias", qk_norm="head"),
    "gemma": Family(qkv_bias="attention_bias", output_bias="attention_bias", tied=True),
    "gemma2": Family(qkv_bias="attention_bias", output_bias="attention_bias", tied=True, norms=_GEMMA2_NORMS),
    "gemma3_text": Family(
        qkv_bias="attention_bias", output_bias="attention_bias", tied=True, norms=_GEMMA2_NORMS, qk_norm="head"
    ),
    "olmo2": Family(
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        norms=("post_attention_layernorm", "post_feedforward_layernorm"),
        qk_norm="width",
    ),
    "glm4": Family(
        qkv_bias="attention_bias",
        gate_up=("gate_up_proj",),
        norms=("input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm"),
    ),
    "phi3": Family(qkv=("qkv_proj",), gate_up=("gate_up_proj",)),
    "phi": Family(
        final_norm="model.final_layernorm",
        norms=("input_layernorm",),
        layer_norm=True,
        output="dense",
        qkv_bias=True,
        output_bias=True,
        gate_up=("fc1",),
        down="fc2",
        gated=False,
        mlp_bias=True,
        head_bias=True,
        parallel=True,
    ),
    "starcoder2": Family(
        layer_norm=True,
        qkv_bias="use_bias",
        output_bias="use_bias",
        gate_up=("c_fc",),
        down="c_proj",
        gated=False,
        mlp_bias="use_bias",
        tied=True,
    ),
    "stablelm": Family(layer_norm=True, qkv_bias="use_qkv_bias"),
    "gpt2": Family(
        embedding="transformer.wte",
        positions="transformer.wpe",
        layers="transformer.h",
        final_norm="transformer.ln_f",
        norms=("ln_1", "ln_2"),
        layer_norm=True,
        attention="attn",
        qkv=("c_attn",),
        output="c_proj",
        qkv_bias=True,
        output_bias=True,
        gate_up=("c_fc",),
        down="c_proj",
        gated=False,
        mlp_bias=True,
        tied=True,
        grouped=False,
        transposed=True,
    ),
    "gpt_neox": Family(
        embedding="gpt_neox.embed_in",
        layers="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        layer_norm=True,
        attention="attention",
        qkv=("query_key_value",),
        output="dense",
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        gate_up=("dense_h_to_4h",),
        down="dense_4h_to_h",
        gated=False,
        mlp_bias=True,
        grouped=False,
        parallel=True,
    ),
    "mixtral": Family(experts="num_local_experts", expert_width="intermediate_size", lora_on_experts=True),
    "qwen2_moe": Family(qkv_bias="qkv_bias", experts="num_experts", shared_expert=True),
    "qwen3_moe": Family(
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        qk_norm="head",
        experts="num_experts",
        lora_on_experts=True,
    ),
}
#: (family, config key) of biases that are on if config.json lacks the key.
ON_BY_DEFAULT = {
    ("gpt_neox", "attention_bias"),
    ("starcoder2", "use_bias"),
    ("glm4", "attention_bias"),
    ("qwen2_moe", "qkv_bias"),
}
