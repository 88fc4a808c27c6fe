"""What a cluster would refuse is found in any manifest, however odd: first in good ones that were bent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.job.k8s import patch
from alignlaunch.launchers.render import k8s_lint
from alignlaunch.launchers.render.manifests import _template_holders, load_manifests
from tests.support.manifests import FOLDERS, rendered


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_nothing_is_wrong_with_the_goldens(folder: Path) -> None:
    assert [list(k8s_lint.refusals(one)) for one in load_manifests(folder)] == [[], []]


MASTER = "spec.pytorchReplicaSpecs.Master"


def master(**keys: Any) -> dict[str, Any]:
    return {"spec": {"pytorchReplicaSpecs": {"Master": keys}}}


def pod(**keys: Any) -> dict[str, Any]:
    return master(template={"spec": keys})


def trains(**keys: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "pytorch", **keys}])


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"metadata": {"name": "1mini"}}, "metadata.name", "starts with a letter"),
        ({"metadata": {"name": "mi.ni"}}, "metadata.name", "starts with a letter"),
        ({"metadata": {"name": "a" * 64}}, "metadata.name", "at most 63"),
        ({"metadata": {"name": None}}, "metadata.name", "starts with a letter"),
        ({"spec": {"nprocPerNode": "auto"}}, "spec.nprocPerNode", "a number is expected"),
        ({"spec": {"nprocPerNode": None}}, "spec.nprocPerNode", "a number is expected"),
        ({"spec": {"pytorchReplicaSpecs": None}}, "spec.pytorchReplicaSpecs", "must be given"),
        ({"spec": {"elasticPolicy": {"minReplicas": 1}}}, "spec.pytorchReplicaSpecs.Worker", "with an elasticPolicy"),
        (master(replicas=None), f"{MASTER}.replicas", "must be 1"),
        (master(replicas=2), f"{MASTER}.replicas", "must be 1"),
        (master(restartPolicy="Sometimes"), f"{MASTER}.restartPolicy", "pods would never appear"),
        (trains(image=None), f"{MASTER}.template.spec.containers", "must have an image"),
        (
            trains(env=[{"name": "HF_TOKEN", "value": "x"}]),
            f"{MASTER}.template.spec.containers.env",
            "looks like a secret",
        ),
        (pod(volumes=[]), f"{MASTER}.template.spec.containers.volumeMounts", "there is no volume"),
        (
            trains(volumeMounts=[{"name": "again", "mountPath": "/out"}]),
            f"{MASTER}.template.spec.containers.volumeMounts",
            "/out: given twice",
        ),
    ],
    ids=str,
)
def test_a_pytorchjob(tmp_path: Path, change: dict[str, Any], field: str, rule: str) -> None:
    _, good = rendered(tmp_path)
    found = list(k8s_lint.refusals(patch.merge(good, change)))
    assert field in [place for place, _ in found]
    assert rule in " ".join(said for place, said in found if place == field)


def test_roles_containers_and_workers(tmp_path: Path) -> None:
    _, good = rendered(tmp_path, nnodes=2)
    replicas = good["spec"]["pytorchReplicaSpecs"]
    replicas["Worker"]["replicas"] = 0
    replicas["Chief"] = replicas["Master"]
    replicas["Master"] = {"replicas": 1, "template": {"spec": {"containers": [{"name": "main", "image": "a"}]}}}
    assert sorted(k8s_lint.refusals(good)) == [
        ("spec.pytorchReplicaSpecs.Chief", "only Master and Worker are known"),
        (f"{MASTER}.template.spec.containers", "one must be named pytorch"),
        ("spec.pytorchReplicaSpecs.Worker.replicas", "must be at least 1"),
    ]


def test_a_trainjob(tmp_path: Path) -> None:
    _, good = rendered(tmp_path, k8s={"kind": "TrainJob"})
    assert list(k8s_lint.refusals(good)) == []
    good["spec"]["trainer"]["env"] += [{"name": "PET_NNODES", "value": "2"}, {"name": "MY_TOKEN", "value": "x"}]
    good["spec"]["runtimeRef"] = {}
    (one,) = _template_holders(good)
    one["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    assert [rule.partition(":")[0] for _, rule in k8s_lint.refusals(good)] == [
        "must be given",
        "PET_NNODES is set by the runtime",
        "MY_TOKEN looks like a secret",
        "variables of the container `node` belong into spec.trainer.env",
    ]


def test_a_configmap_has_a_limit() -> None:
    manifests = [{"kind": "ConfigMap", "data": {"a": "世" * size}} for size in (349_525, 349_526)]
    assert [len(list(k8s_lint.refusals(one))) for one in manifests] == [0, 1]


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                "kind metadata name spec pytorchReplicaSpecs Master template containers env volumes".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(["PyTorchJob", "TrainJob", "ConfigMap"]), st.dictionaries(st.just("spec"), anything))
def test_no_manifest_is_too_odd(kind: str, keys: dict[str, Any]) -> None:
    manifest_ = {"kind": kind, **keys}
    list(k8s_lint.refusals(manifest_))
    list(k8s_lint.images(manifest_))
