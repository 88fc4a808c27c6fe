"""The DeepSpeed JSON of a job: one of ours from zero_configs/, or the user's own, copied unchanged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .paths import PACKAGE

#: (stage, offload) → file in zero_configs/.
NAMED = {
    (1, "none"): "zero1.json",
    (1, "optimizer"): "zero1_offload.json",
    (2, "none"): "zero2.json",
    (2, "optimizer"): "zero2_offload.json",
    (3, "none"): "zero3.json",
    (3, "optimizer"): "zero3_offload_optimizer.json",
    (3, "optimizer+param"): "zero3_offload_all.json",
}


@dataclass(frozen=True)
class ZeroConfig:
    """A DeepSpeed JSON as it is written next to the rendered script."""

    stage: int
    file_name: str
    text: str


class ZeroError(Exception):
    """A choice that DeepSpeed does not support. `key`: the job file's key that is wrong."""

    def __init__(self, key: str, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.key, self.rule, self.remedy = key, rule, remedy


def named(stage: int, offload: str) -> ZeroConfig | None:
    """Our config for a stage and an offload; None for plain DDP. Raises ZeroError for an unsupported combination."""
    if stage == 0:
        if offload != "none":
            raise ZeroError("offload", "offload needs ZeRO", "set `zero: 2` or `zero: 3`, or `offload: none`")
        return None
    file_name = NAMED.get((stage, offload))
    if file_name is None:
        rule = f"ZeRO-{stage} cannot offload parameters: only stage 3 shards them"
        raise ZeroError("offload", rule, "set `zero: 3`, or `offload: optimizer`")
    return ZeroConfig(stage, file_name, _packaged(file_name))


def for_every_stage(offload: str) -> dict[int, ZeroConfig]:
    """{stage: config} for the bash scripts, whose argument selects a stage.

    Each stage has `offload` as far as it supports it: only stage 3 can offload parameters.
    """
    pairs = {1: offload, 2: offload, 3: offload}
    if offload == "optimizer+param":
        pairs |= {1: "optimizer", 2: "optimizer"}
    configs = {stage: named(stage, pair) for stage, pair in pairs.items()}
    return {stage: config for stage, config in configs.items() if config}


def custom(path: Path, offload: str) -> ZeroConfig:
    """The user's own JSON. Raises ZeroError if it cannot be read, has no stage, or the job also sets `offload`."""
    if offload != "none":
        raise ZeroError("offload", "the DeepSpeed JSON decides this itself", "remove it")
    example = "see zero_configs/zero2.json for a whole one"
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text)
    except OSError as error:
        raise ZeroError("zero", f"cannot be read: {error.strerror}", "give 0, 1, 2, 3 or a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise ZeroError("zero", f"not JSON: {error}", example) from error
    section = config.get("zero_optimization") if isinstance(config, dict) else None
    stage = section.get("stage") if isinstance(section, dict) else None
    if type(stage) is not int or stage not in (1, 2, 3):  # stage 0 is plain DDP: `zero: 0`
        raise ZeroError("zero", "no `zero_optimization.stage` of 1, 2 or 3 in it", example)
    return ZeroConfig(stage, f"zero{stage}_custom.json", text)


def _packaged(file_name: str) -> str:
    return (PACKAGE / "zero_configs" / file_name).read_text(encoding="utf-8")
