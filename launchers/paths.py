"""Where alignlaunch finds its own files, and the user's."""

from __future__ import annotations

import os
from pathlib import Path

import alignlaunch

#: The installed package: templates/, zero_configs/ and train/ lie in it.
PACKAGE = Path(alignlaunch.__file__).parent


def config_home() -> Path:
    """The user's settings: cluster profiles."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "alignlaunch"


def state_home() -> Path:
    """What alignlaunch remembers for the user: the record of runs."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "alignlaunch"
