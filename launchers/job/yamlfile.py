"""Read YAML with the place (line and column) of each value, safely even for a hostile file.

Scalars follow YAML 1.2's core schema, because YAML 1.1's surprises break training runs: here `2e-5` is a number,
`12:00:00` is not 43200, and `no` is not false.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import JobFileError, Problem

MAX_BYTES = 1 << 20
#: Nodes after aliases are expanded: an "anchor bomb" is a kilobyte that expands to gigabytes.
MAX_NODES = 20_000
MAX_DEPTH = 50
#: Longer scalars are never parsed as numbers: converting a million digits takes minutes.
MAX_DIGITS = 100
#: Values under this key stay text as written: an environment variable of 12.10 must not become 12.1.
VERBATIM = "env"
#: The key of a pipeline file that holds jobs by name.
STEPS = "jobs"

Path_ = tuple[str | int, ...]

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NON_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BASES = {"0x": 16, "0o": 8}
_WRONG_FILE = "a job file is short: is this the right file?"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Document:
    """Plain data, and the place ("file:line:column" or "--set ...") of every key and value in it."""

    name: str
    data: dict[str, Any]
    keys: dict[Path_, str] = field(default_factory=dict)
    values: dict[Path_, str] = field(default_factory=dict)

    def place(self, path: Path_) -> str:
        """The place of the value at `path`, or of its nearest ancestor if the path is not in the file."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, self.name)

    def key_place(self, path: Path_) -> str:
        return self.keys.get(path) or self.place(path)


def read(path: Path) -> Document:
    """Read a YAML mapping. Raises JobFileError for whatever is not one."""
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # limited, since the path may be an endless device
        if len(content) > MAX_BYTES:
            raise _error(name, "", None, f"more than {MAX_BYTES} bytes", _WRONG_FILE)
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _error(name, "", None, f"not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise _error(name, "", None, f"cannot be read: {error.strerror}", "check the path and its rights") from error
    return parse(text, name)


def parse(text: str, name: str) -> Document:
    """The same from text. `name` is the file's name in messages."""
    try:
        _scan(text, name)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        if "nesting depth" in str(error.problem):  # newer libyaml versions hit their own depth limit before ours
            raise _too_deep(place, "") from error
        tab = "\t" in text
        remedy = "indent with spaces, not tabs" if tab else "check indentation, colons and quotes around this place"
        raise _error(place, "", None, f"not YAML: {error.problem or error.context}", remedy) from error
    except UnicodeEncodeError as error:  # a surrogate, from a command-line byte that is not UTF-8
        raise _error(name, "", None, "not UTF-8 text", "write it as UTF-8") from error
    except yaml.YAMLError as error:  # control characters: PyYAML's ReaderError has no mark
        raise _error(name, "", None, f"not YAML: {str(error).splitlines()[0]}", "is this a text file?") from error
    if root is None:
        raise _error(name, "", None, "the file is empty", "start from `alignlaunch init STAGE`")
    if not isinstance(root, yaml.MappingNode):
        raise _error(f"{name}:1:1", "", None, "a map of keys is expected", "start from `alignlaunch init STAGE`")
    document = Document(name, {})
    builder = _Builder(document)
    document.data = builder.build(root, (), 0)
    if builder.problems:
        raise JobFileError(builder.problems)
    return document


def parse_value(text: str, key: str = "value") -> Any:
    """The value in `--set key=value`, parsed as it would be in the file.

    Text that is not YAML or has several lines (which YAML would fold into one) is returned unchanged.
    """
    if "\n" in text or "\r" in text:
        return text
    root = key.partition(".")[0]
    try:
        return parse(f"{root}: {text}", "--set").data[root]
    except JobFileError:
        return text


def _scan(text: str, name: str) -> None:
    """Refuse input that is too deep or too large before composing it: libyaml's composer recurses in C and crashes."""
    depth = nodes = 0
    events: Iterator[Any] = yaml.parse(text, Loader=_Loader)
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        place = f"{name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"
        if depth > MAX_DEPTH:
            raise _too_deep(place, "")
        if nodes > MAX_NODES:
            raise _error(place, "", None, f"more than {MAX_NODES} values", _WRONG_FILE)
        if tag := getattr(event, "tag", None):  # an explicit tag; implicit ones are resolved later
            raise _error(place, "", tag, "tags are not allowed", "write the plain value")


def _error(place: str, key: str, value: Any, rule: str, remedy: str) -> JobFileError:
    return JobFileError([Problem(place, key, value, rule, remedy)])


def _too_deep(place: str, key: str) -> JobFileError:
    return _error(place, key, None, f"nested deeper than {MAX_DEPTH} levels", "flatten it")


class _Builder:
    """Converts composed nodes to plain data, records their places and collects every problem."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.nodes = 0

    def build(self, node: yaml.Node, path: Path_, depth: int) -> Any:
        place = f"{self.document.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        self.document.values[path] = place
        self.nodes += 1
        # Both stop at once: continuing would only repeat the same problem.
        if self.nodes > MAX_NODES:
            raise _error(place, dotted(path), None, f"more than {MAX_NODES} values after anchors", "write them out")
        if depth > MAX_DEPTH:
            raise _too_deep(place, dotted(path[:5]))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        return self._scalar(node, path, place)  # the only other kind of node

    def _mapping(self, node: yaml.MappingNode, path: Path_, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = f"{self.document.name}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(place, path, None, "a key must be plain text", "write `key: value`")
                continue
            key = key_node.value
            if key in result:
                first = self.document.keys[(*path, key)]
                self._problem(place, (*path, key), None, f"given twice; first at {first}", "keep one of the two")
                continue
            self.document.keys[(*path, key)] = place
            result[key] = self.build(value_node, (*path, key), depth + 1)
        return result

    def _scalar(self, node: yaml.Node, path: Path_, place: str) -> Any:
        text: str = node.value
        if "\0" in text:
            self._problem(place, path, text, "a NUL character cannot reach any process", "remove it")
        if node.style in ("'", '"', "|", ">"):  # type: ignore[attr-defined]  # always a ScalarNode
            return text
        value = _plain(text)
        if (path[2:] if path[:1] == (STEPS,) else path)[:1] == (VERBATIM,) and value is not None:
            return text
        if isinstance(value, float) and not math.isfinite(value):
            self._problem(place, path, text, "a finite number is expected", "give a number, or leave the key out")
            return None
        return value

    def _problem(self, place: str, path: Path_, value: Any, rule: str, remedy: str) -> None:
        self.problems.append(Problem(place, dotted(path), value, rule, remedy))


def _plain(text: str) -> Any:
    """An unquoted scalar by YAML 1.2's core schema."""
    value: Any = text
    if _NULL.fullmatch(text):
        value = None
    elif _BOOL.fullmatch(text):
        value = text.lower() == "true"
    elif _NON_FINITE.fullmatch(text):
        value = math.nan
    elif len(text) > MAX_DIGITS:
        value = text
    elif _INT.fullmatch(text):
        value = int(text, _BASES.get(text[:2], 10))
    elif _FLOAT.fullmatch(text):
        value = float(text)
    return value


def dotted(path: Path_) -> str:
    """("data", "train", 0) → "data.train[0]"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
