"""What a forward pass keeps for the backward pass, operator by operator, in bytes a token.

The counting is that of Korthikanti et al. (arXiv 2205.05198) with what autograd really saves in transformers' decoder
layers, which differs with the precision: under autocast each linear layer keeps a 16-bit copy of its own of an fp32
input, RMSNorm works on an fp32 copy, and PEFT's LoRA layers cast, drop out and keep their inputs apart.
tests/planner/test_memory.py holds every figure against torch's memory tracker.
"""

from __future__ import annotations

from dataclasses import dataclass

from .architecture.shapes import Architecture
from .tuning import Adapted

#: Activation functions written in Python, which keep each intermediate result; a fused one keeps its input.
_UNFUSED = {"gelu_new": 4, "gelu_fast": 4}

NO_ADAPTER = Adapted(0, 0, 0, 0)


@dataclass(frozen=True)
class Compute:
    """In which precision the layers compute, and what of them is trained."""

    stream: int  # bytes of a number of the residual stream
    compute: int  # bytes of a number in a matrix product
    autocast: bool
    trained: bool  # the base's own weights
    adapter: int = 0  # bytes of an adapter's weight; 0: no adapter
    dropout: bool = False  # before the adapter
    adapted: Adapted = NO_ADAPTER


@dataclass(frozen=True)
class Attention:
    """How attention is computed."""

    eager: bool  # scores are materialised; else a fused kernel keeps one number a row
    masked: bool  # batches are padded: scaled_dot_product_attention gets a mask, and keys and values for every head


def layer(arch: Architecture, how: Compute, attention: Attention, sequence: int) -> float:
    """Bytes that one decoder layer keeps for each token of sequences of this length."""
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
    """LayerNorm keeps its input; RMSNorm an fp32 copy and, where its weight is trained, the normed input."""
    if layer_norm:
        return width * (4 if how.autocast else given)
    return width * (4 + (given if how.trained else 0))


def _inputs(width: int, given: int, linears: int, adapters: int, how: Compute, *, kept: bool = False) -> float:
    """What linear layers that share an input keep of it. kept: the input is kept by the operator that made it."""
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
    """Queries, keys, values and the output; with eager attention the scores and their softmax as well."""
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
    """Each token's copies for its experts: their inputs, inner products and outputs, which are weighted and added."""
    shared = arch.config.get("shared_expert_intermediate_size") if arch.family.shared_expert else 0
    inner = arch.experts_per_token * (2 * arch.hidden + 4 * arch.intermediate) + 4 * (shared or 0)
    return how.compute * inner + normed * arch.hidden + 4 * 3 * arch.experts


def inner_width(arch: Architecture) -> int:
    """The MLP's width as a token meets it."""
    return arch.intermediate * (arch.experts_per_token if arch.experts else 1)


def transient(arch: Architecture, how: Compute, attention: Attention, sequence: int) -> float:
    """Bytes a token beyond what is kept, at the widest place of one layer's backward pass.

    That is where the MLP's inner gradients meet: of the gate's activation and of the up projection, beside the residual
    stream's; or, with an adapter on the down projection, its input's gradient in the adapter's precision as well.
    """
    width = inner_width(arch)
    mlp: float = 2 * how.compute * width
    if how.adapted.on_mlp_output:
        cast = how.adapter if how.adapter > how.compute else how.compute / 2
        mlp += width * cast * (1 + how.dropout)
    scores = (4 + 4 + how.compute) * arch.heads * sequence if attention.eager else 0
    return max(mlp, scores) + how.stream * arch.hidden


def final_norm(arch: Architecture, how: Compute) -> float:
    """Bytes a token of the norm before the head, with its output."""
    kept = _norm(arch.hidden, how.stream, how, layer_norm=arch.family.layer_norm)
    return kept + how.stream * arch.hidden
