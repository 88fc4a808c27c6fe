"""A secret of the submitting shell reaches no cluster; one in a Secret is in that Secret, and in the containers."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.support.planted import Planted

from .cli import User
from .cluster import Cluster


def test_a_planted_secret_is_in_its_secret_alone(cluster: Cluster, tmp_path: Path) -> None:
    cluster.need("PyTorchJob")
    (tmp_path / "user").mkdir()
    user = User(cluster, tmp_path / "user")
    with Planted("HF_TOKEN") as of_shell, Planted("HF_TOKEN") as of_cluster:
        value = of_cluster.env["HF_TOKEN"]
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "type": "Opaque"}
        cluster.apply({**secret, "data": {"token": base64.b64encode(value.encode()).decode()}})
        user.env |= of_shell.env
        job = user.write_script(
            "planted",
            'case "$HF_TOKEN" in planted-*) echo arrived;; *) exit 3;; esac; sleep 1',
            {"secrets": {"HF_TOKEN": {"name": "hub", "key": "token"}}},
            secrets=["HF_TOKEN"],
        )
        user.submit(job)
        user.until("planted", "COMPLETED")
    said = [user.call(command, "planted").stdout for command in ("status", "logs", "diagnose")]
    assert "arrived" in said[1]
    objects = [
        cluster.kubectl("get", kind, "-o", "json").stdout for kind in ("configmaps", "pytorchjobs", "pods", "events")
    ]
    for planted in (of_shell, of_cluster):
        planted.require_hidden([user.folder], [*said, *objects])
    (stored,) = (user.folder / "runs").glob("planted-*/stored.json")
    tokens = [one["value"] for one in _variables(json.loads(stored.read_text())) if one["name"] == "ALIGNLAUNCH_TOKEN"]
    assert len(tokens) == 2  # of both roles
    assert len(set(tokens)) == 1
    assert stored.stat().st_mode & 0o077 == 0
    assert not [path for path in (user.folder / "launch").rglob("*.yaml") if tokens[0] in path.read_text()]


def _variables(node: object) -> list[dict[str, str]]:
    """Every `env` of the manifests."""
    if isinstance(node, list):
        return [variable for item in node for variable in _variables(item)]
    if not isinstance(node, dict):
        return []
    own = node.get("env")
    given = [one for one in own if "value" in one] if isinstance(own, list) else []
    return given + _variables(list(node.values()))
