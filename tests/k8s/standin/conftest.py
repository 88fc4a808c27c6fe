"""What tests of the stand-in ask of a cluster."""

from __future__ import annotations

import pytest

from tests.k8s.cluster import Cluster


@pytest.fixture
def operator(cluster: Cluster) -> None:
    """Skips the test where no training operator serves PyTorchJobs."""
    cluster.need("PyTorchJob")
