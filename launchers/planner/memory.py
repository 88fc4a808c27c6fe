"""Memory of one GPU in each phase of a training step, by term, and of one host, for the way train/ trains.

Without ZeRO a full fine-tune has fp32 weights and computes under autocast. With ZeRO, DeepSpeed casts the weights to 16
bits and keeps fp32 master weights. A LoRA base is in 16 bits (or quantised); the adapter is in fp32, with ZeRO in 16
bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from alignlaunch.train.config import Stage

from . import activations, heads, loading, states
from .activations import Attention, Compute
from .states import AUTOCAST, FP32, MIXED, Offload, Precision, States
from .tuning import Quantization, Tuning

GIB = 2**30
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
#: Bytes of a quantised weight. NF4 with double quantisation adds 0.127 bits for its scales (QLoRA, arXiv 2305.14314).
_QUANTISED: dict[Quantization, float] = {"8bit": 1.0, "4bit": (4 + 0.127) / 8}
#: In fp32 training ZeRO keeps a second copy of its partition of the weights.
_FP32_ZERO = Precision("fp32", 4, 4, 12, "fp32 throughout; ZeRO keeps a copy of the weights")


@dataclass(frozen=True)
class Setup:
    """Everything that determines the memory of a step. The planner's alternatives are copies with other values."""

    tuning: Tuning
    stage: Stage
    nnodes: int
    nproc_per_node: int
    zero: int  # 0: DDP
    offload: Offload
    half: bool  # bf16 or fp16; else fp32
    sequences: int  # in one forward pass of one process
    length: int  # tokens in the longest sequence
    accumulation: int
    checkpointing: bool
    attention_kernel: str = "sdpa"
    packed: bool = False  # packing or padding-free: no padding, and so no mask
    sequences_per_sample: int = 1  # two for a preference pair
    reference: bool = False  # a frozen one on each GPU
    full_reference: bool = False  # whether a full fine-tune of this stage would need it
    rewards: tuple[int, ...] = ()  # parameters of each reward model on the GPU (`scores: live`)
    deepspeed: dict[str, Any] = field(default_factory=dict, hash=False)  # `zero_optimization` of the DeepSpeed JSON
    named_precision: Precision | None = None  # replaces the precision that the entrypoint uses

    @property
    def gpus(self) -> int:
        """Processes in total, one for each GPU."""
        return self.nnodes * self.nproc_per_node

    @property
    def samples(self) -> int:
        """Samples in one forward pass of one process: the micro-batch."""
        return self.sequences // self.sequences_per_sample

    @property
    def tokens(self) -> int:
        """Tokens in one forward pass of one process."""
        return self.sequences * self.length

    @property
    def attention(self) -> Attention:
        """The attention kernel. A batch of several sequences is padded, and sdpa then needs a mask."""
        masked = self.attention_kernel == "sdpa" and self.sequences > 1 and not self.packed
        return Attention(eager=self.attention_kernel == "eager", masked=masked)

    @property
    def precision(self) -> Precision:
        """The precision of the trained parameters."""
        if self.named_precision:
            return self.named_precision
        if self.half:
            return MIXED if self.zero else AUTOCAST
        return _FP32_ZERO if self.zero else FP32


class Phase(NamedTuple):
    """Bytes on one GPU in one phase of a step, by term."""

    name: str
    terms: dict[str, float]

    @property
    def total(self) -> float:
        """Bytes over all terms."""
        return sum(self.terms.values())


def model_states(setup: Setup) -> States:
    """Bytes of weights, gradients and optimizer states on one GPU, including a frozen base's weights."""
    found = states.sharded(setup.tuning.trained, setup.precision, setup.zero, setup.gpus, setup.offload)
    if setup.tuning.lora is None:
        return found
    base = _base(setup) / (setup.gpus if setup.zero == 3 else 1)
    return found._replace(weights=found.weights + (0 if setup.offload == "optimizer+param" else base))


