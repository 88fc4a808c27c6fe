"""Names and shapes of a model's parameters, derived from its config.json as transformers' class would create them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .families import FAMILIES, ON_BY_DEFAULT, Bias, Family

Shape = tuple[int, ...]
Parameters = dict[str, Shape]
#: Other names that some families (GPT-2, Mixtral) use for a common config.json key.
_ALIASES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "num_local_experts": "num_experts",
}
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


class ShapeError(Exception):
    """A config.json from which the model's size cannot be computed."""


@dataclass(frozen=True)
class Architecture:
    """The dimensions of a decoder-only transformer."""

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int  # inner width of the MLP, or of one expert
    vocab: int
    tied: bool  # the output head shares the embedding's weight
    family: Family
    known: bool  # whether `FAMILIES` has the family; if not, Llama's layout is assumed
    experts: int = 0  # in each mixture-of-experts layer; 0: a dense model
    experts_per_token: int = 0
    config: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def query_width(self) -> int:
        """Width of one token's queries, over all heads."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of one token's keys, over all heads: less than `query_width` with grouped-query attention."""
        return self.kv_heads * self.head_dim


def architecture(config: dict[str, Any]) -> Architecture:
    """The dimensions in a config.json; for a vision-language model, those of its language model.

    Raises ShapeError where one is missing or not a whole number.
    """
    text = config.get("text_config")
    config = {**config, **text} if isinstance(text, dict) else config
    config = {**config, **{new: config[old] for old, new in _ALIASES.items() if config.get(old) is not None}}
    model_type = str(config.get("model_type", ""))
    family = FAMILIES.get(model_type, Family())
    for key in _NEEDED:
        if type(config.get(key)) is not int or config[key] < 1:
            raise ShapeError(f"`{key}` = {config.get(key)!r}: a whole number above 0 is expected")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    experts = _number(config, "num_experts", least=0) if family.experts else 0
    width = config.get("intermediate_size") if not experts else config.get(family.expert_width)
    return Architecture(
        model_type=model_type,
        hidden=hidden,
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=(_number(config, "num_key_value_heads") if family.grouped else 0) or heads,
        head_dim=_number(config, "head_dim") or hidden // heads,
        intermediate=_whole(width, family.expert_width if experts else "intermediate_size") or 4 * hidden,
        vocab=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        family=family,
        known=model_type in FAMILIES and not isinstance(text, dict),
        experts=experts,
        experts_per_token=_number(config, "num_experts_per_tok") or 2,
        config=config,
    )


def _number(config: dict[str, Any], key: str, least: int = 1) -> int:
    return _whole(config.get(key), key, least)


def _whole(value: Any, key: str, least: int = 1) -> int:
    if value is None:
        return 0
    if type(value) is not int or value < least:
        raise ShapeError(f"`{key}` = {value!r}: a whole number of at least {least} is expected")
    return value


def parameters(arch: Architecture, *, score_head: bool = False) -> Parameters:
    """{name: shape} with transformers' names; tied weights appear once.

    score_head: a head with one output (reward model) in place of the output head. Raises ShapeError if a config key
    that only some layers use is not a whole number.
    """
    family = arch.family
    found: Parameters = {f"{family.embedding}.weight": (arch.vocab, arch.hidden)}
    if family.positions:
        found[f"{family.positions}.weight"] = (_number(arch.config, "max_position_embeddings") or 1024, arch.hidden)
    for i in range(arch.layers):
        found |= {f"{family.layers}.{i}.{name}": shape for name, shape in _layer(arch, i)}
    found |= dict(_norm(family.final_norm, arch.hidden, family))
    if score_head:
        found["score.weight"] = (1, arch.hidden)
    else:
        head = dict(_linear(family.head, arch.hidden, arch.vocab, bias=family.head_bias))
        if arch.tied:
            del head[f"{family.head}.weight"]
        found |= head
    return found


