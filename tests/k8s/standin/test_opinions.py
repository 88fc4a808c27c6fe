"""Second opinions: what Kubeflow's own models say of the objects that the stand-in takes and makes."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.k8s.cluster import Cluster
from tests.k8s.manifests import container, pytorchjob, replica

from .objects.resources import PYTORCHJOBS, TRAINJOBS
from .objects.schemas import schema_of

pytestmark = pytest.mark.matrix  # the stand-in itself: it changes seldom


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("KubeflowOrgV1PyTorchJobSpec", ()),
        ("KubeflowOrgV1ElasticPolicy", ("elasticPolicy",)),
        ("KubeflowOrgV1RunPolicy", ("runPolicy",)),
        ("KubeflowOrgV1SchedulingPolicy", ("runPolicy", "schedulingPolicy")),
    ],
)
def test_the_pytorchjob_schema_has_the_fields_of_the_sdk(model: str, path: tuple[str, ...]) -> None:
    models = pytest.importorskip("kubeflow.training.models", exc_type=ImportError)
    schema = schema_of(PYTORCHJOBS)["properties"]["spec"]
    for key in path:
        schema = schema["properties"][key]
    assert set(schema["properties"]) == set(getattr(models, model).attribute_map.values())


def test_the_replica_schema_has_the_fields_of_the_sdk() -> None:
    models = pytest.importorskip("kubeflow.training.models", exc_type=ImportError)
    schema = schema_of(PYTORCHJOBS)["properties"]["spec"]["properties"]["pytorchReplicaSpecs"]["additionalProperties"]
    assert set(schema["properties"]) == set(models.KubeflowOrgV1ReplicaSpec.attribute_map.values())


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("TrainerV1alpha1TrainJobSpec", ()),
        ("TrainerV1alpha1RuntimeRef", ("runtimeRef",)),
        ("TrainerV1alpha1Trainer", ("trainer",)),
        ("TrainerV1alpha1RuntimePatch", ("runtimePatches", "items")),
    ],
)
def test_the_trainjob_schema_has_the_fields_of_the_sdk(model: str, path: tuple[str, ...]) -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models", exc_type=ImportError)
    schema = schema_of(TRAINJOBS)["properties"]["spec"]
    for key in path:
        schema = schema["items"] if key == "items" else schema["properties"][key]
    fields: Any = getattr(models, model).model_fields
    assert set(schema["properties"]) == {field.alias or name for name, field in fields.items()}


def test_the_sdk_reads_the_status_of_a_job_that_ran(cluster: Cluster) -> None:
    """Only the status: of kubernetes 37, the SDK can read no metadata."""
    training: Any = pytest.importorskip("kubeflow.training", exc_type=ImportError)
    cluster.need("PyTorchJob")
    cluster.apply(pytorchjob("job", master=replica(1, container(cluster.image, "true"))))
    cluster.wait_condition("job", "Succeeded")
    response = SimpleNamespace(data=json.dumps(cluster.job("job")["status"]))
    read = training.ApiClient().deserialize(response, "KubeflowOrgV1JobStatus")
    assert [condition.type for condition in read.conditions] == ["Created", "Running", "Succeeded"]
    assert read.replica_statuses["Master"].succeeded == 1
    assert read.completion_time >= read.start_time
