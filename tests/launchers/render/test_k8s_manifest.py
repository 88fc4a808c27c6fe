"""The manifests: what stands in them, and that the schemas, the operators' models and kubectl read them as we do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.errors import UsageError
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.job.k8s import patch
from alignlaunch.launchers.render.manifests import _template_holders, load_manifests
from alignlaunch.train import config
from tests.conftest import Cli
from tests.support.hostile import as_yaml
from tests.support.manifests import FOLDERS, KEYS, container, rendered
from tests.support.opinions import complaints, read_by_kubectl

RESOLVED = "/etc/alignlaunch/job.resolved.yaml"
PREFLIGHT = ["python3", "-m", "alignlaunch.train.preflight", "--timeout", "900", RESOLVED, "--"]
TORCHRUN = ["python3", "-m", "alignlaunch.train.torchrun", "-m", "alignlaunch.train", RESOLVED]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_goldens_are_what_the_schemas_the_models_and_kubectl_read(folder: Path) -> None:
    manifests = load_manifests(folder)
    assert [complaints(one) for one in manifests] == [[], []]
    assert read_by_kubectl(folder) == manifests


def test_a_second_opinion_can_be_a_bad_one(tmp_path: Path) -> None:
    """A check that cannot fail is none."""
    for kind in ("PyTorchJob", "TrainJob"):
        _, good = rendered(tmp_path, k8s={"kind": kind})
        for change in (
            {"spec": {"nonsense": 1}},
            {"metadata": {"labels": {"a": 1}}},
            {"spec": {"trainer": {"nonsense": 1}, "pytorchReplicaSpecs": {"Master": {"nonsense": 1}}}},
        ):
            assert complaints(patch.merge(good, change)), change
        (replica, *_) = _template_holders(good)
        replica["template"]["spec"]["volumes"][0]["nonsense"] = 1
        assert complaints(good)


@pytest.mark.parametrize("nnodes", [1, 2, 5])
def test_one_master_and_the_rest_workers(tmp_path: Path, nnodes: int) -> None:
    _, found = rendered(tmp_path, nnodes=nnodes, nproc_per_node=8)
    spec = found["spec"]
    replicas = {role: replica["replicas"] for role, replica in spec["pytorchReplicaSpecs"].items()}
    assert replicas == ({"Master": 1, "Worker": nnodes - 1} if nnodes > 1 else {"Master": 1})
    assert spec["nprocPerNode"] == "8"
    for role in replicas:
        one = container(found, role)
        assert one["command"] == [*PREFLIGHT, *TORCHRUN]
        assert one["resources"]["limits"] == {"cpu": "32", "memory": "256Gi", "nvidia.com/gpu": "8"}
        assert one["resources"]["requests"] == one["resources"]["limits"]
        assert not [v for v in one["env"] if v["name"] in ("RANK", "WORLD_SIZE", "PET_NNODES", "PET_NPROC_PER_NODE")]
        assert spec["pytorchReplicaSpecs"][role]["restartPolicy"] == "ExitCode"


def test_preflight_waits_as_the_job_says_and_not_for_elastic_nodes(tmp_path: Path) -> None:
    def command(role: str = "Master", **keys: Any) -> list[str]:
        words: list[str] = container(rendered(tmp_path, **keys)[1], role)["command"]
        return words

    assert command(nnodes=2, preflight_timeout=120)[3:5] == ["--timeout", "120"]
    assert command(nnodes=2, preflight_timeout=0) == TORCHRUN
    assert command("Worker", nnodes="2:4", zero=0) == TORCHRUN


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "direct"])
def test_every_launcher_is_torchrun_in_a_pod(tmp_path: Path, launcher: str) -> None:
    _, found = rendered(tmp_path, launcher=launcher, zero=2)
    assert container(found)["command"] == [*PREFLIGHT, *TORCHRUN]


def test_the_configmap_holds_what_the_processes_read(tmp_path: Path) -> None:
    configmap, found = rendered(tmp_path, zero=3)
    assert sorted(configmap["data"]) == ["job.resolved.yaml", "zero3.json"]
    for name, text in configmap["data"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    loaded = config.load(tmp_path / "job.resolved.yaml")
    assert (loaded.name, loaded.deepspeed) == ("tiny", "zero3.json")
    assert json.loads(configmap["data"]["zero3.json"])["zero_optimization"]["stage"] == 3
    volumes = found["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["volumes"]
    assert volumes[0] == {"name": "config", "configMap": {"name": configmap["metadata"]["name"]}}
    assert container(found)["volumeMounts"][0] == {"name": "config", "mountPath": "/etc/alignlaunch", "readOnly": True}


def test_the_configmap_is_named_after_its_content(tmp_path: Path) -> None:
    names = [rendered(tmp_path, **keys)[0]["metadata"]["name"] for keys in ({}, {"zero": 2}, {})]
    assert names[0] == names[2] != names[1]


def test_a_custom_deepspeed_json_arrives_as_it_is(tmp_path: Path) -> None:
    for text in (
        '{"zero_optimization": {"stage": 2}}',
        '\n  {"zero_optimization":\r\n\t{"stage": 2}}\n\n',
        '{"zero_optimization": {"stage": 2}, "x": "\u2028\x85\ufeff 世界"}\n',
        '{"zero_optimization": {"stage": 2}}\n\n \n',
    ):
        (tmp_path / "ds.json").write_bytes(text.encode())
        try:
            configmap, _ = rendered(tmp_path, zero="ds.json")
        except UsageError as error:  # the unknown key x
            assert "x" in str(error)
            continue
        assert configmap["data"]["zero2_custom.json"].encode() == text.encode()
        assert read_by_kubectl(tmp_path / "k8s")[0] == configmap


def test_elastic(tmp_path: Path) -> None:
    _, found = rendered(tmp_path, nnodes="2:4", k8s={"backoff_limit": 3})
    assert set(found["spec"]["pytorchReplicaSpecs"]) == {"Worker"}
    assert found["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"] == 4
    policy = found["spec"]["elasticPolicy"]
    assert (policy["minReplicas"], policy["maxReplicas"], policy["rdzvBackend"]) == (2, 4, "c10d")
    assert found["spec"]["runPolicy"] == {"cleanPodPolicy": "Running", "backoffLimit": 3}
    assert policy["maxRestarts"] == 10
    assert "PET_MAX_RESTARTS" not in {one["name"] for one in container(found, "Worker")["env"]}, "the operator sets it"


@pytest.mark.parametrize(
    ("keys", "policy"),
    [
        ({}, {"cleanPodPolicy": "None"}),
        ({"time": "1-00:00:00"}, {"cleanPodPolicy": "None"}),
        ({"time": "1-00:00:00", "nnodes": 2}, {"cleanPodPolicy": "None", "activeDeadlineSeconds": 86400}),
        ({"time": "UNLIMITED"}, {"cleanPodPolicy": "None"}),
        ({"k8s": {"backoff_limit": 0, "ttl_seconds": 0}}, {"backoffLimit": 0, "ttlSecondsAfterFinished": 0}),
        ({"k8s": {"restart_policy": "OnFailure"}}, {"cleanPodPolicy": "Running", "backoffLimit": 10}),
        ({"k8s": {"clean_pod_policy": "All"}}, {"cleanPodPolicy": "All"}),
        ({"nnodes": 3, "k8s": {"scheduler_name": "volcano"}}, {"schedulingPolicy": {"minAvailable": 3}}),
        ({"nnodes": 3, "k8s": {"min_available": 2}}, {"schedulingPolicy": {"minAvailable": 2}}),
        ({"nnodes": "2:3", "k8s": {"scheduler_name": "v"}}, {"schedulingPolicy": {"minAvailable": 2}}),
    ],
    ids=str,
)
def test_the_run_policy(tmp_path: Path, keys: dict[str, Any], policy: dict[str, Any]) -> None:
    _, found = rendered(tmp_path, **keys)
    assert policy.items() <= found["spec"]["runPolicy"].items()


def test_the_kubelet_holds_each_pod_to_the_time_limit(tmp_path: Path) -> None:
    """The operator does not; it would make such a pod anew where it restarts any, and so knows the limit besides."""
    never = {"k8s": {"restart_policy": "Never"}}
    for changes, policy in ((never, None), ({}, 60), ({"nnodes": 2}, 60), ({"nnodes": "2:3"}, 60)):
        _, found = rendered(tmp_path, time="00:01:00", **changes)
        for role in found["spec"]["pytorchReplicaSpecs"].values():
            assert role["template"]["spec"]["activeDeadlineSeconds"] == 60
        assert found["spec"]["runPolicy"].get("activeDeadlineSeconds") == policy
    _, found = rendered(tmp_path, time="00:01:00", k8s={"kind": "TrainJob"})
    assert found["spec"]["activeDeadlineSeconds"] == 60
    assert "activeDeadlineSeconds" not in str(found["spec"]["runtimePatches"])


@pytest.mark.parametrize(
    ("cpu", "processes", "threads"),
    [(None, 2, "4"), ("900m", 1, "1"), (7, 2, "3"), ("2500m", 1, "2"), (1, 8, "1"), ("0.1k", 2, "50")],
)
def test_a_process_takes_as_many_threads_as_its_share_of_the_pod(
    tmp_path: Path, cpu: str | int | None, processes: int, threads: str
) -> None:
    k8s = {"cpu": cpu} if cpu else {}
    _, found = rendered(tmp_path, nproc_per_node=processes, k8s=k8s)
    assert {"name": "OMP_NUM_THREADS", "value": threads} in container(found)["env"]
    _, found = rendered(tmp_path, nproc_per_node=processes, k8s=k8s, env={"OMP_NUM_THREADS": "9"})
    assert [v["value"] for v in container(found)["env"] if v["name"] == "OMP_NUM_THREADS"] == ["9"]


def test_no_secret_is_in_a_manifest_but_its_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_value_of_a_secret")
    k8s = {"secrets": {"HF_TOKEN": {"name": "hub"}, "OTHER": {"name": "x", "key": "y"}}}
    _, found = rendered(tmp_path, secrets=["HF_TOKEN", "OTHER"], k8s=k8s)
    references = {v["name"]: v["valueFrom"] for v in container(found)["env"] if "valueFrom" in v}
    assert references == {
        "HF_TOKEN": {"secretKeyRef": {"name": "hub", "key": "HF_TOKEN"}},
        "OTHER": {"secretKeyRef": {"name": "x", "key": "y"}},
    }
    assert not [path for path in (tmp_path / "k8s").iterdir() if "hf_value" in path.read_text()]


def test_the_labels_that_runs_are_found_by_cannot_be_changed(tmp_path: Path) -> None:
    own = {"alignlaunch/job": "other", "kueue.x-k8s.io/queue-name": "other", "team": "a"}
    annotations = {"alignlaunch/job-sha256": "0"}
    found = rendered(tmp_path, k8s={"labels": own, "queue": "q", "annotations": annotations, "owner": "me"})
    digest = jobfile.load(tmp_path / "job.yaml").digest
    assert all(one["metadata"]["annotations"] == {"alignlaunch/job-sha256": digest} for one in found)
    labels = found[1]["metadata"]["labels"]
    assert labels.items() >= {"alignlaunch/job": "tiny", "alignlaunch/owner": "me", "team": "a"}.items()
    assert labels["kueue.x-k8s.io/queue-name"] == "q"


def test_no_pod_may_become_root(tmp_path: Path) -> None:
    _, found = rendered(tmp_path)
    pod = found["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert container(found)["securityContext"] == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_user_s_number_holds_for_the_whole_pod(tmp_path: Path) -> None:
    """Where it is known, the operator's init container, whose image would run as root, is that user, too."""
    _, found = rendered(tmp_path, k8s={"security_context": {"run_as_user": 1000}})
    pod = found["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]
    assert pod["securityContext"].items() >= {"runAsNonRoot": True, "runAsUser": 1000}.items()


def test_the_folder_holds_nothing_that_kubectl_would_not_take(tmp_path: Path) -> None:
    """`kubectl apply -f FOLDER` takes every .yaml, .yml and .json in it for a manifest."""
    rendered(tmp_path, zero=3)
    names = sorted(path.name for path in (tmp_path / "k8s").iterdir())
    assert names == ["alignlaunch.lock", "job.configmap.yaml", "job.pytorchjob.yaml"]


def test_check_knows_the_folder_without_its_lock(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(as_yaml(KEYS))
    assert cli("render", "job.yaml").stdout.split() == [f"launch/tiny/{target}" for target in ("bash", "k8s", "slurm")]
    folder = tmp_path / "launch/tiny/k8s"
    assert cli("check").returncode == 0
    (folder / "job.pytorchjob.yaml").write_text("kind: PyTorchJob\n")
    assert cli("check").returncode == 1
    (folder / "alignlaunch.lock").unlink()
    assert cli("check").returncode == 2
    (tmp_path / "job.yaml").write_text(as_yaml(KEYS | {"k8s": {**KEYS["k8s"], "kind": "TrainJob"}}))
    assert cli("render", "job.yaml").returncode == 0
    assert cli("check").returncode == 0
    (tmp_path / "job.yaml").write_text(as_yaml(KEYS))
    assert not cli("render", "job.yaml", "--target", "k8s").returncode
    assert sorted(path.name for path in folder.glob("*.yaml")) == ["job.configmap.yaml", "job.pytorchjob.yaml"]


def test_a_folder_that_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="not a manifest"):
        load_manifests(tmp_path)
