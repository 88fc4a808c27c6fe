"""What a job must say to run on Kubernetes, and what the profile says for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from alignlaunch.launchers.errors import JobFileError
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.job.job import Job
from alignlaunch.launchers.job.k8s import patch
from alignlaunch.launchers.job.k8s.spec import K8s as K8sSpec
from alignlaunch.launchers.render import render
from tests.conftest import Cli
from tests.support.hostile import as_yaml
from tests.support.manifests import K8S, KEYS

DIGEST = f"a@sha256:{'0123456789abcdef' * 4}"


def load(folder: Path, *overrides: str, cluster: dict[str, Any] | None = None, **keys: Any) -> Job:
    (folder / "job.yaml").write_text(as_yaml({**KEYS, **keys}), encoding="utf-8")
    if cluster is not None:
        (folder / "clusters").mkdir(exist_ok=True)
        (folder / "clusters" / "here.yaml").write_text(as_yaml({"k8s": cluster}), encoding="utf-8")
    return jobfile.load(folder / "job.yaml", overrides, "here" if cluster is not None else None)


def problems(loaded: Job, target: render.Target = "k8s") -> list[tuple[str, str]]:
    """(key, rule) of each; every one has a place and a remedy."""
    with pytest.raises(JobFileError) as caught:
        render.render(loaded, target, "job.yaml")
    assert all(one.remedy and one.place for one in caught.value.problems)
    return [(one.key, one.rule) for one in caught.value.problems]


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (["k8s.image=null"], "k8s.image", "pods need an image"),
        (["model=./model"], "k8s.working_dir", "relative paths (./model)"),
        (["output_dir=output"], "k8s.working_dir", "relative paths (output)"),
        (["output_dir=/elsewhere"], "output_dir", "/elsewhere is on no writable volume"),
        (["output_dir=/outer"], "output_dir", "is on no writable volume"),
        (["output_dir=../x", "k8s.working_dir=/out/jobs/.."], "output_dir", "/x is on no writable volume"),
        (["k8s.volumes.out.read_only=true"], "output_dir", "is on no writable volume"),
        (["k8s.volumes.out.empty_dir=true"], "k8s.volumes.out", "a volume has one source"),
        (["k8s.volumes.out.pvc=null"], "k8s.volumes.out", "a volume has one source"),
        (["k8s.volumes.b={pvc: b, mount_path: /out/}"], "k8s.volumes.out.mount_path", "taken by volume b"),
        (["k8s.volumes.b={pvc: b, mount_path: /dev/shm}"], "k8s.volumes.b.mount_path", "taken by shared memory"),
        (["k8s.volumes.shm={pvc: b, mount_path: /b}"], "k8s.volumes.shm", "uses this name for a volume of its own"),
        (["k8s.resources={nvidia.com/gpu: 3}"], "k8s.resources.nvidia.com/gpu", "by another key"),
        (["k8s.resources={cpu: 3}"], "k8s.resources.cpu", "by another key"),
        (["secrets=[HF_TOKEN]"], "secrets[0]", "no Secret is named for HF_TOKEN"),
        (["k8s.secrets={HF_TOKEN: {name: a}}"], "k8s.secrets.HF_TOKEN", "not one of the job's `secrets`"),
        (["k8s.min_available=2"], "k8s.min_available", "more pods than the job has (1)"),
        (['nnodes="1:2"', "zero=2"], "zero", "cannot be loaded by another number of processes"),
        (['nnodes="2:5"'], "nnodes", "5 nodes cannot share evenly what another number began with"),
        (["k8s.runtime=x"], "k8s.runtime", "only a TrainJob has a runtime"),
        (["k8s.kind=TrainJob", "k8s.host_network=true"], "k8s.host_network", "a TrainJob's runtime decides this"),
        (["k8s.kind=TrainJob", "k8s.backoff_limit=0"], "k8s.backoff_limit", "a TrainJob's runtime decides this"),
        (["k8s.kind=TrainJob", 'nnodes="1:2"'], "nnodes", "a TrainJob cannot be elastic"),
        (["k8s.kind=TrainJob", f"name={'a' * 49}"], "name", "would have 64 letters"),
        (["k8s.patch.metadata.name=1a"], "k8s", "metadata.name"),
    ],
    ids=str,
)
def test_one_broken_rule(tmp_path: Path, overrides: list[str], key: str, said: str) -> None:
    ((found, rule),) = problems(load(tmp_path, *overrides))
    assert found == key
    assert said in rule
    load(tmp_path)  # and nothing is wrong without


def test_what_only_kubernetes_refuses_runs_elsewhere(tmp_path: Path) -> None:
    loaded = load(tmp_path, "k8s=null")
    assert render.targets(loaded) == ["bash", "slurm"]
    assert [key for key, _ in problems(loaded)] == ["k8s.image", "output_dir"]
    for target in render.targets(loaded):
        assert render.render(loaded, target, "job.yaml")


def test_an_elastic_job_is_for_kubernetes_alone(tmp_path: Path, cli: Cli) -> None:
    loaded = load(tmp_path, 'nnodes="2:4"', "train.gradient_accumulation_steps=12")
    assert render.targets(loaded) == ["k8s"]
    for target in ("bash", "slurm"):
        assert problems(loaded, target) == [("nnodes", "an elastic number of nodes is for Kubernetes only")]
    for command in ("local", "slurm"):
        done = cli(command, "job.yaml", "--set", "nnodes=2:4", "--no-data-check")
        assert done.returncode == 2
        assert "--set nnodes=2:4: nnodes = '2:4': an elastic number of nodes is for Kubernetes only" in done.stderr
        assert "remedy: --set nnodes=4" in done.stderr


def test_the_profile_offers_secrets_that_a_job_need_not_want(tmp_path: Path) -> None:
    offered = {"secrets": {name: {"name": "a"} for name in ("HF_TOKEN", "WANDB_API_KEY")}}
    loaded = load(tmp_path, cluster=offered, secrets=["HF_TOKEN"])
    text = render.render(loaded, "k8s", "job.yaml")["job.pytorchjob.yaml"]
    assert ("HF_TOKEN" in text, "WANDB_API_KEY" in text) == (True, False)


def test_the_job_lies_over_the_profile(tmp_path: Path) -> None:
    profile = {
        "image": "profile:1",
        "cpu": 8,
        "volumes": {"data": {"pvc": "data", "mount_path": "/data"}, "out": {"pvc": "theirs", "mount_path": "/out"}},
        "tolerations": [{"key": "a"}],
        "labels": {"a": "profile", "b": "profile"},
        "patch": {"spec": {"runPolicy": {"suspend": True}}},
    }
    own: dict[str, Any] = {
        "labels": {"b": "job"},
        "tolerations": [],
        "cpu": None,
        "patch": {"metadata": {"annotations": {"c": "d"}}},
    }
    k8s = load(tmp_path, cluster=profile, k8s={**K8S, **own}).spec.k8s
    assert k8s is not None
    assert (k8s.image, k8s.cpu, k8s.tolerations) == ("a:1", None, [])
    assert {name: volume.pvc for name, volume in k8s.volumes.items()} == {"data": "data", "out": "out"}
    assert k8s.labels == {"a": "profile", "b": "job"}
    assert k8s.patch == {"spec": {"runPolicy": {"suspend": True}}, "metadata": {"annotations": {"c": "d"}}}


def test_a_job_without_the_section_takes_the_profiles(tmp_path: Path) -> None:
    loaded = load(tmp_path, "k8s=null", cluster=K8S)
    assert loaded.spec.k8s is None  # taken away, as any null does
    (tmp_path / "job.yaml").write_text(as_yaml({key: value for key, value in KEYS.items() if key != "k8s"}))
    assert "k8s" in render.targets(jobfile.load(tmp_path / "job.yaml", (), "here"))


@pytest.mark.parametrize(
    ("override", "key", "said"),
    [
        ("k8s.imaeg=a", "k8s.imaeg", "did you mean `image`?"),
        ("k8s.volumes.out.pvcc=a", "k8s.volumes.out.pvcc", "did you mean `pvc`?"),
        ("k8s.volumes={a: {pvc: x}}", "k8s.volumes.a.mount_path", "this key is required"),
        ("k8s.volumes={a b: {pvc: x, mount_path: /a}}", "k8s.volumes", "lower-case letters, digits and `-`"),
        ("k8s.volumes.out.sub_path=a/../b", "k8s.volumes.out.sub_path", "a relative path without `..`"),
        ("k8s.volumes.out.nfs={server: a, path: /x, servr: a}", "k8s.volumes.out.nfs.servr", "did you mean `server`?"),
        ("k8s.tolerations=[{keyy: a}]", "k8s.tolerations[0].keyy", "did you mean `key`?"),
        ("k8s.kind=MPIJob", "k8s.kind", "must be one of PyTorchJob, TrainJob"),
        ("k8s.restart_policy=Sometimes", "k8s.restart_policy", "must be one of Never, OnFailure, ExitCode"),
        ("k8s.memory=64 GB", "k8s.memory", "a quantity of Kubernetes"),
        ("k8s.image=a b", "k8s.image", "an image as a registry names it"),
        ("k8s.node_selector={a: true}", "k8s.node_selector", "expected `str`"),
        ("k8s.working_dir=jobs", "k8s.working_dir", "an absolute path"),
        ("k8s.owner=me@example.org", "k8s.owner", "at most 63 letters"),
        ("k8s.security_context.run_as_user=-1", "k8s.security_context.run_as_user", ">= 0"),
    ],
)
def test_the_schema(tmp_path: Path, override: str, key: str, said: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, override)
    (only,) = caught.value.problems
    assert only.key == key
    assert said in f"{only.rule} {only.remedy}"


def test_a_secrets_value_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(JobFileError) as caught:
        load(tmp_path, "k8s.secrets={HF_TOKEN: hf_abcdefghijk}")
    assert "hf_" not in str(caught.value).replace("--set k8s.secrets={HF_TOKEN: hf_abcdefghijk}", "")


def test_require_digest(tmp_path: Path, cli: Cli) -> None:
    load(tmp_path)
    command = ["render", "job.yaml", "--target", "k8s", "--require-digest"]
    refused = cli(*command)
    assert (refused.returncode, "k8s.image = 'a:1': not a digest" in refused.stderr) == (2, True)
    assert not (tmp_path / "launch").exists()
    for kind in ("PyTorchJob", "TrainJob"):
        digest = ["--set", f"k8s.image={DIGEST}", "--set", f"k8s.kind={kind}", "--as", kind.lower()]
        assert cli(*command, *digest).returncode == 0
    sidecar = "k8s.pod_patch.spec.containers=[{name: side, image: 'b:1'}]"
    refused = cli(*command, "--set", f"k8s.image={DIGEST}", "--set", sidecar, "--as", "other")
    assert (refused.returncode, "k8s.image = 'b:1': not a digest" in refused.stderr) == (2, True)


@pytest.mark.parametrize("key", [field.name for field in msgspec.structs.fields(K8sSpec)])
def test_every_key_is_in_the_documentation(key: str) -> None:
    text = (Path(__file__).parents[4] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("|") and f"`{key}`" in line.split("|")[1]]


# --- how one map lies over another ---


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": 1}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": [{"name": "x", "v": 1}, {"name": "y"}]}, {"a": []}, {"a": []}),
        (
            {"a": [{"name": "x", "v": 1}, {"name": "y"}]},
            {"a": [{"name": "z"}, {"name": "x", "w": 2}]},
            {"a": [{"name": "x", "v": 1, "w": 2}, {"name": "y"}, {"name": "z"}]},
        ),
        ({"a": [{"name": "x"}]}, {"a": [{"key": "x"}]}, {"a": [{"key": "x"}]}),
    ],
)
def test_patches(below: Any, above: Any, expected: Any) -> None:
    before = repr((below, above))
    found = patch.merge(below, above)
    assert found == expected
    assert list(found) == list(expected)
    assert repr((below, above)) == before
