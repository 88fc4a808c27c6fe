"""Records with images: where the files are, and where in the conversation each image goes. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .reading import IMAGES
from .turns import FormatError, Message, Record

STAGES = ("sft", "dpo", "safe_dpo")
#: The placeholder of an image in a text, as in LLaVA's data sets.
MARK = "<image>"


def located(record: Record, folder: Path, stage: str) -> Record:
    """The record with its `images` or `image` replaced by `images`, a list of absolute paths; unchanged without images.

    folder: where relative paths start. Raises FormatError if the stage takes no images or a file does not exist. An
    absolute path into a folder that this machine does not see is left for the nodes to check.
    """
    column, *more = [name for name in IMAGES if record.get(name)] or [""]
    if not column:
        return record
    if more:
        raise FormatError("`images` and `image` both name files; only one of them can be read")
    if stage not in STAGES:
        raise FormatError(f"`{column}`: stage {stage} takes no images; stages {', '.join(STAGES)} do")
    named = record[column] if isinstance(record[column], list) else [record[column]]
    if odd := [name for name in named if not isinstance(name, str) or not name]:
        raise FormatError(f"`{column}` holds {type(odd[0]).__name__}; expected paths of image files")
    files = [folder / name for name in named]
    for name, file in zip(named, files, strict=True):
        if not file.is_file() and (file.parent.is_dir() or not Path(name).is_absolute()):
            raise FormatError(f"`{column}`: {name}: no such file (looked for {file})")
    rest = {name: value for name, value in record.items() if name not in IMAGES}
    return rest | {"images": [str(file.resolve()) for file in files]}


def placed(messages: list[Message], count: int) -> list[Message]:
    """The messages with lists of parts as contents, as processors' chat templates take them. count: number of images.

    An image goes where the messages have {type: image} or MARK; if they have neither, all images go before the first
    user turn's text. Raises FormatError unless there is exactly one place for each image, none in an assistant turn.
    """
    turns = [turn | {"content": _parts(turn["content"])} for turn in messages]
    first = next((turn for turn in turns if turn["role"] == "user"), None)
    if first is not None and not images_in(turns):
        first["content"] = [{"type": "image"}] * count + first["content"]
    if images_in(turns) != count:
        raise FormatError(f"{count} images for {images_in(turns)} places ({{type: image}} or {MARK}) in the messages")
    if images_in([turn for turn in turns if turn["role"] == "assistant"]):
        raise FormatError("an assistant turn contains an image; answers to be learnt must be text")
    return turns


def images_in(turns: list[Message]) -> int:
    """The number of images in messages from `placed`."""
    return sum(part["type"] == "image" for turn in turns for part in turn["content"])


def without(turns: list[Message]) -> list[Message]:
    """Messages from `placed` without their images."""
    return [turn | {"content": [part for part in turn["content"] if part["type"] != "image"]} for turn in turns]


def _parts(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, str):
        return list(content)
    before, *after = content.split(MARK)
    parts: list[dict[str, Any]] = [{"type": "text", "text": before}]
    for text in after:
        parts += [{"type": "image"}, {"type": "text", "text": text}]
    return [part for part in parts if part["type"] == "image" or part["text"]]
