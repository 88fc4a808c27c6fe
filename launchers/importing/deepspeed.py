"""DeepSpeed: from a JSON file, its name, or accelerate's options, to `zero` and `offload`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .. import zero as zeros
from .arguments import off, plain
from .found import Found, Given, beside

#: The program's names for the file.
NAMES = ("deepspeed", "deepspeed_config", "deepspeed_config_file")
_STAGE = re.compile(r"(?:zero|z|stage)[-_]?([0-3])", re.IGNORECASE)
_OPTIONS = (
    "zero_stage",
    "offload_optimizer_device",
    "offload_param_device",
    "offload_optimizer_nvme_path",
    "offload_param_nvme_path",
    *NAMES,
)


def file(found: Found, given: Given, source: Path, written: dict[str, str]) -> None:
    """A DeepSpeed JSON. written: here-documents of the script, by file name."""
    value = given.value
    if off(value):
        found.drop(given, "no DeepSpeed")
    elif isinstance(value, dict):
        _section(found, given, value, "the file's contents")
    elif value is True:
        found.drop(given, "the program's arguments name its file")
    elif given.unknown:
        by_name(found, given, f"{', '.join(given.unknown)} is known only when the script runs")
    elif str(value) in written:
        try:
            _section(found, given, json.loads(written[str(value)]), "which the script writes")
        except (ValueError, RecursionError):
            by_name(found, given, "the script writes it, and it is no JSON")
    elif (path := beside(source, str(value))).is_file():
        found.put("zero", str(path), given, "the file as it is")
    else:
        by_name(found, given, "it is not here")


def instead(found: Found, given: Given, why: str) -> None:
    """For a file that cannot stand as it is: its stage and offload, as far as they can be read."""
    try:
        text = Path(str(given.value)).read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    try:
        _section(found, given, json.loads(text), why)
    except (ValueError, RecursionError):  # comments, most often
        stage = re.search(r'"stage"\s*:\s*([0-3])', text)
        by_name(found, given._replace(value=f"zero{stage[1]}") if stage else given, why)


def by_name(found: Found, given: Given, why: str) -> None:
    """Take the stage from the file's name."""
    name = str(given.value).rpartition("/")[2]
    match = _STAGE.search(name)
    found.put(
        "zero", int(match[1]) if match else 2, given, guess=f"{why}; {'by its name' if match else 'ZeRO-2 is a guess'}"
    )
    if "offload" in name.lower() and (match is None or match[1] != "0"):
        every = match is not None and match[1] == "3" and re.search("all|param", name.lower())
        found.put("offload", "optimizer+param" if every else "optimizer", given, guess="by its name")


def _section(found: Found, given: Given, config: Any, why: str) -> None:
    zero = config.get("zero_optimization") if isinstance(config, dict) else None
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if not isinstance(zero, dict) or type(stage) is not int or stage not in (0, 1, 2, 3):
        by_name(found, given, f"{why}: no `zero_optimization.stage` in it")
        return
    devices = {part: zero.get(f"offload_{part}") for part in ("optimizer", "param")}
    names = {part: value.get("device") if isinstance(value, dict) else None for part, value in devices.items()}
    found.put("zero", stage, given, why)
    _offload(found, {part: given for part in names if names[part]}, names)
    offload = str(found.job["offload"].value) if "offload" in found.job else "none"
    ours = _ours(stage, offload)
    for key, value in {**config, **zero}.items():
        if key in ("zero_optimization", "stage", "offload_optimizer", "offload_param"):
            continue
        one = given._replace(name=f"{given.name}: {key}", value=value)
        if value == "auto" or key in ("bf16", "fp16"):
            found.drop(one, "the trainer's own argument decides it")
        elif ours.get(key) == value:
            found.drop(one, "the same in zero_configs/")
        else:
            found.refuse(one, "zero_configs/ has no such value; keep yours with `zero: FILE`")


def _ours(stage: int, offload: str) -> dict[str, Any]:
    """The keys of our own file for a stage."""
    try:
        config = zeros.named(stage, offload)
    except zeros.ZeroError:
        return {}
    whole: dict[str, Any] = json.loads(config.text) if config is not None else {}
    return {**whole, **whole.get("zero_optimization", {})}


def _offload(found: Found, given: dict[str, Given], devices: dict[str, Any]) -> None:
    wanted = [part for part, device in devices.items() if device not in (None, "none", False)]
    if "nvme" in devices.values():
        for part in wanted:
            found.refuse(given[part], "offload to NVMe; keep it with `zero: FILE`")
    elif wanted:
        found.put("offload", "optimizer+param" if "param" in wanted else "optimizer", given[wanted[0]])
    for part, one in given.items():
        if part not in wanted:
            found.drop(one, "off, as here")


def of_options(found: Found, options: list[Given], source: Path) -> list[Given]:
    """accelerate's options for DeepSpeed; returns the others."""
    said = {plain(given): given for given in options if plain(given) in _OPTIONS}
    for name in NAMES[1:]:
        if name in said:
            file(found, said.pop(name), source, {})
    stage = said.get("zero_stage")
    if stage is not None and str(stage.value) in ("0", "1", "2", "3"):
        found.put("zero", int(stage.value), stage)
    elif stage is not None:
        found.refuse(stage, "a ZeRO stage is 0, 1, 2 or 3")
    parts = {
        part: said[f"offload_{part}_device"] for part in ("optimizer", "param") if f"offload_{part}_device" in said
    }
    _offload(found, parts, {part: str(given.value) for part, given in parts.items()})
    for part in ("optimizer", "param"):
        if (path := said.get(f"offload_{part}_nvme_path")) is not None:
            found.drop(path, "nothing is offloaded to NVMe")
    return [given for given in options if plain(given) not in _OPTIONS or plain(given) == "deepspeed"]
