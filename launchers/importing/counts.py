"""Numbers of nodes, processes and GPUs, as launchers and Slurm write them."""

from __future__ import annotations

import re

from .found import Found, Given


def whole(given: Given) -> int | None:
    """A positive whole number, if it is known."""
    return None if given.unknown else positive(str(given.value))


def positive(text: str) -> int | None:
    """1 to 999,999."""
    return int(text) if re.fullmatch(r"0*[1-9][0-9]{0,5}", text, re.ASCII) else None


def put(found: Found, key: str, given: Given, fallback: int = 1) -> None:
    """A number of nodes or processes."""
    number = whole(given)
    if number is not None:
        found.put(key, number, given)
    elif given.unknown:
        why = f"{', '.join(given.unknown)} is known only when the script runs: give it after `--`"
        found.put(key, fallback, given, guess=why)
    else:
        found.put(key, fallback, given, guess=f"{given.value} there: one for each GPU of the node; write their number")


def gpus_in(value: str) -> int | None:
    """The number in `gpu:4`, `gpu:h100:4`, `h100:4` or `4`."""
    return 1 if value == "gpu" else positive(value.rpartition(":")[2])


def gpus_of(devices: str) -> int | None:
    """How many GPUs `0,1,2,3`, or deepspeed's `localhost:0,1`, names."""
    numbers = devices.rpartition(":")[2].split(",")
    return len(numbers) if all(re.fullmatch(r"\s*[0-9]{1,3}\s*", number) for number in numbers) else None
