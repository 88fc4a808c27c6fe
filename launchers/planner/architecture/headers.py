"""Names and shapes of the parameters in safetensors files. Only each file's header is read, never the weights.

Format: the header's length N as 8 bytes, little-endian; then N bytes of JSON {name: {dtype, shape, data_offsets}}
(https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .shapes import Parameters

INDEX = "model.safetensors.index.json"
#: The format's limit on a header's bytes. Without it a file of another format might be read whole.
_LONGEST = 100_000_000
#: Buffers that older checkpoints store next to the parameters.
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")
#: Dtypes that pack several quantised weights into one number, so the stored shape is not the weight's shape.
_PACKED = {"U8", "I8", "I32"}


class HeaderError(Exception):
    """A file that is not safetensors, or whose shapes are not the weights' shapes (packed quantisation)."""


def files(folder: Path) -> list[Path]:
    """The weight files of a model folder: those in its index, or all `model*.safetensors` without an index."""
    index = folder / INDEX
    if index.is_file():
        return sorted({folder / str(name) for name in _json(index.read_bytes(), index).get("weight_map", {}).values()})
    return sorted(folder.glob("model*.safetensors"))


def parameters(folder: Path) -> Parameters:
    """{name: shape} of all parameters in a folder. Raises HeaderError, OSError."""
    found: Parameters = {}
    for path in files(folder):
        for name, tensor in read(path).items():
            if not name.endswith(_BUFFERS):
                found[name] = tuple(tensor["shape"])
    return found


def read(path: Path) -> dict[str, dict[str, Any]]:
    """One file's header, {name: {dtype, shape, data_offsets}}, without `__metadata__`. Raises HeaderError, OSError."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _LONGEST:
            raise HeaderError(f"{path}: not a safetensors file")
        header = _json(file.read(length), path)
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        shape = tensor.get("shape") if isinstance(tensor, dict) else None
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise HeaderError(f"{path}: {name}: no shape")
        if tensor.get("dtype") in _PACKED and len(shape) > 1:
            raise HeaderError(f"{path}: {name}: quantised weights, whose shape is that of the packed numbers")
    return header


def _json(content: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"{path}: its header is not JSON") from error
    if not isinstance(found, dict):
        raise HeaderError(f"{path}: its header is not a JSON object")
    return found
