"""The text of a starter job file: every default of the stage, each line with what it is and why it has this value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from alignlaunch.train.config import Stage

from ..errors import UsageError, printable
from ..job import defaults
from ..job.defaults import Default
from . import fitted, machine, words
from .machine import Machine
from .model import Facts

_HEAD = """\
# yaml-language-server: $schema=alignlaunch.schema.json
# Make that schema with `alignlaunch schema > alignlaunch.schema.json`; editors then complete and check this file.
# Paths are relative to this file. The stage, the model and the data must be named; all else may be deleted.
# In brackets: where a value comes from. Most are the stage's defaults, from a guide or a script: docs/defaults.md.
"""
_TAIL = """
# offload: optimizer                   # where memory is short: none | optimizer | optimizer+param (ZeRO-3)
# time: "12:00:00"                     # time limit; by default the partition's
# env: {NCCL_DEBUG: WARN}              # environment of every process
# secrets: [HF_TOKEN, WANDB_API_KEY]   # names of variables, never values
# k8s: {image: "registry.example.org/alignlaunch:1", working_dir: /shared/project/jobs, cpu: 32, memory: 256Gi}
"""
_MODEL, _DATA = "../model/Qwen/Qwen3-0.6B", "../data/train"
#: What a stage needs and no default can know.
_NEEDED = {
    "safe_dpo": [
        Default(f"train.{name}_reward_model", f"models/{name}_rm", "write yours") for name in ("helpful", "harmless")
    ]
}
_PLAIN = re.compile(r"[A-Za-z_./][\w./-]*\Z", re.ASCII)
_WORD = re.compile(r"(null|true|false|yes|no|on|off|y|n)\Z", re.IGNORECASE)


class Wanted(NamedTuple):
    """What the user named, as it stands in the file, and what was found out about it."""

    model: str | None = None
    data: str | None = None
    facts: Facts | None = None
    machine: Machine = Machine()


NOTHING = Wanted()


def of(stage: Stage, wanted: Wanted = NOTHING) -> str:
    """The whole file. Raises UsageError for an unknown stage."""
    if stage not in defaults.STAGES:
        raise UsageError(f"no stage {stage!r}\n    remedy: one of {', '.join(defaults.STAGES)}")
    values = fitted.to_model([*defaults.for_stage(stage), *_NEEDED.get(stage, [])], wanted.facts)
    sections: dict[str, list[Default]] = {"": [], "data": [], "lora": [], "train": []}
    for value in fitted.to_machine(values, wanted.machine):
        sections[value.key.rpartition(".")[0]].append(value)
    return "\n".join([_HEAD, *_lines(stage, wanted, sections)]) + "\n" + _TAIL


def _lines(stage: Stage, wanted: Wanted, sections: dict[str, list[Default]]) -> Iterator[str]:
    name = f"my-{stage.replace('_', '-')}"
    tokens = f" [{_about(stage, wanted.facts)}]" if wanted.facts else ""
    yield _commented(f"name: {name}", "of the run and its files, launch/NAME; without this line the file's own name")
    yield _commented(f"stage: {stage}", words.STAGES[stage])
    yield _commented(f"model: {_yaml(wanted.model or _MODEL)}", f"a folder or a hub id{tokens}")
    yield _commented("# tokenizer: ../output/tokenizers_merge", "by default the model's own")
    yield "data:"
    yield _commented(f"  train: [{_yaml(wanted.data or _DATA)}]", "files, folders or hub ids")
    yield _commented(
        "  # validation: [../data/eval]", "or validation_share: 0.05, held out of the training data; without: none"
    )
    yield from (_line("  ", value) for value in sections["data"])
    yield _commented(f"output_dir: ../output/{name}", "the trained model, checkpoints and metrics")
    yield ""
    yield from (_line("", value) for value in sections[""])
    yield from _slurm(wanted.machine)
    yield "\nlora: # the adapter that is trained; `lora: null` trains every weight"
    yield from (_line("  ", value) for value in sections["lora"])
    yield "\ntrain: # any argument of the stage's trainer config"
    yield from (_line("  ", value) for value in sections["train"])


def _slurm(of: Machine) -> Iterator[str]:
    found = machine.partition(of.nodes)
    more = ["account: lab", "qos: high", 'extra: ["--constraint=h100"]']
    if found is None:
        why = "sinfo lists no GPUs" if of.nodes else "`sinfo` lists the partitions"
        yield _commented(f"# slurm: {{partition: gpu, {', '.join(more)}}}", f"options of sbatch; {why}")
        return
    yield "slurm: # options of sbatch"
    others = ", ".join(f"{kind.partition} ({fitted.nodes(kind)})" for kind in found.others)
    which = "the default partition" if found.kind.is_default else "the partition with most GPUs"
    also = f"; others: {others}" if others else ""
    yield _commented(
        f"  partition: {_yaml(found.kind.partition)}", f"{which}: {fitted.nodes(found.kind)}{also} [sinfo]"
    )
    yield from (f"  # {one}" for one in more)


def _about(stage: Stage, facts: Facts) -> str:
    told = [facts.type or "no model_type", f"{'' if facts.exact else 'about '}{facts.parameters:,} parameters"]
    told += [f"reads up to {facts.context} tokens"] if facts.context else []
    if stage != "pt":
        told += [
            "with a chat template" if facts.has_template else "no chat template: a plain one of ours is saved with it"
        ]
    return ", ".join(told)


def _line(indent: str, value: Default) -> str:
    name = value.key.rpartition(".")[2]
    return _commented(f"{indent}{name}: {_yaml(value.value)}", f"{words.KEYS[value.key]} [{value.source}]")


def _commented(line: str, comment: str) -> str:
    return f"{line:<38} # {' '.join(printable(comment).split())}"


def _yaml(value: Any) -> str:
    """A value on one line, quoted where YAML would read something else."""
    if isinstance(value, str) and _PLAIN.match(value) and not _WORD.match(value):
        return value
    return json.dumps(value, ensure_ascii=False)
