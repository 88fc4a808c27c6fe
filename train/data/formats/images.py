"""Records with images: where the files are, and where in the conversation each stands. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .reading import IMAGES
from .turns import FormatError, Message, Record

STAGES = ("sft", "dpo", "safe_dpo")
#: Where an image stands in a text, as LLaVA's data sets write it.
MARK = "<image>"


def located(record: Record, folder: Path, stage: str) -> Record:
    """The record with absolute paths as `images`, in place of its `images` or `image`; unchanged where it has none.

    folder: what relative paths start from. Raises FormatError where the stage takes no images, and for a file that is
    not there; an absolute path into a folder that this machine does not see is left to the nodes.
    """
    column, *more = [name for name in IMAGES if record.get(name)] or [""]
    if not column:
        return record
    if more:
        raise FormatError("`images` and `image` both name files; one of them is read")
    if stage not in STAGES:
        raise FormatError(f"`{column}`: stage {stage} takes no images; stages {', '.join(STAGES)} do")
    named = record[column] if isinstance(record[column], list) else [record[column]]
    if odd := [name for name in named if not isinstance(name, str) or not name]:
        raise FormatError(f"`{column}` holds {type(odd[0]).__name__}; paths of image files are due")
    files = [folder / name for name in named]
    for name, file in zip(named, files, strict=True):
        if not file.is_file() and (file.parent.is_dir() or not Path(name).is_absolute()):
            raise FormatError(f"`{column}`: {name}: no such file (looked for {file})")
    rest = {name: value for name, value in record.items() if name not in IMAGES}
    return rest | {"images": [str(file.resolve()) for file in files]}


def placed(messages: list[Message], count: int) -> list[Message]:
    """The messages with lists of parts as contents, as processors' chat templates want them; `count` are images.

    An image stands where the messages have {type: image} or MARK; where they have neither, all stand before the first
    user's text. Raises FormatError unless there is one place an image, outside the answers.
    """
    turns = [turn | {"content": _parts(turn["content"])} for turn in messages]
    first = next((turn for turn in turns if turn["role"] == "user"), None)
    if first is not None and not images_in(turns):
        first["content"] = [{"type": "image"}] * count + first["content"]
    if images_in(turns) != count:
        raise FormatError(f"{count} images for {images_in(turns)} places ({{type: image}} or {MARK}) in the messages")
    if images_in([turn for turn in turns if turn["role"] == "assistant"]):
        raise FormatError("an image stands in an assistant turn, which is to be learnt")
    return turns


def images_in(turns: list[Message]) -> int:
    """How many images stand in messages that were `placed`."""
    return sum(part["type"] == "image" for turn in turns for part in turn["content"])


def without(turns: list[Message]) -> list[Message]:
    """Messages that were `placed`, less their images."""
    return [turn | {"content": [part for part in turn["content"] if part["type"] != "image"]} for turn in turns]


def _parts(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, str):
        return list(content)
    before, *after = content.split(MARK)
    parts: list[dict[str, Any]] = [{"type": "text", "text": before}]
    for text in after:
        parts += [{"type": "image"}, {"type": "text", "text": text}]
    return [part for part in parts if part["type"] == "image" or part["text"]]
