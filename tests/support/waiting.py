"""Waiting for what other processes bring about."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(arrived: Callable[[], bool], seconds: float = 60) -> None:
    """Return as soon as `arrived` is true; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not arrived():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)
