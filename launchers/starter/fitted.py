"""Defaults that this machine or the model makes wrong, with the values that fit instead."""

from __future__ import annotations

from ..backends.slurm.answers import Nodes
from ..job.defaults import Default
from ..planner.from_job import DEFAULT_LENGTH
from . import machine
from .machine import Machine
from .model import Facts

_LENGTH, _PROMPT = "train.max_length", "train.max_prompt_length"


def to_machine(values: list[Default], of: Machine) -> list[Default]:
    """The processes of a node are as many as it has GPUs: in the partition that the file names, or else here."""
    found = machine.partition(of.nodes)
    here = f"{_count(of.gpus.number, 'GPU')} here ({of.gpus.source})"
    if found:
        number, why = machine.per_node(found.kind), f"{nodes(found.kind)} in partition {found.kind.partition} (sinfo)"
        why += f"; {here}" if of.gpus.number else ""
    elif of.gpus.number:
        number, why = of.gpus.number, here
    else:
        number, why = 1, "no GPU was found: write how many a node has"
    return [Default(one.key, number, why) if one.key == "nproc_per_node" else one for one in values]


def to_model(values: list[Default], facts: Facts | None) -> list[Default]:
    """No example is longer than what the model can read."""
    longest = next((one.value for one in values if one.key == _LENGTH), DEFAULT_LENGTH)
    if facts is None or facts.context is None or facts.context >= longest:
        return values
    why = f"all that the model can read (config.json); the default is {longest}"
    found = [one for one in values if one.key != _LENGTH]
    at = next((i for i, one in enumerate(found) if one.key == _PROMPT), len(found))
    found.insert(at, Default(_LENGTH, facts.context, why))
    half = facts.context // 2
    return [
        Default(_PROMPT, half, f"half of max_length; the default is {one.value}")
        if one.key == _PROMPT and one.value > half
        else one
        for one in found
    ]


def nodes(kind: Nodes) -> str:
    """ "2 nodes of 4 h100 GPUs"."""
    types = " and ".join(
        " ".join(filter(None, (str(number), type_, "GPU" if number == 1 else "GPUs")))
        for type_, number in kind.gpus.items()
    )
    return f"{_count(kind.number, 'node')} of {types}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
