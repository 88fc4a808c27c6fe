"""Nodes that runs found faulty: a file that later submissions read, to leave these out until an entry expires."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError
from ..files import append, shared_mode, unwritable, write_atomic
from ..paths import state_home

#: Passed to the batch script, which notes nodes there.
VARIABLE = "ALIGNLAUNCH_BAD_NODES"
#: A node that was mended is used again after a week at the latest.
DAYS = 7


@dataclass(frozen=True)
class BadNode:
    """A node, why it is left out, the run that found it ("": a person), and when (seconds since 1970)."""

    node: str
    cause: str
    run: str
    time: float

    @property
    def until(self) -> float:
        return self.time + DAYS * 86400


def path(configured: str | None) -> Path:
    """The file: the cluster profile's `bad_nodes`, or else the user's own."""
    return Path(configured).expanduser() if configured else state_home() / "bad_nodes.jsonl"


def names(configured: str | None) -> list[str]:
    """The nodes to leave out now, by the cluster profile's file or the user's own. Raises OSError."""
    return [one.node for one in read(path(configured))]


def add(file: Path, bad: BadNode) -> None:
    """Append a node. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    append(file, json.dumps(asdict(bad)) + "\n", mode=shared_mode(file.parent))


def note(file: Path, node: str, cause: str) -> None:
    """Append a node that a person names. Raises UsageError."""
    if not _is_name(node):
        raise UsageError(f"--add {node}: not a node's name\n    remedy: as `sinfo -N` or `kubectl get nodes` prints it")
    try:
        add(file, BadNode(node, cause, "", time.time()))
    except OSError as error:
        raise unwritable(file.parent, error) from error


def read(file: Path) -> list[BadNode]:
    """The nodes whose entries have not expired, each with its latest one. Other lines are skipped. Raises OSError."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = dict[str, BadNode]()
    for line in lines:
        try:
            one = json.loads(line)
            bad = BadNode(str(one["node"]), str(one["cause"]), str(one["run"]), float(one["time"]))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            continue
        # An entry from the future, beyond what clocks differ, would leave the node out for ever.
        if time.time() - DAYS * 86400 < bad.time < time.time() + 86400 and _is_name(bad.node):
            found[bad.node] = bad
    return list(found.values())


def forget(file: Path, node: str) -> bool:
    """Remove a node's entries. Returns whether there were any. Raises UsageError."""
    kept = read(file)
    if node not in {one.node for one in kept}:
        return False
    try:
        rest = "".join(json.dumps(asdict(one)) + "\n" for one in kept if one.node != node)
        write_atomic(file, rest, mode=shared_mode(file.parent))
    except OSError as error:
        raise unwritable(file.parent, error) from error
    return True


def _is_name(node: str) -> bool:
    """Whether this can be a node's name: it becomes part of an option of sbatch."""
    return 0 < len(node) < 256 and all(c.isascii() and (c.isalnum() or c in "._-") for c in node) and node[0] != "-"
