"""Check plain data against a msgspec Struct and report every problem at once, each with its place and remedy.

msgspec stops at the first error, but a user wants to see all of them, so each field is converted separately. Rule and
remedy come from the field's `Meta` (description, examples), as in `alignlaunch schema`.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from typing import Any, TypeVar

import msgspec

from ..errors import JobFileError, Problem
from .yamlfile import Document, Path_, dotted

S = TypeVar("S", bound=msgspec.Struct)
_AT = re.compile(r" - at `\$(?P<path>.*)`$")
_STEP = re.compile(r"\[(\d+)\]|\.([^.\[]+)|\[\.\.\.\]")
_HINTS = {"bool": "write true or false", "str": "write text; put quotes around it if it looks like a number"}


def convert(struct: type[S], document: Document, data: dict[str, Any], at: Path_ = ()) -> S:
    """Convert `data` to `struct`. Raises JobFileError with every problem; their places come from `document`."""
    problems = check(struct, document, data, at)
    if problems:
        raise JobFileError(problems)
    return msgspec.convert(data, struct)


def check(struct: type[msgspec.Struct], document: Document, data: dict[str, Any], at: Path_ = ()) -> list[Problem]:
    """Every problem in `data`, in the order of its keys; missing keys come last."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    problems: list[Problem] = []
    for key, value in data.items():
        path = (*at, key)
        if key not in fields:
            problems.append(unknown_key(document, path, list(fields)))
            continue
        nested = struct_in(fields[key].type)
        if nested and isinstance(value, dict):
            problems += check(nested, document, value, path)
            continue
        of_items = _check_items(fields[key].type, document, value, path)
        if of_items:
            problems += of_items
            continue
        try:
            msgspec.convert(value, fields[key].type)
        except msgspec.ValidationError as error:
            problems.append(_invalid(document, path, value, fields[key].type, str(error)))
    for key, field in fields.items():
        if field.required and key not in data:
            path = (*at, key)
            place = document.place(at)
            problems.append(Problem(place, dotted(path), None, "this key is required", _example(key, field.type)))
    return problems


def _check_items(type_: Any, document: Document, value: Any, at: Path_) -> list[Problem]:
    """The problems in the items of a list or map whose item type is a struct."""
    nested = struct_in(_item_type(type_))
    if nested is None or not isinstance(value, list | dict):
        return []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [p for key, item in items if isinstance(item, dict) for p in check(nested, document, item, (*at, key))]


def unknown_key(document: Document, path: Path_, known: list[str]) -> Problem:
    """The problem for a key that does not exist; its remedy is the most similar known key."""
    remedy = nearest(path[-1], known) or f"known keys here: {', '.join(sorted(known))}"
    return Problem(document.key_place(path), dotted(path), None, "unknown key", remedy)


def _invalid(document: Document, path: Path_, value: Any, type_: Any, message: str) -> Problem:
    match = _AT.search(message)
    if match:  # an error inside a list or map: point at the item itself
        message = message[: match.start()]
        for index, key in _STEP.findall(match["path"]):
            step = int(index) if index else key
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                break
            path = (*path, step)
    choices = _choices(type_)
    key = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
    rule, remedy = message[0].lower() + message[1:], _example(key, type_)
    if choices:
        rule = f"must be one of {', '.join(map(str, choices))}"
        remedy = nearest(value, choices) or "choose one of them"
    elif "matching regex" in message:  # show the pattern's description, not the regular expression
        rule = "; ".join(meta.description for meta in _metas(type_) if meta.description and meta.pattern) or rule
    elif of_number := [meta.description for meta in _metas(_bare(type_)) if meta.description and meta.ge is not None]:
        rule = f"must be {of_number[0]}"
    elif wanted := re.search(r"xpected `(\w+)", message):
        remedy = remedy or _HINTS.get(wanted[1], "")
    if path[0] in ("secrets", "env", "notify") or path[:2] == ("k8s", "secrets"):
        value = None  # never print it: a user may have written a secret's value here by mistake
    return Problem(document.place(path), dotted(path), value, rule, remedy or "see `alignlaunch schema`")


def nearest(value: Any, choices: list[Any]) -> str:
    """ "did you mean ...?", or an empty text if no choice is similar."""
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else ""


def _bare(type_: Any) -> Any:
    """A field's type without its own annotations; those of its union members stay."""
    return typing.get_args(type_)[0] if hasattr(type_, "__metadata__") else type_


def _metas(type_: Any) -> list[msgspec.Meta]:
    """All `Meta` annotations in a field's type, including those of union members."""
    found = [meta for meta in getattr(type_, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    for part in typing.get_args(type_):
        if not isinstance(part, msgspec.Meta):
            found += _metas(part)
    return found


def _example(key: str, type_: Any) -> str:
    for meta in _metas(type_):
        if meta.examples:
            return f"for example `{key}: {msgspec.json.encode(meta.examples[0]).decode()}`"
    descriptions = [meta.description for meta in _metas(type_) if meta.description]
    return f"{key}: {descriptions[0]}" if descriptions else ""


def _choices(type_: Any) -> list[Any]:
    if typing.get_origin(type_) is typing.Literal:
        return list(typing.get_args(type_))
    for part in typing.get_args(type_):
        if found := _choices(part):
            return found
    return []


def _item_type(type_: Any) -> Any:
    """The item type of a field that is a list or a map, else None."""
    if typing.get_origin(type_) in (list, dict):
        return typing.get_args(type_)[-1]
    parts = typing.get_args(type_) if typing.get_origin(type_) is not typing.Literal else ()
    return next((found for part in parts if (found := _item_type(part))), None)


def struct_in(type_: Any) -> type[msgspec.Struct] | None:
    """The struct in a field's type (`Lora`, `Lora | None`, `Annotated[Lora, ...]`), else None."""
    if isinstance(type_, type) and not isinstance(type_, types.GenericAlias) and issubclass(type_, msgspec.Struct):
        return type_
    if typing.get_origin(type_) in (list, dict, typing.Literal):
        return None
    for part in typing.get_args(type_):
        if found := struct_in(part):
            return found
    return None
