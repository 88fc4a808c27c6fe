"""The arguments of a training program, one by one: the job's key for each, a reason to drop it, or none to be had."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from alignlaunch.train.config import Stage

from ..job import legacy, rules, yamlfile
from ..job.legacy import Move
from ..job.yamlfile import Document
from .found import Found, Given
from .words import Word

_LENGTHS = ("max_source_length", "max_target_length")
#: Arguments that hold a Hugging Face token; here it is given by the variable's name.
_TOKENS = ("hub_token", "hf_token", "hf_hub_token")
_NUMBER = re.compile(r"-[0-9.]")


@dataclass(frozen=True)
class Tool:
    """Another tool: what its names are here, where they are not known to `legacy` or to the trainer."""

    name: str
    moves: dict[str, Move] = field(default_factory=dict)
    #: Its features that are off unless asked for, and that alignlaunch does not have.
    off: frozenset[str] = frozenset()
    #: Names with one value that is as here; any other one is refused.
    only: dict[str, Any] = field(default_factory=dict)
    #: {job key: its own default}, for all that a stage of ours has a default for.
    defaults: Callable[[Stage], dict[str, Any]] = lambda _: {}
    #: Whether those are known, or only likely.
    known: bool = True


def of_words(words: list[Word]) -> tuple[list[Given], list[Given]]:
    """(options, other words) of a command line: `--name=value`, `--name value ...`, `--flag`, `name=value`."""
    options: list[Given] = []
    others: list[Given] = []
    taking = False
    for word in words:
        text = word.text
        if text.startswith("-") and len(text) > 1 and not _NUMBER.match(text):
            name, equals, value = text.partition("=")
            options.append(Given(name, value if equals else True, word.line, word.unknown))
            taking = not equals
        elif taking:
            last = options[-1]
            several = last.value if isinstance(last.value, list) else [] if last.value is True else [last.value]
            options[-1] = last._replace(
                value=[*several, text] if several else text, unknown=(*last.unknown, *word.unknown)
            )
        elif equals_ := re.match(r"([A-Za-z_][\w.]*)=", text):
            options.append(Given(equals_[1], text[equals_.end() :], word.line, word.unknown))
        else:
            others.append(Given(text, None, word.line, word.unknown))
    return options, others


def of_map(data: dict[str, Any], document: Document, file: str) -> list[Given]:
    """The keys of a YAML file."""
    return [Given(key, value, _line(document.key_place((key,))), (), file) for key, value in data.items()]


def _line(place: str) -> int:
    match = re.search(r":(\d+):\d+\Z", place)
    return int(match[1]) if match else 0


def plain(given: Given) -> str:
    """The name without hyphens in front and within."""
    return given.name.lstrip("-").replace("-", "_")


def last(found: Found, keys: list[Given]) -> list[Given]:
    """Of an option that is given twice the last one counts."""
    last = {plain(one): one for one in keys}
    for one in keys:
        if (wins := last[plain(one)]) is not one:
            found.drop(one, f"given again by {wins.name} ({wins.place}), which wins")
    return list(last.values())


def translate(found: Found, given: list[Given], tool: Tool, stage: Stage) -> None:
    """Give each of them its place in `found`."""
    lengths = [one for one in given if plain(one) in _LENGTHS]
    for one in given:
        if plain(one) in _LENGTHS:
            continue
        _one(found, one, plain(one), tool, stage)
    if lengths:
        _moved(found, {plain(one): _value(one, None) for one in lengths}, lengths, stage)


def _one(found: Found, given: Given, name: str, tool: Tool, stage: Stage) -> None:
    known: dict[str, dict[str, Any]] = rules.trainer_args()["stages"][stage]
    negated = name.removeprefix("no_") if given.value is True and name.startswith("no_") else ""
    if name in tool.moves:
        _by_table(found, given, tool.moves[name], known)
    elif name in tool.only or name in tool.off:
        _feature(found, given, tool, name)
    elif name in _TOKENS:
        found.add("secrets", "HF_TOKEN", given._replace(value=None))
    elif name in legacy.MOVES or name in legacy.DTYPE_NAMES:
        _moved(found, {name: _value(given, None)}, [given], stage)
    elif name in known:
        put(found, f"train.{name}", _value(given, known[name]), given)
    elif negated in known or negated in legacy.MOVES:
        _one(found, given._replace(value=False), negated, tool, stage)
    elif owner := rules.trainer_args()["owned"].get(name):
        found.refuse(given, f"not to be set here {owner}" if owner.startswith("(") else f"the job's `{owner}` says it")
    else:
        found.refuse(given, f"not an argument of the {stage} trainer")


def _feature(found: Found, given: Given, tool: Tool, name: str) -> None:
    """What alignlaunch does in one way alone, or does not have."""
    if name in tool.only and given.value == tool.only[name]:
        found.drop(given, "as here")
    elif name in tool.only:
        found.refuse(given, f"here it is always {tool.only[name]}")
    elif off(given.value):
        found.drop(given, "off, as here")
    else:
        found.refuse(given, f"a feature of {tool.name} that alignlaunch does not have")


def put(found: Found, key: str, value: Any, given: Given, why: str = "") -> None:
    """A key of the job. Where the value is known only later, a path is kept as it is written; nothing else can be."""
    if not given.unknown:
        found.put(key, value, given, why)
    elif key in ("model", "tokenizer", "output_dir", "data.train", "data.validation", "data.cache_dir"):
        kept = _without(value, given.unknown) if key == "output_dir" else value
        found.put(key, kept, given, guess=_only_later(given))
    else:
        found.refuse(given, f"{_only_later(given)} (give it after `--`)")


def _only_later(given: Given) -> str:
    return f"{', '.join(given.unknown)} is known only when the script runs"


def _without(value: Any, unknown: tuple[str, ...]) -> Any:
    """A folder's name without what differs from run to run, such as `$(date)`."""
    text = str(value)
    for part in unknown:
        text = text.replace(part, "")
    return re.sub(r"//+", "/", re.sub(r"[-_.]+(?=/|$)|(?<=/)[-_]+", "", text)).rstrip("/") or value


