"""Bytes on one GPU at each moment of a training step, by term, and in one host's memory, for what train/ really does.

Below ZeRO a full fine-tune holds fp32 weights and computes under autocast; under ZeRO DeepSpeed casts the weights and
keeps fp32 masters. A LoRA base is held in 16 bits (or quantised), the adapter in fp32, under ZeRO in 16 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from alignlaunch.train.config import Lora, Stage

from . import activations, heads, lora, states
from .activations import Attention, Compute
from .model import Model
from .states import AUTOCAST, FP32, MIXED, Offload, Precision, States

GIB = 2**30
Quantization = Literal["none", "8bit", "4bit"]
TERMS = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "buckets",
    "reference, rewards",
    "workspace",
)
#: Bytes of a quantised weight: 8-bit; NF4 with its doubly quantised scales (QLoRA, arXiv 2305.14314: 0.127 bits).
_QUANTISED: dict[Quantization, float] = {"8bit": 1.0, "4bit": (4 + 0.127) / 8}
#: Under fp32 ZeRO keeps its partition of the weights twice.
_FP32_ZERO = Precision("fp32", 4, 4, 12, "fp32 throughout; ZeRO keeps a copy of the weights")


@dataclass(frozen=True)
class Setup:
    """All that decides the memory of a step. An alternative to a job is this with other values."""

    model: Model
    stage: Stage
    nnodes: int
    nproc_per_node: int
    zero: int  # 0: DDP
    offload: Offload
    lora: Lora | None
    quantization: Quantization
    half: bool  # bf16 or fp16; else fp32
    sequences: int  # in one forward pass of one process: two for each preference pair
    length: int  # tokens of the longest sequence
    accumulation: int
    checkpointing: bool
    attention: Attention
    reference: Literal["none", "trl", "own"] = "none"  # a frozen copy, by TRL's trainer or by ours
    rewards: tuple[int, ...] = ()  # parameters of each reward model that is scored live
    deepspeed: dict[str, Any] = field(default_factory=dict, hash=False)  # `zero_optimization` of the JSON
    named_precision: Precision | None = None  # in place of what the entrypoint does

    @property
    def gpus(self) -> int:
        """All processes."""
        return self.nnodes * self.nproc_per_node

    @property
    def tokens(self) -> int:
        """In one forward pass of one process."""
        return self.sequences * self.length

    @property
    def trained(self) -> int:
        """Parameters that get gradients."""
        if self.lora is None:
            return self.model.count
        return lora.trainable(self.model.parameters, self.lora, self.model.architecture.family)

    @property
    def precision(self) -> Precision:
        """Of the trained parameters."""
        if self.named_precision:
            return self.named_precision
        if self.half:
            return MIXED if self.zero else AUTOCAST
        return _FP32_ZERO if self.zero else FP32


class Phase(NamedTuple):
    """Bytes on one GPU at one moment of a step, by term."""

    name: str
    terms: dict[str, float]

    @property
    def total(self) -> float:
        """Bytes."""
        return sum(self.terms.values())


def model_states(setup: Setup) -> States:
    """Bytes of weights, gradients and optimizer states, those of a frozen base included."""
    found = states.sharded(setup.trained, setup.precision, setup.zero, setup.gpus, setup.offload)
    if setup.lora is None:
        return found
    base = _base(setup) / (setup.gpus if setup.zero == 3 else 1)
    return found._replace(weights=found.weights + (0 if setup.offload == "optimizer+param" else base))


def _base(setup: Setup) -> float:
    """Bytes of a frozen base. PEFT casts what is not quantised to fp32, and DeepSpeed back to 16 bits."""
    quantised = setup.quantization != "none"
    each = 2 if setup.half and (setup.zero or not quantised) else 4
    if not quantised:
        return setup.model.count * each
    linear = sum(math.prod(shape) for shape in lora.linear_layers(setup.model.parameters).values())
    return linear * _QUANTISED[setup.quantization] + (setup.model.count - linear) * each


def compute(setup: Setup) -> Compute:
    """In which precision the layers compute."""
    autocast = setup.half and not setup.zero and setup.named_precision is None
    trained = setup.lora is None
    fp32_stream = not setup.half or (autocast and (trained or setup.quantization != "none"))
    how = Compute(4 if fp32_stream else 2, 2 if setup.half else 4, autocast, trained)
    if setup.lora is None:
        return how
    family = setup.model.architecture.family
    first = f"{family.layers}.0."
    leaves = [name.rpartition(".") for name in lora.targets(setup.model.parameters, setup.lora) if first in name]
    in_attention = [leaf for parent, _, leaf in leaves if parent.endswith(family.attention)]
    in_mlp = [leaf for parent, _, leaf in leaves if not parent.endswith(family.attention)]
    return Compute(
        how.stream,
        how.compute,
        how.autocast,
        trained,
        adapter=4 if not setup.half or autocast else 2,
        dropout=setup.lora.dropout > 0,
        on_input=sum(leaf in family.qkv for leaf in in_attention),
        on_output=sum(leaf == family.output for leaf in in_attention),
        on_mlp_input=sum(leaf in family.gate_up for leaf in in_mlp),
        on_mlp_output=sum(leaf == family.down for leaf in in_mlp),
    )


def phases(setup: Setup) -> list[Phase]:
    """The moments of a step at which memory may peak. Between two of them it goes up or down steadily."""
    arch, how, tokens = setup.model.architecture, compute(setup), setup.tokens
    weights, gradients, optimizer = model_states(setup)
    lasting = {
        "weights": weights,
        "optimizer": optimizer,
        "buckets": _buckets(setup),
        "reference, rewards": _frozen_models(setup),
    }
    kept = activations.layer(arch, how, setup.attention, setup.length) * tokens
    transient = activations.transient(arch, how, setup.attention, setup.length) * tokens
    stream = how.stream * arch.hidden * tokens
    copies = _autocast_copies(setup, how)
    norm = activations.final_norm(arch, how) * tokens
    mask = tokens * setup.length if setup.attention.masked else 0
    layers = arch.layers * stream if setup.checkpointing else arch.layers * kept + copies
    recomputed = kept + copies / arch.layers - (stream if how.stream == 4 else 0) if setup.checkpointing else 0
    head = heads.memory(heads.KINDS[setup.stage], arch, how, tokens)
    before = gradients if setup.accumulation > 1 else 0.0  # those of the earlier micro-batches
    table = arch.vocab * arch.hidden * setup.precision.gradients if how.trained else 0

    def phase(name: str, gradients: float, activations: float, logits: float = 0, workspace: float = 0) -> Phase:
        terms = lasting | {
            "gradients": gradients,
            "activations": activations,
            "logits": logits,
            "workspace": workspace,
        }
        return Phase(name, {term: terms[term] for term in TERMS})

    cached = copies if setup.checkpointing else 0
    last_gradients = max(before, min(gradients, table))
    return [
        phase("end of the forward pass", before, layers + cached + norm + mask, head.forward),
        phase("loss", before, layers + norm + mask, head.backward),
        phase("norm before the head", last_gradients, layers + norm + mask, workspace=16 * arch.hidden * tokens),
        phase("backward, last layer", last_gradients, layers + recomputed + mask, workspace=transient),
        phase(
            "backward, first layer",
            gradients,
            kept + copies / arch.layers + mask,
            workspace=transient + (table if arch.tied else 0),
        ),
        phase("optimizer step", gradients, 0, workspace=_fp32_gradients(setup)),
    ]


def peak(setup: Setup) -> Phase:
    """The moment that takes most."""
    return max(phases(setup), key=lambda phase: phase.total)


def floor(setup: Setup) -> float:
    """Bytes on one GPU that are certain: states by shape, and 85 % of activations and logits, the error we allow."""
    certain = ("weights", "gradients", "optimizer", "reference, rewards")
    return max(
        sum(phase.terms[term] for term in certain) + 0.85 * (phase.terms["activations"] + phase.terms["logits"])
        for phase in phases(setup)
    )


def _autocast_copies(setup: Setup, how: Compute) -> float:
    """16-bit copies of the trained weights of the linear layers: autocast keeps each for the backward pass."""
    if not (how.autocast and how.trained):
        return 0
    linear = lora.linear_layers(setup.model.parameters).values()
    experts = [shape for name, shape in setup.model.parameters.items() if ".experts." in name]
    return how.compute * sum(map(math.prod, [*linear, *experts]))


def _frozen_models(setup: Setup) -> float:
    """A reference is held as the policy was loaded, except where TRL hands it to DeepSpeed; rewards in 16 bits."""
    half = 2 if setup.half else 4
    each = setup.model.count
    if setup.reference == "trl":
        reference = each * (half / setup.gpus if setup.zero == 3 else half if setup.zero else 4)
    else:  # ours stands whole on each GPU; under ZeRO-3 in the precision that the policy was created in
        reference = each * (half if setup.zero == 3 else 4) if setup.reference == "own" else 0
    return reference + half * sum(setup.rewards)


def _fp32_gradients(setup: Setup) -> float:
    """DeepSpeed casts its partition of the gradients for the step: at stage 3 one sub-group after the other."""
    if not setup.zero or not setup.half or setup.offload != "none":
        return 0
    share = setup.trained / setup.gpus
    return 4 * (min(share, _value(setup, "sub_group_size", 1e9)) if setup.zero == 3 else share)


def _buckets(setup: Setup) -> float:
    """Communication buffers.

    DDP: buckets as large as all gradients. ZeRO-2 with `overlap_comm`: 4.5 times both buckets at 2 bytes (DeepSpeed's
    documentation), of which the two reduction buffers stand whatever is trained. ZeRO-3: the parameters that are
    gathered at a time, 4 bytes of the largest module (DeepSpeed's estimator) or up to `stage3_max_live_parameters`,
    and the buckets, which transformers sets to h² and 0.9 h².
    """
    if not setup.zero:
        return setup.trained * setup.precision.gradients if setup.gpus > 1 else 0
    half = 2 if setup.half else 4
    if setup.zero == 3:
        squared = setup.model.architecture.hidden ** 2
        buckets = _value(setup, "reduce_bucket_size", squared)
        buckets += _value(setup, "stage3_prefetch_bucket_size", 0.9 * squared)
        live = min(_value(setup, "stage3_max_live_parameters", 1e9), setup.model.count)
        return half * buckets + max(4 * setup.model.largest_module, half * live)
    reduce, gather = _value(setup, "reduce_bucket_size", 5e8), _value(setup, "allgather_bucket_size", 5e8)
    if setup.zero == 1 or not setup.deepspeed.get("overlap_comm"):
        return half * (reduce + min(gather, setup.trained))
    standing = 2 * half * reduce
    return standing + min(4.5 * half * (reduce + gather) - standing, 2 * half * setup.trained)


def _value(setup: Setup, key: str, default: float) -> float:
    value = setup.deepspeed.get(key)
    return float(value) if isinstance(value, (int, float)) else default


def host(setup: Setup) -> dict[str, float]:
    """Bytes of one host's memory by term: DeepSpeed's estimates where it has one, and the models while they load."""
    loaded = 4 if setup.lora is None else 0 if setup.quantization != "none" else 2
    loading = setup.nproc_per_node * loaded * setup.model.count if setup.zero < 3 else 0.0
    if not setup.zero or (setup.zero == 1 and setup.offload == "none"):
        return {"loading": loading}
    estimate = states.deepspeed_estimate(
        setup.trained,
        setup.model.largest_module,
        max(setup.zero, 2),
        nodes=setup.nnodes,
        gpus=setup.nproc_per_node,
        offload=setup.offload,
    )
    base = _base(setup) / setup.nnodes if setup.lora and setup.offload == "optimizer+param" else 0.0
    if setup.offload == "none":
        return {"loading": max(loading, estimate.host if setup.lora is None else 0.0)}
    return {"optimizer": estimate.host, "base": base, "loading": 0.0 if setup.lora is None else loading}


def host_floor(setup: Setup) -> float:
    """Bytes of one host's memory that are certain: offloaded states without DeepSpeed's allowance for buffers."""
    if setup.offload == "none":
        return 0
    whole = setup.precision.optimizer + 4  # and the gradients in fp32, which the step on the CPU reads
    return setup.trained * (whole + (2 if setup.offload == "optimizer+param" else 0)) / setup.nnodes
