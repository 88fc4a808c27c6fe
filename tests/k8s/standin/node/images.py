"""The images that can be pulled. Each is this machine's own file system with an environment and a user."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[4]
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The image that tests run in: this python with alignlaunch, and as a user who is not root.
TRAINING_IMAGE = "alignlaunch.test/train:1"
INIT_IMAGE = "alpine:3.10"

# The only thing that the init container does with its image.
NSLOOKUP = '#!/bin/sh\nexec getent hosts "$1"\n'


@dataclass(frozen=True)
class Image:
    env: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    uid: int = 0
    working_dir: str = "/"


def pullable() -> dict[str, Image]:
    """By name; every other image is not in any registry."""
    training = {
        "PATH": f"{sys.prefix}/bin:{BASE_PATH}",
        "PYTHONPATH": str(REPOSITORY / "src"),
        # This machine has few cores, and a node's processes share them.
        "OMP_NUM_THREADS": "1",
        **{key: os.environ[key] for key in ("TORCH_EXTENSIONS_DIR",) if key in os.environ},
    }
    return {
        TRAINING_IMAGE: Image(training, uid=1000),
        "alignlaunch.test/root:1": Image(training),
        INIT_IMAGE: Image({"PATH": f"/opt/stand-in/bin:{BASE_PATH}"}),
    }


def host_folders() -> list[Path]:
    """Folders that the images need, which may be on other file systems than the machine's root."""
    return [Path(sys.prefix), Path(sys.base_prefix), REPOSITORY]
