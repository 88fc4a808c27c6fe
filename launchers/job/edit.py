"""Change keys of a YAML file in its text: comments, order, and whatever else stands there stay as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import yaml

from ..errors import JobFileError
from . import legacy, yamlfile

Key = tuple[str, ...]
_PLAIN = re.compile(r"[A-Za-z][\w+-]*\Z")


class EditError(Exception):
    """The text is written so that the key cannot be changed in it alone."""


def changed(text: str, name: str, settings: dict[Key, Any]) -> str:
    """The text of the YAML file `name` with these keys set, and nothing else changed. Raises EditError."""
    expected = deepcopy(yamlfile.parse(text, name))
    for key, value in settings.items():
        text = _set(text, key, value)
        legacy.put(expected, key, value, "")
    try:
        found = yamlfile.parse(text, name)
    except JobFileError as error:
        raise EditError(str(error.problems[0])) from error
    if found.data != expected.data:  # such as an anchor, whose other places would change as well
        raise EditError("its lines say more than these keys alone")
    return text


def _set(text: str, key: Key, value: Any) -> str:
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)  # whose marks are places in the text
    for depth, part in enumerate(key):
        found = next((inner for name, inner in node.value if name.value == part), None)
        if found is None:
            return _added(text, node, key[depth:], value)
        if depth < len(key) - 1 and not isinstance(found, yaml.MappingNode):
            raise EditError(f"`{'.'.join(key[: depth + 1])}` is no map")
        node = found
    return _replaced(text, node, value)


def _replaced(text: str, node: Any, value: Any) -> str:
    is_block = not node.flow_style if isinstance(node, yaml.CollectionNode) else node.style in ("|", ">")
    if is_block:
        raise EditError("a value of several lines would be replaced")
    start, end = node.start_mark.index, node.end_mark.index
    space = " " if text[start - 1 : start] == ":" else ""  # an empty value
    return f"{text[:start]}{space}{_written(value)}{text[end:]}"


def _added(text: str, node: yaml.MappingNode, key: Sequence[str], value: Any) -> str:
    """With a key that its map does not have yet: behind the last value that ends on the line where it begins."""
    if node.flow_style:
        inner = _flow(key, value)
        if not node.value:
            at = node.start_mark.index + 1
            return f"{text[:at]}{inner}{text[at:]}"
        at = node.value[-1][1].end_mark.index
        return f"{text[:at]}, {inner}{text[at:]}"
    line_end = "\r\n" if "\r\n" in text else "\n"
    indent = " " * node.value[0][0].start_mark.column
    head = "".join(f"{indent}{'  ' * depth}{part}:{line_end}" for depth, part in enumerate(key[:-1]))
    lines = f"{head}{indent}{'  ' * (len(key) - 1)}{key[-1]}: {_written(value)}{line_end}"
    on_one_line = [inner for _, inner in node.value if inner.start_mark.line == inner.end_mark.line]
    if on_one_line:
        at = text.find("\n", on_one_line[-1].end_mark.index) + 1
        if not at:  # the last line of the file, without an end
            return f"{text}{line_end}{lines}"
    else:
        first = node.value[0][0].start_mark
        at = first.index - first.column
    return text[:at] + lines + text[at:]


def _flow(key: Sequence[str], value: Any) -> str:
    inner = _written(value)
    for depth, part in enumerate(reversed(key)):
        inner = f"{part}: {inner}" if depth == 0 else f"{part}: {{{inner}}}"
    return inner


def _written(value: Any) -> str:
    return value if isinstance(value, str) and _PLAIN.match(value) else json.dumps(value)
