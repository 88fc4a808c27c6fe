"""`alignlaunch retry`: to the cluster and namespace where the run was, whatever the current ones are."""

from __future__ import annotations

from pathlib import Path

from .cli import User
from .cluster import Cluster


def test_a_run_is_submitted_again_to_where_it_was(cluster: Cluster, tmp_path: Path) -> None:
    cluster.need("PyTorchJob")
    user = User(cluster, tmp_path)
    handle = user.submit(user.write_script("once", "exit 0", nnodes=1))
    user.until(handle, "COMPLETED")
    again = user.call("retry", handle, "--no-data-check").stdout.strip()
    assert again != handle
    assert again.rpartition("/")[0] == handle.rpartition("/")[0]
    user.until(again, "COMPLETED")
