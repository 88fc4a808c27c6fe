"""A job's model and its size: from a folder, the Hugging Face cache, or figures given on the command line."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import headers, shapes
from .headers import HeaderError
from .shapes import Architecture, Parameters, ShapeError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


class UnknownModelError(Exception):
    """The model's size cannot be determined on this machine."""


@dataclass(frozen=True)
class Model:
    """A model's parameters and dimensions, and where they were read from (`origin`)."""

    name: str
    architecture: Architecture
    parameters: Parameters
    origin: str
    exact: bool  # False: the family is unknown, so Llama's layout was assumed

    @property
    def count(self) -> int:
        """Total parameters; tied ones count once."""
        return shapes.count(self.parameters)

    @property
    def largest_module(self) -> int:
        """Parameters of the largest module."""
        return shapes.largest_module(self.parameters)


def find(name: str, base: Path, *, score_head: bool = False) -> Model:
    """The model `name` of a job in folder `base`: a path relative to `base`, or a hub id in the cache.

    score_head: count it as a reward model, with a score head for the output head. Raises UnknownModelError.
    """
    folder = folder_of(name, base)
    adapter = folder / "adapter_config.json"
    try:
        # An adapter folder: training merges the adapter into its base first, so the base's size counts.
        if adapter.is_file() and not (folder / "config.json").is_file():
            inner = str(_read(adapter).get("base_model_name_or_path", ""))
            folder = folder_of(inner, base)
        config = _read(folder / "config.json")
        arch = shapes.architecture(config)
        if not arch.known and headers.files(folder):
            found = _as_loaded(headers.parameters(folder), arch, score_head=score_head)
            return Model(name, arch, found, "safetensors headers", exact=True)
        return Model(name, arch, shapes.parameters(arch, score_head=score_head), "config.json", exact=arch.known)
    except (ShapeError, HeaderError) as error:
        raise UnknownModelError(f"{folder}: {error}") from error
    except OSError as error:
        raise UnknownModelError(f"{error.filename}: {error.strerror}") from error


def by_hand(parameters: str, config: dict[str, Any], *, score_head: bool = False) -> Model:
    """A Llama-like model from given figures: `parameters` as "32B", `config` with the keys of a config.json.

    If `intermediate_size` is missing, it is computed from the other figures. Raises UnknownModelError.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMBT]?)", parameters.strip().upper())
    wanted = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if not wanted:
        raise UnknownModelError(f"{parameters!r}: a number with K, M, B or T is expected, for example 32B")
    given = {"model_type": "llama", **{key: value for key, value in config.items() if value is not None}}
    try:
        if "intermediate_size" not in given:
            arch = shapes.architecture(given | {"intermediate_size": 1})
            rest = wanted - shapes.count(shapes.parameters(arch, score_head=score_head))
            given["intermediate_size"] = 1 + max(rest, 0) // (3 * arch.hidden * arch.layers)
        arch = shapes.architecture(given)
    except ShapeError as error:
        raise UnknownModelError(str(error)) from error
    found = shapes.parameters(arch, score_head=score_head)
    missing = wanted - shapes.count(found)
    if missing < 0:
        raise UnknownModelError(
            f"{parameters}: layers, widths and vocabulary alone make {shapes.count(found):,} parameters"
        )
    if missing:  # the remainder: less than one row of each MLP, if `intermediate_size` was computed above
        found["rest"] = (missing,)
    return Model(parameters, arch, found, "figures by hand", exact=False)


def _as_loaded(found: Parameters, arch: Architecture, *, score_head: bool) -> Parameters:
    """The stored parameters as training loads them: without a tied head; the score head replaces any output head."""
    if arch.tied or score_head:
        found = {name: shape for name, shape in found.items() if not name.endswith("lm_head.weight")}
    if score_head:
        found["score.weight"] = (1, arch.hidden)
    return found


def folder_of(name: str, base: Path) -> Path:
    """A model's folder: there, or in the Hugging Face cache. Raises UnknownModelError if it is in neither."""
    folder = base / name
    if folder.is_dir():
        return folder
    cached = hub_cache() / f"models--{name.replace('/', '--')}"
    try:
        revision = (cached / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        raise UnknownModelError(f"{name}: neither a folder here nor in {hub_cache()}") from None
    return cached / "snapshots" / revision


def hub_cache() -> Path:
    """huggingface_hub's cache folder (HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, or its default)."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ShapeError(f"{path.name} is not JSON") from error
    if not isinstance(found, dict):
        raise ShapeError(f"{path.name} is not a JSON object")
    return found
