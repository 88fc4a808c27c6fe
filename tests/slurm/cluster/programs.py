"""The programs that a private Slurm is started with, and where they are found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

#: Always this machine's own, and those of the Slurm that is started.
TOOLS, SLURMS = ("munged", "unshare", "setpriv"), ("slurmctld", "slurmd", "sbatch", "srun", "squeue")
ACCOUNTING_TOOLS, ACCOUNTING_SLURMS = ("mariadbd", "mariadb-install-db"), ("slurmdbd", "sacctmgr", "sacct")


def missing_binaries(*, accounting: bool, programs: Path | None = None) -> list[str]:
    """What is not here of all that a private Slurm is started with."""
    wanted = TOOLS + SLURMS + (ACCOUNTING_TOOLS + ACCOUNTING_SLURMS if accounting else ())
    return [name for name in wanted if shutil.which(name, path=search_path(programs)) is None]


def search_path(programs: Path | None) -> str:
    """PATH with the daemons' folders, which a user's need not hold, and another Slurm's programs first."""
    others = [f"{programs}/{place}" for place in ("bin", "sbin")] if programs else []
    return os.pathsep.join([*others, os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
