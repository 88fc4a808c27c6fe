"""The arguments of safe_dpo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from transformers import TrainingArguments

Objective = Literal["dpo", "mm_dpo", "modpo", "safedpo", "bfpo", "lagrangian"]
Scores = Literal["precomputed", "live"]


@dataclass
class SafeDPOConfig(TrainingArguments):
    """TrainingArguments and what safe_dpo adds. The defaults are those of the Safe-MM-DPO recipe and of the papers that
    `objectives` names."""

    objective: Objective = field(default="lagrangian", metadata={"help": "The loss, see `objectives`."})
    scores: Scores = field(
        default="precomputed",
        metadata={
            "help": "Reference and rewards: precomputed once into columns; or live, a copy of each model on every rank."
        },
    )
    helpful_reward_model: str | None = field(
        default=None, metadata={"help": "Output folder of an `rm` job; for mm_dpo and lagrangian."}
    )
    harmless_reward_model: str | None = field(
        default=None, metadata={"help": "Output folder of an `rm` job; for modpo and lagrangian."}
    )
    beta: float = field(
        default=0.1, metadata={"help": "Scale of the implicit reward; higher stays closer to the reference."}
    )
    mm_w: float = field(
        default=0.5, metadata={"help": "mm_dpo, lagrangian: beta grows up to (1 + w) beta with the reward margin."}
    )
    mm_k: float = field(default=0.5, metadata={"help": "mm_dpo, lagrangian: how fast beta grows."})
    modpo_weight: float = field(
        default=0.5, metadata={"help": "modpo: weight of helpfulness; harmlessness has the rest."}
    )
    safedpo_delta: float = field(
        default=10.0, metadata={"help": "safedpo: margin, in units of beta h, between a safe and an unsafe response."}
    )
    bfpo_b1: float = field(
        default=3.0, metadata={"help": "bfpo: how much the preferred response's safety weighs against the other's."}
    )
    bfpo_alpha: float = field(default=0.5, metadata={"help": "bfpo: shift of the target."})
    lambda_init: float = field(default=1.0, metadata={"help": "lagrangian: initial value of the multiplier lambda."})
    lambda_lr: float = field(default=0.01, metadata={"help": "lagrangian: step size of ln lambda."})
    lambda_max: float = field(default=10.0, metadata={"help": "lagrangian: upper bound of lambda."})
    lambda_ema: float = field(
        default=0.95, metadata={"help": "lagrangian: weight of the old value in the moving average of the cost."}
    )
    cost_budget: float = field(
        default=0.0,
        metadata={
            "help": "lagrangian: the mean cost (minus the harmless score) that is allowed, harmless prompts included."
        },
    )
    kl_coef: float = field(
        default=0.1, metadata={"help": "lagrangian: weight of KL(policy || reference) on the responses."}
    )
    eval_generate: int = field(
        default=0, metadata={"help": "After training, answer this many held-out prompts and judge the answers."}
    )
    eval_max_new_tokens: int = field(default=256, metadata={"help": "Longest answer in that evaluation, in tokens."})
    max_length: int | None = field(default=1024, metadata={"help": "Tokens of prompt and response; responses are cut."})
    max_prompt_length: int | None = field(default=512, metadata={"help": "Tokens of the prompt; its end is kept."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that tokenise; null: one."})
    disable_dropout: bool = field(default=True, metadata={"help": "Set the model's own dropout to 0."})
    model_init_kwargs: dict[str, Any] | None = field(default=None, metadata={"help": "For `from_pretrained`."})

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of its range."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        rules = {
            f"objective must be one of {', '.join(get_args(Objective))}": self.objective in get_args(Objective),
            f"scores must be one of {', '.join(get_args(Scores))}": self.scores in get_args(Scores),
            "beta must be more than 0": self.beta > 0,
            "modpo_weight must lie above 0 and not above 1": 0 < self.modpo_weight <= 1,
            "bfpo_b1 must be more than 1": self.bfpo_b1 > 1,
            "lambda_init must lie above 0 and not above lambda_max": 0 < self.lambda_init <= self.lambda_max,
            "lambda_ema must lie in [0, 1)": 0 <= self.lambda_ema < 1,
        }
        if broken := [rule for rule, kept in rules.items() if not kept]:
            raise ValueError("; ".join(broken))
