"""A cluster for tests: the stand-in, or a real one where ALIGNLAUNCH_KUBECONFIG names its kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny import make_model, write_data

from .cluster import Cluster
from .namespaces import REAL, new_namespace
from .standin.standin import StandIn, obstacle


def stand_in_ready() -> None:
    """Skip, with the reason, where the stand-in cannot run; fail where ALIGNLAUNCH_REQUIRE says that it must."""
    reason = obstacle()
    if reason and "k8s" in os.environ.get("ALIGNLAUNCH_REQUIRE", "").split(","):
        pytest.fail(f"ALIGNLAUNCH_REQUIRE holds k8s, but: {reason}")
    if reason:
        pytest.skip(f"no Kubernetes stand-in here: {reason}")


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn | None]:
    """None where a real cluster is used."""
    if REAL:
        yield None
        return
    stand_in_ready()
    with StandIn(tmp_path_factory.mktemp("k8s")) as running:
        yield running


@pytest.fixture
def cluster(stand_in: StandIn | None, tmp_path: Path) -> Iterator[Cluster]:
    """A namespace of its own for every test, gone with all that is in it afterwards."""
    yield from _checked(stand_in, tmp_path)


@pytest.fixture
def neighbour(stand_in: StandIn | None, tmp_path: Path) -> Iterator[Cluster]:
    """A second namespace of the same cluster."""
    yield from _checked(stand_in, tmp_path)


def _checked(stand_in: StandIn | None, folder: Path) -> Iterator[Cluster]:
    with new_namespace(stand_in, folder) as found:
        yield found
        if stand_in is not None:
            found.faults.heal()
            assert not stand_in.crashes, stand_in.crashes[0]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model and its data, to fill claims with."""
    place = tmp_path_factory.mktemp("workplace")
    make_model(place / "model")
    write_data(place)
    return place
