"""A bash script, read and never run: its commands in order, with what is known of their words.

Assignments, functions, `case`, `if`, loops and `shift` are followed (branches.py). Nothing in a script is started.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UsageError
from . import branches, words
from .words import Text, Value, Word, source

if TYPE_CHECKING:
    from tree_sitter import Node

#: A loop must end, though nothing here runs.
MAX_STEPS = 20_000
MAX_DEPTH = 50
_INSIDE = frozenset(
    "program compound_statement subshell do_group pipeline variable_assignments else_clause negated_command".split()
)


class Command(NamedTuple):
    words: list[Word]
    env: dict[str, Text]  # variables before the command
    line: int


class Export(NamedTuple):
    value: Text
    line: int


@dataclass
class Script:
    """What was read of a script."""

    commands: list[Command] = field(default_factory=list)
    exports: dict[str, Export] = field(default_factory=dict)
    files: dict[str, Text] = field(default_factory=dict)  # here-documents that are written to a file
    #: Decisions that only the running script can make.
    notes: list[str] = field(default_factory=list)
    read: set[str] = field(default_factory=set)  # variables that the script itself reads
    ended: int = 0  # line of an `exit` that was reached


class _Stop(Exception):  # noqa: N818 - no error
    """`exit`, or `return` from a function."""


def read(
    text: str, arguments: list[str], known: dict[str, str] | None = None, *, name: str = "", first_line: int = 1
) -> Script:
    """Read a script called with `arguments`; leading NAME=VALUE ones are variables. Raises UsageError.

    known: further variables of its environment. name: its `$0`.
    """
    try:
        from tree_sitter import Language, Parser
        from tree_sitter_bash import language
    except ImportError as error:
        remedy = "pip install 'alignlaunch[import]'"
        raise UsageError(f"reading shell needs tree-sitter-bash, which is not here\n    remedy: {remedy}") from error
    walk = _Walk(name, first_line)
    given = list(arguments)
    while given and re.match(r"[A-Za-z_]\w*=", given[0]):
        name, _, value = given.pop(0).partition("=")
        walk.variables[name] = Text(value)
    for name_, value in (known or {}).items():
        walk.variables.setdefault(name_, Text(value))
    walk.arguments, walk.called = [Text(argument) for argument in given], bool(given)
    tree = Parser(Language(language())).parse(text.encode("utf-8", errors="replace"))
    try:
        walk.statements(tree.root_node)
    except _Stop:
        pass
    except RecursionError as error:
        raise UsageError("nested too deep to be read\n    remedy: is this a launch script?") from error
    return walk.script


class _Walk:
    def __init__(self, name: str, first_line: int) -> None:
        self.name = name
        self.script = Script()
        self.variables: dict[str, Value] = {}
        self.arguments: list[Text] = []
        self.called = False  # whether the caller said the script's arguments
        self.functions: dict[str, Node] = {}
        self.exported: set[str] = set()
        self.first_line = first_line
        self.steps = self.depth = 0

    # The scope of words: words.Scope.

    def lookup(self, name: str) -> Value | None:
        if name in ("@", "*"):
            return list(self.arguments)
        if name == "#":
            return Text(str(len(self.arguments))) if self.called else None
        if name in ("0", "BASH_SOURCE"):
            return Text(self.name) if self.name else None
        if name.isdigit() and len(name) < 6:
            return self.arguments[int(name) - 1] if int(name) <= len(self.arguments) else None
        self.script.read.add(name)
        return self.variables.get(name)

    def assign(self, name: str, value: Value) -> None:
        self.variables[name] = value
        if name in self.exported and isinstance(value, Text):
            self.script.exports[name] = Export(value, self.script.exports[name].line)

    # Statements.

    def line(self, node: Node) -> int:
        return node.start_point[0] + self.first_line

    def note(self, node: Node, what: str) -> None:
        text = " ".join(source(node).split())
        self.script.notes.append(f"  line {self.line(node)}: `{text[:60]}{'...' * (len(text) > 60)}` {what}")

    def statements(self, node: Node) -> None:
        for child in node.named_children:
            self.statement(child)

    def statement(self, node: Node) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise UsageError(
                f"line {self.line(node)}: more than {MAX_STEPS} steps\n    remedy: is this a launch script?"
            )
        if node.type in branches.FOLLOWED:
            branches.FOLLOWED[node.type](self, node)
        elif handler := getattr(self, f"_{node.type}", None):
            handler(node)
        elif node.type == "ERROR":
            self.note(node, "is not understood")
        elif node.type in _INSIDE:
            self.statements(node)

    def _variable_assignment(self, node: Node) -> None:
        read = set(self.script.read)
        name, found = self.assigned(node)
        if name not in read:  # `export X=${X:-1}` does not put X to use
            self.script.read.discard(name)
        self.assign(name, found)

    def assigned(self, node: Node) -> tuple[str, Value]:
        """(name, value) of an assignment; `+=` appends."""
        name, *rest = node.children
        sign, operand = source(rest[0]) if rest else "=", rest[-1] if len(rest) > 1 else None
        found: Value = Text("")
        if operand is not None and operand.type == "array":
            found = [one for child in operand.named_children for one in words.fields(child, self)]
        elif operand is not None:
            found = words.value(operand, self)
        if name.type != "variable_name":  # an element of an array
            return source(name).partition("[")[0], Text(source(node), (source(node),))
        old = self.lookup(source(name)) if sign == "+=" else None
        if isinstance(old, list):
            found = [*old, *(found if isinstance(found, list) else [found])]
        elif isinstance(old, Text) and isinstance(found, Text):
            found = Text(old.text + found.text, (*old.unknown, *found.unknown))
        if len(found if isinstance(found, list) else found.text) > words.MAX_LENGTH:
            raise UsageError(f"line {self.line(node)}: a value without end\n    remedy: is this a launch script?")
        return source(name), found

    def _declaration_command(self, node: Node) -> None:
        exports = source(node).startswith(("export", "declare -x", "typeset -x"))
        for child in node.named_children:
            if child.type == "variable_assignment":
                self._variable_assignment(child)
                name = source(child.children[0])
            elif child.type == "variable_name":
                name = source(child)
            else:
                continue
            if exports:
                found = self.variables.get(name)
                self.exported.add(name)
                shown = found if isinstance(found, Text) else Text(f"${name}", (f"${name}",))
                self.script.exports[name] = Export(shown, self.line(child))

    def _function_definition(self, node: Node) -> None:
        self.functions[source(node.named_children[0])] = node.named_children[-1]

    def _redirected_statement(self, node: Node) -> None:
        target = body = None
        for child in node.named_children:
            if (
                child.type == "file_redirect"
                and source(child).lstrip("0123456789").startswith(">")
                and child.named_children
            ):
                target = child.named_children[-1]
            if child.type == "heredoc_redirect":
                body = next((inner for inner in child.named_children if inner.type == "heredoc_body"), None)
                targets = [inner for inner in child.named_children if inner.type == "file_redirect"]
                target = targets[0].named_children[-1] if targets and targets[0].named_children else target
                quoted = any(mark in source(child).partition("\n")[0] for mark in "'\"\\")
        if target is not None and body is not None and (name := words.value(target, self)) and not name.unknown:
            self.script.files[name.text] = Text(source(body)) if quoted else words.value(body, self)
            return
        self.statements(node)

    def _command(self, node: Node) -> None:
        env: dict[str, Text] = {}
        found: list[Word] = []
        for child in node.children:
            if child.type == "variable_assignment":
                name, value = self.assigned(child)
                env[name] = value if isinstance(value, Text) else Text("")
            elif child.is_named and not child.type.endswith("redirect"):
                line, shown = self.line(child), source(child)
                found += [Word(one.text, one.unknown, shown, line) for one in words.fields(child, self)]
        if found:
            self.run(Command(found, env, self.line(node)))

    def run(self, command: Command) -> None:
        name, *rest = [word.text for word in command.words]
        if name in ("exit", "return"):
            self.script.ended = command.line
            raise _Stop
        if name == "shift":
            count = int(rest[0]) if rest and rest[0].isdigit() and len(rest[0]) < 6 else 1
            self.arguments = self.arguments[count:]
        elif name == "set" and rest[:1] == ["--"]:
            self.arguments, self.called = [Text(word.text, word.unknown) for word in command.words[2:]], True
        elif name == "eval":
            self.run_text(" ".join(rest), command.line)
        elif name in self.functions and self.depth < MAX_DEPTH:
            self.call(self.functions[name], command.words[1:])
        else:
            self.script.commands.append(command)

    def run_text(self, text: str, line: int) -> None:
        from tree_sitter import Language, Parser
        from tree_sitter_bash import language

        if self.depth >= MAX_DEPTH:
            return
        first, self.first_line, self.depth = self.first_line, line, self.depth + 1
        self.statements(Parser(Language(language())).parse(text.encode("utf-8", errors="replace")).root_node)
        self.first_line, self.depth = first, self.depth - 1

    def call(self, body: Node, given: list[Word]) -> None:
        outer, called = self.arguments, self.called
        self.arguments, self.called = [Text(word.text, word.unknown) for word in given], True
        self.depth += 1
        try:
            self.statement(body)
        except _Stop:
            # `return` ends the function; an `exit` in one is taken for a check that the running script would pass.
            pass
        finally:
            self.arguments, self.called = outer, called
            self.depth -= 1
