"""What one rank does for all: a decision, or work whose result the others read from a folder."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError
from . import spread
from .beats import beats
from .rendezvous import Rendezvous

T = TypeVar("T")


def by_rank_0(decide: Callable[[], T], place: Rendezvous) -> T:
    """Rank 0's decision, on every rank. If each decided alone, a shared file system might show them different states.

    A collective. A UserError on rank 0 is raised on all ranks.
    """
    outcomes = spread.gather(_attempt(decide) if place.rank == 0 else None)
    _raise_first(outcomes)
    decided: T = outcomes[0]
    return decided


def together(work: Callable[[], T]) -> list[T]:
    """Let every rank do its part. Returns the results of all, on each. A collective.

    A UserError on one rank is raised on all.
    """
    outcomes = spread.gather(_attempt(work))
    _raise_first(outcomes)
    return outcomes


def once(work: Callable[[], T], folder: Path, place: Rendezvous) -> T:
    """Do the work on rank 0, and on the first rank of each node that does not see rank 0's `folder`.

    Returns on every rank the result of the one that worked for it. The others wait in a collective, as long as it
    takes, and do not poll the file system. A UserError on one rank is raised on all.
    """
    mark = by_rank_0(lambda: _mark(folder), place)
    here = spread.gather(((folder / mark).exists(), platform.node(), place.local_rank))
    if place.rank == 0:
        (folder / mark).unlink()
    worker = _worker(here, place.rank)
    outcome = _attempt(work) if worker == place.rank else None
    with beats.waiting():
        outcomes = spread.gather(outcome)
    _raise_first(outcomes)
    result: T = outcomes[worker]
    return result


def are_one(folder: Path, place: Rendezvous) -> bool:
    """Whether the folder is the same one for all ranks. A collective. Raises UserError if rank 0 cannot write to it."""
    mark = by_rank_0(lambda: _mark(folder), place)
    seen = spread.gather((folder / mark).exists())
    if place.rank == 0:
        (folder / mark).unlink()
    return all(seen)


def _worker(here: list[tuple[bool, str, int]], rank: int) -> int:
    """Which rank works for this one: rank 0, or else the last local rank 0 of the same host name up to this rank.

    (A host name alone is not unique: several pods, or nodes of a test, may share one.)
    """
    sees_rank_0, node, _ = here[rank]
    if sees_rank_0:
        return 0
    return max(r for r in range(rank + 1) if here[r][1:] == (node, 0))


def _mark(folder: Path) -> str:
    """Create a file in the folder, by which other ranks tell whether theirs is the same folder. Returns its name."""
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