def _by_table(found: Found, given: Given, move: Move, known: dict[str, Any]) -> None:
    """known: the arguments of the stage's trainer."""
    value = _value(given, None)
    section, _, name = (move.to or "").partition(".")
    if value is None:
        found.drop(given, "not set")
    elif section == "train" and name not in known and off(value):
        found.drop(given, "off, as here")
    elif move.to is None and move.unless is not None and (value == move.unless or (off(value) and off(move.unless))):
        found.refuse(given, f"{move.why}; {move.remedy}" if move.remedy else move.why)
    elif move.to is None:
        found.drop(given, move.why)
    else:
        converted = move.convert(value)
        if converted is None:
            found.drop(given, f"sets nothing here: {move.why}" if move.why else "sets nothing here")
        else:
            put(found, move.to, converted, given, move.why)


def _moved(found: Found, values: dict[str, Any], given: list[Given], stage: Stage) -> None:
    """Names that `legacy` knows: what it makes of them under `train:`."""
    document = Document("", {"stage": stage, "train": dict(values)})
    notes, problems = legacy.apply(document)
    for problem in problems:
        for one in given:
            found.refuse(one, f"{problem.rule}; {problem.remedy}")
    if problems:
        return
    why = notes[0].rpartition(" (")[2].removesuffix(")") if notes and notes[0].endswith(")") else ""
    moved = [(key, value) for key, value in flat(document.data) if key not in ("stage", "train")]
    for key, value in moved:
        for one in given:
            put(found, key, value, one, "" if why == "the job's own key" else why or _of_dtype(one))
    not_needed = notes[0].partition(" is not needed: ")[2] if notes else ""
    for one in [] if moved else given:
        found.drop(one, not_needed or ("off, as here" if off(one.value) else "the job's other keys say it"))


def _of_dtype(given: Given) -> str:
    return "weights that are trained stay in fp32, computed in this type" if plain(given) in legacy.DTYPE_NAMES else ""


def flat(data: dict[str, Any], at: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and their values; under `train:` and of lists the value as a whole."""
    rows: list[tuple[str, Any]] = []
    for key, value in data.items():
        path = f"{at}{key}"
        if isinstance(value, dict) and value and at in ("", "lora.", "data.", "container.", "slurm."):
            rows += flat(value, f"{path}.")
        elif not (isinstance(value, dict) and not value):
            rows.append((path, value))
    return rows


def _value(given: Given, spec: dict[str, Any] | None) -> Any:
    """The value of an option's text; of a flag alone, true. Those of a file have their types already."""
    if given.file:
        return given.value
    if isinstance(given.value, list):
        return [parsed(text) for text in given.value]
    if spec is not None and spec["type"] == "str" and given.value != "None":
        return given.value
    return parsed(given.value)


def parsed(text: Any) -> Any:
    """A number, a truth value, a list or a map, where text says one."""
    if not isinstance(text, str):
        return text
    found = yamlfile.parse_value(text)
    return text if isinstance(found, str) else None if text == "None" else found


def off(value: Any) -> bool:
    """Whether a feature is not asked for."""
    return value in (None, False, 0, [], "") or str(value).lower() in ("false", "no", "none", "0", "0.0")
