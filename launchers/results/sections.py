"""What a report says besides its curves: attempts, goodput, data, safety, answers, provenance, as rows of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from alignlaunch.train import trained_folder
from alignlaunch.train.outputs import checkpoints, goodput, manifest
from alignlaunch.train.outputs.goodput import Goodput

from ..watch import progress
from .gather import Result

#: Answers that are shown of a run; the file has them all.
MOST_ANSWERS = 5
#: A longer text is cut: a page is to be mailed.
_LONGEST = 2000
_MADE_FROM = ("submitted_at", "user", "host", "git_commit", "git_dirty", "cluster", "command_line", "alignlaunch")
_RAN_WITH = ("device", "precision", "world_size", "python")
Rows = list[list[str]]


def attempts(results: Sequence[Result], labels: Sequence[str]) -> Rows:
    """Run, number, start, end, cause, nodes, steps and what was decided, of each attempt."""
    return [
        [
            *(label, str(number), _clock(one.start), _clock(one.end)),
            f"{one.cause} ({one.node})" if one.node else one.cause,
            one.nodes,
            f"{one.steps[0]} to {one.steps[1]}" if one.steps else "",
            one.then,
        ]
        for label, result in zip(labels, results, strict=True)
        for number, one in enumerate(result.attempts, start=1)
    ]


def shares(results: Sequence[Result], labels: Sequence[str]) -> list[tuple[str, str, list[tuple[str, float]]]]:
    """Of each run with a goodput: its label, that in words, and the parts of its wall time in percent."""
    return [
        (label, _goodput(found), [(part, 100 * found.share(part)) for part in goodput.PARTS if found.seconds[part]])
        for label, result in zip(labels, results, strict=True)
        if (found := result.goodput)
    ]


def _goodput(found: Goodput) -> str:
    return f"goodput {100 * found.goodput:.1f} % of {progress.shown(found.wall)}"


def data(results: Sequence[Result], labels: Sequence[str]) -> Rows:
    """Run, training and validation data, rows of it, records trained on, passes over it."""
    return [
        [label, _sources(result.job, "train"), _sources(result.job, "validation"), *_trained(result)]
        for label, result in zip(labels, results, strict=True)
        if result.job
    ]


def safety(results: Sequence[Result], labels: Sequence[str]) -> tuple[list[str], Rows]:
    """The names of the safety evaluation's figures, and for each run that has one a row of them."""
    found = {}
    for label, result in zip(labels, results, strict=True):
        if result.folder and (told := dict(_numbers("", _read_json(result.folder / trained_folder.SAFETY[0])))):
            found[label] = told
    names = list(dict.fromkeys(name for told in found.values() for name in told))
    return names, [[label, *(told.get(name, "") for name in names)] for label, told in found.items()]


def answers(results: Sequence[Result], labels: Sequence[str]) -> list[tuple[str, Rows]]:
    """Of each run with answers: its label, and prompt, answer before, answer after, and scores of the first."""
    found = []
    for label, result in zip(labels, results, strict=True):
        if result.folder and (rows := list(islice(_answers(result.folder / trained_folder.SAFETY[1]), MOST_ANSWERS))):
            found.append((label, rows))
    return found


def provenance(results: Sequence[Result], labels: Sequence[str]) -> list[tuple[str, Rows]]:
    """Of each run: its label, and what made it, by name."""
    return [(label, list(_made(result))) for label, result in zip(labels, results, strict=True)]


def _made(result: Result) -> Iterator[list[str]]:
    yield ["handle", result.handle]
    for source, names in ((result.made_from, _MADE_FROM), (result.about, _RAN_WITH)):
        yield from ([name.replace("_", " "), text(source[name])] for name in names if source.get(name) is not None)
    versions = result.about.get("versions")
    if isinstance(versions, dict):
        yield ["versions", ", ".join(f"{name} {text(version)}" for name, version in versions.items())]
    if changed := result.made_from.get("set"):
        yield ["changed by --set", " ".join(changed)]
    yield ["results", str(result.folder or "not seen from here")]


def _sources(job: dict[str, Any], which: str) -> str:
    found = job.get("data")
    sources = found.get(which) if isinstance(found, dict) else None
    if not isinstance(sources, list):
        return text(sources) if sources else ""
    return ", ".join(text(one) for one in sources)


def _trained(result: Result) -> tuple[str, str, str]:
    """Rows of the training data, records trained on and passes, as the last checkpoint says."""
    saved = checkpoints.folders(result.folder)[-1:] if result.folder else []
    about = manifest.read(saved[0]) if saved else None
    if about is None or not about.rows:
        return "", "", ""
    return f"{about.rows:,}", f"{about.records:,}", f"{about.records / about.rows:.3g}"


def _answers(path: Path) -> Iterator[list[str]]:
    try:
        with path.open("rb") as file:
            for line in islice(file, 10 * MOST_ANSWERS):
                found = _parsed(line)
                both = found.get("answers")
                if isinstance(both, dict):
                    scores = [f"{name} {text(found[name])}" for name in ("helpful", "harmless") if name in found]
                    yield [
                        *(text(one) for one in (found.get("prompt"), both.get("start"), both.get("trained"))),
                        "; ".join(scores),
                    ]
    except OSError:
        return


def _numbers(prefix: str, found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        key = f"{prefix}/{name}" if prefix else name
        if isinstance(value, dict) and key.count("/") < 4:
            yield from _numbers(key, value)
        elif type(value) in (int, float):
            yield key, f"{value:.3g}" if isinstance(value, float) else text(value)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return {}


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def text(value: Any) -> str:
    """A value as text: a string as it is, another as JSON; what is very long is cut."""
    if isinstance(value, dict) and all(isinstance(one, float | int) for one in value.values()):
        told = ", ".join(
            f"{name} {one:.3g}" if isinstance(one, float) else f"{name} {one}" for name, one in value.items()
        )
    else:
        told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]} ..."


def _clock(time: float | None) -> str:
    return f"{datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M:%S}" if time is not None else ""
