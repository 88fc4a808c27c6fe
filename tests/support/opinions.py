"""Second opinions on rendered manifests: the official JSON schemas, the operators' own models, and kubectl."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

KUBECTL = shutil.which("kubectl")
kubernetes_validate: Any = pytest.importorskip("kubernetes_validate")
training: Any = pytest.importorskip("kubeflow.training.models")
trainer: Any = pytest.importorskip("kubeflow_trainer_api.models")
VERSION = kubernetes_validate.latest_version()
# It reads two megabytes of schemas anew for every object.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


def complaints(manifest: dict[str, Any]) -> list[str]:
    """Everything that the schemas and models have against a manifest."""
    kind = manifest["kind"]
    if kind == "ConfigMap":
        return _schema(manifest)
    if kind == "PyTorchJob":
        found = _model("KubeflowOrgV1PyTorchJob", manifest, kind)
        templates = [replica["template"] for replica in manifest["spec"]["pytorchReplicaSpecs"].values()]
    else:
        found = _trainjob(manifest)
        (patch,) = manifest["spec"]["runtimePatches"]
        (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        templates = [job["template"]["spec"]["template"]]
        container = {key: manifest["spec"]["trainer"][key] for key in ("image", "command", "env")}
        container |= {"name": "node", "resources": manifest["spec"]["trainer"]["resourcesPerNode"]}
        templates.append({"spec": {"containers": [container]}})
    metadata = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": manifest["metadata"]}
    pods = [{"apiVersion": "v1", "kind": "Pod", **template} for template in templates]
    return found + [line for one in (metadata, *pods) for line in _schema(one)]


def _schema(manifest: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


def _model(type_: str, value: Any, place: str) -> list[str]:
    """Every key and type of `value` against the generated models, which themselves would skip what they do not know."""
    if value is None:
        return []
    if match := re.fullmatch(r"list\[(.+)\]", type_):
        return [line for i, item in enumerate(value) for line in _model(match[1], item, f"{place}[{i}]")]
    if match := re.fullmatch(r"dict\(str, (.+)\)", type_):
        return [line for key, item in value.items() for line in _model(match[1], item, f"{place}.{key}")]
    plain: dict[str, type] = {"str": str, "int": int, "bool": bool}
    if type_ in plain:
        return [] if isinstance(value, plain[type_]) else [f"{place}: {value!r} is no {type_}"]
    model = getattr(training, type_, None)
    if model is None:
        return []  # Kubernetes' own, which the schemas judge
    types = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    found = [f"{place}.{key}: unknown" for key in value if key not in types]
    for key in value.keys() & types.keys():
        found += _model(types[key], value[key], f"{place}.{key}")
    return found


def _trainjob(manifest: dict[str, Any]) -> list[str]:
    try:
        understood = trainer.TrainerV1alpha1TrainJob.from_dict(manifest).to_dict()
    except ValueError as error:  # pydantic's
        return [str(error)]
    return [] if understood == manifest else [f"not understood: {json.dumps(manifest)} became {json.dumps(understood)}"]


def read_by_kubectl(folder: Path) -> list[dict[str, Any]]:
    """The objects that kubectl finds in a folder, by the code that `kubectl apply -f` reads it with; no server."""
    if KUBECTL is None:
        pytest.skip("no kubectl here")
    command = [KUBECTL, "label", "--local", "-f", str(folder), "-o", "json", "read-by=kubectl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    decoder, text, objects = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        found, end = decoder.raw_decode(text)
        assert found["metadata"]["labels"].pop("read-by") == "kubectl"
        objects.append(found)
        text = text[end:].lstrip()
    return objects
