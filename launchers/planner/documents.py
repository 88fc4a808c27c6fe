"""The memory advice of the project's documents, and their table for 32B on 8 GPUs, recomputed with their precision."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from . import states, strategies
from .memory import GIB, Setup, host, peak
from .states import PURE_BF16
from .strategies import Limits

BILLION = 10**9


class Advice(NamedTuple):
    """What the documents advise for a model of this size: their text, and the setup it means."""

    words: str
    setup: Setup


def advice(setup: Setup) -> Advice:
    """≤ 13B: ZeRO-2 and checkpointing; about 32B: ZeRO-2 and optimizer offload; ≥ 65B: ZeRO-3, offload, buckets.

    A size between two of these belongs to the nearer one.
    """
    size = setup.tuning.count / BILLION
    if size <= 22:
        words, other = "≤ 13B: ZeRO-2 + activation checkpointing", strategies.sharded(setup, 2, "none")
    elif size <= 48:
        words, other = "≈ 32B: ZeRO-2 + optimizer offload", strategies.sharded(setup, 2, "optimizer")
    else:
        words, other = "≥ 65B: ZeRO-3 + offload + bucket tuning", strategies.sharded(setup, 3, "optimizer+param")
    return Advice(words, replace(other, checkpointing=True))


def departure(setup: Setup, chosen: Setup | None, limits: Limits) -> str:
    """A sentence that compares our choice with the documents' advice, and gives the reason where they differ."""
    words, theirs = advice(setup)
    room, host_room = limits.room(theirs), limits.host_room(theirs)
    found = f"the documents advise {words}: {peak(theirs).total / GIB:.1f} GiB"
    if room is not None and room < 0:
        why = f"does not fit in {setup.precision.name} precision, {-room / GIB:.1f} GiB short"
        if setup.tuning.lora is None:
            why += f" (their figures count {PURE_BF16.total} bytes a parameter, training takes {setup.precision.total})"
        return f"{found}, which {why}"
    if host_room is not None and host_room < 0:
        return f"{found}, but {-host_room / GIB:.0f} GiB more host memory than there is"
    if chosen is None or (chosen.zero, chosen.offload) == (theirs.zero, theirs.offload):
        return f"{found}, and so do we"
    ours = strategies.name(chosen)
    if theirs.offload != "none" and chosen.offload == "none":
        needed = sum(host(theirs).values()) / GIB
        return f"{found} and {needed:.0f} GiB of host memory with a slow step on the CPU; {ours} fits without"
    return f"{found}; {ours} moves no more data and fits as well"


class Row(NamedTuple):
    """A row of the documents' table, in GB (10^9 bytes) on each GPU."""

    name: str
    document: float
    ours: float
    note: str = ""


def table_32b() -> list[Row]:
    """The documents' rows with their precision: 2 bytes of weights, 2 of gradients, 4 of Adam states a parameter.

    With optimizer offload the documents keep the gradients on the GPU.
    """
    size = 32 * BILLION

    def total(stage: int, *, offload: bool = False) -> float:
        found = states.sharded(size, PURE_BF16, stage, 8)
        return sum(found._replace(optimizer=0.0) if offload else found) / BILLION

    slip = "counts the optimizer twice and leaves out the gradients that its text keeps: 8 + 8 + 0"
    return [
        Row("unsharded", 256, total(0)),
        Row("ZeRO-1", 144, total(1)),
        Row("ZeRO-2", 88, total(2)),
        Row("ZeRO-2 + optimizer offload", 72, total(2, offload=True)),
        Row("ZeRO-3", 32, total(3)),
        Row("ZeRO-3 + optimizer offload", 24, total(3, offload=True), slip),
    ]