def _base(setup: Setup) -> float:
    """Bytes of a frozen base. Of a quantised one, PEFT casts the other weights to fp32, DeepSpeed back to 16 bits."""
    quantised = setup.tuning.quantization != "none"
    each = 2 if setup.half and (setup.zero or not quantised) else 4
    if not quantised:
        return setup.tuning.count * each
    linear = setup.tuning.linear
    return linear * _QUANTISED[setup.tuning.quantization] + (setup.tuning.count - linear) * each


def gathered_weights(setup: Setup) -> float:
    """Bytes of all weights in the precision in which ZeRO-3 gathers them."""
    if setup.tuning.lora is None:
        return setup.tuning.count * setup.precision.weights
    return _base(setup) + setup.tuning.trained * setup.precision.weights


def compute(setup: Setup) -> Compute:
    """The precisions in which the layers compute."""
    autocast = setup.half and not setup.zero and setup.named_precision is None
    trained = setup.tuning.lora is None
    fp32_stream = not setup.half or (autocast and (trained or setup.tuning.quantization != "none"))
    if trained:
        return Compute(4 if fp32_stream else 2, 2 if setup.half else 4, autocast, trained)
    return Compute(
        4 if fp32_stream else 2,
        2 if setup.half else 4,
        autocast,
        trained,
        adapter=4 if not setup.half or autocast else 2,
        dropout=setup.tuning.lora is not None and setup.tuning.lora.dropout > 0,
        adapted=setup.tuning.adapted,
    )


def phases(setup: Setup) -> list[Phase]:
    """The phases of a step in which memory may peak. Between two neighbours it only grows or only shrinks."""
    arch, how, tokens = setup.tuning.model.architecture, compute(setup), setup.tokens
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
    kind = heads.KINDS[setup.stage]
    head = heads.memory(kind, arch, how, tokens)
    before = gradients if setup.accumulation > 1 else 0.0  # accumulated from earlier micro-batches
    table = arch.vocab * arch.hidden * setup.precision.gradients if how.trained else 0
    of_head = 0 if kind == "score" else min(gradients, table)
    # Gradients of all decoder layers. In the first layer's backward pass those of the other layers and of the head
    # exist; the embedding's gradient does not exist yet.
    share = arch.vocab * arch.hidden / setup.tuning.trained if table else 0
    in_layers = gradients * (1 - share * (1 if arch.tied or kind == "score" else 2))

    def phase(name: str, gradients: float, activations: float, logits: float = 0, workspace: float = 0) -> Phase:
        terms = lasting | {
            "gradients": gradients,
            "activations": activations,
            "logits": logits,
            "workspace": workspace,
        }
        return Phase(name, {term: terms[term] for term in TERMS})

    cached = copies if setup.checkpointing else 0
    tables = (1 if heads.adds_in_place(arch, how, tokens) else 2) if arch.tied else 0
    last = max(before, of_head)
    first = max(before, of_head + in_layers * (1 - 1 / arch.layers))
    return [
        phase("end of the forward pass", before, layers + cached + norm + mask, head.forward),
        phase("loss", before, layers + norm + mask, head.backward),
        phase("norm before the head", last, layers + norm + mask, workspace=16 * arch.hidden * tokens),
        phase("backward, last layer", last, layers + recomputed + mask, workspace=transient),
        phase("backward, first layer", first, kept + copies / arch.layers + mask, workspace=transient),
        phase("end of the backward pass", gradients, 0, workspace=stream + tables * of_head),
        phase("optimizer step", gradients, 0, workspace=_fp32_gradients(setup)),
    ]


def peak(setup: Setup) -> Phase:
    """The phase that needs the most memory."""
    return max(phases(setup), key=lambda phase: phase.total)


def floor(setup: Setup) -> float:
    """The least bytes on one GPU: model states exactly, activations and logits at 85 % for the estimate's error."""
    certain = ("weights", "gradients", "optimizer", "reference, rewards")
    return max(
        sum(phase.terms[term] for term in certain) + 0.85 * (phase.terms["activations"] + phase.terms["logits"])
        for phase in phases(setup)
    )


def _autocast_copies(setup: Setup, how: Compute) -> float:
    """Bytes of autocast's 16-bit copies of trained linear weights, each kept until the backward pass."""
    if not (how.autocast and how.trained):
        return 0
    return how.compute * (setup.tuning.linear + setup.tuning.in_experts)


