"""Whatever a valid job holds, its manifests are valid, and every value comes back as it was given."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlaunch.launchers.audit import drift
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.render import render
from alignlaunch.train import config
from tests.support.hostile import HOSTILE, texts
from tests.support.manifests import K8S, container, rendered
from tests.support.opinions import complaints, read_by_kubectl


def given_to_the_process(env: list[dict[str, Any]]) -> dict[str, str]:
    """Variables after the expansion that the kubelet does (k8s.io/kubernetes/third_party/forked/golang/expansion)."""
    known: dict[str, str] = {}
    for variable in env:
        if "value" in variable:
            pattern = r"\$\$|\$\(([^)]*)\)"
            known[variable["name"]] = re.sub(
                pattern, lambda m: "$" if m[0] == "$$" else known.get(m[1], m[0]), variable["value"]
            )
    return known


def check_unchanged(folder: Path, values: list[str], **keys: Any) -> None:
    """Values of every kind of place come back from kubectl's YAML, and variables from the kubelet's expansion."""
    env = {f"V{i}": value for i, value in enumerate(values)}
    annotations = {f"v{i}": value for i, value in enumerate(values)}
    data = {"train": values}
    found = rendered(
        folder, env=env, data=data, model=values[0], k8s={"annotations": annotations, "working_dir": "/w", **keys}
    )
    assert [complaints(one) for one in found] == [[], []]
    assert read_by_kubectl(folder / "k8s") == found
    configmap, main = found
    assert main["metadata"]["annotations"].items() >= annotations.items()
    trainer = main["spec"].get("trainer") or container(main)
    assert given_to_the_process(trainer["env"]).items() >= env.items()
    (folder / "job.resolved.yaml").write_text(configmap["data"]["job.resolved.yaml"], encoding="utf-8", newline="")
    loaded = config.load(folder / "job.resolved.yaml")
    assert (loaded.model, loaded.data.train) == (values[0], values)


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainJob"])
def test_all_hostile_values(tmp_path: Path, kind: str) -> None:
    check_unchanged(tmp_path, [*HOSTILE, "$$", "$$(V0)", "$(V0)$", "on", "0o14", "1_000"], kind=kind)


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainJob"])
def test_all_hostile_values_where_a_patch_rewrites_the_manifest(tmp_path: Path, kind: str) -> None:
    check_unchanged(tmp_path, HOSTILE, kind=kind, pod_patch={"spec": {"terminationGracePeriodSeconds": 5}})


@settings(max_examples=10)
@given(st.lists(texts, min_size=12, max_size=12), st.booleans())
def test_any_values(values: list[str], patched: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        patch = {"metadata": {"annotations": {"patched": values[0]}}} if patched else {}
        check_unchanged(Path(folder), values, patch=patch)


names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
labels = st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?)?", fullmatch=True)
quantities = st.one_of(st.integers(1, 999), st.sampled_from(["500m", "64Gi", "1.5G"]))
ids = st.integers(0, 2**31 - 1)
sources = st.one_of(
    st.fixed_dictionaries({"pvc": names}),
    st.fixed_dictionaries({"host_path": st.just("/mnt/a b")}),
    st.fixed_dictionaries({"nfs": st.fixed_dictionaries({"server": names, "path": st.just("/x")})}),
    st.fixed_dictionaries({"empty_dir": st.just(True)}),
)
common = {
    "namespace": names,
    "image_pull_secrets": st.lists(names, max_size=2, unique=True),
    "working_dir": st.sampled_from(["/", "/a b", "/$(x)/'\"", "/世界"]),
    "gpu_resource": st.sampled_from(["nvidia.com/gpu", "amd.com/gpu"]),
    "cpu": quantities,
    "memory": quantities,
    "resources": st.dictionaries(st.sampled_from(["rdma/hca", "hugepages-2Mi"]), quantities),
    "shm_size": quantities,
    "service_account": names,
    "node_selector": st.dictionaries(st.sampled_from(["a", "x.y/b", "on", "1e3"]), labels),
    "tolerations": st.lists(
        st.fixed_dictionaries({}, optional={"key": names, "value": labels, "effect": st.just("NoExecute")}), max_size=2
    ),
    "affinity": st.sampled_from(["none", "spread", "pack"]),
    "security_context": st.fixed_dictionaries(
        {}, optional={"run_as_non_root": st.booleans(), "run_as_user": ids, "run_as_group": ids, "fs_group": ids}
    ),
    "queue": names,
    "owner": labels,
    "labels": st.dictionaries(st.sampled_from(["a", "x.y/b", "no", "1"]), labels),
    "annotations": st.dictionaries(st.sampled_from(["a", "x.y/b", "on"]), texts),
}
of_pytorchjob = {
    "image_pull_policy": st.sampled_from(["Always", "IfNotPresent", "Never"]),
    "priority_class": names,
    "host_network": st.booleans(),
    "scheduler_name": names,
    "min_available": st.just(1),
    "restart_policy": st.sampled_from(["Never", "OnFailure", "ExitCode"]),
    "backoff_limit": ids,
    "ttl_seconds": ids,
    "clean_pod_policy": st.sampled_from(["None", "Running", "All"]),
}
k8s_sections = st.one_of(
    st.fixed_dictionaries({}, optional={**common, **of_pytorchjob}),
    st.fixed_dictionaries({"kind": st.just("TrainJob")}, optional={**common, "runtime": names}),
)


@settings(max_examples=40)
@given(
    k8s_sections,
    st.dictionaries(names.filter(lambda name: name not in ("config", "shm")), sources, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "name": names,
            "nnodes": st.sampled_from([1, 2, 100, "1:3"]),
            "nproc_per_node": st.integers(1, 16),
            "launcher": st.sampled_from(["torchrun", "direct"]),
            "time": st.sampled_from(["30", "12:00:00", "UNLIMITED"]),
            "env": st.dictionaries(st.sampled_from(["A", "B_1"]), texts),
        },
    ),
)
def test_any_valid_job(k8s: dict[str, Any], volumes: dict[str, dict[str, Any]], keys: dict[str, Any]) -> None:
    """Both second opinions accept it, and rendering it twice gives the same."""
    if k8s.get("kind") == "TrainJob" and isinstance(keys.get("nnodes"), str):
        del keys["nnodes"]
    mounted = {name: {"mount_path": f"/mnt/{name}", **source} for name, source in volumes.items()}
    with tempfile.TemporaryDirectory() as folder:
        found = rendered(Path(folder), **keys, k8s={**k8s, "volumes": mounted | K8S["volumes"]})
        assert [complaints(one) for one in found] == [[], []]
        loaded = jobfile.load(Path(folder) / "job.yaml")
        assert drift.diff(Path(folder) / "k8s", render.render(loaded, "k8s", "../job.yaml")) == ""
