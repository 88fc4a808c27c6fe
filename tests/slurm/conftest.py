"""Two private Slurms, each started when the first test asks for it and kept for the session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .private_slurm import PrivateSlurm, missing_binaries


def slurm_ready(*, accounting: bool) -> None:
    """Skip, with the reason, where Slurm cannot run; fail instead where ALIGNLAUNCH_REQUIRE says that it must."""
    missing = missing_binaries(accounting=accounting)
    reason = f"not installed: {', '.join(missing)}" if missing else "needs root" if os.geteuid() else ""
    if not reason:
        return
    if "slurm" in os.environ.get("ALIGNLAUNCH_REQUIRE", "").split(","):
        pytest.fail(f"ALIGNLAUNCH_REQUIRE holds slurm, but: {reason}")
    pytest.skip(f"no private Slurm here: {reason}")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSlurm]:
    """Two nodes, accounting off: sacct answers nothing."""
    slurm_ready(accounting=False)
    with PrivateSlurm(tmp_path_factory.mktemp("slurm"), accounting=False) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_acct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSlurm]:
    """Two nodes with slurmdbd.

    slurmctld forgets a finished job in seconds, so that only sacct knows it; and both nodes have one host name, so that
    a rendezvous which works by the luck of host names fails here.
    """
    slurm_ready(accounting=True)
    root = tmp_path_factory.mktemp("slurm_acct")
    with PrivateSlurm(root, accounting=True, min_job_age=5, own_hostnames=False) as cluster:
        yield cluster
