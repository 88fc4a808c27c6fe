"""The reward models that a safe_dpo job needs: no default can know them."""

from __future__ import annotations

from typing import Any

from alignlaunch.train.config import rewards_read

from ..errors import Problem
from .yamlfile import Document


def check(document: Document, data: dict[str, Any]) -> list[Problem]:
    """A problem for each reward model that the objective reads and the job does not name."""
    train = data.get("train")
    if data.get("stage") != "safe_dpo" or not isinstance(train, dict):
        return []
    why = "its evaluation by generation" if train.get("eval_generate") else f"objective {train.get('objective')}"
    return [
        Problem(
            document.place(("train", key)),
            f"train.{key}",
            None,
            f"safe_dpo with {why} needs the {name} reward model",
            f"`train: {{{key}: FOLDER}}`, a model that stage rm has trained"
            + ("; `train: {objective: dpo}` needs none" if not train.get("eval_generate") else ""),
        )
        for name in rewards_read(train)
        if train.get(key := f"{name}_reward_model") is None
    ]
