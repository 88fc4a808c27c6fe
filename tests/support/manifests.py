"""Small jobs rendered for Kubernetes, as several test files want them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.render.manifests import load_manifests
from tests.conftest import MINIMAL
from tests.support.hostile import as_yaml

#: The goldens that are manifests.
FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "goldens").glob("*/k8s/job.configmap.yaml"))
#: The least that a job needs on Kubernetes: what `MINIMAL` names by path is its output alone. Two, three or four nodes
#: share its steps evenly.
K8S: dict[str, Any] = {"image": "a:1", "volumes": {"out": {"pvc": "out", "mount_path": "/out"}}}
KEYS: dict[str, Any] = {**yaml.safe_load(MINIMAL), "output_dir": "/out/tiny", "zero": 0, "k8s": K8S}
KEYS["train"] = {"gradient_accumulation_steps": 12}


def rendered(folder: Path, **keys: Any) -> list[dict[str, Any]]:
    """The manifests of a job of these keys, written to `folder` and read again."""
    (folder / "job.yaml").write_text(as_yaml({**KEYS, **keys, "k8s": K8S | keys.get("k8s", {})}), encoding="utf-8")
    loaded = jobfile.load(folder / "job.yaml")
    drift.write(folder / "k8s", drift.artifacts(loaded, "k8s", folder / "k8s"))
    return load_manifests(folder / "k8s")


def container(of: dict[str, Any], role: str = "Master") -> dict[str, Any]:
    """The container that trains, of a PyTorchJob."""
    containers: list[dict[str, Any]] = of["spec"]["pytorchReplicaSpecs"][role]["template"]["spec"]["containers"]
    return containers[0]
