"""Other Debians' Slurm, unpacked beside the installed one.

python -m tests.slurm.cluster.debian             # what `make test` needs, into .cache/slurm/
python -m tests.slurm.cluster.debian --newest    # what `make test-slurm` needs besides
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support import debian
from tests.support.debian import NEWEST, OTHER

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurmdbd", "slurm-wlm-mysql-plugin")


def unpacked(suite: str) -> Path | None:
    """The folder with `bin`, `sbin` and `plugins` of a release's Slurm; None where it has not been unpacked."""
    folder = debian.CACHE / "slurm" / suite
    return folder if debian.is_ready(folder) else None


def unpack(suite: str) -> Path:
    """Fetch and prepare a release's Slurm, unless that was done."""
    folder = debian.CACHE / "slurm" / suite
    debian.unpack(suite, folder, PACKAGES, _prepare)
    return folder


def _prepare(folder: Path) -> None:
    root = folder / "root"
    (plugins,) = root.glob("usr/lib/*/slurm-wlm")
    for place in ("bin", "sbin"):
        (folder / place).mkdir()
        for program in sorted((root / "usr" / place).iterdir()):
            if _is_slurms(program):
                adapted = folder / place / program.name.removesuffix("-wlm")  # Debian's alternatives link to these
                shutil.copy(program, adapted)
                debian.adapt(adapted, root, f"{plugins.parent}:{plugins}")
    (folder / "plugins").symlink_to(plugins)
    for unused in ("usr/share", "usr/bin", "usr/sbin", "usr/lib/systemd", "var"):
        shutil.rmtree(root / unused, ignore_errors=True)


def _is_slurms(program: Path) -> bool:
    """Whether a program of the unpacked root is linked with Slurm's own library."""
    return not program.is_symlink() and b"libslurm" in program.read_bytes()


if __name__ == "__main__":
    for name in (OTHER, *([NEWEST] if "--newest" in sys.argv else [])):
        unpack(name)
