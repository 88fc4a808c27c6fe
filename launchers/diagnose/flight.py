"""Dumps of torch's flight recorder: which collective hangs, and which ranks did not reach it.

A dump is a pickle, and loading a pickle can run any code. A dump needs plain containers only, so one that names a
class is refused. Format: version 2, as in torch/csrc/distributed/c10d/FlightRecorder.hpp.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: File names: ours (`templates/environment.sh.j2`), and torch's defaults in ~/.cache/torch.
_NAME = re.compile(r"(?:fr|nccl_trace|comm_lib_trace)_rank_(\d{1,6})")
_MOST_BYTES = 64 << 20
_LONGEST = 200


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


@dataclass(frozen=True)
class _Call:
    """One collective as one rank saw it."""

    what: str  # "nccl:all_reduce [[1024]]"
    done: bool
    frame: str  # the caller outside torch, FILE:LINE (FUNCTION); "" if unknown


#: Of one process group: number of a collective → call → the ranks that made it. Most ranks make equal calls.
_Calls = dict[int, dict[_Call, list[int]]]


def dumps(folder: Path) -> dict[int, Path]:
    """rank → dump, for the dumps in a folder."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in found if match and path.is_file()}


def is_dump(path: Path) -> bool:
    """Whether a file has the name of a dump."""
    return _NAME.fullmatch(path.name) is not None


def report(paths: dict[int, Path]) -> list[str]:
    """Lines of text: for each process group the first collective that not every rank completed; and unreadable dumps.

    paths: rank → dump.
    """
    lines = []
    loaded: set[int] = set()
    members: dict[str, set[int]] = defaultdict(set)
    found: dict[str, _Calls] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    last: dict[str, dict[int, int]] = defaultdict(dict)  # group → rank → number of the last collective it reached
    for rank, path in sorted(paths.items()):
        try:
            dump = _load(path)
        except (OSError, ValueError) as error:
            lines.append(f"{path.name}: not a dump of the flight recorder ({error})")
            continue
        loaded.add(rank)
        for group, ranks in _groups(dump).items():
            members[group] |= ranks
        for (group, number), call in _collectives(dump).items():
            found[group][number][call].append(rank)
            last[group][rank] = max(number, last[group].get(rank, 0))
    for group, numbers in found.items():
        for rank in loaded:
            last[group].setdefault(rank, 0)
        lines += _stuck(group, members[group] or loaded, numbers, last[group])
    return lines


def _stuck(group: str, members: set[int], numbers: _Calls, last: dict[int, int]) -> list[str]:
    """Describe the first collective of a group that some rank reached and did not complete."""
    if any(call.done for calls in numbers.values() for call in calls):
        open_ = [number for number, calls in numbers.items() if not all(call.done for call in calls)]
    else:  # none is completed yet, or gloo, which does not record it: the first that not all ranks reached
        came_to = {number: sum(map(len, calls.values())) for number, calls in numbers.items()}
        open_ = [number for number, count in came_to.items() if count < len(last)] or list(numbers)
    if not open_:
        return []
    number = min(open_)
    came = numbers[number]
    kinds: dict[str, list[int]] = defaultdict(list)
    for call, ranks in came.items():
        kinds[call.what] = sorted(kinds[call.what] + ranks)
    some = next(call for call in came if not call.done)
    missing = sorted(rank for rank in members if rank in last and last[rank] < number)
    silent = sorted(members - last.keys())
    what = "; ".join(f"ranks {ranks}: {what}" for what, ranks in kinds.items()) if len(kinds) > 1 else next(iter(kinds))
    lines = [f"flight recorder: collective {number} of group {group} did not end: {what}"]
    if len(kinds) > 1:
        lines.append("    the ranks called different collectives: their programs went different ways")
    if missing:
        lines.append(f"    ranks that did not come to it: {missing}, of {len(members)}")
        lines += [f"    rank {rank} last came to number {last[rank]}" for rank in missing[:4]]
    if silent:
        lines.append(f"    ranks that left no dump: {silent}")
    if not missing and not silent and len(kinds) == 1:
        lines.append("    every rank came to it: the network or NCCL itself hung, or a GPU stands still")
    return [*lines, f"    called at {some.frame}"] if some.frame else lines


def _load(path: Path) -> dict[str, Any]:
    """A dump, from a pickle or from torch's JSON. Raises ValueError for anything else."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError("too large")
    data = path.read_bytes()
    try:
        found = json.loads(data) if data.startswith(b"{") else _Plain(io.BytesIO(data)).load()
    except Exception as error:  # on junk an unpickler may raise any exception
        raise ValueError(str(error) or type(error).__name__) from error
    if not isinstance(found, dict) or not isinstance(found.get("entries"), list):
        raise ValueError("it has no entries")  # noqa: TRY004 - about the file, not an argument
    return found


def _groups(dump: dict[str, Any]) -> dict[str, set[int]]:
    """Process group → its ranks, for the groups whose ranks are listed."""
    found: dict[str, set[int]] = {}
    config = dump.get("pg_config")
    for name, about in config.items() if isinstance(config, dict) else ():
        ranks = re.findall(r"\d+", str(about.get("ranks"))) if isinstance(about, dict) else []
        found[str(name) or "0"] = {int(rank) for rank in ranks}
    return found


def _collectives(dump: dict[str, Any]) -> dict[tuple[str, int], _Call]:
    """(group, number) → call, for every collective. Point-to-point operations are left out."""
    found = {}
    for entry in dump["entries"]:
        try:
            if entry.get("is_p2p"):
                continue
            group, number = str(entry["process_group"][0]), int(entry["collective_seq_id"])
            frames = (
                f"{frame['filename']}:{frame['line']} ({frame['name']})"
                for frame in entry.get("frames") or []
                if "/torch/" not in str(frame["filename"])
            )
            what = f"{entry['profiling_name']} {entry.get('input_sizes')}"[:_LONGEST]
            done = entry.get("state") == "completed"
            found[group, number] = _Call(what, done, next(frames, "")[:_LONGEST])
        except (AttributeError, KeyError, TypeError, ValueError, IndexError):
            continue
    return found
