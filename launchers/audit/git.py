"""What git knows about the launched files. Outside a repository every call returns None instead of failing."""

from __future__ import annotations

import subprocess
from pathlib import Path


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def commit(folder: Path) -> str | None:
    """The commit that is checked out at `folder`."""
    head = _git(folder, "rev-parse", "HEAD")
    return head.strip() if head else None


def uncommitted(path: Path) -> list[str] | None:
    """The file, or files below the folder, whose content on disk is not committed; ignored files count too.

    None: no repository.
    """
    folder, name = (path, ".") if path.is_dir() else (path.parent, path.name)
    status = _git(folder, "status", "--porcelain", "--ignored", "--untracked-files=all", "-z", "--", f"./{name}")
    if status is None:
        return None
    return [entry[3:] for entry in status.split("\0") if entry]


def is_dirty(folder: Path) -> bool | None:
    """Whether anything in the repository around `folder` differs from its commit. None: no repository."""
    status = _git(folder, "status", "--porcelain")
    return None if status is None else bool(status.strip())
