"""A job file, or a cluster profile, with a comment on each line, and the report of what is in neither."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..errors import printable, shorten
from ..job import rules
from .found import Found, Left, Line

#: The order of a job file's keys; all others follow as they were found.
_ORDER = (
    *("name", "stage", "model", "tokenizer", "attn_implementation", "quantization", "trust_remote_code", "data"),
    *("output_dir", "nnodes", "nproc_per_node", "launcher", "zero", "offload", "lora", "train"),
)
_PLAIN = re.compile(r"[A-Za-z_./][\w./-]*\Z")
_WORDS = re.compile(r"(null|true|false|yes|no|on|off|nan|inf|infinity|y|n|~)\Z", re.IGNORECASE)
_SECTIONS = ("data", "lora", "train", "checkpoint", "env", "slurm", "container")


def job(found: Found, source: str) -> str:
    """The text of the job file."""
    lines = [
        f"# Made from {_one_line(source)} by `alignlaunch import`. Its paths are kept: they start where the script was",
        "# started, and here at this file's folder. A comment says where a line comes from. Look at what is guessed.",
        *_lines(found.job, _ORDER),
    ]
    if found.silent:
        said = ", ".join(f"{key}: {scalar(value)}" for key, value in found.silent.items())
        lines += ["# Not in the source, so the stage's defaults apply (docs/defaults.md):", f"# {_one_line(said)}"]
    return "\n".join(lines) + "\n"


def profile(found: Found) -> str:
    """The text of the cluster profile; empty if the source says nothing that belongs there."""
    return "\n".join(_lines(found.cluster, ())) + "\n" if found.cluster else ""


def commented(text: str) -> str:
    """A profile's text at the end of a job file."""
    head = "\n# For a cluster profile, clusters/NAME.yaml beside this file (--cluster-file writes it):\n"
    return head + "".join(f"# {line}\n" for line in text.splitlines())


def _lines(lines: dict[str, Line], order: tuple[str, ...]) -> Iterator[str]:
    sections: dict[str, dict[str, Line]] = {}
    for key, line in lines.items():
        section, dot, name = key.partition(".")
        inside = dot and section in _SECTIONS
        sections.setdefault(section if inside else key, {})[name if inside else ""] = line
    rank = {key: i for i, key in enumerate(order)}
    for section in sorted(sections, key=lambda section: (rank.get(section, len(rank)), section in _SECTIONS)):
        inner = sections[section]
        if "" in inner:
            yield _line("", section, inner[""])
            continue
        yield f"{section}:"
        for name, line in inner.items():
            yield _line("  ", name, line)


def _line(indent: str, key: str, line: Line) -> str:
    text = f"{indent}{scalar(key)}: {scalar(line.value)}"
    comment = _one_line(f"guessed: {line.origin}" if line.how == "guessed" else line.origin)
    return f"{text:<44}  # {comment}" if comment else text


def _one_line(text: str) -> str:
    """A line break of any kind would end a comment, and begin what is read."""
    return printable(" ".join(text.split()))


def scalar(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str) and _PLAIN.match(value) and not _WORDS.match(value):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(scalar, value))}]"
    return json.dumps(value, ensure_ascii=not (isinstance(value, str) and value.isprintable()))


def report(found: Found) -> list[str]:
    """For people: what could not be said, what was guessed, and what was dropped."""
    guessed: dict[str, list[str]] = {}
    for key, line in [*found.job.items(), *found.cluster.items()]:
        if line.how == "guessed":
            guessed.setdefault(line.origin, []).append(f"{key}: {shorten(line.value, 60)}")
    told = []
    if found.cannot:
        told += ["cannot be said in a job file:", *map(_left, found.cannot)]
    if guessed or found.notes:
        told += ["guessed:", *(f"  {', '.join(keys)}: {why}" for why, keys in guessed.items()), *found.notes]
    if found.dropped:
        told += ["dropped, and nothing is lost by it:", *map(_left, found.dropped)]
    return [f"{'  ' * line.startswith('  ')}{_one_line(line)}" for line in told]


def _left(one: Left) -> str:
    given = one.given
    secret = rules.looks_secret(given.name.lstrip("-")) or rules.is_secret(str(given.value))
    value = "" if given.value in (None, True) or secret else f" {shorten(given.value, 60)}"
    return f"  {given.name}{value}{f' ({given.place})' if given.place else ''}: {one.why}"