def _layer(arch: Architecture, i: int) -> Iterator[tuple[str, Shape]]:
    family, hidden = arch.family, arch.hidden
    for name in family.norms:
        yield from _norm(name, hidden, family)
    at, bias = family.attention, _has(arch, family.qkv_bias)
    widths = [arch.query_width, arch.kv_width, arch.kv_width]
    for name, width in zip(family.qkv, widths if len(family.qkv) > 1 else [sum(widths)], strict=True):
        yield from _linear(f"{at}.{name}", hidden, width, bias=bias, transposed=family.transposed)
    yield from _linear(
        f"{at}.{family.output}",
        arch.query_width,
        hidden,
        bias=_has(arch, family.output_bias),
        transposed=family.transposed,
    )
    if family.qk_norm:
        of_head = family.qk_norm == "head"
        yield f"{at}.q_norm.weight", (arch.head_dim if of_head else arch.query_width,)
        yield f"{at}.k_norm.weight", (arch.head_dim if of_head else arch.kv_width,)
    if arch.experts and is_mixture(arch, i):
        yield from _mixture(arch)
    else:
        # In a mixture-of-experts model `arch.intermediate` is an expert's width; dense layers use `intermediate_size`.
        width = _number(arch.config, "intermediate_size") if arch.experts else arch.intermediate
        yield from _mlp(arch, family.mlp, width)


def is_mixture(arch: Architecture, i: int) -> bool:
    """Whether layer `i` of a mixture-of-experts model has experts (Qwen: `decoder_sparse_step`, `mlp_only_layers`)."""
    dense = arch.config.get("mlp_only_layers") or []
    if not isinstance(dense, list):
        raise ShapeError(f"`mlp_only_layers` = {dense!r}: a list of layers is expected")
    # As in transformers, `decoder_sparse_step` is read only for a layer outside `mlp_only_layers`.
    return i not in dense and (i + 1) % (_number(arch.config, "decoder_sparse_step") or 1) == 0


def _mixture(arch: Architecture) -> Iterator[tuple[str, Shape]]:
    at, hidden, width = arch.family.mlp, arch.hidden, arch.intermediate
    yield f"{at}.gate.weight", (arch.experts, hidden)
    yield f"{at}.experts.gate_up_proj", (arch.experts, 2 * width, hidden)
    yield f"{at}.experts.down_proj", (arch.experts, hidden, width)
    if arch.family.shared_expert:
        yield from _mlp(arch, f"{at}.shared_expert", _number(arch.config, "shared_expert_intermediate_size", least=0))
        yield f"{at}.shared_expert_gate.weight", (1, hidden)


def _mlp(arch: Architecture, at: str, width: int) -> Iterator[tuple[str, Shape]]:
    family, bias = arch.family, _has(arch, arch.family.mlp_bias)
    fused = family.gated and len(family.gate_up) == 1
    for name in family.gate_up:
        wide = 2 * width if fused else width
        yield from _linear(f"{at}.{name}", arch.hidden, wide, bias=bias, transposed=family.transposed)
    yield from _linear(f"{at}.{family.down}", width, arch.hidden, bias=bias, transposed=family.transposed)


def _has(arch: Architecture, bias: Bias) -> bool:
    if isinstance(bias, bool):
        return bias
    return bool(arch.config.get(bias, (arch.model_type, bias) in ON_BY_DEFAULT))


def _linear(
    name: str, fan_in: int, fan_out: int, *, bias: bool, transposed: bool = False
) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (fan_in, fan_out) if transposed else (fan_out, fan_in)
    if bias:
        yield f"{name}.bias", (fan_out,)


def _norm(name: str, width: int, family: Family) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    if family.layer_norm:
        yield f"{name}.bias", (width,)


def count(found: Parameters) -> int:
    """Total number of parameters."""
    return sum(map(math.prod, found.values()))


def largest_module(found: Parameters) -> int:
    """Parameters of the largest module: the least that ZeRO-3 gathers at once."""
    modules: dict[str, int] = {}
    for name, shape in found.items():
        module = name.rpartition(".")[0]
        modules[module] = modules.get(module, 0) + math.prod(shape)
    return max(modules.values(), default=0)
