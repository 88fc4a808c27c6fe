"""Which way a script goes: `if`, `case`, `&&`, loops.

Where only the running script knows, a branch is followed unless it ends the script, and that is noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from . import conditions, words
from .words import Scope, source

if TYPE_CHECKING:
    from tree_sitter import Node

_ENDS = re.compile(r"(^|[\s;{])(exit|return)\b")


class Walk(Scope, Protocol):
    """A script that is read."""

    steps: int

    def statement(self, node: Node) -> None: ...
    def note(self, node: Node, what: str) -> None: ...


def _follow(walk: Walk, nodes: list[Node]) -> None:
    for node in nodes:
        walk.statement(node)


def _decided(walk: Walk, test: Node, branch: str, known: bool | None) -> bool:
    """Whether a branch is followed."""
    if known is not None:
        return known
    followed = not _ENDS.search(branch)
    walk.note(test, f"is known only when it runs: {'followed' if followed else 'passed over'}")
    return followed


def _if(walk: Walk, node: Node) -> None:
    clauses = [[child for child in node.named_children if child.type not in ("elif_clause", "else_clause")]]
    clauses += [child.named_children for child in node.named_children if child.type == "elif_clause"]
    for test, *then in filter(None, clauses):
        if _decided(walk, test, "\n".join(map(source, then)), conditions.holds(test, walk)):
            _follow(walk, then)
            return
    _follow(walk, [child for child in node.named_children if child.type == "else_clause"])


def _case(walk: Walk, node: Node) -> None:
    subject, *items = node.named_children
    found = words.value(subject, walk)
    if found.unknown:
        walk.note(subject, "is known only when it runs: passed over")
        return
    for item in items:
        bracket = next((child.start_byte for child in item.children if child.type == ")"), item.end_byte)
        patterns = [child for child in item.named_children if child.start_byte < bracket]
        if any(conditions.matches(found.text, conditions.pattern(one, walk)) for one in patterns):
            _follow(walk, [child for child in item.named_children if child.start_byte > bracket])
            return


def _list(walk: Walk, node: Node) -> None:
    """`a && b`, `a || b`. A command is taken to succeed."""
    left, right = node.named_children[0], node.named_children[-1]
    both = any(child.type == "&&" for child in node.children)
    if left.type not in ("test_command", "negated_command"):
        walk.statement(left)
        if both:
            walk.statement(right)
        return
    known = conditions.holds(left, walk)
    if _decided(walk, left, source(right), None if known is None else known == both):
        walk.statement(right)


def _for(walk: Walk, node: Node) -> None:
    name, *rest = [child for child in node.named_children if child.type != "comment"]
    body = rest.pop() if rest else name
    for one in [one for child in rest for one in words.fields(child, walk)]:
        walk.assign(source(name), one)
        walk.statement(body)


def _while(walk: Walk, node: Node) -> None:
    test, body = node.named_children[0], node.named_children[-1]
    known = conditions.holds(test, walk)
    if known is None:
        walk.note(test, "is known only when it runs: passed over")
    while known:
        walk.statement(body)  # without end it is refused for its number of steps
        known = conditions.holds(test, walk)


FOLLOWED: dict[str, Callable[[Walk, Node], None]] = {
    "if_statement": _if,
    "case_statement": _case,
    "list": _list,
    "for_statement": _for,
    "while_statement": _while,
}
