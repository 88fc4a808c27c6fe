"""`alignlaunch init STAGE`: a commented starter job file with every default of the stage and its source."""

from __future__ import annotations

import json
from typing import Any

from ..errors import UsageError
from . import defaults

_HEAD = """\
# yaml-language-server: $schema=alignlaunch.schema.json
# Make that schema with `alignlaunch schema > alignlaunch.schema.json`; editors then complete and check this file.
# Paths are relative to this file. The values in the lower part are the defaults: change or delete them.
# The comment behind a default is the guide that it comes from: docs/defaults.md.

name: my-{name}
stage: {stage}
model: ../model/Qwen/Qwen3-0.6B        # a folder or a hub id
# tokenizer: ../output/tokenizers_merge
data:
  train: [../data/train]               # files, folders or hub ids
  # validation: [../data/eval]         # or validation_share: 0.05, held out of the training data
"""
_TAIL = """
# offload: optimizer                   # none | optimizer | optimizer+param (ZeRO-3)
# time: "12:00:00"
# env: {NCCL_DEBUG: WARN}
# secrets: [HF_TOKEN, WANDB_API_KEY]   # names of variables, never values
# slurm: {partition: gpu, account: lab, qos: high, extra: ["--constraint=h100"]}
# k8s: {image: "registry.example.org/alignlaunch:1", working_dir: /shared/project/jobs, cpu: 32, memory: 256Gi}
"""

#: What a stage needs and no default can know.
_NEEDED = {
    "safe_dpo": [
        defaults.Default(f"train.{name}_reward_model", f"models/{name}_rm", "yours: what stage rm has trained")
        for name in ("helpful", "harmless")
    ]
}


def text(stage: str) -> str:
    """The starter job file as text. Raises UsageError for an unknown stage."""
    if stage not in defaults.STAGES:
        raise UsageError(f"no stage {stage!r}\n    remedy: one of {', '.join(defaults.STAGES)}")
    sections: dict[str, list[defaults.Default]] = {"": [], "data": [], "lora": [], "train": []}
    for default in [*defaults.for_stage(stage), *_NEEDED.get(stage, [])]:
        section, _, _ = default.key.rpartition(".")
        sections[section].append(default)
    lines = _HEAD.format(name=stage.replace("_", "-"), stage=stage).splitlines()
    lines += [_line("  ", default) for default in sections.pop("data")]
    lines += [f"output_dir: ../output/my-{stage.replace('_', '-')}", ""]
    lines += [_line("", default) for default in sections.pop("")]
    for section, entries in sections.items():
        note = " # null trains every weight" if section == "lora" else " # any argument of the stage's trainer config"
        lines += ["", f"{section}:{note}", *(_line("  ", default) for default in entries)]
    return "\n".join(lines) + "\n" + _TAIL


def _line(indent: str, default: defaults.Default) -> str:
    name = default.key.rpartition(".")[2]
    return f"{f'{indent}{name}: {_yaml(default.value)}':<38} # {default.source}"


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
