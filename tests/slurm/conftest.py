"""Private Slurms, each started when the first test asks for it and kept for the session: of the installed version, and
of further ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.debian import NEWEST, OTHER
from tests.support.tiny import make_model, write_data

from . import interrupted
from .cli import Login
from .cluster import debian
from .cluster.private_slurm import PrivateSlurm
from .cluster.programs import missing_binaries

INSTALLED = "installed"


def further(suite: str) -> object:
    """A row for `make test-slurm`, which runs all of tests/slurm on every version."""
    return pytest.param(suite, marks=pytest.mark.slurm_versions)


#: For what must be seen on two versions in every run of the tests: what is watched, and how jobs end.
on_two_versions = pytest.mark.parametrize(
    "programs", [INSTALLED, OTHER, further(NEWEST)], indirect=True, scope="session"
)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the other version without accounts test_ends.py has all rows in every run; those of test_watch.py add none."""
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        is_further = params.get("programs") == OTHER and params.get("login") == "no accounting"
        if is_further and item.path.name == "test_watch.py":
            item.add_marker(pytest.mark.slurm_versions)


def require(reason: str) -> None:
    """Skip with the reason; fail instead where ALIGNLAUNCH_REQUIRE says that Slurm must be there."""
    if "slurm" in os.environ.get("ALIGNLAUNCH_REQUIRE", "").split(","):
        pytest.fail(f"ALIGNLAUNCH_REQUIRE holds slurm, but: {reason}")
    pytest.skip(f"no private Slurm here: {reason}")


def slurm_ready(*, accounting: bool, programs: Path | None = None) -> None:
    """Skip, or fail, where Slurm cannot run."""
    missing = missing_binaries(accounting=accounting, programs=programs)
    if missing or os.geteuid():
        require(f"not installed: {', '.join(missing)}" if missing else "needs root")


@pytest.fixture(scope="session", params=[INSTALLED, further(OTHER), further(NEWEST)])
def programs(request: pytest.FixtureRequest) -> Path | None:
    """Where the Slurm under test lies; None for the installed one."""
    if request.param == INSTALLED:
        return None
    if (folder := debian.unpacked(request.param)) is None:
        require(f"Debian {request.param}'s is not unpacked; `make slurm-packages test-slurm` does it")
    return folder


@pytest.fixture(scope="session")
def slurm(programs: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSlurm]:
    """Two nodes, accounting off: sacct answers nothing."""
    slurm_ready(accounting=False, programs=programs)
    with PrivateSlurm(tmp_path_factory.mktemp("slurm"), accounting=False, programs=programs) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_acct(programs: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSlurm]:
    """Two nodes with slurmdbd.

    slurmctld forgets a finished job in seconds, so that only sacct knows it; and both nodes have one host name, so that
    a rendezvous which works by the luck of host names fails here.
    """
    slurm_ready(accounting=True, programs=programs)
    root = tmp_path_factory.mktemp("slurm_acct")
    with PrivateSlurm(root, accounting=True, min_job_age=5, own_hostnames=False, programs=programs) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def trainer(slurm: PrivateSlurm, programs: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Login:
    """A login with a model and data."""
    login = Login(slurm, tmp_path_factory.mktemp("trainer"))
    make_model(login.folder / "model")
    write_data(login.folder)
    return login


@pytest.fixture(scope="session")
def undisturbed(trainer: Login) -> list[tuple[int, float]]:
    """The losses of one process that nothing interrupts, at the same effective batch size."""
    output = interrupted.write_job(trainer, "undisturbed", nnodes=1)
    trainer.call("local", "undisturbed.yaml", "--set", "train.gradient_accumulation_steps=4")
    return interrupted.losses(output)
