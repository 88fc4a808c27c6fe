"""The identity of a process: its pid alone is reused, and means nothing on another machine."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any


def identity(pid: int | None = None) -> dict[str, Any]:
    """Pid, start time and host of a process of this machine (default: this process), as plain data."""
    pid = os.getpid() if pid is None else pid
    return {"pid": pid, "started": _start_time(pid), "host": platform.node()}


def read(path: Path) -> dict[str, Any]:
    """The identity in a file; empty if there is none or it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    is_one = isinstance(found, dict) and isinstance(found.get("pid"), int) and "started" in found
    return found if is_one else {}


def other_host(known: dict[str, Any]) -> str:
    """The host of a process that runs on another machine, where its state cannot be seen; else ""."""
    host = str(known.get("host", ""))
    return host if host != platform.node() else ""


def is_running(known: dict[str, Any]) -> bool:
    """Whether that very process of this machine still runs."""
    return bool(known) and not other_host(known) and _start_time(known["pid"]) == known["started"]


def _start_time(pid: int) -> str | None:
    """When the kernel started a process, in ticks since boot (field 22 of /proc/PID/stat); None if dead or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
