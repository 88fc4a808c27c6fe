"""Whether a test of a shell script holds: true, false, or None where only the running script knows."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import words
from .words import Scope, source

if TYPE_CHECKING:
    from tree_sitter import Node

_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}


def holds(node: Node, scope: Scope) -> bool | None:
    """Whether a `[ ... ]`, a `[[ ... ]]` or a chain of them holds."""
    match node.type:
        case "test_command" | "parenthesized_expression":
            inner = node.named_children
            return holds(inner[0], scope) if len(inner) == 1 else None
        case "negated_command":
            return _not(holds(node.named_children[0], scope)) if node.named_children else None
        case "unary_expression":
            return _unary(node, scope)
        case "binary_expression" | "list":
            return _binary(node, scope)
        case "string" | "word" | "raw_string" | "number" | "concatenation" | "simple_expansion" | "expansion":
            found = words.value(node, scope)
            return None if found.unknown else bool(found.text)
    return None


def _not(known: bool | None) -> bool | None:
    return None if known is None else not known


def _unary(node: Node, scope: Scope) -> bool | None:
    sign, operand = source(node.children[0]), node.children[-1]
    if sign == "!":
        return _not(holds(operand, scope))
    if sign in ("-z", "-n"):
        found = words.value(operand, scope)
        if found.unknown:
            # `[ -z "$X" ]` asks whether X was given; here it was not, unless the caller said so.
            return (sign == "-z") if all(part.startswith("$") and "(" not in part for part in found.unknown) else None
        return bool(found.text) == (sign == "-n")
    return None  # files, and what else only the node knows


def _binary(node: Node, scope: Scope) -> bool | None:
    if len(node.children) != 3:
        return None
    left, middle, right = node.children
    sign = source(middle)
    if sign in ("&&", "-a", "||", "-o"):
        both = (holds(left, scope), holds(right, scope))
        decides = sign in ("||", "-o")
        return decides if decides in both else None if None in both else not decides
    first, second = words.value(left, scope), words.value(right, scope)
    if first.unknown or second.unknown:
        return None
    if sign in ("==", "=", "!="):
        return matches(first.text, pattern(right, scope)) == (sign != "!=")
    if sign in _NUMBERS and _whole(first.text) and _whole(second.text):
        return _NUMBERS[sign](int(first.text), int(second.text))
    return None


def _whole(text: str) -> bool:
    return len(text) < 16 and text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()


def pattern(node: Node, scope: Scope) -> str:
    """A pattern of `case` or `==`; quoted, its characters stand for themselves."""
    text = words.value(node, scope).text
    return "".join(f"[{char}]" if char in "*?[" else char for char in text) if node.type.endswith("string") else text


def matches(text: str, one: str) -> bool:
    return fnmatch.fnmatchcase(text, one)
