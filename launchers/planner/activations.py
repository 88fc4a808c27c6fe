"""Activation memory: bytes a token that the forward pass saves for the backward pass, operator by operator.

The method is that of Korthikanti et al. (arXiv 2205.05198), applied to the tensors that autograd saves in transformers'
decoder layers. These depend on the precision: under autocast each linear layer saves its own 16-bit copy of an fp32
input, RMSNorm computes on an fp32 copy, and PEFT's LoRA layers save the inputs they have cast and dropped out
separately. tests/launchers/planner/test_memory.py compares every figure with torch's memory tracker.
"""

from __future__ import annotations

from dataclasses import dataclass

from .architecture.shapes import Architecture
from .tuning import Adapted

#: Activation functions written in Python: saved tensors for each. A fused one saves only its input.
_UNFUSED = {"gelu_new": 4, "gelu_fast": 4}

NO_ADAPTER = Adapted(0, 0, 0, 0)


@dataclass(frozen=True)
class Compute:
    """The precisions of a layer, and which of its weights are trained."""

    stream: int  # bytes of one value in the residual stream
    compute: int  # bytes of one value in a matrix product
    autocast: bool
    trained: bool  # the base model's weights get gradients (full fine-tune)
    adapter: int = 0  # bytes of one adapter weight; 0: no adapter
    dropout: bool = False  # LoRA dropout is on
    adapted: Adapted = NO_ADAPTER


@dataclass(frozen=True)
class Attention:
    """The attention kernel, as far as memory depends on it."""

    eager: bool  # the score matrix is materialised; a fused kernel saves one fp32 value a query and head instead
    masked: bool  # padded batches: scaled_dot_product_attention gets a mask, and keys and values repeated to all heads


def layer(arch: Architecture, how: Compute, attention: Attention, sequence: int) -> float:
    """Bytes a token that one decoder layer saves, for sequences of `sequence` tokens."""
    family, hidden = arch.family, arch.hidden
    query, kv = arch.query_width, arch.kv_width
    normed = 4 if family.layer_norm and how.autocast else how.stream
    total = len(family.norms) * _norm(hidden, how.stream, how, layer_norm=family.layer_norm)
    total += _inputs(hidden, normed, len(family.qkv), how.adapted.on_input, how)
    if family.qk_norm:
        total += _norm(query, how.compute, how) + _norm(kv, how.compute, how)
    total += _attention(arch, how, attention, sequence)
    total += _inputs(query, how.compute, 1, how.adapted.on_output, how, kept=True)
    return total + _mlp(arch, how, normed)


def _norm(width: int, given: int, how: Compute, *, layer_norm: bool = False) -> float:
    """LayerNorm saves its input; RMSNorm saves an fp32 copy and, if its weight is trained, the normalised input too."""
    if layer_norm:
        return width * (4 if how.autocast else given)
    return width * (4 + (given if how.trained else 0))


def _inputs(width: int, given: int, linears: int, adapters: int, how: Compute, *, kept: bool = False) -> float:
    """Bytes a token that linear layers with a common input save of it.

    linears: how many; adapters: how many of them have a LoRA adapter; given: bytes of one value of the input; kept: the
    operator that produced the input saves it already.
    """
    total = 0.0
    if how.trained:
        if how.autocast and given > how.compute:
            total += linears * how.compute * width
        elif not kept:
            total += given * width
    if adapters and how.autocast:
        total += adapters * width * (how.compute + how.dropout)
    elif adapters and how.dropout:
        total += adapters * width * (how.adapter + 1)
    elif adapters and not kept:
        total += given * width
    return total


def _attention(arch: Architecture, how: Compute, attention: Attention, sequence: int) -> float:
    """Queries, keys, values and the output; with eager attention also the scores and their softmax."""
    repeated = attention.eager or attention.masked
    kv = arch.query_width if repeated else arch.kv_width
    total: float = how.compute * 2 * (arch.query_width + kv)
    if attention.eager:
        return total + arch.heads * sequence * (4 + how.compute)
    return total + 4 * arch.heads + (how.compute * sequence if attention.masked else 0)


def _mlp(arch: Architecture, how: Compute, normed: int) -> float:
    if arch.experts:
        return _mixture(arch, how, normed)
    family, width = arch.family, arch.intermediate
    total = _inputs(arch.hidden, normed, len(family.gate_up), how.adapted.on_mlp_input, how)
    inner = (3 if family.gated else 1) * how.compute * width  # gate, its activation, up; or the activation's input
    inner *= _UNFUSED.get(str(arch.config.get("hidden_act") or arch.config.get("activation_function")), 1)
    return total + inner + _inputs(width, how.compute, 1, how.adapted.on_mlp_output, how)


def _mixture(arch: Architecture, how: Compute, normed: int) -> float:
    """Mixture of experts: for each expert that a token is routed to, its input, inner activations and output."""
    shared = arch.config.get("shared_expert_intermediate_size") if arch.family.shared_expert else 0
    inner = arch.experts_per_token * (2 * arch.hidden + 4 * arch.intermediate) + 4 * (shared or 0)
    return how.compute * inner + normed * arch.hidden + 4 * 3 * arch.experts


def inner_width(arch: Architecture) -> int:
    """The MLP's inner width for one token: over all experts that the token is routed to."""
    return arch.intermediate * (arch.experts_per_token if arch.experts else 1)


def transient(arch: Architecture, how: Compute, attention: Attention, sequence: int) -> float:
    """Temporary bytes a token at the peak of one layer's backward pass, on top of the saved activations.

    At the peak the gradients of the gate's activation, of the up projection and of the residual stream are live
    together; with an adapter on the down projection, also the gradient of its input in the adapter's precision. With
    eager attention the gradients of the score matrix may be larger.
    """
    width = inner_width(arch)
    mlp: float = 2 * how.compute * width
    if how.adapted.on_mlp_output:
        cast = how.adapter if how.adapter > how.compute else how.compute / 2
        mlp += width * cast * (1 + how.dropout)
    scores = (4 + 4 + how.compute) * arch.heads * sequence if attention.eager else 0
    return max(mlp, scores) + how.stream * arch.hidden


def final_norm(arch: Architecture, how: Compute) -> float:
    """Bytes a token that the norm before the head saves, and its output."""
    kept = _norm(arch.hidden, how.stream, how, layer_norm=arch.family.layer_norm)
    return kept + how.stream * arch.hidden
