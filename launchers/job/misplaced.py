"""Keys at a job file's top level that belong elsewhere: where they do, instead of `unknown key`."""

from __future__ import annotations

from typing import Any

import msgspec

from alignlaunch.train.config import Checkpoint, Data, Lora

from ..errors import Problem
from . import batch, legacy, rules
from .cluster import Cluster, Slurm
from .k8s.spec import K8s
from .spec import JobSpec
from .yamlfile import Document

#: Sections of a job file, by their keys.
_SECTIONS: dict[str, type[msgspec.Struct]] = {
    **{"data": Data, "lora": Lora, "checkpoint": Checkpoint},
    **{"slurm": Slurm, "k8s": K8s},
}


def take(document: Document, data: dict[str, Any]) -> list[Problem]:
    """Remove such keys from `data`. Returns a problem for each; other unknown keys stay."""
    problems = []
    for key in [key for key in data if key not in JobSpec.__struct_fields__]:
        if found := _place_of(key):
            rule, remedy = found
            problems.append(Problem(document.key_place((key,)), key, None, rule, remedy))
            del data[key]
    return problems


def _place_of(key: str) -> tuple[str, str] | None:
    """(rule, remedy)."""
    if key in batch.ARGUMENT or any(key in known for known in rules.trainer_args()["stages"].values()):
        return "an argument of the trainer", f"write it under `train:`, as `train: {{{key}: ...}}`"
    for section, struct in _SECTIONS.items():
        if key in struct.__struct_fields__:
            return f"a key of `{section}:`", f"write it there, as `{section}: {{{key}: ...}}`"
    if key in legacy.DTYPE_NAMES:
        return "another tool's name", "use `train: {bf16: true}`, the default, or `fp16`"
    if move := legacy.MOVES.get(key):
        return "another tool's name", f"use `{move.to}` ({move.why})" if move.to else f"remove it: {move.why}"
    if key in Cluster.__struct_fields__:
        return (
            "a key of a cluster profile",
            "write it into clusters/NAME.yaml beside the job file, and use --cluster NAME",
        )
    return None
