"""A cluster for tests: the stand-in, or a real one where ALIGNLAUNCH_KUBECONFIG names its kubeconfig.

A real cluster needs an image with alignlaunch in it: ALIGNLAUNCH_K8S_IMAGE.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from tests.tiny import make_model, write_data

from .cluster import Cluster, StandInCluster
from .kubeconfig import in_namespace
from .standin import StandIn, obstacle

REAL = os.environ.get("ALIGNLAUNCH_KUBECONFIG", "")


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
    admin = stand_in.kubeconfig if stand_in else Path(REAL)
    load: Any = config.new_client_from_config
    api: Any = client.CoreV1Api(load(str(admin)))
    namespace = f"alignlaunch-{secrets.token_hex(4)}"
    api.create_namespace({"metadata": {"name": namespace}})
    kubeconfig = in_namespace(admin, namespace, tmp_path)
    if stand_in is None:
        image = os.environ.get("ALIGNLAUNCH_K8S_IMAGE")
        assert image, "ALIGNLAUNCH_KUBECONFIG is set: ALIGNLAUNCH_K8S_IMAGE must name an image with alignlaunch in it"
        yield Cluster(kubeconfig, namespace, image)
    else:
        cluster = StandInCluster(stand_in, kubeconfig, namespace)
        yield cluster
        cluster.faults.heal()
        assert not stand_in.crashes, stand_in.crashes[0]
    api.delete_namespace(namespace)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model and its data, to fill claims with."""
    place = tmp_path_factory.mktemp("workplace")
    make_model(place / "model")
    write_data(place)
    return place
