"""What one process does for others: a decision, or work whose result is shared through a folder."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError
from . import spread
from .rendezvous import Rendezvous

T = TypeVar("T")


def by_rank_0(decide: Callable[[], T], place: Rendezvous) -> T:
    """What rank 0 decides, in every process: each for itself, nodes may see different states of a shared folder.

    A collective. Raises in all processes the UserError that rank 0 met.
    """
    outcomes = spread.gather(_attempt(decide) if place.rank == 0 else None)
    _raise_first(outcomes)
    decided: T = outcomes[0]
    return decided


def once(work: Callable[[], T], folder: Path, place: Rendezvous) -> T:
    """Do the work in rank 0, and in the first process of each node that does not see rank 0's `folder`.

    Returns in every process the result of the one that worked for it. The others wait for it in a collective, for as
    long as it takes, and ask no file system. Raises UserError in all processes where one of them raised it.
    """
    mark = by_rank_0(lambda: _mark(folder), place)
    here = spread.gather(((folder / mark).exists(), platform.node(), place.local_rank))
    if place.rank == 0:
        (folder / mark).unlink()
    worker = _worker(here, place.rank)
    outcomes = spread.gather(_attempt(work) if worker == place.rank else None)
    _raise_first(outcomes)
    result: T = outcomes[worker]
    return result


def _worker(here: list[tuple[bool, str, int]], rank: int) -> int:
    """Which rank works for this one. A host name is not enough: several nodes of a test or of pods may share one."""
    sees_rank_0, node, _ = here[rank]
    if sees_rank_0:
        return 0
    return max(r for r in range(rank + 1) if here[r][1:] == (node, 0))


def _mark(folder: Path) -> str:
    """The name of a new file in the folder, by which others tell whether theirs is the same."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".seen-by-rank-0.")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}. Make it writable, or choose another.") from error
    os.close(handle)
    return Path(name).name


def _attempt(work: Callable[[], T]) -> T | UserError:
    try:
        return work()
    except UserError as error:
        return error


def _raise_first(outcomes: list[Any]) -> None:
    for found in outcomes:
        if isinstance(found, UserError):
            raise UserError(str(found), everywhere=True)
