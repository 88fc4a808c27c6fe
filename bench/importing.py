"""docs/importing.md: what becomes of other tools' files. `python -m bench.importing --write docs/importing.md`.

The sources are those of tests/launchers/importing. Each is imported, and the job is resolved as for a submission.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.launchers.importing.sources import FOLDER, SOURCES, Source

from alignlaunch.launchers.errors import shorten
from alignlaunch.launchers.importing import read, write
from alignlaunch.launchers.importing.found import Found, Given, Left
from alignlaunch.launchers.job import jobfile

from . import made_page

HEAD = """<!-- Made by `make import-page`. Do not edit. -->
# Importing: what becomes of each key

`alignlaunch import FILE` reads a launch script or another tool's configuration, never runs it, and writes a job file
that says the same ([coming-from-your-own-scripts.md](coming-from-your-own-scripts.md) shows how). Below are the scripts
that the documents describe, and files of other tools, each with all that it says: the job's key for it, and the value
in `job.resolved.yaml`, which is all that training reads. What has no key is named with the reason. Where a source is
silent, the other tool's own default is written into the job file, because ours may be another one.

The defaults are those of transformers 5.24, TRL 1.16, LLaMA-Factory (ff6d4d12, August 2026) and axolotl (067b021c, July
2026), read in their code. A program of one's own is taken to have those of transformers' `TrainingArguments`, which is
a guess, and said to be one. One difference has no key: weights that are trained stay in fp32 here, with the computation
in bf16, also where another tool loads the weights in bf16 ([plan.md](plan.md) counts the memory).

`tests/launchers/importing` holds this page. TRL's sources are parsed there by TRL itself, and every argument of its
trainer is compared with that of the resolved job."""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for source in SOURCES for line in _section(source))]) + "\n"


def imported(source: Source) -> tuple[Found, dict[str, Any]]:
    """(what was found in it, the resolved job)."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        shutil.copytree(FOLDER / source.folder, ".", dirs_exist_ok=True)
        found = read.read(Path(source.file), list(source.arguments))
        Path("job.yaml").write_text(write.job(found, source.file), encoding="utf-8")
        return found, jobfile.load(Path("job.yaml")).resolved()


def value_at(resolved: dict[str, Any], key: str) -> Any:
    """The value of a dotted key; None where a part of it is missing."""
    found: Any = resolved
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _section(source: Source) -> Iterator[str]:
    found, resolved = imported(source)
    words = " ".join(["alignlaunch import", source.file, *(["--", *source.arguments] if source.arguments else [])])
    yield f"\n## {source.about[0].upper()}{source.about[1:]}\n\n`{words}`"
    rows = [
        (
            f"`{one.name}`",
            _given(one),
            f"`{key}`",
            _shown(value_at(resolved, key)),
            _how(line.how, line.why),
        )
        for key, line in found.job.items()
        for one in line.given
        if one.name
    ]
    yield from made_page.table(("source", "value", "job", "resolved", ""), rows)
    profile = [
        (
            f"`{one.name}`",
            _given(one),
            f"`{key}`",
            _shown(line.value),
            _how(line.how, line.why),
        )
        for key, line in found.cluster.items()
        for one in line.given
    ]
    if profile:
        yield "\nIn a cluster profile:"
        yield from made_page.table(("source", "value", "profile", "value there", ""), profile)
    silent: dict[str, list[str]] = {}
    for key, line in found.job.items():
        if not [one for one in line.given if one.name]:
            silent.setdefault(_how(line.how, line.why), []).append(f"`{key}: {write.scalar(line.value)}`")
    for why, keys in silent.items():
        yield f"\n{why[0].upper()}{why[1:]}: {', '.join(keys)}."
    yield from _list("Cannot be said", found.cannot)
    yield from _list("Dropped", found.dropped)


def _how(how: str, why: str) -> str:
    return f"guessed: {why}" if how == "guessed" else why


def _given(one: Given) -> str:
    return "" if one.value is None else _shown(one.value)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "null" if value is None else ""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{text if len(text) <= 60 else f'{text[:57]}...'}`"


def _list(title: str, left: list[Left]) -> Iterator[str]:
    if left:
        reasons: dict[str, list[str]] = {}
        for one in left:
            reasons.setdefault(one.why, []).append(f"`{shorten(one.given.name, 60)[1:-1]}`")
        yield f"\n{title}:\n"
        for why, names in reasons.items():
            yield f"- {', '.join(dict.fromkeys(names))}: {why}"


if __name__ == "__main__":
    made_page.main(__doc__, page)
