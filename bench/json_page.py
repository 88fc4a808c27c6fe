"""docs/json.md: what the commands print with `--json`. `python -m bench.json_page --write docs/json.md`.

`--record` runs every command and writes the examples anew, to examples_of_json.json beside this file.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from alignlaunch.launchers.cli import shapes

from . import made_page
from .job_page import kind

Schema = dict[str, Any]
EXAMPLES = Path(__file__).with_name("examples_of_json.json")
#: What differs from machine to machine, and what would be long.
_ITEMS, _TEXT = 3, 60

HEAD = """<!-- Made by `make json-page`. Do not edit. -->
# What the commands print for programs

`--json` prints JSON on stdout, and what is meant for people still goes to stderr. It is a list, also of one run or one
folder. But `plan`, `data` and `eval` print one object (of several steps or points `plan` prints a list, and `data` an
object by step), and `logs` prints one object a line.

- A key of the tables below is always there. One that may be null says when, and so does one that may be left out.
- A text that is not known or does not apply is `""`.
- A moment is seconds since 1970, or where it is a text ISO 8601 with the offset from UTC; a duration is in seconds.
- Bytes are bytes, but for a name that ends in `_gib`; a share is from 0 to 1.
- A number that is not finite, such as the loss of a run that diverged, is null.
- The exit code is the same with `--json` and without. Of an error it is the message on stderr that says it, and stdout
  may be empty.
- A submission prints its list as soon as the runs are submitted. With `--follow` the log's lines come after it; with
  `--dry-run` the script comes in its place. `sweep` prints it with `--on` alone: without, it submits nothing.

A later version may add keys. The tests run every command, and hold what it prints to these tables
(`launchers/cli/shapes.py`). The examples are of real runs; long texts are cut (...), and lists after three."""

#: The commands that print the same, in the order of the page, and what is said of them.
GROUPS = {
    "list": "`status`, too, has these keys and further ones. `cancel` prints the runs as they are after it, and `wait` "
    "as they ended.",
    "status": "Of a pipeline or sweep each run. The keys of `list`, and `attempts`.",
    "local": "Each run of the submission, in the order of the file.",
    "logs": "An object a line, of several runs one after the other.",
    "describe": "",
    "diagnose": "",
    "save": "Each run that was asked to.",
    "compare": "",
    "render": "",
    "check": "",
    "gc": "The same with `--yes`; those that could not be removed are named on stderr, and the exit code is 1.",
    "nodes": "",
    "profiles": "",
    "plan": "",
    "data": "Of several steps or points an object of these, by step.",
    "eval": "",
}


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    schemas, components = msgspec.json.schema_components([shapes.PRINTED[name] for name in GROUPS])
    shown: set[str] = set()
    yield HEAD
    for (name, words), schema in zip(GROUPS.items(), schemas, strict=True):
        alike = [one for one, type_ in shapes.PRINTED.items() if type_ == shapes.PRINTED[name]]
        yield f"\n## {', '.join(alike)}\n\n{_said(words, schema)}"
        yield f"\n```json\n{json.dumps(examples[name], ensure_ascii=False)}\n```"
        for part in _parts(schema, components):
            if part not in shown:
                shown.add(part)
                yield f"\n### {part}\n\n{components[part]['description']}"
                yield from _table(components[part])


def _said(words: str, schema: Schema) -> str:
    return f"Prints a {kind(schema)}. {words}".rstrip()


def _parts(schema: Any, components: dict[str, Schema]) -> Iterator[str]:
    """The shapes in a schema, each before those in it."""
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        if isinstance(value, str) and value.startswith("#/$defs/"):
            part = value.rpartition("/")[2]
            yield part
            yield from _parts(components[part], components)
        else:
            yield from _parts(value, components)


def _table(schema: Schema) -> list[str]:
    rows = []
    for key, value in schema["properties"].items():
        of_key = value if "description" in value else next(iter(value.get("anyOf", [{}])))
        rows.append((f"`{key}`", kind(value), of_key.get("description", "")))
    return made_page.table(("key", "value", "meaning"), rows)


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value[:_ITEMS]]
    return f"{value[:_TEXT]}..." if isinstance(value, str) and len(value) > _TEXT else value


def record() -> None:
    """Run every command, and keep what each printed."""
    from tests.support import every_json

    with tempfile.TemporaryDirectory(prefix="research-", dir="/tmp") as folder:
        found = every_json.printed(Path(folder))
        text = json.dumps({name: found[name] for name in GROUPS}, ensure_ascii=False)
        here = {folder: "/home/me/research", sys.executable: "/home/me/venv/bin/python", platform.node(): "login1"}
        for ours, theirs in here.items():
            text = text.replace(ours, theirs)
        text = json.dumps(_short(json.loads(text)), indent=1, ensure_ascii=False)
        EXAMPLES.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--record"]:
        record()
    else:
        made_page.main(__doc__, page)
