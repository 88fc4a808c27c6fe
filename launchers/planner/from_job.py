"""Turn a validated job into the `Setup` whose memory the planner computes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from . import states
from .architecture import model
from .architecture.model import Model, UnknownModelError
from .memory import Setup
from .states import Offload, Precision
from .tuning import Tuning

if TYPE_CHECKING:
    from ..job.job import Job

#: Tokens in a sequence if the job has no `max_length` (the default of TRL's trainers and ours).
DEFAULT_LENGTH = 1024
#: Stages with preference pairs: each sample is two sequences.
PAIRS = ("rm", "dpo", "orpo", "safe_dpo")


def setup(job: Job, found: Model, precision: Precision | None = None) -> tuple[Setup, list[str]]:
    """The setup of a job with this model, and notes on what was assumed.

    precision: count with this one instead of the precision that the entrypoint uses.
    """
    spec, train, arch = job.spec, job.spec.train, found.architecture
    notes = []
    if not found.exact:
        notes.append(f"{found.name}: {found.origin}, taken for a model like Llama: about {found.count:,} parameters")
    if isinstance(arch.config.get("text_config"), dict):
        notes.append("the activations of the vision tower are not counted")
    length = train.get("max_length", DEFAULT_LENGTH)
    if length is None:
        length = int(arch.config.get("max_position_embeddings") or DEFAULT_LENGTH)
        notes.append(f"train.max_length is null: sequences of {length} tokens are assumed")
    each = 2 if spec.stage in PAIRS else 1
    half = bool(train.get("fp16")) or train.get("bf16") is not False
    section, offload = _deepspeed(job)
    full_reference = _needs_reference(job, may_see_images=isinstance(arch.config.get("text_config"), dict))
    packed = bool(train.get("packing", spec.stage == "pt")) or bool(train.get("padding_free"))
    made = Setup(
        tuning=Tuning(found, spec.lora, spec.quantization),
        stage=spec.stage,
        nnodes=job.nnodes,
        nproc_per_node=spec.nproc_per_node,
        zero=job.zero.stage if job.zero else 0,
        offload=offload,
        half=half,
        sequences=job.per_device_batch_size * each,
        sequences_per_sample=each,
        length=length,
        accumulation=job.accumulation_steps,
        checkpointing=bool(train.get("gradient_checkpointing", True)),
        attention_kernel=spec.attn_implementation or "sdpa",
        packed=packed,
        reference=full_reference and spec.lora is None,
        full_reference=full_reference,
        rewards=_rewards(job, found, notes),
        deepspeed=section,
        named_precision=precision or _dtype(job),
    )
    return made, notes


def _deepspeed(job: Job) -> tuple[dict[str, Any], Offload]:
    """`zero_optimization` of the job's DeepSpeed JSON, and what it offloads."""
    section: dict[str, Any] = json.loads(job.zero.text)["zero_optimization"] if job.zero else {}

    def offloaded(key: str) -> bool:
        value = section.get(key)
        return isinstance(value, dict) and value.get("device", "none") != "none"

    if offloaded("offload_param"):
        return section, "optimizer+param"
    return section, "optimizer" if offloaded("offload_optimizer") else "none"


def _needs_reference(job: Job, *, may_see_images: bool) -> bool:
    """Whether a full fine-tune has a reference model beside it. With LoRA the adapter is switched off instead."""
    if job.spec.stage == "dpo":
        return not _is_kept(job, may_see_images=may_see_images)
    return job.spec.stage == "safe_dpo" and job.spec.train.get("scores") == "live"


def _is_kept(job: Job, *, may_see_images: bool) -> bool:
    """Whether dpo computes its reference before training: as the stage decides, and not where that is not known."""
    train, examples = job.spec.train, job.spec.data.max_train_samples
    asked = train.get("precompute_ref_log_probs")
    if asked is not None:
        return bool(asked)
    if may_see_images or train.get("sync_ref_model"):
        return False
    steps = int(train.get("max_steps", -1))
    if steps > 0:
        return examples is not None and steps * job.effective_batch_size > examples
    return float(train.get("num_train_epochs", 3)) > 1


def _rewards(job: Job, policy: Model, notes: list[str]) -> tuple[int, ...]:
    """Parameters of each reward model that stays on the GPU during training (`scores: live`)."""
    if job.spec.train.get("scores") != "live":
        return ()
    sizes = []
    for key, folder in job.reward_models.items():
        try:
            sizes.append(model.find(folder, job.dir, score_head=True).count)
        except UnknownModelError:
            sizes.append(policy.count)
            notes.append(f"train.{key}: not here; taken to be as large as the model")
    return tuple(sizes)


def _dtype(job: Job) -> Precision | None:
    """`train.model_init_kwargs: {dtype: bfloat16}` makes a full fine-tune without ZeRO train purely in 16 bits."""
    options = job.spec.train.get("model_init_kwargs")
    dtype = options.get("dtype") if isinstance(options, dict) else None
    pure = dtype in ("bfloat16", "float16") and job.spec.lora is None and job.zero is None
    return states.PURE_BF16 if pure else None