def _frozen_models(setup: Setup) -> float:
    """Bytes of the reference and the reward models.

    A reference has the precision in which the policy is loaded: fp32, with ZeRO 16 bits. Reward models are in 16 bits.
    ZeRO-3 shards all of them. In fp32 training all are fp32.
    """
    half = 2 if setup.half else 4
    if setup.zero == 3:
        references = setup.tuning.count if setup.reference else 0
        return half * (references + sum(setup.rewards)) / setup.gpus
    reference = (half if setup.zero else 4) * setup.tuning.count if setup.reference else 0
    return reference + half * sum(setup.rewards)


def _fp32_gradients(setup: Setup) -> float:
    """Bytes of fp32 gradients in the step: DeepSpeed casts its partition, at stage 3 one sub-group at a time."""
    if not setup.zero or not setup.half or setup.offload != "none":
        return 0
    share = setup.tuning.trained / setup.gpus
    return 4 * (min(share, _value(setup, "sub_group_size", 1e9)) if setup.zero == 3 else share)


def _buckets(setup: Setup) -> float:
    """Bytes of communication buffers.

    DDP: buckets as large as all gradients. ZeRO-2 with `overlap_comm`: 4.5 times both buckets at 2 bytes (DeepSpeed's
    documentation); the two reduce buffers among them are allocated however little is trained. ZeRO-3: the parameters
    gathered at a time, which are 4 bytes for each of the largest module (DeepSpeed's estimator) or up to
    `stage3_max_live_parameters`, and the buckets, which transformers sets to h² and 0.9 h² (h: hidden size).
    """
    if not setup.zero:
        return setup.tuning.trained * setup.precision.gradients if setup.gpus > 1 else 0
    half = 2 if setup.half else 4
    if setup.zero == 3:
        squared = setup.tuning.model.architecture.hidden**2
        buckets = _value(setup, "reduce_bucket_size", squared)
        buckets += _value(setup, "stage3_prefetch_bucket_size", 0.9 * squared)
        live = min(_value(setup, "stage3_max_live_parameters", 1e9), setup.tuning.count)
        return half * buckets + max(4 * setup.tuning.largest_module, half * live)
    reduce, gather = _value(setup, "reduce_bucket_size", 5e8), _value(setup, "allgather_bucket_size", 5e8)
    if setup.zero == 1 or not setup.deepspeed.get("overlap_comm"):
        return half * (reduce + min(gather, setup.tuning.trained))
    standing = 2 * half * reduce
    return standing + min(4.5 * half * (reduce + gather) - standing, 2 * half * setup.tuning.trained)


def _value(setup: Setup, key: str, default: float) -> float:
    value = setup.deepspeed.get(key)
    return float(value) if isinstance(value, (int, float)) else default


def host(setup: Setup) -> dict[str, float]:
    """Bytes of one host's memory by term: DeepSpeed's estimate of what is offloaded, and the model during loading."""
    whole = loading.host(setup.tuning, zero=setup.zero, half=setup.half, ranks=setup.nproc_per_node)
    if setup.offload == "none":
        return {"loading": whole}
    estimate = states.deepspeed_estimate(
        setup.tuning.trained,
        setup.tuning.largest_module,
        max(setup.zero, 2),
        # Below stage 3 each process loads the whole model, so DeepSpeed's figure for one node applies.
        nodes=setup.nnodes if setup.zero == 3 else 1,
        gpus=setup.nproc_per_node,
        offload=setup.offload,
    )
    base = _base(setup) / setup.nnodes if setup.tuning.lora and setup.offload == "optimizer+param" else 0.0
    return {"optimizer": estimate.host, "base": base, "loading": 0.0 if setup.tuning.lora is None else whole}


def host_floor(setup: Setup) -> float:
    """The least bytes of one host's memory: offloaded states without DeepSpeed's allowance for buffers."""
    if setup.offload == "none":
        return 0
    whole = setup.precision.optimizer + 4  # 4: the fp32 gradients for the optimizer step on the CPU
    return setup.tuning.trained * (whole + (2 if setup.offload == "optimizer+param" else 0)) / setup.nnodes
