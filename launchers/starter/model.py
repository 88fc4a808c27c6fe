"""What a model's folder says of it: its size, its longest context, whether it has a chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from ..planner.architecture import model
from ..planner.architecture.model import UnknownModelError

#: Files of transformers in which a chat template may stand: by itself, or under this key.
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
_KEY = "chat_template"


class Facts(NamedTuple):
    """context: the most tokens that it can read, None if config.json does not say it."""

    type: str
    parameters: int
    exact: bool  # False: of a family that the planner does not know, so counted as a model like Llama
    context: int | None
    has_template: bool


def facts(name: str, base: Path) -> Facts:
    """Those of a folder, from `base`, or of a hub id that is in the cache. Raises UsageError if they are not here."""
    try:
        found, folder = model.find(name, base), model.folder_of(name, base)
    except UnknownModelError as error:
        raise UsageError(str(error)) from error
    arch = found.architecture
    context = arch.config.get("max_position_embeddings")
    whole = isinstance(context, int) and not isinstance(context, bool) and context > 1
    return Facts(arch.model_type, found.count, found.exact, context if whole else None, _has_template(folder))


def _has_template(folder: Path) -> bool:
    return any(_holds_template(folder / name) for name in _TEMPLATES)


def _holds_template(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else {_KEY: text}
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and bool(data.get(_KEY))
