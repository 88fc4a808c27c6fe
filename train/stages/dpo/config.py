"""The arguments of dpo."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import DPOConfig  # type: ignore[attr-defined]


@dataclass
class Config(DPOConfig):
    """TRL's, but whether the reference is computed before training may be left open."""

    precompute_ref_log_probs: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "The reference's log-probabilities: computed once, before training; or live. null: once, where "
            "training sees its pairs more than once."
        },
    )
