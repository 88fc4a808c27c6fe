"""Locations of the files of the package and of the user's settings and state."""

from __future__ import annotations

import os
from pathlib import Path

import alignlaunch

from .errors import UsageError

#: The installed package, which contains templates/, zero_configs/ and train/.
PACKAGE = Path(alignlaunch.__file__).parent


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # neither HOME nor an entry in the password file, as in some containers
        raise UsageError("no home folder is known on this machine\n    remedy: set HOME") from error


def config_home() -> Path:
    """Folder of the user's settings: cluster profiles."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or _home() / ".config") / "alignlaunch"


def state_home() -> Path:
    """Folder of what alignlaunch stores between commands: the record of runs."""
    return Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state") / "alignlaunch"
