"""The words of a shell command with all that is known filled in. Nothing is run.

tree-sitter gives the tree; a part that only the running script knows stays as it is written, and is named in `unknown`.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import UsageError

if TYPE_CHECKING:
    from tree_sitter import Node

#: A value that doubles itself again and again must not fill the memory.
MAX_LENGTH = 100_000


class Text(NamedTuple):
    text: str
    unknown: tuple[str, ...] = ()


class Word(NamedTuple):
    """A field of a command, and where it stands."""

    text: str
    unknown: tuple[str, ...]
    source: str  # as written
    line: int


Value = Text | list[Text]


class Scope(Protocol):
    """What the words of a command are read in."""

    def lookup(self, name: str) -> Value | None: ...
    def assign(self, name: str, value: Value) -> None: ...


class _Piece(NamedTuple):
    text: str
    unknown: tuple[str, ...] = ()
    split: bool = False  # an unquoted expansion is split into fields at blanks


#: Between two fields.
_BREAK = _Piece("\0break")
#: `"$@"` without arguments: no field, though it is quoted.
_NOTHING = _Piece("", split=True)
_ESCAPED = re.compile(r"\\(\n|.)", re.DOTALL)
_ESCAPED_IN_QUOTES = re.compile(r'\\([$`"\\]|\n)')
_ANSI = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


def source(node: Node) -> str:
    return (node.text or b"").decode("utf-8", errors="replace")


def fields(node: Node, scope: Scope) -> list[Text]:
    """The fields that a word becomes."""
    found: list[list[_Piece]] = [[]]
    for piece in _pieces(node, scope, quoted=False):
        if piece is _BREAK:
            found.append([])
        elif piece.split:
            first, *rest = _split(piece)
            found[-1].append(first)
            found += [[part] for part in rest]
        else:
            found[-1].append(piece)
    # Nothing is left of a field whose unquoted parts are all empty.
    return [_joined(parts) for parts in found if any(not piece.split or piece.text for piece in parts)]


def _split(piece: _Piece) -> list[_Piece]:
    """The fields of an unquoted expansion. A part that is not known is taken to be within one."""
    text = piece.text
    for i, part in enumerate(piece.unknown):
        text = text.replace(part, f"\0{i}\0")
    pieces = []
    for one in re.split(r"\s+", text):
        inside = [part for i, part in enumerate(piece.unknown) if f"\0{i}\0" in one]
        for i, part in enumerate(piece.unknown):
            one = one.replace(f"\0{i}\0", part)  # noqa: PLW2901
        pieces.append(_Piece(one, tuple(inside), split=True))
    return pieces


def value(node: Node, scope: Scope) -> Text:
    """The word as one text: what an assignment stores."""
    return _joined([_Piece(" ") if piece is _BREAK else piece for piece in _pieces(node, scope, quoted=True)])


def _joined(pieces: list[_Piece]) -> Text:
    text = "".join(piece.text for piece in pieces)
    if len(text) > MAX_LENGTH:
        raise UsageError(f"a value of more than {MAX_LENGTH} characters\n    remedy: is this a launch script?")
    return Text(text, tuple(dict.fromkeys(part for piece in pieces for part in piece.unknown)))


def _pieces(node: Node, scope: Scope, *, quoted: bool) -> list[_Piece]:
    if node.type in ("concatenation", "command_name"):
        return [piece for child in node.children for piece in _pieces(child, scope, quoted=quoted)]
    if node.type in ("simple_expansion", "expansion"):
        return _expansion(node, scope, quoted=quoted)
    if node.type in ("string", "translated_string", "heredoc_body"):
        return _in_quotes(node, scope)
    if node.type == "command_substitution":
        printed = _printed(node, scope)
        return [_unknown(node) if printed is None else _Piece(printed, split=not quoted)]
    return [_one(node, scope)]


def _one(node: Node, scope: Scope) -> _Piece:
    """A word that is one piece."""
    text = source(node)
    if node.type == "raw_string":
        return _Piece(text[1:-1])
    if node.type == "ansi_c_string":
        return _Piece(_ESCAPED.sub(lambda match: _ANSI.get(match[1], match[0]), text[2:-1]))
    if node.type == "process_substitution":
        return _unknown(node)
    if node.type == "arithmetic_expansion":
        number = arithmetic(node, scope)
        return _unknown(node) if number is None else _Piece(str(number))
    return _Piece(_ESCAPED.sub(lambda match: "" if match[1] == "\n" else match[1], text))


def _in_quotes(node: Node, scope: Scope) -> list[_Piece]:
    """Text between double quotes (the tree leaves out blanks: they are the gaps between its nodes)."""
    whole, start = node.text or b"", node.start_byte
    quote = 0 if node.type == "heredoc_body" else whole.find(b'"') + 1
    at, end, found = quote, len(whole) - bool(quote), list[_Piece]()
    inner = [child for child in node.children if child.type.endswith(("expansion", "substitution"))]
    for child in inner:
        found.append(_literal(whole[at : child.start_byte - start]))
        found += _pieces(child, scope, quoted=True)
        at = child.end_byte - start
    found.append(_literal(whole[at:end]))
    return [_NOTHING] if _NOTHING in found and not any(piece.text for piece in found) else found


def _literal(text: bytes) -> _Piece:
    decoded = text.decode("utf-8", errors="replace")
    return _Piece(_ESCAPED_IN_QUOTES.sub(lambda match: "" if match[1] == "\n" else match[1], decoded))


def _unknown(node: Node) -> _Piece:
    return _Piece(source(node), (source(node),))


def _of(found: Value | None, node: Node, *, quoted: bool, every: bool) -> list[_Piece]:
    if found is None:
        return [_unknown(node)]
    if isinstance(found, Text):
        return [_Piece(found.text, found.unknown, split=not quoted)]
    if not every:
        found = found[:1] or [Text("")]
    pieces: list[_Piece] = []
    for item in found:
        pieces += [*([_BREAK] if pieces else []), _Piece(item.text, item.unknown, split=not quoted)]
    return pieces or [_NOTHING]


def _expansion(node: Node, scope: Scope, *, quoted: bool) -> list[_Piece]:
    """`$X` or `${X...}`."""
    parts = [child for child in node.children if child.type not in ("$", "${", "}")]
    names = ("variable_name", "special_variable_name", "subscript")
    at = next((i for i, part in enumerate(parts) if part.type in names), None)
    if at is None or at > 1:
        return [_unknown(node)]
    prefix, name, rest = source(parts[0]) if at else "", parts[at], parts[at + 1 :]
    index = ""
    if name.type == "subscript":
        index = source(name).partition("[")[2].removesuffix("]")
        found = scope.lookup(source(name).partition("[")[0])
        if isinstance(found, list) and index.lstrip("-").isdigit() and len(index) < 9:
            found = found[int(index)] if -len(found) <= int(index) < len(found) else None
    else:
        found = scope.lookup(source(name))
    every = index in ("@", "*") or source(name) in ("@", "*")
    if prefix == "#":
        return [_Piece(str(len(found) if isinstance(found, list) else len(found.text)))] if found else [_unknown(node)]
    if prefix or not rest:
        return [_unknown(node)] if prefix else _of(found, node, quoted=quoted, every=every)
    return _modified(node, found, name, rest, scope, quoted=quoted, every=every)


def _modified(
    node: Node, found: Value | None, name: Node, rest: list[Node], scope: Scope, *, quoted: bool, every: bool
) -> list[_Piece]:
    sign, operands = source(rest[0]), rest[1:]
    empty = found is None or (sign.startswith(":") and isinstance(found, Text) and not found.text)
    if sign in ("-", ":-", "=", ":="):
        if not empty:
            return _of(found, node, quoted=quoted, every=every)
        pieces = _operands(operands, scope, quoted=quoted)
        if "=" in sign:
            scope.assign(source(name), _joined(pieces))
        return pieces
    if sign in ("+", ":+"):
        return [_Piece("", split=not quoted)] if empty else _operands(operands, scope, quoted=quoted)
    if sign in ("?", ":?") or not isinstance(found, Text) or found.unknown:
        return _of(found, node, quoted=quoted, every=every) if sign in ("?", ":?") else [_unknown(node)]
    changed = _changed(found.text, sign, [_joined(_pieces(operand, scope, quoted=True)).text for operand in operands])
    return [_unknown(node) if changed is None else _Piece(changed, split=not quoted)]


def _operands(operands: list[Node], scope: Scope, *, quoted: bool) -> list[_Piece]:
    """What stands behind `:-` or `:+`. Without quotes around or in it, it is split into fields as well."""
    pieces: list[_Piece] = []
    operands = [part for one in operands for part in (one.children if one.type == "concatenation" else [one])]
    end = operands[0].start_byte if operands else 0
    for operand in operands:
        if operand.start_byte > end:
            pieces.append(_Piece(" ", split=not quoted))
        found, end = _pieces(operand, scope, quoted=quoted), operand.end_byte
        plain = operand.type in ("word", "number")
        pieces += [piece._replace(split=not quoted) if plain else piece for piece in found]
    return pieces


def _changed(text: str, sign: str, operands: list[str]) -> str | None:
    """`${X%.json}`, `${X/a/b}`, `${X,,}` and their like. None: not known here."""
    pattern = operands[0] if operands else ""
    if sign in ("%", "%%", "#", "##"):
        ends = [
            i for i in range(len(text) + 1) if fnmatch.fnmatchcase(text[i:] if sign[0] == "%" else text[:i], pattern)
        ]
        if not ends:
            return text
        if sign[0] == "%":
            return text[: min(ends) if sign == "%%" else max(ends)]
        return text[max(ends) if sign == "##" else min(ends) :]
    if sign in ("/", "//") and pattern and not re.search(r"[*?\[]", pattern):
        return text.replace(pattern, operands[-1] if len(operands) > 1 else "", -1 if sign == "//" else 1)
    return {",,": text.lower(), "^^": text.upper()}.get(sign)


def arithmetic(node: Node, scope: Scope) -> int | None:
    """The value of whole numbers with + - * / % and brackets; None where it is not known."""
    if node.type in ("arithmetic_expansion", "parenthesized_expression"):
        inner = node.named_children
        return arithmetic(inner[0], scope) if len(inner) == 1 else None
    if node.type == "binary_expression" and len(node.children) == 3:
        left, sign, right = node.children
        return _calculated(arithmetic(left, scope), source(sign), arithmetic(right, scope))
    if node.type == "unary_expression" and source(node.children[0]) == "-":
        return _calculated(0, "-", arithmetic(node.children[-1], scope))
    found = scope.lookup(source(node)) if node.type == "variable_name" else value(node, scope)
    if not isinstance(found, Text) or found.unknown or not re.fullmatch(r"\s*-?[0-9]{1,15}\s*", found.text):
        return None
    return int(found.text)


def _calculated(left: int | None, sign: str, right: int | None) -> int | None:
    if left is None or right is None or (sign in "/%" and not right) or abs(left) > 1 << 53:
        return None
    if sign in ("/", "%"):  # towards 0, as in C
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return quotient if sign == "/" else left - quotient * right
    return {"+": left + right, "-": left - right, "*": left * right}.get(sign)


def _printed(node: Node, scope: Scope) -> str | None:
    """`$(...)`: what a few commands that only look at their words would print. None: not known here."""
    commands = [child for child in node.named_children if child.type != "comment"]
    if len(commands) == 1 and commands[0].type == "list":  # "$(cd FOLDER && pwd)"
        commands = commands[0].named_children
    lines = [[found for word in one.named_children for found in fields(word, scope)] for one in commands]
    if any(one.type != "command" for one in commands) or any(found.unknown for line in lines for found in line):
        return None
    printed: str | None = None
    match [[found.text for found in line] for line in lines]:
        case [["pwd"]]:
            printed = "."
        case [["cd", folder], ["pwd"]]:
            printed = folder
        case [["dirname", path]]:
            printed = posixpath.dirname(path) or "."
        case [["basename", path]]:
            printed = posixpath.basename(path)
        case [["echo", *said]]:
            printed = " ".join(said)
    return printed
